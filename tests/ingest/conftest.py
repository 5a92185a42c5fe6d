"""infiltrate as a process, started and stopped by tests; ready means that it has said so."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from sonar.names import ClusterName
from sonar.store.ledger import Arrival, read_arrivals

from tests.secret_watch import MARK

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "infiltrate"
CLUSTER, PASSWORD = "mlx.example.org", f"pool{MARK}"
FOX, FOX_PASSWORD = "fox.example.org", f"fence{MARK}"


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Infiltrate:
    """A running infiltrate."""

    def __init__(
        self,
        scratch: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        open_files: int | None = None,
    ) -> None:
        self.data = scratch / "data"
        self.data.mkdir(exist_ok=True)
        self.log = scratch / "log"
        self._port_file = scratch / "ports"
        self._port_file.unlink(missing_ok=True)
        address = scratch / "notify"
        address.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(address))
        self._notify.settimeout(1)
        command = [sys.executable, str(PROGRAM), "--data", str(self.data), "--port-file", str(self._port_file)]
        limited = ["prlimit", f"--nofile={open_files}:{open_files}"] if open_files else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*limited, *command, *arguments],
                stderr=log,
                env=os.environ | {"NOTIFY_SOCKET": str(address)} | dict(environment or {}),
            )
        try:
            self.wait_for("READY=1")
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._notify.close()
            raise
        lines = [line.split() for line in self._port_file.read_text().splitlines()]
        self.ports = {name: int(port) for name, _, port in lines}
        self.port = next(iter(self.ports.values()))

    def wait_for(self, word: str) -> str:
        """Return the next notification with `word` in it."""
        deadline = time.monotonic() + 60
        while True:
            try:
                text = self._notify.recv(4096).decode()
            except TimeoutError:
                assert self.process.poll() is None, f"infiltrate ended: {self.log.read_text()}"
                assert time.monotonic() < deadline, f"infiltrate did not say {word}"
                continue
            if word in text:
                return text

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str | None = CLUSTER,
        password: str = PASSWORD,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Make one request on a connection of its own."""
        fields = dict(headers or {})
        if user is not None:
            fields["Authorization"] = basic(user, password)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
        finally:
            connection.close()

    def post(self, path: str, body: bytes, **options: Any) -> Answer:
        """Post a body."""
        return self.request("POST", path, body, **options)

    def post_csv(self, body: bytes, cluster: str = CLUSTER, **options: Any) -> Answer:
        """Post samples as deployed scripts do."""
        options.setdefault("headers", {"Content-Type": "text/csv"})
        return self.post(f"/sonar-freecsv?cluster={cluster}", body, **options)

    def stop(self) -> int:
        """Drain, and return the exit status; afterwards all is in the files."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self._notify.close()
        return status

    def kill(self) -> None:
        """End it as a power switch would."""
        self.process.kill()
        self.process.wait()
        self._notify.close()

    def settle(self) -> None:
        """Wait until all that was answered with 200 is in the files."""
        deadline = time.monotonic() + 60
        while json.loads(self.request("GET", "/ready").body)["backlog_bytes"]:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stored(self) -> dict[str, bytes]:
        """Return the files of the log, by path below the data root."""
        return {path: data for path, data in self.files().items() if not path.endswith(".jsonl")}

    def refusals_logged(self, status: int) -> int:
        """Return how many refusals with a status the log tells of."""
        return self.log.read_text().count(f"refused with {status}")

    def ledger(self) -> list[Arrival]:
        """Return what the arrival ledger says of the last minutes."""
        now = int(time.time())
        return list(read_arrivals(self.data, ClusterName(CLUSTER), now - 600, now + 600))

    def files(self) -> dict[str, bytes]:
        """Return the files of the log and the ledger, by path below the data root."""
        files = [path for path in self.data.rglob("*") if path.is_file() and ".spool" not in path.parts]
        return {str(path.relative_to(self.data)): path.read_bytes() for path in files}


class Starter(Protocol):
    def __call__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, scratch: Path | None = None
    ) -> Infiltrate: ...


def basic(user: str, password: str) -> str:
    """Return an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text(f"# uploads\n{CLUSTER}:{PASSWORD}\n\n{FOX}:{FOX_PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def start(tmp_path: Path, password_file: Path) -> Iterator[Starter]:
    """Start infiltrate with the password file, plain HTTP on a free port, and other options."""
    with ExitStack() as stack:

        def starter(
            *arguments: str, environment: Mapping[str, str] | None = None, scratch: Path | None = None
        ) -> Infiltrate:
            defaults = [] if "--allow-anonymous" in arguments else ["--password-file", str(password_file)]
            defaults += [] if {"--listen-tls", "--listen"} & set(arguments) else ["--listen", "127.0.0.1:0"]
            server = Infiltrate(scratch or tmp_path, *defaults, *arguments, environment=environment)
            stack.callback(server.stop)
            return server

        yield starter


@pytest.fixture
def infiltrate(start: Starter) -> Infiltrate:
    return start()

"""A running sonalyzed with a generated cluster, for all tests of the query server."""

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trustme
import urllib3
from playwright.sync_api import Browser, sync_playwright

from sonar.demo.history import write_config, write_history
from sonar.serve.passwords import Hash
from sonar.times import iso_text

from tests.secret_watch import MARK
from tests.verbs.asking import envelope, put

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"
CLUSTER = "demo.example.org"
FOX = "fox.example.org"
CHROMIUM = "/usr/bin/chromium"
NOW = 1_773_152_851  # 2026-03-10T14:27:31Z: no day, hour or minute ends while a test runs
# Names, passwords and what the password file says of them; `grete` has jobs in the generated history.
PEOPLE = {
    "ada": (f"s3cret{MARK}", "role=support"),
    "root": (f"t0p-{MARK}", "role=admin"),
    "grete": (f"gr3te+{MARK}", ""),
    "fox": (f"f0x {MARK}", "role=support clusters=empty.example.org"),
}


@dataclass(frozen=True)
class Server:
    """A running sonalyzed."""

    url: str
    http: urllib3.PoolManager
    data: Path
    config: Path
    pid: int

    def get(
        self,
        path: str,
        *,
        method: str = "GET",
        login: str | None = "ada",
        headers: dict[str, str] | None = None,
        body: str | None = None,
        decode: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Make a request as somebody: see `credentials`."""
        fields = {**({"authorization": basic(login)} if login else {}), **(headers or {})}
        return self.http.request(
            method, self.url + path, headers=fields, body=body, redirect=False, retries=False, decode_content=decode
        )

    def ask(self, verb: str, *, login: str | None = "ada", **parameters: str) -> urllib3.BaseHTTPResponse:
        return self.get(f"/{verb}?{urlencode(parameters)}", login=login)


def credentials(login: str) -> str:
    """Return `NAME:PASSWORD` of one of PEOPLE; what has a colon is that already."""
    return login if ":" in login else f"{login}:{PEOPLE[login][0]}"


def basic(login: str) -> str:
    """Return an Authorization header."""
    return "Basic " + base64.b64encode(credentials(login).encode("latin-1")).decode()


def auth_file(path: Path, login: str = "ada") -> Path:
    """Write the credentials of somebody to a file that `--auth-file` may name."""
    path.touch(0o600)
    path.write_text(credentials(login) + "\n")
    return path


def passwords_file(path: Path) -> Path:
    lines = [f"{name}:{Hash.of(password)}{':' * bool(facts)}{facts}\n" for name, (password, facts) in PEOPLE.items()]
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


@contextmanager
def running(root: Path, options: Sequence[str | Path], *, tls: bool = True) -> Iterator[Server]:
    """Run sonalyzed on the tree below `root`; on leaving it must stop by itself and have told no secret."""
    ports = root / f"ports-{time.monotonic_ns()}"
    if tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(root / "tls.crt")
        certificate.private_key_pem.write_to_path(root / "tls.key")
        authority.cert_pem.write_to_path(root / "ca.crt")
        listen: list[str | Path] = [
            "--listen-tls",
            "127.0.0.1:0",
            "--tls-cert",
            root / "tls.crt",
            "--tls-key",
            root / "tls.key",
        ]
    else:
        listen = ["--listen", "127.0.0.1:0"]
    log = root / "sonalyzed.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, LIBEXEC / "sonalyzed", "--data", root / "data", *options, *listen, "--port-file", ports],
            stderr=stderr,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not ports.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        scheme = "https" if tls else "http"
        with urllib3.PoolManager(maxsize=32, ca_certs=str(root / "ca.crt") if tls else None) as http:
            yield Server(f"{scheme}://127.0.0.1:{ports.read_text().split()[2]}", http, root / "data", root, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=45)
    told = log.read_text()
    assert process.returncode == 0, told
    assert "Traceback" not in told, told
    for name, (password, _) in PEOPLE.items():
        assert password not in told
        assert basic(name).removeprefix("Basic ") not in told


@pytest.fixture(scope="package", autouse=True)
def _clock() -> Iterator[None]:
    """For all that these tests start, and for themselves, it is NOW."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SONAR_NOW", iso_text(NOW))
        yield


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a site: two clusters, aliases, a description, passwords."""
    root = tmp_path_factory.mktemp("site")
    write_history(root / "data" / CLUSTER, now=NOW)
    (root / "data" / "empty.example.org").mkdir()
    write_config(root / f"{CLUSTER}-config.json")
    (root / "cluster-aliases.json").write_text(json.dumps([{"alias": "demo", "value": CLUSTER}]))
    passwords_file(root / "passwords")
    write_reports(root / "reports" / CLUSTER)
    return root


def write_reports(directory: Path) -> None:
    """Write reports as sonarctl-report(8) publishes them, about the jobs of two users."""
    rows = [
        {
            "hostname": "gpu-1.demo.example.org", "id": number, "user": user, "cmd": command, "policy": "cpuhog",
            "started-on-or-before": "2026-11-20 10:00", "first-violation": "2026-11-20 12:00",
            "last-seen": "2026-11-21 08:00",
        }
        for number, user, command in ((4711, "femi", "R"), (4712, "grete", "snakemake"))
    ]  # fmt: skip
    policy = {"name": "cpuhog", "title": "CPU hog", "trigger": "much CPU", "problem": "no GPU", "remedy": "move"}
    letters = [
        {
            "user": row["user"],
            "policy": "cpuhog",
            "jobs": [row["id"]],
            "text": f"Dear {row['user']}: {row['cmd']}",
            "sent": None,
        }
        for row in rows
    ]
    files = {
        "admin/violations.json": {"policies": [policy], "rows": rows},
        "admin/letters.json": letters,
        "login/top-users.json": {"rows": [{"user": "user-1", "cputime": 9}]},
        "public/hostnames.json": ["gpu-1.demo.example.org"],
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.fixture(scope="package")
def server(site: Path) -> Iterator[Server]:
    options: list[str | Path] = ["--cluster-config", site]
    options += ["--password-file", site / "passwords", "--reports", site / "reports"]
    with running(site, [*options, "--verbose"]) as server:  # whatever it logs, no secret
        yield server


@pytest.fixture(scope="package")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a cluster that has told all there is to tell."""
    root = tmp_path_factory.mktemp("fox")
    data, day = root / "data" / FOX, "2024-03-01T10"
    (root / "data" / "empty.example.org").mkdir(parents=True)
    cards = [{"index": at, "uuid": f"U{at}", "model": "A100", "memory": 1 << 25} for at in range(2)]
    node = {"sockets": 1, "cores_per_socket": 2, "threads_per_core": 1, "cpu_model": "EPYC", "memory": 1 << 25}
    put(data, "0+sysinfo-n1.json", envelope("sysinfo", time=f"{day}:00:00Z", node="n1", cards=cards, **node))
    for minute, seconds in ((0, 0), (5, 200)):
        system = {"cpus": [0, seconds], "gpus": cards, "load1": 1.5, "disks": [{"name": "sda", "stats": [1, 2, 3, 4]}]}
        process = {"cmd": "x", "pid": 5, "cpu_avg": 100, "cpu_time": minute * 60}
        jobs = [{"job": 7, "user": "grete", "processes": [process]}]
        sample = envelope("sample", time=f"{day}:{minute:02}:00Z", node="n1", system=system, jobs=jobs)
        put(data, "0+sample-n1.json", sample)
    told = [
        {"job_id": number, "user_name": user, "job_state": "COMPLETED", "account": "nn1"}
        for number, user in ((7, "grete"), (8, "ada"))
    ]
    put(data, "0+job-slurm.json", envelope("job", time=f"{day}:10:00Z", slurm_jobs=told))
    states = {"nodes": [{"names": ["n1"], "states": ["IDLE"]}], "partitions": [{"name": "p", "nodes": ["n1"]}]}
    put(data, "0+cluzter-slurm.json", envelope("cluster", time=f"{day}:10:00Z", **states))
    for audience in ("admin", "login"):
        path = root / "reports" / FOX / audience / "r.json"
        path.parent.mkdir(parents=True)
        path.write_text(f'["{audience}"]\n')
    (root / "cluster-aliases.json").write_text(json.dumps([{"alias": "fox", "value": FOX}]))
    passwords_file(root / "passwords")
    options: list[str | Path] = [
        "--cluster-config",
        root,
        "--password-file",
        root / "passwords",
        "--reports",
        root / "reports",
    ]
    with running(root, options) as server:
        yield server


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()

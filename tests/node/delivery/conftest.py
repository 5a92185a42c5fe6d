"""Delivery, in this process: a real spool, a real HTTPS server with written-down answers, and a clock of our own."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sonar.node.delivery import Delivery
from sonar.node.spool import Spool
from sonar.node.upload import Server

from tests.node.scripted_server import Certificates, ScriptedServer, scripted_server

CSV = "text/csv"
JSON = "application/json"
START = 1764000000.0


@dataclass
class Time:
    """A clock that only waiting moves. Waiting says stop once `until` holds; a delivery that never ends fails."""

    now: float = START
    waits: list[float] = field(default_factory=list)
    until: Callable[[], bool] = lambda: False
    turns: int = 0

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.turns += 1
        assert self.turns < 5000, "does not end"
        self.now += seconds
        if seconds:
            self.waits.append(seconds)
        return self.until()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[ScriptedServer]:
    with scripted_server(certificates.server_context("127.0.0.1")) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def spool(tmp_path: Path, time: Time) -> Spool:
    return Spool(tmp_path / "spool", clock=time.clock)


@pytest.fixture
def delivery(spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time) -> Iterator[Delivery]:
    client = Server(server.url, "fox.example", ca_cert=certificates.ca)
    time.until = lambda: not spool.entries()
    yield deliver(spool, client, time)
    client.close()


def deliver(spool: Spool, client: Server, time: Time, *, window_s: float = 0.0, chance: float = 0.5) -> Delivery:
    return Delivery(
        spool,
        client,
        wait=time.wait,
        window_s=window_s,
        chance=lambda: chance,
        clock=time.clock,
        monotonic=time.clock,
    )


def put(spool: Spool, count: int, *, first: int = 0) -> list[bytes]:
    """Put numbered records, a file each."""
    records = [f"v=1,host=n1,number={first + number}\n".encode() for number in range(count)]
    for record in records:
        spool.put("sample", record, CSV)
    return records


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]

"""What uploads leave in the journal: fields that `journalctl SONAR_CLUSTER=…` finds, and no credentials."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sonar.ingest.app import IngestApp
from sonar.ingest.books import Books
from sonar.ingest.post import Rules
from sonar.log import Throttle
from sonar.serve.identities import Identities
from sonar.store.store import Store

from tests.ingest.conftest import CLUSTER, PASSWORD, basic

LINE = b"v=1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim\n"
Post = Callable[..., Coroutine[Any, Any, int]]


def with_app(data: Path, password_file: Path, scenario: Callable[[Post], Coroutine[Any, Any, None]]) -> None:
    store = Store(data)
    app = IngestApp(store, Identities.load(password_file), Rules(), Books(data, store))

    async def post(path: str, query: str, body: bytes, password: str = PASSWORD) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", basic(CLUSTER, password).encode())]
        scope = {"method": "POST", "path": path, "query_string": query.encode(), "headers": headers}
        await app(scope | {"client": ("::ffff:10.1.2.3", 99)}, receive, send)
        return int(sent[0]["status"])

    try:
        asyncio.run(scenario(post))
    finally:
        store.close()


def test_fields(tmp_path: Path, password_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(post: Post) -> None:
        assert await post("/sonar-freecsv", f"cluster={CLUSTER}", LINE + b"bad\n") == 200
        assert await post("/sonar-freecsv", f"cluster={CLUSTER}", LINE, "wrong") == 401
        assert await post("/sonar-freecsv", "cluster=fox.example.org", LINE) == 403

    with caplog.at_level(logging.INFO):
        with_app(tmp_path, password_file, scenario)

    told = [{k: v for k, v in vars(r).items() if k.startswith("SONAR_")} for r in caplog.records]
    shared = {"SONAR_ENDPOINT": "sonar-freecsv", "SONAR_REMOTE": "10.1.2.3"}
    stored = {"SONAR_CLUSTER": CLUSTER, "SONAR_HOST": "c1-6", "SONAR_RECORDS": 1, "SONAR_DROPPED": 1}
    assert told == [
        shared | stored | {"SONAR_STATUS": 200},
        shared | {"SONAR_STATUS": 401},
        shared | {"SONAR_STATUS": 403, "SONAR_CLUSTER": CLUSTER},
    ]
    assert not any(secret in caplog.text for secret in (PASSWORD, "wrong", "Basic"))


def test_garbage_cannot_flood_the_log(tmp_path: Path, password_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(post: Post) -> None:
        for _ in range(100):
            assert await post("/sonar-freecsv", f"cluster={CLUSTER}", b"garbage\n") == 400

    with_app(tmp_path, password_file, scenario)

    assert 0 < len(caplog.records) <= 20


def test_throttle_says_how_much_it_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("sonar.log.time.monotonic", lambda: now)
    throttle = Throttle(burst=2, period_s=10)

    def say(level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("x", level, "", 0, "said %s", ("this",), None)
        return record.getMessage() if throttle.filter(record) else None

    assert [say() for _ in range(4)] == ["said this", "said this", None, None]
    assert say(logging.DEBUG) == "said this"
    now = 11.0
    assert say() == "said this (2 messages before this one were held back)"
    assert say() == "said this"

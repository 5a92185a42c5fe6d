"""The life of a service as the service manager sees it."""

import asyncio
import os
import signal

import pytest

from sonar import notify
from sonar.serve.server import listeners_of, serve


def test_a_start_may_take_longer_than_the_watchdog_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    said: list[str] = []
    for word in ("ready", "status", "stopping"):
        monkeypatch.setattr(notify, word, lambda _, word=word: said.append(word))
    monkeypatch.setattr(notify, "watchdog", lambda: said.append("watchdog"))
    checks = 0

    async def ailment() -> str | None:
        nonlocal checks
        checks += 1
        if checks == 1:
            said.append("check")
            await asyncio.sleep(0.4)
            said.append("answer")
        if checks == 2:
            said.append("well")
        if checks == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return "modules are being read" if checks == 1 else None

    async def app(scope: object, receive: object, send: object) -> None:
        del scope, receive, send

    status = serve(app, listeners_of([("127.0.0.1", 0)], []), name="slow", status=lambda: "", ailment=ailment)

    assert status == 0
    assert said[:5] == ["check", "answer", "well", "ready", "watchdog"]
    assert "stopping" in said

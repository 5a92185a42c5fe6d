"""The bounds on requests, with an application and a client made of coroutines."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sonar.serve.gate import App, Gate, Limits, answer, read_body
from sonar.times import parse_instant

Message = dict[str, Any]


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    await answer(send, 200, await read_body(receive))


async def never() -> Message:
    await asyncio.Event().wait()
    return {}


def parts(*bodies: bytes) -> Callable[[], Awaitable[Message]]:
    """Return a `receive` that gives a body in parts, the last of which ends it; an empty one: it never comes."""
    rest = list(bodies)

    async def receive() -> Message:
        if not rest:
            return await never()
        part = rest.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(rest) or part == b""}

    return receive


async def ask(
    gate: Gate, receive: Callable[[], Awaitable[Message]], **scope: Any
) -> tuple[int, bytes, dict[bytes, bytes]]:
    sent: list[Message] = []

    async def send(message: Any) -> None:
        sent.append(message)

    defaults = {"type": "http", "method": "POST", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": []}
    await gate(defaults | scope, receive, send)
    return sent[0]["status"], b"".join(m["body"] for m in sent[1:]), dict(sent[0]["headers"])


def gate_of(app: App = echo, **limits: Any) -> Gate:
    return Gate(app, Limits(**limits), lambda: None)


def test_body_that_does_not_come_is_408() -> None:
    async def scenario() -> None:
        status, text, headers = await ask(gate_of(request_s=0.01), parts(b"some", b""))
        assert (status, text, headers[b"connection"]) == (408, b"body too slow", b"close")

    asyncio.run(scenario())


def test_http_1_1_without_one_host_is_400() -> None:
    async def scenario() -> None:
        gate = gate_of()
        host = (b"host", b"x")
        for path in ("/x", "/ping"):
            for hosts in ([], [host, host]):
                status, text, headers = await ask(gate, parts(b"all"), path=path, http_version="1.1", headers=hosts)
                assert (status, text) == (400, b"one Host header is wanted")
                assert headers[b"connection"] == b"close"
        for version, hosts in (("1.1", [host]), ("1.1", [(b"host", b"")]), ("1.0", [])):
            status, text, _ = await ask(gate, parts(b"all"), http_version=version, headers=hosts)
            assert (status, text) == (200, b"all")

    asyncio.run(scenario())


def test_service_that_does_not_answer_in_time_is_503() -> None:
    async def stuck(_scope: Any, receive: Any, _send: Any) -> None:
        await read_body(receive)
        await never()

    async def scenario() -> None:
        status, _, headers = await ask(gate_of(stuck, request_s=0.01), parts(b"all"))
        assert (status, headers[b"retry-after"]) == (503, b"60")

    asyncio.run(scenario())


def test_requests_beyond_the_number_in_progress_wait_in_turn() -> None:
    most = 0

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        most = max(most, gate.in_progress)
        for _ in range(3):
            await asyncio.sleep(0)
        await echo(scope, receive, send)

    gate = gate_of(slow, concurrent=4, waiting=100)

    async def scenario() -> None:
        answers = await asyncio.gather(*(ask(gate, parts(b"%d" % n)) for n in range(50)))
        assert [(status, text) for status, text, _ in answers] == [(200, b"%d" % n) for n in range(50)]

    asyncio.run(scenario())
    assert most == 4


def test_requests_beyond_those_that_may_wait_are_503() -> None:
    async def scenario() -> None:
        gate = gate_of(concurrent=1, waiting=1)
        busy = asyncio.create_task(ask(gate, never))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(ask(gate, parts(b"x")))
        await asyncio.sleep(0)
        status, text, headers = await ask(gate, parts(b"y"))
        assert (status, text, headers[b"retry-after"]) == (503, b"too many requests in progress", b"60")
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert (await waiting)[0] == 200

    asyncio.run(scenario())


def test_bodies_in_memory_are_bounded_over_all_requests() -> None:
    async def scenario() -> None:
        gate = gate_of(held_bytes=10)
        large = asyncio.create_task(ask(gate, parts(b"12345678", b"")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await ask(gate, parts(b"123")))[0] == 503
        assert (await ask(gate, parts(b"12")))[0] == 200
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        assert (await ask(gate, parts(b"123")))[0] == 200

    asyncio.run(scenario())


def test_error_of_the_application_is_500_and_the_next_request_is_served() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bug":
            raise ZeroDivisionError
        await echo(scope, receive, send)

    async def scenario() -> None:
        gate = gate_of(broken)
        assert (await ask(gate, parts(b"x"), path="/bug"))[:2] == (500, b"internal error")
        assert (await ask(gate, parts(b"x")))[:2] == (200, b"x")

    asyncio.run(scenario())


def test_health_is_told_whatever_stands_in_the_way() -> None:
    async def scenario() -> None:
        obstacles: list[str | None] = ["no room", None]
        gate = Gate(echo, Limits(concurrent=1, waiting=0), lambda: obstacles[0], facts=lambda: {"room": 7})
        assert (await ask(gate, never, path="/ping", method="GET"))[:2] == (200, b"ok\n")
        status, body, headers = await ask(gate, never, path="/ready", method="GET")
        assert (status, headers[b"retry-after"]) == (503, b"60")
        said = json.loads(body)
        assert abs((parse_instant(said.pop("clock")) or 0) - time.time()) < 60
        assert said == {"ready": False, "why": "no room", "room": 7, "clock_was_set_s": 0.0}
        obstacles.pop(0)
        busy = asyncio.create_task(ask(gate, never))
        await asyncio.sleep(0)
        assert (await ask(gate, never, path="/ping", method="GET"))[:2] == (200, b"ok\n")
        status, body, _ = await ask(gate, never, path="/ready", method="GET")
        assert (status, json.loads(body)["ready"], json.loads(body)["why"]) == (200, True, None)
        assert (await ask(gate, never, path="/ready", method="POST"))[0] == 405
        assert (await ask(gate, never, path="/metrics", method="GET"))[0] == 503  # a place of the application's
        gate.draining = True
        status, body, headers = await ask(gate, never, path="/ping", method="HEAD")
        assert (status, headers[b"connection"]) == (503, b"close")
        assert json.loads((await ask(gate, never, path="/ready", method="GET"))[1])["why"] == "draining"
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)

    asyncio.run(scenario())


def test_metrics_are_those_of_the_service() -> None:
    async def scenario() -> None:
        gate = Gate(echo, Limits(), lambda: "no room", metrics=lambda: (b"x 1\n", b"text/plain; version=1"))
        status, body, headers = await ask(gate, never, path="/metrics", method="GET")
        assert (status, body, headers[b"content-type"]) == (200, b"x 1\n", b"text/plain; version=1")

    asyncio.run(scenario())


def test_line_breaks_do_not_get_into_headers() -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, 200, "x", [(b"x-reason", b"a\r\nset-cookie: b")])

        assert (await ask(gate_of(app), never))[2][b"x-reason"] == b"a  set-cookie: b"

    asyncio.run(scenario())

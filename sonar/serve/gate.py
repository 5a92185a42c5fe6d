"""What stands before every application: `/ping`, `/ready`, `/metrics`, and the bounds on what a request may take.

The three are answered whatever state the service is in, and before anything that a request might have to wait for:

    /ping       200 while the process serves; 503 only while it drains
    /ready      JSON: whether it can do its work, and if not, why; 200 or 503 accordingly
    /metrics    numbers in the text format of Prometheus, where a service has some

A request beyond its bounds is answered here and never reaches the application: 431 for its headers, 413 for its
body (a declared length is believed before a byte is read), 408 for its time, 503 when too many are in progress.
Requests beyond the number that may be in progress wait for a while, unread: a cluster whose nodes all post in the same
second is served in turn and not turned away.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sonar.times import iso_text

__all__ = ["App", "Gate", "Limits", "Receive", "Scope", "Send", "answer", "read_body", "response_bytes"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MIB = 1 << 20
RETRY_AFTER_S = 60

_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_HOST_WANTED = "one Host header is wanted"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all of them together, may take."""

    body_bytes: int = 64 * MIB
    header_bytes: int = 32 << 10
    request_s: float = 60.0
    concurrent: int = 64
    waiting: int = 2048
    held_bytes: int = 512 * MIB  # bodies of all requests in progress


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class _TooLargeError(Exception):
    pass


class _HeldTooMuchError(Exception):
    pass


class Gate:
    """Wrap an application: bound its requests, and answer for its health.

    `obstacle` tells why the service cannot do its work at the moment; None if it can. `on_refused` is told about each
    request that is answered here. `facts` is what `/ready` tells besides, `metrics` gives numbers and their media type.
    `short` offers the short way, see `sonar.serve.lane`.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        obstacle: Callable[[], str | None],
        on_refused: Callable[[Scope, int, str], None] = lambda _scope, _status, _reason: None,
        facts: Callable[[], Mapping[str, object]] = dict,
        metrics: Callable[[], tuple[bytes, bytes]] | None = None,
        short: Callable[[Scope], Any] | None = None,
    ) -> None:
        self.limits = limits
        self.draining = False
        self.requests = 0  # total, without /ping
        self.refused = 0  # answered here
        self.in_progress = 0
        self._app = app
        self.obstacle = obstacle
        self._on_refused = on_refused
        self._facts = facts
        self._metrics = metrics
        self._short = short
        self._began = time.time() - time.monotonic()
        self._slots = asyncio.Semaphore(limits.concurrent)
        self._waiting = 0
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if scope.get("http_version") == "1.1" and sum(name == b"host" for name, _ in scope["headers"]) != 1:
            self.note_refusal(scope, 400, _HOST_WANTED)  # RFC 9112, 3.2
            await answer(send, 400, _HOST_WANTED, [(b"connection", b"close")])
            return
        path = scope["path"]
        if path in {"/ping", "/ready"} or (path == "/metrics" and self._metrics is not None):
            await self._tell(scope, _closing(send) if self.draining else send)
            return
        self.requests += 1
        status, reason = self._first_look(scope)
        if status:
            self.note_refusal(scope, status, reason)
            await answer(send, status, reason)
            return
        await self._within_time(scope, receive, send)

    def enter(self, scope: Scope, length: int) -> Any:
        """Return the application's handler for a small request on the short way; None if it must go the usual one.

        Who has entered must `leave`.
        """
        if self._short is None or self.draining or self._held + length > self.limits.held_bytes:
            return None
        if length > self.limits.body_bytes:
            return None
        handler = self._short(scope)
        if handler is not None:
            self.requests += 1
            self._held += length
        return handler

    def leave(self, length: int) -> None:
        """Note that a request on the short way has its answer."""
        self._held -= length

    def note_refusal(self, scope: Scope, status: int, reason: str) -> None:
        """Note that a request was refused without the application."""
        self.refused += 1
        self._on_refused(scope, status, reason)

    async def _tell(self, scope: Scope, send: Send) -> None:
        """Answer for the health of the service."""
        path, status, media_type = scope["path"], 200, b"text/plain; charset=utf-8"
        body: str | bytes = "ok\n"
        if scope["method"] not in {"GET", "HEAD"}:
            await answer(send, 405, "Bad method", [(b"allow", b"GET, HEAD")])
            return
        if path == "/ready":
            why = "draining" if self.draining else self.obstacle()
            status, media_type = 503 if why else 200, b"application/json"
            body = json.dumps({"ready": not why, "why": why, **self._clock(), **self._facts()}) + "\n"
        elif path == "/metrics" and self._metrics is not None:
            body, media_type = self._metrics()
        elif self.draining:
            status, body = 503, "draining"
        await answer(send, status, body, media_type=media_type)

    def _clock(self) -> dict[str, object]:
        """Return the time, and by how much the clock was set since the service began."""
        now = time.time()
        return {"clock": iso_text(int(now)), "clock_was_set_s": round(now - time.monotonic() - self._began, 1)}

    def _first_look(self, scope: Scope) -> tuple[int, str]:
        """Return the status and text that refuse a request by its headers alone; status 0 lets it pass."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        length = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                length = int(value)
        if size > self.limits.header_bytes:
            return 431, f"headers over {self.limits.header_bytes} bytes"
        if length > self.limits.body_bytes:
            return 413, f"body over {self.limits.body_bytes} bytes"
        if self._slots.locked() and self._waiting >= self.limits.waiting:
            return 503, "too many requests in progress"
        return 0, ""

    async def _within_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(self, receive, send)
        status, reason = 0, ""
        try:
            async with asyncio.timeout(self.limits.request_s):
                await self._in_turn(scope, exchange)
        except TimeoutError:
            slow_body = exchange.reading
            status, reason = (408, "body too slow") if slow_body else (503, "could not be served in time")
        except _TooLargeError:
            status, reason = 413, f"body over {self.limits.body_bytes} bytes"
        except _HeldTooMuchError:
            status, reason = 503, "too much data in progress"
        except ClientGoneError:
            return
        except Exception:
            _log.exception("error in a request for '%s'", scope["path"])
            status, reason = 500, "internal error"
        finally:
            self._held -= exchange.received
        if status:
            self._on_refused(scope, status, reason)
        if status and not exchange.answering:
            self.refused += 1
            await answer(send, status, reason, [(b"connection", b"close")] if status != 413 else [])
        elif status:
            raise ConnectionAbortedError(reason)  # the answer is cut off: the client must not take it for whole

    async def _in_turn(self, scope: Scope, exchange: "_Exchange") -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self.in_progress += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self.in_progress -= 1
            self._slots.release()

    def hold(self, size: int) -> None:
        """Count bytes of bodies in memory; raise if it is too much."""
        self._held += size
        if self._held > self.limits.held_bytes:
            raise _HeldTooMuchError


class _Exchange:
    """Receive and send of one request, counted."""

    __slots__ = ("_gate", "_receive", "_send", "answering", "reading", "received")

    def __init__(self, gate: Gate, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._receive = receive
        self._send = send
        self.answering = False
        self.reading = False
        self.received = 0

    async def receive(self) -> Message:
        self.reading = True
        message = await self._receive()
        if message["type"] == "http.request":
            self.reading = message.get("more_body", False)
            size = len(message.get("body", b""))
            self.received += size
            self._gate.hold(size)
            if self.received > self._gate.limits.body_bytes:
                raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        if not self.answering:
            self.answering = True
            if self._gate.draining:  # it may have begun to drain since the request came
                self._send = _closing(self._send)
        await self._send(message)


async def read_body(receive: Receive) -> bytes:
    """Return the whole body of a request; raise ClientGoneError, which the gate understands, if it breaks off."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise ClientGoneError


async def answer(
    send: Send,
    status: int,
    text: str | bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    media_type: bytes = b"text/plain; charset=utf-8",
) -> None:
    """Send a small response; a 503 always says when to come back."""
    body = text.encode() if isinstance(text, str) else text
    fields = _fields(status, body, headers, media_type)
    await send({"type": "http.response.start", "status": status, "headers": _safe(fields)})
    await send({"type": "http.response.body", "body": body})


def response_bytes(
    status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]], media_type: bytes = b"text/plain; charset=utf-8"
) -> bytes:
    """Return the same response as bytes for a connection."""
    lines = [_STATUS_LINES[status]]
    lines += [b"%s: %s\r\n" % field for field in _safe(_fields(status, body, headers, media_type))]
    return b"".join([*lines, b"\r\n", body])


def _fields(
    status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]], media_type: bytes
) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = [(b"content-length", b"%d" % len(body)), *headers]
    if body and not any(name == b"content-type" for name, _ in fields):
        fields.append((b"content-type", media_type))
    if status == 503 and not any(name == b"retry-after" for name, _ in fields):
        fields.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    return fields


def _closing(send: Send) -> Send:
    """Return a `send` that asks the client to open no further requests on this connection."""

    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        await send(message)

    return send_closing


def _safe(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value.replace(b"\r", b" ").replace(b"\n", b" ")) for name, value in fields]

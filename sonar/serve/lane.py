"""The short way: small uploads are served without a task, a queue or a message of their own.

An application may offer, besides its ASGI interface, a function that looks at the headers of a request and returns a
`Handler`, or None for the usual way. The handler is called once with the whole body, in the event loop, must not block,
and has the answer sent sooner or later. What a request may take is bounded here as it is for others by
`sonar.serve.gate`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from sonar.serve.gate import Gate, Scope, response_bytes

if TYPE_CHECKING:
    from sonar.serve.connection import BoundedProtocol

__all__ = ["Answer", "Handler", "ShortCycle", "open_lane"]

Headers = Iterable[tuple[bytes, bytes]]
Answer = Callable[[int, bytes, Headers], None]  # status, body, further headers
Handler = Callable[[bytes, Answer], None]

_LONGEST_BODY = 128 << 10
_MOST_HEADERS = 32

_response = lru_cache(64)(response_bytes)  # most are the same within a second

_log = logging.getLogger(__name__)


class _NoEvent:
    """Where uvicorn would wake somebody who waits: here nobody does."""

    @staticmethod
    def set() -> None:
        """Wake nobody."""


class ShortCycle:
    """One request on the short way; stands where uvicorn has its own kind of cycle."""

    message_event = _NoEvent

    def __init__(self, connection: "BoundedProtocol", gate: Gate, handler: Handler, length: int) -> None:
        self.parts: list[bytes] = []
        parser: Any = connection.parser
        self.keep_alive = bool(parser.should_keep_alive())
        self.response_complete = False
        self.disconnected = False
        self.more_body = True
        self.began = time.monotonic()
        self._connection = connection
        self._gate = gate
        self._handler = handler
        self._length = length

    def serve(self) -> None:
        """Hand over the body, which is complete."""
        self.more_body = False
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        try:
            self._handler(body, self.answer)
        except Exception:
            _log.exception("error in a request for '%s'", self._connection.scope["path"])
            self.answer(500, b"internal error", ())

    def answer(self, status: int, body: bytes, headers: Headers) -> None:
        """Send the answer, unless there has been one."""
        if self.response_complete:
            return
        self.response_complete = True
        self._gate.leave(self._length)
        if self.disconnected:
            return
        self.keep_alive = self.keep_alive and not self._gate.draining
        connection = self._connection
        fields = (*connection.server_state.default_headers, *headers)
        if not self.keep_alive:
            fields = (*fields, (b"connection", b"close"))
        connection.transport.write(_response(status, body, fields))
        if self.keep_alive:
            connection.on_short_response()
        else:
            connection.transport.close()

    def give_up_if_late(self, now: float) -> None:
        """Refuse the request if it has taken too long."""
        if now - self.began > self._gate.limits.request_s and not self.response_complete:
            status, reason = (408, "body too slow") if self.more_body else (503, "could not be served in time")
            self._gate.note_refusal(cast("Scope", self._connection.scope), status, reason)
            self.keep_alive = False
            self.answer(status, reason.encode(), ())


def open_lane(connection: "BoundedProtocol", gate: Gate) -> ShortCycle | None:
    """Return a cycle for the request whose headers are complete; None if it is one for the usual way."""
    parser: Any = connection.parser
    headers = connection.headers
    if parser.get_method() != b"POST" or len(headers) > _MOST_HEADERS or parser.get_http_version() != "1.1":
        return None
    scope = cast("Scope", connection.scope)
    length, hosts = -1, 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"host":
            hosts += 1
        elif name in {b"transfer-encoding", b"expect", b"upgrade", b"content-encoding"} or len(value) > 1024:
            return None
    if hosts != 1 or not 0 < length <= _LONGEST_BODY:
        return None
    path, _, query = connection.url.partition(b"?")
    if b"%" in path or not path.startswith(b"/") or b"#" in query:
        return None
    scope["method"], scope["path"], scope["query_string"] = "POST", path.decode("ascii", "replace"), query
    handler = gate.enter(scope, length)
    if handler is None:
        return None
    return ShortCycle(connection, gate, handler, length)

"""The connections of a server: uvicorn's HTTP/1.1 protocol, with the bounds that it does not have itself.

A client may take only so long, and only so many bytes, to bring its headers; what it sends of a body that was already
refused is thrown away for only so long; and the number of connections is bounded: who comes when all are taken gets the
place of the one that has waited longest without a request.
"""

import heapq
import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sonar.serve.gate import Gate, response_bytes
from sonar.serve.lane import ShortCycle, open_lane
from sonar.serve.tls import client_names

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Iterator

__all__ = ["BoundedProtocol", "Server"]

IDLE_S = 75.0  # without a complete set of headers
HEADER_BYTES = 64 << 10  # unfinished headers; finished ones are counted exactly by the gate
HANDSHAKE_S = 10.0  # of TLS
MOST_CONNECTIONS = 16_384
SPARE_DESCRIPTORS = 1024  # for files of the log and the like
_EVICTED_AT_ONCE = 64  # looking for them costs more than closing them


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `waiting_since` is when it began to wait for the next headers; None while it serves."""

    most = MOST_CONNECTIONS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting_since: float | None = None
        self.fresh = True  # no request has been seen yet
        self.client_names: tuple[str, ...] = ()  # in the certificate that the client has shown
        self._in_headers = False
        self._header_bytes = 0
        self._is_last = False  # the request that is served, or the next one

    def connection_made(self, transport: "asyncio.Transport") -> None:  # type: ignore[override]
        """Take a new connection, or close it if there are too many."""
        super().connection_made(transport)
        self.waiting_since = time.monotonic()
        self.client_names = client_names(transport)
        if len(self.connections) > self.most and not _make_room(self.connections, self):
            transport.write(response_bytes(503, b"too many connections", [(b"connection", b"close")]))
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; end the connection if its headers do not end."""
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                self.transport.close()

    def on_message_begin(self) -> None:
        """Note that headers have begun."""
        super().on_message_begin()
        self.scope["client_names"] = self.client_names  # type: ignore[typeddict-unknown-key]
        self._in_headers = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Note that headers are complete, and start to serve."""
        self._in_headers = False
        self.waiting_since = None
        self.fresh = False
        before: Any = self.cycle
        app = self.app
        is_first = before is None or before.response_complete
        if is_first and isinstance(app, Gate) and (cycle := open_lane(self, app)) is not None:
            self.cycle = cycle  # type: ignore[assignment]
        else:
            super().on_headers_complete()
        if self._is_last and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        cycle: Any = self.cycle
        if type(cycle) is not ShortCycle:
            super().on_body(body)
        elif not cycle.response_complete:
            cycle.parts.append(body)

    def on_message_complete(self) -> None:
        """Serve a request on the short way, or tell its task that the body is complete."""
        cycle: Any = self.cycle
        if type(cycle) is not ShortCycle:
            super().on_message_complete()
        elif not cycle.response_complete:
            cycle.serve()

    def on_short_response(self) -> None:
        """Note that the connection waits again, or start the request that has come behind the one just answered."""
        self.server_state.total_requests += 1
        self.waiting_since = time.monotonic()
        if self.pipeline:
            self.waiting_since = None
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        cycle: Any = self.cycle
        if type(cycle) is ShortCycle and cycle.more_body:
            cycle.answer(408, b"", ())  # to nobody: it only gives back what was counted

    def on_response_complete(self) -> None:
        """Note that the connection waits again."""
        self.waiting_since = time.monotonic()
        super().on_response_complete()

    def retire(self) -> None:
        """Close the connection after the request that it serves; one that has brought none yet may bring one."""
        cycle: Any = self.cycle
        self._is_last = True
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
        elif cycle is not None and not self._in_headers:
            self.transport.close()

    def close_if_idle(self, now: float) -> None:
        """Close the connection if its client has been silent, or has stammered, for too long."""
        cycle: Any = self.cycle
        if type(cycle) is ShortCycle:
            cycle.give_up_if_late(now)
        if self.waiting_since is not None and now - self.waiting_since > IDLE_S:
            self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us and loses no request that has arrived before it drains."""

    GRACE_S = 0.5

    def __init__(self, config: uvicorn.Config, started: "asyncio.Event") -> None:
        super().__init__(config)
        self._started_event = started
        self._sockets: list[socket.socket] = []

    @contextmanager
    def capture_signals(self) -> "Iterator[None]":
        """Capture nothing."""
        yield

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        """Begin to accept, and tell."""
        BoundedProtocol.most = _most_connections()
        self._sockets = sockets or []
        self.servers = await self._accept()
        self.started = True
        self._started_event.set()

    async def renew(self, context: "ssl.SSLContext") -> None:
        """Accept with another TLS context from now on; who has shown a certificate must show it anew.

        May raise OSError. It is another context because authorities, and lists of what was revoked, can be put into
        one, but not taken out of it.
        """
        if self.should_exit:
            return
        before, self.config.ssl = self.servers, context
        self.servers = await self._accept()
        for server in before:
            server.close()
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol) and connection.client_names:
                connection.retire()

    async def _accept(self) -> "list[asyncio.Server]":
        """Accept on all sockets with the context that there is now."""
        import asyncio

        loop, config = asyncio.get_running_loop(), self.config
        handshake_s = HANDSHAKE_S if config.ssl is not None else None

        def create_protocol() -> BoundedProtocol:
            return BoundedProtocol(config=config, server_state=self.server_state, app_state={})

        # A server closes its socket when it ends. Of one that is shared, a successor takes over all that waits.
        return [
            await loop.create_server(
                create_protocol,
                sock=one.dup(),
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=handshake_s,
            )
            for one in self._sockets
        ]

    async def shutdown(self, sockets: "list[socket.socket] | None" = None) -> None:
        """Stop accepting, serve what has arrived, close."""
        import asyncio

        for server in self.servers:
            server.close()
        # A connection accepted just now may hold a request that nobody has read yet: closing it would lose that.
        deadline = time.monotonic() + self.GRACE_S
        while any(getattr(one, "fresh", False) for one in self.server_state.connections):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def close_idle(self) -> None:
        """Close connections that have waited for too long."""
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.close_if_idle(now)


def _most_connections() -> int:
    """Return how many connections there may be, after raising the number of open files as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_DESCRIPTORS
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    open_files = wanted if soft == resource.RLIM_INFINITY else soft
    return max(min(open_files - SPARE_DESCRIPTORS, MOST_CONNECTIONS), open_files // 4)


def _make_room(connections: "set[Any]", newcomer: BoundedProtocol) -> bool:
    """Close those that have waited longest without a request; return whether there are any."""
    waiting = [one for one in connections if one is not newcomer and one.waiting_since is not None]
    oldest = heapq.nsmallest(_EVICTED_AT_ONCE, waiting, key=lambda one: one.waiting_since)
    for one in oldest:
        one.waiting_since = None
        one.transport.close()
    return bool(oldest)

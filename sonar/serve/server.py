"""Run an ASGI application as a service: sockets, TLS, readiness, watchdog, reload, drain.

    READY       after all sockets listen, and with a watchdog, when the service's check of itself has succeeded once
    WATCHDOG    fed only while that check goes on succeeding, from the loop that serves requests
    SIGHUP      reload: certificates and whatever `on_reload` reads; what cannot be read leaves the old in place
    SIGTERM     drain: stop accepting, finish what has arrived, end with status 0 (also SIGINT)

One event loop (uvloop) serves all sockets, plain and TLS alike.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import notify
from sonar.errors import SonarError, UsageError
from sonar.log import Event, Throttle, about
from sonar.serve.gate import App, Gate, Limits, Scope
from sonar.serve.runs import marked_run
from sonar.serve.sockets import Listener, listeners_of, parse_address, write_port_file
from sonar.serve.tls import TlsFiles, tls_context

if TYPE_CHECKING:
    import ssl

    import uvicorn

    from sonar.serve.connection import Server
    from sonar.serve.lane import Handler

__all__ = ["Limits", "Listener", "TlsFiles", "listeners_of", "parse_address", "serve"]

STATUS_S = 5.0
DRAIN_S = 40  # below TimeoutStopSec= of the units
_SWITCH_S = 0.0005  # a tenth of Python's own: a thread that works in the background keeps no answer waiting

_log = logging.getLogger(__name__)


def serve(
    app: App,
    listeners: Sequence[Listener],
    *,
    name: str,
    status: Callable[[], str],
    ailment: Callable[[], Awaitable[str | None]],
    tls: TlsFiles | None = None,
    on_reload: Callable[[], None] | None = None,
    on_drain: Callable[[], None] = lambda: None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    obstacle: Callable[[], str | None] = lambda: None,
    limits: Limits | None = None,
    port_file: Path | None = None,
    on_refused: Callable[[Scope, int, str], None] = lambda _scope, _status, _reason: None,
    work: Callable[[], Coroutine[None, None, None]] | None = None,
    facts: Callable[[], Mapping[str, object]] = dict,
    metrics: Callable[[], tuple[bytes, bytes]] | None = None,
    short: "Callable[[Scope], Handler | None] | None" = None,
) -> int:
    """Serve `app` on all listeners until told to stop; return the exit status.

    `status` gives the line that `systemctl status` shows; `ailment` is the check of itself that feeds the watchdog: it
    returns what is wrong, None if nothing is, within half the watchdog's limit; `on_reload` raises SonarError if what
    it read is bad, after it has changed nothing; `on_drain` is called when no more requests are taken, and `on_stop`
    is awaited after the last answer; `work` runs beside the requests and is cancelled before `on_stop`. For
    `obstacle`, `on_refused`, `facts` and `metrics` see `sonar.serve.gate`, for `short` `sonar.serve.lane`. Raise
    UsageError for listeners that cannot be served.
    """
    if not listeners:
        raise UsageError("nothing to listen on: no socket was passed by systemd, and none is given by an option")
    if any(one.tls for one in listeners) and tls is None:
        raise UsageError("a TLS socket needs a certificate: --tls-cert and --tls-key")
    import faulthandler

    import uvloop

    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where each thread hung
    sys.setswitchinterval(_SWITCH_S)
    context = tls_context(tls) if tls is not None else None
    service = _Service(name, listeners, status, ailment, context, tls, on_reload, on_drain, on_stop, port_file, work)
    gate = Gate(app, limits or Limits(), obstacle, on_refused, facts, metrics, short)
    with marked_run(name), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(service.run(gate))


class _Service:
    def __init__(
        self,
        name: str,
        listeners: Sequence[Listener],
        status: Callable[[], str],
        ailment: Callable[[], Awaitable[str | None]],
        context: "ssl.SSLContext | None",
        tls: TlsFiles | None,
        on_reload: Callable[[], None] | None,
        on_drain: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]] | None,
        port_file: Path | None,
        work: Callable[[], Coroutine[None, None, None]] | None,
    ) -> None:
        self._name = name
        self._listeners = listeners
        self._status = status
        self._ailment = ailment
        self._context = context
        self._tls = tls
        self._on_reload = on_reload
        self._on_drain = on_drain
        self._on_stop = on_stop
        self._port_file = port_file
        self._work = work

    async def run(self, gate: Gate) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)

        servers = await self._start(gate)
        tasks = [
            asyncio.create_task(task)
            for task in (
                self._tell_status(gate.obstacle),
                self._keep_watch(),
                _sweep(servers),
                self._reload_when_told(reload, [server for server, _ in servers]),
            )
        ]
        if self._work is not None:
            tasks.append(asyncio.create_task(self._work()))
        if self._port_file is not None:
            write_port_file(self._port_file, self._listeners)

        await stop.wait()
        gate.draining = True
        notify.stopping("draining")
        self._on_drain()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*(running for _, running in servers))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._on_stop is not None:
            await self._on_stop()
        return 0

    async def _start(self, gate: Gate) -> "list[tuple[Server, asyncio.Task[None]]]":
        """Start one uvicorn server for the plain sockets and one for those with TLS; return when all accept."""
        from sonar.serve.connection import Server

        # uvicorn tells the log about every malformed request, which anybody can send at will.
        server_log = logging.getLogger("uvicorn.error")
        server_log.setLevel(logging.WARNING)
        server_log.addFilter(Throttle())

        servers = []
        for is_tls in (False, True):
            sockets = [one.socket for one in self._listeners if one.tls is is_tls]
            if sockets:
                started = asyncio.Event()
                server = Server(_config(gate, self._context if is_tls else None), started)
                running = asyncio.create_task(server.serve(sockets=sockets))
                waiting = asyncio.create_task(started.wait())
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if running.done():
                    running.result()
                    raise SonarError(f"{self._name} could not start to serve")
                servers.append((server, running))
        return servers

    async def _reload_when_told(self, told: asyncio.Event, servers: "Sequence[Server]") -> None:
        while True:
            await told.wait()
            told.clear()
            await self._reload(servers)

    async def _reload(self, servers: "Sequence[Server]") -> None:
        notify.reloading()
        begun = time.monotonic()
        try:
            # All or nothing: a bad certificate must be seen before anything changes.
            context = tls_context(self._tls) if self._tls is not None else None
            if self._on_reload is not None:
                self._on_reload()
            for server in servers:
                if context is not None and server.config.ssl is not None:
                    await server.renew(context)
        except (SonarError, OSError) as error:
            _log.error("reload failed, keeping what was loaded before: %s", error, extra=about(Event.RELOAD_FAILED))
            notify.ready(f"reload failed: {error}")
            return
        _log.info("reloaded in %.0f ms", (time.monotonic() - begun) * 1000, extra=about(Event.RELOADED))
        notify.ready(self._status())

    async def _tell_status(self, obstacle: Callable[[], str | None]) -> None:
        told = ""
        blocked: str | None = None
        while True:
            await asyncio.sleep(STATUS_S)
            blocked = _tell_obstacle(blocked, obstacle())
            if (text := self._status()) != told:
                notify.status(text)
                told = text

    async def _keep_watch(self) -> None:
        """Say that the service is ready, and from then on feed the watchdog, while the service proves that it works.

        A start takes as long as it takes, on a busy machine too: TimeoutStartSec= bounds it, not the watchdog.
        """
        period = notify.watchdog_period()
        while period is not None and (ailment := await self._ailment()) is not None:
            _log.warning("%s is not ready: %s", self._name, ailment)
            await asyncio.sleep(min(1.0, period))
        notify.ready(self._status())
        _log.info("%s serves on %s", self._name, ", ".join(_text_of(one) for one in self._listeners))
        if period is not None:
            await self._feed_watchdog(period)

    async def _feed_watchdog(self, period: float) -> None:
        while True:
            begun = time.monotonic()
            try:
                # Sooner than the watchdog bites, so that what is wrong is said before it does.
                async with asyncio.timeout(0.9 * period):
                    ailment = await self._ailment()
            except TimeoutError:
                ailment = f"it has no answer within {0.9 * period:g} s"
            if ailment is None:
                notify.watchdog()
            else:
                text = "%s fails its check of itself, not feeding the watchdog: %s"
                _log.warning(text, self._name, ailment, extra=about(Event.SELF_CHECK_FAILED))
            await asyncio.sleep(max(0.0, begun + period - time.monotonic()))


def _tell_obstacle(before: str | None, now: str | None) -> str | None:
    """Log when requests begin to be refused and when they are taken again; return what is in the way now."""
    if now is not None and before is None:
        _log.error("requests are refused: %s", now, extra=about(Event.STORE_BLOCKED))
    if now is None and before is not None:
        _log.warning("requests are taken again", extra=about(Event.STORE_FREE))
    return now


async def _sweep(servers: "list[tuple[Server, asyncio.Task[None]]]") -> None:
    while True:
        await asyncio.sleep(1.0)
        for server, _ in servers:
            server.close_idle()


def _config(app: App, context: "ssl.SSLContext | None") -> "uvicorn.Config":
    import uvicorn

    from sonar.serve.connection import IDLE_S, BoundedProtocol

    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=DRAIN_S,
    )
    config.load()
    config.ssl = context
    return config


def _text_of(listener: Listener) -> str:
    name = listener.socket.getsockname()
    where = f"{f'[{name[0]}]' if ':' in name[0] else name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
    return f"{where} (TLS)" if listener.tls else where

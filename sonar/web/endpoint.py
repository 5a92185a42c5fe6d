"""One endpoint of the query server: who may use it, and how its answer, or its error, goes out.

A handler returns a small `Content`, or `Work` for a process. A client that goes away ends the process. Answers up to
`_WHOLE` bytes have a length and an entity tag; longer ones are streamed as they are made.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sonar.config.clusters import UnknownClusterError
from sonar.errors import SonarError, UsageError
from sonar.log import Throttle
from sonar.serve.identities import TooBusyError, TooManyFailuresError
from sonar.serve.passwords import Identity, Role
from sonar.web.login import Redirect, UnauthorizedError, asker_of
from sonar.web.nursery import SMALLEST_COMPRESSED
from sonar.web.privacy import ForbiddenError
from sonar.web.workers import Answer, BusyError, Lane, LostError, TooLargeError, TooSlowError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from sonar.web.site import Site

__all__ = ["Content", "Endpoint", "NotFoundError", "Style", "Work", "security_headers"]

_WHOLE = 256 << 10
_STALL_S = 30.0  # a client that takes nothing for so long has gone
_RETRY_AFTER_S = 5
_CHALLENGE = 'Basic realm="Sonar", charset="UTF-8"'
_TEXT = "text/plain; charset=utf-8"

# No script, style, font or picture of another origin, none inside the page, and no frame around it.
_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_HSTS = "max-age=31536000"

_log = logging.getLogger("sonalyzed")
_log.addFilter(Throttle(burst=100))


class NotFoundError(SonarError):
    """There is nothing of that name."""


class Style(Enum):
    """How errors are told."""

    PLAIN = "plain"  # a line of text, as clients of old expect
    JSON = "json"  # {"title", "status", "detail"}
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Content:
    """A small answer that is ready."""

    body: bytes
    media_type: str = _TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    private: bool = True  # no cache may keep it


@dataclass(frozen=True, slots=True)
class Work:
    """An answer that a process makes: `function(reply, *arguments)`."""

    lane: Lane
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    key: Hashable = None  # all that the answer depends on but files and the present time, if it may be remembered
    now: int = 0


Handler = Callable[["Request", Identity], Awaitable["Content | Work"]]


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Endpoint:
    """An ASGI application for one path."""

    site: "Site"
    path: str
    handler: Handler
    style: Style = Style.PLAIN
    needs: Role | None = Role.USER  # None: anybody, without a password
    methods: tuple[str, ...] = ("GET", "HEAD")

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request."""
        from starlette.requests import Request

        started = time.monotonic()
        exchange = _Exchange(scope, receive, send)
        try:
            await self._answer(Request(scope, receive), exchange)
        except ClientGoneError:
            exchange.status = 499  # as nginx calls it
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            if not exchange.begun:
                wait = {"retry-after": str(_RETRY_AFTER_S)}
                await exchange.send(failure(Style.PLAIN, HTTPStatus.SERVICE_UNAVAILABLE, "stopping", wait))
        finally:
            self.site.metrics.count(self.path, exchange.status, time.monotonic() - started)

    async def _answer(self, request: "Request", exchange: "_Exchange") -> None:
        try:
            if request.method not in self.methods:
                await exchange.send(
                    self._failed(
                        request, HTTPStatus.METHOD_NOT_ALLOWED, "Bad method", {"allow": ", ".join(self.methods)}
                    )
                )
                return
            who = await asker_of(self.site, request, needed=self.needs is not None)
            if self.needs is Role.ADMIN and who.role is not Role.ADMIN and who.name:
                raise ForbiddenError("only for administrators")
            if self.needs is Role.SUPPORT and who.role is Role.USER:
                raise ForbiddenError("your role does not allow that")
            made = await self.handler(request, who)
            if isinstance(made, Content):
                await exchange.send(made)
            else:
                await self._work(made, exchange)
        except ClientGoneError:
            raise
        except Exception as error:
            content = self._error(error, request)
            if exchange.begun:
                raise ConnectionAbortedError(str(error)) from None  # a broken answer must not look whole
            await exchange.send(content)

    async def _work(self, work: Work, exchange: "_Exchange") -> None:
        """Let a process answer; stop it when the client goes away."""
        answering = asyncio.create_task(self._run(work, exchange))
        leaving = asyncio.create_task(exchange.gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientGoneError
            await answering
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _run(self, work: Work, exchange: "_Exchange") -> None:
        async with self.site.workers.run(
            work.lane, work.function, *work.arguments, gzip=exchange.takes_gzip, key=work.key, now=work.now
        ) as answer:
            await exchange.pass_on(answer, work.headers)

    def _error(self, error: Exception, request: "Request") -> Content:
        """Return the answer that an error is."""
        match error:
            case Redirect():
                return Content(b"", status=303, headers={"location": error.location})
            case UnauthorizedError():
                return self._failed(request, HTTPStatus.UNAUTHORIZED, "Unauthorized", {"www-authenticate": _CHALLENGE})
            case ForbiddenError():
                return self._failed(request, HTTPStatus.FORBIDDEN, str(error))
            case TooManyFailuresError():
                wait = {"retry-after": str(int(error.retry_after_s) + 1)}
                return self._failed(request, HTTPStatus.TOO_MANY_REQUESTS, str(error), wait)
            case BusyError() | TooBusyError():
                return self._failed(
                    request, HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"retry-after": str(_RETRY_AFTER_S)}
                )
            case TooLargeError():
                return self._failed(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            case TooSlowError():
                return self._failed(request, HTTPStatus.GATEWAY_TIMEOUT, str(error))
            case UnknownClusterError() | NotFoundError():
                return self._failed(request, HTTPStatus.NOT_FOUND, self._without_paths(str(error)))
            case UsageError():
                return self._failed(request, HTTPStatus.BAD_REQUEST, self._without_paths(str(error)))
            case LostError():
                _log.error("%s: %s", request.url.path, error)
                return self._failed(request, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            case SonarError():
                _log.debug("%s fails: %s", request.url.path, error)
                return self._failed(request, HTTPStatus.BAD_REQUEST, self._without_paths(str(error)))
        _log.exception("error in a request for '%s'", request.url.path)
        return self._failed(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")

    def _failed(
        self, request: "Request", status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None
    ) -> Content:
        is_page = self.style is Style.PAGE and "text/html" in request.headers.get("accept", "")
        return failure(Style.PLAIN if self.style is Style.PAGE and not is_page else self.style, status, text, headers)

    def _without_paths(self, text: str) -> str:
        """Return an error's text without the place of the data on this server."""
        clusters = self.site.clusters
        for directory in (clusters.data, clusters.config, clusters.reports):
            if directory is not None:
                text = text.replace(str(directory), "…")
        return text


def failure(style: Style, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Content:
    """Return an error as the clients of an endpoint of this style understand it."""
    if style is Style.JSON:
        document = {"title": status.phrase, "status": int(status), "detail": text}
        return Content(json.dumps(document).encode(), "application/json", status, headers or {})
    if style is Style.PAGE:
        from sonar.web.pages import error_page

        return Content(error_page(int(status), status.phrase, text), "text/html; charset=utf-8", status, headers or {})
    return Content(text.encode(), _TEXT, status, headers or {})


def security_headers(scheme: str) -> dict[str, str]:
    """Return the headers that every answer has."""
    return {**_SECURITY_HEADERS, **({"strict-transport-security": _HSTS} if scheme == "https" else {})}


class _Exchange:
    """The sending side of one request."""

    def __init__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        self.status = 0
        self.begun = False
        self._receive = receive
        self._send = send
        self._scheme: str = scope["scheme"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self.takes_gzip = _takes_gzip(headers.get(b"accept-encoding", ""))
        self._known_tags = {
            tag.strip().removeprefix("W/") for tag in headers.get(b"if-none-match", "").split(",") if tag.strip()
        }

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def send(self, content: Content) -> None:
        """Send an answer that is ready."""
        body, headers = content.body, content.headers
        if self.takes_gzip and len(body) >= SMALLEST_COMPRESSED and "content-encoding" not in headers:
            body, headers = gzip.compress(body, 4, mtime=0), {**headers, "content-encoding": "gzip"}
        await self._send_whole(content.status, content.media_type, headers, body, private=content.private)

    async def pass_on(self, answer: Answer, headers: Mapping[str, str]) -> None:
        """Send what a process answers, whole if it is short, else as it comes."""
        headers = {**answer.headers, **headers}
        held: list[bytes] = []
        size = 0
        pieces = answer.pieces()
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size > _WHOLE:
                break
        else:
            await self._send_whole(answer.status, answer.media_type, headers, b"".join(held), private=True)
            return
        await self._begin(answer.status, {**headers, "content-type": answer.media_type, "cache-control": "no-store"})
        for piece in held:
            await self._body(piece, more=True)
        async for piece in pieces:
            await self._body(piece, more=True)
        await self._body(b"", more=False)

    async def _send_whole(
        self, status: int, media_type: str, headers: Mapping[str, str], body: bytes, *, private: bool
    ) -> None:
        fields = {**headers}
        if status == 200:
            tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            fields["etag"] = tag
            if tag in self._known_tags or "*" in self._known_tags:
                status, body = 304, b""
                fields = {name: value for name, value in fields.items() if name.lower() != "content-encoding"}
        if private:  # the tag is for scripts that keep an answer themselves
            fields.setdefault("cache-control", "no-store")
        if status != 304:
            fields["content-length"] = str(len(body))
            if body or status == 200:
                fields["content-type"] = media_type
        await self._begin(status, fields)
        await self._body(body, more=False)

    async def _begin(self, status: int, fields: Mapping[str, str]) -> None:
        self.begun = True
        self.status = status
        lowered = {name.lower(): value for name, value in fields.items()}
        merged = {"vary": "Authorization, Cookie, Accept, Accept-Encoding"} | security_headers(self._scheme) | lowered
        raw = [
            (name.encode("latin-1"), value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace"))
            for name, value in merged.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _body(self, data: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(_STALL_S):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise ClientGoneError from None


def _takes_gzip(header: str) -> bool:
    for part in header.split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            with contextlib.suppress(ValueError):
                return float(parameters.strip().removeprefix("q=") or "1") > 0
    return False

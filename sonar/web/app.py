"""The query server's application: who may ask, what may be asked, and the pages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import sonar
from sonar import verbs
from sonar.config.clusters import Clusters, UnknownClusterError
from sonar.errors import SonarError, UsageError
from sonar.times import present
from sonar.web.questions import ask

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.staticfiles import StaticFiles
    from starlette.types import Message, Receive, Scope, Send

    from sonar.serve.identities import Identities

__all__ = ["Site", "application"]

_HERE = Path(__file__).parent
_WORKERS = 2
_MOST_WAITING = 32
_RETRY_AFTER_S = 5
_CHALLENGE = 'Basic realm="Sonar", charset="UTF-8"'

# No script, style, font or picture of another origin, none inside the page, and no frame around it.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Authorization",
}
_HSTS = "max-age=31536000"

_log = logging.getLogger("sonalyzed")

_T = TypeVar("_T")
_Handler = Callable[["Request"], Awaitable["Response"]]


class _BusyError(SonarError):
    """As many questions wait as may wait."""


class Site:
    """What the server serves: the clusters, the people who may ask, and the threads that answer."""

    def __init__(self, clusters: Clusters, identities: "Identities | None") -> None:
        self.clusters = clusters
        self.identities = identities
        self.answered = 0
        self.failed = 0
        self._workers = ThreadPoolExecutor(_WORKERS, "analysis")
        self._in_progress = 0
        self._templates: Environment | None = None

    async def work(self, function: Callable[[], _T]) -> _T:
        """Return what a function returns that may take long, in a thread. Raise SonarError if too many wait."""
        if self._in_progress >= _WORKERS + _MOST_WAITING:
            raise _BusyError("too many questions at once")
        self._in_progress += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, function)
        finally:
            self._in_progress -= 1

    def page(self, template: str, **facts: object) -> str:
        """Return a page; texts in it are escaped."""
        if self._templates is None:
            from jinja2 import Environment, FileSystemLoader, StrictUndefined

            self._templates = Environment(
                loader=FileSystemLoader(_HERE / "templates"),
                autoescape=True,
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
            )
        return self._templates.get_template(template).render(version=sonar.__version__, **facts)

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        return f"{self.answered} questions answered, {self.failed} failed, {self._in_progress} in progress"


def application(site: Site) -> "Starlette":
    """Return the ASGI application."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def route(path: str, handler: _Handler) -> Route:
        return Route(path, _guarded(site, handler), methods=["GET"])

    return Starlette(
        routes=[
            *(route(f"/{name}", partial(_answer, site, name)) for name in verbs.NAMES),
            route("/", partial(_clusters_page, site)),
            route("/c/{cluster}", partial(_cluster_page, site)),
            route("/version", _version),
            Mount("/static", _Headed(StaticFiles(directory=_HERE / "static"))),
        ],
        exception_handlers={404: _not_found, 405: _bad_method},
    )


def _guarded(site: Site, handler: _Handler) -> _Handler:
    """Return a handler that lets in only who may ask, and turns errors into answers."""
    from starlette.responses import PlainTextResponse

    async def guarded(request: "Request") -> "Response":
        if not await _is_let_in(site, request):
            response: Response = PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": _CHALLENGE})
        else:
            try:
                response = await handler(request)
                site.answered += 1
            except _BusyError as error:
                response = PlainTextResponse(str(error), 503, {"Retry-After": str(_RETRY_AFTER_S)})
            except UnknownClusterError as error:
                response = PlainTextResponse(str(error), 404)
            except UsageError as error:
                response = PlainTextResponse(str(error), 400)
            except SonarError as error:
                site.failed += 1
                _log.warning("%s fails: %s", request.url.path, error)
                response = PlainTextResponse(_without_paths(site, str(error)), 400)
        response.headers.update(_SECURITY_HEADERS | {"Cache-Control": "no-store"})
        if request.url.scheme == "https":
            response.headers["Strict-Transport-Security"] = _HSTS
        return response

    return guarded


async def _is_let_in(site: Site, request: "Request") -> bool:
    """Return whether the request carries the name and password of somebody who may ask."""
    if site.identities is None:
        return True
    from sonar.serve.identities import basic_credentials

    pair = basic_credentials(request.headers.get("authorization", "").encode("latin-1"))
    return pair is not None and await site.identities.verify(*pair) is not None


def _without_paths(site: Site, text: str) -> str:
    """Return an error's text without the place of the data on this server."""
    for directory in (site.clusters.data, site.clusters.config):
        if directory is not None:
            text = text.replace(str(directory), "…")
    return text


async def _answer(site: Site, verb: str, request: "Request") -> "Response":
    from starlette.responses import Response

    parameters = request.query_params.multi_items()
    reply = await site.work(partial(ask, verb, parameters, site.clusters, now=present()))
    return Response(reply.body, media_type=reply.media_type)


async def _clusters_page(site: Site, _request: "Request") -> "Response":
    from starlette.responses import HTMLResponse

    names = await site.work(site.clusters.names)
    return HTMLResponse(site.page("clusters.html", title="Clusters", clusters=names))


async def _cluster_page(site: Site, request: "Request") -> "Response":
    from starlette.responses import HTMLResponse

    from sonar.web.overview import overview

    cluster = site.clusters.find(request.path_params["cluster"])
    shown = await site.work(partial(overview, site.clusters, cluster, now=present()))
    return HTMLResponse(site.page("cluster.html", title=cluster, shown=shown))


async def _version(_request: "Request") -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(f"sonalyzed {sonar.__version__}\n")


async def _not_found(_request: "Request", _error: Exception) -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("404 page not found\n", 404, _SECURITY_HEADERS)


async def _bad_method(_request: "Request", _error: Exception) -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("Bad method", 405, _SECURITY_HEADERS | {"Allow": "GET, HEAD"})


class _Headed:
    """Static files with the security headers; they are no secret, and may be kept for an hour."""

    def __init__(self, files: "StaticFiles") -> None:
        self._files = files

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_headed(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = _SECURITY_HEADERS | {"Cache-Control": "max-age=3600"}
                extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self._files(scope, receive, send_headed)

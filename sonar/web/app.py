"""The query server's application: its endpoints, and what stands at each.

/ping                      alive (answered before anything else, see sonar.serve.gate)
/ready, /metrics           able to answer; counts for Prometheus
/version, /api/v0/version  version and features
/VERB, /api/v0/VERB        questions; see sonar.web.answers
/api/v2/...                facts and series of clusters and nodes; see sonar.web.v2
/openapi.json, /api        the description of all that
/, /c/CLUSTER/...          pages; see sonar.web.pages
/login, /logout            see sonar.web.login
/static/..., /q/...        scripts and styles; a site's own pages
*.html                     addresses of the dashboard of old
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from sonar import verbs
from sonar.serve.passwords import Identity, Role
from sonar.times import present
from sonar.web import login, v2
from sonar.web.answers import answer
from sonar.web.assets import asset_of, assets
from sonar.web.endpoint import Content, Endpoint, NotFoundError, Style, Work, failure, security_headers
from sonar.web.login import Redirect
from sonar.web.pages import PAGES, Page, overview, show
from sonar.web.questions import Asker
from sonar.web.workers import Lane

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from sonar.web.site import Site

__all__ = ["application"]

_YEAR_S = 365 * 86400
_POSTS = ("POST",)
_SOMEBODY = "somebody-who-watches"  # stands in a page that is made for many, where the name of one will be


def application(site: "Site") -> "Starlette":
    """Return the ASGI application."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    routes = []

    def add(
        path: str,
        handler: Callable[["Site", "Request", Identity], Awaitable[Content | Work]],
        *,
        style: Style = Style.PLAIN,
        needs: Role | None = Role.USER,
        methods: tuple[str, ...] = ("GET", "HEAD"),
    ) -> None:
        endpoint = Endpoint(site, path, partial(handler, site), style, needs, methods)
        routes.append(Route(path, endpoint))

    for page in PAGES:
        add(page.path, partial(_page, page), style=Style.PAGE, needs=page.needs)
    for name in (*verbs.NAMES, *verbs.ALIASES):
        add(f"/{name}", partial(_answer, name, as_json_string=False))
        add(f"/api/v0/{name}", partial(_answer, name, as_json_string=True), style=Style.JSON)
    for one in v2.PATHS:
        add(f"/api/v2{one.path}", partial(_v2, one.path), style=Style.JSON)
    add("/version", _version, needs=None)
    add("/api/v0/version", _version_as_json, style=Style.JSON, needs=None)
    add("/metrics", _metrics, needs=Role.SUPPORT)
    add("/openapi.json", _openapi, style=Style.JSON, needs=None)
    add("/login", _login, style=Style.PAGE, needs=None, methods=("GET", "HEAD", "POST"))
    if site.provider is not None:
        from sonar.web import oidc

        add("/login/oidc", oidc.begin, style=Style.PAGE, needs=None)
        add("/login/oidc/back", oidc.come_back, style=Style.PAGE, needs=None)
    add("/logout", login.log_out, style=Style.PAGE, needs=None, methods=_POSTS)
    add("/static/{name:path}", _static, needs=None)
    add("/q/{name:path}", _site_page)
    add("/q", _site_page_root)
    for old in _OLD_ADDRESSES:
        add(f"/{old}", _moved, style=Style.PAGE, needs=None)
    app = Starlette(routes=routes, exception_handlers={404: _not_found})
    app.router.redirect_slashes = False
    return app


async def _answer(verb: str, site: "Site", request: "Request", who: Identity, *, as_json_string: bool) -> Work:
    parameters = request.query_params.multi_items()
    accept = request.headers.get("accept", "")
    now = present()
    # What the descriptions of clusters say is no file of the log, so it is a part of the question.
    key = (verb, tuple(parameters), accept, as_json_string, who, await asyncio.to_thread(site.clusters.stamp))
    arguments = (site.clusters, who, now, verb, parameters, accept, as_json_string)
    return Work(Lane.QUESTION, answer, arguments, key=key, now=now)


async def _v2(path: str, site: "Site", request: "Request", who: Identity) -> Work:
    cluster = request.path_params.get("cluster")
    parameters = request.query_params.multi_items()
    return Work(Lane.QUESTION, v2.v2_answer, (site.clusters, who, present(), path, cluster, parameters))


async def _page(page: Page, site: "Site", request: "Request", who: Identity) -> Content | Work:
    if page.snapshot is not None:
        return await _shared_page(page, site, request, who)
    parameters = request.query_params.multi_items()
    path_parameters, newest = dict(request.path_params), None
    if "cluster" in path_parameters:
        cluster = Asker(site.clusters, who, 0).cluster(path_parameters["cluster"])
        newest = (site.snapshots.peek(overview.snapshot, cluster) or {}).get("newest")
    server = page.of_server(site) if page.of_server is not None else None
    arguments = (page.path, site.clusters, who, present(), path_parameters, parameters, None, server, newest)
    return Work(Lane.PAGE, show, arguments)


async def _shared_page(page: Page, site: "Site", request: "Request", who: Identity) -> Content:
    """Return a page that is the same for all who may see the cluster, but for the name in its corner."""
    assert page.snapshot is not None
    cluster = Asker(site.clusters, who, 0).cluster(request.path_params["cluster"])
    snapshot = await site.snapshots.get(page.snapshot, cluster)
    newest = (site.snapshots.peek(overview.snapshot, cluster) or {}).get("newest")
    parameters = request.query_params.multi_items()
    somebody = replace(who, name=_SOMEBODY if who.name else "", clusters=frozenset())
    arguments = (
        page.path,
        site.clusters,
        somebody,
        present(),
        {"cluster": cluster},
        parameters,
        snapshot,
        None,
        newest,
    )

    async def make() -> bytes:
        async with site.workers.run(Lane.PAGE, show, *arguments) as answer:
            return b"".join([piece async for piece in answer.pieces()])

    html = await site.snapshots.page((page.path, cluster, tuple(parameters), who.role, bool(who.name)), snapshot, make)
    return Content(html.replace(_SOMEBODY.encode(), quote(who.name, "").encode()), page.media_type)


async def _version(_site: "Site", _request: "Request", _who: Identity) -> Content:
    return Content(f"{verbs.VERSION}\n".encode())


async def _version_as_json(_site: "Site", _request: "Request", _who: Identity) -> Content:
    return Content(json.dumps(f"{verbs.VERSION}\n").encode(), "application/json")


async def _metrics(site: "Site", _request: "Request", _who: Identity) -> Content:
    return Content(site.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")


async def _openapi(_site: "Site", _request: "Request", _who: Identity) -> Content:
    from sonar.web.openapi import document

    return Content(document(), "application/json")


async def _login(site: "Site", request: "Request", who: Identity) -> Content:
    return await (login.log_in if request.method == "POST" else login.login_page)(site, request, who)


async def _static(_site: "Site", request: "Request", _who: Identity) -> Content:
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise NotFoundError("404 page not found")
    is_current = request.query_params.get("v") == asset.tag
    headers = {"cache-control": f"max-age={_YEAR_S}, immutable" if is_current else "max-age=300"}
    headers["vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", "") and len(asset.gzipped) < len(asset.content):
        return Content(asset.gzipped, asset.media_type, headers={**headers, "content-encoding": "gzip"}, private=False)
    return Content(asset.content, asset.media_type, headers=headers, private=False)


async def _site_page(site: "Site", request: "Request", _who: Identity) -> Content:
    """Return a file that the site's administrators put there; names with a dot or slash in front are no files."""
    name = request.path_params["name"]
    if site.site_pages is not None:
        path = site.site_pages / name
        is_inside = name and not any(part.startswith(".") or not part for part in name.split("/")) and "\0" not in name
        if (
            is_inside
            and await asyncio.to_thread(path.is_file)
            and path.resolve().is_relative_to(site.site_pages.resolve())
        ):
            asset = await asyncio.to_thread(asset_of, path)
            return Content(asset.content, asset.media_type)
    if name == "jobquery.html":
        raise Redirect(_moved_to(request, "jobs"))
    raise NotFoundError("404 page not found")


async def _site_page_root(_site: "Site", _request: "Request", _who: Identity) -> Content:
    return Content(b"", status=301, headers={"location": "/q/"})


# The dashboard of old: which of the pages of today stands where its page was.
_OLD_ADDRESSES = {
    "index.html": "",
    "dash2.html": "overview",
    "machine-detail.html": "node",
    "subcluster.html": "group",
    "violators.html": "violations",
    "violator.html": "violations",
    "deadweight.html": "violations",
    "jobquery.html": "jobs",
}


async def _moved(_site: "Site", request: "Request", _who: Identity) -> Content:
    raise Redirect(_moved_to(request, _OLD_ADDRESSES[request.url.path.removeprefix("/")]))


def _moved_to(request: "Request", kind: str) -> str:
    """Return today's address of a page of old; those pages took the cluster `ml` if none was given."""
    given = dict(request.query_params)
    cluster = quote(given.pop("cluster", "" if kind == "jobs" else "ml"), "")
    if not kind or not cluster:
        return "/"
    match kind:
        case "node" if given.get("host"):
            return f"/c/{cluster}/node/{quote(given['host'], '')}"
        case "group" if given.get("subcluster"):
            return f"/c/{cluster}/group/{quote(given['subcluster'], '')}"
        case "violations" if given.get("user"):
            return f"/c/{cluster}/violations/{quote(given['user'], '')}"
        case "violations":
            return f"/c/{cluster}/violations"
        case "jobs":
            renamed = {"min-peak-cpu": "min-cpu-peak", "min-peak-mem": "min-mem-peak"}
            query = urlencode(
                [
                    (renamed.get(name, name), value)
                    for name, value in request.query_params.multi_items()
                    if name != "cluster"
                ]
            )
            return f"/c/{cluster}/jobs" + (f"?{query}" if query else "")
    return f"/c/{cluster}"


async def _not_found(request: "Request", error: Exception) -> "Response":
    from starlette.responses import Response

    style = Style.PAGE if "text/html" in request.headers.get("accept", "") else Style.PLAIN
    if request.url.path.startswith("/api/"):
        style = Style.JSON
    text = "there is no such page" if style is Style.PAGE else "404 page not found"
    content = failure(style, HTTPStatus.NOT_FOUND, text)
    return Response(
        content.body, 404, security_headers(request.url.scheme) | {"Cache-Control": "no-store"}, content.media_type
    )

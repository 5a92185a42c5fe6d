"""The pages: one module each, with a template of the same name.

A module declares `PAGE = Page(...)`. Its `build` runs in a process of its own, gets a `Context`, and returns what the
template shows; all of it comes from verbs that are asked through the context's asker, so nobody sees what the asker may
not. Adding a page is a module here, its template, and its name in `_MODULES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import sonar
from sonar.names import ClusterName
from sonar.serve.passwords import Role

if TYPE_CHECKING:
    from jinja2 import Environment

    from sonar.config.clusters import Clusters
    from sonar.serve.passwords import Identity
    from sonar.web.nursery import Reply
    from sonar.web.questions import Asker
    from sonar.web.site import Site

__all__ = ["PAGES", "Context", "Page", "error_page", "rendered", "show"]

_MODULES = (
    "clusters", "overview", "node", "group", "jobs", "job", "user", "violations", "gaps", "reports", "status",
    "interface",
)  # fmt: skip

# What the frame around each page wants to know.
_EVERYWHERE: Mapping[str, Any] = {
    "version": sonar.__version__, "who": "", "role": "", "cluster": None, "section": "",
    "data_newest": None, "data_age": "", "data_level": "",
}  # fmt: skip

_TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True, slots=True)
class Context:
    """What a page is made of: who asks, the cluster if the path names one, and the request's parameters."""

    asker: "Asker"
    cluster: ClusterName | None
    path: Mapping[str, str]
    parameters: Sequence[tuple[str, str]]
    snapshot: Any = None
    server: Any = None

    @property
    def known_cluster(self) -> ClusterName:
        """The cluster of a page whose path names one."""
        assert self.cluster is not None
        return self.cluster

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a parameter."""
        return next((value for given, value in reversed(self.parameters) if given == name), default)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path, its template, and what it shows."""

    path: str
    template: str
    build: Callable[[Context], Mapping[str, Any]]
    section: str = ""  # which entry of the cluster's navigation it is
    needs: Role = Role.USER
    snapshot: "Callable[[Asker, ClusterName], Any] | None" = None  # what all who watch share; see sonar.web.snapshots
    of_server: "Callable[[Site], Any] | None" = None  # facts of the running server, taken in its own process
    media_type: str = "text/html; charset=utf-8"
    extra: Mapping[str, Any] = field(default_factory=dict)


def _pages() -> tuple[Page, ...]:
    """Return the pages of all modules; one may have a second page about the same thing."""
    return tuple(
        page
        for name in _MODULES
        for page in vars(import_module(f"sonar.web.pages.{name}")).values()
        if isinstance(page, Page)
    )


PAGES = _pages()


def show(
    reply: "Reply",
    path: str,
    clusters: "Clusters",
    who: "Identity",
    now: int,
    path_parameters: Mapping[str, str],
    parameters: Sequence[tuple[str, str]],
    snapshot: Any,
    server: Any = None,
    newest: int | None = None,
) -> None:
    """Write a page; `newest` is the newest sample of the cluster, if that is known.

    Raise UnknownClusterError, UsageError, SonarError.
    """
    from sonar.web.freshness import age_text, level_of
    from sonar.web.questions import Asker

    page = next(page for page in PAGES if page.path == path)
    asker = Asker(clusters, who, now)
    cluster = asker.cluster(path_parameters["cluster"]) if "cluster" in path_parameters else None
    context = Context(asker, cluster, path_parameters, parameters, snapshot, server)
    facts = page.build(context)
    age = {} if newest is None else {"data_newest": newest, "data_age": age_text(newest, now)}
    text = rendered(page.template, **{
        "who": who.name, "role": str(who.role), "cluster": cluster, "section": page.section, "now": now,
        "data_level": level_of(newest, now), **age, **facts,
    })  # fmt: skip
    reply.start(200, page.media_type)
    reply.write(text)


def rendered(template: str, **facts: Any) -> str:
    """Return a page; texts in it are escaped."""
    return _environment().get_template(template).render({**_EVERYWHERE, **facts})


def error_page(status: int, title: str, text: str) -> bytes:
    """Return the page that tells of an error."""
    return rendered("error.html", title=f"{status} {title}", text=text).encode()


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from sonar.times import iso_text, minute_text
    from sonar.web.assets import address_of

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    made.globals |= {"asset": address_of, "urlencode": urlencode}
    made.filters |= {"minute": minute_text, "iso": iso_text, "part": lambda text: quote(str(text), "")}
    return made

"""The first page: the clusters that one may ask about, and how each of them is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sonar.names import ClusterName
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page
from sonar.web.pages.overview import mean_loads, snapshot

if TYPE_CHECKING:
    from sonar.web.site import Site

__all__ = ["PAGE"]


def of_server(site: "Site") -> dict[ClusterName, dict[str, Any]]:
    """Return what the last snapshot of each cluster tells of all its nodes together."""
    found = {}
    for name in site.clusters.names():
        state = site.snapshots.peek(snapshot, name)
        if state is not None:
            seen = [node["seen"] for node in state["nodes"]]
            found[name] = {"newest": state["newest"], "seen": seen, "loads": mean_loads(state)}
    return found


def build(context: Context) -> Mapping[str, Any]:
    """Return the clusters, each with its state as far as that is known."""
    now = context.asker.now
    clusters = []
    for name in context.asker.cluster_names():
        state = context.server.get(name)
        described = context.asker.clusters.describe(name)
        shown: dict[str, Any] = {"name": name, "title": described.title, "state": None}
        if state is not None:
            levels = [level_of(seen, now) for seen in state["seen"]]
            shown["state"] = {
                "newest": state["newest"],
                "level": level_of(state["newest"], now),
                "age": age_text(state["newest"], now),
                "nodes": len(levels),
                "counts": [(level, levels.count(level)) for level in ("live", "stale", "offline")],
                "loads": state["loads"],
            }
        clusters.append(shown)
    return {"title": "Clusters", "clusters": clusters}


PAGE = Page("/", "clusters.html", build, of_server=of_server)

"""The page of a group of nodes: one that the cluster's description names, or those that a pattern matches."""

from collections.abc import Mapping
from typing import Any

from sonar.config.clusters import UnknownClusterError
from sonar.hosts import HostPatterns
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import split_names
from sonar.web.pages.series import RANGES, load_of, table_of

__all__ = ["PAGE"]


def build(context: Context) -> Mapping[str, Any]:
    """Return the load of all nodes of the group together."""
    asker, cluster = context.asker, context.known_cluster
    name = context.path["group"]
    described = next((group for group in asker.clusters.describe(cluster).groups if group.name == name), None)
    patterns = list(described.nodes) if described else split_names(name)
    matches = HostPatterns.parse(patterns)
    known = asker.clusters.nodes(cluster) or {}
    seen = {row["host"] for row in asker.ask("metadata", cluster, {"from": ["2d"], "host": patterns}).rows}
    hosts = sorted({*seen, *(host for host in known if matches.match(host))})
    span = next((span for span in RANGES if span.name == context.get("range", "week")), RANGES[2])
    chart = load_of(asker, cluster, patterns, span, group=True)
    table = table_of(chart)
    if described is None and not hosts and not table:
        raise UnknownClusterError(f"no group {name[:80]!r}, and no node whose name is like that")
    for one in chart["charts"]:
        one["names"] = [f"{len(hosts)} nodes"]
    return {
        "title": described.title if described else name,
        "patterns": patterns,
        "hosts": hosts,
        "spans": [one for one in RANGES if one.slot_s],
        "range": span,
        "chart": chart,
        "table": table[:300],
    }


PAGE = Page("/c/{cluster}/group/{group}", "group.html", build, section="nodes")

"""The page of a node: its state, its load over five ranges of time, when it was down, and the jobs on it."""

from collections.abc import Mapping
from typing import Any

from sonar.config.clusters import UnknownClusterError
from sonar.errors import SonarError
from sonar.names import host_name
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import COLUMNS, job_rows, shown_jobs
from sonar.web.pages.series import RANGES, load_of, table_of

__all__ = ["PAGE"]

_MOST_JOBS = 20
_JOB_COLUMNS = [column for column in COLUMNS if column.name != "host"]


def build(context: Context) -> Mapping[str, Any]:
    """Return the state, charts and jobs of the node."""
    asker, cluster = context.asker, context.known_cluster
    try:
        name = host_name(context.path["node"])
    except SonarError as error:
        raise UnknownClusterError(str(error)) from None
    known = asker.clusters.nodes(cluster) or {}
    bounds = asker.ask("metadata", cluster, {"from": ["14d"], "host": [name]}).rows
    seen = {row["host"]: row["latest"] for row in bounds}
    if name not in known and name not in seen:  # a short name, as the pages of old had it
        longer = [host for host in {*known, *seen} if host.split(".")[0] == name]
        if len(longer) != 1:
            raise UnknownClusterError(f"no node {name!r} has sent anything in 14 days, and none is described")
        name = host_name(longer[0])
    span = next((span for span in RANGES if span.name == context.get("range", "day")), RANGES[1])
    chart = load_of(asker, cluster, [name], span)
    chart["link"] = f"/c/{cluster}/jobs?host={name}&at="
    rows = job_rows(context, {"host": [name]})
    rows.sort(key=lambda row: (row["end"], row["start"]), reverse=True)
    node = known.get(name)
    latest = seen.get(name)
    return {
        "title": name,
        "node": node,
        "facts": _facts(asker.ask("node", cluster, {"host": [name], "newest": ["true"]}).texts()),
        "seen": latest,
        "level": level_of(latest, asker.now),
        "age_of_node": age_text(latest, asker.now),
        "spans": RANGES,
        "range": span,
        "chart": chart,
        "table": table_of(chart)[:300],
        "jobs": shown_jobs(rows[:_MOST_JOBS], _JOB_COLUMNS),
        "number": len(rows),
        "columns": _JOB_COLUMNS,
    }


def _facts(rows: list[dict[str, str]]) -> dict[str, str]:
    """Return what the node told of itself last."""
    return {name: text for name, text in (rows[-1] if rows else {}).items() if text}


PAGE = Page("/c/{cluster}/node/{node}", "node.html", build, section="nodes")

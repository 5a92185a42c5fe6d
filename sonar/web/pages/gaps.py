"""The page of gaps: which nodes are silent, and when nodes and GPUs were down."""

from collections.abc import Mapping
from typing import Any

from sonar.times import DAY, MINUTE, minute_text
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import duration_text

__all__ = ["PAGE"]

_SPANS = (("1d", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"))
_MOST_ROWS = 1000


def build(context: Context) -> Mapping[str, Any]:
    """Return silent nodes, down times, and how available each node was."""
    asker, cluster = context.asker, context.known_cluster
    since = context.get("from") if context.get("from") in dict(_SPANS) else "7d"
    known = asker.clusters.nodes(cluster) or {}
    seen = {row["host"]: row["latest"] for row in asker.ask("metadata", cluster, {"from": [since]}).rows}
    interval = max(asker.clusters.describe(cluster).sample_interval_s // MINUTE, 1)
    given = {"from": [since], "interval": [str(interval)]}
    rows = [row for row in asker.ask("uptime", cluster, given).rows if row["state"] == "down"]
    down_s: dict[str, int] = {}
    for row in rows:
        if row["device"] == "host":
            down_s[row["host"]] = down_s.get(row["host"], 0) + row["end"] - row["start"]
    length = int(since[:-1]) * DAY
    silent = [name for name in sorted({*seen, *known}) if level_of(seen.get(name), asker.now) == "offline"]
    rows.sort(key=lambda row: (-row["end"], row["host"]))
    return {
        "title": "Gaps",
        "spans": _SPANS,
        "since": since,
        "interval": interval,
        "silent": [
            {
                "name": name, "age": age_text(seen.get(name), asker.now),
                "seen": minute_text(seen[name]) if name in seen else "",
            }
            for name in silent
        ],
        "rows": [
            {
                "host": row["host"], "device": row["device"], "start": minute_text(row["start"]),
                "end": minute_text(row["end"]), "lasts": row["end"] >= asker.now - 2 * interval * MINUTE,
                "length": duration_text(row["end"] - row["start"]),
            }
            for row in rows[:_MOST_ROWS]
        ],
        "number": len(rows),
        "availability": [
            (host, duration_text(seconds), round(100 - 100 * seconds / length, 2))
            for host, seconds in sorted(down_s.items(), key=lambda item: -item[1])
        ],
    }  # fmt: skip


PAGE = Page("/c/{cluster}/gaps", "gaps.html", build, section="gaps")

"""The page of gaps: silent nodes, samples of the last day that are missing and why, and down times."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sonar.names import ClusterName
from sonar.times import DAY, MINUTE, minute_text
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import duration_text
from sonar.web.questions import Asker

__all__ = ["PAGE", "snapshot"]

_SPANS = (("1d", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"))
_MOST_ROWS = 1000
_MOST_HOSTS = 300
_LATE_S = 10 * MINUTE


def snapshot(asker: Asker, cluster: ClusterName) -> dict[str, Any]:
    """Return what the ledger of arrivals tells of the last day: sums of each host, and when the server took nothing."""
    from sonar.audit.gaps import Window
    from sonar.audit.hours import hours_of
    from sonar.store.ledger import server_intervals

    now = asker.now
    window = Window(start=now - DAY, end=now + 1, now=now, late_after_s=_LATE_S)
    hosts: dict[str, Counter[str]] = {}
    why: dict[str, Counter[str]] = {}
    for hour in hours_of(asker.clusters, cluster, window):
        sums = hosts.setdefault(hour.host, Counter())
        for name in ("expected", "received", "missing", "late", "rejected", "dropped"):
            sums[name] += getattr(hour, name)
        for reason, count in hour.why.items():
            why.setdefault(hour.host, Counter())[reason] += count
    rows = [{"host": host, "why": dict(why.get(host, {})), **sums} for host, sums in hosts.items()]
    server = server_intervals(asker.clusters.data, now - DAY, now)
    return {
        "made": now,
        "has_ledger": any(row.get("received") or row.get("rejected") for row in rows),
        "rows": rows,
        "server": [(one.start, one.end, one.state, one.why) for one in server],
    }


def build(context: Context) -> Mapping[str, Any]:
    """Return silent nodes, what is missing, down times, and how available each node was."""
    asker, cluster = context.asker, context.known_cluster
    since = context.get("from") if context.get("from") in dict(_SPANS) else "7d"
    known = asker.clusters.nodes(cluster) or {}
    bounds = asker.ask("metadata", cluster, {"from": [since]}).rows
    seen = {row["host"]: row["latest"] for row in bounds}
    begin = max(asker.now - int(since[:-1]) * DAY, min((row["earliest"] for row in bounds), default=0))
    interval = max(asker.clusters.describe(cluster).usual_interval_s // MINUTE, 1)
    given = {"from": [since], "interval": [str(interval)]}
    # Before the first sample of all the cluster was not watched: nobody was down.
    rows = [
        {**row, "start": max(row["start"], begin)}
        for row in asker.ask("uptime", cluster, given).rows
        if row["state"] == "down" and row["end"] > begin + 2 * interval * MINUTE
    ]
    down_s: dict[str, int] = {}
    for row in rows:
        if row["device"] == "host":
            down_s[row["host"]] = down_s.get(row["host"], 0) + row["end"] - row["start"]
    length = max(asker.now - begin, 1)
    silent = [name for name in sorted({*seen, *known}) if level_of(seen.get(name), asker.now) == "offline"]
    rows.sort(key=lambda row: (-row["end"], row["host"]))
    return {
        "title": "Gaps",
        "spans": _SPANS,
        "since": since,
        "begin": begin,
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
            (host, duration_text(seconds), f"{100 - 100 * seconds / length:.2f}")
            for host, seconds in sorted(down_s.items(), key=lambda item: -item[1])
        ],
        **_missing(context),
    }  # fmt: skip


def _missing(context: Context) -> dict[str, Any]:
    """Return what is shown of the ledger. What a refused record said is for those who may see everybody's."""
    state = context.snapshot
    is_restricted = context.asker.who.accounts is not None
    rows = [row for row in state["rows"] if any(row[name] for name in ("missing", "late", "rejected", "dropped"))]
    rows.sort(key=lambda row: (-row["missing"], -row["rejected"], -row["dropped"], -row["late"], row["host"]))
    return {
        "made": state["made"],
        "made_age": age_text(state["made"], context.asker.now),
        "has_ledger": state["has_ledger"],
        "late_minutes": _LATE_S // MINUTE,
        "expected": sum(row["expected"] for row in state["rows"]),
        "received": sum(row["received"] for row in state["rows"]),
        "troubled": len(rows),
        "missing": [
            {**row, "reasons": _reasons(row["why"], row["missing"], is_restricted=is_restricted)}
            for row in rows[:_MOST_HOSTS]
        ],
        "server": [
            (minute_text(start), minute_text(end), duration_text(end - start), state, "" if is_restricted else why)
            for start, end, state, why in reversed(state["server"])
        ],
    }


def _reasons(why: Mapping[str, int], missing: int, *, is_restricted: bool) -> list[str]:
    """Return the reasons, those that explain most first."""
    found: Counter[str] = Counter()
    for reason, count in why.items():
        found[reason.partition(":")[0] if is_restricted else reason] += count
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [reason if count in (0, missing) else f"{reason} ({count})" for reason, count in ordered]


PAGE = Page("/c/{cluster}/gaps", "gaps.html", build, section="gaps", snapshot=snapshot)

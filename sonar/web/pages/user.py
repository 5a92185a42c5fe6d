"""The page of a user: the jobs, and what they used of what they held, day by day."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sonar.config.clusters import UnknownClusterError
from sonar.times import DAY, HOUR
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import COLUMNS, Column, job_rows, shown_jobs
from sonar.web.pages.series import table_of

if TYPE_CHECKING:
    from sonar.config.nodes import NodeTable

__all__ = ["PAGE"]

_SPANS = (("7d", "7 days"), ("14d", "14 days"), ("30d", "30 days"), ("90d", "90 days"))
_MOST_JOBS = 50
_HELD_FIELDS = ",ReqCPUS,ReqMem,ReqNodes,ReqGPUS"
_KIB_PER_GB = 1 << 20
_HELD = "what the job asked the batch system for, else what its nodes have"
_SHARES = (
    Column("cpu-share", "CPU", "% of held, mean", f"mean CPU use, of the cores held: {_HELD}", "cpu_share"),
    Column("memory-share", "Memory", "% of held, peak", f"highest resident memory, of that held: {_HELD}", "mem_share"),
)
_JOB_COLUMNS = [*(column for column in COLUMNS if column.name != "user"), *_SHARES]


def build(context: Context) -> Mapping[str, Any]:
    """Return the sums, the days and the jobs of a user."""
    user = context.path["user"]
    if user == "-" or "," in user:  # filters have these for everybody, and for several
        raise UnknownClusterError(f"no user {user[:80]!r}")
    since = context.get("from") if context.get("from") in dict(_SPANS) else "14d"
    rows = job_rows(context, {"user": [user], "from": [since]}, more=_HELD_FIELDS)
    nodes = context.asker.clusters.nodes(context.known_cluster)
    for row in rows:
        row.update(_held(row, nodes))
    rows.sort(key=lambda row: (row["end"], row["start"]), reverse=True)
    chart = _days(rows, context.asker.now, int(since[:-1]))
    held = [row for row in rows if row["cores"]]
    return {
        "title": user,
        "user": user,
        "is_own": user == context.asker.who.name,
        "spans": _SPANS,
        "since": since,
        "number": len(rows),
        "running": sum(bool(row["classification"] & 1) for row in rows),
        "core_hours": round(sum(_hours(row, "cpu_avg") for row in rows)),
        "card_hours": round(sum(_hours(row, "gpu_avg") for row in rows)),
        "core_hours_held": round(sum(_length_h(row) * row["cores"] for row in held)),
        "cpu_share": _share(sum(_hours(row, "cpu_avg") for row in held), _sum_of(held, "cores")),
        "is_asked": any(row["sacct_req_cpus"] for row in rows),
        "chart": chart,
        "table": table_of(chart),
        "jobs": shown_jobs(rows[:_MOST_JOBS], _JOB_COLUMNS),
        "columns": _JOB_COLUMNS,
    }


def _held(row: Mapping[str, Any], nodes: "NodeTable | None") -> dict[str, float | None]:
    """Return what a job held, as it asked or as its nodes have it, and what it used of that, in percent."""
    known = [nodes[host] for host in row["host"] if nodes and host in nodes]
    is_complete = len(known) == len(row["host"])
    cores = float(row["sacct_req_cpus"] or (sum(node.cpu_cores for node in known) if is_complete else 0))
    mem_gb = float(sum(node.mem_gb for node in known) if is_complete else 0)
    if row["sacct_req_mem_kib"]:
        mem_gb = row["sacct_req_mem_kib"] * (row["sacct_req_nodes"] or 1) / _KIB_PER_GB
    cards = float(sum(node.gpu_cards for node in known) if row["gpu_avg"] else 0)
    if row["sacct_req_cpus"]:
        cards = float(_cards(row["sacct_gpus"] or ""))
    return {
        "cores": cores,
        "cards": cards,
        "cpu_share": _share(row["cpu_avg"] / 100, cores),
        "mem_share": _share(row["res_peak"], mem_gb),
    }


def _cards(text: str) -> int:
    """Return the number of cards of a text such as `a100=2,v100=1`."""
    return sum(int(number) for part in text.split(",") if (number := part.rpartition("=")[2]).isdecimal())


def _share(used: float, held: float) -> float | None:
    """Return percent: with a decimal where it is little."""
    percent = 100 * used / held if held else None
    return None if percent is None else round(percent) if percent >= 10 else round(percent, 1)


def _length_h(row: Mapping[str, Any]) -> float:
    return float(row["end"] - row["start"]) / HOUR


def _hours(row: Mapping[str, Any], column: str) -> float:
    """Return the hours of cores or cards that a job used: mean utilization times length."""
    return float(row[column] / 100) * _length_h(row)


def _sum_of(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    return float(sum(_length_h(row) * row[column] for row in rows))


def _days(rows: Sequence[Mapping[str, Any]], now: int, days: int) -> dict[str, Any]:
    """Return what was used, and the share of what was held, by the day; each job is spread evenly over its length."""
    times = list(range((now - days * DAY) // DAY * DAY, now + 1, DAY))

    def by_day(hours: Callable[[Mapping[str, Any]], float]) -> list[float]:
        sums = [0.0] * len(times)
        for row in rows:
            length = max(row["end"] - row["start"], 1)
            for at, start in enumerate(times):
                sums[at] += hours(row) * max(min(row["end"], start + DAY) - max(row["start"], start), 0) / length
        return sums

    def shares(used: str, held: str) -> list[float | None]:
        of_used = by_day(lambda row: _hours(row, used) if row[held] else 0.0)
        of_held = by_day(lambda row: _length_h(row) * row[held])
        return [round(100 * part / whole, 1) if whole else None for part, whole in zip(of_used, of_held, strict=True)]

    cores: list[float | None] = [round(value, 1) for value in by_day(lambda row: _hours(row, "cpu_avg"))]
    cards: list[float | None] = [round(value, 1) for value in by_day(lambda row: _hours(row, "gpu_avg"))]
    charts = [
        ("Core hours", "hours a day", "mean CPU use of each job times its time on that day", cores),
        ("CPU efficiency", "% of held", f"core hours used, of core hours held: {_HELD}", shares("cpu_avg", "cores")),
        ("Card hours", "hours a day", "mean GPU use of each job times its time on that day", cards),
        ("GPU efficiency", "% of held", f"card hours used, of card hours held: {_HELD}", shares("gpu_avg", "cards")),
    ]
    return {
        "times": times,
        "charts": [
            {
                "title": title, "unit": unit, "percent": unit.startswith("%"), "meaning": meaning,
                "names": ["of held" if unit.startswith("%") else "used"], "lines": [values],
            }
            for title, unit, meaning, values in charts if any(values) or title == "Core hours"
        ],
    }  # fmt: skip


PAGE = Page("/c/{cluster}/user/{user}", "user.html", build, section="jobs")

"""The report utilization: how well a cluster and its groups were used, day by day, for management: without any name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sonar.hosts import HostPatterns
from sonar.report.downtime import availabilities
from sonar.report.pages import Chart, Part
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import share, usages
from sonar.times import DAY, day_of

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE", "WHOLE", "parts_of"]

WHOLE = "whole window"


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return for all nodes and each group a row for the window and one for each day.

    Shares are of what the described nodes have that sent samples on the day. Jobs and users are counted on the days on
    which they ran, users without their names.
    """
    del given
    loads = _daily(survey)
    available = availabilities(survey)
    hosts = sorted(host for host in survey.nodes if host in available)
    jobs = usages(survey)
    rows: list[Row] = []
    for name, members in _groups(survey, hosts):
        with_members = set(members)
        own = [job for job in jobs if with_members.intersection(job.hosts)]
        days = range(survey.start // DAY * DAY, survey.end + 1, DAY)
        for day in (None, *days):
            of_day = [
                (host, at)
                for host in members
                for at in ([day] if day is not None else days)
                if (host, at) in loads
            ]  # fmt: skip
            running = own if day is None else [job for job in own if job.start < day + DAY and job.end >= day]
            rows.append(
                {
                    "group": name,
                    "day": WHOLE if day is None else day_of(day).isoformat(),
                    "nodes": len({host for host, _ in of_day}),
                    "availability": _mean([available[host] for host in members]) if day is None else None,
                    "cpu": _share(survey, loads, of_day, "cores", "cpu_cores"),
                    "memory": _share(survey, loads, of_day, "res", "mem_gb"),
                    "gpu": _share(survey, loads, of_day, "cards", "gpu_cards"),
                    "gpu-memory": _share(survey, loads, of_day, "gpumem", "gpumem_gb"),
                    "core-hours": round(sum(loads[key]["cores"] * 24 for key in of_day), 0),
                    "jobs": len(running),
                    "users": len({job.user for job in running}),
                }
            )
    return Table(rows, {})


def _daily(survey: "Survey") -> dict[tuple[str, int], dict[str, float]]:
    """Return the mean load of each host on each day: cores, GB of resident memory, cards, GB of their memory."""
    result = survey.ask("load", {"daily": ("true",), "compact": ("true",)})
    found = {}
    for title, first, length in result.blocks or ():
        rows = result.rows.slice(first, length)
        for row in rows.select(["time", "cpu", "gpu", "res", "gpumem"]).to_pylist():
            found[title, row["time"]] = {
                "cores": row["cpu"] / 100,
                "cards": row["gpu"] / 100,
                "res": row["res"],
                "gpumem": row["gpumem"],
            }
    return found


def _groups(survey: "Survey", hosts: Sequence[str]) -> list[tuple[str, list[str]]]:
    groups = [("all", list(hosts))]
    for name, patterns in survey.groups:
        wanted = HostPatterns.parse(patterns)
        groups.append((name, [host for host in hosts if wanted.match(host)]))
    return groups


def _share(
    survey: "Survey",
    loads: Mapping[tuple[str, int], Mapping[str, float]],
    keys: Sequence[tuple[str, int]],
    quantity: str,
    capacity: str,
) -> float | None:
    available = sum(getattr(survey.nodes[host], capacity) for host, _ in keys)
    return share(sum(loads[key][quantity] for key in keys), available) if available else None


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None


def parts_of(declared: TableReport, rows: Sequence[Row]) -> list[Part]:
    """Return the parts of a document: the window first, then each group with its charts and its days.

    What the heading of a part says is not repeated in its rows.
    """
    whole = [{**row, "day": None} for row in rows if row["day"] == WHOLE]
    parts = [Part("In short", declared, whole)]
    for group in dict.fromkeys(row["group"] for row in rows):
        days = [{**row, "group": None} for row in rows if row["group"] == group and row["day"] != WHOLE]
        labels = [row["day"][5:] for row in days]
        charts = [
            Chart(f"{title}, percent of what there is", labels, [row[name] for row in days])
            for name, title in (("cpu", "Cores used"), ("gpu", "GPUs used"), ("memory", "Memory used"))
            if any(row[name] is not None for row in days)
        ]
        parts.append(Part("All nodes" if group == "all" else f"Group {group}", declared, days, charts))
    return parts


TABLE = TableReport(
    name="utilization",
    title="Utilization",
    summary="Tell how well the cluster and its groups were used, day by day, without names",
    columns=(
        Column("group", "text", "group of nodes, or all"),
        Column("day", "text", f"day, UTC, or {WHOLE}"),
        Column("nodes", "count", "nodes with samples"),
        Column("availability", "number", "share of the window in which nodes were up", "%"),
        Column("cpu", "number", "share of the cores used", "%"),
        Column("memory", "number", "share of the memory used (resident)", "%"),
        Column("gpu", "number", "share of the GPUs used", "%"),
        Column("gpu-memory", "number", "share of the GPUs' memory used", "%"),
        Column("core-hours", "number", "hours of cores used", "h"),
        Column("jobs", "count", "jobs that ran"),
        Column("users", "count", "people whose jobs they were"),
    ),
    make=make,
    window="30d",
)

"""The page of a cluster: its nodes, how live and how loaded they are, and the load of all together.

What it shows is the same for all who watch, so it is computed once for them: see `sonar.web.snapshots`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sonar.names import ClusterName
from sonar.times import DAY, HOUR, MINUTE, minute_text
from sonar.web.freshness import age_text, level_of
from sonar.web.pages import Context, Page
from sonar.web.questions import Asker
from sonar.web.selection import ABBREVIATIONS, FIELDS, selector

__all__ = ["PAGE", "QUANTITIES", "Quantity", "snapshot"]

RECENT_S = 30 * MINUTE
LONGER_S = 12 * HOUR
_SLOT_S = 30 * MINUTE


@dataclass(frozen=True, slots=True)
class Quantity:
    """One of the loads: its field of `load`, and in selections; its names, and how it is computed."""

    field: str
    select: str
    title: str
    absolute: str
    unit: str
    meaning: str


QUANTITIES = (
    Quantity("rcpu", "cpu%", "CPU", "cpu", "% of a core", "CPU time used, of all cores of the node"),
    Quantity("rres", "res%", "Memory", "res", "GB", "resident memory in use, of all memory of the node"),
    Quantity("rmem", "virt%", "Virtual", "mem", "GB", "virtual memory of all processes, of the memory of the node"),
    Quantity("rgpu", "gpu%", "GPU", "gpu", "% of a card", "utilization of the GPUs, of all cards of the node"),
    Quantity("rgpumem", "gpumem%", "GPU memory", "gpumem", "GB", "GPU memory in use, of that of all cards"),
)  # fmt: skip

# Users, and numbers of jobs; each of the recent and of the longer time.
_People: TypeAlias = tuple[tuple[set[str], set[str]], tuple[int, int]]
_NOBODY: _People = ((set(), set()), (0, 0))
_SORTS = ("name", "seen", *(quantity.select for quantity in QUANTITIES), "users", "jobs")


def snapshot(asker: Asker, cluster: ClusterName) -> dict[str, Any]:
    """Return the state of each node, and the load of all together over a day."""
    now = asker.now
    known = asker.clusters.nodes(cluster) or {}
    seen = {row["host"]: row["latest"] for row in asker.ask("metadata", cluster, {"from": ["1d"]}).rows}
    # A node that nobody described has no share of anything; then values are absolute for all.
    is_relative = bool(known) and all(host in known for host in seen)
    fields = [quantity.field if is_relative else quantity.absolute for quantity in QUANTITIES]
    loads: dict[str, list[dict[str, Any]]] = {}
    given = {
        "from": ["1d"],
        "half-hourly": ["true"],
        "compact": ["true"],
        "fmt": [",".join(["host,datetime", *fields])],
    }
    for row in asker.ask("load", cluster, given).rows:
        loads.setdefault(row["host"], []).append(row)
    people = _people(asker, cluster, now)
    failed = _failed_gpus(asker, cluster)
    nodes = []
    for name in sorted({*seen, *known}):
        node = known.get(name)
        rows = loads.get(name, [])
        values: dict[str, float | None] = {}
        for quantity, column in zip(QUANTITIES, fields, strict=True):
            has_none = quantity.select.startswith("gpu") and node is not None and not node.gpu_cards
            recent = None if has_none else _mean(rows, column, now - 2 * _SLOT_S, now, last=1)
            longer = None if has_none else _mean(rows, column, now - LONGER_S, now)
            values[quantity.select], values[quantity.select.capitalize()] = recent, longer
        level = level_of(seen.get(name), now)
        of_node = people.get(name, _NOBODY)
        values |= {
            "cpufail": float(level == "offline"), "gpufail": float(name in failed),
            "users": float(len(of_node[0][0])), "Users": float(len(of_node[0][1])),
            "jobs": float(of_node[1][0]), "Jobs": float(of_node[1][1]),
        }  # fmt: skip
        nodes.append(
            {
                "name": name, "seen": seen.get(name), "values": values,
                "has": "" if node is None else _capacity(node.cpu_cores, node.mem_gb, node.gpu_cards, node.gpumem_gb),
                "description": "" if node is None else node.description,
            }
        )  # fmt: skip
    return {
        "made": now, "newest": max(seen.values(), default=None), "nodes": nodes, "is_relative": is_relative,
        "chart": _chart(loads, fields, len(seen), now, is_relative=is_relative),
    }  # fmt: skip


def _mean(rows: list[dict[str, Any]], column: str, start: int, end: int, *, last: int = 0) -> float | None:
    """Return the mean of the slots of a time, or of the last ones of them; None if there is none."""
    values = [row[column] for row in rows if start < row["time"] <= end]
    values = values[-last:] if last else values
    return sum(values) / len(values) if values else None


def _people(asker: Asker, cluster: ClusterName, now: int) -> dict[str, _People]:
    """Return for each node the users and the number of jobs, of the last half hour and of the last twelve hours."""
    found: dict[str, tuple[tuple[set[str], set[str]], list[int]]] = {}
    for row in asker.ask("jobs", cluster, {"from": ["1d"], "user": ["-"], "min-samples": ["1"]}).rows:
        for host in row["host"]:
            (recent, longer), numbers = found.setdefault(host, ((set(), set()), [0, 0]))
            if row["end"] > now - LONGER_S:
                longer.add(row["user"])
                numbers[1] += 1
            if row["end"] > now - RECENT_S:
                recent.add(row["user"])
                numbers[0] += 1
    return {host: (users, (numbers[0], numbers[1])) for host, (users, numbers) in found.items()}


def _failed_gpus(asker: Asker, cluster: ClusterName) -> set[str]:
    """Return the nodes whose last word about their GPUs was that one has failed."""
    last: dict[str, str] = {}
    for row in asker.ask("uptime", cluster, {"from": ["1d"], "interval": ["5"]}).rows:
        if row["device"] == "gpu":
            last[row["host"]] = row["state"]
    return {host for host, state in last.items() if state == "down"}


def _chart(
    loads: dict[str, list[dict[str, Any]]], fields: list[str], number: int, now: int, *, is_relative: bool
) -> dict[str, Any]:
    """Return the mean (of shares) or the sum (of absolute values) over the nodes that reported in each half hour."""
    times = list(range(now // _SLOT_S * _SLOT_S - DAY, now // _SLOT_S * _SLOT_S + 1, _SLOT_S))
    place = {time: at for at, time in enumerate(times)}
    sums = [[0.0] * len(times) for _ in fields]
    counts = [0] * len(times)
    for rows in loads.values():
        for row in rows:
            at = place.get(row["time"])
            if at is not None:
                counts[at] += 1
                for of_field, column in zip(sums, fields, strict=True):
                    of_field[at] += row[column]
    lines = [
        [
            None if not count else round(value / count if is_relative else value, 1)
            for value, count in zip(of_field, counts, strict=True)
        ]
        for of_field in sums
    ]
    kept = [at for at, quantity in enumerate(QUANTITIES) if quantity.select != "virt%"]
    return {
        "times": times,
        "charts": [
            {
                "title": QUANTITIES[at].title,
                "unit": "% of all" if is_relative else QUANTITIES[at].unit,
                "percent": is_relative,
                "names": [f"{number} nodes"],
                "lines": [lines[at]],
            }
            for at in kept
        ],
    }


def _share(total: float, count: int, *, is_mean: bool) -> float | None:
    return None if not count else round(total / count if is_mean else total, 1)


def _capacity(cores: int, mem_gb: int, cards: int, gpumem_gb: int) -> str:
    gpus = f", {cards} GPUs of {gpumem_gb // cards} GB" if cards else ""
    return f"{cores} cores, {mem_gb} GB{gpus}"


def build(context: Context) -> Mapping[str, Any]:
    """Return the nodes that are selected, in the order that is wanted."""
    now, state = context.asker.now, context.snapshot
    expression, sort = context.get("select"), context.get("sort", "name")
    descending = context.get("order") == "desc"
    problem = ""
    try:
        test = selector(expression)
    except Exception as error:  # a bad selection shows all nodes and what is wrong with it
        problem, test = str(error), selector("")
    nodes = []
    short = {node["name"].split(".")[0] for node in state["nodes"]}
    for node in state["nodes"]:
        if test(node["name"], node["values"]):
            level = level_of(node["seen"], now)
            name = node["name"] if len(short) < len(state["nodes"]) else node["name"].split(".")[0]
            shown = {
                "short": name,
                "level": level,
                "age": age_text(node["seen"], now),
                "seen_text": _seen_text(node["seen"]),
            }
            nodes.append({**node, **shown})
    sort = sort if sort in _SORTS else "name"
    if sort != "name":
        nodes.sort(key=lambda node: _rank(node, sort, descending=descending))
    elif descending:
        nodes.reverse()
    levels = [level_of(node["seen"], now) for node in state["nodes"]]
    return {
        "title": context.known_cluster,
        "nodes": nodes,
        "total": len(state["nodes"]),
        "counts": {level: levels.count(level) for level in ("live", "stale", "offline")},
        "newest": state["newest"],
        "newest_level": level_of(state["newest"], now),
        "newest_age": age_text(state["newest"], now),
        "made": state["made"],
        "is_relative": state["is_relative"],
        "quantities": [
            q for q in QUANTITIES if any(node["values"].get(q.select) is not None for node in state["nodes"])
        ]
        or QUANTITIES[:2],
        "chart": state["chart"],
        "select": expression,
        "problem": problem,
        "sort": sort,
        "order": "desc" if descending else "asc",
        "abbreviations": ABBREVIATIONS,
        "fields": FIELDS,
    }


def _rank(node: Mapping[str, Any], sort: str, *, descending: bool) -> tuple[bool, float]:
    """Return what a node is ordered by; what is not known comes last."""
    value = node["seen"] if sort == "seen" else node["values"].get(sort)
    return value is None, (value or 0) * (-1 if descending else 1)


def _seen_text(seen: int | None) -> str:
    return "not in the last 24 hours" if seen is None else minute_text(seen)


PAGE = Page("/c/{cluster}", "overview.html", build, section="nodes", snapshot=snapshot)

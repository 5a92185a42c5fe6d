"""The page of a cluster: its nodes, how live and how loaded they are, and the load of all together.

What it shows is the same for all who watch, so it is computed once for them: see `sonar.web.snapshots`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sonar.hosts import expand
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
_OLD_S = 2 * MINUTE  # an older state is being made again while it is shown


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
_DIGITS = re.compile(r"([0-9]+)")
_GLANCE = "at-a-glance.json"
_LARGEST_REPORT = 16 << 20
_BLAMELESS = dict.fromkeys(("violators", "Violators", "zombies", "Zombies"), 0.0)
_SORTS = ("name", "seen", *(quantity.select for quantity in QUANTITIES), "users", "jobs", "violators", "zombies")


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
    judged, judged_at = _judged(asker, cluster)
    without = {name for name, node in known.items() if not node.gpu_cards}
    nodes = []
    for name in sorted({*seen, *known}, key=_by_number):
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
            **judged.get(name, {} if judged_at is None else _BLAMELESS),
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
        "judged": judged_at, "chart": _chart(loads, fields, without, now, is_relative=is_relative),
    }  # fmt: skip


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return what sorts c1-2 before c1-10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in _DIGITS.split(name)]


def mean_loads(state: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Return title, percent and meaning of the load of all nodes of a snapshot together, as far as that is relative."""
    found = []
    for quantity in QUANTITIES if state["is_relative"] else ():
        values = [v for node in state["nodes"] if (v := node["values"].get(quantity.select)) is not None]
        if values and quantity.select != "virt%":
            meaning = f"{quantity.meaning}: mean of the last half hour, over the nodes that have any"
            found.append((quantity.title, round(sum(values) / len(values)), meaning))
    return found


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


def _judged(asker: Asker, cluster: ClusterName) -> tuple[dict[str, Mapping[str, float]], int | None]:
    """Return the numbers of violators and zombies of each node, and the instant when they were found; None: never.

    They come from the public report at-a-glance, which counts jobs of the last day and names nobody.
    """
    reports = asker.clusters.reports
    path = None if reports is None else reports / cluster / "public" / _GLANCE
    rows, made = _report_rows(path) if path is not None else ([], None)
    found: dict[str, Mapping[str, float]] = {}
    for row in rows:
        violators, zombies = (_count(row.get(name)) for name in ("violators_long", "zombies_long"))
        found[str(row.get("hostname"))] = {
            "violators": violators, "Violators": violators, "zombies": zombies, "Zombies": zombies,
        }  # fmt: skip
    return found, made


def _report_rows(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    try:
        with path.open("rb") as file:
            rows = json.loads(file.read(_LARGEST_REPORT))
            made = int(path.stat().st_mtime)
    except (OSError, ValueError):
        return [], None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else [], made


def _count(value: object) -> float:
    return float(value) if isinstance(value, int) else 0.0


def _failed_gpus(asker: Asker, cluster: ClusterName) -> set[str]:
    """Return the nodes whose last word about their GPUs was that one has failed."""
    last: dict[str, str] = {}
    for row in asker.ask("uptime", cluster, {"from": ["1d"], "interval": ["5"]}).rows:
        if row["device"] == "gpu":
            last[row["host"]] = row["state"]
    return {host for host, state in last.items() if state == "down"}


def _chart(
    loads: dict[str, list[dict[str, Any]]], fields: list[str], without: set[str], now: int, *, is_relative: bool
) -> dict[str, Any]:
    """Return the mean (of shares) or the sum (of absolute values) over the nodes that reported in each half hour.

    Nodes `without` GPUs have no share in theirs.
    """
    times = list(range(now // _SLOT_S * _SLOT_S - DAY, now // _SLOT_S * _SLOT_S + 1, _SLOT_S))
    place = {time: at for at, time in enumerate(times)}
    charts = []
    for quantity, column in zip(QUANTITIES, fields, strict=True):
        is_gpu = quantity.select.startswith("gpu")
        hosts = [host for host in loads if not (is_gpu and host in without)]
        if quantity.select == "virt%" or not hosts:
            continue
        sums, counts = [0.0] * len(times), [0] * len(times)
        for host in hosts:
            for row in loads[host]:
                if (at := place.get(row["time"])) is not None:
                    counts[at] += 1
                    sums[at] += row[column]
        charts.append(
            {
                "title": quantity.title,
                "unit": "% of all" if is_relative else quantity.unit,
                "percent": is_relative,
                "meaning": quantity.meaning + (": mean of these nodes" if is_relative else ": sum over these nodes"),
                "names": [f"{len(hosts)} nodes"],
                "lines": [
                    [
                        None if not count else round(total / count if is_relative else total, 1)
                        for total, count in zip(sums, counts, strict=True)
                    ]
                ],
            }
        )
    return {"times": times, "charts": charts}


def _capacity(cores: int, mem_gb: int, cards: int, gpumem_gb: int) -> str:
    gpus = f", {cards} GPUs of {gpumem_gb // cards} GB" if cards else ""
    return f"{cores} cores, {mem_gb} GB{gpus}"


def build(context: Context) -> Mapping[str, Any]:
    """Return the nodes that are selected, in the order that is wanted."""
    now, state = context.asker.now, context.snapshot
    expression, sort = context.get("select", _default_selection(context)), context.get("sort", "name")
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
                "age": age_text(node["seen"], now).removesuffix(" ago"),
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
        "made_age": age_text(state["made"], now),
        "is_old": now - state["made"] > _OLD_S,
        "judged": state["judged"],
        "judged_age": age_text(state["judged"], now),
        "sums": {
            name: int(sum(node["values"].get(name) or 0 for node in state["nodes"]))
            for name in ("violators", "zombies")
        },
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


def _default_selection(context: Context) -> str:
    """Return the expression for the nodes that the description of the cluster begins with."""
    patterns = context.asker.clusters.describe(context.known_cluster).default_nodes
    return " or ".join(name for pattern in patterns for name in expand(pattern, wildcards=True))


def _rank(node: Mapping[str, Any], sort: str, *, descending: bool) -> tuple[bool, float]:
    """Return what a node is ordered by; what is not known comes last."""
    value = node["seen"] if sort == "seen" else node["values"].get(sort)
    return value is None, (value or 0) * (-1 if descending else 1)


def _seen_text(seen: int | None) -> str:
    return "not in the last 24 hours" if seen is None else minute_text(seen)


PAGE = Page("/c/{cluster}", "overview.html", build, section="nodes", snapshot=snapshot)

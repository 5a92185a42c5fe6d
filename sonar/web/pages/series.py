"""Load over time of one node, or of several together, as charts and as a table: what the pages of both show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.times import DAY, HOUR, MINUTE, minute_text
from sonar.web.questions import Asker

__all__ = ["RANGES", "Range", "load_of", "table_of"]


@dataclass(frozen=True, slots=True)
class Range:
    """A time to look at: its name in addresses, what it is called, its days, and the option and length of its slots."""

    name: str
    title: str
    days: int
    option: str
    slot_s: int  # 0: samples as they are


RANGES = (
    Range("moment", "24 hours, each sample", 1, "none", 0),
    Range("day", "24 hours, by the hour", 1, "hourly", HOUR),
    Range("week", "7 days, by the hour", 7, "hourly", HOUR),
    Range("month", "30 days, by the day", 30, "daily", DAY),
    Range("quarter", "90 days, by the day", 90, "daily", DAY),
)

# Title, relative and absolute field, unit of the absolute, meaning.
_CHARTS = (
    ("CPU", "rcpu", "cpu", "% of a core", "CPU time used between samples, of all cores"),
    ("Memory", "rres", "res", "GB", "resident memory of all processes, of all memory"),
    ("Virtual memory", "rmem", "mem", "GB", "virtual memory of all processes, of all memory; may be above 100 %"),
    ("GPU", "rgpu", "gpu", "% of a card", "GPU utilization, of all cards"),
    ("GPU memory", "rgpumem", "gpumem", "GB", "GPU memory in use, of that of all cards"),
)


def load_of(
    asker: Asker, cluster: ClusterName, hosts: Sequence[str], span: Range, *, group: bool = False
) -> dict[str, Any]:
    """Return what `charts.js` draws: the instants, the lines, and the times when the node was down."""
    nodes = asker.clusters.nodes(cluster)
    given = {
        "from": [f"{span.days}d"], "host": list(hosts), span.option: ["true"],
        **({"group": ["true"]} if group else {}), **({"compact": ["true"]} if span.slot_s else {}),
    }  # fmt: skip
    rows, is_relative = _rows(asker, cluster, given)
    slot = span.slot_s or _usual_step([row["time"] for row in rows])
    start, end = asker.now - span.days * DAY, asker.now
    if span.slot_s:
        times = list(range(start // slot * slot, end + 1, slot))
    else:
        times = _with_gaps([row["time"] for row in rows], start, end, slot)
    by_time = {row["time"]: row for row in rows}
    described = [nodes[host] for host in hosts if nodes and host in nodes]
    charts = []
    for title, relative, absolute, unit, meaning in _CHARTS:
        column = relative if is_relative else absolute
        values = [by_time[time][column] if time in by_time else None for time in times]
        has_gpus = any(node.gpu_cards for node in described) or any(values)
        if column.removeprefix("r").startswith("gpu") and not has_gpus:
            continue
        charts.append(
            {
                "title": title, "unit": "% of all" if is_relative else unit, "percent": is_relative,
                "meaning": meaning, "names": [", ".join(hosts)],
                "lines": [[None if value is None else round(float(value), 1) for value in values]],
            }
        )  # fmt: skip
    return {"times": times, "charts": charts, "down": [] if group else _down(asker, cluster, hosts, span)}


def table_of(chart: Mapping[str, Any]) -> list[tuple[str, list[float | None]]]:
    """Return the instants of a chart as texts with the values of all its charts, newest first, without empty rows."""
    columns = [one["lines"][0] for one in chart["charts"]]
    rows = [(minute_text(time), [column[at] for column in columns]) for at, time in enumerate(chart["times"])]
    return [row for row in reversed(rows) if any(value is not None for value in row[1])]


def _rows(asker: Asker, cluster: ClusterName, given: Mapping[str, Sequence[str]]) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of `load`, relative to what the nodes have if that is known."""
    for is_relative in (True, False):
        names = [relative if is_relative else absolute for _title, relative, absolute, *_ in _CHARTS]
        try:
            answered = asker.ask("load", cluster, {**given, "fmt": [",".join(["datetime", *names])]})
        except SonarError:
            if not is_relative:
                raise
            continue
        return answered.rows, is_relative
    return [], False


def _usual_step(times: Sequence[int]) -> int:
    """Return the usual time between two samples."""
    steps = sorted(b - a for a, b in pairwise(times) if b > a)
    return steps[len(steps) // 2] if steps else 5 * MINUTE


def _with_gaps(times: Sequence[int], start: int, end: int, step: int) -> list[int]:
    """Return the instants with one more in each gap, so that no line is drawn over it, from start to end."""
    found = [start]
    for time in times:
        if time - found[-1] > 2 * step:
            found.append(found[-1] + step)
        if time > found[-1]:
            found.append(time)
    return found if end <= found[-1] else [*found, end]


def _down(asker: Asker, cluster: ClusterName, hosts: Sequence[str], span: Range) -> list[list[int]]:
    """Return the times when the node was down."""
    interval = max(asker.clusters.describe(cluster).usual_interval_s // MINUTE, 1)
    given = {"from": [f"{span.days}d"], "host": list(hosts), "interval": [str(interval)], "only-down": ["true"]}
    rows = asker.ask("uptime", cluster, given).rows
    return [[row["start"], row["end"]] for row in rows if row["device"] == "host" and row["host"] in hosts]

"""What the page of a cluster shows: its nodes, their load over time, and the last jobs, all from the verbs.

Each number keeps the text that the verb's field gives it; nothing is computed here but ages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sonar import verbs
from sonar.config.clusters import Clusters
from sonar.names import ClusterName
from sonar.times import HOUR, MINUTE, iso_text, minute_text

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.config.nodes import Node, NodeTable

__all__ = ["Job", "NodeState", "Overview", "Quantity", "overview"]

LIVE_S = 5 * MINUTE + 30  # a sample every five minutes, sent at once
STALE_S = 15 * MINUTE
WINDOW = "1d"
MOST_JOBS = 30
MOST_LINES = 12  # of a chart; beyond that only all nodes together


@dataclass(frozen=True, slots=True)
class Quantity:
    """One of the quantities of the page: the field of `load`, what it is called, its unit and how it is computed."""

    field: str
    title: str
    unit: str
    meaning: str


_OF_CAPACITY = (
    Quantity("rcpu", "CPU", "%", "mean over half an hour of the CPU time used, of all cores of the node"),
    Quantity("rres", "Memory", "%", "mean over half an hour of resident memory, of all memory of the node"),
    Quantity("rgpu", "GPU", "%", "mean over half an hour of GPU utilization, of all cards of the node"),
    Quantity("rgpumem", "GPU memory", "%", "mean over half an hour of GPU memory used, of that of all cards"),
)
_ABSOLUTE = (
    Quantity("cpu", "CPU", "% of a core", "mean over half an hour of the CPU time used; 100 is one core"),
    Quantity("res", "Memory", "GB", "mean over half an hour of resident memory"),
    Quantity("gpu", "GPU", "% of a card", "mean over half an hour of GPU utilization; 100 is one card"),
    Quantity("gpumem", "GPU memory", "GB", "mean over half an hour of GPU memory used"),
)


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node: when it was last heard of, and its last half hour. `level` is live, stale or offline."""

    name: str
    level: str
    last_seen: str
    age: str
    capacity: str
    values: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the table of jobs, as texts."""

    cells: Mapping[str, str]
    is_running: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows."""

    cluster: str
    made: str
    newest: str
    newest_age: str
    newest_level: str
    quantities: tuple[Quantity, ...]
    is_relative: bool
    nodes: tuple[NodeState, ...]
    jobs: tuple[Job, ...]
    charts: Mapping[str, Any] = field(default_factory=dict)

    def count(self, level: str) -> int:
        """Return how many nodes are live, stale or offline."""
        return sum(node.level == level for node in self.nodes)


def overview(clusters: Clusters, cluster: ClusterName, *, now: int) -> Overview:
    """Ask the verbs for the last 24 hours of a cluster."""
    known = clusters.nodes(cluster)
    seen = {row["host"]: row["latest"] for row in _ask(clusters, cluster, "metadata", {}, None, now).to_pylist()}
    # A node that nobody described has no share of anything; then the page shows absolute values for all.
    described = known if known is not None and all(host in known for host in seen) else None
    quantities = _ABSOLUTE if described is None else _OF_CAPACITY
    options = {"half-hourly": ["true"], "compact": ["true"], "fmt": ["host,datetime," + _fields(quantities)]}
    loads = _ask(clusters, cluster, "load", options, described, now)
    newest = max(seen.values(), default=None)
    names = sorted({*seen, *(described or {})})
    return Overview(
        cluster=cluster,
        made=minute_text(now),
        newest="never" if newest is None else minute_text(newest),
        newest_age=_age_text(newest, now),
        newest_level=_level(newest, now),
        quantities=quantities,
        is_relative=described is not None,
        nodes=tuple(_node(name, seen.get(name), loads, described, quantities, now) for name in names),
        jobs=tuple(_jobs(clusters, cluster, now)),
        charts=_charts(clusters, cluster, loads, described, quantities, now),
    )


def _ask(
    clusters: Clusters,
    cluster: ClusterName,
    name: str,
    options: Mapping[str, Sequence[str]],
    nodes: "NodeTable | None",
    now: int,
) -> "pa.Table":
    """Return the rows of a verb's answer about the window of the page."""
    from sonar.verbs.parameters import query_of

    verb = verbs.verb(name)
    given = {"from": [WINDOW], **{option: list(values) for option, values in options.items()}}
    query, _ = query_of(verb, given, data=clusters.data / cluster, nodes=nodes, now=now)
    return verb.answer(query).rows


def _fields(quantities: Sequence[Quantity]) -> str:
    return ",".join(quantity.field for quantity in quantities)


def _node(
    name: str,
    seen: int | None,
    loads: "pa.Table",
    nodes: "NodeTable | None",
    quantities: Sequence[Quantity],
    now: int,
) -> NodeState:
    rows = [row for row in loads.to_pylist() if row["host"] == name] if seen is not None else []
    is_recent = bool(rows) and rows[-1]["time"] > now - HOUR
    return NodeState(
        name=name,
        level=_level(seen, now),
        last_seen="not in the last 24 hours" if seen is None else minute_text(seen),
        age=_age_text(seen, now),
        capacity=_capacity(nodes.get(name) if nodes else None),
        values={quantity.field: round(rows[-1][quantity.field]) if is_recent else None for quantity in quantities},
    )


def _capacity(node: "Node | None") -> str:
    if node is None:
        return ""
    gpus = f", {node.gpu_cards} GPUs of {node.gpumem_gb // node.gpu_cards} GB" if node.gpu_cards else ""
    return f"{node.cpu_cores} cores, {node.mem_gb} GB{gpus}"


def _level(seen: int | None, now: int) -> str:
    if seen is None or now - seen > STALE_S:
        return "offline"
    return "live" if now - seen <= LIVE_S else "stale"


def _age_text(instant: int | None, now: int) -> str:
    if instant is None:
        return "never"
    minutes = max(now - instant, 0) // MINUTE
    if minutes < 1:
        return "just now"
    hours = minutes // 60
    return f"{minutes} min ago" if hours < 1 else f"{hours} h {minutes % 60} min ago"


_JOB_FIELDS = "jobm,user,host,start,end,duration,cpu-avg,cpu-peak,res-peak,gpu-avg,gpumem-peak,cmd"


def _jobs(clusters: Clusters, cluster: ClusterName, now: int) -> list[Job]:
    """Return the jobs that were seen last, those first that still run, then those that ended last."""
    from sonar.render.formats import parse_format, texts

    verb = verbs.verb("jobs")
    fmt = parse_format(verb, f"awk,{_JOB_FIELDS}")
    rows = _ask(clusters, cluster, "jobs", {"min-samples": ["2"]}, None, now)
    rows = rows.sort_by([("end", "descending"), ("start", "descending"), ("job", "ascending")]).slice(0, MOST_JOBS)
    columns = {name.name: texts(rows, name, fmt) for name in fmt.fields}
    marks: list[Any] = rows.column("classification").to_pylist()
    return [Job({name: column[at] for name, column in columns.items()}, bool(marks[at] & 1)) for at in range(len(rows))]


def _charts(
    clusters: Clusters,
    cluster: ClusterName,
    loads: "pa.Table",
    nodes: "NodeTable | None",
    quantities: Sequence[Quantity],
    now: int,
) -> dict[str, Any]:
    """Return the lines of the charts: half hours, and a value or null for each node, or only for all together."""
    rows = loads.to_pylist()
    names = sorted({row["host"] for row in rows})
    if len(names) > MOST_LINES:
        options = {"half-hourly": ["true"], "compact": ["true"], "group": ["true"], "fmt": [_fields(quantities)]}
        rows = [row | {"host": "all nodes"} for row in _ask(clusters, cluster, "load", options, nodes, now).to_pylist()]
        names = ["all nodes"]
    slot = HOUR // 2
    end = now // slot * slot
    times = list(range(end - 48 * slot, end + 1, slot))
    values = {(row["host"], row["time"]): row for row in rows}
    return {
        "times": times,
        "from": iso_text(times[0]),
        "names": names,
        "charts": [
            {
                "title": quantity.title,
                "unit": quantity.unit,
                "percent": nodes is not None,
                "lines": [[_value(values.get((name, time)), quantity.field) for time in times] for name in names],
            }
            for quantity in quantities
        ],
    }


def _value(row: "Mapping[str, Any] | None", name: str) -> float | None:
    return None if row is None else round(float(row[name]), 1)

"""The verb config: what each node has, by the configuration file, or by what it told of itself last."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb
from sonar.verbs.node import CAPACITY_FIELDS, with_capacities

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each node, sorted by name; a node that the configuration file describes is as it says."""
    import pyarrow as pa

    from sonar.read.sysinfo import NODES
    from sonar.read.topics import newest_of_hosts

    stored = with_capacities(newest_of_hosts(query.topics.table(NODES)))
    columns = ("time", "host", "description", "cpu_cores", "mem_gb", "cards", "gpumem_gb")
    rows = {row["host"]: {**row, "gpumem_pct": False} for row in stored.select(columns).to_pylist()}
    for host, node in (query.nodes or {}).items():
        if query.filter.hosts is None or query.filter.hosts.match(host):
            rows[host] = {
                "time": None,
                "host": host,
                "description": node.description,
                "cpu_cores": node.cpu_cores,
                "mem_gb": node.mem_gb,
                "cards": node.gpu_cards,
                "gpumem_gb": node.gpumem_gb,
                "gpumem_pct": node.gpumem_pct,
            }
    schema = pa.schema([*(stored.schema.field(name) for name in columns), pa.field("gpumem_pct", pa.bool_())])
    return Result(pa.Table.from_pylist([rows[host] for host in sorted(rows)], schema))


VERB = Verb(
    name="config",
    summary="Print what each node has: the configuration file, else what it told last",
    options=(),
    fields=(
        Field("Timestamp", Kind.MINUTE, "when the node told it, UTC; empty if the configuration file says it", "time",
              aliases=("timestamp",)),
        *CAPACITY_FIELDS,
        Field("GpuMemPct", Kind.BOOL, "whether the percentage of GPU memory is believed rather than the amount",
              "gpumem_pct", aliases=("gpumempct",)),
    ),
    aliases={
        "all": ("timestamp", "host", "desc", "cores", "mem", "gpus", "gpumem", "gpumempct"),
        "All": ("Timestamp", "Hostname", "Description", "CpuCores", "MemGB", "GpuCards", "GpuMemGB", "GpuMemPct"),
    },
    default_fields="host,cores,mem,gpus,gpumem,desc",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    window_days=14,
    reads=Reads.TOPICS,
    takes_config=True,
    everyone=True,
)  # fmt: skip

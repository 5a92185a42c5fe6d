"""The verb node: what the nodes are made of, by what they told of themselves."""

from typing import TYPE_CHECKING, Any

from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.verbs.query import Query

__all__ = ["CAPACITY_FIELDS", "VERB", "with_capacities"]


def run(query: "Query") -> Result:
    """Return the descriptions of each node in the window, sorted by node and instant."""
    from sonar.read.sysinfo import NODES
    from sonar.read.topics import newest_of_hosts

    rows = query.topics.table(NODES)
    return Result(with_capacities(newest_of_hosts(rows) if query.options["newest"] else rows))


def with_capacities(nodes: "pa.Table") -> "pa.Table":
    """Return descriptions of nodes with memory in whole GB beside it in KiB."""
    import pyarrow as pa

    from sonar.read.capacities import whole_gb

    for name, source in (("mem_gb", "memory_kib"), ("gpumem_gb", "gpumem_kib")):
        column: list[Any] = nodes.column(source).to_pylist()
        gb = [whole_gb(kib) for kib in column]
        nodes = nodes.append_column(name, pa.array(gb, pa.int64()))
    return nodes


CAPACITY_FIELDS = (
    Field("Hostname", Kind.TEXT, "node", "host", aliases=("host",)),
    Field("Description", Kind.TEXT, "what the node is made of, in a line", "description", aliases=("desc",)),
    Field("CpuCores", Kind.INT, "logical cores", "cpu_cores", aliases=("cores",)),
    Field("MemGB", Kind.INT, "main memory, rounded", "mem_gb", "GB", aliases=("mem",)),
    Field("GpuCards", Kind.INT, "number of GPU cards", "cards", aliases=("gpus",)),
    Field("GpuMemGB", Kind.INT, "memory of all cards together, rounded", "gpumem_gb", "GB", aliases=("gpumem",)),
)

VERB = Verb(
    name="node",
    summary="Print what the nodes are made of, as they told it",
    options=(Option("newest", "only the newest description of each node", OptionType.FLAG),),
    fields=(
        Field("Timestamp", Kind.MINUTE, "time of the description, UTC", "time", aliases=("timestamp",)),
        *CAPACITY_FIELDS,
        Field("NumaNodes", Kind.INT, "number of NUMA nodes", "numa_nodes", aliases=("numas",)),
        Field("Sockets", Kind.INT, "number of sockets", "sockets"),
        Field("CoresPerSocket", Kind.INT, "cores of each socket", "cores_per_socket"),
        Field("ThreadsPerCore", Kind.INT, "threads of each core", "threads_per_core"),
        Field("CpuModel", Kind.TEXT, "model of the processors", "cpu_model"),
        Field("OsName", Kind.TEXT, "operating system", "os_name"),
        Field("OsRelease", Kind.TEXT, "release of the operating system", "os_release"),
        Field("Architecture", Kind.TEXT, "architecture of the machine", "architecture"),
        Field("Distances", Kind.TEXT, "distances of the NUMA nodes, a row each, divided by semicolons", "distances"),
        Field("TopoSVG", Kind.TEXT, "drawing of the machine, SVG", "topo_svg"),
        Field("TopoText", Kind.TEXT, "drawing of the machine, characters", "topo_text"),
        Field("Version", Kind.TEXT, "version of the sampler", "version"),
    ),
    aliases={
        "all": (
            "timestamp", "host", "desc", "cores", "mem", "gpus", "gpumem", "numas", "Sockets", "CoresPerSocket",
            "ThreadsPerCore", "CpuModel", "OsName", "OsRelease", "Architecture", "Distances", "Version",
        ),
        "All": (
            "Timestamp", "Hostname", "Description", "CpuCores", "MemGB", "GpuCards", "GpuMemGB", "NumaNodes",
            "Sockets", "CoresPerSocket", "ThreadsPerCore", "CpuModel", "OsName", "OsRelease", "Architecture",
            "Distances", "TopoSVG", "TopoText", "Version",
        ),
    },
    default_fields="host,cores,mem,gpus,gpumem,desc",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)  # fmt: skip

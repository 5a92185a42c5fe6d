"""The verb gpu: what the GPU cards of nodes did at each sample."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each card and sample, sorted by node, instant and card."""
    import pyarrow as pa

    from sonar.read.system import GPUS

    rows = query.topics.table(GPUS)
    card = query.options["gpu"]
    if card is not None:
        rows = rows.filter(pa.array([index == card for index in rows.column("index").to_pylist()], pa.bool_()))
    return Result(rows)


_FIELDS = (
    Field("Timestamp", Kind.MINUTE, "time of the sample, UTC", "time"),
    Field("Hostname", Kind.TEXT, "node", "host", aliases=("host",)),
    Field("Index", Kind.INT, "number of the card among those of its maker on the node", "index", aliases=("Gpu",)),
    Field("UUID", Kind.TEXT, "identifier of the card", "uuid"),
    Field("Failing", Kind.INT, "0: the card works", "failing"),
    Field("Fan", Kind.INT, "speed of the fan; may be above 100", "fan", "%"),
    Field("ComputeMode", Kind.TEXT, "how the card may be shared", "compute_mode"),
    Field("PerformanceState", Kind.INT, "0 is the fastest", "performance_state"),
    Field("Memory", Kind.INT, "memory in use", "memory_kib", "KiB"),
    Field("CEUtil", Kind.INT, "utilization of the compute elements", "ce_util", "%"),
    Field("MemoryUtil", Kind.INT, "utilization of the memory's bandwidth", "memory_util", "%"),
    Field("Temperature", Kind.INT, "temperature", "temperature", "°C"),
    Field("Power", Kind.INT, "power", "power", "W", aliases=("PowerDraw",)),
    Field("PowerLimit", Kind.INT, "power limit", "power_limit", "W"),
    Field("CEClock", Kind.INT, "clock of the compute elements", "ce_clock", "MHz"),
    Field("MemoryClock", Kind.INT, "clock of the memory", "memory_clock", "MHz"),
)

VERB = Verb(
    name="gpu",
    summary="Print what GPU cards did, sample by sample",
    options=(Option("gpu", "only the card of this number on each node", OptionType.UINT, metavar="N"),),
    fields=_FIELDS,
    aliases={},
    default_fields="Hostname,Gpu,Timestamp,Memory,PowerDraw",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)

"""The verb card: the GPU cards of the nodes, by what these told of themselves."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return the cards of each description in the window, sorted by instant and node."""
    from sonar.read.sysinfo import CARDS

    return Result(query.topics.table(CARDS))


VERB = Verb(
    name="card",
    summary="Print the GPU cards of nodes, as these told it",
    options=(),
    fields=(
        Field("Time", Kind.MINUTE, "time of the description, UTC", "time"),
        Field("Node", Kind.TEXT, "node", "host"),
        Field("Index", Kind.INT, "number of the card among those of its maker on the node", "index"),
        Field("UUID", Kind.TEXT, "identifier", "uuid"),
        Field("Address", Kind.TEXT, "address on the bus", "address"),
        Field("Manufacturer", Kind.TEXT, "maker", "manufacturer"),
        Field("Model", Kind.TEXT, "model", "model"),
        Field("Architecture", Kind.TEXT, "architecture", "architecture"),
        Field("Driver", Kind.TEXT, "version of the driver", "driver"),
        Field("Firmware", Kind.TEXT, "version of the firmware", "firmware"),
        Field("Memory", Kind.INT, "memory", "memory_kib", "KiB"),
        Field("PowerLimit", Kind.INT, "power limit", "power_limit", "W"),
        Field("MaxPowerLimit", Kind.INT, "highest power limit", "max_power_limit", "W"),
        Field("MinPowerLimit", Kind.INT, "lowest power limit", "min_power_limit", "W"),
        Field("MaxCEClock", Kind.INT, "highest clock of the compute elements", "max_ce_clock", "MHz"),
        Field("MaxMemoryClock", Kind.INT, "highest clock of the memory", "max_memory_clock", "MHz"),
    ),
    aliases={},
    default_fields="Node,Index,Manufacturer,Model,Memory",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)  # fmt: skip

"""The verb diskprof: the counters of the disks of nodes at each sample."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each disk and sample, sorted by node, instant and disk."""
    from sonar.read.system import DISKS

    return Result(query.topics.table(DISKS))


_COUNTERS = {
    "ReadsCompleted": ("reads_completed", "reads completed", ""),
    "ReadsMerged": ("reads_merged", "reads merged with others", ""),
    "SectorsRead": ("sectors_read", "sectors of 512 bytes read", ""),
    "MsReading": ("ms_reading", "time spent reading", "ms"),
    "WritesCompleted": ("writes_completed", "writes completed", ""),
    "WritesMerged": ("writes_merged", "writes merged with others", ""),
    "SectorsWritten": ("sectors_written", "sectors of 512 bytes written", ""),
    "MsWriting": ("ms_writing", "time spent writing", "ms"),
    "IOsInProgress": ("ios_in_progress", "requests in progress, at the sample", ""),
    "MsDoingIOs": ("ms_doing_ios", "time with requests in progress", "ms"),
    "WeightedMsDoingIOs": ("weighted_ms_doing_ios", "the same, times their number", "ms"),
    "DiscardsCompleted": ("discards_completed", "discards completed", ""),
    "DiscardsMerged": ("discards_merged", "discards merged with others", ""),
    "SectorsDiscarded": ("sectors_discarded", "sectors of 512 bytes discarded", ""),
    "MsDiscarding": ("ms_discarding", "time spent discarding", "ms"),
    "FlushesCompleted": ("flushes_completed", "flushes completed", ""),
    "MsFlushing": ("ms_flushing", "time spent flushing", "ms"),
}

_FIELDS = (
    Field("Timestamp", Kind.MINUTE, "time of the sample, UTC", "time"),
    Field("Hostname", Kind.TEXT, "node", "host", aliases=("host",)),
    Field("Name", Kind.TEXT, "disk", "name"),
    Field("Major", Kind.INT, "number of the device's driver", "major"),
    Field("Minor", Kind.INT, "number of the device", "minor"),
    *(Field(name, Kind.INT, f"{what} since boot", column, unit) for name, (column, what, unit) in _COUNTERS.items()),
)

VERB = Verb(
    name="diskprof",
    summary="Print the counters of the disks of nodes, sample by sample",
    options=(),
    fields=_FIELDS,
    aliases={},
    default_fields="Timestamp,Hostname,Name,MsReading,MsWriting",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)

"""The verb nodeprof: memory in use and load averages of nodes at each sample."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each sample that tells of its node, sorted by node and instant."""
    from sonar.read.system import LOADS

    return Result(query.topics.table(LOADS))


_FIELDS = (
    Field("Timestamp", Kind.MINUTE, "time of the sample, UTC", "time"),
    Field("Boot", Kind.MINUTE, "when the node booted, UTC", "boot"),
    Field("Hostname", Kind.TEXT, "node", "host", aliases=("host",)),
    Field("UsedMemory", Kind.INT, "main memory in use", "used_memory_kib", "KiB", aliases=("usedmem",)),
    Field("Load1", Kind.FLOAT, "load average over a minute", "load1", aliases=("load1",)),
    Field("Load5", Kind.FLOAT, "load average over five minutes", "load5", aliases=("load5",)),
    Field("Load15", Kind.FLOAT, "load average over a quarter of an hour", "load15", aliases=("load15",)),
    Field("RunnableEntities", Kind.INT, "threads that want to run", "runnable_entities", aliases=("runnable",)),
    Field("ExistingEntities", Kind.INT, "threads", "existing_entities", aliases=("existing",)),
)

VERB = Verb(
    name="nodeprof",
    summary="Print memory in use and load averages of nodes, sample by sample",
    options=(),
    fields=_FIELDS,
    aliases={},
    default_fields="Timestamp,Hostname,UsedMemory,Load1,Load5,RunnableEntities",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)

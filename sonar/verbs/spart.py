"""The verb spart: the partitions of the batch system and their nodes."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb
from sonar.verbs.snode import about_hosts

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each partition each time it was told, sorted by instant and partition."""
    from sonar.read.slurm import PARTITIONS

    return Result(about_hosts(query.topics.table(PARTITIONS), query.filter.hosts))


VERB = Verb(
    name="spart",
    summary="Print the partitions of the batch system and their nodes",
    options=(),
    fields=(
        Field("Timestamp", Kind.MINUTE, "time at which it was told, UTC", "time", aliases=("timestamp",)),
        Field("Partition", Kind.TEXT, "partition", "partition", aliases=("part",)),
        Field("Nodes", Kind.HOSTS, "its nodes", "nodes", aliases=("nodes",)),
    ),
    aliases={"all": ("timestamp", "part", "nodes"), "All": ("Timestamp", "Partition", "Nodes")},
    default_fields="part,nodes",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)

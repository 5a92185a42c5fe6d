"""The verb snode: the states of nodes as the batch system sees them."""

from typing import TYPE_CHECKING, Any

from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.hosts import HostPatterns
    from sonar.verbs.query import Query

__all__ = ["VERB", "about_hosts"]


def run(query: "Query") -> Result:
    """Return a row for each group of nodes in the same state each time they were told, sorted by instant."""
    from sonar.read.slurm import NODE_STATES

    return Result(about_hosts(query.topics.table(NODE_STATES), query.filter.hosts))


def about_hosts(rows: "pa.Table", hosts: "HostPatterns | None") -> "pa.Table":
    """Return the rows with at least one of the hosts among their nodes; these are not cut down to those hosts."""
    import pyarrow as pa

    if hosts is None:
        return rows
    node_lists: list[Any] = rows.column("nodes").to_pylist()
    keep = [any(map(hosts.match, nodes)) for nodes in node_lists]
    return rows.filter(pa.array(keep, pa.bool_()))


VERB = Verb(
    name="snode",
    summary="Print the states of nodes as the batch system sees them",
    options=(),
    fields=(
        Field("Timestamp", Kind.MINUTE, "time at which it was told, UTC", "time", aliases=("timestamp",)),
        Field("Nodes", Kind.HOSTS, "nodes in the same state", "nodes", aliases=("nodes",)),
        Field("States", Kind.WORDS, "their states", "states", aliases=("states",)),
    ),
    aliases={"all": ("timestamp", "nodes", "states"), "All": ("Timestamp", "Nodes", "States")},
    default_fields="nodes,states",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
)

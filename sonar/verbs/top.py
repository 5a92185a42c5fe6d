"""The verb top: how busy each core of the nodes was between samples, a character a core."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from sonar.times import minute_text
from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB"]

# Character of a core that was busy for less than this share of the time; above them all it is O.
_LEVELS = ((0.10, "."), (0.25, "o"))
_BUSIEST = "O"


def run(query: "Query") -> Result:
    """Return a row for each interval between samples of a node, at its end, sorted by node and instant."""
    import pyarrow as pa

    from sonar.read.system import CPUS

    table = query.topics.table(CPUS)
    columns = [table.column(name).to_pylist() for name in ("host", "time", "seconds")]
    rows = list(_intervals(list(zip(*columns, strict=True))))
    names = ("host", "time", "cores")
    types = (pa.string(), pa.int64(), pa.string())
    return Result(pa.table({name: pa.array([row[at] for row in rows], types[at]) for at, name in enumerate(names)}))


def _intervals(samples: list[tuple[str, int, list[int]]]) -> Iterator[tuple[str, int, str]]:
    """Yield node, end and cores of each interval; none over a boot, when counters begin anew."""
    for (host, before, used_before), (same_host, time, used) in pairwise(samples):
        if host != same_host or len(used) != len(used_before):
            continue
        spent = [now - then for now, then in zip(used, used_before, strict=True)]
        if min(spent) >= 0:
            yield host, time, "".join(_character(seconds / (time - before)) for seconds in spent)


def _character(busy: float) -> str:
    return next((character for level, character in _LEVELS if busy < level), _BUSIEST)


def write(result: Result, _fmt: "Format", out: TextIO) -> None:
    """Write a line with its name for each node, and under it a line for each interval."""
    shown = None
    for row in result.rows.to_pylist():
        if row["host"] != shown:
            shown = row["host"]
            out.write(f"HOST: {shown}\n")
        out.write(f"  {minute_text(row['time'])} {row['cores']}\n")


VERB = Verb(
    name="top",
    summary="Print how busy each core of the nodes was, a character a core",
    options=(),
    fields=(
        Field("host", Kind.TEXT, "node"),
        Field("time", Kind.MINUTE, "end of the interval, UTC"),
        Field("cores", Kind.TEXT, "a character a core: . below 10 % busy, o below 25 %, O otherwise"),
    ),
    aliases={},
    default_fields="host,time,cores",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.WINDOW | Shared.HOST,
    reads=Reads.TOPICS,
    everyone=True,
    write=write,
)

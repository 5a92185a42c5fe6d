"""What is no sample of a process: descriptions of nodes, jobs of the batch system, cards, disks. A table a topic.

A topic says which files of a log tree hold it, how their bytes become rows, and what its columns are; the readers
beside this module declare one or several each. A record that cannot be read is dropped and counted, and hurts no other.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sonar.errors import SonarError
from sonar.names import NO_SAMPLES
from sonar.read.json_objects import BadShapeError, json_values, object_of, text_of
from sonar.read.tree import file_of_host, is_json, listed_days, read_bytes
from sonar.times import day_of, parse_instant

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.hosts import HostPatterns
    from sonar.verbs.query import Window

__all__ = ["Column", "Row", "Topic", "TopicScan", "attributes_of", "newest_of_hosts", "reading_rows"]

Row: TypeAlias = dict[str, Any]

# What a column may hold. Every column may hold nulls, which stand for what was not told.
_TYPES = ("text", "whole", "number", "truth", "texts", "wholes")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a topic's table: its name, what it holds (instants are `whole`), and its meaning."""

    name: str
    type: str
    help: str

    def __post_init__(self) -> None:
        """Check the type."""
        assert self.type in _TYPES, self.type

    def arrow_type(self) -> "pa.DataType":
        """Return the type of the column."""
        import pyarrow as pa

        types: dict[str, pa.DataType] = {
            "text": pa.string(),
            "whole": pa.int64(),
            "number": pa.float64(),
            "truth": pa.bool_(),
            "texts": pa.list_(pa.string()),
            "wholes": pa.list_(pa.int64()),
        }
        return types[self.type]


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of data: its files, its reader, and its table, which has a column `time` and, of a node's, `host`."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]  # what tells one row from another, and what rows are sorted by
    # Names of files in a log tree: prefix and suffix, with the host between them if it is of a node.
    files: tuple[tuple[str, str], ...]
    read: Callable[[bytes, Counter[str]], Iterator[Row]]

    @property
    def of_hosts(self) -> bool:
        """Whether each node has its own; else it is the cluster's."""
        return any(column.name == "host" for column in self.columns)

    def host_of(self, name: str) -> str | None:
        """Return the host that a file is named after, empty for a cluster's; None if it is no file of the topic."""
        return next((host for form in self.files if (host := file_of_host(name, *form)) is not None), None)

    def files_in(self, directory: Path, names: Collection[str]) -> list[tuple[Path, str]]:
        """Return the files of the topic, each with its host, of those in a directory."""
        hosts = ((name, self.host_of(name)) for name in names)
        return [(directory / name, host) for name, host in hosts if host is not None]

    def table(self, rows: Sequence[Row]) -> "pa.Table":
        """Return rows as a table; what a row does not have is null."""
        import pyarrow as pa

        names = [column.name for column in self.columns]
        values_of = itemgetter(*names)
        try:
            listed = list(map(values_of, rows))
        except KeyError:
            nothing: Row = dict.fromkeys(names)
            listed = [values_of(nothing | row) for row in rows]
        values = zip(*listed, strict=True) if listed else ([] for _ in names)
        types = [column.arrow_type() for column in self.columns]
        return pa.table([pa.array(column, type_) for column, type_ in zip(values, types, strict=True)], names)


class TopicScan:
    """The data of any topic that a question needs to see: those of a window, from a log tree or explicit files.

    `files` has the files that were read so far, `discarded` the records dropped in them, by file and reason.
    """

    def __init__(self, data: Path | Sequence[Path], window: "Window", hosts: "HostPatterns | None" = None) -> None:
        self._data = data
        self._window = window
        self._hosts = hosts
        self.files: list[Path] = []
        self.discarded: Counter[tuple[Path, str]] = Counter()

    def table(
        self, topic: Topic, start: int | None = None, end: int | None = None, *, named: bool = False
    ) -> "pa.Table":
        """Return the rows of a topic within the window, or from `start` to `end`, sorted by its key.

        Of explicit files all are read, whatever their names, or with `named` those that are called as in a log tree.

        Of rows with the same key the first in reading order stays: JSON before CSV, then path, then line.
        """
        window = self._window
        low = start if start is not None else window.start if window.start_active else None
        high = end if end is not None else window.end if window.end_active else None
        if isinstance(self._data, Path):
            files = self._files_of(topic, window.start if low is None else low, window.end if high is None else high)
        else:
            files = [(path, "") for path in self._data if not named or topic.host_of(path.name) is not None]
            files.sort(key=lambda file: file[0].suffix != ".json")
        rows: list[Row] = []
        told: set[tuple[Any, Any]] = set()  # hosts and instants of messages: records that tell less do not count
        for path, _host in files:
            found = [row for row in self._rows(topic, path) if _within(row, low, high)]
            if path.suffix == ".json":
                told |= {_moment(row) for row in found}
            elif topic.of_hosts and told:
                found = [row for row in found if _moment(row) not in told]
            rows += found
        return _sorted(topic, rows)

    def newest(self, topic: Topic, start: int, end: int) -> "pa.Table":
        """Return the newest rows of each host from `start` to `end`: those of the last instant that it has any of."""
        if not isinstance(self._data, Path):
            return newest_of_hosts(self.table(topic, start, end, named=True))
        found: list[Row] = []
        files = sorted(self._files_of(topic, start, end), key=lambda file: file[1])
        for _host, of_host in groupby(files, key=lambda file: file[1]):
            # Days last first: most files need not be read.
            for path, _ in sorted(of_host, reverse=True):
                rows = [row for row in self._rows(topic, path) if _within(row, start, end)]
                if rows:
                    found += rows
                    break
        return newest_of_hosts(_sorted(topic, found))

    def _files_of(self, topic: Topic, start: int, end: int) -> list[tuple[Path, str]]:
        """Return the files that may hold rows of these days, and of the days beside them, in reading order."""
        assert isinstance(self._data, Path)
        if not self._data.is_dir():
            raise SonarError(f"Not a viable log directory: {self._data}")
        if start > end:
            return []
        first, last = day_of(start).toordinal() - 1, day_of(end).toordinal() + 1
        files = []
        for directory, names, noted in listed_days(self._data, first, last):
            if noted is None:
                of_day = topic.files_in(directory, names)
            else:
                of_day = noted.once(("topic", topic.name), partial(topic.files_in, directory, names))
            for path, host in of_day:
                if not topic.of_hosts or (host not in NO_SAMPLES and self._matches(host)):
                    files.append((path, host))
        return sorted(files, key=lambda file: (file[0].suffix != ".json", file[0]))

    def _rows(self, topic: Topic, path: Path) -> Iterator[Row]:
        """Yield the rows of one file."""
        content = read_bytes(path, must_exist=not isinstance(self._data, Path))
        self.files.append(path)
        dropped: Counter[str] = Counter()
        rows = topic.read(content, dropped)
        yield from (row for row in rows if self._matches(row["host"])) if topic.of_hosts else rows
        self.discarded.update({(path, reason): number for reason, number in dropped.items()})

    def _matches(self, host: str) -> bool:
        return self._hosts is None or self._hosts.match(host)


def newest_of_hosts(table: "pa.Table") -> "pa.Table":
    """Return the rows of the last instant of each host, in order."""
    import pyarrow as pa

    hosts, times = table.column("host").to_pylist(), table.column("time").to_pylist()
    last = dict(sorted(zip(hosts, times, strict=True)))  # of equal hosts the last, which is the newest
    keep = [last[host] == time for host, time in zip(hosts, times, strict=True)]
    return table.filter(pa.array(keep, pa.bool_()))


def reading_rows(
    data: bytes,
    dropped: Counter[str],
    of_json: Callable[[Any], Iterator[Row]],
    of_csv: Callable[[list[str]], Iterator[Row]],
) -> Iterator[Row]:
    """Yield the rows of a file that holds JSON values or CSV records, by its first byte; count what is bad.

    `of_json` and `of_csv` take one value, or the fields of one record, and raise BadShapeError with the reason for
    which it is dropped.
    """
    from sonar.read.records import split_records

    values: Iterator[Any]
    make: Callable[[Any], Iterator[Row]]
    if is_json(data):
        values, make = json_values(data, dropped), of_json
    else:
        values, make = split_records(data, dropped), of_csv
    for value in values:
        try:
            rows = list(make(value))
        except BadShapeError as reason:
            dropped[str(reason)] += 1
        else:
            yield from rows


def attributes_of(envelope: Any, *types: str) -> tuple[Mapping[str, Any], int, str]:
    """Return the attributes of an envelope that is of one of these types, its instant and the sender's version.

    Raise BadShapeError for anything else: an envelope may lack the type, and then the file's name has told it.
    """
    if not isinstance(envelope, dict):
        raise BadShapeError("no-envelope")
    if "errors" in envelope:
        raise BadShapeError("both-data-and-errors" if "data" in envelope else "error-record")
    data = object_of(envelope, "data")
    if text_of(data, "type") not in {"", *types}:
        raise BadShapeError("other-type")
    attributes = object_of(data, "attributes")
    time = parse_instant(text_of(attributes, "time"))
    if time is None:
        raise BadShapeError("bad-time")
    return attributes, time, text_of(object_of(envelope, "meta"), "version")


def _moment(row: Row) -> tuple[Any, Any]:
    return row.get("host"), row["time"]


def _within(row: Row, start: int | None, end: int | None) -> bool:
    return (start is None or start <= row["time"]) and (end is None or row["time"] <= end)


def _sorted(topic: Topic, rows: list[Row]) -> "pa.Table":
    """Return the rows by key, each key once."""
    key_of = itemgetter(*topic.key)
    first: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        first.setdefault(key_of(row), row)
    return topic.table([first[key] for key in sorted(first)])

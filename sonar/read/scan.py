"""The scan: which files of a log tree answer a question, and their samples as tables, host by host.

Columns, when there are any, will come in here and nowhere else: whoever asks a scan need not know what it read.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.names import NO_SAMPLES
from sonar.read.envelopes import read_envelopes
from sonar.read.rows import Rows
from sonar.read.tree import files_of_days, read_bytes
from sonar.times import DAY, day_of

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.hosts import HostPatterns

__all__ = ["LogFile", "Scan"]

_ENVELOPES_PREFIX = "0+sample-"


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One file of samples. `host` is the one it is named after; an explicit file is named after none."""

    path: Path
    host: str = ""
    explicit: bool = False

    def is_json(self, content: bytes) -> bool:
        """Whether it holds envelopes: by its name in the tree, by its name or first byte elsewhere."""
        if not self.explicit:
            return self.path.name.startswith(_ENVELOPES_PREFIX)
        return self.path.suffix == ".json" or content.lstrip()[:1] == b"{"


class Scan:
    """The samples that a question needs to see; may be read more than once.

    `discarded` counts, after reading, the records that were dropped, by file and reason.
    """

    def __init__(
        self,
        files: Sequence[LogFile],
        hosts: "HostPatterns | None" = None,
        days: tuple[int, int] | None = None,
    ) -> None:
        self._files = tuple(files)
        self._hosts = hosts
        self._days = days  # first instant of the first day, last instant of the last
        self.discarded: Counter[tuple[Path, str]] = Counter()

    @classmethod
    def of_files(cls, files: Sequence[Path], hosts: "HostPatterns | None" = None) -> "Scan":
        """Return the scan of explicit files, in this order: all records in them, whatever their time."""
        return cls([LogFile(path, explicit=True) for path in files], hosts)

    @classmethod
    def of_tree(cls, root: Path, start: int, end: int, hosts: "HostPatterns | None" = None) -> "Scan":
        """Return the scan of a cluster's tree for the records of the UTC days from that of `start` to that of `end`.

        Some senders file a record under its local date, so the directories of a day before and after are looked at
        too; what they hold of other days is left out. Raise SonarError if `root` is no directory.
        """
        if not root.is_dir():
            raise SonarError(f"Not a viable log directory: {root}")
        first, last = day_of(start).toordinal() - 1, day_of(end).toordinal() + 1
        files = _files_of_days(root, first, last, hosts) if start <= end else []
        return cls(files, hosts, (start // DAY * DAY, (end // DAY + 1) * DAY - 1))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that will be read, in reading order."""
        return tuple(file.path for file in self._files)

    def tables(self, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the samples in reading order, a table a file: JSON first, since it tells more, then path, then line."""
        self.discarded.clear()
        for table in self._wanted(self._files):
            yield table if columns is None else table.select(list(columns))

    def by_host(self, columns: Sequence[str] | None = None) -> "Iterator[tuple[str, pa.Table]]":
        """Yield each host once, ascending by name, with all its samples in reading order.

        All files are read before the first host is given: a record of any host may stand in any file.
        """
        import pyarrow as pa

        by_host: dict[str, list[pa.Table]] = {}
        for table in self.tables(columns if columns is None else [*columns, *({"host"} - set(columns))]):
            for host, of_host in _split(table):
                by_host.setdefault(host, []).append(of_host)
        for host in sorted(by_host):
            table = pa.concat_tables(by_host.pop(host)).unify_dictionaries().combine_chunks()
            yield host, table if columns is None else table.select(list(columns))

    def _wanted(self, files: Sequence[LogFile]) -> "Iterator[pa.Table]":
        """Yield the tables of files, cut to the days and hosts asked for; JSON wins over CSV per host and instant."""
        from sonar.read.tokens import Tokenizer

        tokenizer = Tokenizer()
        seen: set[tuple[str, int]] = set()
        for file in sorted(files, key=lambda file: file.path.suffix != ".json"):  # in whatever order files are named
            content = read_bytes(file.path, must_exist=file.explicit)
            dropped: Counter[str] = Counter()
            is_json = file.is_json(content)
            if is_json:
                rows = Rows()
                read_envelopes(content, rows, dropped)
                table = self._cut(rows.table())
            else:
                table = self._cut(tokenizer.table(content, dropped))
            self.discarded.update({(file.path, reason): number for reason, number in dropped.items()})
            if is_json:
                distinct = table.select(["host", "time"]).group_by(["host", "time"]).aggregate([])
                seen.update(_moments(distinct))
            elif seen:
                table = _without(table, seen)
            if len(table):
                yield table

    def _cut(self, table: "pa.Table") -> "pa.Table":
        """Return the rows within the days and of the hosts asked for."""
        import numpy as np
        import pyarrow as pa

        keep = np.ones(len(table), bool)
        if self._days is not None:
            time = table.column("time").to_numpy()
            keep &= (self._days[0] <= time) & (time <= self._days[1])
        if self._hosts is not None and len(table):
            column: Any = table.column("host").combine_chunks()
            matches = np.array([self._hosts.match(host) for host in column.dictionary.to_pylist()])
            keep &= matches[column.indices.to_numpy()]
        return table if keep.all() else table.filter(pa.array(keep))


def _without(table: "pa.Table", seen: set[tuple[str, int]]) -> "pa.Table":
    """Return the rows whose host and instant are not among those seen."""
    import pyarrow as pa

    keep = [moment not in seen for moment in _moments(table)]
    return table if all(keep) else table.filter(pa.array(keep, pa.bool_()))


def _moments(table: "pa.Table") -> Iterator[tuple[Any, Any]]:
    """Return host and instant of each row."""
    return zip(table.column("host").to_pylist(), table.column("time").to_pylist(), strict=True)


def _split(table: "pa.Table") -> "Iterator[tuple[str, pa.Table]]":
    """Yield the hosts in a table, each with its rows in order."""
    import numpy as np

    column: Any = table.column("host").combine_chunks()
    hosts = column.dictionary.to_pylist()
    if len(hosts) == 1:
        yield hosts[0], table
        return
    codes = column.indices.to_numpy()
    for code, host in enumerate(hosts):
        of_host = np.flatnonzero(codes == code)
        if len(of_host):
            yield host, table.take(of_host)


def _files_of_days(root: Path, first: int, last: int, hosts: "HostPatterns | None") -> list[LogFile]:
    """Return the files of samples in the directories of these days (proleptic ordinals), in reading order."""
    named = ((path, _host_of(path.name)) for path in files_of_days(root, first, last))
    return sorted(LogFile(path, host) for path, host in named if host and (hosts is None or hosts.match(host)))


def _host_of(name: str) -> str:
    """Return the host that a file of samples is named after; the empty text for any other file."""
    if name.startswith(_ENVELOPES_PREFIX) and name.endswith(".json"):
        return name[len(_ENVELOPES_PREFIX) : -len(".json")]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix == "csv" and stem not in NO_SAMPLES and not stem.startswith("0+") else ""

"""The scan: which samples answer a question, host by host, from columns where there are any, else from the log.

Whoever asks a scan need not know what it read: `map` runs a function on each host's samples, here or in other
processes, and gives what it returned. Hosts are independent, so this is the unit of parallel work.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sonar.errors import SonarError
from sonar.read.files import COLUMNS_NAME, DayFiles, LogFile, SampleReader, host_of, listed
from sonar.read.tree import read_bytes
from sonar.read.workers import worker_processes
from sonar.times import DAY, day_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pyarrow as pa

    from sonar.analysis.samples import Samples
    from sonar.hosts import HostPatterns
    from sonar.read.plan import Foreign, HostPlan, HostReading

__all__ = ["LogFile", "Partial", "Pieces", "Scan", "whole"]

_R = TypeVar("_R")
_T = TypeVar("_T")

Pieces: TypeAlias = "Iterable[Samples]"
"""The samples of one host in pieces, each later than the one before; may be gone through again."""

Partial: TypeAlias = "Callable[[str, Iterable[Samples]], _R | None]"
"""What is made of one host's samples: a function of the host and its pieces, that can be sent to another process."""

_TRIES = 10
_WORTH_A_PROCESS = 24 << 20  # bytes of text, or as much work; less is done before a process has started


class Scan:
    """The samples that a question needs to see; may be read more than once.

    `discarded` counts, after reading, the records that were dropped, by file and reason. `jobs` is how many processes
    may work on it; `executor`, where it is given, works instead of these.
    """

    def __init__(
        self,
        files: Sequence[LogFile],
        hosts: "HostPatterns | None" = None,
        days: tuple[int, int] | None = None,
        listed_days: "Sequence[DayFiles]" = (),
    ) -> None:
        self._files = tuple(files)
        self._listed = tuple(listed_days)
        self._columns = tuple(day.directory / COLUMNS_NAME for day in self._listed if day.has_columns)
        self._hosts = hosts
        self._days = days  # first instant of the first day, last instant of the last
        self.discarded: Counter[tuple[Path, str]] = Counter()
        self._from_plans: Counter[tuple[Path, str]] = Counter()
        self._from_texts: Counter[tuple[Path, str]] = Counter()
        self.jobs = 1
        self.executor: Executor | None = None
        self.use_columns = True
        self.use_rollups = True
        self.way = ""  # what answered: noted when a question has been

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
        days = listed(root, first, last, hosts) if start <= end else []
        files = [file for day in days for file in day.samples]
        return cls(files, hosts, (start // DAY * DAY, (end // DAY + 1) * DAY - 1), days)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that will be read, in reading order."""
        return tuple(file.path for file in self._files)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that the files of a tree are named after."""
        return frozenset(file.host for file in self._files)

    def tables(self, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the samples in reading order, a table a file: JSON first, since it tells more, then path, then line."""
        self.discarded.clear()
        for table in self._wanted(self._files):
            yield table if columns is None else table.select(list(columns))

    def by_host(self, columns: Sequence[str] | None = None) -> "Iterator[tuple[str, pa.Table]]":
        """Yield each host once, ascending by name, with all its samples.

        Memory holds all of them. Of samples that could be equal the one read first comes first.
        """
        for host, table in self.map(whole, columns):
            if table is not None:
                yield host, table if columns is None else table.select(list(columns))

    def map(self, partial_of: "Partial[_R]", columns: Sequence[str] | None = None) -> list[tuple[str, _R]]:
        """Return what the function makes of each host's samples, ascending by host.

        It gets pieces with these columns at least, each later than the one before; so what it keeps decides how much
        memory is needed. A host for which it returns None is left out. Of samples that could be equal the one read
        first comes first. Where samples of a host turn out to stand in a file of another, it is called for that host
        again, with all of them.
        """
        from sonar.read.schema import COLUMNS

        self.discarded.clear()
        names = tuple(COLUMNS if columns is None else dict.fromkeys([*columns, "host", "time"]))
        if self._days is None:
            from sonar.analysis.samples import samples_of

            found = [(host, partial_of(host, [samples_of(table)])) for host, table in self._of_explicit_files(names)]
            return [(host, result) for host, result in found if result is not None]
        for _ in range(_TRIES):
            try:
                return self._map_tree(partial_of, names)
            except _ChangedError:
                self.discarded.clear()
        raise SonarError("The columns change all the time")

    def plans(self) -> "dict[str, HostPlan] | None":
        """Return what is to be read for each host; None for explicit files, or if columns are not to be used."""
        from sonar.read.plan import plans_of

        if self._days is None or not self.use_columns or not self._columns:
            return None
        plans, self._from_plans = plans_of(self._listed, self._days, self._hosts)
        self._from_texts.clear()
        self.discarded = self._from_plans.copy()
        return plans

    def map_plans(
        self, partial_of: "Partial[_R]", columns: Sequence[str], plans: "Mapping[str, HostPlan]"
    ) -> tuple[dict[str, _R | None], bool]:
        """Return what the function makes of each planned host, None included, and whether all samples were their own.

        If not, samples of some host stood in the file of another, or columns were replaced meanwhile: use `map`.
        """
        names = tuple(dict.fromkeys([*columns, "host", "time"]))
        results: dict[str, _R | None] = {}
        is_clean = True
        try:
            for outcome in self._run(partial(_partial_answers, partial_of, names, self._hosts), list(plans.values())):
                results.update(dict.fromkeys(outcome.empty) | outcome.results)
                self._from_texts |= outcome.dropped  # of what is read twice, once
                is_clean &= not outcome.foreign
        except _ChangedError:
            return {}, False
        self.discarded = self._from_plans + self._from_texts
        return results, is_clean

    def each(self, work: "Callable[[_T], _R]", portions: "Sequence[_T]", cost: int) -> "Iterator[_R]":
        """Yield what a function makes of each portion, in order; the cost of all is in bytes of text that cost as much.

        The function has to be one that can be sent to another process.
        """
        jobs = min(self.jobs, 1 + cost // _WORTH_A_PROCESS, len(portions))
        if self.executor is None and jobs <= 1:
            yield from map(work, portions)
            return
        with worker_processes(1 if self.executor is not None else jobs) as pool:
            executor = self.executor or pool
            assert executor is not None
            yield from executor.map(work, portions)

    def _map_tree(self, partial_of: "Partial[_R]", names: tuple[str, ...]) -> list[tuple[str, _R]]:
        from sonar.read.plan import plans_of

        assert self._days is not None
        plans, self.discarded = plans_of(self._listed, self._days, self._hosts, use_columns=self.use_columns)
        from_columns = sum(day.columns is not None for plan in plans.values() for day in plan.days)
        texts = sum(len(day.texts) for plan in plans.values() for day in plan.days)
        self.way = f"columns of {from_columns} days of hosts, {texts} files of the log"
        results: dict[str, _R] = {}
        foreign: dict[str, list[Foreign]] = {}
        work = partial(_partial_answers, partial_of, names, self._hosts)
        for outcome in self._run(work, list(plans.values())):
            results.update(outcome.results)
            self.discarded.update(outcome.dropped)
            for host, rows in outcome.foreign.items():
                foreign.setdefault(host, []).extend(rows)
        for host, rows in foreign.items():
            plan = plans.get(host) or _empty_plan(host, self._days)
            results.update(work([plan], rows).results)
        return [(host, results[host]) for host in sorted(results)]

    def _run(self, work: "Callable[[list[HostPlan]], _Outcome]", plans: "list[HostPlan]") -> "Iterator[_Outcome]":
        """Yield the outcome of all plans, some at a time."""
        cost = sum(plan.size for plan in plans)
        jobs = min(self.jobs, 1 + cost // _WORTH_A_PROCESS, len(plans))
        if self.executor is None and jobs <= 1:
            for plan in plans:
                yield work([plan])
            return
        # Small portions, so that all processes end at about the same time, but no smaller than is worth sending one.
        at_once = max(1, min(len(plans) // (max(jobs, 4) * 8), len(plans) * _WORTH_A_PROCESS // max(cost, 1)))
        portions = [plans[at : at + at_once] for at in range(0, len(plans), at_once)]
        with worker_processes(1 if self.executor is not None else jobs) as pool:
            executor = self.executor or pool
            assert executor is not None
            yield from executor.map(work, portions)

    def _of_explicit_files(self, names: Sequence[str]) -> "Iterator[tuple[str, pa.Table]]":
        """Yield each host with its samples; a record of any host may stand in any file, so all are read first."""
        import pyarrow as pa

        by_host: dict[str, list[pa.Table]] = {}
        for table in self._wanted(self._files):
            for host, of_host in _split(table.select(list(names))):
                by_host.setdefault(host, []).append(of_host)
        for host in sorted(by_host):
            yield host, pa.concat_tables(by_host.pop(host)).unify_dictionaries().combine_chunks()

    def _wanted(self, files: Sequence[LogFile]) -> "Iterator[pa.Table]":
        """Yield the tables of files, cut to the days and hosts asked for; JSON wins over CSV per host and instant."""
        reader = SampleReader()
        seen: set[tuple[str, int]] = set()
        removed = self._removed_files()
        in_order = sorted([*files, *removed]) if removed else files  # explicit files in whatever order they are named
        for file in sorted(in_order, key=lambda file: file.path.suffix != ".json"):
            if file in removed:
                is_json, table = file.path.suffix == ".json", self._cut(removed[file])
            else:
                content = read_bytes(file.path, must_exist=file.explicit)
                dropped: Counter[str] = Counter()
                is_json = file.is_json(content)
                table = self._cut(reader.table(content, is_json=is_json, dropped=dropped))
                self.discarded.update({(file.path, reason): number for reason, number in dropped.items()})
            if is_json:
                distinct = table.select(["host", "time"]).group_by(["host", "time"]).aggregate([])
                seen.update(_moments(distinct))
            elif seen:
                table = _without(table, seen)
            if len(table):
                yield table

    def _removed_files(self) -> "dict[LogFile, pa.Table]":
        """Return what columns have of files that are no longer in the log."""
        from sonar.read.columns import open_columns

        removed = {}
        for path in self._columns:
            columns = open_columns(path)
            for name, table in columns.removed() if columns else ():
                host = host_of(name)
                if self._hosts is None or self._hosts.match(host):
                    removed[LogFile(path.parent / name, f"{host} (removed)")] = table
        return removed

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


class _ChangedError(Exception):
    """Columns were replaced after the plan had been made."""


@dataclass(slots=True)
class _Outcome:
    """What became of some plans: results by host, rows of hosts that stood in other hosts' files, dropped records."""

    results: dict[str, Any] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    foreign: "dict[str, list[Foreign]]" = field(default_factory=dict)
    dropped: Counter[tuple[Path, str]] = field(default_factory=Counter)


_reader: SampleReader | None = None


def _partial_answers(
    partial_of: "Partial[Any]",
    names: tuple[str, ...],
    hosts: "HostPatterns | None",
    plans: "Sequence[HostPlan]",
    foreign: "Sequence[Foreign]" = (),
) -> _Outcome:
    """Return the outcome of some plans; a host without samples has no result."""
    global _reader  # noqa: PLW0603 -- what it has learned from one file helps with the next
    from sonar.read.plan import ColumnsChangedError, HostReading

    if _reader is None:
        _reader = SampleReader()
    outcome = _Outcome()
    for plan in plans:
        pieces = _HostPieces(lambda plan=plan: HostReading(plan, names, _reader, foreign, hosts))  # type: ignore[misc]
        try:
            result = partial_of(plan.host, pieces)
            if pieces.reading is None:
                for _ in pieces:
                    pass
        except ColumnsChangedError:
            raise _ChangedError from None
        if result is not None:
            outcome.results[plan.host] = result
        else:
            outcome.empty.append(plan.host)
        assert pieces.reading is not None
        outcome.dropped.update(pieces.reading.dropped)
        for host, rows in pieces.reading.foreign.items():
            outcome.foreign.setdefault(host, []).extend(rows)
    return outcome


class _HostPieces:
    """The samples of a host, which may be gone through again; what the first time brings to light counts."""

    def __init__(self, new_reading: "Callable[[], HostReading]") -> None:
        self._new_reading = new_reading
        self.reading: HostReading | None = None

    def __iter__(self) -> "Iterator[Samples]":
        reading = self._new_reading()
        pieces = reading.pieces()
        try:
            yield from pieces
        finally:
            if self.reading is None:
                for _ in pieces:  # what is not wanted may hold rows of others
                    pass
                self.reading = reading


def whole(_host: str, pieces: Pieces) -> "pa.Table | None":
    """Return the samples of a host as one table; None if there are none."""
    from sonar.analysis.samples import concatenated, table_of

    parts = list(pieces)
    return table_of(concatenated(parts)) if parts else None


def _empty_plan(host: str, days: tuple[int, int]) -> "HostPlan":
    from sonar.read.plan import HostPlan

    return HostPlan(host, (), days)


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

"""Roll-ups: summaries of the columns of a day, so that jobs and load over months read a hundredth of them.

`0+rollup-NAME.arrow` lie beside the columns they were made of, and say so: of other columns they are none. They hold
what the verbs look at by default, without shells and session keepers; hosts whose samples cannot be summarized are left
out, and are answered from columns. Rows are sorted by host, some hosts a record batch, so that many days can be gone
through some hosts at a time. They are streams of Arrow, since Parquet takes four times as long to decode so many small
columns, and is no smaller.

| name        | a row is                                                                                |
|-------------|-----------------------------------------------------------------------------------------|
| runs        | a run of the sampler on a host, and whether it told of failed GPUs: 0 no, 1 yes, 2 both; |
|             | in its metadata those of the columns once more, in short, and the hosts of each roll-up |
| jobs        | a job, or a stream without one: what it comes to                                        |
| jobs-heads, jobs-parts | details of jobs that go on in another day; those at the edges come first     |
| load-heads, load-slots | first samples of streams; half hours                                         |
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.combine import passing_jobs
from sonar.analysis.exact import PEAKS, SUMMED, Columns, joined_columns, ranges
from sonar.analysis.rows import HostRows, rows_of_hosts
from sonar.analysis.samples import of_hosts
from sonar.analysis.select import DEFAULT_EXCLUSIONS, RecordFilter
from sonar.analysis.summary import Details, Summaries, summary_of
from sonar.places import files_in
from sonar.read.batches import opened_batches, write_batches
from sonar.read.columns import IDENTITY_KEY, METADATA_KEY, ColumnsFile, Identity, open_columns
from sonar.read.files import COLUMNS_NAME, ROLLUP_PREFIX, ROLLUP_SUFFIX, is_derived
from sonar.read.plan import ColumnsChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from sonar.analysis.samples import Samples

__all__ = [
    "VERBS",
    "DayRollup",
    "DayRuns",
    "Rollups",
    "forget_rollups",
    "has_rollups",
    "open_rollup",
    "open_runs",
    "portions_of",
]

_METADATA_KEY = b"sonar-rollup"
_FORMAT = 4
_TABLES = {"jobs": ("jobs", "jobs-heads", "jobs-parts"), "load": ("load-heads", "load-slots")}
VERBS = tuple(_TABLES)
"""The verbs that have roll-ups."""

_TEXTS = {"users": "user", "cmds": "cmd"}  # columns of texts, by their name as sets

_PORTION_ROWS = 1 << 18  # of columns that are summarized at once
_HOSTS_AT_ONCE = 25  # in a record batch


@dataclass(frozen=True, slots=True)
class DayRuns:
    """The runs of each host on a day, ascending; `failed` is 0 without, 1 with a failed GPU, 2 for both at once."""

    time: dict[str, np.ndarray]
    failed: dict[str, np.ndarray]


@dataclass(slots=True)
class DayRollup:
    """The roll-up of one day for a verb, of which some hosts are read at a time, or all are kept."""

    verb: str
    directory: Path
    columns: Identity  # that it was made of
    hosts: dict[str, int]  # in the order of the rows
    _kept: "dict[str, _Table] | None" = None
    _by_job: dict[str, np.ndarray] = field(default_factory=dict)  # of tables that are kept, the order of rows by job

    def keep(self) -> None:
        """Read all, and keep it in memory, unless it has been replaced."""
        if self._kept is None and self.hosts:
            with suppress(ColumnsChangedError):
                first, *details = _TABLES[self.verb]
                # A column in one piece is not copied each time that it becomes an array.
                kept = {name: self._table(name, (0, len(self.hosts))).in_one_piece() for name in (first, *details)}
                if self.verb == "jobs":
                    kept[first] = kept[first].coded("users")
                    self._by_job = {name: np.argsort(kept[name].values("job"), kind="stable") for name in details}
                self._kept = kept

    def summaries(self, hosts: frozenset[str], records: RecordFilter | None = None) -> Summaries | None:
        """Return the summaries of some hosts, and perhaps of others, without runs and extents.

        With a filter by user and job only what passes; None if a job has samples of users who pass and of others.
        Raise ColumnsChangedError if the roll-up has been replaced.
        """
        wanted = self._range(hosts)
        first, *details = _TABLES[self.verb]
        table = self._table(first, wanted)
        if records is None:
            found = replace(self._nothing(table), sets=table.sets())
            for name in _TABLES[self.verb]:
                rows = table if name == first else self._table(name, wanted)
                found = replace(found, **{_member(name): rows.columns()})  # type: ignore[arg-type]
            return found
        coded = table.coded("users")["users"]
        passing = passing_jobs(coded.dictionary.to_pylist(), coded.indices.to_numpy(), table.values("job"), records)
        if passing is None:
            return None
        found = replace(self._nothing(table), jobs=table.columns(passing), sets=table.sets(passing))
        detailed = found.jobs["job"][found.jobs["detailed"]] if len(passing) else passing
        if len(detailed) == 0:
            return found
        numbers = np.unique(detailed)
        for name in details:
            found = replace(found, **{_member(name): self._of_jobs(name, numbers, wanted)})  # type: ignore[arg-type]
        return found

    def every(self, hosts: frozenset[str]) -> Summaries:
        """Return the summaries of some hosts, and perhaps of others, with details of every job."""
        heads, parts = (
            _read(self.directory, f"jobs-{name}", self.columns, self._range(hosts), every=True)
            for name in ("heads", "parts")
        )
        return replace(self._nothing(heads), heads=heads.columns(), parts=parts.columns())

    def _range(self, hosts: frozenset[str]) -> tuple[int, int]:
        """Return the numbers of the first and the last of some hosts."""
        numbers = [self.hosts[host] for host in hosts]
        return min(numbers), max(numbers)

    def _table(self, name: str, hosts: tuple[int, int]) -> "_Table":
        """Return the rows of the hosts from the first to the last."""
        if self._kept is not None:
            return self._kept[name].of_hosts(hosts)
        return _read(self.directory, name, self.columns, hosts).of_hosts(hosts)

    def _of_jobs(self, name: str, numbers: np.ndarray, hosts: tuple[int, int]) -> Columns:
        """Return the rows of a table that are of these jobs, which ascend, and of hosts from the first to the last."""
        if self._kept is None:
            table = self._table(name, hosts)
            return table.columns(np.flatnonzero(np.isin(table.values("job"), numbers)))
        table, order = self._kept[name], self._by_job[name]
        job = table.values("job")
        low, high = (np.searchsorted(job, numbers, side, sorter=order) for side in ("left", "right"))
        at = np.sort(order[ranges(low, high - low)])
        host = table.values("host")[at]
        return table.columns(at[(hosts[0] <= host) & (host <= hosts[1])])

    def _nothing(self, table: "_Table") -> Summaries:
        return Summaries(list(self.hosts), table.about["words"], {}, {}, {}, {}, {}, {}, {})


def _member(table: str) -> str:
    """Return what summaries call the rows of a table."""
    return table.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of one table as they lie in its file, and what that says of itself."""

    rows: "pa.Table"
    about: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.rows.column(name).combine_chunks()

    def of_hosts(self, hosts: tuple[int, int]) -> "_Table":
        """Return the rows, which are sorted by host, of hosts from the first to the last."""
        if len(self.rows) == 0:
            return self
        low, high = np.searchsorted(self.values("host"), [hosts[0], hosts[1] + 1]).tolist()
        return self if high - low == len(self.rows) else _Table(self.rows.slice(low, high - low), self.about)

    def in_one_piece(self) -> "_Table":
        """Return the same rows in memory of their own."""
        return _Table(self.rows.combine_chunks(), self.about)

    def coded(self, name: str) -> "_Table":
        """Return the same with each text of a column once."""
        import pyarrow as pa

        texts = self[name]
        if pa.types.is_dictionary(texts.type):
            return self
        at = self.rows.column_names.index(name)
        return _Table(self.rows.set_column(at, name, texts.dictionary_encode()), self.about)

    def values(self, name: str) -> np.ndarray:
        """Return a column of numbers, which may be narrower than it was; without rows there may be no such column."""
        if name in self.about["constants"]:
            return np.broadcast_to(np.asarray(self.about["constants"][name], self.about["types"][name]), len(self.rows))
        if name not in self.about["types"]:
            return np.zeros(0, np.int64)
        return self.rows.column(name).to_numpy()

    def columns(self, rows: np.ndarray | None = None) -> Columns:
        """Return all rows, or some; a text has the number of its row as its code."""
        columns: Columns = {}
        for name, kind in self.about["types"].items():
            values = self.values(name)
            columns[name] = (values if rows is None else values[rows]).astype(kind, copy=False)
        for name in self.about["texts"]:
            columns[name] = np.arange(len(self.rows) if rows is None else len(rows))
        for name, members in (("sums", SUMMED), ("peaks", PEAKS)):
            if f"{name}.{members[0]}" in columns:
                columns[name] = np.array([columns.pop(f"{name}.{member}") for member in members])
        return columns

    def sets(self, rows: np.ndarray | None = None) -> "dict[str, pa.Array[Any]]":
        """Return the texts of all rows, or of some."""
        import pyarrow as pa

        found = {}
        for name in self.about["texts"]:
            texts = self[name] if rows is None else self[name].take(pa.array(rows))
            found[_TEXTS[name]] = texts.dictionary_decode() if pa.types.is_dictionary(texts.type) else texts
        return found


def _read(directory: Path, name: str, columns: Identity, hosts: tuple[int, int], *, every: bool = False) -> _Table:
    """Return a table of the roll-ups of these columns: the rows of the hosts with these numbers, and some others.

    Of details those at the edges only, unless every row is wanted. Raise ColumnsChangedError if there is none.
    """
    try:
        with opened_batches(_path(directory, name)) as file:
            about = _about(file.metadata, columns)
            groups = [
                number
                for number, (first, last) in enumerate(about["groups"])
                if first <= hosts[1] and last >= hosts[0] and (every or number < about["edges"])
            ]
            return _Table(file.table(groups), about)
    except (OSError, ValueError, KeyError):
        raise ColumnsChangedError from None


def portions_of(columns: ColumnsFile, hosts: "list[str]") -> "Iterator[tuple[str, ...]]":
    """Yield hosts in portions of about as many rows as are best worked on at once."""
    portion: list[str] = []
    rows = 0
    for host in hosts:
        portion.append(host)
        rows += columns.facts.hosts[host].rows
        if rows >= _PORTION_ROWS:
            yield tuple(portion)
            portion, rows = [], 0
    if portion:
        yield tuple(portion)


class Rollups:
    """The roll-ups of a day in the making, while the samples of its hosts come by."""

    def __init__(self) -> None:
        self._found: dict[str, list[Summaries]] = {verb: [] for verb in _TABLES}
        self._runs: list[Columns] = []
        self._hosts: list[str] = []

    def add(self, samples: "Samples", alone: "Sequence[str]") -> None:
        """Add all samples of some hosts, sorted by host, stream and time; those of one source alone are summarized."""
        self._runs.append(_runs(samples, len(self._hosts)))
        self._hosts += samples.words["host"]
        if not alone:
            return
        together = samples if len(alone) == len(samples.words["host"]) else of_hosts(samples, alone)
        rows: dict[frozenset[str], list[HostRows]] = {}  # by the commands that are left out, as far as there are such
        for verb, parts in self._found.items():
            excluded = DEFAULT_EXCLUSIONS[verb].intersection(samples.words["cmd"])
            if excluded not in rows:
                rows[excluded] = list(_rows(together, RecordFilter(exclude_commands=excluded)))
            parts += [
                summary_of(one, None, jobs=verb == "jobs", details=Details.APART, brief=True) for one in rows[excluded]
            ]

    def write(self, directory: Path, identity: Identity) -> None:
        """Write them beside the columns that they are of. Raise OSError for what cannot be written."""
        about: dict[str, Any] = {"format": _FORMAT, "columns": list(identity)}
        rolled = {verb: _write_verb(directory, verb, parts, about) for verb, parts in self._found.items()}
        columns = open_columns(directory / COLUMNS_NAME, identity)
        also: dict[bytes, Any] = (
            {} if columns is None else {METADATA_KEY: columns.facts.encoded(), IDENTITY_KEY: json.dumps(identity)}
        )
        runs = joined_columns(self._runs) if self._runs else {}
        _write(_path(directory, "runs"), about | {"hosts": self._hosts, "rolled": rolled}, runs, also=also)
        for name in files_in(directory):  # of an older format
            if is_derived(name) and name.startswith(ROLLUP_PREFIX) and not name.endswith(ROLLUP_SUFFIX):
                (directory / name).unlink(missing_ok=True)


def _rows(samples: "Samples", records: RecordFilter) -> "Iterator[HostRows]":
    """Yield the rows of some hosts at once, if they all can be summarized, else of one host each that can be."""
    rows = rows_of_hosts(samples, records, None)
    if rows is not None:
        yield rows
    elif len(samples.words["host"]) > 1:
        for host in samples.words["host"]:
            yield from _rows(of_hosts(samples, [host]), records)


def _runs(samples: "Samples", before: int) -> Columns:
    """Return the runs of some hosts, before which there were others."""
    origin = samples["time"].min()
    span = samples["time"].max() - origin + 1
    # Host, instant and failure as one number.
    place = np.sort(((samples["host"] + before) * span + samples["time"] - origin) * 2 + (samples["gpufail"] != 0))
    place, failed = place >> 1, (place & 1).astype(bool)
    host, time = np.divmod(place, span)
    time += origin
    starts = np.flatnonzero(np.append(True, (host[1:] != host[:-1]) | (time[1:] != time[:-1])))
    last = np.append(starts[1:], len(host)) - 1
    return {
        "host": host[starts],
        "time": time[starts],
        "failed": failed[last].astype(np.int8) + (failed[last] & ~failed[starts]),
    }


def _write_verb(directory: Path, verb: str, parts: list[Summaries], about: dict[str, Any]) -> list[str]:
    """Write the tables of a verb, with the words of all parts; return their hosts."""
    from sonar.analysis.combine import together

    found = together(parts)
    about = about | {"words": found.words}
    if verb == "load":
        _write(_path(directory, "load-heads"), about, found.heads)
        _write(_path(directory, "load-slots"), about, found.slots)
        return found.hosts
    _write(_path(directory, "jobs"), about, found.jobs, sets=found.sets)
    others = found.others or ({}, {})
    _write(_path(directory, "jobs-heads"), about, found.heads, others[0])
    _write(_path(directory, "jobs-parts"), about, found.parts, others[1])
    return found.hosts


def open_rollup(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    """Return the roll-up that was made for a verb of these columns; None if there is none."""
    return _opened(directory, verb, identity)


def open_runs(directory: Path, identity: Identity) -> DayRuns | None:
    """Return the runs in these columns; None if there is no table of them."""
    return _opened_runs(directory, identity)


def has_rollups(directory: Path, identity: Identity) -> bool:
    """Whether there are roll-ups of these columns; the table of runs is written last."""
    return _about_runs(directory, identity) is not None


def forget_rollups() -> None:
    """Give up the memory that roll-ups take."""
    _opened.cache_clear()
    _opened_runs.cache_clear()


@lru_cache(maxsize=512)
def _opened(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    about = _about_runs(directory, identity)
    if about is None:
        return None
    return DayRollup(verb, directory, identity, {host: code for code, host in enumerate(about["rolled"][verb])})


@lru_cache(maxsize=128)
def _opened_runs(directory: Path, identity: Identity) -> DayRuns | None:
    about = _about_runs(directory, identity)
    if about is None:
        return None
    try:
        table = _read(directory, "runs", identity, (0, len(about["hosts"])))
    except ColumnsChangedError:
        return None
    bounds = np.searchsorted(table.values("host"), np.arange(len(about["hosts"]) + 1))
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
    for values, name in zip(found, ("time", "failed"), strict=True):
        of_all = table.values(name).astype(table.about["types"].get(name, "int64"), copy=False)
        for at, host in enumerate(about["hosts"]):
            values[host] = of_all[bounds[at] : bounds[at + 1]]
    return DayRuns(*found)


def _about_runs(directory: Path, identity: Identity) -> dict[str, Any] | None:
    """Return what the table of the runs in these columns says of itself; None if there is none."""
    try:
        with opened_batches(_path(directory, "runs")) as file:
            return _about(file.metadata, identity)
    except (OSError, ValueError, KeyError):
        return None


def _path(directory: Path, name: str) -> Path:
    return directory / f"{ROLLUP_PREFIX}{name}{ROLLUP_SUFFIX}"


def _narrow(values: np.ndarray) -> np.ndarray:
    """Return numbers as they take less room: whole ones as such, and of 32 bits if they fit."""
    if values.dtype == np.float64:
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if not np.array_equal(whole, values) or np.signbit(values[whole == 0]).any():
            return values
        values = whole
    if values.dtype == np.int64 and len(values) and values.min() >= -(1 << 31) and values.max() < 1 << 31:
        return values.astype(np.int32)
    return values


def _write(
    path: Path,
    about: dict[str, Any],
    rows: Columns,
    others: Columns | None = None,
    *,
    sets: "dict[str, pa.Array[Any]] | None" = None,
    also: "Mapping[bytes, bytes | str] | None" = None,
) -> None:
    """Write rows, and behind them others; columns of one value are in the metadata, with the types of all."""
    import pyarrow as pa

    parts = [_by_host(part) for part in (rows, others) if part]
    rows = joined_columns([part for part, _ in parts]) if parts else {}
    texts = (
        {name: sets[of_set].take(pa.array(rows.pop(name), pa.int64())) for name, of_set in _TEXTS.items()}
        if sets and rows
        else {}
    )
    flat: dict[str, np.ndarray] = {}
    for name, values in rows.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            for place, of_row in enumerate(SUMMED if name == "sums" else PEAKS):
                flat[f"{name}.{of_row}"] = values[place]
    size = len(next(iter(flat.values()), ()))
    constants = {
        name: values[0].item()
        for name, values in flat.items()
        if size and name != "host" and np.all(values == values[0])
    }
    types = {name: str(values.dtype) for name, values in flat.items()}
    stored: dict[str, Any] = {name: _narrow(values) for name, values in flat.items() if name not in constants}
    table = pa.table(stored | texts or {"none": np.zeros(size, np.int8)})
    groups = [group for _, of_part in parts for group in of_part]
    edges = len(parts[0][1]) if parts else 0
    facts = {
        "groups": [group[:2] for group in groups],
        "edges": edges,
        "texts": list(texts),
        "types": types,
        "constants": constants,
    }
    metadata: dict[Any, Any] = {_METADATA_KEY: json.dumps(about | facts), **(also or {})}
    write_batches(path, table, [length for *_, length in groups], metadata)


def _by_host(rows: Columns) -> tuple[Columns, list[tuple[int, int, int]]]:
    """Return rows sorted by host, and for each group of them the first and last of its hosts, and their number."""
    order = np.argsort(rows["host"], kind="stable")
    rows = {name: values[..., order] for name, values in rows.items()}
    hosts = int(rows["host"][-1]) + 1 if len(order) else 0
    starts = range(0, hosts, _HOSTS_AT_ONCE)
    ends = np.searchsorted(rows["host"], [*starts, hosts])
    groups = [
        (first, min(first + _HOSTS_AT_ONCE, hosts) - 1, int(high - low))
        for first, low, high in zip(starts, ends, ends[1:], strict=False)
        if high > low
    ]
    return rows, groups


def _about(metadata: "Mapping[bytes, bytes]", identity: Identity) -> dict[str, Any]:
    """Return what a roll-up says of itself. Raise ValueError if it is one of other columns."""
    about: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
    if about["format"] != _FORMAT or tuple(about["columns"]) != identity:
        raise ValueError("of other columns")
    return about

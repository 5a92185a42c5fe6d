"""Roll-ups: summaries of the columns of a day, so that jobs and load over months read a hundredth of them.

`0+rollup-NAME.parquet` lie beside the columns they were made of, and say so: of other columns they are none. They hold
what the verbs look at by default, without shells and session keepers; hosts whose samples cannot be summarized are left
out, and are answered from columns. Rows are sorted by host, some hosts a row group, so that many days can be gone
through some hosts at a time.

| name        | a row is                                                                                |
|-------------|-----------------------------------------------------------------------------------------|
| runs        | a run of the sampler on a host, and whether it told of failed GPUs: 0 no, 1 yes, 2 both; |
|             | in its metadata those of the columns once more, in short                                |
| jobs        | a job, or a stream without one: what it comes to                                        |
| jobs-heads, jobs-parts | details of jobs that go on in another day; those at the edges come first     |
| load-heads, load-slots | first samples of streams; half hours                                         |
"""

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.combine import filtered_summaries
from sonar.analysis.exact import PEAKS, SUMMED, Columns, joined_columns, ranges
from sonar.analysis.rows import HostRows, rows_of_hosts
from sonar.analysis.samples import of_hosts
from sonar.analysis.select import DEFAULT_EXCLUSIONS, RecordFilter
from sonar.analysis.summary import Details, Summaries, summary_of
from sonar.places import parquet_source, publishing, telling
from sonar.read.columns import IDENTITY_KEY, METADATA_KEY, ColumnsFile, Identity, identity_of, open_columns
from sonar.read.files import COLUMNS_NAME, ROLLUP_PREFIX
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
_FORMAT = 3
_TABLES = {"jobs": ("jobs", "jobs-heads", "jobs-parts"), "load": ("load-heads", "load-slots")}
VERBS = tuple(_TABLES)
"""The verbs that have roll-ups."""

_TEXTS = {"users": "user", "cmds": "cmd"}  # columns of texts, by their name as sets

_PORTION_ROWS = 1 << 18  # of columns that are summarized at once
_HOSTS_AT_ONCE = 25  # in a row group


@dataclass(frozen=True, slots=True)
class DayRuns:
    """The runs of each host on a day, ascending; `failed` is 0 without, 1 with a failed GPU, 2 for both at once."""

    time: dict[str, np.ndarray]
    failed: dict[str, np.ndarray]


@dataclass(slots=True)
class DayRollup:
    """The roll-up of one day for a verb, of which some hosts are read at a time, or all are kept."""

    verb: str
    hosts: dict[str, int]  # in the order of the rows
    words: dict[str, list[str]]
    tables: "dict[str, _Table]"
    _kept: Summaries | None = None
    _by_job: dict[str, np.ndarray] = field(default_factory=dict)  # of tables that are kept, the order of rows by job

    def keep(self) -> None:
        """Read all, and keep it in memory."""
        if self._kept is None and self.hosts:
            self._kept = kept = self.summaries(frozenset(self.hosts))
            if kept is not None and self.verb == "jobs":
                details = {"heads": kept.heads, "parts": kept.parts}
                self._by_job = {name: np.argsort(rows["job"], kind="stable") for name, rows in details.items() if rows}

    def summaries(self, hosts: frozenset[str], records: RecordFilter | None = None) -> Summaries | None:
        """Return the summaries of some hosts, and perhaps of others, without runs and extents.

        With a filter by user and job only what passes; None if a job has samples of users who pass and of others.
        Raise ColumnsChangedError if the roll-up has been replaced.
        """
        codes = [self.hosts[host] for host in hosts]
        wanted = min(codes), max(codes)
        first, *details = _TABLES[self.verb]
        found = self._with(self._nothing, [first], wanted)
        if records is None:
            return self._with(found, details, wanted)
        filtered = filtered_summaries(found, records)
        if filtered is None or not filtered.jobs["detailed"].any():
            return filtered
        numbers = np.unique(filtered.jobs["job"][filtered.jobs["detailed"]])
        if self._kept is not None:
            return replace(
                filtered,
                heads=self._kept_of_jobs("heads", numbers, wanted),
                parts=self._kept_of_jobs("parts", numbers, wanted),
            )
        found = self._with(filtered, details, wanted)
        return replace(found, heads=_of_jobs(found.heads, numbers), parts=_of_jobs(found.parts, numbers))

    def _kept_of_jobs(self, name: str, numbers: np.ndarray, wanted: tuple[int, int]) -> Columns:
        """Return the rows of a table in memory that are of these jobs, and of hosts from the first to the last."""
        rows: Columns = getattr(self._kept, name)
        if not rows:
            return rows
        order = self._by_job[name]
        low, high = (np.searchsorted(rows["job"], numbers, side, sorter=order) for side in ("left", "right"))
        at = np.sort(order[ranges(low, high - low)])
        host = rows["host"][at]
        at = at[(wanted[0] <= host) & (host <= wanted[1])]
        return {name: values[..., at] for name, values in rows.items()}

    @property
    def _nothing(self) -> Summaries:
        return Summaries(list(self.hosts), self.words, {}, {}, {}, {}, {}, {}, {})

    def _with(self, found: Summaries, names: "Sequence[str]", wanted: tuple[int, int]) -> Summaries:
        """Return summaries with some tables, of the hosts with these numbers, from the first to the last."""
        for name in names:
            member = name.rpartition("-")[2]
            if self._kept is None:
                rows, sets = self.tables[name].read(wanted)
            else:
                rows, sets = getattr(self._kept, member), self._kept.sets if name == "jobs" else {}
                rows = _between(rows, wanted)
            found = replace(found, **{member: rows}, sets=found.sets | sets)  # type: ignore[arg-type]
        return found

    def every(self, hosts: frozenset[str]) -> Summaries:
        """Return the summaries of some hosts, and perhaps of others, with details of every job."""
        codes = [self.hosts[host] for host in hosts]
        heads, parts = (
            self.tables[f"jobs-{name}"].read((min(codes), max(codes)), every=True)[0] for name in ("heads", "parts")
        )
        return replace(self._nothing, heads=heads, parts=parts)


def _between(rows: Columns, hosts: tuple[int, int]) -> Columns:
    """Return the rows, which are sorted by host, of hosts from the first to the last."""
    if not rows:
        return rows
    low, high = np.searchsorted(rows["host"], [hosts[0], hosts[1] + 1])
    return rows if high - low == len(rows["host"]) else {name: values[..., low:high] for name, values in rows.items()}


def _of_jobs(rows: Columns, numbers: np.ndarray) -> Columns:
    """Return the rows that are of these jobs."""
    if not rows:
        return rows
    at = np.flatnonzero(np.isin(rows["job"], numbers))
    return {name: values[..., at] for name, values in rows.items()}


@dataclass(frozen=True, slots=True)
class _Table:
    """The file of one table, whose footer has been read."""

    path: Path
    file: Identity
    metadata: Any
    about: dict[str, Any]

    def read(
        self, hosts: tuple[int, int], *, every: bool = False
    ) -> "tuple[Columns, dict[str, pa.Array[Any]]]":  # fmt: skip
        """Return the rows of the hosts with these numbers, from the first to the last, and the texts behind codes.

        Of details those at the edges only, unless every row is wanted: then rows of other hosts may be among them.
        """
        import pyarrow.parquet as pq

        groups = [
            number
            for number, (first, last) in enumerate(self.about["groups"])
            if first <= hosts[1] and last >= hosts[0] and (every or number < self.about["edges"])
        ]
        source = parquet_source(self.path)
        with (
            telling(self.path),
            pq.ParquetFile(source, metadata=self.metadata, read_dictionary=self.about["texts"]) as file,
        ):
            if identity_of(self.path.stat()) != self.file:
                raise ColumnsChangedError
            table = file.read_row_groups(groups, use_threads=False)
        rows, sets = _columns(table, self.about)
        return rows if every else _between(rows, hosts), sets


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
            parts += [summary_of(one, None, jobs=verb == "jobs", details=Details.APART) for one in rows[excluded]]

    def write(self, directory: Path, identity: Identity) -> None:
        """Write them beside the columns that they are of. Raise OSError for what cannot be written."""
        about: dict[str, Any] = {"format": _FORMAT, "columns": list(identity)}
        for verb, parts in self._found.items():
            _write_verb(directory, verb, parts, about)
        columns = open_columns(directory / COLUMNS_NAME, identity)
        also: dict[bytes, Any] = (
            {} if columns is None else {METADATA_KEY: columns.facts.encoded(), IDENTITY_KEY: json.dumps(identity)}
        )
        runs = joined_columns(self._runs) if self._runs else {}
        _write(_path(directory, "runs"), about | {"hosts": self._hosts}, runs, also=also)


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


def _write_verb(directory: Path, verb: str, parts: list[Summaries], about: dict[str, Any]) -> None:
    """Write the tables of a verb, with the words of all parts."""
    from sonar.analysis.combine import together

    found = together(parts)
    about = about | {"hosts": found.hosts, "words": found.words}
    if verb == "load":
        _write(_path(directory, "load-heads"), about, found.heads)
        _write(_path(directory, "load-slots"), about, found.slots)
        return
    _write(_path(directory, "jobs"), about, found.jobs, sets=found.sets)
    others = found.others or ({}, {})
    _write(_path(directory, "jobs-heads"), about, found.heads, others[0])
    _write(_path(directory, "jobs-parts"), about, found.parts, others[1])


def open_rollup(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    """Return the roll-up that was made for a verb of these columns; None if there is none."""
    return _opened(directory, verb, identity)


def open_runs(directory: Path, identity: Identity) -> DayRuns | None:
    """Return the runs in these columns; None if there is no table of them."""
    return _opened_runs(directory, identity)


def has_rollups(directory: Path, identity: Identity) -> bool:
    """Whether there are roll-ups of these columns; the table of runs is written last."""
    import pyarrow.parquet as pq

    path = _path(directory, "runs")
    try:
        with telling(path):
            _about(pq.read_metadata(parquet_source(path)).metadata, identity)
    except (OSError, ValueError, KeyError):
        return False
    return True


def forget_rollups() -> None:
    """Give up the memory that roll-ups take."""
    _opened.cache_clear()
    _opened_runs.cache_clear()


@lru_cache(maxsize=512)
def _opened(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    try:
        tables = {name: _table(_path(directory, name), identity) for name in _TABLES[verb]}
    except (OSError, ValueError, KeyError):
        return None
    about = tables[_TABLES[verb][0]].about
    return DayRollup(verb, {host: code for code, host in enumerate(about["hosts"])}, about["words"], tables)


def _table(path: Path, identity: Identity) -> _Table:
    """Return a table that was made of these columns. Raise ValueError, KeyError or OSError if there is none."""
    import pyarrow.parquet as pq

    while True:  # until the path leads to the same file before and after it is opened
        file = identity_of(path.stat())
        with telling(path):
            metadata = pq.read_metadata(parquet_source(path))
        if file == identity_of(path.stat()):
            return _Table(path, file, metadata, _about(metadata.metadata, identity))


@lru_cache(maxsize=128)
def _opened_runs(directory: Path, identity: Identity) -> DayRuns | None:
    try:
        table = _table(_path(directory, "runs"), identity)
        about = table.about
        runs, _ = table.read((0, len(about["hosts"])))
    except (OSError, ValueError, KeyError, ColumnsChangedError):
        return None
    hosts = runs["host"] if runs else np.zeros(0, np.int64)
    bounds = np.searchsorted(hosts, np.arange(len(about["hosts"]) + 1))
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
    for at, host in enumerate(about["hosts"]):
        for values, name in zip(found, ("time", "failed"), strict=True):
            values[host] = runs[name][bounds[at] : bounds[at + 1]]
    return DayRuns(*found)


def _path(directory: Path, name: str) -> Path:
    return directory / f"{ROLLUP_PREFIX}{name}.parquet"


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


def _columns(table: "pa.Table", about: dict[str, Any]) -> "tuple[Columns, dict[str, pa.Array[Any]]]":
    columns: Columns = {}
    sets: dict[str, pa.Array[Any]] = {}
    for name, kind in about["types"].items():
        if name in about["constants"]:
            columns[name] = np.broadcast_to(np.asarray(about["constants"][name], kind), len(table))
        else:
            columns[name] = table.column(name).to_numpy(zero_copy_only=False).astype(kind, copy=False)
    for name, of_set in _TEXTS.items():
        if name in about["texts"]:
            coded: Any = table.column(name).unify_dictionaries().combine_chunks()
            columns[name], sets[of_set] = coded.indices.to_numpy(), coded.dictionary
    for name, members in (("sums", SUMMED), ("peaks", PEAKS)):
        if f"{name}.{members[0]}" in columns:
            columns[name] = np.array([columns.pop(f"{name}.{member}") for member in members])
    return columns, sets


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
    import pyarrow.parquet as pq

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
    table = table.replace_schema_metadata(metadata)
    with (
        publishing(path) as scratch,
        pq.ParquetWriter(
            scratch,
            table.schema,
            compression="lz4",  # twice as fast to read as zstd of differences, and a third larger
            use_dictionary=list(texts),  # type: ignore[arg-type]
            write_statistics=False,
        ) as writer,
    ):
        at = 0
        for _, _, length in groups:
            writer.write_table(table.slice(at, length), row_group_size=length)
            at += length


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


def _about(metadata: "dict[bytes, bytes] | None", identity: Identity) -> dict[str, Any]:
    """Return what a roll-up says of itself. Raise ValueError if it is one of other columns."""
    about: dict[str, Any] = json.loads((metadata or {})[_METADATA_KEY])
    if about["format"] != _FORMAT or tuple(about["columns"]) != identity:
        raise ValueError("of other columns")
    return about

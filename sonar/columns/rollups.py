"""Roll-ups: summaries of the columns of a day, so that jobs and load over months read a hundredth of them.

`0+rollup-NAME.parquet` lie beside the columns they were made of, and say so: of other columns they are none. They hold
what the verbs look at by default, without shells and session keepers; hosts whose samples cannot be summarized are left
out, and are answered from columns.

| name        | a row is                                                                                |
|-------------|-----------------------------------------------------------------------------------------|
| runs        | a run of the sampler on a host, and whether it told of failed GPUs: 0 no, 1 yes, 2 both  |
| jobs        | a job, or a stream without one: what it comes to                                        |
| jobs-heads, jobs-parts | details of jobs that go on in another day; those at the edges come first     |
| load-heads, load-slots | first samples of streams; half hours                                         |
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.exact import PEAKS, SUMMED, Columns, joined_columns
from sonar.analysis.rows import HostRows, rows_of_hosts
from sonar.analysis.samples import of_hosts
from sonar.analysis.select import DEFAULT_EXCLUSIONS, RecordFilter
from sonar.analysis.summary import Details, Summaries, summary_of
from sonar.places import parquet_source, publishing, telling
from sonar.read.columns import ColumnsFile, Identity
from sonar.read.files import ROLLUP_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
_FORMAT = 2
_TABLES = {"jobs": ("jobs", "jobs-heads", "jobs-parts"), "load": ("load-heads", "load-slots")}
VERBS = tuple(_TABLES)
"""The verbs that have roll-ups."""

_PORTION_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class DayRuns:
    """The runs of each host on a day, ascending; `failed` is 0 without, 1 with a failed GPU, 2 for both at once."""

    time: dict[str, np.ndarray]
    failed: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class DayRollup:
    """The roll-up of one day for a verb, without runs and extents."""

    summaries: Summaries
    hosts: frozenset[str]
    directory: Path
    identity: Identity

    def every(self, hosts: frozenset[str]) -> Summaries:
        """Return the same with details of every job."""
        del hosts  # what is read more is left out by whoever asked
        heads, parts = (
            _read(_path(self.directory, f"jobs-{name}"), self.identity, every=True)[0] for name in ("heads", "parts")
        )
        return replace(self.summaries, heads=heads, parts=parts)


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
        about = {"format": _FORMAT, "columns": list(identity)}
        for verb, parts in self._found.items():
            _write_verb(directory, verb, parts, about)
        runs = joined_columns(self._runs) if self._runs else {}
        _write(_path(directory, "runs"), _table(runs, about | {"hosts": self._hosts}))


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
    about |= {"hosts": found.hosts, "words": found.words, "sets": {n: list(s) for n, s in found.sets.items()}}
    if verb == "load":
        _write(_path(directory, "load-heads"), _table(found.heads, about))
        _write(_path(directory, "load-slots"), _table(found.slots, about))
        return
    small = {name: about[name] for name in ("format", "columns")}
    _write(_path(directory, "jobs"), _table(found.jobs, about))
    others = found.others or ({}, {})
    for name, edges, rest in (("heads", found.heads, others[0]), ("parts", found.parts, others[1])):
        rows = joined_columns([edges, rest]) if edges else {}
        _write(_path(directory, f"jobs-{name}"), _table(rows, small, edges=len(edges["job"]) if edges else 0))


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


@lru_cache(maxsize=128)
def _opened(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    tables = {}
    about: dict[str, Any] = {}
    try:
        for name in _TABLES[verb]:
            tables[name], of_table = _read(_path(directory, name), identity)
            about = about or of_table
    except (OSError, ValueError, KeyError):
        return None
    sets = {name: [tuple(words) for words in sets] for name, sets in about["sets"].items()}
    jobs, heads, parts = (tables.get(name, {}) for name in ("jobs", f"{verb}-heads", "jobs-parts"))
    slots = tables.get("load-slots", {})
    found = Summaries(about["hosts"], about["words"], sets, jobs, heads, parts, slots, {}, {})
    return DayRollup(found, frozenset(found.hosts), directory, identity)


@lru_cache(maxsize=128)
def _opened_runs(directory: Path, identity: Identity) -> DayRuns | None:
    try:
        runs, about = _read(_path(directory, "runs"), identity)
    except (OSError, ValueError, KeyError):
        return None
    bounds = np.searchsorted(runs["host"], np.arange(len(about["hosts"]) + 1))
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
    for at, host in enumerate(about["hosts"]):
        for values, name in zip(found, ("time", "failed"), strict=True):
            values[host] = runs[name][bounds[at] : bounds[at + 1]]
    return DayRuns(*found)


def _path(directory: Path, name: str) -> Path:
    return directory / f"{ROLLUP_PREFIX}{name}.parquet"


def _table(rows: Columns, about: dict[str, Any], *, edges: int | None = None) -> "tuple[pa.Table, int | None]":
    """Return rows as a table; columns of one value are in its metadata, with the types of all."""
    import pyarrow as pa

    flat: dict[str, np.ndarray] = {}
    for name, values in rows.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            for place, of_row in enumerate(SUMMED if name == "sums" else PEAKS):
                flat[f"{name}.{of_row}"] = values[place]
    size = len(next(iter(flat.values()), ()))
    constants = {name: values[0].item() for name, values in flat.items() if size and (values == values[0]).all()}
    types = {name: str(values.dtype) for name, values in flat.items()}
    stored = {name: _whole(values) for name, values in flat.items() if name not in constants}
    stored = stored or {"none": np.zeros(size, np.int8)}
    facts = {"rows": size, "edges": edges, "types": types, "constants": constants}
    return pa.table(stored).replace_schema_metadata({_METADATA_KEY: json.dumps(about | facts).encode()}), edges


def _whole(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as such: they take less room."""
    if values.dtype != np.float64:
        return values
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    return whole if np.array_equal(whole, values) and not np.signbit(values[whole == 0]).any() else values


def _columns(table: "pa.Table", about: dict[str, Any]) -> Columns:
    columns: Columns = {}
    for name, kind in about["types"].items():
        if name in about["constants"]:
            columns[name] = np.full(len(table), about["constants"][name], kind)
        else:
            columns[name] = table.column(name).to_numpy(zero_copy_only=False).astype(kind, copy=False)
    for name, members in (("sums", SUMMED), ("peaks", PEAKS)):
        if f"{name}.{members[0]}" in columns:
            columns[name] = np.array([columns.pop(f"{name}.{member}") for member in members])
    return columns


def _write(path: Path, made: "tuple[pa.Table, int | None]") -> None:
    """Write a table, the rows of the edges in a row group of their own."""
    import pyarrow.parquet as pq

    table, edges = made
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in table.schema if str(field.type) in ("int64", "int32")}
    with (
        publishing(path) as scratch,
        pq.ParquetWriter(
            scratch,
            table.schema,
            compression="zstd",
            use_dictionary=False,
            column_encoding=encodings,
            write_statistics=False,
        ) as writer,
    ):
        at = edges or 0
        for part in (table.slice(0, at), table.slice(at)):
            if len(part):
                writer.write_table(part, row_group_size=len(part))


def _about(metadata: "dict[bytes, bytes] | None", identity: Identity) -> dict[str, Any]:
    """Return what a roll-up says of itself. Raise ValueError if it is one of other columns."""
    about: dict[str, Any] = json.loads((metadata or {})[_METADATA_KEY])
    if about["format"] != _FORMAT or tuple(about["columns"]) != identity:
        raise ValueError("of other columns")
    return about


def _read(path: Path, identity: Identity, *, every: bool = False) -> tuple[Columns, dict[str, Any]]:
    """Return a table, of details those at the edges only unless every row is wanted, and what it says of itself."""
    import pyarrow.parquet as pq

    with telling(path), pq.ParquetFile(parquet_source(path)) as file:
        about = _about(file.metadata.metadata, identity)
        groups = list(range(file.num_row_groups))
        if about["edges"] is not None and not every:
            groups = groups[: 1 if about["edges"] else 0]
        return _columns(file.read_row_groups(groups, use_threads=False), about), about

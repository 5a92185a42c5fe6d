"""Roll-ups: summaries of the columns of a day, so that jobs and load over months read a hundredth of them.

`0+rollup-NAME.parquet` lie beside the columns they were made of, and say so: of other columns they are none. They hold
what the verbs look at by default, without shells and session keepers; hosts whose samples cannot be summarized are left
out, and are answered from columns.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar import durable
from sonar.analysis.combine import Summaries, summaries_of
from sonar.analysis.samples import samples_of
from sonar.analysis.select import DEFAULT_EXCLUSIONS, RecordFilter
from sonar.analysis.streams import STREAM_COLUMNS
from sonar.analysis.summary import PEAKS, SUMMED, Columns, Summary, summarized, summary_of_nothing
from sonar.read.columns import Identity, open_columns
from sonar.read.files import COLUMNS_NAME, ROLLUP_PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["VERBS", "DayRollup", "forget_rollups", "has_rollups", "open_rollup", "write_rollups"]

_TABLES = {"jobs": ("heads", "jobs"), "load": ("heads", "slots")}
VERBS = tuple(_TABLES)
"""The verbs that have roll-ups."""

_METADATA_KEY = b"sonar-rollup"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class DayRollup:
    """The roll-up of one day: summaries, and of each host the first and last instant, and its runs."""

    summaries: Summaries
    extents: dict[str, tuple[int, int]]
    runs: dict[str, np.ndarray]


def write_rollups(directory: Path) -> None:
    """Make the roll-ups of the columns in a directory. Raise OSError for what cannot be written."""
    columns = open_columns(directory / COLUMNS_NAME)
    if columns is None:
        return
    of_verbs: dict[str, list[tuple[str, Summary]]] = {verb: [] for verb in _TABLES}
    for host, where in columns.facts.hosts.items():
        if where.source < 0:
            continue
        samples = samples_of(columns.read(host, STREAM_COLUMNS))
        for verb, tables in _TABLES.items():
            records = RecordFilter(exclude_commands=DEFAULT_EXCLUSIONS[verb])
            summary = summarized(samples, records, None, jobs="jobs" in tables, slots="slots" in tables)
            if summary is not None:
                of_verbs[verb].append((host, summary))
    for verb, tables in _TABLES.items():
        parts = of_verbs[verb]
        extents = {host: list(summary.extent) for host, summary in parts}
        about = {"format": _FORMAT, "columns": list(columns.identity), "extents": extents}
        found = summaries_of(parts) if parts else None
        for name in tables:
            rows = getattr(found, name) if found else {}
            _write(_path(directory, verb, name), _table(rows, found), about)
        runs = [summary.runs for _, summary in parts]
        code = np.repeat(np.arange(len(parts)), [len(of_host) for of_host in runs])
        of_runs = {"host": code, "time": np.concatenate([*runs, np.zeros(0, np.int64)])}
        _write(_path(directory, verb, "runs"), _table(of_runs, None), about)


def open_rollup(directory: Path, verb: str, identity: Identity) -> DayRollup | None:
    """Return the roll-up that was made for a verb of these columns; None if there is none."""
    try:
        return _opened(directory, verb, identity)
    except (OSError, ValueError, KeyError):
        return None


def has_rollups(directory: Path, identity: Identity) -> bool:
    """Whether there are roll-ups of these columns; the tables of runs are written last."""
    try:
        about = [_about(_path(directory, verb, "runs")) for verb in _TABLES]
    except (OSError, ValueError, KeyError):
        return False
    return all(one["format"] == _FORMAT and tuple(one["columns"]) == identity for one in about)


def forget_rollups() -> None:
    """Give up the memory that roll-ups take."""
    _opened.cache_clear()


@lru_cache(maxsize=128)
def _opened(directory: Path, verb: str, identity: Identity) -> DayRollup:
    read: dict[str, Columns] = {}
    words: dict[str, list[str]] = {"user": [], "cmd": []}
    extents: dict[str, tuple[int, int]] = {}
    for name in (*_TABLES[verb], "runs"):
        table, about = _read(_path(directory, verb, name))
        if about["format"] != _FORMAT or tuple(about["columns"]) != identity:
            raise ValueError("of other columns")
        extents = {host: (first, last) for host, (first, last) in about["extents"].items()}
        if "words" in about:
            words = about["words"]
        read[name] = _columns(table)
    hosts = sorted(extents)
    runs = read["runs"]
    names = list(extents)  # in the order in which runs were written
    bounds = np.searchsorted(runs["host"], np.arange(len(names) + 1))
    of_host = {name: runs["time"][bounds[at] : bounds[at + 1]] for at, name in enumerate(names)}
    empty = _nothing()
    tables = {name: read.get(name) or empty[name] for name in ("heads", "jobs", "slots")}
    return DayRollup(Summaries(**tables, words=words, hosts=hosts), extents, of_host)


def _nothing() -> dict[str, Columns]:
    """Return tables without rows, as a summary of nothing has them."""
    from sonar.read.rows import empty_table

    summary = summary_of_nothing(samples_of(empty_table()))
    none = np.zeros(0, np.int64)
    return {name: {**getattr(summary, name), "host": none} for name in ("heads", "jobs", "slots")}


def _path(directory: Path, verb: str, name: str) -> Path:
    return directory / f"{ROLLUP_PREFIX}{verb}-{name}.parquet"


def _table(rows: Columns, found: Summaries | None) -> "tuple[pa.Table, dict[str, Any]]":
    import pyarrow as pa

    flat: dict[str, np.ndarray] = {}
    for name, values in rows.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            for place, of_row in enumerate(SUMMED if name == "sums" else PEAKS):
                flat[f"{name}.{of_row}"] = values[place]
    return pa.table(flat), {"words": found.words} if found else {}


def _columns(table: "pa.Table") -> Columns:
    columns: Columns = {}
    for name in table.column_names:
        columns[name] = table.column(name).to_numpy()
    for name, members in (("sums", SUMMED), ("peaks", PEAKS)):
        if f"{name}.{members[0]}" in columns:
            columns[name] = np.array([columns.pop(f"{name}.{member}") for member in members])
    return columns


def _write(path: Path, made: "tuple[pa.Table, dict[str, Any]]", about: dict[str, Any]) -> None:
    """Write a table beside its place, sync it, and rename it."""
    import pyarrow.parquet as pq

    table, more = made
    metadata = {_METADATA_KEY: json.dumps(about | more).encode()}
    whole = [field.name for field in table.schema if str(field.type) == "int64"]
    with durable.replacing(path) as scratch:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            scratch,
            compression="zstd",
            use_dictionary=False,
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            write_statistics=False,
        )


def _about(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    about: dict[str, Any] = json.loads((pq.read_metadata(path).metadata or {})[_METADATA_KEY])
    return about


def _read(path: Path) -> "tuple[pa.Table, dict[str, Any]]":
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read(use_threads=False)
    return table, json.loads((table.schema.metadata or {})[_METADATA_KEY])

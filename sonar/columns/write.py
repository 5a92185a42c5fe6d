"""Make the columns of one directory of the log: read, sort, write beside, verify, rename."""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.samples import Samples, ordered_by, samples_of
from sonar.analysis.streams import stream_numbers
from sonar.errors import SonarError
from sonar.places import opened, parquet_source, publishing, telling
from sonar.read.columns import COLUMNS_NAME, METADATA_KEY, ColumnsFile, Facts, HostRows, Source, digest_of, open_columns
from sonar.read.files import LogFile, SampleReader, settled_end
from sonar.read.schema import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, sample_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Made", "write_columns"]

_GROUP_ROWS = 1 << 13  # small hosts share a row group up to about so many rows
_EXACT = 1 << 53
_SCALES = (1, 10, 100, 1000)
# What columns are kept as until a value does not fit: whole numbers times a scale.
_FIRST_SCALES = {name: 10 if name == "cpu_pct" else 1 for name in FLOAT_COLUMNS}


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a directory."""

    rows: int
    log_bytes: int
    bytes: int


class _AgainError(Exception):
    """A host turned up again after its rows had been written: its file alone does not have them all."""


class _ScaleError(Exception):
    """A value cannot be kept as was thought."""


def write_columns(
    directory: Path, files: list[LogFile], reader: SampleReader, *, removing: frozenset[str] = frozenset()
) -> Made:
    """Make `0+columns.parquet` of these files of a directory, in place of what is there.

    Hosts are written one by one, so memory holds the samples of one host and day; where a file has records of another
    host than the one it is named after, it holds those, too. What the columns have of files that were removed from
    the log stays in them; `removing` names files that are about to be. Raise SonarError for what cannot be read or
    written.
    """
    try:
        with publishing(directory / COLUMNS_NAME) as scratch:
            facts, rows, checksums = _written(scratch, directory, files, reader, removing)
            _verify(scratch, facts, checksums)
            size = scratch.stat().st_size
    except OSError as error:
        raise SonarError(f"{error.strerror or error}: '{error.filename or directory}'") from error
    return Made(rows, sum(source.offset for source in facts.sources), size)


def _written(
    temporary: Path, directory: Path, files: list[LogFile], reader: SampleReader, removing: frozenset[str]
) -> tuple[Facts, int, list[int]]:
    """Write the file, anew whenever something turns out to be other than was thought."""
    scales: dict[str, int] = dict(_FIRST_SCALES)
    foreign: dict[str, list[_Part]] | None = None
    in_order = sorted(files, key=lambda file: file.reading_order)
    while True:
        writing = _Writing(temporary, scales, _Kept.of(directory), removing)
        try:
            facts, rows = writing.run(in_order, reader, foreign)
            return facts, rows, writing.checksums
        except _AgainError:
            foreign = {}
        except _ScaleError:
            pass  # `scales` knows better now
        finally:
            writing.close()


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one source, with their places in it."""

    source: int
    table: "pa.Table"
    record: np.ndarray


class _Kept:
    """What the present columns have of files that were removed from the log."""

    def __init__(self, columns: ColumnsFile | None) -> None:
        sources = columns.facts.sources if columns else ()
        self._columns = columns
        self._numbers = {number: at for at, number in enumerate(n for n, one in enumerate(sources) if one.removed)}
        self.sources = tuple(source for source in sources if source.removed)
        self.hosts = frozenset(columns.facts.hosts) if columns and self.sources else frozenset()

    @classmethod
    def of(cls, directory: Path) -> "_Kept":
        """Return what there is to keep in a directory. Raise SonarError for columns that cannot be read."""
        path = directory / COLUMNS_NAME
        columns = open_columns(path)
        if columns is None and path.exists():
            _check_replaceable(path)
        return cls(columns)

    def parts(self, host: str) -> "list[_Part]":
        """Return the rows of a host, by source."""
        if self._columns is None or host not in self.hosts:
            return []
        table = self._columns.read(host, COLUMNS, with_source=True)
        source, record = table.column("source").to_numpy(), table.column("record").to_numpy()
        table = table.select(list(COLUMNS))
        parts = []
        for number, at in self._numbers.items():
            rows = np.flatnonzero(source == number)
            rows = rows[np.argsort(record[rows], kind="stable")]
            if len(rows):
                parts.append(_Part(at, table.take(rows), record[rows]))
        return parts


def _check_replaceable(path: Path) -> None:
    """Raise SonarError if a file that is no columns of this format might be all that is left of some log."""
    import pyarrow.parquet as pq

    try:
        with telling(path):
            text = (pq.read_metadata(parquet_source(path)).metadata or {}).get(METADATA_KEY, b"")
    except (OSError, ValueError):
        return
    if b'"removed": true' in text:
        raise SonarError(f"Made by another version, and all that is left of some files of the log: '{path}'")


class _Writing:
    """One attempt at a file."""

    def __init__(self, path: Path, scales: dict[str, int], kept: _Kept, removing: frozenset[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._scales = scales
        self._kept = kept
        self._removing = removing
        self._schema = _schema(scales)
        whole = [
            name
            for name in self._schema.names
            if pa.types.is_integer(self._schema.field(name).type) and name not in ("gpus", "gpufail")
        ]
        self._writer: pq.ParquetWriter = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[*TEXT_COLUMNS, "gpus"],  # type: ignore[arg-type]
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            write_statistics=["host", "time", "job", "user"],
            store_schema=False,
        )
        self._pending: list[tuple[str, pa.Table, int]] = []
        self._hosts: dict[str, HostRows] = {}
        self._groups = 0
        self._values: dict[str, set[Any]] = {name: set() for name in COLUMNS}
        self.checksums: list[int] = []

    def close(self) -> None:
        """Close the file, whatever became of it."""
        if self._writer.is_open:
            self._writer.close()

    def run(
        self, files: list[LogFile], reader: SampleReader, foreign: "dict[str, list[_Part]] | None"
    ) -> tuple[Facts, int]:
        """Write all rows; return the metadata and the number of rows. With `foreign` given, look first for those."""
        offset = len(self._kept.sources)
        sources: list[Source | None] = [*self._kept.sources, *([None] * len(files))]
        sizes: dict[int, int] = {}  # what is appended while this runs is for another time
        if foreign is not None:
            for number, file in enumerate(files):
                source, table = _read(file, reader)
                sizes[number] = source.size
                for host, part in _parts(offset + number, table):
                    if host != file.host:
                        foreign.setdefault(host, []).append(part)
        by_host: dict[str, list[int]] = {}
        for number, file in enumerate(files):
            by_host.setdefault(file.host, []).append(number)
        known = foreign or {}
        rows = 0
        for host in sorted({*by_host, *known, *self._kept.hosts}):
            parts = [*self._kept.parts(host), *known.get(host, ())]
            for number in by_host.get(host, ()):
                source, table = _read(files[number], reader, sizes.get(number))
                sources[offset + number] = replace(source, removed=source.name in self._removing)
                for found, part in _parts(offset + number, table):
                    if found == host:
                        parts.append(part)
                    elif foreign is None:
                        raise _AgainError
            if parts:
                rows += self._add(host, sorted(parts, key=lambda part: part.source))
        self._flush()
        constants = {name: next(iter(values)) for name, values in self._values.items() if len(values) == 1}
        facts = Facts(tuple(source for source in sources if source), self._hosts, dict(self._scales), constants)
        self._writer.add_key_value_metadata({METADATA_KEY: facts.encoded()})  # type: ignore[dict-item]
        self._writer.close()
        return facts, rows

    def _add(self, host: str, parts: list[_Part]) -> int:
        import pyarrow as pa

        table: Any = pa.concat_tables([part.table for part in parts]).unify_dictionaries().combine_chunks()
        samples = samples_of(table)
        order = ordered_by(stream_numbers(samples), samples["time"])
        time = samples["time"]
        source = np.repeat([part.source for part in parts], [len(part.table) for part in parts])
        record = np.concatenate([part.record for part in parts])
        encoded = self._encoded(table, samples, source, record).take(pa.array(order))
        from_ = parts[0].source if len(parts) == 1 else -1
        self._hosts[host] = HostRows(0, 0, len(order), from_, int(time.min()), int(time.max()))
        self._pending.append((host, encoded, len(order)))
        self._note_values(table)
        if sum(number for _, _, number in self._pending) >= _GROUP_ROWS:
            self._flush()
        return len(order)

    def _note_values(self, table: Any) -> None:
        """Note which columns have one value only."""
        for name, seen in self._values.items():
            if len(seen) > 1:
                continue
            column: Any = table.column(name).combine_chunks()
            if name in TEXT_COLUMNS:
                seen.update(column.dictionary.to_pylist()[:2])
            elif column.null_count:
                seen.update([None] if column.null_count == len(column) else [None, -1])
            else:
                values = column.to_numpy(zero_copy_only=False)
                seen.update([values[0].item()] if (values == values[0]).all() else [0, 1])

    def _flush(self) -> None:
        """Write the hosts that wait as one row group."""
        import pyarrow as pa

        if not self._pending:
            return
        table = pa.concat_tables([table for _, table, _ in self._pending]).unify_dictionaries()
        self._writer.write_table(table, row_group_size=len(table))
        self.checksums.append(_checksum(table))
        for host, _, _ in self._pending:
            rows = self._hosts[host]
            self._hosts[host] = HostRows(self._groups, self._groups, rows.rows, rows.source, rows.earliest, rows.latest)
        self._groups += 1
        self._pending = []

    def _encoded(self, table: "pa.Table", samples: Samples, source: np.ndarray, record: np.ndarray) -> Any:
        import pyarrow as pa

        arrays: list[Any] = []
        for name in COLUMNS:
            if name in FLOAT_COLUMNS and self._scales[name]:
                arrays.append(pa.array(self._scaled(name, samples[name])))
            else:
                column: Any = table.column(name)
                arrays.append(column.chunk(0) if column.num_chunks else column)
        arrays += [pa.array(source, pa.int32()), pa.array(record, pa.int32())]
        return pa.table(arrays, schema=_schema(self._scales, dictionaries=True))

    def _scaled(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return values as whole numbers of the column's scale. Raise _ScaleError if that would lose anything."""
        for scale in (self._scales[name], *(scale for scale in _SCALES if scale > self._scales[name])):
            with np.errstate(invalid="ignore", over="ignore"):
                whole = np.rint(values * float(scale))
                exact = np.abs(whole) < _EXACT
                if (
                    exact.all()
                    and np.array_equal(whole / float(scale), values)
                    and not np.signbit(values[whole == 0]).any()
                ):
                    if scale == self._scales[name]:
                        return whole.astype(np.int64)
                    self._scales[name] = scale
                    raise _ScaleError
        self._scales[name] = 0
        raise _ScaleError


def _schema(scales: dict[str, int], *, dictionaries: bool = False) -> "pa.Schema":
    import pyarrow as pa

    fields = []
    for name in COLUMNS:
        wanted = sample_schema().field(name)
        if scales.get(name):
            fields.append(pa.field(name, pa.int64(), nullable=False))
        elif name in TEXT_COLUMNS:
            fields.append(wanted)
        else:
            fields.append(wanted)
    return pa.schema(
        [*fields, pa.field("source", pa.int32(), nullable=False), pa.field("record", pa.int32(), nullable=False)]
    )


def _read(file: LogFile, reader: SampleReader, size: int | None = None) -> "tuple[Source, pa.Table]":
    """Return what a file is now, and the samples in it up to where more bytes change nothing.

    With a size only so many bytes are looked at.
    """
    with opened(file.path) as (log, state):
        content = log.read(state.st_size if size is None else size)
        is_json = file.is_json(content)
        end = settled_end(content, is_json=is_json)
        whole = end == 0
        offset = len(content) if whole else end
        digest = digest_of(log, offset)
    dropped: Counter[str] = Counter()
    table = reader.table(content[:offset], is_json=is_json, dropped=dropped)
    return Source(
        file.path.name, offset, len(content), state.st_mtime_ns, state.st_ino, digest, whole, dict(dropped)
    ), table


def _parts(source: int, table: "pa.Table") -> Iterator[tuple[str, _Part]]:
    """Yield the hosts in a file's table, each with its rows and their places."""
    column: Any = table.column("host").combine_chunks()
    hosts = column.dictionary.to_pylist()
    record = np.arange(len(table), dtype=np.int32)
    if len(hosts) == 1:
        if len(table):
            yield hosts[0], _Part(source, table, record)
        return
    codes = column.indices.to_numpy()
    for code, host in enumerate(hosts):
        of_host = np.flatnonzero(codes == code)
        if len(of_host):
            yield host, _Part(source, table.take(of_host), record[of_host])


def _checksum(table: "pa.Table") -> int:
    """Return a checksum of all values of a table, whatever its chunks and dictionaries."""
    total = len(table)
    for name in table.column_names:
        column: Any = table.column(name).combine_chunks()
        if name in TEXT_COLUMNS:
            words = np.array([zlib.crc32(word.encode()) for word in column.dictionary.to_pylist()], np.uint32)
            values = words[column.indices.to_numpy()] if len(column) else words
        elif name == "epoch":
            values = column.fill_null(-1).to_numpy()
        else:
            values = column.to_numpy(zero_copy_only=False)
        total = zlib.crc32(values.tobytes(), total)
    return total


def _verify(path: Path, facts: Facts, checksums: list[int]) -> None:
    """Read back what was written, row group by row group. Raise SonarError if it is not what it should be."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, read_dictionary=list(TEXT_COLUMNS)) as file:
        read = [_checksum(file.read_row_group(group, use_threads=False)) for group in range(file.num_row_groups)]
        if read != checksums or Facts.decoded((file.metadata.metadata or {})[METADATA_KEY]) != facts:
            raise SonarError(f"What was written does not read back: '{path}'")

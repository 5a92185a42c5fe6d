"""Make the columns of one directory of the log, and its roll-ups: read, sort, write beside, verify, rename."""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.samples import NO_EPOCH, Samples, concatenated, of_hosts, ordered_by, samples_of
from sonar.analysis.streams import stream_numbers
from sonar.columns.rollups import Rollups
from sonar.errors import SonarError
from sonar.places import opened, parquet_source, publishing, telling
from sonar.read.columns import (
    COLUMNS_NAME,
    METADATA_KEY,
    STREAMS_KEY,
    ColumnsFile,
    Facts,
    HostRows,
    Source,
    digest_of,
    identity_of,
    open_columns,
)
from sonar.read.files import LogFile, SampleReader, settled_end
from sonar.read.layouts import COLUMNS_OF_TAGS
from sonar.read.rows import DEFAULTS
from sonar.read.schema import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, sample_schema
from sonar.read.streams import StreamsWriter

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Made", "write_columns"]

_GROUP_ROWS = 1 << 15  # hosts share a row group up to about so many rows
_EXACT = 1 << 53
_WORD = 1 << 64
# Odd numbers without pattern: sums of products with them tell apart what is different.
_FACTORS = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)))
_SCALES = (1, 10, 100, 1000)
_OF_TAGS = frozenset(COLUMNS_OF_TAGS.values())
_NUMBERS = [*(name for name in COLUMNS if name not in TEXT_COLUMNS and name != "in_container"), "source", "record"]
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
    """Make `0+columns.parquet` of these files of a directory, and the roll-ups, in place of what is there.

    Hosts are written some at a time, so memory holds the samples of few hosts and a day; where a file has records of
    another host than the one it is named after, it holds those, too. What the columns have of files that were removed
    from the log stays in them; `removing` names files that are about to be. Raise SonarError for what cannot be read
    or written.
    """
    try:
        with publishing(directory / COLUMNS_NAME) as scratch:
            facts, writing = _written(scratch, directory, files, reader, removing)
            _verify(scratch, facts, writing)
        state = (directory / COLUMNS_NAME).stat()
        writing.rollups.write(directory, identity_of(state))
    except OSError as error:
        raise SonarError(f"{error.strerror or error}: '{error.filename or directory}'") from error
    rows = sum(of_host.rows for of_host in facts.hosts.values())
    return Made(rows, sum(source.offset for source in facts.sources), state.st_size)


def _written(
    temporary: Path, directory: Path, files: list[LogFile], reader: SampleReader, removing: frozenset[str]
) -> "tuple[Facts, _Writing]":
    """Write the file, anew whenever something turns out to be other than was thought."""
    scales: dict[str, int] = dict(_FIRST_SCALES)
    foreign: dict[str, list[_Part]] | None = None
    in_order = sorted(files, key=lambda file: file.reading_order)
    while True:
        writing = _Writing(temporary, in_order, scales, _Kept.of(directory), removing)
        try:
            return writing.run(reader, foreign), writing
        except _AgainError:
            foreign = {}
        except _ScaleError:
            pass  # `scales` knows better now
        finally:
            writing.close()


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one host and source, with their places in it."""

    source: int
    samples: Samples
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
                parts.append(_Part(at, samples_of(table.take(rows)), record[rows]))
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

    def __init__(
        self, path: Path, files: list[LogFile], scales: dict[str, int], kept: _Kept, removing: frozenset[str]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._scales = scales
        self._kept = kept
        self._removing = removing
        # What only envelopes tell is not written for a day without them.
        names = [*(file.path.name for file in files), *(source.name for source in kept.sources)]
        has_envelopes = any(name.endswith(".json") for name in names)
        self._untold = {name: DEFAULTS[name] for name in COLUMNS if name not in _OF_TAGS and not has_envelopes}
        self._files = files
        self.schema = _schema(scales, frozenset(self._untold))
        self._file = pa.OSFile(str(path), "wb")
        self._writer: pq.ParquetWriter = pq.ParquetWriter(
            self._file,
            self.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(TEXT_COLUMNS),  # type: ignore[arg-type]
            # Bytes of equal weight side by side: a sixth smaller than differences, in two thirds of the time.
            column_encoding={name: "BYTE_STREAM_SPLIT" for name in _NUMBERS if name not in self._untold},
            write_statistics=["host", "time", "job", "user"],
            store_schema=False,
        )
        self._pending: list[tuple[Samples, np.ndarray, np.ndarray]] = []
        self._hosts: dict[str, HostRows] = {}
        self._groups = 0
        self._values: dict[str, set[Any]] = {name: set() for name in COLUMNS}
        self.checksums: list[int] = []
        self.rollups = Rollups()
        self._streams = StreamsWriter()

    def close(self) -> None:
        """Close the file, whatever became of it."""
        if self._writer.is_open:
            self._writer.close()
        self._file.close()

    def run(self, reader: SampleReader, foreign: dict[str, list[_Part]] | None) -> Facts:
        """Write all rows; return the metadata. With `foreign` given, look first for rows in files of other hosts."""
        files = self._files
        offset = len(self._kept.sources)
        sources: list[Source | None] = [*self._kept.sources, *([None] * len(files))]
        sizes: dict[int, int] = {}  # what is appended while this runs is for another time
        if foreign is not None:
            for number, file in enumerate(files):
                source, samples = _read(file, reader)
                sizes[number] = source.size
                for host, part in _parts(offset + number, samples):
                    if host != file.host:
                        foreign.setdefault(host, []).append(part)
        by_host: dict[str, list[int]] = {}
        for number, file in enumerate(files):
            by_host.setdefault(file.host, []).append(number)
        known = foreign or {}
        for host in sorted({*by_host, *known, *self._kept.hosts}):
            parts = [*self._kept.parts(host), *known.get(host, ())]
            for number in by_host.get(host, ()):
                source, samples = _read(files[number], reader, sizes.get(number))
                sources[offset + number] = replace(source, removed=source.name in self._removing)
                for found, part in _parts(offset + number, samples):
                    if found == host:
                        parts.append(part)
                    elif foreign is None:
                        raise _AgainError
            if parts:
                self._add(host, sorted(parts, key=lambda part: part.source))
        self._flush()
        constants = {name: next(iter(values)) for name, values in self._values.items() if len(values) == 1}
        of_rows = tuple(source for source in sources if source)
        facts = Facts(of_rows, self._hosts, dict(self._scales), constants | self._untold)
        where, streams = self._file.tell(), self._streams.encoded()
        self._file.write(streams)
        metadata = {METADATA_KEY: facts.encoded(), STREAMS_KEY: f"{where} {len(streams)} {zlib.crc32(streams)}"}
        self._writer.add_key_value_metadata(metadata)  # type: ignore[arg-type]
        self._writer.close()
        self._file.close()
        return facts

    def _add(self, host: str, parts: list[_Part]) -> None:
        samples = parts[0].samples if len(parts) == 1 else concatenated([part.samples for part in parts])
        order = _order_of(samples)
        source = np.repeat(np.array([part.source for part in parts], np.int32), [len(part.samples) for part in parts])
        record = np.concatenate([part.record for part in parts])
        time = samples["time"]
        from_ = parts[0].source if len(parts) == 1 else -1
        self._hosts[host] = HostRows(self._groups, self._groups, len(order), from_, int(time.min()), int(time.max()))
        columns = {name: values if _is_same(values) else values.take(order) for name, values in samples.columns.items()}
        self._pending.append((Samples(columns, samples.words), source.take(order), record.take(order)))
        if sum(len(waiting) for waiting, _, _ in self._pending) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write the hosts that wait as one row group."""
        import pyarrow as pa

        if not self._pending:
            return
        samples = concatenated([waiting for waiting, _, _ in self._pending])
        source, record = (np.concatenate([waiting[at] for waiting in self._pending]) for at in (1, 2))
        stored = {name: self._stored(name, samples[name]) for name in COLUMNS if name not in self._untold}
        stored |= {"source": source, "record": record}
        arrays = [_array(name, values, samples.words.get(name)) for name, values in stored.items()]
        self._writer.write_table(pa.table(arrays, schema=self.schema), row_group_size=len(samples))
        for name, words in samples.words.items():
            stored[name] = _numbered(stored[name], words)
        self.checksums.append(_checksum(len(samples), stored))
        self._note_values(samples)
        self._streams.add(samples)
        self.rollups.add(samples, [host for host in samples.words["host"] if self._hosts[host].source >= 0])
        self._groups += 1
        self._pending = []

    def _note_values(self, samples: Samples) -> None:
        """Note which columns have one value only."""
        for name, seen in self._values.items():
            if len(seen) > 1:
                continue
            values = samples[name]
            if name in TEXT_COLUMNS:
                seen.update(samples.words[name][:2])
            elif _is_same(values) or (values == values[0]).all():
                value = values[0].item()
                value = float(value) if name in FLOAT_COLUMNS else value
                seen.add(None if name == "epoch" and value == NO_EPOCH else value)
            else:
                seen.update([0, 1])

    def _stored(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the values of a column as they are kept: codes of texts, whole numbers where there is a scale."""
        if name not in FLOAT_COLUMNS:
            return values
        if not self._scales[name]:
            return values.astype(np.float64, copy=False)
        if _is_same(values):
            return np.broadcast_to(self._scaled(name, values[:1]), len(values))
        return self._scaled(name, values)

    def _scaled(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return values as whole numbers of the column's scale. Raise _ScaleError if that would lose anything."""
        if values.dtype.kind != "f" and self._scales[name] == 1:
            return values
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


def _order_of(samples: Samples) -> np.ndarray:
    """Return the order of a host's rows by stream and time; of equal instants the first read stays first.

    A sort of one number, of a mixture of what tells streams apart and the place, brings rows of a stream together in
    reading order, which is mostly that of time. Then there are few runs of rows to put in order, and not many rows.
    """
    size = len(samples)
    group = (samples["rolledup"] > 0) | (samples["pid"] == 0)
    which = np.where(group, samples["ppid"], samples["pid"])
    mixed = which.view(np.uint64) * _FACTORS[0]
    for name, factor in zip(("job", "user", "cmd"), _FACTORS[1:], strict=True):
        if not _is_same(samples[name]):
            mixed += samples[name].view(np.uint64) * factor
    places = np.uint64((1 << size.bit_length()) - 1)
    mixed &= ~places
    mixed |= np.arange(size, dtype=np.uint64)
    mixed.sort()
    mixed &= places
    together = mixed.view(np.int64)
    keys = ("host", "job", "epoch", "user", "cmd", "rolledup", "pid", "ppid", "time")
    near = {name: values if _is_same(values := samples[name]) else values.take(together) for name in keys}
    order: np.ndarray = together.take(ordered_by(stream_numbers(Samples(near, samples.words)), near["time"]))
    return order


def _is_same(values: np.ndarray) -> bool:
    """Whether a column is known to have the same value throughout."""
    return values.strides == (0,)


def _array(name: str, values: np.ndarray, words: list[str] | None) -> "pa.Array[Any]":
    """Return what is kept of a column as it is written."""
    import pyarrow as pa

    if words is not None:
        codes: Any = pa.array(values.astype(np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string()), safe=False)
    values = np.ascontiguousarray(values)
    array: pa.Array[Any] = pa.array(values, mask=values == NO_EPOCH if name == "epoch" else None)
    return array


def _schema(scales: dict[str, int], untold: frozenset[str]) -> "pa.Schema":
    import pyarrow as pa

    fields = []
    for name in COLUMNS:
        if name in untold:
            continue
        wanted = sample_schema().field(name)
        fields.append(pa.field(name, pa.int64(), nullable=False) if scales.get(name) else wanted)
    return pa.schema(
        [*fields, pa.field("source", pa.int32(), nullable=False), pa.field("record", pa.int32(), nullable=False)]
    )


def _read(file: LogFile, reader: SampleReader, size: int | None = None) -> tuple[Source, Samples]:
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
    samples = reader.samples(content[:offset], is_json=is_json, dropped=dropped)
    return Source(
        file.path.name, offset, len(content), state.st_mtime_ns, state.st_ino, digest, whole, dict(dropped)
    ), samples


def _parts(source: int, samples: Samples) -> Iterator[tuple[str, _Part]]:
    """Yield the hosts in a file's samples, each with its rows and their places."""
    record = np.arange(len(samples), dtype=np.int32)
    hosts = samples.words["host"] if len(samples) else []
    if len(hosts) == 1:
        yield hosts[0], _Part(source, samples, record)
        return
    for code, host in enumerate(hosts):
        of_host = np.flatnonzero(samples["host"] == code)
        if len(of_host):
            yield host, _Part(source, of_hosts(samples, [host]), record[of_host])


def _checksum(size: int, columns: dict[str, np.ndarray]) -> int:
    """Return a number that is another one if any value, or the order of values, is. Texts are given as numbers."""
    weights, all_weights = _weights(size)
    total = size
    for values in columns.values():
        bits = values.view(np.uint64) if values.itemsize == 8 else values.astype(np.uint64)
        with np.errstate(over="ignore"):
            weighted = bits[0] * all_weights if _is_same(bits) and size else np.dot(bits, weights)
        total = (total * int(_FACTORS[0]) + int(weighted)) % _WORD
    return total


@lru_cache(maxsize=8)
def _weights(size: int) -> tuple[np.ndarray, np.uint64]:
    weights = np.arange(1, size + 1, dtype=np.uint64) * _FACTORS[1] | np.uint64(1)
    return weights, weights.sum(dtype=np.uint64)


@lru_cache(maxsize=1 << 16)
def _number_of(word: str) -> int:
    return zlib.crc32(word.encode())


def _numbered(codes: np.ndarray, words: list[str]) -> np.ndarray:
    """Return a number for each text, whatever its code."""
    numbers = np.array(list(map(_number_of, words)) or [0], np.uint64)
    return np.broadcast_to(numbers[codes[0]], len(codes)) if _is_same(codes) and len(codes) else numbers.take(codes)


def _verify(path: Path, facts: Facts, writing: _Writing) -> None:
    """Read back what was written, row group by row group. Raise SonarError if it is not what it should be."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, read_dictionary=list(TEXT_COLUMNS)) as file:
            read = [_checksum_of(file.read_row_group(group, use_threads=False)) for group in range(file.num_row_groups)]
            good = read == writing.checksums and file.schema_arrow.equals(writing.schema)
            good &= Facts.decoded((file.metadata.metadata or {})[METADATA_KEY]) == facts
    except (OSError, ValueError, LookupError, TypeError):  # of which pyarrow's are some
        good = False
    if not good:
        raise SonarError(f"What was written does not read back: '{path}'")


def _checksum_of(table: "pa.Table") -> int:
    columns = {}
    for name in table.column_names:
        column: Any = table.column(name).combine_chunks()
        if name in TEXT_COLUMNS:
            columns[name] = _numbered(column.indices.to_numpy(), column.dictionary.to_pylist())
        elif name == "epoch":
            columns[name] = column.fill_null(NO_EPOCH).to_numpy()
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return _checksum(len(table), columns)

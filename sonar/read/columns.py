"""Columns: the samples of one directory of the log as a Parquet file beside it, and what of the log they cover.

`0+columns.parquet` lies in the directory YYYY/MM/DD whose files of samples it was made from. Its rows are sorted by
host, stream and time; `source` is the number of the file that a row came from, `record` its place in it. The metadata
say for each source up to which byte it was read, and how to tell whether the file has been rewritten since. So the
samples of a directory are, at every moment: the rows whose source is unchanged, and what the files hold beyond them.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from sonar.places import ObjectPath, known_state, parquet_source, telling
from sonar.read.batches import opened_batches
from sonar.read.files import COLUMNS_NAME, FACTS_NAME
from sonar.read.schema import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, sample_schema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.samples import Samples, Streams

__all__ = [
    "COLUMNS_NAME",
    "ColumnsFile",
    "Facts",
    "HostRows",
    "Identity",
    "Source",
    "covered",
    "digest_of",
    "facts_at",
    "forget_columns",
    "identity_of",
    "open_columns",
    "repeated",
]

FORMAT = 1
METADATA_KEY = b"sonar"
STREAMS_KEY = b"sonar-streams"
IDENTITY_KEY = b"sonar-columns"

_DIGESTED = 4096
_MANY = 8  # with an eighth of the row groups it pays to read the table of the streams

_NUMPY_TYPES = {
    "gpus": "uint64",
    "gpufail": "uint8",
    "in_container": "bool",
}  # of columns that are neither int64 nor float64


Identity: TypeAlias = tuple[int, int, int]
"""Inode, time of change and size of a file: those of two versions of a file differ."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the log as it was when it was read."""

    name: str
    offset: int  # so many bytes of it are in the columns
    size: int
    mtime_ns: int
    inode: int
    digest: str  # of the first and the last bytes before `offset`
    whole: bool = False  # cannot be read in parts: covered only as long as it does not change at all
    dropped: dict[str, int] = field(default_factory=dict)  # bad records, by reason
    removed: bool = False  # from the log, since the columns have all that was in it

    @property
    def is_json(self) -> bool:
        """Whether it holds envelopes."""
        return self.name.endswith(".json")


@dataclass(frozen=True, slots=True)
class HostRows:
    """Where the rows of a host are: in which row groups, how many, from which source; -1 is several."""

    first: int
    last: int
    rows: int
    source: int
    earliest: int
    latest: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The metadata of a file of columns."""

    sources: tuple[Source, ...]
    hosts: dict[str, HostRows]
    scales: dict[str, int]  # columns kept as whole numbers: value times scale
    constants: dict[str, Any]  # columns that have one value throughout

    def encoded(self) -> bytes:
        """Return them as they are written."""
        sources = [asdict(source) for source in self.sources]
        hosts = {host: [getattr(rows, name) for name in HostRows.__slots__] for host, rows in self.hosts.items()}
        facts = {"format": FORMAT, "sources": sources, "hosts": hosts, "scales": self.scales}
        return json.dumps(facts | {"constants": self.constants}).encode()

    @classmethod
    def decoded(cls, text: bytes) -> "Facts | None":
        """Return what was written; None if it is of another format."""
        read = json.loads(text)
        if read.get("format") != FORMAT:
            return None
        return cls(
            tuple(Source(**source) for source in read["sources"]),
            {host: HostRows(*rows) for host, rows in read["hosts"].items()},
            read["scales"],
            read["constants"],
        )


def covered(source: Source, path: Path) -> int | None:
    """Return up to which byte a file is covered: None if it has been rewritten, or has gone, since it was read.

    An object may be a copy of the file that was read: it has no inode, and its time of change is that of the copy.
    """
    try:
        now = known_state(path)
        if now.st_ino == source.inode and now.st_size == source.size and now.st_mtime_ns == source.mtime_ns:
            return source.offset
        if isinstance(path, ObjectPath):
            is_rewritten = now.st_size < source.size or (source.whole and now.st_size != source.size)
        else:
            is_rewritten = source.whole or now.st_ino != source.inode or now.st_size <= source.size
        if is_rewritten:
            return None
        with telling(path), path.open("rb") as file:
            return source.offset if digest_of(file, source.offset) == source.digest else None
    except OSError:
        return None


def digest_of(file: BinaryIO, offset: int) -> str:
    """Return a digest of the first and the last bytes before an offset: what is appended to a file leaves it alone."""
    file.seek(0)
    digest = blake2b(file.read(min(_DIGESTED, offset)), digest_size=16)
    file.seek(max(offset - _DIGESTED, 0))
    digest.update(file.read(min(_DIGESTED, offset)))
    return digest.hexdigest()


class ColumnsFile:
    """An open file of columns."""

    def __init__(self, path: Path) -> None:
        """Open it; raise OSError or pyarrow's ArrowInvalid for what is no such file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        is_object = isinstance(path, ObjectPath)
        while True:  # until the path leads to the same file before and after it is opened
            self.identity = identity_of(path.stat())
            with telling(path):
                self._source = parquet_source(path) if is_object else pa.OSFile(os.fspath(path), "rb")
                self._file = pq.ParquetFile(self._source, read_dictionary=list(TEXT_COLUMNS), pre_buffer=is_object)
            if self.identity == identity_of(path.stat()):
                break
        facts = Facts.decoded((self._file.metadata.metadata or {}).get(METADATA_KEY, b"{}"))
        if facts is None:
            raise OSError(f"not of this format: '{path}'")
        self.facts = facts

    def read(self, host: str, columns: Sequence[str], *, with_source: bool = False) -> "pa.Table":
        """Return the rows of a host, sorted by stream and time, with these columns of the schema."""
        where = self.facts.hosts[host]
        names = [*columns, *(("source", "record") if with_source else ())]
        stored = [name for name in names if name != "host" and name not in self.facts.constants]
        table = self._groups(where.first, where.last, stored)
        if len(table) != where.rows:
            at = self._place(host)
            table = table.slice(at, where.rows)
        return self._decoded(table, names, host)

    def samples(self, hosts: Sequence[str], columns: Sequence[str]) -> "Samples":
        """Return the rows of some hosts, in the order of the file; whole numbers stay what they are.

        Of many hosts the streams are told apart, and the columns are without their keys.
        """
        import numpy as np

        from sonar.analysis.exact import ranges
        from sonar.analysis.rows import KEYS
        from sonar.analysis.samples import NO_EPOCH, Samples

        constants = self.facts.constants
        wanted = [host for host in self.facts.hosts if host in set(hosts)]
        where = [self.facts.hosts[host] for host in wanted]
        groups = sorted({group for rows in where for group in range(rows.first, rows.last + 1)})
        streams, words = self._streams(wanted) if len(groups) * _MANY >= self._file.num_row_groups else (None, {})
        if streams is not None:
            columns = [name for name in columns if name not in KEYS]
        names = [name for name in columns if name != "host" and name not in constants]
        table: Any = self._row_groups(groups, names)
        number = np.array([rows.rows for rows in where])
        size = int(number.sum())
        taken = None
        if size < len(table):
            before = np.cumsum([0, *(self._file.metadata.row_group(group).num_rows for group in groups)])
            place = dict(zip(groups, before.tolist(), strict=False))
            starts = np.array([place[rows.first] + self._place(host) for host, rows in zip(wanted, where, strict=True)])
            if np.array_equal(starts[1:], starts[:-1] + number[:-1]):
                table = table.slice(int(starts[0]), size)
            else:
                taken = ranges(starts, number)
        found: dict[str, Any] = {}
        words["host"] = wanted
        for name in columns:
            if name == "host":
                found[name] = np.repeat(np.arange(len(wanted)), number)
                continue
            if name in constants:
                value = constants[name]
                if name in TEXT_COLUMNS:
                    words[name], value = [value], 0
                kind = _NUMPY_TYPES.get(name, np.float64 if name in FLOAT_COLUMNS else np.int64)
                found[name] = np.broadcast_to(np.asarray(NO_EPOCH if value is None else value, kind), size)
                continue
            column = table.column(name)
            if name in TEXT_COLUMNS:
                values, words[name] = _coded(column)
            elif name == "epoch":
                values = column.fill_null(NO_EPOCH).to_numpy()
            else:
                values = column.to_numpy()
                scale = self.facts.scales.get(name, 1)
                if scale > 1:
                    values = values / float(scale)
            found[name] = values if taken is None else values.take(taken)
        return Samples(found, words, streams)

    def _streams(self, hosts: list[str]) -> "tuple[Streams | None, dict[str, list[str]]]":
        """Return the streams of some hosts, and their words; None if the file does not tell, or is damaged there."""
        from sonar.read.streams import streams_in

        where = (self._file.metadata.metadata or {}).get(STREAMS_KEY)
        if where is None:
            return None, {}
        offset, size, checksum = map(int, where.split())
        with telling(self.path):
            content = self._source.read_at(size, offset)  # type: ignore[call-arg]
        if zlib.crc32(content) != checksum:
            return None, {}
        return streams_in(content, hosts) or (None, {})

    def removed(self) -> "Iterator[tuple[str, pa.Table]]":
        """Yield each file that was removed from the log, with the rows that were in it, in order."""
        numbers = [number for number, source in enumerate(self.facts.sources) if source.removed]
        if not numbers:
            return
        import numpy as np
        import pyarrow as pa

        parts = [self.read(host, COLUMNS, with_source=True) for host in self.facts.hosts]
        table: Any = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        source, record = table.column("source").to_numpy(), table.column("record").to_numpy()
        for number in numbers:
            rows = np.flatnonzero(source == number)
            of_source = table.select(list(COLUMNS)).take(rows[np.argsort(record[rows], kind="stable")])
            yield self.facts.sources[number].name, of_source

    def _place(self, host: str) -> int:
        """Return how many rows stand before those of a host in its row group."""
        before = 0
        where = self.facts.hosts[host]
        for other, rows in self.facts.hosts.items():
            if other == host:
                break
            before += rows.rows if rows.first == where.first else 0
        return before

    def _groups(self, first: int, last: int, columns: Sequence[str]) -> "pa.Table":
        return self._row_groups(list(range(first, last + 1)), columns)

    def _row_groups(self, groups: list[int], columns: Sequence[str]) -> "pa.Table":
        with telling(self.path):
            table: pa.Table = self._file.read_row_groups(groups, columns=list(columns) or ["time"], use_threads=False)
        return table

    def _decoded(self, table: "pa.Table", columns: Sequence[str], host: str) -> "pa.Table":
        """Return the table with the columns and types of the schema."""
        import pyarrow as pa

        schema = sample_schema()
        arrays, fields = [], []
        for name in columns:
            wanted = schema.field(name) if name in COLUMNS else pa.field(name, pa.int32(), nullable=False)
            fields.append(wanted)
            if name == "host" or name in self.facts.constants:
                value = host if name == "host" else self.facts.constants[name]
                arrays.append(repeated(value, wanted.type, len(table)))
                continue
            column: Any = table.column(name)
            if scale := self.facts.scales.get(name):
                values = column.to_numpy()
                column = pa.array(values / float(scale) if scale > 1 else values.astype(float))
            elif column.type != wanted.type:
                column = column.cast(wanted.type)
            arrays.append(column)
        return pa.table(arrays, schema=pa.schema(fields))


def _coded(column: Any) -> "tuple[np.ndarray, list[str]]":
    """Return the words of a column as codes, and the words behind these, ascending by byte."""
    import numpy as np

    known = [chunk.dictionary.to_pylist() for chunk in column.chunks]
    words = sorted({word for of_chunk in known for word in of_chunk}, key=str.encode)
    code = {word: at for at, word in enumerate(words)}
    codes = [
        np.array([code[word] for word in of_chunk] or [0], np.int32)[chunk.indices.to_numpy()]
        for of_chunk, chunk in zip(known, column.chunks, strict=True)
    ]
    return np.concatenate([*codes, np.zeros(0, np.int32)]), words


def repeated(value: Any, type_: Any, size: int) -> Any:
    """Return an array of the same value."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), size), pa.array([value], pa.string()))
    return pa.nulls(size, type_) if value is None else pa.repeat(pa.scalar(value, type_), size)


def open_columns(path: Path, identity: Identity | None = None) -> ColumnsFile | None:
    """Return the columns at a path, from memory if they have not changed; None if there are none that can be read.

    With an identity it must be these columns, and not any that have replaced them.
    """
    try:
        if identity is None:
            identity = identity_of(known_state(path))
        opened = _opened(path, identity, os.getpid() if isinstance(path, ObjectPath) else 0)
    except (OSError, ValueError):  # of which ArrowInvalid is one
        return None
    return opened if opened.identity == identity else None


def facts_at(path: Path, identity: Identity | None = None) -> tuple[Identity, Facts] | None:
    """Return what the metadata of the columns at a path say; None if there are none that can be read.

    The table of the runs in them repeats it: the columns' own metadata also say where each column of each host lies,
    so that they take long to read, and much memory.
    """
    try:
        if identity is None:
            identity = identity_of(known_state(path))
        facts = _facts(path, identity)
    except (OSError, ValueError):
        return None
    return None if facts is None else (identity, facts)


def forget_columns() -> None:
    """Give up the memory that opened columns take."""
    _opened.cache_clear()
    _facts.cache_clear()


@lru_cache(maxsize=512)
def _facts(path: Path, identity: Identity) -> Facts | None:
    beside = path.parent / FACTS_NAME
    try:
        with opened_batches(beside) as file:
            metadata = file.metadata
        if tuple(json.loads(metadata.get(IDENTITY_KEY, b"[]"))) == identity:
            return Facts.decoded(metadata[METADATA_KEY])
    except (OSError, ValueError, KeyError):
        pass
    opened = open_columns(path, identity)
    return opened.facts if opened else None


@lru_cache(maxsize=512)
def _opened(path: Path, _identity: Identity, _process: int) -> ColumnsFile:
    """Return columns that are open in all processes, or of an object in this one, whose connection is its own."""
    return ColumnsFile(path)


def identity_of(state: os.stat_result) -> Identity:
    """Return the identity of a file by its state."""
    return state.st_ino, state.st_mtime_ns, state.st_size

"""Samples as NumPy columns: numbers as they are, texts as codes whose order is the byte order of the texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.read.schema import FLOAT_COLUMNS, TEXT_COLUMNS, sample_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "NO_EPOCH",
    "Samples",
    "Streams",
    "concatenated",
    "dense",
    "of_hosts",
    "ordered_by",
    "samples_of",
    "table_of",
]

_WORD = 1 << 63

NO_EPOCH = -1
"""Stands for an epoch that is not known; equal to itself only."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of rows that are sorted by host, stream and time: the key of each, and how many rows it has."""

    keys: dict[str, np.ndarray]  # host, job, epoch, user, cmd; whether it is a group of processes, and which
    length: np.ndarray

    def __getitem__(self, key: str) -> np.ndarray:
        return self.keys[key]

    def __len__(self) -> int:
        return len(self.length)

    @property
    def starts(self) -> np.ndarray:
        """The first row of each stream."""
        starts: np.ndarray = np.cumsum(self.length) - self.length
        return starts

    def take(self, streams: np.ndarray) -> "Streams":
        """Return the streams of a mask or in the order of an index."""
        return Streams({name: values[streams] for name, values in self.keys.items()}, self.length[streams])


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows as columns of equal length; `words[column][code]` is the text behind a code.

    Where the streams are known, the columns do without their keys.
    """

    columns: dict[str, np.ndarray]
    words: dict[str, list[str]]
    streams: Streams | None = None

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns["time"])

    def take(self, rows: np.ndarray) -> "Samples":
        """Return the rows of a mask or in the order of an index."""
        return Samples({name: values[rows] for name, values in self.columns.items()}, self.words)

    def select(self, columns: Sequence[str]) -> "Samples":
        """Return these columns only."""
        return Samples(
            {name: self.columns[name] for name in columns},
            {name: words for name, words in self.words.items() if name in columns},
        )

    def with_columns(self, **columns: np.ndarray) -> "Samples":
        """Return the same rows with columns added or replaced."""
        return Samples(self.columns | columns, self.words)

    def texts(self, column: str) -> Iterator[str]:
        """Yield the text of each row."""
        words = self.words[column]
        return (words[code] for code in self.columns[column])


def samples_of(table: "pa.Table") -> Samples:
    """Return the rows of a table of the sample schema, in order."""
    columns: dict[str, np.ndarray] = {}
    words: dict[str, list[str]] = {}
    combined = table.unify_dictionaries().combine_chunks()
    for name in combined.column_names:
        column: Any = combined.column(name)
        if name in TEXT_COLUMNS:
            array: Any = column.chunk(0) if column.num_chunks else None
            texts = [] if array is None else array.dictionary.to_pylist()
            ordered = sorted(set(texts), key=str.encode)
            rank = {text: code for code, text in enumerate(ordered)}
            ranks = np.array([rank[text] for text in texts], np.int64)
            columns[name] = ranks[array.indices.to_numpy()] if texts and len(table) else np.zeros(len(table), np.int64)
            words[name] = ordered
        elif name == "epoch":
            columns[name] = column.fill_null(NO_EPOCH).to_numpy()
        else:
            columns[name] = column.to_numpy()
    return Samples(columns, words)


def table_of(samples: Samples) -> "pa.Table":
    """Return rows as a table of the sample schema, with the columns that they have."""
    import pyarrow as pa

    arrays: list[Any] = []
    for name, values in samples.columns.items():
        if name in TEXT_COLUMNS:
            codes: Any = pa.array(values.astype(np.int32))
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(samples.words[name], pa.string())))
        elif name == "epoch":
            arrays.append(pa.array(np.ascontiguousarray(values), mask=values == NO_EPOCH))
        else:
            arrays.append(
                pa.array(values.astype(np.float64) if name in FLOAT_COLUMNS else np.ascontiguousarray(values))
            )
    return pa.table(arrays, schema=pa.schema([sample_schema().field(name) for name in samples.columns]))


def concatenated(parts: Sequence[Samples]) -> Samples:
    """Return the rows of all parts, in order, their codes on one vocabulary; what is the same throughout stays so."""
    words = {
        # Code points are in the order of their bytes.
        name: sorted({word for part in parts for word in part.words[name]})
        for name in parts[0].words
    }
    if len(parts) == 1:
        return parts[0]
    columns = {}
    for name in parts[0].columns:
        pieces = [part[name] for part in parts if len(part)]
        if name in words:
            rank = {word: code for code, word in enumerate(words[name])}
            tables = [np.array([rank[word] for word in part.words[name]], np.int64) for part in parts if len(part)]
            pieces = [
                np.broadcast_to(table[piece[0]], len(piece)) if piece.strides == (0,) else table.take(piece)
                for table, piece in zip(tables, pieces, strict=True)
            ]
        if all(piece.strides == (0,) for piece in pieces) and len({piece[0].item() for piece in pieces}) == 1:
            columns[name] = np.broadcast_to(pieces[0][0], sum(map(len, pieces)))
        else:
            columns[name] = np.concatenate(pieces or [part[name] for part in parts])
    return Samples(columns, words)


def of_hosts(samples: Samples, hosts: Sequence[str]) -> Samples:
    """Return the rows of some of the hosts, in order."""
    known = samples.words["host"]
    place = np.full(len(known), -1)
    wanted = [host for host in known if host in set(hosts)]
    place[[known.index(host) for host in wanted]] = np.arange(len(wanted))
    code = place[samples["host"]]
    rows = np.flatnonzero(code >= 0)
    return Samples(
        {name: values[rows] for name, values in samples.columns.items()} | {"host": code[rows]},
        samples.words | {"host": wanted},
    )


def dense(*keys: np.ndarray) -> np.ndarray:
    """Return for each row the number of its combination of keys, counted in sorted order, the first key first.

    Runs of equal rows are looked at once, and keys of small range are sorted as one number: rows that come sorted by
    stream, or of one host, cost little.
    """
    size = len(keys[0])
    if size == 0:
        return np.zeros(0, np.int64)
    new = np.zeros(size, bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    heads = np.flatnonzero(new)
    numbers = _dense_of_distinct(_packed([key[heads] for key in keys]))
    return numbers if len(heads) == size else np.repeat(numbers, np.diff(np.append(heads, size)))


def _packed(keys: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return fewer keys of the same order: neighbours whose values fit a 63-bit number together become one."""
    packed: list[np.ndarray] = []
    width = _WORD
    for key in keys:
        lowest = int(key.min())
        span = int(key.max()) - lowest
        if span == 0:
            continue
        relative = key.astype(np.int64) - lowest if span < _WORD else key
        if packed and span < _WORD and width * (span + 1) < _WORD:
            packed[-1] = packed[-1] * (span + 1) + relative
            width *= span + 1
        else:
            packed.append(relative)
            width = span + 1
    return packed or [np.zeros(len(keys[0]), np.int64)]


def _dense_of_distinct(keys: Sequence[np.ndarray]) -> np.ndarray:
    order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def ordered_by(number: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the stable order of rows by a number and then by time.

    Where rows come in runs of equal number with ascending times, as they do from columns, only the runs are sorted.
    """
    size = len(number)
    new = np.ones(size, bool)
    new[1:] = number[1:] != number[:-1]
    starts = np.flatnonzero(new)
    if len(starts) * 4 < size and not np.any((time[1:] < time[:-1]) & ~new[1:]):
        runs = np.lexsort((time[starts], number[starts]))
        ends = np.append(starts[1:], size)
        first, last = time[starts[runs]], time[ends[runs] - 1]
        same = number[starts[runs[1:]]] == number[starts[runs[:-1]]]
        if not np.any(same & (first[1:] <= last[:-1])):
            length = (ends - starts)[runs]
            shift = np.cumsum(length) - length
            return np.repeat(starts[runs] - shift, length) + np.arange(size)
    return np.lexsort((time, number))

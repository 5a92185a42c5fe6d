"""Tagged CSV, vectorised: all fields of a block of records at once, over the bytes.

`records.py` defines what is right. What this module does not recognise at sight (odd quotes, carriage returns, text
that is not ASCII, untagged records, numbers with a sign or an exponent, missing or repeated tags) it leaves to that
parser, record by record, and puts the outcome back in its place. So both always give the same rows.

How: `fields.py` finds the fields of a block, `layouts.py` their tags, `numerals.py` reads their digits, and `words.py`
numbers their texts.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.read.fields import Block, blocks
from sonar.read.layouts import COLUMNS_OF_TAGS, Layouts, Lines
from sonar.read.numerals import NO_INSTANT, instants_of, numbers_of, whole_numbers_of
from sonar.read.records import read_part
from sonar.read.rows import DEFAULTS, Rows
from sonar.read.schema import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, sample_schema
from sonar.read.words import NO_MASK, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from sonar.analysis.samples import Samples

__all__ = ["Tokenizer"]

_MOST_WORDS = 1 << 18  # distinct texts remembered over files
_U32 = (1 << 32) - 1
_U32_COLUMNS = frozenset({"cores", "job", "rolledup", "gpufail"})

_Columns = dict[str, np.ndarray]

# Of columns of the analysis that are no signed integers; and what numbers of some bytes are compared as.
_TYPES = {"gpus": np.uint64, "gpufail": np.uint8, "in_container": np.bool_}
_BITS = {1: np.uint8, 8: np.uint64}


class Tokenizer:
    """Parses files of records; layouts and texts seen once are remembered from file to file."""

    def __init__(self) -> None:
        _keep_freed_memory()
        self._words = {name: Words() for name in (*TEXT_COLUMNS, "gpus")}
        self._layouts = Layouts()

    def table(self, data: bytes, dropped: Counter[str], *, begins_file: bool = True) -> "pa.Table":
        """Return every good record of a file's bytes, in order, as a table of the schema; count the bad ones."""
        import pyarrow as pa

        tables = [
            part if isinstance(part, pa.Table) else _table(part, self._words)
            for part in self._parts(data, dropped, begins_file=begins_file)
        ]
        tables = [table for table in tables if len(table)] or tables[:1]
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries().combine_chunks()

    def samples(self, data: bytes, dropped: Counter[str], *, begins_file: bool = True) -> "Samples":
        """Return the same as columns of the analysis: whole numbers as integers, what is the same throughout once."""
        import pyarrow as pa

        from sonar.analysis.samples import concatenated, samples_of

        parts = [
            samples_of(part) if isinstance(part, pa.Table) else _samples(part, self._words)
            for part in self._parts(data, dropped, begins_file=begins_file)
        ]
        parts = [part for part in parts if len(part)] or parts[:1]
        return parts[0] if len(parts) == 1 else concatenated(parts)

    def _parts(
        self, data: bytes, dropped: Counter[str], *, begins_file: bool
    ) -> "Iterator[list[tuple[_Columns, int]] | pa.Table]":
        """Yield the records in pieces, one at least: values by column of blocks, or the rows of one with odd lines."""
        if begins_file:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if max((len(words) for words in self._words.values()), default=0) > _MOST_WORDS:
            self.__init__()  # type: ignore[misc]
        waiting: list[tuple[_Columns, int]] = []
        for start, end in blocks(data):
            block = Block(data[start:end])
            columns, lines = self._columns(block)
            odd = block.odd & ~block.empty
            if odd.any():
                if waiting:
                    yield waiting
                waiting = []
                yield _with_odd_lines(_table([(columns, len(lines))], self._words), lines, odd, block, dropped)
            else:
                waiting.append((columns, len(lines)))
        yield waiting

    def _columns(self, block: Block) -> tuple[_Columns, np.ndarray]:
        """Return the values by column, a row for each good line, and which lines these are; the others become odd."""
        lines = Lines(block, self._layouts)
        columns: _Columns = {}
        for column in COLUMNS_OF_TAGS.values() if len(lines) else ():
            found = lines.fields_of(column)
            if found is None:
                continue
            fields, rows = found
            if lines.runs is not None and lines.shared(column):
                heads, run = lines.runs
                columns[column] = self._values(lines, column, fields[heads], heads).take(run)
                lines.mark_runs()
            else:
                values = self._values(lines, column, fields, rows)
                columns[column] = values if rows is None else _placed(column, values, rows, len(lines))
        lines.finish()
        number = np.arange(len(block.odd)) if lines.number is None else lines.number
        if lines.bad.any():
            good = np.flatnonzero(~lines.bad)
            return {name: values[good] for name, values in columns.items()}, number[good]
        return columns, number

    def _values(self, lines: Lines, column: str, fields: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Return what fields say: numbers, instants, codes of texts; marks the lines of unusual ones."""
        texts = lines.values_of(column, fields, rows)
        bad: np.ndarray | None
        if column in FLOAT_COLUMNS:
            values, bad = numbers_of(texts)
        elif column == "time":
            values = instants_of(texts)
            bad = values == NO_INSTANT
        elif column in self._words:
            values = self._words[column].codes(texts)
            bad = texts.length == 0 if column in ("version", "host", "user") else None
            if column == "gpus":
                values = self._words[column].masks()[values]
                bad = values == NO_MASK
        else:
            values, bad = whole_numbers_of(texts)
            if column in _U32_COLUMNS:
                too_large = values > _U32
                bad = too_large if bad is None else bad | too_large
        if bad is not None and bad.any():
            lines.mark(bad, rows)
        return values


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep what is freed: else each array of a block is mapped, zeroed and unmapped anew.

    That is a quarter of the time. Other C libraries than glibc have no such knob, and need none.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: arrays below that come from the heap
        mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD: so much free heap is kept


def _placed(column: str, values: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Return a value for each line: the column's default where a line does not have it."""
    default = DEFAULTS[column]
    placed = np.full(size, -1 if default in ("", None) else default, values.dtype)
    placed[rows] = values
    return placed


def _table(parts: list[tuple[_Columns, int]], words: dict[str, Words]) -> "pa.Table":
    """Return the rows of blocks, their values by column and their number, as a table."""
    import pyarrow as pa

    size = sum(number for _, number in parts)
    schema = sample_schema()
    arrays: list[Any] = []
    for name in COLUMNS:
        type_ = schema.field(name).type
        if size == 0 or not any(name in columns for columns, _ in parts):
            arrays.append(_constant(name, size, type_))
            continue
        values = _joined(name, parts)
        if name in TEXT_COLUMNS:
            arrays.append(_coded(values, words[name].texts))
        elif name in FLOAT_COLUMNS:
            arrays.append(pa.array(values.astype(np.float64, copy=False)))
        elif name == "epoch":
            arrays.append(pa.array(values, mask=values < 0))
        elif name == "gpufail":
            arrays.append(pa.array((values != 0).astype(np.uint8)))
        else:
            arrays.append(pa.array(values))
    return pa.table(arrays, schema=schema)


def _joined(name: str, parts: list[tuple[_Columns, int]]) -> np.ndarray:
    """Return the values of a column in all blocks."""
    if len(parts) == 1:
        return parts[0][0][name]
    default = DEFAULTS[name]
    missing = -1 if default in ("", None) else default
    type_ = np.result_type(*(columns[name].dtype for columns, _ in parts if name in columns))
    return np.concatenate(
        [columns.get(name, np.broadcast_to(np.array(missing, type_), number)) for columns, number in parts]
    )


def _samples(parts: list[tuple[_Columns, int]], words: dict[str, Words]) -> "Samples":
    """Return the rows of blocks, their values by column and their number, as columns of the analysis."""
    from sonar.analysis.samples import NO_EPOCH, Samples

    size = sum(number for _, number in parts)
    found: _Columns = {}
    texts: dict[str, list[str]] = {}
    for name in COLUMNS:
        is_there = any(name in columns for columns, _ in parts)
        if name in TEXT_COLUMNS:
            codes = _joined(name, parts) if is_there else np.zeros(0, np.int64)
            found[name], texts[name] = words[name].ranked(codes)
        elif not is_there:
            default = NO_EPOCH if name == "epoch" else DEFAULTS[name]
            found[name] = np.broadcast_to(np.array(default, _TYPES.get(name, np.int64)), size)
        else:
            values = _joined(name, parts)
            values = (values != 0).astype(np.uint8) if name == "gpufail" else values
            bits = values.view(_BITS[values.itemsize])
            is_same = size > 0 and bits[0] == bits[-1] and (bits == bits[0]).all()
            found[name] = np.broadcast_to(values[0], size) if is_same else values
    return Samples(found, texts)


def _constant(name: str, size: int, type_: Any) -> Any:
    """Return the default of a column so many times."""
    largest = 1 << max(size - 1, 1).bit_length()
    return _constants(name, largest, type_).slice(0, size)


@cache
def _constants(name: str, size: int, type_: Any) -> Any:
    import pyarrow as pa

    default = DEFAULTS[name]
    if name in TEXT_COLUMNS:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int32), pa.int32()), pa.array([default]))
    return pa.nulls(size, type_) if default is None else pa.repeat(pa.scalar(default, type_), size)


def _coded(codes: np.ndarray, texts: list[str]) -> Any:
    """Return a dictionary array of only the texts that occur."""
    import pyarrow as pa

    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    place = np.zeros(len(texts), np.int32)
    place[used] = np.arange(len(used))
    occurring = [texts[code] for code in used.tolist()]
    indices: Any = pa.array(place.take(codes))
    return pa.DictionaryArray.from_arrays(indices, pa.array(occurring, pa.string()), safe=False)


def _with_odd_lines(
    table: "pa.Table", lines: np.ndarray, odd: np.ndarray, block: Block, dropped: Counter[str]
) -> "pa.Table":
    """Return the table with what the plain parser makes of the odd lines, in the order of the lines."""
    import pyarrow as pa

    # Runs of odd lines, empty ones between them included, are read in one piece: a quote may span lines.
    apart = ~(odd | block.empty)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], apart, [True])).astype(np.int8)))
    rows, places = Rows(), []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        before = len(rows)
        read_part(block.part(first, after - 1), rows, dropped)
        places += [first] * (len(rows) - before)
    if not places:
        return table
    order = np.argsort(np.append(lines, places), kind="stable")
    both: Any = pa.concat_tables([table, rows.table()]).unify_dictionaries().combine_chunks()
    taken: pa.Table = both.take(pa.array(order))
    return taken

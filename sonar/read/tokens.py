"""Tagged CSV, vectorised: all fields of a block of records at once, over the bytes.

`records.py` defines what is right. What this module does not recognise at sight (odd quotes, carriage returns, text
that is not ASCII, untagged records, numbers with a sign or an exponent, missing or repeated tags) it leaves to that
parser, record by record, and puts the outcome back in its place. So both always give the same rows.

How: `fields.py` finds the fields of a block and their tags, `numerals.py` reads their digits, and texts are looked up
by their first sixteen bytes in a table that is kept over blocks and files.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.gpusets import mask_of
from sonar.read.fields import FIRST_BYTES, TAGS, TEXTS_FROM, Block, blocks
from sonar.read.numerals import NO_INSTANT, instants_of, numbers_of, runs_of
from sonar.read.records import read_part
from sonar.read.rows import DEFAULTS, Rows
from sonar.read.schema import COLUMNS, TEXT_COLUMNS, sample_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Tokenizer"]

_MOST_WORDS = 1 << 18  # distinct texts remembered over files
_U32 = (1 << 32) - 1
_NUMBERS = ("cores", "job", "rolledup", "gpufail", "epoch", "pid", "ppid")
_NUMBERS_U32 = ("cores", "job", "rolledup", "gpufail")
_NO_MASK = (1 << 64) - 1
_MANDATORY = ("version", "time", "host", "user", "cmd")


class Tokenizer:
    """Parses files of records; texts seen once are remembered from file to file."""

    def __init__(self) -> None:
        _keep_freed_memory()
        self._words = {name: _Words() for name in (*TEXT_COLUMNS, "gpus")}

    def table(self, data: bytes, dropped: Counter[str], *, begins_file: bool = True) -> "pa.Table":
        """Return every good record of a file's bytes, in order, as a table of the schema; count the bad ones."""
        import pyarrow as pa

        if begins_file:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if max((len(words) for words in self._words.values()), default=0) > _MOST_WORDS:
            self.__init__()  # type: ignore[misc]
        tables = [self._block(data[start:end], dropped) for start, end in blocks(data)]
        if len(tables) == 1:
            return tables[0]
        return pa.concat_tables([table for table in tables if len(table)] or [Rows().table()]).unify_dictionaries()

    def _block(self, data: bytes, dropped: Counter[str]) -> "pa.Table":
        block = Block(data)
        columns = self._columns(block)
        return _table(columns, self._words, block, dropped)

    def _columns(self, block: Block) -> dict[str, np.ndarray]:
        """Return the values by column, a row for each line; marks in the block the lines that have to be read again."""
        columns: dict[str, np.ndarray] = {}
        numbers, whole, is_whole = numbers_of(block, slice(block.bounds[1], block.bounds[TEXTS_FROM]))
        origin = block.bounds[1]
        for number, (_tag, column) in enumerate(TAGS, 1):
            part = slice(block.bounds[number], block.bounds[number + 1])
            lines = block.line[part]
            if part.start == part.stop:
                if column in _MANDATORY:
                    block.odd[:] = True
                continue
            twice = block.repeats[part.start : part.stop - 1]
            if repeated := bool(twice.any()):
                block.odd[lines[1:][twice]] = True
            if number < TEXTS_FROM:
                of_column = slice(part.start - origin, part.stop - origin)
                if column in _NUMBERS:
                    values, bad = whole[of_column], ~is_whole[of_column]
                    if column in _NUMBERS_U32:
                        bad |= values > _U32
                else:
                    values = numbers[of_column]
                    bad = np.isnan(values)
            else:
                values, bad = self._texts(block, part, column)
            if bad.any():
                block.odd[lines[bad]] = True
            columns[column] = _placed(column, values, lines, len(block.odd), in_order=not repeated)
            if column in _MANDATORY and (repeated or len(lines) < len(block.odd)):
                there = np.zeros(len(block.odd), bool)
                there[lines] = True
                block.odd |= ~there
        return columns

    def _texts(self, block: Block, part: slice, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return codes, instants or masks of the texts of a column, and which of them have to be looked at again."""
        start, end = block.value[part], block.end[part]
        if column == "time":
            heads, run = runs_of(block, start, end)
            instants = instants_of(block, start[heads], end[heads])[run]
            return instants, instants == NO_INSTANT
        words = self._words[column]
        if column in ("version", "host"):  # they hardly ever change
            heads, run = runs_of(block, start, end)
            of_heads = [words.code(block.text(start[at], end[at])) for at in heads.tolist()]
            return np.array(of_heads, np.int64)[run], end == start
        codes = words.codes(block, start, end)
        if column == "gpus":
            masks = words.masks()[codes]
            return masks, masks == _NO_MASK
        return codes, (end == start) & (column == "user")


class _Words:
    """The distinct texts of a column, numbered, with a table that finds the numbers of many at once."""

    _SLOTS = 1 << 13

    def __init__(self) -> None:
        self._code: dict[bytes, int] = {}
        self.texts: list[str] = []
        self._first = np.zeros((2, self._SLOTS), np.uint64)
        self._second = np.zeros((2, self._SLOTS), np.uint64)
        self._known = np.full((2, self._SLOTS), -1, np.int64)  # length * 2**32 + code
        self._masks = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self.texts)

    def code(self, text: bytes) -> int:
        """Return the number of a text."""
        code = self._code.get(text)
        if code is None:
            code = self._code[text] = len(self.texts)
            self.texts.append(text.decode("ascii", "replace"))  # what is not ASCII is read again
        return code

    def masks(self) -> np.ndarray:
        """Return the set of cards that each text says, by number; each is parsed once."""
        if len(self._masks) < len(self.texts):
            found = [mask_of(text) if text else None for text in self.texts[len(self._masks) :]]
            self._masks = np.append(
                self._masks, np.array([_NO_MASK if mask is None else mask for mask in found], np.uint64)
            )
        return self._masks

    def codes(self, block: Block, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the numbers of the texts at these places of a block."""
        length = end - start
        first = block.words[start] & FIRST_BYTES[np.minimum(length, 8)]
        second = block.words[start + 8] & FIRST_BYTES[np.clip(length - 8, 0, 8)]
        mixed = (first * np.uint64(0x9E3779B97F4A7C15)) ^ (second * np.uint64(0xC2B2AE3D27D4EB4F))
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        slots = (
            (mixed >> np.uint64(51)).astype(np.int64),
            ((mixed >> np.uint64(20)) & np.uint64(self._SLOTS - 1)).astype(np.int64),
        )
        codes: np.ndarray = np.full(len(start), -1, np.int64)
        left = np.arange(len(start))
        for way, slot in enumerate(slots):
            at = slot[left]
            known = self._known[way][at]
            hit = (self._first[way][at] == first[left]) & (self._second[way][at] == second[left])
            hit &= (known >> 32) == length[left]
            if way == 0 and hit.all():
                codes[:] = known & 0xFFFFFFFF
                return codes
            codes[left[hit]] = known[hit] & 0xFFFFFFFF
            left = left[~hit]
        self._learn(block, start, end, left, codes, (first, second, slots))
        return codes

    def _learn(
        self, block: Block, start: np.ndarray, end: np.ndarray, left: np.ndarray, codes: np.ndarray, keys: Any
    ) -> None:
        """Number the texts that the table does not have, and put them into it where there is room."""
        first, second, slots = keys
        for at in left:
            text = block.text(start[at], end[at])
            is_new = text not in self._code
            codes[at] = code = self.code(text)
            if not is_new or len(text) > 16:
                continue
            for way in (0, 1):
                slot = slots[way][at]
                if self._known[way][slot] < 0:
                    self._first[way][slot], self._second[way][slot] = first[at], second[at]
                    self._known[way][slot] = (len(text) << 32) | code
                    break


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


def _placed(column: str, values: np.ndarray, lines: np.ndarray, size: int, *, in_order: bool) -> np.ndarray:
    """Return a value for each line: the column's default where a line does not have it."""
    if column == "gpufail":
        values = values != 0
    if len(values) == size and in_order:
        return values
    default = DEFAULTS[column]
    placed = np.full(size, -1 if default in ("", None) else default, values.dtype)
    placed[lines] = values
    return placed


def _table(columns: dict[str, np.ndarray], words: dict[str, _Words], block: Block, dropped: Counter[str]) -> "pa.Table":
    """Return the rows of a block as a table, those that were read again at their places."""
    import pyarrow as pa

    good = ~block.odd & ~block.empty
    size = int(np.count_nonzero(good))
    everything = size == len(good)
    schema = sample_schema()
    arrays: list[Any] = []
    for name in COLUMNS:
        type_ = schema.field(name).type
        values = columns.get(name)
        if values is None or size == 0:
            arrays.append(_constant(name, size, type_))
            continue
        values = values if everything else values[good]
        if name in TEXT_COLUMNS:
            arrays.append(_coded(values, words[name].texts))
        elif name == "epoch":
            arrays.append(pa.array(values.astype(np.int64), mask=values < 0))
        else:
            arrays.append(pa.array(values.astype(type_.to_pandas_dtype(), copy=False)))
    table = pa.table(arrays, schema=schema)
    odd = block.odd & ~block.empty
    return _with_odd_lines(table, np.flatnonzero(good), odd, block, dropped) if odd.any() else table


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

    used = np.zeros(len(texts), bool)
    used[codes] = True
    place = (np.cumsum(used) - 1).astype(np.int32)
    occurring = [texts[code] for code in np.flatnonzero(used)]
    return pa.DictionaryArray.from_arrays(pa.array(place[codes], pa.int32()), pa.array(occurring, pa.string()))


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

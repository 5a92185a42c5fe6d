"""Lines of fixed columns, put together as a matrix of characters: each distinct text is looked at once.

Only code that has rows to print imports this module: it needs NumPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from sonar.render.columns import Column, cut, texts_in

__all__ = ["CodedTexts", "lines"]

_ROWS_AT_ONCE = 1 << 15  # bounds memory
_GAP = 2  # blanks between columns
_kernels: Any = pyarrow.compute


@dataclass(frozen=True, slots=True)
class CodedTexts:
    """A column of texts: the distinct ones, none of them null, and the number of that of each row."""

    texts: Column
    codes: np.ndarray

    @property
    def width(self) -> int:
        """The length of the longest text in characters."""
        return int(_kernels.max(_kernels.utf8_length(self.texts)).as_py() or 0)


def lines(columns: Sequence[CodedTexts], widths: Sequence[int]) -> Iterator[str]:
    """Give the lines, many at a time: texts are padded or cut to the widths, and blanks at the end left out."""
    is_ascii = all(_kernels.all(_kernels.string_is_ascii(column.texts)).as_py() is not False for column in columns)
    cells = [column.texts for column in columns]
    for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
        if column.width > width:
            cells[number] = pa.array([cut(text, width) for text in texts_in(column.texts)], pa.string())
            is_ascii = False  # of the ellipsis
    character: Any = np.dtype(np.uint8 if is_ascii else np.uint32)
    table_of = _ascii_table if is_ascii else _table
    tables = [table_of(texts, width + _GAP) for texts, width in zip(cells, widths, strict=True)]
    trimmed = [_kernels.utf8_length(_kernels.utf8_rtrim_whitespace(texts)).to_numpy() for texts in cells]
    starts = np.cumsum([0, *(width + _GAP for width in widths)])
    encoding = "ascii" if is_ascii else "utf-32-le" if np.little_endian else "utf-32-be"
    place = np.arange(starts[-1] + 1, dtype=np.int32)
    for first in range(0, len(columns[0].codes), _ROWS_AT_ONCE):
        codes = [column.codes[first : first + _ROWS_AT_ONCE] for column in columns]
        matrix = np.empty((len(codes[0]), len(place)), character)
        for table, at, start in zip(tables, codes, starts, strict=False):
            # The cells of this column as items of one type: much faster than rows of characters.
            offset = int(start) * character.itemsize
            np.ndarray((len(at),), table.dtype, matrix, offset, (matrix.strides[0],))[:] = table[at]
        length = np.zeros(len(matrix), np.int32)
        for of_texts, at, start in zip(trimmed[::-1], codes[::-1], starts[-2::-1], strict=True):
            own = of_texts[at]
            np.copyto(length, own + start, where=(length == 0) & (own > 0), casting="same_kind")
            if length.all():  # as by the last column, mostly
                break
        matrix[np.arange(len(length)), length] = ord("\n")
        yield str(matrix[place <= length[:, None]].data, encoding)


def _ascii_table(texts: Column, width: int) -> np.ndarray:
    """Return each text, padded with blanks, as bytes."""
    padded: Any = _kernels.ascii_rpad(texts, width)
    table: np.ndarray = np.frombuffer(padded.buffers()[2] or b"", f"V{width}", len(texts))
    return table


def _table(texts: Column, width: int) -> np.ndarray:
    """Return the same as four bytes a character."""
    return np.array([text.ljust(width) for text in texts_in(texts)], f"U{width}").view(f"V{4 * width}")

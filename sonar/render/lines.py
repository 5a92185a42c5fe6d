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
    table_of = _ascii_table if is_ascii else _table
    tables = [table_of(texts, width + _GAP) for texts, width in zip(cells, widths, strict=True)]
    trimmed = [_kernels.utf8_length(_kernels.utf8_rtrim_whitespace(texts)).to_numpy() for texts in cells]
    ends = np.cumsum([width + _GAP for width in widths])
    encoding = "ascii" if is_ascii else "utf-32-le" if np.little_endian else "utf-32-be"
    for start in range(0, len(columns[0].codes), _ROWS_AT_ONCE):
        codes = [column.codes[start : start + _ROWS_AT_ONCE] for column in columns]
        matrix = np.empty((len(codes[0]), ends[-1] + 1), tables[0].dtype)
        length = np.zeros(len(codes[0]), np.int64)
        for table, of_texts, at, end in zip(tables, trimmed, codes, ends, strict=True):
            matrix[:, end - table.shape[1] : end] = table[at]
            own = of_texts[at]
            np.copyto(length, own + (end - table.shape[1]), where=own > 0)
        matrix[np.arange(len(length)), length] = ord("\n")
        yield matrix[np.arange(matrix.shape[1]) <= length[:, None]].tobytes().decode(encoding)


def _ascii_table(texts: Column, width: int) -> np.ndarray:
    """Return the characters of each text, padded with blanks, as bytes."""
    padded: Any = _kernels.ascii_rpad(texts, width)
    data: np.ndarray = np.frombuffer(padded.buffers()[2] or b"", np.uint8, len(texts) * width)
    return data.reshape(len(texts), width)


def _table(texts: Column, width: int) -> np.ndarray:
    """Return the same as numbers of any characters."""
    padded = np.array([text.ljust(width) for text in texts_in(texts)], f"U{width}")
    return padded.view(np.uint32).reshape(len(texts), width)

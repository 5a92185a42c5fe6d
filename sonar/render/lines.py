"""Lines of fixed columns, put together as a matrix of characters: each distinct text is looked at once.

Only code that has rows to print imports this module: it needs NumPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonar.render.columns import cut

__all__ = ["CodedTexts", "lines"]

_ROWS_AT_ONCE = 1 << 15  # bounds memory
_GAP = 2  # blanks between columns


@dataclass(frozen=True, slots=True)
class CodedTexts:
    """A column of texts: the distinct ones, and the number of that of each row."""

    texts: list[str]
    codes: np.ndarray

    @property
    def width(self) -> int:
        """The length of the longest text in characters."""
        return max(map(len, self.texts), default=0)


def lines(columns: Sequence[CodedTexts], widths: Sequence[int]) -> Iterator[str]:
    """Give the lines, many at a time: texts are padded or cut to the widths, and blanks at the end left out."""
    cells = [[cut(text, width) for text in column.texts] for column, width in zip(columns, widths, strict=True)]
    is_ascii = all(text.isascii() for texts in cells for text in texts)
    character: Any = np.uint8 if is_ascii else np.uint32
    tables = []
    for texts, width in zip(cells, widths, strict=True):
        padded = np.array([text.ljust(width + _GAP) for text in texts], f"{'S' if is_ascii else 'U'}{width + _GAP}")
        tables.append(padded.view(character).reshape(len(texts), width + _GAP))
    lengths = [np.array([len(text.rstrip()) for text in texts]) for texts in cells]
    ends = np.cumsum([width + _GAP for width in widths])
    encoding = "ascii" if is_ascii else "utf-32-le" if np.little_endian else "utf-32-be"
    for start in range(0, len(columns[0].codes), _ROWS_AT_ONCE):
        codes = [column.codes[start : start + _ROWS_AT_ONCE] for column in columns]
        matrix = np.empty((len(codes[0]), ends[-1] + 1), character)
        length = np.zeros(len(codes[0]), np.int64)
        for table, of_texts, at, end in zip(tables, lengths, codes, ends, strict=True):
            matrix[:, end - table.shape[1] : end] = table[at]
            own = of_texts[at]
            np.copyto(length, own + (end - table.shape[1]), where=own > 0)
        matrix[np.arange(len(length)), length] = ord("\n")
        yield matrix[np.arange(matrix.shape[1]) <= length[:, None]].tobytes().decode(encoding)

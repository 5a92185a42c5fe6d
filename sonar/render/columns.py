"""Columns of texts: the few Arrow kernels that printing needs, typed, and quick where there is nothing to do.

A column is an Arrow array of strings; a null stands for a value that is left out.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute

__all__ = [
    "Column",
    "choose",
    "constant",
    "cut",
    "filled",
    "first_characters",
    "join",
    "map_distinct",
    "map_matching",
    "replace",
    "texts_in",
]

Column: TypeAlias = "pa.Array[Any]"

_kernels: Any = pyarrow.compute  # the type stubs know too few of the kernels' forms


def constant(text: str, length: int) -> Column:
    """Return a column of the same text."""
    return pa.repeat(pa.scalar(text, pa.string()), length)


def filled(texts: Column, text: str = "") -> Column:
    """Replace nulls by a text."""
    return _column(_kernels.fill_null(texts, text) if texts.null_count else texts)


def first_characters(texts: Column, number: int) -> Column:
    """Cut texts to so many characters."""
    return _column(_kernels.utf8_slice_codeunits(texts, 0, number))


def join(*parts: "Column | str", between: str = "", skip_nulls: bool = False) -> Column:
    """Join texts row by row; a null makes the row null, or is left out with its separator."""
    return _column(
        _kernels.binary_join_element_wise(*parts, between, null_handling="skip" if skip_nulls else "emit_null")
    )


def choose(texts: Column, equal_to: str, instead: str | None) -> Column:
    """Replace texts that are equal to one by another, or by null."""
    equal = _kernels.equal(texts, equal_to)
    return _column(_kernels.if_else(equal, pa.scalar(instead, pa.string()), texts))


def cut(text: str, width: int) -> str:
    """Return a text that is at most so many characters wide; what is cut ends in an ellipsis."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def replace(texts: Column, pattern: str, replacement: str) -> Column:
    """Replace what matches a regular expression (RE2)."""
    if not _kernels.any(_kernels.match_substring_regex(texts, pattern)).as_py():
        return texts
    return _column(_kernels.replace_substring_regex(texts, pattern, replacement))


def map_matching(function: Callable[[Any], str], texts: Column, pattern: str, values: "Column | None" = None) -> Column:
    """Replace each text that matches a regular expression by `function` of it, or of the value beside it."""
    matching = _kernels.fill_null(_kernels.match_substring_regex(texts, pattern), pa.scalar(value=False))
    if not _kernels.any(matching).as_py():
        return texts
    sources = (texts if values is None else values).filter(matching)
    return _column(_kernels.replace_with_mask(texts, matching, map_distinct(function, sources)))


def map_distinct(function: Callable[[Any], str], values: "pa.Array[Any]") -> Column:
    """Return `function` of each value, called once for each that is different; nulls stay."""
    coded: Any = values.dictionary_encode()
    texts = pa.array([function(value) for value in coded.dictionary.to_pylist()], pa.string())
    return _column(texts.take(coded.indices))


def texts_in(texts: Column) -> list[str]:
    """Return the texts as a list; nulls are empty."""
    filled_up: Any = filled(texts)
    listed: list[str] = filled_up.to_pylist()
    return listed


def _column(texts: Any) -> Column:
    column: Column = texts
    return column

"""Comparisons of a whole column with one value, for `--query`: this needs Arrow, parsing an expression does not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from sonar.render.values import texts_of
from sonar.times import DAY, MINUTE
from sonar.verbs.declare import Field, Kind
from sonar.verbs.operand import Hosts, Pattern, TimeUnit, operand_of

__all__ = ["mask"]

_kernels: Any = pyarrow.compute
_ORDER = {"=": "equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def mask(rows: pa.Table, field: Field, operator: str, text: str) -> "pa.Array[Any]":
    """Return for each row whether the field compares so with the value that the text means; never null."""
    operand = operand_of(field, operator, text)
    column: Any = rows.column(field.source)
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary.take(array.indices)
    if isinstance(operand, Pattern):
        passed = _kernels.match_substring_regex(texts_of(array, field.kind), operand.text)
    elif isinstance(operand, TimeUnit):
        units = _units(array, operand.length_s, of_day=field.kind is Kind.CLOCK)
        passed = getattr(_kernels, _ORDER[operator])(units, operand.number)
    elif isinstance(operand, Hosts):
        passed = _by_distinct(array, lambda names: _hosts_compare(names, operator, operand))
    elif isinstance(operand, frozenset):
        passed = _by_distinct(array, lambda words: _sets_compare(frozenset(words), operator, operand))
    elif field.kind is Kind.GPUS and isinstance(operand, int):
        passed = _by_distinct(array, lambda cards: _sets_compare(_bits(cards), operator, _bits(operand)))
    elif pa.types.is_null(array.type):
        passed = array
    else:
        value = pa.scalar(operand)
        passed = getattr(_kernels, _ORDER[operator])(array.cast(value.type) if _widens(array, value) else array, value)
    known: pa.Array[Any] = _kernels.fill_null(passed.cast(pa.bool_()), pa.scalar(value=False))
    return known


def _widens(array: Any, value: "pa.Scalar[Any]") -> bool:
    return pa.types.is_floating(value.type) and not pa.types.is_floating(array.type)


def _units(instants: Any, length_s: int, *, of_day: bool) -> Any:
    """Return whole units since 1970, or since midnight."""
    values = instants.to_numpy(zero_copy_only=False)
    if of_day:
        values = np.mod(values, DAY)
    return pa.array(np.floor_divide(values, length_s if not of_day else MINUTE), from_pandas=True)


def _by_distinct(array: Any, judge: Callable[[Any], bool]) -> Any:
    """Return the judgement of each value, made once for each that is different; a missing one fails."""
    known: dict[Any, bool] = {}
    passed = []
    for value in array.to_pylist():
        key = tuple(value) if isinstance(value, list) else value
        if key not in known:
            known[key] = key is not None and judge(key)
        passed.append(known[key])
    return pa.array(passed, pa.bool_())


def _bits(mask_of_cards: int) -> frozenset[str]:
    return frozenset(str(bit) for bit in range(64) if int(mask_of_cards) >> bit & 1)


def _sets_compare(left: frozenset[str], operator: str, right: frozenset[str]) -> bool:
    match operator:
        case "=":
            return left == right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _hosts_compare(names: tuple[str, ...], operator: str, right: Hosts) -> bool:
    """Compare as sets, where a pattern stands for each of the names that it matches."""
    within = all(any(pattern.match(name) for pattern in right.patterns) for name in names)
    around = all(any(pattern.match(name) for name in names) for pattern in right.patterns)
    match operator:
        case "=":
            return within and around
        case "<":
            return within and not around
        case "<=":
            return within
        case ">":
            return around and not within
        case _:
            return around

"""The texts of values: how a column of each kind is printed, whole columns at a time.

Kinds with few distinct values (times, sets, durations) are made into text once per distinct value. Only code that has
rows to print imports this module: it needs Arrow and NumPy.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from sonar import gpusets, hosts, times
from sonar.render.columns import Column, filled, map_distinct, map_matching
from sonar.verbs.declare import Kind

__all__ = ["distinct", "duration_text", "in_one", "number_text", "texts_of"]

_kernels: Any = pyarrow.compute
_LARGEST_WHOLE = float(2**63)  # whole numbers from here on are printed as floats
_WHOLE_TYPES = (pa.int64(), pa.int32(), pa.int8(), pa.uint8())
_LARGEST_CODED = float(2**53)
_LONGEST_TABLE = 1 << 16
_LIST_SEPARATOR = "\0"


def in_one(column: Any) -> Any:
    """Return a column as one array; without rows, one that is not coded: Arrow has no empty dictionary of lists."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks:
        return column.combine_chunks()
    return pa.array([], column.type.value_type if pa.types.is_dictionary(column.type) else column.type)


def texts_of(
    column: "pa.ChunkedArray[Any] | pa.Array[Any]", kind: Kind, *, short_hosts: bool = False, missing: str = ""
) -> Column:
    """Return the text of each value of a column of raw values; that of a null is `missing`.

    With `short_hosts` a set of hosts is written with the first elements of the names only.
    """
    array: Any = in_one(column)
    if pa.types.is_dictionary(array.type):
        return filled(texts_of(array.dictionary, kind, short_hosts=short_hosts).take(array.indices), missing)
    return filled(_host_texts(array, short=short_hosts) if kind is Kind.HOSTS else _PRINTERS[kind](array), missing)


def distinct(
    column: "pa.ChunkedArray[Any] | pa.Array[Any]", kind: Kind
) -> "tuple[pa.Array[Any], np.ndarray | None]":  # fmt: skip
    """Return values that stand for all of a column, and which of them each row has.

    Values that are printed alike may be one. Without numbers of rows the values are the column's own.
    """
    array: Any = in_one(column)
    if isinstance(array, pa.ChunkedArray):  # without rows
        array = pa.array([], array.type)
    if len(array) == 0 or array.null_count:
        return array, None
    if pa.types.is_dictionary(array.type):
        known, codes = _numbered(array.indices.to_numpy())
        return array.dictionary.take(pa.array(known)), codes
    unit_s = _UNITS.get(kind, 1)
    if array.type in _WHOLE_TYPES and (kind in _ROUNDED or unit_s > 1):
        numbers = array.to_numpy().astype(np.int64, copy=False)
        known, codes = _numbered((numbers + (unit_s // 2 if kind is Kind.DURATION else 0)) // unit_s)
        return pa.array(known * unit_s), codes
    if pa.types.is_float64(array.type) and kind in _ROUNDED:
        numbers = _ROUNDED[kind](array.to_numpy())
        if np.all(np.abs(numbers) < _LARGEST_CODED):  # not if there is a NaN
            known, codes = _numbered(numbers.astype(np.int64))
            return pa.array(known), codes
    return array, None


def _numbered(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct numbers, ascending, and the place of each row's there."""
    lowest = numbers.min()
    span = int(numbers.max()) - int(lowest) + 1
    if span > _LONGEST_TABLE + 4 * len(numbers):
        known, codes = np.unique(numbers, return_inverse=True)
        return known, codes
    place = numbers - lowest
    there = np.zeros(span, bool)
    there[place] = True
    return np.flatnonzero(there) + lowest, (np.cumsum(there) - 1)[place]


def number_text(number: float) -> str:
    """Return the shortest decimal that reads back as the number: no exponent, no `.0`, `NaN`, `inf`, `-0`."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def duration_text(seconds: int) -> str:
    """Return days, hours and minutes of a duration, rounded half up to the minute: `0d 0h 5m`, `1d16h55m`."""
    return _minutes_text((seconds + 30) // 60)


def _minutes_text(minutes: int) -> str:
    return f"{minutes // 1440}d{minutes // 60 % 24:2}h{minutes % 60:2}m"


def _host_texts(sets: Any, *, short: bool) -> Column:
    def text(names: str) -> str:
        members = names.split(_LIST_SEPARATOR)
        return hosts.compress(name.partition(".")[0] for name in members) if short else hosts.compress(members)

    if pa.types.is_list(sets.type):
        sets = _kernels.binary_join(sets.cast(pa.list_(pa.string())), _LIST_SEPARATOR)
    return map_distinct(text, sets)


def _float_texts(values: Any) -> Column:
    """Arrow prints the shortest decimal too, but with exponents, which only the odd value has."""
    numbers = values.cast(pa.float64())
    return map_matching(number_text, numbers.cast(pa.string()), "[en]", numbers)


def _whole_texts(rounded: Callable[[Any], Any], values: Any) -> Column:
    if not pa.types.is_integer(values.type):
        numbers = rounded(values.cast(pa.float64()).to_numpy(zero_copy_only=False)) + 0.0  # no -0
        if not np.all(np.abs(numbers) < _LARGEST_WHOLE):  # also if there is a NaN
            return _float_texts(pa.array(numbers, mask=values.is_null().to_numpy(zero_copy_only=False)))
        values = pa.array(numbers.astype(np.int64))
    texts: Column = values.cast(pa.string())
    return texts


def _round(values: Any) -> Any:
    """Round half away from zero, exactly."""
    whole = np.trunc(values)
    return whole + np.where(np.abs(values - whole) >= 0.5, np.copysign(1.0, values), 0.0)


def _instant_texts(unit_s: int, layout: str, values: Any) -> Column:
    """Print instants; those within the same unit have the same text."""
    return map_distinct(
        lambda unit: datetime.fromtimestamp(unit * unit_s, UTC).strftime(layout), _whole_units(values, unit_s)
    )


def _duration_texts(values: Any) -> Column:
    half_up = _kernels.add(values, times.MINUTE // 2)
    return map_distinct(_minutes_text, _whole_units(half_up, times.MINUTE))


def _whole_units(values: Any, unit: int) -> Any:
    """Divide, rounding down."""
    return _kernels.floor(_kernels.divide(values.cast(pa.float64()), float(unit))).cast(pa.int64())


def _column(texts: Any) -> Column:
    column: Column = texts
    return column


def _cast(values: Any) -> Column:
    texts: Column = values.cast(pa.string())
    return texts


_PRINTERS: dict[Kind, Callable[[Any], Column]] = {
    Kind.TEXT: _cast,
    Kind.WORDS: lambda words: _column(_kernels.binary_join(words.cast(pa.list_(pa.string())), ",")),
    Kind.INT: partial(_whole_texts, np.trunc),
    Kind.FLOAT: _float_texts,
    Kind.CEIL: partial(_whole_texts, np.ceil),
    Kind.ROUND: partial(_whole_texts, _round),
    Kind.TRUNC: partial(_whole_texts, np.trunc),
    Kind.GPUS: partial(map_distinct, gpusets.text_of),
    Kind.MINUTE: partial(_instant_texts, times.MINUTE, "%Y-%m-%d %H:%M"),
    Kind.DATE: partial(_instant_texts, times.DAY, "%Y-%m-%d"),
    Kind.CLOCK: partial(_instant_texts, times.MINUTE, "%H:%M"),
    Kind.ISO: partial(map_distinct, times.iso_text),
    Kind.SECONDS: partial(_whole_texts, np.trunc),
    Kind.DURATION: _duration_texts,
    Kind.HEX: partial(map_distinct, "0x{:x}".format),
    Kind.BOOL: partial(map_distinct, lambda truth: "yes" if truth else "no"),
}

# How numbers of a kind become the whole ones that are printed; and instants that are printed alike, as seconds.
_ROUNDED: dict[Kind, Callable[[Any], Any]] = {
    Kind.INT: np.trunc,
    Kind.SECONDS: np.trunc,
    Kind.CEIL: np.ceil,
    Kind.ROUND: _round,
    Kind.TRUNC: np.trunc,
}
_UNITS = {Kind.MINUTE: times.MINUTE, Kind.CLOCK: times.MINUTE, Kind.DATE: times.DAY, Kind.DURATION: times.MINUTE}

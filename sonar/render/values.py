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

__all__ = ["duration_text", "number_text", "texts_of"]

_kernels: Any = pyarrow.compute
_LARGEST_WHOLE = float(2**63)  # whole numbers from here on are printed as floats
_LIST_SEPARATOR = "\0"


def texts_of(
    column: "pa.ChunkedArray[Any] | pa.Array[Any]", kind: Kind, *, short_hosts: bool = False, missing: str = ""
) -> Column:
    """Return the text of each value of a column of raw values; that of a null is `missing`.

    With `short_hosts` a set of hosts is written with the first elements of the names only.
    """
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        return filled(texts_of(array.dictionary, kind, short_hosts=short_hosts).take(array.indices), missing)
    return filled(_host_texts(array, short=short_hosts) if kind is Kind.HOSTS else _PRINTERS[kind](array), missing)


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

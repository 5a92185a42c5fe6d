"""The text of values: one function a kind of field, each over a whole column."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from sonar.gpusets import text_of
from sonar.hosts import compress
from sonar.times import iso_text, minute_text
from sonar.verbs.declare import Kind

__all__ = ["column_texts", "duration_text", "float_text", "rounded"]


def column_texts(kind: Kind, values: Sequence[Any], *, short_hosts: bool) -> list[str]:
    """Return the texts of a column's values; `short_hosts` cuts names of host sets to their first element."""
    if kind is Kind.HOSTS:
        return _each_distinct(lambda names: _hosts_text(names, short=short_hosts), map(tuple, values))
    if kind in {Kind.TEXT, Kind.INT, Kind.SECONDS}:
        return list(map(str, values))
    return _each_distinct(_TEXTS[kind], values)


def float_text(value: float) -> str:
    """Return the shortest decimal that reads back equal: no exponent, no `.0`; `NaN`, `inf`, `-0` as they are."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def rounded(value: float) -> int:
    """Return the nearest whole number, half away from zero; what is no number gives 0."""
    if not math.isfinite(value):
        return 0
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def duration_text(seconds: int) -> str:
    """Return days, hours and minutes, rounded half up to the minute: `0d 0h 5m`, `1d16h55m`."""
    minutes = (seconds + 30) // 60
    return f"{minutes // 1440}d{minutes // 60 % 24:2}h{minutes % 60:2}m"


def _each_distinct(text: Callable[[Any], str], values: Any) -> list[str]:
    """Return the texts, made once for each distinct value: in most columns there are few."""
    known: dict[Any, str] = {}
    texts = []
    for value in values:
        found = known.get(value)
        if found is None:
            found = known[value] = text(value)
        texts.append(found)
    return texts


def _hosts_text(names: tuple[str, ...], *, short: bool) -> str:
    return compress(name.partition(".")[0] for name in names) if short else compress(names)


def _truncated(value: float) -> str:
    return str(int(value)) if math.isfinite(value) else float_text(value)


_TEXTS: dict[Kind, Callable[[Any], str]] = {
    Kind.FLOAT: float_text,
    Kind.CEIL: lambda value: str(math.ceil(value)) if math.isfinite(value) else float_text(value),
    Kind.ROUND: lambda value: str(rounded(value)),
    Kind.TRUNC: _truncated,
    Kind.GPUS: text_of,
    Kind.MINUTE: minute_text,
    Kind.DATE: lambda instant: minute_text(instant)[:10],
    Kind.CLOCK: lambda instant: minute_text(instant)[11:],
    Kind.ISO: iso_text,
    Kind.DURATION: duration_text,
    Kind.HEX: hex,
    Kind.BOOL: lambda value: "yes" if value else "no",
}

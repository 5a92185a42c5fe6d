"""JSON values one after the other in a file, and typed access to their members.

A value that cannot be read costs itself only: reading goes on at the next line that begins with `{`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "BadShapeError",
    "as_object",
    "json_values",
    "list_of",
    "number_of",
    "object_of",
    "text_of",
    "whole_of",
]

_NEXT_START = re.compile(r"^\{", re.MULTILINE)
_SPACE = re.compile(r"\s*")


class BadShapeError(Exception):
    """A value that is not what it should be; the text is the reason for which its record is dropped."""


def json_values(data: bytes, dropped: Counter[str]) -> Iterator[Any]:
    """Yield the JSON values, by lines where each line is one value, else by decoding one after the other."""
    import orjson

    lines = data.split(b"\n")
    torn = lines.pop() if lines and lines[-1] else b""
    at = 0
    for at, line in enumerate(lines):  # noqa: B007 -- the number is needed after the loop
        if line.strip():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                break
    else:
        if torn:
            yield from _values(torn.decode(errors="replace"), dropped)
        return
    rest = b"\n".join([*lines[at:], torn]).decode(errors="replace")
    yield from _values(rest, dropped)


def _values(text: str, dropped: Counter[str]) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            dropped["bad-json"] += 1
            following = _NEXT_START.search(text, at + 1)
            at = following.start() if following else len(text)
        else:
            yield value
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Typed access: what is absent or null is empty or zero, what is of the wrong type raises BadShapeError.


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object as it is."""
    if not isinstance(value, dict):
        raise BadShapeError("bad-shape")
    return value


def object_of(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object that is a member."""
    value = parent.get(key)
    return {} if value is None else as_object(value)


def list_of(parent: Mapping[str, Any], key: str) -> list[Any]:
    """Return the array that is a member."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadShapeError(f"bad-{key}")
    return value


def text_of(parent: Mapping[str, Any], key: str) -> str:
    """Return the text that is a member."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadShapeError(f"bad-{key}")
    return value


def number_of(parent: Mapping[str, Any], key: str) -> float:
    """Return the finite number that is a member."""
    value = parent.get(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadShapeError(f"bad-{key}")
    try:
        number = float(value)
    except OverflowError:
        raise BadShapeError(f"bad-{key}") from None
    if not math.isfinite(number):
        raise BadShapeError(f"bad-{key}")
    return number


def whole_of(parent: Mapping[str, Any], key: str) -> int:
    """Return the whole number, below 2**63 and not negative, that is a member."""
    number = parent.get(key)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63:
        return number
    value = number_of(parent, key)
    if not value.is_integer() or not 0 <= value < 1 << 63:
        raise BadShapeError(f"bad-{key}")
    return int(value)

"""Samples as the oldest senders put them: lines of tagged CSV become JSON arrays of readings and of heartbeats.

A field that has no `=`, or a name that was not known then, is dropped and counted; so is a record without what must be
there, or with a number that is none. A quote that stands where none may costs its own line only.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Readings", "batches", "parse_readings"]

BATCH = 100  # of records in a post

_LARGEST_FLOAT = 1.7976931348623157e308  # what a server that cannot read infinity is sent for it
_LARGEST_UINT = 2**64 - 1


@dataclass(slots=True)
class Readings:
    """The records of one input, and how many fields and records of it could not be taken."""

    readings: list[dict[str, object]] = field(default_factory=list)
    heartbeats: list[dict[str, object]] = field(default_factory=list)
    problems: int = 0


def parse_readings(text: str, cluster: str) -> Readings:
    """Return the readings and heartbeats in lines of tagged CSV, as objects to be sent."""
    result = Readings()
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            (fields,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError):
            result.problems += 1
            continue
        values, problems = _values(fields)
        result.problems += problems
        if values is None:
            continue
        if values["cmd"] == "_heartbeat_":
            kept = {key: values[key] for key in ("version", "time", "host")}
            result.heartbeats.append({**kept, "cluster": cluster})
        else:
            result.readings.append(_complete({"cluster": cluster, **values}))
    return result


def batches(records: list[dict[str, object]]) -> Iterator[bytes]:
    """Yield the records as JSON arrays of bounded length."""
    for start in range(0, len(records), BATCH):
        yield json.dumps(records[start : start + BATCH], separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _values(fields: Iterable[str]) -> tuple[dict[str, object] | None, int]:
    """Return the values of a record by JSON key, None if it is to be dropped, and the number of problems."""
    values: dict[str, object] = {}
    problems = 0
    for one in fields:
        tag, equals, text = one.partition("=")
        if not equals or tag not in _TAGS:
            problems += 1
            continue
        key, parse = _TAGS[tag]
        try:
            values[key] = parse(text)
        except ValueError:
            return None, problems + 1
    required = ("version", "time", "host", "cmd") if values.get("cmd") == "_heartbeat_" else _REQUIRED
    if not all(values.get(key) for key in required):
        return None, problems + 1
    return values, problems


def _complete(values: dict[str, object]) -> dict[str, object]:
    """Return a reading in the order of its keys; what is zero or empty is left out, but for what is always there."""
    values.setdefault("cores", 0)
    return {key: values[key] for key in _KEYS if key in values and (values[key] or key in _ALWAYS)}


def _uint(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _LARGEST_UINT:
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        return 0.0
    return max(-_LARGEST_FLOAT, min(number, _LARGEST_FLOAT))


_TAGS: dict[str, tuple[str, Callable[[str], object]]] = {
    "v": ("version", str),
    "time": ("time", str),
    "host": ("host", str),
    "cores": ("cores", _uint),
    "user": ("user", str),
    "job": ("job", _uint),
    "pid": ("pid", _uint),
    "cmd": ("cmd", str),
    "cpu%": ("cpu%", _float),
    "cpukib": ("cpukib", _uint),
    "gpus": ("gpus", str),
    "gpu%": ("gpu%", _float),
    "gpumem%": ("gpumem%", _float),
    "gpukib": ("gpukib", _uint),
    "gpufail": ("gpufail", _uint),
    "cputime_sec": ("cputime_sec", _uint),
    "rolledup": ("rolledup", _uint),
}
_KEYS = ("version", "time", "cluster", *(key for key, _ in _TAGS.values() if key not in {"version", "time"}))
_REQUIRED = ("version", "time", "host", "user", "cmd")
_ALWAYS = frozenset({*_REQUIRED, "cluster", "cores"})

"""`/sonar-reading` and `/sonar-heartbeat`: JSON arrays of the oldest senders, which become lines of tagged CSV.

A reading is an object {"version", "time", "cluster", "host", "cores", "user", "job", "pid", "cmd", "cpu%", "cpukib",
"gpus", "gpu%", "gpumem%", "gpukib", "gpufail", "cputime_sec", "rolledup"}, a heartbeat one of the first four. Keys
count in any case; what is missing or null is nothing or zero. Its line has all 17 fields, without the cluster.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import orjson

from sonar.ingest.json_values import split_elements
from sonar.ingest.post import JSON, Endpoint, Post, Refusal, Share, Taken
from sonar.names import BadNameError, host_name
from sonar.store.layout import Append, is_plausible, samples_path
from sonar.times import parse_instant

__all__ = ["ENDPOINTS", "heartbeat_line", "reading_line"]

_MOST_UNSIGNED = 2**64

Record = Mapping[str, Any]


def reading_line(record: Record) -> str:
    """Return the line of a reading, whose keys are in lower case, without newline; raise ValueError if a value is bad.

    A field is quoted as a whole where it needs it. Numbers are as short as they can be and still read the same, with
    an exponent from 1e6 on and below 1e-4.
    """
    fields = [
        "v=" + _text(record, "version"),
        "time=" + _text(record, "time"),
        "host=" + _text(record, "host"),
        "cores=" + _unsigned(record, "cores"),
        "user=" + _text(record, "user"),
        "job=" + _unsigned(record, "job"),
        "pid=" + _unsigned(record, "pid"),
        "cmd=" + _text(record, "cmd"),
        "cpu%=" + _float(record, "cpu%"),
        "cpukib=" + _unsigned(record, "cpukib"),
        "gpus=" + (_text(record, "gpus") or "none"),
        "gpu%=" + _float(record, "gpu%"),
        "gpumem%=" + _float(record, "gpumem%"),
        "gpukib=" + _unsigned(record, "gpukib"),
        "gpufail=" + _unsigned(record, "gpufail"),
        "cputime_sec=" + _unsigned(record, "cputime_sec"),
        "rolledup=" + _unsigned(record, "rolledup"),
    ]
    return ",".join(map(_quoted, fields))


def heartbeat_line(record: Record) -> str:
    """Return the line of a heartbeat, as `reading_line`."""
    fields = ["v=" + _text(record, "version"), "time=" + _text(record, "time"), "host=" + _text(record, "host")]
    fields += ["cores=0", "user=_sonar_", "job=0", "pid=0", "cmd=_heartbeat_"]
    return ",".join(map(_quoted, fields))


def take_array(post: Post, line_of: Callable[[Record], str]) -> Taken:
    """Take each element of an array to the file of its host and of the day in its own UTC offset."""
    taken = Taken()
    parts: dict[str, list[str]] = {}
    for element in _elements(post.body):
        try:
            if not isinstance(element, dict):
                raise ValueError("not an object")
            record = {key.lower(): value for key, value in element.items()}
            line = line_of(record)
            time = _text(record, "time")
            instant = parse_instant(time)
            if instant is None or not is_plausible(instant, post.now):
                raise ValueError(f"bad time {time[:40]!r}")
            host = host_name(_text(record, "host"))
            cluster = post.cluster(_text(record, "cluster"))
            path = samples_path(cluster, post.rules.record_day(time, instant), host)
        except Refusal as refusal:
            taken.drop(refusal.reason, status=refusal.status)
        except (ValueError, BadNameError) as error:
            taken.drop(str(error))
        else:
            parts.setdefault(path, []).append(line)
            taken.count(cluster, host, Share(1, len(line.encode()) + 1, instant, instant))
    taken.appends = [Append(path, ("\n".join(lines) + "\n").encode()) for path, lines in parts.items()]
    return taken


def _elements(body: bytes) -> list[Any]:
    """Return the elements of a body that is an array, or null; None as one that cannot be read. Raise Refusal."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return list(split_elements(body))
        except ValueError:
            raise Refusal(400, "Bad content") from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refusal(400, "Bad content")
    return value


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value


def _unsigned(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return "0"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < _MOST_UNSIGNED:
        raise ValueError(f"{key} is not a whole number that is 0 or more")
    return str(value)


def _float(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return "0"
    if type(value) not in {int, float}:
        raise ValueError(f"{key} is not a number")
    number = float(value)
    if number == 0:
        return "0"
    if 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    sign, digits, _ = Decimal(repr(number)).normalize().as_tuple()
    exponent = Decimal(repr(number)).adjusted()
    mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def _quoted(field: str) -> str:
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return '"' + field.replace('"', '""') + '"'
    return field


def _take_readings(post: Post) -> Taken:
    return take_array(post, reading_line)


def _take_heartbeats(post: Post) -> Taken:
    return take_array(post, heartbeat_line)


ENDPOINTS = (
    Endpoint("sonar-reading", "/sonar-reading", JSON, _take_readings),
    Endpoint("sonar-heartbeat", "/sonar-heartbeat", JSON, _take_heartbeats),
)

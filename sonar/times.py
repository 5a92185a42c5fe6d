"""Instants, dates and durations: the only place that parses or prints them.

Inside Sonar an instant is an `int`: seconds since 1970-01-01T00:00:00Z, fractions floored. All calendars are UTC.
"""

import os
import re
import time
from datetime import UTC, date, datetime, timedelta

from sonar.errors import SonarError, UsageError

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "date_limit",
    "day_of",
    "iso_text",
    "minute_text",
    "parse_duration",
    "parse_instant",
    "present",
]

MINUTE = 60
HOUR = 3600
DAY = 86400

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DATE = re.compile(r"(\d+)-(\d+)-(\d+)", re.ASCII)
_AGO = re.compile(r"(\d*)([dw])", re.ASCII)
_DURATION_UNITS = {"w": 7 * DAY, "d": DAY, "h": HOUR, "m": MINUTE}


def present() -> int:
    """Return the present instant, or $SONAR_NOW (RFC 3339) where that is set, so that reports can be made again."""
    if text := os.environ.get("SONAR_NOW"):
        instant = parse_instant(text)
        if instant is None:
            raise SonarError(f"SONAR_NOW is not an RFC 3339 time: {text!r}")
        return instant
    return int(time.time())


def parse_instant(text: str) -> int | None:
    """Return the instant of an RFC 3339 time with seconds and offset, floored to the second; None if it is not one.

    Second 60 counts as 59.
    """
    match = _RFC3339.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second, _zulu, sign, off_hour, off_minute = match.groups()
    if int(second) > 60 or (sign and (int(off_hour) > 23 or int(off_minute) > 59)):
        return None
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError:
        return None
    offset = (int(off_hour) * 3600 + int(off_minute) * 60) * (-1 if sign == "-" else 1) if sign else 0
    return int(local.timestamp()) - offset


def date_limit(text: str, now: int, *, end: bool) -> int:
    """Return the instant that a `--from` or (`end`) `--to` value stands for.

    `Nd` and `Nw` are exactly that long before `now`; `YYYY-MM-DD` is the first second of that day, or its last.
    Raise UsageError for anything else.
    """
    if match := _AGO.fullmatch(text):
        number, unit = match.groups()
        length = int(number) * _DURATION_UNITS[unit] if 0 < len(number) < 10 else now + 1
        if length > now:
            raise UsageError(f"Invalid date {text!r}")
        return now - length
    match = _DATE.fullmatch(text)
    if not match:
        raise UsageError(f"Invalid date syntax {text!r}: want YYYY-MM-DD, Nd or Nw")
    try:
        year, month, day = map(int, match.groups())
        first = int(datetime(year, month, day, tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise UsageError(f"Invalid date {text!r}") from None
    return first + DAY - 1 if end else first


def parse_duration(text: str) -> int:
    """Return the seconds of a duration like `1w2d3h4m`: each unit at most once, in any order. Raise UsageError."""
    total, seen, number = 0, set(), ""
    for char in text:
        if char in "0123456789":
            number += char
        elif char not in _DURATION_UNITS or char in seen or not number:
            raise UsageError(f"Bad suffix {char!r} in duration {text!r}")
        elif len(number) > 9:
            raise UsageError(f"Bad number in duration {text!r}")
        else:
            total += int(number) * _DURATION_UNITS[char]
            seen.add(char)
            number = ""
    if number or not text:
        raise UsageError(f"Inconsistent duration {text!r}")
    return total


def day_of(instant: int) -> date:
    """Return the UTC day of an instant."""
    return date(1970, 1, 1) + timedelta(days=instant // DAY)


def minute_text(instant: int) -> str:
    """Return `YYYY-MM-DD HH:MM` in UTC, seconds cut off."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M")


def iso_text(instant: int) -> str:
    """Return `YYYY-MM-DDTHH:MM:SSZ`."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

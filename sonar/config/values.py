"""The kinds of values that configuration files hold: how each is read, and how it is written.

Spans of time and sizes are written as systemd.time(7) and systemd.syntax(7) have them: `5min`, `1h 30min`, `64M`.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sonar import hosts
from sonar.errors import SonarError
from sonar.places import ObjectPath, place_of, text_of

__all__ = [
    "BOOLEAN",
    "COMMAND",
    "COUNT",
    "DATES",
    "HOSTS",
    "PATH",
    "PERCENT",
    "PLACE",
    "SIZE",
    "SPAN",
    "TEXT",
    "WEEKDAYS",
    "WORDS",
    "Kind",
    "choice",
    "span_text",
]

T = TypeVar("T")

_SPAN_UNITS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
_SPAN_PART = re.compile(r"(\d{1,12})\s*([a-z]*)\s*", re.ASCII)
_SIZE = re.compile(r"(\d{1,15})\s*([KMGT]?)", re.ASCII)
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATE = re.compile(r"(?:\d{4}-)?(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_TRUTH = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value: what the manual calls it, how a text is read (SonarError if it is none), and how it is written.

    Of a kind that `gathers`, assignments add up, and an empty one forgets those before it.
    """

    name: str
    parse: Callable[[str], T]
    text: Callable[[T], str]
    gathers: bool = False


def choice(*allowed: str) -> Kind[str]:
    """Return the kind whose values are these words."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise SonarError(f"{text[:80]!r} is none of {', '.join(allowed)}")
        return text.lower()

    return Kind("|".join(allowed), parse, str)


def span_text(seconds: int) -> str:
    """Write a span of time: 5400 is `1h 30min`."""
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts) or "0"


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise SonarError(f"{text[:80]!r} is neither yes nor no")
    return _TRUTH[text.lower()]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise SonarError(f"{text[:80]!r} is no whole number")
    return int(text)


def _percent(text: str) -> int:
    value = _count(text.removesuffix("%").rstrip())
    if value > 100:
        raise SonarError(f"{text[:80]!r} is more than 100 %")
    return value


def _span(text: str) -> int:
    total = at = 0
    while match := _SPAN_PART.match(text, at):
        if match[2] not in _SPAN_UNITS and match[2]:
            raise SonarError(f"{text[:80]!r}: no unit of time {match[2]!r}")
        total, at = total + int(match[1]) * _SPAN_UNITS.get(match[2], 1), match.end()
    if at != len(text) or not text:
        raise SonarError(f"{text[:80]!r} is no span of time such as 90s, 5min or 1h 30min")
    return total


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise SonarError(f"{text[:80]!r} is no size such as 65536, 64M or 1G")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _size_text(value: int) -> str:
    for unit in ("T", "G", "M", "K"):
        if value and value % _SIZE_UNITS[unit] == 0:
            return f"{value // _SIZE_UNITS[unit]}{unit}"
    return str(value)


def _path(text: str) -> Path:
    if not text.startswith("/") or "\0" in text:
        raise SonarError(f"{text[:80]!r} is no absolute path")
    return Path(text)


def _place(text: str) -> Path:
    """Return the path of a directory, or that of a place in an object store."""
    place = place_of(text)
    return place if isinstance(place, ObjectPath) else _path(text)


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text, comments=False))
    except ValueError as error:
        raise SonarError(f"{text[:80]!r}: {error}") from None


def _hosts(text: str) -> tuple[str, ...]:
    """Check the patterns and return them as they are written, at most one list of them a word."""
    found = []
    for word in text.split():
        hosts.expand(word, wildcards=True)
        found += hosts.split_list(word)
    return tuple(found)


def _weekdays(text: str) -> tuple[int, ...]:
    """Return days of the week, Monday is 0, of a text such as `Mon..Fri` or `Mon,Wed`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dots, last = (word.strip().capitalize()[:3] for word in part.partition(".."))
        if first not in _WEEKDAYS or (dots and last not in _WEEKDAYS):
            raise SonarError(f"{text[:80]!r} are no days such as Mon..Fri or Mon,Wed")
        start = _WEEKDAYS.index(first)
        length = (_WEEKDAYS.index(last) - start) % 7 if dots else 0
        found |= {(start + step) % 7 for step in range(length + 1)}
    return tuple(sorted(found))


def _dates(text: str) -> tuple[str, ...]:
    for word in text.split():
        if not _DATE.fullmatch(word):
            raise SonarError(f"{word[:80]!r} is no date such as 12-25 or 2027-03-26")
    return tuple(text.split())


BOOLEAN = Kind("BOOLEAN", _boolean, lambda value: "yes" if value else "no")
COUNT = Kind("COUNT", _count, str)
PERCENT = Kind("PERCENT", _percent, "{}%".format)
SPAN = Kind("SPAN", _span, span_text)
SIZE = Kind("SIZE", _size, _size_text)
PATH = Kind("PATH", _path, str)
PLACE = Kind("PATH|URI", _place, text_of)
TEXT = Kind("TEXT", str, str)
WORDS = Kind("WORDS", _words, shlex.join, gathers=True)
COMMAND = Kind("COMMAND", _words, shlex.join)
HOSTS = Kind("HOSTS", _hosts, " ".join, gathers=True)
WEEKDAYS = Kind("WEEKDAYS", _weekdays, lambda days: ",".join(_WEEKDAYS[day] for day in days))
DATES = Kind("DATES", _dates, " ".join, gathers=True)

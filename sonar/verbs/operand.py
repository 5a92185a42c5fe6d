"""The right side of a comparison in `--query`: its text as a value of the field's kind, or why it cannot be one."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from sonar import gpusets
from sonar.errors import SonarError, UsageError
from sonar.hosts import HostPatterns, expand
from sonar.times import DAY, MINUTE, parse_duration, parse_instant
from sonar.verbs.declare import Field, Kind

__all__ = ["Hosts", "Operand", "Pattern", "TimeUnit", "operand_of"]

_NUMBERS = {Kind.INT, Kind.FLOAT, Kind.CEIL, Kind.ROUND, Kind.TRUNC, Kind.HEX}
_TIMES = {Kind.MINUTE, Kind.DATE, Kind.ISO}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_TIME = re.compile(r"(\d+-\d+-\d+)(?:[ T](\d{1,2}:\d\d)(:\d\d)?)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """An instant or a time of day, as exactly as it was written: `number` units of `length_s` seconds."""

    number: int
    length_s: int


@dataclass(frozen=True, slots=True)
class Hosts:
    """A set of hosts, each by a pattern that may be shorter than the full names."""

    patterns: tuple[HostPatterns, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression (RE2)."""

    text: str


Operand: TypeAlias = str | float | bool | frozenset[str] | TimeUnit | Hosts | Pattern


def operand_of(field: Field, operator: str, text: str) -> Operand:
    """Return the value that a text means beside a field. Raise UsageError with the reason if it means none."""
    if operator == "=~":
        return Pattern(_checked_pattern(text))
    match field.kind:
        case Kind.TEXT:
            return text
        case kind if kind in _NUMBERS:
            return _number(field, text)
        case Kind.SECONDS:
            return _number(field, text) if _NUMBER.fullmatch(text) else _duration(text)
        case Kind.DURATION:
            return float(text) if _NUMBER.fullmatch(text) else _duration(text)
        case Kind.BOOL:
            if text.lower() not in _TRUTH:
                raise UsageError(f"{text!r} is neither yes nor no")
            return _TRUTH[text.lower()]
        case Kind.GPUS:
            mask = gpusets.mask_of(text)
            if mask is None:
                raise UsageError(f"{text!r} is no set of cards such as none, unknown or 0,2")
            return mask
        case Kind.WORDS:
            return frozenset(text.split(",")) - {""}
        case Kind.HOSTS:
            return _hosts(text)
        case Kind.CLOCK:
            match = _CLOCK.fullmatch(text)
            if match is None or int(match[1]) > 23 or int(match[2]) > 59:
                raise UsageError(f"{text!r} is no time of day such as 14:30")
            return TimeUnit(int(match[1]) * 60 + int(match[2]), MINUTE)
        case _:
            return _instant(text)


def _number(field: Field, text: str) -> float:
    if field.kind is Kind.HEX and re.fullmatch("0x[0-9a-fA-F]+", text):
        return int(text, 16)
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{text!r} is no number, and {field.name!r} is one")
    return float(text) if re.search("[.eE]", text) else int(text)


def _duration(text: str) -> float:
    try:
        return parse_duration(text.lower())
    except UsageError:
        raise UsageError(f"{text!r} is no duration such as 1w2d3h4m, and no number of seconds") from None


def _instant(text: str) -> TimeUnit:
    instant = parse_instant(text)
    if instant is not None:
        return TimeUnit(instant, 1)
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        day, minute, second = match.groups()
        year, month, of_month = map(int, day.split("-"))
        hours, minutes = map(int, (minute or "0:0").split(":"))
        whole = datetime(year, month, of_month, hours, minutes, int((second or ":0")[1:]), tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no time such as '2024-03-31 14:30' (in quotes) or 2024-03-31") from None
    length = DAY if minute is None else MINUTE if second is None else 1
    return TimeUnit(int(whole.timestamp()) // length, length)


def _hosts(text: str) -> Hosts:
    try:
        names = expand(text, wildcards=True)
        return Hosts(tuple(HostPatterns.parse([name]) for name in names))
    except SonarError as error:
        raise UsageError(str(error)) from None


def _checked_pattern(text: str) -> str:
    import pyarrow as pa
    import pyarrow.compute

    try:
        pyarrow.compute.match_substring_regex(pa.array([""]), text)
    except pa.ArrowInvalid as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise UsageError(f"/{text}/ is no regular expression: {reason}") from None
    return text

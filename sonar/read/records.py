"""Sample records in CSV, tagged and untagged: the plain parser, which defines what is right.

A file is a sequence of records; sonar-data(5) has the format. A bad record never hurts its neighbours: it is dropped
and counted by reason, and that holds for a torn quote too, which ends where the next record begins.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sonar.gpusets import UNKNOWN, mask_of, mask_of_cards
from sonar.read.rows import Rows
from sonar.read.schema import HEARTBEAT_COMMAND, HEARTBEAT_USER
from sonar.times import parse_instant

__all__ = ["read_part", "read_records", "split_quoted", "split_records"]

# The version that stands for records from before there were tags.
UNTAGGED_VERSION = "0.6.0"

# Samplers from 0.8 on leave an empty set of GPUs out, and old servers stored that as an empty text. One of 0.7 wrote
# `none`, so there an empty text is damage.
_EMPTY_SET = "gpus="
_ALWAYS_WITH_SET = "0.7."

_LARGEST_RECORD = 1 << 20
# A quoted line break is legal, since a command may hold one; a quote open for longer than this is torn.
_LARGEST_QUOTED = 64 * 1024
_MOST_QUOTED_LINES = 16

# Fields seen before in a file, with what they say: most are repeated in each sample, numbers at times.
_Known = dict[str, tuple[str, str, Any] | None]
_MOST_KNOWN = 100_000

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_RECORD_START = re.compile(rb'"?v=|\d{4}-\d\d-\d\d[Tt][^,]*,')
_UNSIGNED = re.compile(r"\+?(\d+)(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)


def read_records(data: bytes, rows: Rows, dropped: Counter[str]) -> None:
    """Add every good record of a file's bytes to `rows`, in order; count each bad one in `dropped` by reason."""
    read_part(data.removeprefix(b"\xef\xbb\xbf"), rows, dropped)


def read_part(data: bytes, rows: Rows, dropped: Counter[str]) -> None:
    """Do the same with part of a file: whole records, from the start of a line on."""
    known: _Known = {}
    for fields in split_records(data, dropped):
        values = _sample(fields, known)
        if isinstance(values, str):
            dropped[values] += 1
        else:
            rows.add(values)


def split_records(data: bytes, dropped: Counter[str]) -> Iterator[list[str]]:
    """Yield the fields of each record, dropping those that are no CSV or no UTF-8."""
    lines = _LINE.finditer(data.removeprefix(b"\xef\xbb\xbf"))
    pending: re.Match[bytes] | None = next(lines, None)
    while pending is not None:
        match, pending = pending, next(lines, None)
        text, ending = match.groups()
        if not text:
            continue
        if b'"' in text:
            record, taken = text, 1
            while (fields := split_quoted(record)) is None and pending is not None and pending[0]:
                grown = record + ending + pending[1]
                taken += 1
                if _RECORD_START.match(pending[1]) or taken > _MOST_QUOTED_LINES or len(grown) > _LARGEST_QUOTED:
                    break
                record, ending = grown, pending[2]
                pending = next(lines, None)
        else:
            fields = text.split(b",")
        if fields is None:
            dropped["torn"] += 1
        elif sum(map(len, fields)) > _LARGEST_RECORD:
            dropped["too-long"] += 1
        else:
            try:
                yield [field.decode() for field in fields]
            except UnicodeDecodeError:
                dropped["bad-utf8"] += 1


def split_quoted(line: bytes) -> list[bytes] | None:
    """Split a record at the commas outside quotes (RFC 4180); None if a quote is still open at its end.

    A quote opens only at the start of a field; text after the closing quote belongs to the field.
    """
    fields, at = [], 0
    while True:
        if line[at : at + 1] == b'"':
            value, at = b"", at + 1
            while True:
                quote = line.find(b'"', at)
                if quote < 0:
                    return None
                value += line[at:quote]
                at = quote + 1
                if line[at : at + 1] != b'"':
                    break
                value += b'"'
                at += 1
        else:
            value = b""
        comma = line.find(b",", at)
        fields.append(value + (line[at:] if comma < 0 else line[at:comma]))
        if comma < 0:
            return fields
        at = comma + 1


def _sample(fields: list[str], known: _Known) -> dict[str, Any] | str:
    """Return the values of a record by column, or the reason why it is dropped."""
    first = fields[0]
    if first[:4].isdigit() and (time := parse_instant(first)) is not None:
        return _untagged(fields, time)
    values: dict[str, Any] = {}
    for field in fields:
        if field in known:
            parsed = known[field]
        else:
            parsed = _parsed(field)
            if len(known) < _MOST_KNOWN:
                known[field] = parsed
        if parsed is None:
            continue
        column, tag, value = parsed
        if column in values:
            return f"repeated-{tag}"
        if value is None:
            return f"bad-{tag}"
        values[column] = value
    if _EMPTY_SET in fields and values.get("version", "").startswith(_ALWAYS_WITH_SET):
        return "bad-gpus"
    if values.get("cmd") == HEARTBEAT_COMMAND:
        values.setdefault("user", HEARTBEAT_USER)
    for column, tag in _MANDATORY.items():
        if column not in values or (values[column] == "" and column != "cmd"):
            return "error-record" if any(field.startswith("error=") for field in fields) else f"missing-{tag}"
    return values


def _parsed(field: str) -> tuple[str, str, Any] | None:
    """Return column, tag and value of a field; None if its tag is not known, the value None if it is bad."""
    tag, equals, text = field.partition("=")
    if not equals or tag not in _TAGS:
        return None
    column, convert = _TAGS[tag]
    return column, tag, convert(text)


def _untagged(fields: list[str], time: int) -> dict[str, Any] | str:
    """Return the values of a positional record of 8, 12 or 13 fields."""
    if len(fields) not in {8, 12, 13}:
        return "untagged-width"
    values: dict[str, Any] = {"time": time, "version": UNTAGGED_VERSION}
    for (column, convert), text in zip(_POSITIONS, fields[1:], strict=False):
        value = convert(text)
        if value is None:
            return f"untagged-bad-{column}"
        values[column] = value
    return values | {"pid": values["job"]}


def _unsigned(largest: int) -> Callable[[str], int | None]:
    def convert(text: str) -> int | None:
        match = _UNSIGNED.fullmatch(text)
        value = int(match[1]) if match and len(text) < 25 else None
        return value if value is not None and value <= largest else None

    return convert


_u32 = _unsigned(2**32 - 1)
_u63 = _unsigned(2**63 - 1)


def _float(text: str) -> float | None:
    """Return a finite number or NaN; infinity is a bad value."""
    value = float(text) if _FLOAT.fullmatch(text) else math.inf
    return None if math.isinf(value) else value


def _failed(text: str) -> int | None:
    value = _u32(text)
    return None if value is None else int(value != 0)


def _bit_vector(text: str) -> int | None:
    """Return the mask of an untagged record: base 2, card 0 rightmost; 32 or 64 ones stand for the unknown set."""
    if not text or len(text) > 64 or set(text) - {"0", "1"}:
        return None
    if text in {"1" * 32, "1" * 64}:
        return UNKNOWN
    return mask_of_cards([card for card, bit in enumerate(reversed(text)) if bit == "1"])


_TAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "v": ("version", str),
    "time": ("time", parse_instant),
    "host": ("host", str),
    "user": ("user", str),
    "cmd": ("cmd", str),
    "cores": ("cores", _u32),
    "job": ("job", _u32),
    "epoch": ("epoch", _u63),
    "pid": ("pid", _u63),
    "ppid": ("ppid", _u63),
    "cpu%": ("cpu_pct", _float),
    "cpukib": ("cpu_kib", _float),
    "rssanonkib": ("rss_kib", _float),
    "gpus": ("gpus", mask_of),
    "gpu%": ("gpu_pct", _float),
    "gpumem%": ("gpumem_pct", _float),
    "gpukib": ("gpu_kib", _float),
    "gpufail": ("gpufail", _failed),
    "cputime_sec": ("cputime_s", _float),
    "rolledup": ("rolledup", _u32),
}

_MANDATORY = {"version": "v", "time": "time", "host": "host", "user": "user", "cmd": "cmd"}

_POSITIONS: list[tuple[str, Callable[[str], Any]]] = [
    ("host", str),
    ("cores", _u32),
    ("user", str),
    ("job", _u32),
    ("cmd", str),
    ("cpu_pct", _float),
    ("cpu_kib", _float),
    ("gpus", _bit_vector),
    ("gpu_pct", _float),
    ("gpumem_pct", _float),
    ("gpu_kib", _float),
    ("cputime_s", _float),
]

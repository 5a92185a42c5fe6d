"""Where the records of a file of the log are, and what is wrong with those that cannot be read.

The readers of `sonar.read` judge whole files, fast; only a file in which they find something bad is gone through again
record by record, to find where it is.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sonar.names import NO_SAMPLES
from sonar.times import parse_instant

__all__ = ["BadRecord", "Judge", "judge_of", "torn_end"]

Judge = Callable[[bytes], "list[BadRecord]"]
"""Finds the bad records in the bytes of a file."""

_NO_DAMAGE = frozenset({"error-record"})  # a sampler's own complaint


@dataclass(frozen=True, slots=True)
class BadRecord:
    """What cannot be read: its bytes, where they begin, and why."""

    offset: int
    data: bytes
    reason: str


def judge_of(name: str) -> Judge | None:
    """Return who judges the records of a file of this name; None for a file that is not the log's."""
    if name == "slurm-sacct.csv":
        return _bad_accounting
    if name.endswith(".csv"):
        return _bad_samples if name.removesuffix(".csv") not in NO_SAMPLES else None
    if name == "0+arrivals.jsonl":
        return lambda data: _bad_values(data, _arrival_problem)
    if name.startswith("0+") and name.endswith(".json"):
        return lambda data: _bad_values(data, _envelope_problem)
    if name.startswith("sysinfo-") and name.endswith(".json"):
        return lambda data: _bad_values(data, _sysinfo_problem)
    return None


def torn_end(name: str, data: bytes) -> int:
    """Return where the torn end of a file begins; its length if it has none.

    Whoever writes the log ends each record with a newline. JSON that is whole is so without it, too.
    """
    if not data or data.endswith(b"\n"):
        return len(data)
    begin = data.rfind(b"\n") + 1
    if name.endswith(".csv"):
        return begin
    begin = len(data)
    for one in reversed(_bad_values(data, lambda _: "")):
        end = one.offset + len(one.data)
        if b"\n" in data[end - 1 : begin] or data[end:begin].strip():
            break
        begin = one.offset
    return begin


def _bad_samples(data: bytes) -> list[BadRecord]:
    from sonar.read.records import read_part
    from sonar.read.rows import Rows
    from sonar.read.tokens import Tokenizer

    dropped: Counter[str] = Counter()
    Tokenizer().table(data, dropped)
    if not _damage(dropped):
        return []
    bad = []
    for offset, line in _lines(data):
        of_line: Counter[str] = Counter()
        read_part(line, Rows(), of_line)
        if reasons := _damage(of_line):
            bad.append(BadRecord(offset, line, ",".join(sorted(reasons))))
    return bad


def _bad_accounting(data: bytes) -> list[BadRecord]:
    """Check lines of sacct's fields, of which the reader wants the job and when it ended."""
    from sonar.read.records import split_records

    bad = []
    for offset, line in _lines(data):
        dropped: Counter[str] = Counter()
        for fields in split_records(line, dropped):
            values = dict(one.partition("=")[::2] for one in fields)
            if "error" not in values and parse_instant(values.get("End", "")) is None:
                dropped["bad-End"] += 1
        if dropped:
            bad.append(BadRecord(offset, line, ",".join(sorted(dropped))))
    return bad


def _bad_values(data: bytes, problem: Callable[[object], str]) -> list[BadRecord]:
    """Check JSON values, one a line or one after the other; `problem` tells what is wrong with one, if anything is."""
    import orjson

    bad: list[BadRecord] = []
    for offset, line in _lines(data):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return bad + _bad_spread_values(data, offset, problem)
        if reason := problem(value):
            bad.append(BadRecord(offset, line, reason))
    return bad


# What a value begins with, at the start of a line: where reading can begin anew after something bad.
_NEXT_VALUE = re.compile(rb"\n(?=\{)")


def _bad_spread_values(data: bytes, at: int, problem: Callable[[object], str]) -> list[BadRecord]:
    """Check values that may be spread over lines, from `at` on."""
    import json

    decoder = json.JSONDecoder(parse_constant=_no_constant)
    text = data.decode("latin-1")  # a character a byte, so that places are offsets
    bad: list[BadRecord] = []
    while at < len(data):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, end = decoder.raw_decode(text, at)
            reason = "bad-utf8" if _is_not_utf8(data[at:end]) else problem(value)
        except (ValueError, RecursionError):
            following = _NEXT_VALUE.search(data, at + 1)
            end, reason = (following.start() + 1 if following else len(data)), "bad-json"
        if reason:
            end += data[end : end + 1] == b"\n"
            bad.append(BadRecord(at, data[at:end], reason))
        at = end
    return bad


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_not_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _envelope_problem(value: object) -> str:
    if not isinstance(value, dict):
        return "no-envelope"
    if isinstance(value.get("errors"), list):
        return "both-data-and-errors" if "data" in value else ""
    data = value.get("data")
    attributes = data.get("attributes") if isinstance(data, dict) else None
    if not isinstance(attributes, dict):
        return "no-envelope"
    return "" if _is_time(attributes.get("time")) else "bad-time"


def _sysinfo_problem(value: object) -> str:
    if isinstance(value, dict) and "data" in value:  # of a tool that names files of the new format so
        return _envelope_problem(value)
    if not isinstance(value, dict) or not isinstance(value.get("hostname"), str):
        return "no-sysinfo"
    return "" if _is_time(value.get("timestamp")) else "bad-timestamp"


def _arrival_problem(value: object) -> str:
    return "" if isinstance(value, dict) and _is_time(value.get("at")) else "bad-at"


def _is_time(value: object) -> bool:
    return isinstance(value, str) and parse_instant(value) is not None


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their ends, and where they begin."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        line = data[at:end]
        if line.strip():
            yield at, line
        at = end


def _damage(dropped: Counter[str]) -> set[str]:
    return set(dropped) - _NO_DAMAGE

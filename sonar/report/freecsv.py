"""Free CSV: one record a line, its fields `name=value` in any order, quoted as in RFC 4180. See sonar-data(5)."""

import re
from collections.abc import Iterable, Mapping

from sonar.errors import SonarError

__all__ = ["FreeCSVError", "parse_line", "record_line"]

_FIELD = re.compile(r'"((?:[^"]|"")*)"|([^",]*)')
_TO_QUOTE = re.compile(r'[",\r\n]|^\s')


class FreeCSVError(SonarError):
    """A line that is no CSV."""


def parse_line(line: str) -> dict[str, str]:
    """Return the fields of a line; those without `=` are ignored, of two with one name the last counts.

    Raise FreeCSVError, naming the column, if quotes are not balanced or stand within a plain field.
    """
    fields: dict[str, str] = {}
    line = line.rstrip("\r\n")
    at = 0
    while at <= len(line):
        match = _FIELD.match(line, at)
        at = match.end() if match else at
        if match is None or (at < len(line) and line[at] != ","):
            raise FreeCSVError(f"bad quote at column {at + 1}")
        quoted, plain = match.groups()
        name, equals, value = (plain if quoted is None else quoted.replace('""', '"')).partition("=")
        if equals:
            fields[name] = value
        at += 1
    return fields


def record_line(fields: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Return the line of a record, with its end; fields in the order given. A line break in a value becomes a blank."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    texts = [f"{name}={value}".replace("\n", " ").replace("\r", " ") for name, value in pairs]
    quoted = ['"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text for text in texts]
    return ",".join(quoted) + "\n"

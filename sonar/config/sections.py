"""Files in systemd's own format (systemd.syntax(7)): sections, `Key=Value`, comments, lines that go on.

A section may be there several times; each time it is one of its own, in the order of the file. A line that begins with
`#` or `;` is a comment, also between the parts of a line that goes on (with a `\\` at its end).
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sonar.errors import ConfigError

__all__ = ["ConfigError", "Entry", "Section", "nearest", "parse_sections", "read_sections"]

_LARGEST_FILE = 64 << 20
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One assignment, and where it stands."""

    key: str
    value: str
    path: Path
    line: int

    def __str__(self) -> str:
        """Return `FILE:LINE: KEY`, with which a message about the assignment begins."""
        return f"{self.path}:{self.line}: {self.key}"


@dataclass(frozen=True, slots=True)
class Section:
    """The assignments below one `[NAME]`."""

    name: str
    path: Path
    line: int
    entries: list[Entry] = field(default_factory=list)


def read_sections(path: Path) -> list[Section]:
    """Return the sections of a file; raise ConfigError with all that is wrong in it."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([f"cannot read '{path}': {error.strerror}"]) from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError([f"{path}: larger than {_LARGEST_FILE} bytes"])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8"]) from None
    return parse_sections(text, path)


def parse_sections(text: str, path: Path) -> list[Section]:
    """Return the sections of a text; `path` is what messages call it. Raise ConfigError with all that is wrong."""
    sections: list[Section] = []
    problems: list[str] = []
    for number, line in _logical_lines(text):
        if line.startswith("["):
            if not line.endswith("]") or not line[1:-1].strip():
                problems.append(f"{path}:{number}: bad section {line[:80]!r}: want [NAME]")
            else:
                sections.append(Section(line[1:-1].strip(), path, number))
            continue
        key, equals, value = line.partition("=")
        if not equals or not _KEY.fullmatch(key.rstrip()):
            problems.append(f"{path}:{number}: bad line {line[:80]!r}: want KEY=VALUE")
        elif not sections:
            problems.append(f"{path}:{number}: {key.rstrip()}= stands before the first [SECTION]")
        else:
            sections[-1].entries.append(Entry(key.rstrip(), value.strip(), path, number))
    if problems:
        raise ConfigError(problems)
    return sections


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with what is most like `word`; nothing where nothing is like it."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, 1)
    return f" (did you mean {names[found[0]]}?)" if found else ""


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Give each line that is no comment, with its number; lines that go on are joined by a blank."""
    begun: list[str] = []
    first = 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not begun):
            continue
        first = first if begun else number
        if line.endswith("\\"):
            begun.append(line[:-1].strip())
            continue
        begun.append(line)
        yield first, " ".join(begun).strip()
        begun = []
    if begun:
        yield first, " ".join(begun).strip()

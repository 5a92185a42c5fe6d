"""How a report of naicreport is declared: its options as data, and the function that makes it, one module a report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from sonar.errors import UsageError
from sonar.places import place_of
from sonar.times import DAY, date_limit
from sonar.verbs.declare import Option, OptionType

__all__ = ["CLUSTER", "CONFIG", "DATA", "FROM", "NOW", "SONALYZE", "STATE_DIR", "TO", "Call", "Report"]

DATA = Option("data-dir", "root of the cluster's log tree; or files after --", OptionType.PATH, metavar="DIR")
CLUSTER = Option("cluster", "a cluster of this server, by its sonar.conf(5): its data and description", metavar="NAME")
CONFIG = Option("config-file", "description of the nodes", OptionType.PATH, metavar="FILE")
STATE_DIR = Option("state-dir", "where the log of scans and the states are", OptionType.PATH, metavar="DIR")
FROM = Option("from", "first day, or how long ago", OptionType.DATE, "f", metavar="DATE")
TO = Option("to", "last day, or how long ago", OptionType.DATE, "t", metavar="DATE")
NOW = Option("now", "take this for the present time, UTC", metavar="TIME")
SONALYZE = Option("sonalyze", "ask this program instead of answering in process", OptionType.PATH, metavar="PROGRAM")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a report: what was given, by option; the files after `--`; the present time; where output goes."""

    given: Mapping[str, Sequence[str]]
    files: tuple[Path, ...]
    now: int
    out: TextIO

    def tell(self, text: str) -> None:
        """Tell on stderr, if that is asked for."""
        if "verbose" in self.given:
            print(f"naicreport: {text}", file=sys.stderr)

    def named(self, name: str) -> str:
        """Return the text of an option that must be there. Raise UsageError."""
        if name not in self.given:
            raise UsageError(f"--{name} must be given")
        return self.given[name][0]

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return name in self.given

    def text(self, name: str, default: str = "") -> str:
        """Return the text of an option."""
        return self.given[name][0] if name in self.given else default

    def path(self, name: str) -> Path | None:
        """Return the path of an option, made absolute; None if it was not given."""
        return place_of(self.given[name][0]).absolute() if name in self.given else None

    def required(self, *names: str) -> tuple[Path, ...]:
        """Return the paths of options that must be there. Raise UsageError naming all that are missing."""
        missing = [f"--{name}" for name in names if name not in self.given]
        if missing:
            raise UsageError(f"{', '.join(missing)} must be given")
        return tuple(Path(self.given[name][0]).absolute() for name in names)

    def count(self, name: str, default: int) -> int:
        """Return the whole number of an option, at least 1. Raise UsageError if it is none."""
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
            raise UsageError(f"Invalid value for --{name}: {text!r} is no whole number above 0")
        return int(text)

    def days(self) -> tuple[int, int]:
        """Return the window of --from and --to in whole UTC days: its first instant, and that after its last day."""
        start = _day("from", self.text("from", "1d"), self.now)
        end = (_day("to", self.text("to"), self.now) if self.text("to") else self.now // DAY * DAY) + DAY
        if "from" not in self.given:
            start = min(start, end - DAY)
        if start >= end:
            raise UsageError("The --from time is greater than the --to time")
        return start, end


@dataclass(frozen=True, slots=True)
class Report:
    """One report: what it takes and the function that makes it. `old_options` are spellings of old scripts."""

    name: str
    summary: str
    options: tuple[Option, ...]
    run: Callable[[Call], None]
    takes_files: bool = True
    old_options: Mapping[str, str] = field(default_factory=dict)
    positional: str = ""  # the option that a bare word stands for


def _day(name: str, text: str, now: int) -> int:
    try:
        return date_limit(text, now, end=False) // DAY * DAY
    except UsageError as error:
        raise UsageError(f"Invalid value for --{name}: {error}") from None

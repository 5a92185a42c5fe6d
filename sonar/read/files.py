"""Files of samples: which files of a log tree they are, and their bytes as tables."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.names import NO_SAMPLES
from sonar.read.tree import listed_days

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from sonar.analysis.samples import Samples
    from sonar.hosts import HostPatterns
    from sonar.read.sources import Listing

__all__ = [
    "COLUMNS_NAME",
    "FACTS_NAME",
    "ROLLUP_PREFIX",
    "ROLLUP_SUFFIX",
    "DayFiles",
    "LogFile",
    "SampleReader",
    "host_of",
    "is_derived",
    "listed",
    "settled_end",
]

COLUMNS_NAME = "0+columns.parquet"
ROLLUP_PREFIX = "0+rollup-"
ROLLUP_SUFFIX = ".arrow"
FACTS_NAME = f"{ROLLUP_PREFIX}runs{ROLLUP_SUFFIX}"

_ENVELOPES_PREFIX = "0+sample-"
_LARGEST_QUOTED = 64 * 1024  # and 16 lines: after so much without a quote none is open


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One file of samples. `host` is the one it is named after; an explicit file is named after none."""

    path: Path
    host: str = ""
    explicit: bool = False

    def is_json(self, content: bytes) -> bool:
        """Whether it holds envelopes: by its name in the tree, by its name or first byte elsewhere."""
        if not self.explicit:
            return self.path.name.startswith(_ENVELOPES_PREFIX)
        return self.path.suffix == ".json" or content.lstrip()[:1] == b"{"

    @property
    def reading_order(self) -> tuple[bool, Path]:
        """What files of a tree are read by: envelopes first, since they tell more, then by path."""
        return self.path.suffix != ".json", self.path


@dataclass(frozen=True, slots=True)
class DayFiles:
    """What a directory of a day has: the files of samples, by path, whether there are columns, and what was noted."""

    directory: Path
    samples: tuple[LogFile, ...]
    has_columns: bool
    noted: "Listing | None" = None

    @classmethod
    def of(cls, directory: Path, names: "Collection[str]", noted: "Listing | None") -> "DayFiles":
        """Return those of a directory that has files of these names."""
        if noted is None:
            return cls(directory, _samples_in(directory, names), COLUMNS_NAME in names)
        samples = noted.once("samples", partial(_samples_in, directory, names))
        return cls(directory, samples, COLUMNS_NAME in names, noted)

    def of_hosts(self, hosts: "HostPatterns") -> "DayFiles":
        """Return it with the files of some hosts."""
        return replace(self, samples=tuple(file for file in self.samples if hosts.match(file.host)))


def listed(root: Path, first: int, last: int, hosts: "HostPatterns | None" = None) -> list[DayFiles]:
    """Return the days of these (proleptic ordinals) that have files of samples, or columns, ascending."""
    days = [DayFiles.of(*found) for found in listed_days(root, first, last)]
    if hosts is not None:
        days = [day.of_hosts(hosts) for day in days]
    return [day for day in days if day.samples or day.has_columns]


def _samples_in(directory: Path, names: "Collection[str]") -> tuple[LogFile, ...]:
    return tuple(LogFile(directory / name, host) for name in sorted(names) if (host := host_of(name)))


def is_derived(name: str) -> bool:
    """Whether a file of a day's directory was made from the log there: columns and roll-ups."""
    return name == COLUMNS_NAME or (name.startswith(ROLLUP_PREFIX) and name.endswith((ROLLUP_SUFFIX, ".parquet")))


def host_of(name: str) -> str:
    """Return the host that a file of samples is named after; the empty text for any other file."""
    if name.startswith(_ENVELOPES_PREFIX) and name.endswith(".json"):
        return name[len(_ENVELOPES_PREFIX) : -len(".json")]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix == "csv" and stem not in NO_SAMPLES and not stem.startswith("0+") else ""


class SampleReader:
    """Makes tables of files; what it has learned from one helps with the next."""

    def __init__(self) -> None:
        from sonar.read.tokens import Tokenizer

        self._tokenizer = Tokenizer()

    def table(self, content: bytes, *, is_json: bool, dropped: Counter[str], begins_file: bool = True) -> "pa.Table":
        """Return the samples in a file's bytes, or in its later part; count the records that are dropped, by reason."""
        if is_json:
            from sonar.read.envelopes import read_envelopes
            from sonar.read.rows import Rows

            rows = Rows()
            read_envelopes(content, rows, dropped)
            return rows.table()
        return self._tokenizer.table(content, dropped, begins_file=begins_file)

    def samples(self, content: bytes, *, is_json: bool, dropped: Counter[str], begins_file: bool = True) -> "Samples":
        """Return the same as columns of the analysis."""
        if is_json:
            from sonar.analysis.samples import samples_of

            return samples_of(self.table(content, is_json=True, dropped=dropped))
        return self._tokenizer.samples(content, dropped, begins_file=begins_file)


def settled_end(content: bytes, *, is_json: bool) -> int:
    """Return up to where a file can be read apart from what follows, or will be appended: 0 if that is not known.

    Reading the bytes before that place and those behind it, one after the other, gives what reading all at once does.
    """
    end = content.rfind(b"\n") + 1
    if is_json:
        return end if _are_values(content[:end]) else 0
    if b'"' not in content[:end]:
        return end
    # A line that begins with `v=` begins a record, whatever stands before. If it closes its quotes, so does its end.
    start = content.rfind(b"\nv=", 0, end - 1) + 1
    if start and content.find(b"\n", start, end - 1) < 0 and _is_closed(content[start : end - 1]):
        return end
    lines = content[max(end - _LARGEST_QUOTED - 1, 0) : end]
    if len(lines) > _LARGEST_QUOTED and b'"' not in lines and lines.count(b"\n") > 16:
        return end
    return start


def _is_closed(line: bytes) -> bool:
    from sonar.read.records import split_quoted

    return b"\r" not in line and split_quoted(line) is not None


def _are_values(lines: bytes) -> bool:
    """Whether each line is a JSON value, or empty."""
    import orjson

    for line in lines.split(b"\n"):
        if line.strip():
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                return False
    return True

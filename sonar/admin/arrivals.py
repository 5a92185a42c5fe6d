"""When each node of a cluster was last heard of: the time at which its newest file of the log was last written.

Only directory entries are looked at, so that a cluster of thousands of nodes costs milliseconds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sonar.names import NO_SAMPLES, BadNameError, host_name
from sonar.times import DAY, day_of

__all__ = ["Arrivals", "arrivals_of"]

_PREFIXES = ("0+sample-", "0+sysinfo-", "sysinfo-")
_RECENT_DAYS = 2  # what is appended now may belong to yesterday


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`last` has for each node the instant at which something of it was stored; `bytes_today` is of all files."""

    last: dict[str, int]
    bytes_today: int = 0
    records_files: int = 0

    @property
    def newest(self) -> int | None:
        """When anything of any node was stored."""
        return max(self.last.values(), default=None)


def arrivals_of(tree: Path, now: int, window_s: int) -> Arrivals:
    """Return when the nodes with data in the last `window_s` seconds were last heard of; no tree, no nodes."""
    last: dict[str, int] = {}
    bytes_today = files = 0
    for age in range(-1, window_s // DAY + 1):
        day = tree / day_of(now - age * DAY).strftime("%Y/%m/%d")
        for node, entry in _files(day):
            if age < _RECENT_DAYS or node not in last:
                status = entry.stat()
                last[node] = max(last.get(node, 0), int(status.st_mtime))
                if age == 0:
                    bytes_today += status.st_size
                    files += 1
    return Arrivals(last, bytes_today, files)


def _files(day: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Give the nodes that have a file in the directory of a day, with the file."""
    try:
        entries = os.scandir(day)
    except OSError:
        return
    with entries:
        for entry in entries:
            stem, dot, suffix = entry.name.rpartition(".")
            if suffix not in {"csv", "json"} or not dot or stem in NO_SAMPLES:
                continue
            prefix = next((prefix for prefix in _PREFIXES if stem.startswith(prefix)), "")
            if (suffix == "json") != bool(prefix):
                continue  # of the cluster as a whole, or of nobody that we know
            try:
                yield host_name(stem.removeprefix(prefix)), entry
            except BadNameError:
                continue

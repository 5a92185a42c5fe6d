"""The spool of a node: samples on disk from the moment they are taken until the server has said that it has them.

    DIR/tmp   files being written
    DIR/new   files to be delivered; their names sort by age
    DIR/bad   what the server refused for good, each with a `.why` beside it

A file appears in `new` by rename, whole and synced. Its name is `TIME.SEQUENCE-KIND.SUFFIX`: the time of arrival in
milliseconds since 1970, a number that tells apart what one process writes and the process's own number, then the kind
of record, and `json` or `csv`. Several programs may write at once.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["CONTENT_TYPES", "DEFAULT_QUOTA", "Entry", "Spool"]

DEFAULT_QUOTA = 256 << 20
"""Bytes that may wait in `new`: a month of samples of 20 KB every five minutes take 170 MB."""

CONTENT_TYPES = {"json": "application/json", "csv": "text/csv"}

_SEQUENCE = count()


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file that waits in the spool."""

    name: str
    path: Path

    @property
    def arrived_s(self) -> float:
        """When it was put into the spool, in seconds since 1970."""
        return int(self.name.partition(".")[0]) / 1000

    @property
    def kind(self) -> str:
        """The kind of its records: `sample`, `sysinfo`, `job` or `cluster`."""
        return self.path.stem.rpartition("-")[2]

    @property
    def content_type(self) -> str:
        """The media type of its content."""
        return CONTENT_TYPES[self.path.suffix.removeprefix(".")]


class Spool:
    """A spool directory, made if it is not there. Raise SonarError where it cannot be used."""

    def __init__(self, directory: Path, *, quota: int = DEFAULT_QUOTA, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._quota = quota
        self._clock = clock
        try:
            for name in ("tmp", "new", "bad"):
                (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SonarError(f"cannot use spool '{directory}': {error.strerror} ({error.filename})") from error

    def put(self, kind: str, data: bytes, content_type: str) -> Path:
        """Store one delivery and return its path; it is on disk when this returns. Raise OSError when it cannot be."""
        suffix = next(suffix for suffix, media_type in CONTENT_TYPES.items() if media_type == content_type)
        name = f"{int(self._clock() * 1000):013}.{next(_SEQUENCE):06}.{os.getpid()}-{kind}.{suffix}"
        temporary = self.directory / "tmp" / name
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            target = self.directory / "new" / name
            temporary.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(target.parent)
        return target

    def entries(self) -> list[Entry]:
        """Return what waits to be delivered, oldest first; files of other names are not ours and are left alone."""
        names = sorted(name for name in os.listdir(self.directory / "new") if _is_ours(name))
        return [Entry(name, self.directory / "new" / name) for name in names]

    def remove(self, entry: Entry) -> None:
        """Remove what has been delivered."""
        entry.path.unlink(missing_ok=True)

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Put aside what the server refuses for good, with the reason beside it, and keep `bad` within the quota."""
        target = self.directory / "bad" / entry.name
        target.with_name(entry.name + ".why").write_text(reason + "\n")
        entry.path.rename(target)
        _drop_oldest(self.directory / "bad", self._quota)

    def enforce_quota(self) -> int:
        """Drop the oldest of what waits while it takes more than the quota; return how many files were dropped."""
        return _drop_oldest(self.directory / "new", self._quota)


def _is_ours(name: str) -> bool:
    return name[:13].isdigit() and name[13:14] == "." and name.rpartition(".")[2] in CONTENT_TYPES


def _drop_oldest(directory: Path, quota: int) -> int:
    sizes = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                sizes[entry.name] = entry.stat().st_size
    excess = sum(sizes.values()) - quota
    dropped = 0
    for name in sorted(sizes):
        if excess <= 0:
            break
        (directory / name).unlink(missing_ok=True)
        excess -= sizes[name]
        dropped += 1
    return dropped


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

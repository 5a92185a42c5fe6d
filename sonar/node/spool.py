"""The spool of a node: samples on disk from the moment they are taken until the server has said that it has them.

    DIR/tmp     files being written
    DIR/new     files to be delivered, oldest first
    DIR/bad     what the server refused for good, each with its reason in a `.why` beside it
    DIR/quota   how many bytes may wait in `new`
    DIR/lock    locked (flock(2)) by who delivers

A file appears in `new` by rename, whole and synced. Its name is `TIME.SEQUENCE.TOKEN-KIND.SUFFIX`: milliseconds since
1970, a number that counts what one writer has put, a random number so that no two writers ever choose the same name,
the kind of its records, and `json` or `csv`. Any number of programs may write at once; one at a time delivers.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError

__all__ = ["CONTENT_TYPES", "DEFAULT_QUOTA", "Entry", "Spool"]

DEFAULT_QUOTA = 256 << 20
"""Bytes that may wait in `new`: a month of samples of 20 KB every five minutes takes 170 MB."""

CONTENT_TYPES = {"json": "application/json", "csv": "text/csv"}

_NAME = re.compile(r"(\d{13,15})\.(\d{6,12})\.[0-9a-f]{8}-([a-z][a-z0-9._-]{0,63})\.(json|csv)", re.ASCII)
# A file in `tmp` that is older than this has been left behind by a writer that was killed.
_ABANDONED_S = 24 * 3600


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file that waits in the spool. Entries sort by age; what one writer has put keeps its order."""

    arrived_ms: int
    sequence: int
    path: Path
    kind: str
    content_type: str


class Spool:
    """A spool directory, made if it is not there. Raise SonarError where it cannot be used.

    `quota_bytes` becomes the quota of the spool; without it the one that was set last holds, or DEFAULT_QUOTA.
    """

    def __init__(
        self, directory: Path, quota_bytes: int | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self._clock = clock
        self._sequence = count()
        self._latest_ms = 0
        self._naming = threading.Lock()
        try:
            for name in ("tmp", "new", "bad"):
                (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.sync(directory)
            if quota_bytes is not None:
                self._set_quota(quota_bytes)
            self._remove_abandoned()
        except OSError as error:
            raise SonarError(f"cannot use spool '{directory}': {error.strerror} ({error.filename})") from error

    @property
    def quota_bytes(self) -> int:
        """How many bytes may wait in `new`; a quarter of that may lie in `bad`."""
        try:
            return int((self.directory / "quota").read_text())
        except (OSError, ValueError):
            return DEFAULT_QUOTA

    def put(self, kind: str, data: bytes, content_type: str) -> Path:
        """Store one delivery and return its path; it is on disk when this returns.

        Raise OSError if it cannot be stored. That includes a spool a quarter above its quota: nobody delivers then,
        or the oldest would have been dropped, and the disk is not to be filled.
        """
        name = self._new_name(kind, content_type)
        limit = self.quota_bytes * 5 // 4
        if sum(_sizes(self.directory / "new").values()) + len(data) > limit:
            raise OSError(errno.EDQUOT, f"More than {limit} bytes would wait for delivery", str(self.directory))
        temporary = self.directory / "tmp" / name
        target = self.directory / "new" / name
        try:
            durable.create(temporary, data)
            durable.sync(temporary)
            temporary.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        durable.sync(target.parent)
        return target

    def entries(self) -> list[Entry]:
        """Return what waits to be delivered, oldest first. Files of other names are not ours and are left alone."""
        try:
            names = os.listdir(self.directory / "new")
        except OSError as error:
            raise SonarError(f"cannot read spool '{self.directory}': {error.strerror}") from error
        return sorted(entry for name in names if (entry := _entry(self.directory / "new" / name)))

    def remove(self, entry: Entry) -> None:
        """Remove what has been delivered."""
        entry.path.unlink(missing_ok=True)

    def quarantine(self, entry: Entry, why: str) -> int:
        """Put into `bad` what the server refuses for good; return how many older files there had to go for it.

        Raise FileNotFoundError if the entry is gone, OSError if it cannot be moved. The name stays, so that a file
        which is moved back is delivered in its turn.
        """
        bad = self.directory / "bad"
        bad.mkdir(mode=0o700, exist_ok=True)
        entry.path.rename(bad / entry.path.name)
        with contextlib.suppress(OSError):  # on a full disk; the journal has the reason, too
            (bad / f"{entry.path.name}.why").write_text(why + "\n")
        return _drop_oldest(bad, self.quota_bytes // 4)

    def enforce_quota(self) -> int:
        """Drop the oldest of what waits while it takes more than the quota; return how many files were dropped."""
        return _drop_oldest(self.directory / "new", self.quota_bytes)

    @contextlib.contextmanager
    def delivering(self) -> Iterator[bool]:
        """Hold the right to deliver from this spool; give False, and hold nothing, while another process has it."""
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                held = False
            yield held
        finally:
            os.close(lock)

    def _new_name(self, kind: str, content_type: str) -> str:
        """Return a name that sorts behind all that this writer has used, even if the clock was set back."""
        suffix = next((suffix for suffix, known in CONTENT_TYPES.items() if known == content_type), "")
        with self._naming:
            self._latest_ms = max(self._latest_ms, int(self._clock() * 1000))
            name = f"{self._latest_ms:013}.{next(self._sequence):06}.{secrets.token_hex(4)}-{kind}.{suffix}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name for records of kind {kind!r} and type {content_type!r}")
        return name

    def _set_quota(self, quota_bytes: int) -> None:
        temporary = self.directory / "tmp" / f"quota.{secrets.token_hex(4)}"
        temporary.write_text(f"{quota_bytes}\n")
        temporary.rename(self.directory / "quota")

    def _remove_abandoned(self) -> None:
        for path in (self.directory / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


def _entry(path: Path) -> Entry | None:
    if not (match := _NAME.fullmatch(path.name)):
        return None
    arrived, sequence, kind, suffix = match.groups()
    return Entry(int(arrived), int(sequence), path, kind, CONTENT_TYPES[suffix])


def _sizes(directory: Path) -> dict[str, int]:
    """Return the sizes in bytes of the entries' files, with their `.why`, by the name of the entry."""
    sizes: dict[str, int] = {}
    with os.scandir(directory) as files:
        for file in files:
            name = file.name.removesuffix(".why")
            if _NAME.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    sizes[name] = sizes.get(name, 0) + file.stat().st_size
    return sizes


def _drop_oldest(directory: Path, quota_bytes: int) -> int:
    """Drop the oldest entries until the rest take no more than the quota; return how many."""
    sizes = _sizes(directory)
    excess = sum(sizes.values()) - quota_bytes
    dropped = 0
    for entry in sorted(filter(None, (_entry(directory / name) for name in sizes))) if excess > 0 else ():
        if excess <= 0:
            break
        entry.path.unlink(missing_ok=True)
        (directory / f"{entry.path.name}.why").unlink(missing_ok=True)
        excess -= sizes[entry.path.name]
        dropped += 1
    return dropped

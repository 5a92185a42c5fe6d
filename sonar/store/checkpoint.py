"""What the distributor must remember across a crash: how far it has come, and how long its files were then.

    checkpoint      one line: epoch, segment, offset. Everything before that place of the spool is in the files, synced.
    EPOCH.intent    one line for each file touched since: its length before. It is durable before the file is touched.

A checkpoint of the next epoch replaces the old one by rename(2); the old intent then counts for nothing.
Each line begins with the CRC-32 of its text, so that a torn one is seen.
"""

import contextlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from sonar import durable
from sonar.store.spool import Position, write_all

__all__ = ["Journal"]


class Journal:
    """Checkpoint and intent in a spool directory. Every method may raise OSError, and may then be tried again."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self._directory = directory
        self._sync = sync
        self.epoch, self.position = _read_checkpoint(directory)
        self._pending: tuple[int, Position] | None = None  # written, but perhaps not in force
        self.lengths, self._intent_bytes = _read_intent(self._intent_path())

    def note(self, lengths: Mapping[str, int]) -> None:
        """Make the lengths of files durable that are to be touched for the first time in this epoch."""
        data = "".join(_line(f"{length} {path}") for path, length in sorted(lengths.items())).encode()
        is_new = not self._intent_bytes
        descriptor = os.open(self._intent_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            os.ftruncate(descriptor, self._intent_bytes)  # what a failed attempt has left
            write_all(descriptor, data)
            if self._sync:
                os.fdatasync(descriptor)
                if is_new:
                    durable.sync(self._directory)
        finally:
            os.close(descriptor)
        self._intent_bytes += len(data)
        self.lengths |= lengths

    def commit(self, position: Position) -> None:
        """Begin the next epoch: all before `position` is in the files and synced."""
        checkpoint = (self.epoch + 1, position)
        descriptor = os.open(self._scratch_path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            write_all(descriptor, _line(f"{checkpoint[0]} {position.segment} {position.offset}").encode())
            os.fsync(descriptor)  # even where nothing else is synced: a checkpoint is whole or not there
        finally:
            os.close(descriptor)
        self._pending = checkpoint
        self.settle()

    def settle(self) -> None:
        """Put a written checkpoint into force, if there is one. Until this has succeeded no file may be touched."""
        if self._pending is None:
            return
        with contextlib.suppress(FileNotFoundError):  # renamed by an attempt that failed after that
            os.rename(self._scratch_path(), self._directory / "checkpoint")  # noqa: PTH104
        if self._sync:
            durable.sync(self._directory)
        (self.epoch, self.position), self._pending = self._pending, None
        self.lengths, self._intent_bytes = {}, 0
        self.tidy()

    def tidy(self) -> None:
        """Remove what no start would read again. Failing at it costs room and nothing else."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                finished = path.suffix == ".wal" and path.stem.isdigit() and int(path.stem) < self.position.segment
                stale = path.suffix == ".intent" and path.stem != str(self.epoch)
                if finished or stale:
                    os.unlink(path)  # noqa: PTH108

    def _intent_path(self) -> Path:
        return self._directory / f"{self.epoch}.intent"

    def _scratch_path(self) -> Path:
        return self._directory / "checkpoint.new"


def _read_checkpoint(directory: Path) -> tuple[int, Position]:
    path = directory / "checkpoint"
    try:
        text = _text(path.read_bytes())
    except FileNotFoundError:
        return 0, Position(0, 0)
    if text is None:
        raise OSError(None, "the spool's checkpoint is damaged", str(path))
    epoch, segment, offset = (int(number) for number in text.split(" "))
    return epoch, Position(segment, offset)


def _read_intent(path: Path) -> tuple[dict[str, int], int]:
    """Return the lengths in an intent file, and how many of its bytes are good."""
    lengths: dict[str, int] = {}
    good = 0
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines(keepends=True):
            text = _text(line)
            if text is None:
                break  # torn: the file that it names was not touched
            length, _, name = text.partition(" ")
            lengths[name] = int(length)
            good += len(line)
    return lengths, good


def _line(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _text(line: bytes) -> str | None:
    """Return the text of a whole line; None if it is torn."""
    checksum, _, rest = line.partition(b" ")
    if not rest.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(rest[:-1]):
        return None
    return rest[:-1].decode()

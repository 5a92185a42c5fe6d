"""The distributor: takes entries from the spool, in order, to the files of the log, each record exactly once.

One thread appends, with one write(2) for each file and request. What makes it exact across a crash at any moment:

    checkpoint      one line: epoch, segment, offset. Everything before that place is in the files, and synced.
    EPOCH.intent    one line for each file touched since: its length before. It is durable before the file is touched.

Every few seconds the touched files and new directories are synced, a checkpoint of the next epoch replaces the old one
by rename(2), the old intent file and the finished segments go. A new process cuts each file of the intent back to the
length noted there and takes the spool from the checkpoint on: the same bytes come out in the same places.

A failure (no room, no permission) stops the distributor where it is: it tries again until it succeeds, and skips
nothing. What has been answered for waits in the spool meanwhile.
"""

import contextlib
import errno
import logging
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from sonar.store.layout import Append
from sonar.store.spool import Position, Spool, decode, entries_of, segments_in, sync_directory, write_all

__all__ = ["Checkpoint", "Distributor"]

CHECKPOINT_S = 5.0
_RETRY_S = 0.5
_ROUND_BYTES = 8 << 20
_OPEN_FILES = 512

_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What is distributed and durable: all before `position`."""

    epoch: int = 0
    position: Position = Position(0, 0)


class Distributor:
    """The reading end of the spool. Make it (which repairs the files), give it the spool, start it."""

    def __init__(self, root: Path, directory: Path, *, sync: bool) -> None:
        self.obstacle: str | None = None
        self.busy_since: float | None = None
        self.done_bytes = 0
        self._root = root
        self._directory = directory
        self._sync = sync
        self._checkpoint = _read_checkpoint(directory)
        self._position = self._checkpoint.position
        self._done = 0  # appends already made of the entry at the position
        self._noted: set[str] = set()  # files whose length is in the intent
        self._files: dict[str, int] = {}  # open files of this epoch
        self._torn: dict[str, int] = {}  # files with half an append at the end -> length without it
        self._touched: set[str] = set()
        self._new_directories: set[Path] = set()
        self._intent_bytes = 0
        self._segment: tuple[int, int] | None = None  # number and descriptor of the one being read
        self._old = segments_in(directory)
        self._first_live = max([self._checkpoint.position.segment, *self._old]) + 1
        self._pending: Checkpoint | None = None  # written, but perhaps not in force
        self._must_rewind = False
        self._done_bytes_before = 0  # at the checkpoint
        self._closing = False
        self._work = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distributor", daemon=True)
        self._spool: Spool[Any] | None = None
        self._repair()
        self._tidy()

    @property
    def first_free_segment(self) -> int:
        """The number that a new spool may begin with."""
        return self._first_live

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self, spool: Spool[Any]) -> None:
        """Begin to distribute what lies in the spool."""
        self._spool = spool
        self._work.set()
        self._thread.start()

    def wake(self) -> None:
        """Tell that the spool has grown."""
        self._work.set()

    def close(self) -> None:
        """Distribute what can be distributed at once, make a last checkpoint, end. The spool must be closed before."""
        self._closing = True
        self._work.set()
        self._thread.join()
        self._close_files()
        self._leave_segment()

    def _run(self) -> None:
        due: float | None = None
        while True:
            self._work.wait(_RETRY_S if self.obstacle else None if due is None else max(0.0, due - time.monotonic()))
            closing = self._closing
            self._work.clear()
            self.busy_since = time.monotonic()
            is_due = closing or (due is not None and self.busy_since >= due)
            if self._attempt(checkpoint=is_due, last=closing) and is_due:
                due = None
            if due is None and (self._touched or self._position != self._checkpoint.position):
                due = time.monotonic() + CHECKPOINT_S
            self.busy_since = None
            if closing:
                return

    def _attempt(self, *, checkpoint: bool, last: bool) -> bool:
        """Distribute all there is, make a checkpoint if it is time; return whether all succeeded."""
        try:
            if self._pending is not None:
                self._settle()
            if self._must_rewind:
                self._rewind()
            while self._round():
                pass
            if checkpoint:
                self._make_checkpoint(last=last)
        except OSError as error:
            self._close_files()  # they may be what there are too many of
            where = f" '{error.filename}'" if error.filename else ""
            reason = f"log: {error.strerror}{where}"
            if self.obstacle != reason:
                _log.error("cannot write the log, records wait in the spool: %s%s", error.strerror, where)
                self.obstacle = reason
            return False
        if self.obstacle:
            _log.warning("the log can be written again")
            self.obstacle = None
        return True

    # Entries ---------------------------------------------------------------------------------------------------------

    def _round(self) -> bool:
        """Take some entries to their files; return whether there may be more."""
        entries: list[tuple[list[Append], int]] = []
        size = 0
        descriptor, end = self._open_segment()
        if descriptor is not None:
            for payload, behind in entries_of(descriptor, self._position.offset, end):
                entries.append((decode(payload), behind))
                size += len(payload)
                if size > _ROUND_BYTES:
                    break
        if not entries:
            if descriptor is not None and end is not None and end > self._position.offset:
                raise OSError(errno.EIO, f"spool segment {self._position.segment} cannot be read back")
            return self._next_segment()
        self._note_lengths({append.path for appends, _ in entries for append in appends})
        for appends, behind in entries:
            for append in appends[self._done :]:
                self._append(append)
                self._done += 1
            self.done_bytes += behind - self._position.offset
            self._position = Position(self._position.segment, behind)
            self._done = 0
        return True

    def _append(self, append: Append) -> None:
        path = append.path
        descriptor = self._files.get(path)
        is_first = descriptor is None
        try:
            if descriptor is None:
                descriptor = self._open_file(path)
                self._files[path] = descriptor
            if (whole := self._torn.get(path)) is not None:
                os.ftruncate(descriptor, whole)
                del self._torn[path]
            length = os.fstat(descriptor).st_size
            data = append.data
            if is_first and length and os.pread(descriptor, 1, length - 1) != b"\n":
                data = b"\n" + data  # the line of an older writer has no end: ours must not be joined to it
            self._touched.add(path)
            try:
                write_all(descriptor, data)
            except OSError:
                self._torn[path] = length
                raise
        except OSError as error:
            error.filename = path
            raise

    def _open_file(self, path: str) -> int:
        if len(self._files) >= _OPEN_FILES:
            self._close_files()
        full = self._root / path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(full, flags, 0o644)
        except FileNotFoundError:
            self._make_directory(full.parent)
            descriptor = os.open(full, flags, 0o644)
        return descriptor

    def _make_directory(self, directory: Path) -> None:
        missing = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for one in reversed(missing):
            self._new_directories.add(one.parent)
            with contextlib.suppress(FileExistsError):
                os.mkdir(one, 0o755)  # noqa: PTH102  (a test counts and breaks off the calls of `os`)

    # Segments --------------------------------------------------------------------------------------------------------

    def _open_segment(self) -> tuple[int | None, int | None]:
        """Return the descriptor of the segment at the position, if there is one yet, and where its entries end."""
        number = self._position.segment
        if self._segment is None or self._segment[0] != number:
            self._leave_segment()
            try:
                descriptor = os.open(self._directory / f"{number:010}.wal", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None, None
            self._segment = (number, descriptor)
        assert self._spool is not None
        return self._segment[1], self._spool.end_of(number)

    def _next_segment(self) -> bool:
        """Go on to the next segment; return False if the position is at the end of the spool."""
        assert self._spool is not None
        number, offset = self._position
        committed = self._spool.committed
        if number >= committed.segment:
            return False
        end = self._spool.end_of(number)
        if end is not None and offset < end:
            return True  # it has grown, and ended, since it was read
        if end is None and self._segment is not None:
            rest = os.fstat(self._segment[1]).st_size - offset
            if rest > 0:
                _log.warning("spool segment %d: its last %d bytes are not a whole entry, ignoring them", number, rest)
        later = [old for old in self._old if old > number]
        self._position = Position(min(later) if later else max(number + 1, self._first_live), 0)
        return True

    def _leave_segment(self) -> None:
        if self._segment is not None:
            os.close(self._segment[1])
            self._segment = None

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _note_lengths(self, paths: set[str]) -> None:
        """Make the length of each file that was not touched in this epoch durable."""
        new = sorted(paths - self._noted)
        if not new:
            return
        lines = []
        for path in new:
            try:
                length = (self._root / path).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                length = 0
            lines.append(_line(f"{length} {path}"))
        data = "".join(lines).encode()
        intent = self._intent_path()
        is_new = not self._intent_bytes
        descriptor = os.open(intent, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            os.ftruncate(descriptor, self._intent_bytes)  # what a failed attempt left
            write_all(descriptor, data)
            if self._sync:
                os.fdatasync(descriptor)
                if is_new:
                    sync_directory(self._directory)
        finally:
            os.close(descriptor)
        self._intent_bytes += len(data)
        self._noted.update(new)

    def _make_checkpoint(self, *, last: bool) -> None:
        """Sync the files and note that all before the position is done, if there is anything new.

        The `last` one leaves the spool empty.
        """
        if self._done:
            return  # in the middle of an entry there is no place to note
        if self._position == self._checkpoint.position and not self._touched and not last:
            return
        try:
            self._sync_files()
        except OSError:
            # Pages that failed to reach the disk may be gone from memory too: take them from the spool again.
            self._must_rewind = True
            raise
        assert self._spool is not None
        position = Position(self._spool.committed.segment + 1, 0) if last else self._position
        self._write_checkpoint(Checkpoint(self._checkpoint.epoch + 1, position))

    def _sync_files(self) -> None:
        if self._sync:
            directories = set(self._new_directories)
            for path in sorted(self._touched):
                self._sync_file(path)
                directories.add((self._root / path).parent)
            for directory in sorted(directories):
                sync_directory(directory)
        self._new_directories.clear()

    def _sync_file(self, path: str) -> None:
        descriptor = self._files.get(path)
        if descriptor is not None:
            os.fsync(descriptor)
            return
        descriptor = os.open(self._root / path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        scratch = self._directory / "checkpoint.new"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            epoch, position = checkpoint
            write_all(descriptor, _line(f"{epoch} {position.segment} {position.offset}").encode())
            os.fsync(descriptor)  # even where nothing else is synced: a checkpoint is whole or not there
        finally:
            os.close(descriptor)
        self._pending = checkpoint
        self._settle()

    def _settle(self) -> None:
        """Put a written checkpoint into force. Until that has succeeded nothing may be appended."""
        assert self._pending is not None
        with contextlib.suppress(FileNotFoundError):  # renamed by an attempt that failed after that
            os.rename(self._directory / "checkpoint.new", self._directory / "checkpoint")  # noqa: PTH104
        if self._sync:
            sync_directory(self._directory)
        self._checkpoint, self._pending = self._pending, None
        self._done_bytes_before = self.done_bytes
        self._noted.clear()
        self._touched.clear()
        self._intent_bytes = 0
        self._close_files()
        self._tidy()
        if self._spool is not None:
            self._spool.forget(self._checkpoint.position.segment)

    def _tidy(self) -> None:
        """Remove what no start would read again. Failing at it costs room and nothing else."""
        epoch, (segment, _) = self._checkpoint
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                finished = path.suffix == ".wal" and path.stem.isdigit() and int(path.stem) < segment
                stale = path.suffix == ".intent" and path.stem != str(epoch)
                if finished or stale:
                    os.unlink(path)  # noqa: PTH108
        self._old = [number for number in self._old if number >= segment]

    # Repair ----------------------------------------------------------------------------------------------------------

    def _repair(self) -> None:
        """Bring the files back to the checkpoint."""
        content = b""
        with contextlib.suppress(FileNotFoundError):
            content = self._intent_path().read_bytes()
        good = 0
        for line in content.splitlines(keepends=True):
            text = _text(line)
            if text is None:
                break  # torn: the file that it names was not touched
            good += len(line)
            length, _, path = text.partition(" ")
            self._cut(path, int(length))
            self._noted.add(path)
            # The process before may have made the directories, and not have come to sync them.
            self._new_directories.update(self._root / parent for parent in Path(path).parents)
        self._intent_bytes = good

    def _cut(self, path: str, length: int) -> None:
        try:
            descriptor = os.open(self._root / path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if os.fstat(descriptor).st_size > length:
                os.ftruncate(descriptor, length)
                if self._sync:
                    os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._touched.add(path)

    def _rewind(self) -> None:
        """Go back to the checkpoint, in the files and in the spool."""
        self._close_files()
        self._repair()
        self._torn.clear()
        self._done = 0
        self.done_bytes = self._done_bytes_before
        self._position = self._checkpoint.position
        self._leave_segment()
        self._must_rewind = False

    def _intent_path(self) -> Path:
        return self._directory / f"{self._checkpoint.epoch}.intent"

    def _close_files(self) -> None:
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._files.clear()


def _read_checkpoint(directory: Path) -> Checkpoint:
    try:
        content = (directory / "checkpoint").read_bytes()
    except FileNotFoundError:
        return Checkpoint()
    text = _text(content)
    if text is None:
        raise OSError(None, "the spool's checkpoint is damaged", str(directory / "checkpoint"))
    epoch, segment, offset = (int(number) for number in text.split(" "))
    return Checkpoint(epoch, Position(segment, offset))


def _line(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _text(line: bytes) -> str | None:
    """Return the text of a whole line; None if it is torn."""
    checksum, _, rest = line.partition(b" ")
    if not rest.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(rest[:-1]):
        return None
    return rest[:-1].decode()

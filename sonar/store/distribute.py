"""The distributor: takes entries from the spool, in order, to the files of the log, each record exactly once.

One thread appends, in rounds: all that has come for a file goes to it with one write(2). Before it touches a file for
the first time since the last checkpoint it has noted the file's length (`sonar.store.checkpoint`). Every few seconds it
syncs the files and directories it has touched, writes a checkpoint, and so gives up the segments before it. A new
process cuts each noted file back to its length and takes the spool from the checkpoint on: the same bytes come out in
the same places.

A failure (no room, no permission) stops the distributor behind the round: it tries again until it succeeds, and skips
nothing. What has been answered for waits in the spool meanwhile.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sonar import durable
from sonar.store.checkpoint import Journal
from sonar.store.spool import Position, Spool, decode, entries_of, segments_in, write_all

__all__ = ["Distributor"]

CHECKPOINT_S = 5.0
_RETRY_S = 0.5
_GATHER_S = 0.02  # between rounds, so that there is something to put together, and no round is long
_ROUND_BYTES = 8 << 20
_OPEN_FILES = 512
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}  # the next file would fare no better

_log = logging.getLogger(__name__)


class Distributor:
    """The reading end of the spool. Make it (which repairs the files), give it the spool, start it."""

    def __init__(self, root: Path, directory: Path, *, sync: bool) -> None:
        self.obstacle: str | None = None  # why the last attempt failed; None if it did not
        self.busy_since: float | None = None  # when it last made progress; None while there is nothing to do
        self.done_bytes = 0
        self._root = root
        self._directory = directory
        self._sync = sync
        self._journal = Journal(directory, sync=sync)
        self._position = self._journal.position
        self._pending: dict[str, bytes] = {}  # by path: what is still to be appended of the round
        self._pending_end = self._position  # where the round ends
        self._done_bytes_before = 0  # at the checkpoint
        self._files: dict[str, int] = {}  # open files
        self._lengths: dict[str, int] = {}  # of these
        self._torn: dict[str, int] = {}  # files with a part of an append at the end -> length without it
        self._touched: set[str] = set()  # since the checkpoint, as the next two
        self._new_directories: set[Path] = set()
        self._due: float | None = None  # when the next checkpoint is
        self._must_rewind = False
        self._segment: tuple[int, int] | None = None  # number and descriptor of the one being read
        self._old = segments_in(directory)
        self.first_free_segment = max([self._position.segment, *self._old]) + 1
        self._closing = False
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distributor", daemon=True)
        self._spool: Spool[Any]
        self._repair()
        self._journal.tidy()

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
        self._hurry.set()
        self._thread.join()
        self._close_files()
        self._leave_segment()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._work.wait(self._pause())
            closing = self._closing
            self._work.clear()
            self._beat()
            self._attempt(last=closing)
            self.busy_since = None
            self._hurry.wait(_GATHER_S)

    def _pause(self) -> float | None:
        """Return how long to wait for new entries."""
        if self.obstacle:
            return _RETRY_S
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def _beat(self) -> None:
        self.busy_since = time.monotonic()

    def _attempt(self, *, last: bool) -> None:
        """Distribute all there is, with checkpoints when it is time for them; note what stands in the way."""
        try:
            self._journal.settle()
            if self._must_rewind:
                self._rewind()
            while self._round():
                if self._is_due():
                    self._checkpoint(self._position)
            if last:
                self._checkpoint(Position(self._spool.committed.segment + 1, 0))
            elif self._is_due():
                self._checkpoint(self._position)
        except OSError as error:
            self._close_files()  # they may be what there are too many of
            where = f" '{error.filename}'" if error.filename else ""
            reason = f"log: {error.strerror}"  # without the file: it is told to whoever asks
            if self.obstacle != reason:
                _log.error("cannot write the log, records wait in the spool: %s%s", error.strerror, where)
                self.obstacle = reason
            return
        if self.obstacle:
            _log.warning("the log can be written again")
            self.obstacle = None

    # Entries ---------------------------------------------------------------------------------------------------------

    def _round(self) -> bool:
        """Take some entries to their files; return whether there may be more."""
        if not self._pending and not self._gather():
            return self._next_segment()
        if self._due is None:
            self._due = time.monotonic() + CHECKPOINT_S
        self._note_lengths(self._pending.keys())
        failure: OSError | None = None
        for path in list(self._pending):
            try:
                self._append(path, self._pending[path])
                del self._pending[path]
                self._beat()
            except OSError as error:
                failure = failure or error
                if error.errno in _OF_THE_DISK:
                    break
        if failure is not None:
            raise failure
        self.done_bytes += self._pending_end.offset - self._position.offset
        self._position = self._pending_end
        return True

    def _gather(self) -> bool:
        """Put together, by file, what some entries hold; return whether there is any."""
        descriptor, end = self._open_segment()
        if descriptor is None:
            return False
        number, offset = self._position
        parts: dict[str, list[bytes]] = {}
        size = 0
        for payload, behind in entries_of(descriptor, offset, end):
            for path, data in decode(payload):
                parts.setdefault(path, []).append(data)
            size += len(payload)
            offset = behind
            if size > _ROUND_BYTES:
                break
        if not parts and end is not None and end > offset:
            raise OSError(errno.EIO, f"spool segment {number} cannot be read back")
        self._pending = {path: data[0] if len(data) == 1 else b"".join(data) for path, data in parts.items()}
        self._pending_end = Position(number, offset)
        return bool(parts)

    def _note_lengths(self, paths: Iterable[str]) -> None:
        lengths: dict[str, int] = {}
        for path in paths:
            if path in self._journal.lengths:
                continue
            try:
                lengths[path] = (self._root / path).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                lengths[path] = 0
        if lengths:
            self._journal.note(lengths)

    def _append(self, path: str, data: bytes) -> None:
        descriptor = self._files.get(path)
        is_first = descriptor is None
        try:
            if descriptor is None:
                descriptor = self._files[path] = self._open_file(path)
            if (whole := self._torn.get(path)) is not None:
                os.ftruncate(descriptor, whole)
                del self._torn[path]
            length = os.fstat(descriptor).st_size if is_first else self._lengths[path]
            if is_first and length and os.pread(descriptor, 1, length - 1) != b"\n":
                data = b"\n" + data  # the line of an older writer has no end: ours must not be joined to it
            self._touched.add(path)
            try:
                write_all(descriptor, data)
            except OSError:
                self._torn[path] = length
                raise
            self._lengths[path] = length + len(data)
        except OSError as error:
            error.filename = path
            raise

    def _open_file(self, path: str) -> int:
        if len(self._files) >= _OPEN_FILES:
            self._close_files()
        full = self._root / path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(full, flags, 0o644)
        except FileNotFoundError:
            self._make_directory(full.parent)
            return os.open(full, flags, 0o644)

    def _make_directory(self, directory: Path) -> None:
        missing = []
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for one in reversed(missing):
            self._new_directories.add(one.parent)
            with contextlib.suppress(FileExistsError):
                os.mkdir(one, 0o755)  # noqa: PTH102

    def _close_files(self) -> None:
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._files.clear()
        self._lengths.clear()

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
        return self._segment[1], self._spool.end_of(number)

    def _next_segment(self) -> bool:
        """Go on to the next segment; return False if the position is at the end of the spool."""
        number, offset = self._position
        if number >= self._spool.committed.segment:
            return False
        end = self._spool.end_of(number)
        if end is not None and offset < end:
            return True  # it has grown, and ended, since it was read
        if end is None and self._segment is not None:
            rest = os.fstat(self._segment[1]).st_size - offset
            if rest > 0:
                _log.warning("spool segment %d: its last %d bytes are not a whole entry, ignoring them", number, rest)
        later = [old for old in self._old if old > number]
        self._position = Position(min(later) if later else max(number + 1, self.first_free_segment), 0)
        return True

    def _leave_segment(self) -> None:
        if self._segment is not None:
            os.close(self._segment[1])
            self._segment = None

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        # In the middle of a round there is no place to note.
        return self._due is not None and time.monotonic() >= self._due and not self._pending

    def _checkpoint(self, position: Position) -> None:
        """Sync the files and note that all before `position` is done."""
        try:
            self._sync_files()
        except OSError:
            # Pages that failed to reach the disk may be gone from memory too: take them from the spool again.
            self._must_rewind = True
            raise
        self._journal.commit(position)
        self._due = None
        self._done_bytes_before = self.done_bytes
        self._touched.clear()
        self._close_files()
        self._old = [number for number in self._old if number >= position.segment]
        self._spool.forget(position.segment)

    def _sync_files(self) -> None:
        if self._sync:
            directories = set(self._new_directories)
            for path in sorted(self._touched):
                self._sync_file(path)
                directories.add((self._root / path).parent)
                self._beat()
            for directory in sorted(directories):
                durable.sync(directory)
        self._new_directories.clear()

    def _sync_file(self, path: str) -> None:
        descriptor = self._files.get(path)
        if descriptor is not None:
            os.fsync(descriptor)
            return
        durable.sync(self._root / path)

    def _repair(self) -> None:
        """Bring the files back to the checkpoint."""
        for path, length in self._journal.lengths.items():
            self._cut(path, length)
            # The process before may have made the directories, and not have come to sync them.
            self._new_directories.update(self._root / parent for parent in Path(path).parents)

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
        self._pending = {}
        self.done_bytes = self._done_bytes_before
        self._position = self._journal.position
        self._leave_segment()
        self._must_rewind = False

"""The write-ahead spool: what makes a record durable before its sender is told so.

A thread takes whoever waits, writes all their entries with one write(2) and one fdatasync(2), and then tells them all.
So a thousand nodes that post at once share a few syncs. An entry is the bytes of one request, all or nothing:

    entry   = magic "SNR1", length of payload (u32), CRC-32 of length and payload (u32), payload
    payload = any number of: length of path (u16), length of data (u32), path, data       all little-endian

Entries lie in segments `NNNNNNNNNN.wal`, in the order of their numbers. Whatever at the end of a segment is not a whole
entry was never answered for, and ends the segment. `sonar.store.distribute` takes the entries to their files.
"""

import contextlib
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from sonar import durable
from sonar.store.layout import Append

__all__ = ["Position", "Spool", "decode", "encode", "entries_of", "segments_in", "write_all"]

_HEADER = struct.Struct("<4sII")
_APPEND = struct.Struct("<HI")
_MAGIC = b"SNR1"

SEGMENT_BYTES = 16 << 20
_BATCH_BYTES = 64 << 20
_PROBE = bytes(64 << 10)
_RETRY_S = 0.5
_ROUND_S = 0.002  # at least, from the begin of a round to that of the next: more posts share it, fewer threads wake
_CRC_BYTES = 5 << 10

T = TypeVar("T")


class Position(NamedTuple):
    """A place in the spool: a segment's number and a byte offset in it."""

    segment: int
    offset: int


class Spool(Generic[T]):
    """The writing end. `T` is whatever stands for one who waits; `settled` is called with all of a round, and an error.

    `settled` and `advanced` are called from the spool's own thread. With `sync` false nothing is synced.
    """

    def __init__(
        self,
        directory: Path,
        first_segment: int,
        *,
        settled: Callable[[Sequence[T], OSError | None], None],
        advanced: Callable[[], None],
        sync: bool,
    ) -> None:
        self.committed = Position(first_segment, 0)
        self.obstacle: str | None = None  # why the last round failed; None if it did not
        self.waiting_bytes = 0
        self.total_bytes = 0
        self.busy_since: float | None = None
        self.last_durable: float | None = None
        self._directory = directory
        self._settled = settled
        self._advanced = advanced
        self._sync = sync
        self._ends: dict[int, int] = {}  # segments that this process has finished
        self._descriptor: int | None = None
        self._queue: deque[tuple[bytes, T]] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._idle = False
        self._began = 0.0  # the last round
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, appends: Sequence[Append], waiter: T) -> None:
        """Queue what one request stores; `waiter` is settled when it is durable or has failed."""
        entry = encode(appends)
        with self._condition:
            self._queue.append((entry, waiter))
            self.waiting_bytes += len(entry)
            if self._idle:
                self._condition.notify()

    def close(self) -> None:
        """Write what is queued and end."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def end_of(self, segment: int) -> int | None:
        """Return where the durable entries of a segment end; None for one of an earlier process: where they stop."""
        committed = self.committed
        return committed.offset if segment == committed.segment else self._ends.get(segment)

    def forget(self, before: int) -> None:
        """Drop what is known of segments below `before`."""
        for segment in [number for number in self._ends if number < before]:
            self._ends.pop(segment)

    def _run(self) -> None:
        self._probe()
        while (batch := self._next_batch()) is not None:
            self.busy_since = self._began = time.monotonic()
            if batch:
                error = self._attempt(b"".join([entry for entry, _ in batch]))
                self._settled([waiter for _, waiter in batch], error)
                if error is None:
                    self._advanced()
            else:
                self._probe()
            self.busy_since = None

    def _next_batch(self) -> list[tuple[bytes, T]] | None:
        """Return whoever waits; an empty list when it is time to probe; None at the end."""
        with self._condition:
            while not self._queue and not self._closing:
                self._idle = True
                woken = self._condition.wait(None if self.obstacle is None else _RETRY_S)
                self._idle = False
                if not woken and not self._queue:
                    return []
        if (early := self._began + _ROUND_S - time.monotonic()) > 0:
            time.sleep(early)
        with self._condition:
            batch, size = [], 0
            while self._queue and size < _BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += len(batch[-1][0])
            self.waiting_bytes -= size
            return batch or None

    def _attempt(self, data: bytes) -> OSError | None:
        """Write and sync; if that fails leave no trace and return why."""
        try:
            self._write(data)
        except OSError as error:
            self._undo()
            self.obstacle = f"spool: {error.strerror}"
            return error
        self.last_durable = time.time()
        self.total_bytes += len(data)
        segment, offset = self.committed
        if offset + len(data) >= SEGMENT_BYTES:
            self._ends[segment] = offset + len(data)
            self._next_segment()
        else:
            self.committed = Position(segment, offset + len(data))
        self.obstacle = None
        return None

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            path = self._directory / f"{self.committed.segment:010}.wal"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                if self._sync:
                    durable.sync(self._directory)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        write_all(self._descriptor, data)
        if self._sync:
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                # The kernel may have dropped the pages and would not fail again: this segment cannot be trusted on.
                self._abandon()
                raise

    def _undo(self) -> None:
        if self._descriptor is not None:
            try:
                os.ftruncate(self._descriptor, self.committed.offset)
            except OSError:
                self._abandon()

    def _abandon(self) -> None:
        segment, offset = self.committed
        self._ends[segment] = offset
        if self._descriptor is not None:
            # If this fails too, unanswered entries may come to light at the next start: whole ones, or an end.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, offset)
        self._next_segment()

    def _next_segment(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.committed = Position(self.committed.segment + 1, 0)

    def _probe(self) -> None:
        """Find out whether there is room again: write, sync and take back some zeros."""
        try:
            self._write(_PROBE)
        except OSError as error:
            self.obstacle = f"spool: {error.strerror}"
        else:
            self.obstacle = None
        self._undo()


def encode(appends: Sequence[Append]) -> bytes:
    """Return the entry of one request."""
    parts = []
    for append in appends:
        path = append.path.encode()
        parts += [_APPEND.pack(len(path), len(append.data)), path, append.data]
    payload = b"".join(parts)
    return _HEADER.pack(_MAGIC, len(payload), _checksum(payload)) + payload


def decode(payload: bytes) -> list[tuple[str, bytes]]:
    """Return the paths and data that `encode` was given."""
    appends, at = [], 0
    while at < len(payload):
        path_length, data_length = _APPEND.unpack_from(payload, at)
        at += _APPEND.size
        path = payload[at : at + path_length].decode()
        at += path_length
        appends.append((path, payload[at : at + data_length]))
        at += data_length
    return appends


def entries_of(descriptor: int, offset: int, end: int | None) -> Iterator[tuple[bytes, int]]:
    """Iterate over the payloads of a segment from `offset` to `end`, or as far as entries are whole.

    With each payload comes the offset behind its entry. Where the end is known, the entries before it have been synced
    by this process, and their checksums are not looked at again.
    """
    ahead, base = b"", offset  # `ahead` holds the bytes from `base` on
    while end is None or offset < end:
        if offset + _HEADER.size > base + len(ahead):
            ahead, base = os.pread(descriptor, 1 << 20, offset), offset
        if len(ahead) - (offset - base) < _HEADER.size:
            return
        magic, length, checksum = _HEADER.unpack_from(ahead, offset - base)
        if magic != _MAGIC:
            return
        start = offset + _HEADER.size
        if start + length > base + len(ahead):
            if start + length > os.fstat(descriptor).st_size:
                return
            ahead, base = _read_exactly(descriptor, start, max(length, 1 << 20), length), start
        payload = ahead[start - base : start - base + length]
        if len(payload) < length or (end is None and _checksum(payload) != checksum):
            return
        offset = start + length
        yield payload, offset


def segments_in(directory: Path) -> list[int]:
    """Return the numbers of the segments in a spool directory, ascending."""
    return sorted(int(path.stem) for path in directory.glob("*.wal") if path.stem.isdigit())


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: one write(2), unless the system takes less at once."""
    written = os.write(descriptor, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(descriptor, view[written:])


def _read_exactly(descriptor: int, offset: int, wanted: int, needed: int) -> bytes:
    data = os.pread(descriptor, wanted, offset)
    while len(data) < needed:
        more = os.pread(descriptor, needed - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _checksum(payload: bytes) -> int:
    # Of more than 5 KiB at once zlib gives up the interpreter's lock, and gets it back only when somebody else waits.
    checksum = zlib.crc32(payload[:_CRC_BYTES], len(payload) & 0xFFFFFFFF)
    for at in range(_CRC_BYTES, len(payload), _CRC_BYTES):
        checksum = zlib.crc32(payload[at : at + _CRC_BYTES], checksum)
    return checksum

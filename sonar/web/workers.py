"""The processes that answer: the server's side of `sonar.web.nursery`.

The event loop never computes. It hands a task to a new process and passes on what comes back; a large question delays
neither `/ping` nor a page. Pages have slots of their own, so that they do not stand behind questions; what waits for a
slot is bounded, and so are the time and the memory of each task.
"""

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.web.nursery import FRAME, MESSAGE, RESIDENT, Frame, Task
from sonar.web.remembered import Kept, Remembered

if TYPE_CHECKING:
    from sonar.read.sources import Sources

__all__ = ["Answer", "BusyError", "Lane", "LostError", "TooLargeError", "TooSlowError", "WorkLimits", "Workers"]

_log = logging.getLogger("sonalyzed")

_SELF_CHECK_S = 20.0
_ANSWERS_SHARE = 4  # of the memory for what is kept, one part in so many is for answers


class BusyError(SonarError):
    """As many tasks wait as may wait: try again later."""


class TooSlowError(SonarError):
    """The task took longer than a task may."""


class TooLargeError(SonarError):
    """The task wanted more memory than a task may have."""


class LostError(SonarError):
    """The process ended without an answer: it was killed, or met an error of the program."""


class Lane(Enum):
    """What a task is for: each kind has slots of its own."""

    QUESTION = "question"  # of the HTTP interface: may be anything, yields to the others
    PAGE = "page"
    SNAPSHOT = "snapshot"  # what many pages are made of
    CHECK = "check"  # of the server by itself
    COMMAND = "command"  # somebody on this machine types, and would do it himself if nobody answered


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """What tasks may take."""

    questions: int = 2  # at the same time
    pages: int = 4
    commands: int = 4
    waiting: int = 64  # for a slot, of each kind
    time_s: float = 120.0  # until the first bytes of the answer
    memory_bytes: int = 2 << 30
    resident_bytes: int = 0  # for what is kept between questions


@dataclass(slots=True)
class Answer:
    """What a process answers: the head is there, the body comes. `sources` is what it was made from, if told."""

    status: int
    media_type: str
    headers: Mapping[str, str]
    sources: "Sources | None"
    _body: AsyncIterator[bytes]

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, once; raise LostError if it breaks off."""
        return self._body


class Workers:
    """Starts tasks, bounds them, and kills those that nobody waits for."""

    def __init__(self, limits: WorkLimits) -> None:
        self.limits = limits
        self.running = dict.fromkeys(Lane, 0)
        self.waiting = dict.fromkeys(Lane, 0)
        self.ended = dict.fromkeys(("answered", "failed", "cancelled", "too slow", "too large", "lost", "busy"), 0)
        self._slots = {
            Lane.QUESTION: asyncio.Semaphore(limits.questions),
            Lane.PAGE: asyncio.Semaphore(limits.pages),
            Lane.SNAPSHOT: asyncio.Semaphore(1),
            Lane.CHECK: asyncio.Semaphore(2),
            Lane.COMMAND: asyncio.Semaphore(limits.commands),
        }
        self.remembered = Remembered(limits.resident_bytes // _ANSWERS_SHARE)
        self._resident_bytes = limits.resident_bytes - self.remembered.budget
        self._stopping = asyncio.Event()
        self._numbers = count(1)
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process that others are forked from, if it does not run."""
        if self._nursery is not None and self._nursery.poll() is None:
            return
        if self._nursery is not None:
            _log.error(
                "the process that analyses come from ended with status %s: starting it again", self._nursery.returncode
            )
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_PID")
        }
        self._nursery = subprocess.Popen(
            [sys.executable, "-I", "-m", "sonar.web.nursery", str(theirs.fileno()), str(self._resident_bytes)],
            pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self._control = ours

    def obstacle(self) -> str | None:
        """Return why no task can begin at the moment; None if one can."""
        if self._nursery is None or self._nursery.poll() is not None:
            return "the process that analyses come from does not run"
        return None

    def drain(self) -> None:
        """Turn away what waits, while there is time to ask the next server; what runs may end."""
        self._stopping.set()

    def stop(self) -> None:
        """End the process that others are forked from, and with it those that still run."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            try:
                self._nursery.wait(10)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None

    @contextlib.asynccontextmanager
    async def run(
        self,
        lane: Lane,
        function: Callable[..., None],
        *arguments: Any,
        gzip: bool = False,
        key: Hashable = None,
        now: int = 0,
    ) -> AsyncIterator[Answer]:
        """Run `function(reply, *arguments)` in a process, and give its answer; on leaving the process is gone.

        With a key, which has to hold all that the answer depends on but files and the present time `now`, the answer
        comes from memory if it was given before and would still be the same. Raise BusyError, TooSlowError,
        TooLargeError, LostError, or the SonarError that the function raised.
        """
        if key is not None:
            key = (key, gzip)
            kept = await asyncio.to_thread(self.remembered.find, key, now)
            if kept is not None:
                self.ended["answered"] += 1
                yield Answer(kept.status, kept.media_type, kept.headers, kept.sources, _one_piece(kept.body))
                return
        low_priority = lane in (Lane.QUESTION, Lane.SNAPSHOT)
        task = Task(function, arguments, self.limits.memory_bytes, low_priority, gzip, noting=key is not None)
        async with self._slot(lane):
            number = next(self._numbers)
            outcome = "cancelled"
            reader, writer = await self._begin(number, task)
            try:
                async with asyncio.timeout(self.limits.time_s if lane is not Lane.CHECK else _SELF_CHECK_S):
                    kind, data = await _frame(reader)
                if kind == Frame.FAILURE:
                    raise _failure(data)
                status, media_type, headers, sources = pickle.loads(data)
                if sources is None:
                    body = _pieces(reader)
                else:
                    body = self._kept_pieces(reader, key, Kept(status, media_type, headers, b"", now, sources))
                    self._make_resident(sources)
                yield Answer(status, media_type, headers, sources, body)
                outcome = "answered"
            except TimeoutError:
                outcome = "too slow"
                raise TooSlowError(
                    f"no answer within {self.limits.time_s:g} s: ask for a shorter time, or for fewer hosts"
                ) from None
            except TooLargeError:
                outcome = "too large"
                raise
            except LostError:
                outcome = "lost"
                raise
            except SonarError:
                outcome = "failed"
                raise
            finally:
                self.ended[outcome] += 1
                writer.close()
                if outcome != "answered":
                    self._kill(number)

    async def _kept_pieces(self, reader: asyncio.StreamReader, key: Hashable, head: Kept) -> AsyncIterator[bytes]:
        """Yield the body, and remember the answer when it is whole."""
        held: list[bytes] = []
        room = self.remembered.largest
        async for piece in _pieces(reader):
            room -= len(piece)
            if room >= 0:
                held.append(piece)
            yield piece
        if room >= 0 and head.status == 200:
            self.remembered.keep(key, replace(head, body=b"".join(held)))

    def _make_resident(self, sources: "Sources") -> None:
        """Have what was read decoded once for all that will ask about the same days."""
        if self._control is None:
            return
        for root, first, last in sources.days:
            with contextlib.suppress(OSError):  # it is busy: another question will say so
                self._control.send(MESSAGE.pack(b"R", 0) + RESIDENT.pack(first, last) + os.fsencode(root))

    async def value(self, lane: Lane, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function(*arguments)` returns in a process."""
        async with self.run(lane, _pickled, function, arguments) as answer:
            return pickle.loads(b"".join([piece async for piece in answer.pieces()]))

    @contextlib.asynccontextmanager
    async def _slot(self, lane: Lane) -> AsyncIterator[None]:
        slots = self._slots[lane]
        if slots.locked() and self.waiting[lane] >= self.limits.waiting:
            self.ended["busy"] += 1
            raise BusyError("too many questions at once, try again later")
        self.waiting[lane] += 1
        try:
            if not await self._turn(slots):
                self.ended["busy"] += 1
                raise BusyError("the server stops, try again")
        finally:
            self.waiting[lane] -= 1
        self.running[lane] += 1
        try:
            yield
        finally:
            self.running[lane] -= 1
            slots.release()

    async def _turn(self, slots: asyncio.Semaphore) -> bool:
        """Wait for a slot, and return True; False, without one, if the server stops first."""
        if not slots.locked():
            return await slots.acquire()
        turn, stop = asyncio.ensure_future(slots.acquire()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({turn, stop}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not turn.cancel():
                slots.release()
            raise
        finally:
            stop.cancel()
        return not turn.cancel()

    async def _begin(self, number: int, task: Task) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Have a process forked and hand it its task; return how to hear from it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            for attempt in (1, 2):
                self.start()
                assert self._control is not None
                try:
                    socket.send_fds(self._control, [MESSAGE.pack(b"S", number)], [theirs.fileno()])
                    break
                except OSError:
                    if attempt == 2:
                        ours.close()
                        raise LostError("no process for analyses can be started") from None
                    self.stop()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        data = pickle.dumps(task)
        writer.write(FRAME.pack(b"T", len(data)) + data)
        with contextlib.suppress(ConnectionError):  # then there is no answer either
            await writer.drain()
        return reader, writer

    def _kill(self, number: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(MESSAGE.pack(b"K", number))


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        kind, data = await _frame(reader)
        if kind == Frame.END:
            return
        if kind == Frame.FAILURE:
            raise _failure(data)
        yield data


async def _one_piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    try:
        kind, length = FRAME.unpack(await reader.readexactly(FRAME.size))
        return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise LostError("the analysis broke off") from None


def _failure(data: bytes) -> Exception:
    error = pickle.loads(data)
    if isinstance(error, SonarError):
        return error
    if isinstance(error, MemoryError):
        return TooLargeError("the answer takes more memory than it may: ask for a shorter time, or for fewer hosts")
    return LostError("internal error")


def _pickled(reply: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    reply.start(200, "application/octet-stream")
    reply.write(pickle.dumps(function(*arguments)))

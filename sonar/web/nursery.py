"""The process that the server's analyses come from: it has imported all that they need, and forks one process for each.

`sonar.web.workers` starts it as `python -m sonar.web.nursery FD BYTES`, where FD is one end of a pair of sockets that
keeps the boundaries of messages. A message is `S` and a number, with a socket for the new process, `K` and the number
of one to kill, or `R` and days that were asked for, to be kept in so many bytes of memory. The new process reads its
task from its socket: what to call, with what; and answers there in frames.

A fork costs milliseconds, so a question has a process of its own: it can be killed when nobody waits for the answer,
its memory is bounded by the kernel, and whatever goes wrong in it goes wrong for nobody else. So that nobody waits even
for these, one process is forked before it is needed, and answers a small question to itself: then it has pages of its
own where all analyses write.
"""

import array
import contextlib
import faulthandler
import gc
import io
import os
import pickle
import resource
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sonar.read.sources import Noted
    from sonar.web.resident import Resident

__all__ = ["FRAME", "MESSAGE", "RESIDENT", "SMALLEST_COMPRESSED", "Frame", "Reply", "Task"]

MESSAGE = struct.Struct("!cI")  # to the nursery: what, of which number
RESIDENT = struct.Struct("!ii")  # first and last day, behind a message `R`; then the root of the tree
FRAME = struct.Struct("!cI")  # from a process: what, how many bytes follow

_PIECE = 1 << 16
_LONGEST_MESSAGE = 1 << 13
SMALLEST_COMPRESSED = 1400  # what fits one packet anyway is not worth compressing
_NICENESS = 10
_SPARE = 0  # the number of a process that has none yet: others are counted from one
_FAILED = 70  # exit status, sysexits(3): an error of the program itself

# What an analysis needs, so that a new process has it.
_MODULES = (
    "jinja2",
    "numpy.ma",
    "pyarrow.compute",
    "pyarrow.ipc",
    "pyarrow.parquet",
    "sonar.audit.hours",
    "sonar.web.answers",
    "sonar.web.pages",
    "sonar.web.v2",
)
_PACKAGES = ("sonar.analysis", "sonar.columns", "sonar.read", "sonar.render", "sonar.verbs")


class Frame:
    """What a frame of an answer is."""

    HEAD = b"H"  # pickled status, media type, headers, and what the answer was made from: once, first
    DATA = b"D"  # bytes of the body
    END = b"E"  # the answer is whole
    FAILURE = b"F"  # pickled exception: there is no answer


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is to do: `function(reply, *arguments)`, and what it may take."""

    function: Callable[..., None]
    arguments: tuple[Any, ...]
    memory_bytes: int
    low_priority: bool = False
    gzip: bool = False  # who asked understands it
    noting: bool = False  # tell what the answer was made from


@dataclass(slots=True)
class Reply:
    """The answer that a process writes: `start`, then `write`; it goes in pieces, compressed if that is wanted."""

    connection: socket.socket
    gzip: bool = False
    noted: "Noted | None" = None
    _head: tuple[int, str, Mapping[str, str]] | None = None
    _held: bytearray = field(default_factory=bytearray)
    _compressor: Any = None
    _sent_head: bool = False

    def start(self, status: int, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        """Say what the answer is."""
        self._head = (status, media_type, dict(headers or {}))

    def write(self, data: bytes | str) -> int:
        """Add to the body; return the length, as a file does."""
        self._held += data.encode() if isinstance(data, str) else data
        if len(self._held) >= _PIECE:
            self._flush()
        return len(data)

    def writelines(self, parts: Any) -> None:
        """Add many texts to the body."""
        for part in parts:
            self.write(part)

    def flush(self) -> None:
        """Do nothing: what is held is sent when it is enough, or all."""

    def finish(self) -> None:
        """Send what is left, and the end."""
        self._flush()
        if self._compressor is not None:
            self._send(Frame.DATA, self._compressor.flush())
        self._send(Frame.END, b"")

    def fail(self, error: Exception) -> None:
        """Send an error instead of the answer, or of the rest of it."""
        self._send(Frame.FAILURE, pickle.dumps(error))

    def _flush(self) -> None:
        if not self._sent_head:
            self._send_head()
        data = bytes(self._held)
        self._held.clear()
        self._send(Frame.DATA, data if self._compressor is None else self._compressor.compress(data))

    def _send_head(self) -> None:
        import zlib

        if self._head is None:
            raise RuntimeError("an answer without a head")
        status, media_type, headers = self._head
        if self.gzip and len(self._held) >= SMALLEST_COMPRESSED and not media_type.startswith("application/gzip"):
            self._compressor = zlib.compressobj(4, zlib.DEFLATED, 31)
            headers = {**headers, "Content-Encoding": "gzip"}
        self._sent_head = True
        sources = self.noted.sources() if self.noted is not None else None
        self._send(Frame.HEAD, pickle.dumps((status, media_type, headers, sources)))

    def _send(self, kind: bytes, data: bytes) -> None:
        if data or kind != Frame.DATA:
            self.connection.sendall(FRAME.pack(kind, len(data)) + data)


def main(control: socket.socket, resident_bytes: int) -> None:
    """Fork processes until the other end of the control socket is closed; then kill those that still run."""
    from sonar.cli.deputy import prepare
    from sonar.web.resident import Resident

    # The service manager's signals reach every process of the unit; what is in progress ends when the server does.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()  # what hangs says where when the watchdog ends it
    modules = [one.name for name in _PACKAGES for one in iter_modules(import_module(name).__path__, f"{name}.")]
    for name in (*_MODULES, *modules):
        import_module(name)
    prepare()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that all processes share
    resident = Resident(resident_bytes)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        processes = _Processes(control, resident, selector)
        while True:
            has_work = resident.has_work
            ready = selector.select(0 if has_work or processes.wants_spare else None)
            if not ready and has_work:
                try:
                    resident.read_one()
                except Exception:  # of a file that is not as it should be: whoever asks about it is told
                    traceback.print_exc()
                if not resident.has_work:
                    gc.freeze()
                    processes.dismiss_spare()  # it knows less than a new one
            elif not ready:
                processes.fork_spare()
            for key, _ in ready:
                if key.fileobj is not control:
                    processes.reap(key.data)
                    continue
                message, descriptors = _receive(control)
                if not message:
                    processes.kill_all()
                    return
                what, number = MESSAGE.unpack_from(message)
                if what == b"S" and descriptors:
                    processes.begin(number, socket.socket(fileno=descriptors[0]))
                elif what == b"K":
                    processes.kill(number)
                elif what == b"R" and resident.budget:
                    first, last = RESIDENT.unpack_from(message, MESSAGE.size)
                    resident.want(Path(os.fsdecode(message[MESSAGE.size + RESIDENT.size :])), first, last)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    message, ancillary, _flags, _address = control.recvmsg(_LONGEST_MESSAGE, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


@dataclass(slots=True)
class _Processes:
    """The processes that have a task, by their numbers, and a spare one that waits for the next."""

    control: socket.socket
    resident: "Resident"
    selector: selectors.BaseSelector
    _running: dict[int, int] = field(default_factory=dict)  # file descriptors of the processes
    _killed: set[int] = field(default_factory=set)
    _handed: dict[int, tuple[socket.socket, socket.socket]] = field(default_factory=dict)  # until it is known they came
    _channel: socket.socket | None = None  # to the spare, through which its task comes; closed, it ends
    _may_have_spare: bool = True

    @property
    def wants_spare(self) -> bool:
        """Whether it is time for a spare process: there is none, and nobody else has work to do."""
        return self._may_have_spare and not self._running

    def begin(self, number: int, connection: socket.socket) -> None:
        """Give a process the task that comes through a connection."""
        self._may_have_spare = True
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(channel, [b"S"], [connection.fileno()])
                self._handed[number] = channel, connection
                self._running[number] = self._running.pop(_SPARE)
                self.selector.modify(self._running[number], selectors.EVENT_READ, number)
                return
            channel.close()
        with connection:
            pid = os.fork()
            if not pid:
                self._leave()
                _end_after(lambda: _serve(connection))
        self._watch(number, pid)

    def fork_spare(self) -> None:
        """Have a process wait for a task."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            pid = os.fork()
            if not pid:
                self._leave()
                ours.close()
                _end_after(lambda: _wait(theirs, self.resident))
        self._channel = ours
        self._watch(_SPARE, pid)

    def dismiss_spare(self) -> None:
        """Let the spare process end, if there is one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def kill(self, number: int) -> None:
        """Kill the process with a number, if it still runs."""
        if number in self._running:
            self._killed.add(number)
            signal.pidfd_send_signal(self._running[number], signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill all processes."""
        for descriptor in self._running.values():
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def reap(self, number: int) -> None:
        """Note that a process has ended."""
        descriptor = self._running.pop(number)
        self.selector.unregister(descriptor)
        ended = os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
        os.close(descriptor)
        if number == _SPARE and self._channel is not None:
            self._may_have_spare = False  # something is wrong: not again before it is needed
            self.dismiss_spare()
        if ended is not None and ended.si_code != os.CLD_EXITED and number not in self._killed:
            print(f"sonalyzed: an analysis was ended by signal {ended.si_status}", file=sys.stderr, flush=True)
        if number in self._handed:
            channel, connection = self._handed.pop(number)
            with channel:
                if not _says_something(channel) and number not in self._killed:
                    self.begin(number, connection)  # it ended before it took the task
                else:
                    connection.close()
        self._killed.discard(number)

    def _leave(self) -> None:
        """Close, in a new process, what is not for it: whoever waits at the other end is to see the end."""
        for one in (self.control, *(one for both in self._handed.values() for one in both)):
            one.close()

    def _watch(self, number: int, pid: int) -> None:
        self._running[number] = os.pidfd_open(pid)
        self.selector.register(self._running[number], selectors.EVENT_READ, number)


def _says_something(channel: socket.socket) -> bool:
    try:
        return bool(channel.recv(1, socket.MSG_DONTWAIT))
    except OSError:
        return False


def _wait(channel: socket.socket, resident: "Resident") -> None:
    """Answer a small question to nobody, then do the task that comes through a channel."""
    from sonar.cli.deputy import answer_for

    if (example := resident.example()) is not None:
        tree, argv = example
        with contextlib.suppress(Exception):  # whoever asks the same is told
            answer_for(argv, tree=str(tree), root=tree, account="", width=None, begin=lambda **_: io.StringIO())
    with channel:
        _message, descriptors, _flags, _address = socket.recv_fds(channel, 1, 1)
        if descriptors:
            channel.send(b"T")
    if descriptors:
        _serve(socket.socket(fileno=descriptors[0]))


def _end_after(work: Callable[[], None]) -> NoReturn:
    """End the process when it has done this, whatever becomes of it."""
    status = _FAILED
    try:
        work()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # nobody waits any more
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _serve(connection: socket.socket) -> None:
    task: Task = pickle.loads(_read(connection))
    # Arrow and numpy take their memory as private data; what is only mapped from files does not count.
    resource.setrlimit(resource.RLIMIT_DATA, (task.memory_bytes, task.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if task.low_priority:
        with contextlib.suppress(OSError):  # a unit may forbid it; then the kernel shares the processors evenly
            os.nice(_NICENESS)
    from sonar.read.sources import noting

    reply = Reply(connection, task.gzip)
    try:
        with noting() if task.noting else contextlib.nullcontext() as reply.noted:
            task.function(reply, *task.arguments)
            reply.finish()
    except (BrokenPipeError, ConnectionResetError):
        raise
    except MemoryError:
        reply.fail(MemoryError())
    except Exception as error:
        from sonar.errors import SonarError

        if isinstance(error, SonarError):
            reply.fail(error)
        elif "malloc" in str(error) or "std::bad_alloc" in str(error):
            reply.fail(MemoryError())
        else:
            traceback.print_exc()
            reply.fail(RuntimeError("internal error"))


def _read(connection: socket.socket) -> bytes:
    """Return the one message of a connection that is longer than a datagram: its length, then itself."""
    with connection.makefile("rb") as file:
        _kind, length = FRAME.unpack(file.read(FRAME.size))
        return file.read(length)


if __name__ == "__main__":
    # By its own name, so that what is pickled elsewhere is known here.
    import_module("sonar.web.nursery").main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))

"""The process that the server's analyses come from: it has imported all that they need, and forks one process for each.

`sonar.web.workers` starts it as `python -m sonar.web.nursery FD BYTES`, where FD is one end of a pair of sockets that
keeps the boundaries of messages. A message is `S` and a number, with a socket for the new process, `K` and the number
of one to kill, or `R` and days that were asked for, to be kept in so many bytes of memory. The new process reads its
task from its socket: what to call, with what; and answers there in frames.

A fork costs milliseconds, so a question has a process of its own: it can be killed when nobody waits for the answer,
its memory is bounded by the kernel, and whatever goes wrong in it goes wrong for nobody else.
"""

import array
import contextlib
import faulthandler
import gc
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonar.read.sources import Noted

__all__ = ["FRAME", "MESSAGE", "RESIDENT", "SMALLEST_COMPRESSED", "Frame", "Reply", "Task"]

MESSAGE = struct.Struct("!cI")  # to the nursery: what, of which number
RESIDENT = struct.Struct("!ii")  # first and last day, behind a message `R`; then the root of the tree
FRAME = struct.Struct("!cI")  # from a process: what, how many bytes follow

_PIECE = 1 << 16
_LONGEST_MESSAGE = 1 << 13
SMALLEST_COMPRESSED = 1400  # what fits one packet anyway is not worth compressing
_NICENESS = 10
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
    children: dict[int, int] = {}  # number -> file descriptor of the process
    killed: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            ready = selector.select(0 if resident.has_work else None)
            if not ready:
                try:
                    resident.read_one()
                except Exception:  # of a file that is not as it should be: whoever asks about it is told
                    traceback.print_exc()
            for key, _ in ready:
                if key.fileobj is control:
                    message, descriptors = _receive(control)
                    if not message:
                        for descriptor in children.values():
                            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        return
                    what, number = MESSAGE.unpack_from(message)
                    if what == b"S" and descriptors:
                        descriptor = _fork(control, socket.socket(fileno=descriptors[0]))
                        children[number] = descriptor
                        selector.register(descriptor, selectors.EVENT_READ, number)
                    elif what == b"K" and number in children:
                        killed.add(number)
                        signal.pidfd_send_signal(children[number], signal.SIGKILL)
                    elif what == b"R" and resident.budget:
                        first, last = RESIDENT.unpack_from(message, MESSAGE.size)
                        resident.want(Path(os.fsdecode(message[MESSAGE.size + RESIDENT.size :])), first, last)
                else:
                    descriptor = children.pop(key.data)
                    selector.unregister(descriptor)
                    ended = os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
                    os.close(descriptor)
                    if ended is not None and ended.si_code != os.CLD_EXITED and key.data not in killed:
                        print(
                            f"sonalyzed: an analysis was ended by signal {ended.si_status}", file=sys.stderr, flush=True
                        )
                    killed.discard(key.data)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    message, ancillary, _flags, _address = control.recvmsg(_LONGEST_MESSAGE, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def _fork(control: socket.socket, connection: socket.socket) -> int:
    """Fork a process for the task that comes through a connection; return its file descriptor."""
    pid = os.fork()
    if pid:
        connection.close()
        return os.pidfd_open(pid)
    status = _FAILED
    try:
        control.close()
        _serve(connection)
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

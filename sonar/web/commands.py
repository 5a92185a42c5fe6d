"""The socket for commands: sonalyze(1) of this machine has its question answered by processes that are warm.

Who may: whoever can read the files himself. The caller sends an open descriptor of a tree, which tells which of the
clusters it is, if any; each answer names whose files and directories it was made from, and the kernel says who the
peer is (SO_PEERCRED, SO_PEERGROUPS). An answer made from anything that he could not read is never sent: the command is
told to look for itself. What it says then is what it would have said without a server.

See `sonar.cli.served` for what goes over the socket.
"""

import asyncio
import contextlib
import io
import logging
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import sonar
from sonar.cli.served import FRAME_HEAD, OUTPUT, OWN, PAGED, STATUS, TROUBLE
from sonar.errors import SonarError
from sonar.times import present
from sonar.web.workers import Lane

if TYPE_CHECKING:
    from sonar.read.sources import Access
    from sonar.web.nursery import Reply
    from sonar.web.site import Site

__all__ = ["Command", "answer_command", "is_for_commands", "serve_commands", "socket_for_commands"]

_LARGEST = 1 << 18
_PATIENCE_S = 5.0  # for a request
_PIECE = 1 << 16
_FACTS = 6  # texts before the arguments
_SO_PEERGROUPS = 59
_MOST_GROUPS = 256  # more than that nobody is asked for
_CREDENTIALS = struct.Struct("3i")

_log = logging.getLogger("sonalyzed")


@dataclass(frozen=True, slots=True)
class Command:
    """What a caller wants to know."""

    tree: str  # as the caller calls it
    account: str
    now: str  # $SONAR_NOW
    no_color: bool
    columns: int | None  # of the terminal, if it is one
    argv: tuple[str, ...]


def is_for_commands(listening: socket.socket, path: Path) -> bool:
    """Whether a socket that systemd passed is the one for commands, which is known by its place."""
    return listening.family == socket.AF_UNIX and listening.getsockname() == str(path)


def socket_for_commands(path: Path) -> socket.socket:
    """Return a socket that listens there for commands; anybody may connect. Raise SonarError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listening.bind(str(path))
        path.chmod(0o666)  # who may ask is looked at with each question
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SonarError(f"cannot listen on '{path}': {error.strerror}") from None
    return listening


async def serve_commands(site: "Site", sockets: Sequence[socket.socket]) -> None:
    """Answer commands on these sockets until cancelled."""
    async with asyncio.TaskGroup() as accepting:
        for listening in sockets:
            accepting.create_task(_accept(site, listening))


async def _accept(site: "Site", listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    listening.settimeout(0)
    answering: set[asyncio.Task[None]] = set()
    while True:
        try:
            connection, _ = await loop.sock_accept(listening)
        except OSError as error:
            _log.warning("no command can be taken: %s", error.strerror)
            await asyncio.sleep(1)
            continue
        connection.settimeout(0)
        task = asyncio.create_task(_answered(site, connection))
        answering.add(task)
        task.add_done_callback(answering.discard)


async def _answered(site: "Site", connection: socket.socket) -> None:
    """Answer one command; whatever goes wrong, the command can still do it itself."""
    with connection:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                request, descriptor = await _request(connection)
        except (OSError, TimeoutError, ValueError):
            return
        try:
            place = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        answering = asyncio.create_task(_answer(site, connection, request, (place.st_dev, place.st_ino)))
        leaving = asyncio.create_task(_gone(connection))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            for outcome in await asyncio.gather(answering, leaving, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, (OSError, SonarError)):
                    _log.error("error in a command", exc_info=outcome)


async def _request(connection: socket.socket) -> tuple[list[str], int]:
    """Return the texts of a request and the descriptor that came with it. Raise ValueError if it is none."""
    held = b""
    descriptors: list[int] = []
    try:
        while len(held) < 4 or len(held) < 4 + int.from_bytes(held[:4], "big"):
            await _readable(connection)
            try:
                piece, more, _flags, _address = socket.recv_fds(connection, 1 << 16, 4)
            except BlockingIOError:
                continue
            descriptors += more
            held += piece
            if not piece or len(held) > _LARGEST:
                raise ValueError("not a request")
        if len(descriptors) != 1:
            raise ValueError("a request has one descriptor")
        texts = held[4:].decode().split("\0")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return texts, descriptors[0]


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


async def _gone(connection: socket.socket) -> None:
    """Return when the caller has gone: it says nothing more."""
    await _readable(connection)


async def _answer(site: "Site", connection: socket.socket, texts: list[str], place: tuple[int, int]) -> None:
    loop = asyncio.get_running_loop()
    command = _command(texts)
    tree = await asyncio.to_thread(_tree_at, site, place) if command is not None else None
    if command is None or tree is None:
        await loop.sock_sendall(connection, frame(OWN))
        return
    peer = _peer(connection)
    begun = False
    try:
        async with site.workers.run(
            Lane.COMMAND, answer_command, str(tree), command, key=("command", str(tree), command), now=_now(command)
        ) as answer:
            if answer.sources is None or not peer.may_read(answer.sources.access):
                await loop.sock_sendall(connection, frame(OWN))
                return
            last = b""  # is held until the answer is known to be whole: the caller leaves when he has it
            async for piece in answer.pieces():
                if last:
                    begun = True
                    await loop.sock_sendall(connection, last)
                last = piece
            begun = True
            await loop.sock_sendall(connection, last)
    except SonarError as error:
        _log.debug("a command is left to itself: %s", error)
        if not begun:
            await loop.sock_sendall(connection, frame(OWN))


def _now(command: Command) -> int:
    return 0 if command.now else present()


def _command(texts: list[str]) -> Command | None:
    """Return what is asked; None for what another version asks."""
    if len(texts) <= _FACTS or texts[0] != sonar.__version__ or not (texts[5].isdecimal() or not texts[5]):
        return None
    _version, tree, account, now, no_color, columns = texts[:_FACTS]
    return Command(tree, account, now, bool(no_color), int(columns) if columns else None, tuple(texts[_FACTS:]))


def _tree_at(site: "Site", place: tuple[int, int]) -> "Path | None":
    """Return the tree of the cluster that is this directory."""
    for name in site.clusters.names():
        path = site.clusters.data / name
        with contextlib.suppress(OSError):
            found = path.stat()
            if (found.st_dev, found.st_ino) == place:
                return path
    return None


@dataclass(frozen=True, slots=True)
class _Peer:
    """Who is at the other end."""

    user: int
    groups: frozenset[int]

    def may_read(self, access: "frozenset[Access]") -> bool:
        """Whether he may read all files and directories of these kinds."""
        return self.user == 0 or all(self._may(*kind) for kind in access)

    def _may(self, mode: int, owner: int, group: int, needed: int) -> bool:
        """Whether the bits that count for him are set: of the owner, the group, or the others, as the kernel has it."""
        shift = 6 if owner == self.user else 3 if group in self.groups else 0
        return mode >> shift & needed == needed


def _peer(connection: socket.socket) -> _Peer:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, user, group = _CREDENTIALS.unpack(data)
    more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * 4)
    return _Peer(user, frozenset({group, *struct.unpack(f"{len(more) // 4}I", more)}))


def frame(kind: bytes, data: bytes = b"") -> bytes:
    """Return a frame of an answer."""
    return kind + len(data).to_bytes(FRAME_HEAD - 1, "big") + data


def answer_command(reply: "Reply", tree: str, command: Command) -> None:
    """Answer as the command itself would, in a process of its own; what it should answer itself, leave to it."""
    from sonar.cli.deputy import answer_for

    for name in ("SONAR_NOW", "NO_COLOR"):
        os.environ.pop(name, None)
    if command.now:
        os.environ["SONAR_NOW"] = command.now
    if command.no_color:
        os.environ["NO_COLOR"] = "1"
    trouble = io.StringIO()

    def begin(*, paged: bool) -> "TextIO":
        reply.start(200, "application/octet-stream")
        if text := trouble.getvalue():
            reply.write(frame(TROUBLE, text.encode("utf-8", "surrogateescape")))
        raw = _Frames(reply, PAGED if paged else OUTPUT)
        return io.TextIOWrapper(io.BufferedWriter(raw, _PIECE), encoding="utf-8", newline="\n")

    with contextlib.redirect_stderr(trouble):
        out = answer_for(
            command.argv,
            tree=command.tree,
            root=Path(tree),
            account=command.account,
            width=command.columns,
            begin=begin,
        )
    if out is None:
        raise SonarError("the command has to do it itself")
    out.flush()
    reply.write(frame(STATUS, b"0"))


class _Frames(io.RawIOBase):
    """A file whose bytes become frames of one kind."""

    def __init__(self, reply: "Reply", kind: bytes) -> None:
        self._reply = reply
        self._kind = kind

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._reply.write(frame(self._kind, bytes(data)))
        return len(data)

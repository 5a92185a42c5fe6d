"""Asking the server of this machine: a question about a tree that sonalyzed(8) serves costs no imports here.

The command connects to the server's socket for commands, sends its arguments and an open descriptor of the tree, and
passes on what comes back. The descriptor shows that the caller may list the tree, and which one it is; the server
looks at the rest. Wherever the server cannot answer as the command itself would (there is none, it is of another
version, has no such tree, the options name files of the caller), the command answers, as if it had not asked.

A request is its length and texts separated by NUL: version, tree, account, $SONAR_NOW, `1` for $NO_COLOR, columns of
the terminal if there is one, then the arguments. An answer is frames: a kind, a length, that many bytes. The other
side is `sonar.web.commands`.
"""

import os
import sys
from pathlib import Path

import sonar

TYPE_CHECKING = False  # typing's own takes a millisecond or two
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

__all__ = ["FRAME_HEAD", "OUTPUT", "OWN", "PAGED", "STATUS", "TROUBLE", "answered_by_server"]

OUTPUT, PAGED, TROUBLE = b"O", b"P", b"E"  # to standard output; the same, by a pager on a terminal; to standard error
STATUS = b"X"  # the exit status, last
OWN = b"L"  # the command is to answer itself
FRAME_HEAD = 5  # bytes of a kind and a length, before the data of a frame

_SOCKET = "/run/sonar/sonalyze.socket"
_NOT_ASKED = frozenset({"help", "version", "dossier", "--help", "-h", "--version", "-V", "--local"})
_PIECE = 1 << 16


def answered_by_server(argv: list[str]) -> int | None:
    """Return the exit status after the server has answered; None where the command is to answer itself."""
    if not argv or argv[0].startswith("-") or "--" in argv or not _NOT_ASKED.isdisjoint(argv):
        return None
    try:
        return _asked(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone: not an error, and nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _asked(argv: list[str]) -> int | None:
    environment = os.environ
    tree = _tree(argv)
    account = environment.get("LOGNAME") or environment.get("USER") or _account()
    home = environment.get("HOME")
    if tree is None or account is None or (home and Path(home, ".sonalyze").exists()):
        return None
    path = _socket_path()
    if path is None or not path.exists():
        return None
    import socket

    try:
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    is_terminal = os.isatty(1)
    columns = str(os.get_terminal_size(1).columns) if is_terminal else ""
    facts = (
        sonar.__version__,
        tree,
        account,
        environment.get("SONAR_NOW", ""),
        "1" if "NO_COLOR" in environment else "",
    )
    try:
        request = "\0".join((*facts, columns, *argv)).encode()
    except UnicodeEncodeError:  # not UTF-8: the command says so
        os.close(descriptor)
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
            message = len(request).to_bytes(4, "big") + request
            sent = socket.send_fds(connection, [message], [descriptor])
            if sent < len(message):  # to send nothing is an error, too, where all has been answered by now
                connection.sendall(message[sent:])
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return _passed_on(connection, is_terminal=is_terminal)


def _tree(argv: list[str]) -> str | None:
    """Return the tree that the question is about: of the option, $SONAR_ROOT, or below the home directory."""
    for at, argument in enumerate(argv):
        if argument == "--data-path":
            return argv[at + 1] if at + 1 < len(argv) else None
        if argument.startswith("--data-path="):
            return argument.partition("=")[2] or None
    if root := os.environ.get("SONAR_ROOT"):
        return root
    home = os.environ.get("HOME")
    return f"{home}/sonar/data" if home else None


def _account() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _socket_path() -> Path | None:
    """Return where the server listens, by what sonar.conf(5) says; None if it cannot be read."""
    from sonar.config.files import directories, files_of

    path = _SOCKET
    own = os.environ.get("SONAR_CONFIG")
    try:
        for name in [own] if own else files_of("sonar.conf", directories()):
            with Path(name).open(encoding="utf-8") as file:
                path = _socket_in(file, path)
    except (OSError, ValueError):  # the command tells, where it matters
        return None
    return Path(path)


def _socket_in(lines: "Iterable[str]", path: str) -> str:
    """Return the socket that a file of settings names, else the one known before; its parser would take longer."""
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        elif section == "[Analysis]" and line.startswith("Socket"):
            key, _, value = line.partition("=")
            if key.rstrip() == "Socket":
                path = value.strip() or _SOCKET
    return path


def _passed_on(connection: "socket.socket", *, is_terminal: bool) -> int | None:
    """Write what comes to where it belongs; return the exit status, or None if the command is to answer."""
    frames = _frames(connection)
    has_begun = False
    for kind, data in frames:
        if kind == OWN and not has_begun:
            return None
        if kind == STATUS:
            return int(data)
        has_begun = True
        if kind == PAGED and is_terminal:
            return _paged(data, frames)
        _write(2 if kind == TROUBLE else 1, data)
    if not has_begun:
        return None
    _write(2, b"ERROR: The server broke off\n")
    return 1


def _paged(data: bytes, frames: "Iterator[tuple[bytes, bytes]]") -> int:
    """Show the rest of an answer by the caller's pager."""
    from sonar.cli.terminal import paged

    status = 0
    with paged(sys.stdout) as page:
        page.buffer.write(data)  # type: ignore[attr-defined]
        for kind, more in frames:
            if kind == STATUS:
                status = int(more)
            else:
                page.buffer.write(more)  # type: ignore[attr-defined]
        page.flush()
    return status


def _frames(connection: "socket.socket") -> "Iterator[tuple[bytes, bytes]]":
    """Yield the frames of an answer until its end, or until it breaks off."""
    held = bytearray()
    while True:
        try:
            piece = connection.recv(_PIECE)
        except ConnectionError:
            return
        if not piece:
            return
        held += piece
        while len(held) >= FRAME_HEAD and len(held) >= FRAME_HEAD + (size := int.from_bytes(held[1:FRAME_HEAD], "big")):
            yield bytes(held[:1]), bytes(held[FRAME_HEAD : FRAME_HEAD + size])
            del held[: FRAME_HEAD + size]


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

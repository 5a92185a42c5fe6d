"""Files that are there whole or not at all: written beside their place, synced, renamed, and their folder synced.

Everything here raises OSError as it comes: only the caller knows what the file is to people.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["create", "put", "replacing", "sync"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to write beside `path`; when all is well it is on disk in the place of `path`.

    Until then nobody sees anything of it; after an exception nothing of it is left. A process that is killed leaves
    `.NAME.PID`.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.unlink(missing_ok=True)
        yield scratch
        sync(scratch)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    sync(path.parent)


def put(path: Path, content: bytes, *, mode: int = 0o666, like: os.stat_result | None = None) -> None:
    """Put a file in place; `mode` is cut by the umask, unless owner and mode of another file are given by `like`.

    The file never exists with more rights than that.
    """
    with replacing(path) as scratch:
        create(scratch, content, mode=mode if like is None else 0o600)
        if like is not None:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(scratch, like.st_uid, like.st_gid)
            scratch.chmod(stat.S_IMODE(like.st_mode))


def create(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file that is not there yet; neither it nor its name is synced."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)


def sync(path: Path | str) -> None:
    """Wait until a file's content, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

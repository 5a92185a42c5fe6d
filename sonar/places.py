"""Where a log tree lies: in a directory of this machine, or below a prefix of an object store.

`place_of` makes a path of what a user typed. That of an object store is a path like any other as far as the readers
and writers of a tree go: joined, compared, listed, opened, sent to another process; what it can do is in this module.
Other programs and functions of the operating system cannot use it, and say so. A local path goes none of these ways.

Access to the store is by pyarrow.fs, whose options are those of the URI; credentials come from where the programs of
the store look for them (AWS_PROFILE, ~/.aws, the machine's role), never from the URI.
"""

import errno
import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PosixPath
from typing import Any, BinaryIO, Self, cast
from urllib.parse import quote, unquote

from sonar import durable
from sonar.errors import SonarError, UsageError

__all__ = [
    "ObjectPath",
    "files_in",
    "known_state",
    "opened",
    "parquet_source",
    "place_of",
    "publishing",
    "telling",
    "text_of",
]

_URI = re.compile(r"(s3|gs|gcs|abfs|abfss)://([^/?#]*)([^?#]*)(?:\?(.*))?", re.DOTALL)
_REASON = re.compile(r"(?:AWS Error )?([A-Z][A-Z_]+) during \w+ operation: (?:curlCode: \d+, )?([^;(]*)", re.DOTALL)
_TRIES = 10
_PIECE = 8 << 20


class ObjectPath(PosixPath):
    """A place in an object store. Its first part is the scheme and the options of the URI, the second the bucket.

    What goes wrong raises SonarError with the place, so that nobody takes a server that has gone away for a file that
    is not there; only for the latter FileNotFoundError is raised.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Return the URI without its options, which are the same for all of a tree."""
        scheme, *rest = self.parts or ("",)
        return f"{scheme.partition(':')[0]}://{'/'.join(rest)}"

    def __fspath__(self) -> str:
        """Refuse to be what only a file system has. Raise SonarError."""
        raise SonarError(f"Needs a directory of this machine, not an object store: '{self}'")

    def absolute(self) -> Self:
        """Return the place itself."""
        return self

    def listed(self) -> dict[str, os.stat_result]:
        """Return what is in this directory, by name; it is kept for `known_state`."""
        import pyarrow.fs as pafs

        store, key = _reached(self)
        with telling(self):
            found = store.get_file_info(pafs.FileSelector(key))
        entries = {info.base_name: _state(info) for info in found}
        _known[self] = entries
        return entries

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield what is in this directory."""
        for name in self.listed():
            yield self / name

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        try:
            self.listed()
        except FileNotFoundError:
            return False
        return True

    def exists(self) -> bool:
        """Whether there is such an object, or anything below."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of change; the inode is 0. Raise FileNotFoundError."""
        import pyarrow.fs as pafs

        del follow_symlinks
        store, key = _reached(self)
        with telling(self):
            info = store.get_file_info(key)
        if info.type == pafs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return _state(info)

    def open(self, mode: str = "r", *_args: Any, **_options: Any) -> Any:
        """Return the object as a file of bytes, which are fetched as they are read."""
        if mode != "rb":
            raise SonarError(f"An object is read as bytes, or replaced as a whole: '{self}'")
        store, key = _reached(self)
        with telling(self):
            return store.open_input_file(key)

    def read_bytes(self) -> bytes:
        """Return all bytes of the object."""
        with telling(self), self.open("rb") as file:
            return cast("bytes", file.read())

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 -- as pathlib has it
        """Remove the object."""
        store, key = _reached(self)
        _known.pop(self.parent, None)
        try:
            with telling(self):
                store.delete_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise


_known: dict[ObjectPath, dict[str, os.stat_result]] = {}


def place_of(text: "str | os.PathLike[str]") -> Path:
    """Return the path of a directory, or that of a place in an object store, as `s3://BUCKET/PREFIX?OPTIONS`.

    Raise UsageError for an URI without a bucket, or with credentials, which other users of the machine could see.
    """
    if isinstance(text, ObjectPath):
        return text
    match = _URI.fullmatch(os.fspath(text))
    if match is None:
        return Path(text)
    scheme, bucket, path, options = match.groups()
    if not bucket:
        raise UsageError(f"No bucket is named: '{scheme}://{path}'")
    if re.search(r":.*@", bucket) or re.search(r"(?i)(access|secret|account)_?key|token", options or ""):
        raise UsageError(f"Credentials do not belong into the place of data: use the store's own ways ({scheme}://…)")
    return ObjectPath(f"{scheme}:{quote(options or '', safe='=&%:.')}", bucket, *unquote(path).split("/"))


def text_of(place: Path) -> str:
    """Return what `place_of` makes this place of."""
    if not isinstance(place, ObjectPath):
        return str(place)
    options = place.parts[0].partition(":")[2]
    return str(place) + (f"?{options}" if options else "")


def files_in(directory: Path) -> list[str]:
    """Return the names of the files in a directory; raise OSError, or SonarError of an object store."""
    if isinstance(directory, ObjectPath):
        return [name for name, state in directory.listed().items() if stat.S_ISREG(state.st_mode)]
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def known_state(path: Path) -> os.stat_result:
    """Return the state of a file: of an object as it was when its directory was last listed, if it was.

    So a question asks the store once a directory, not once a file. Raise OSError.
    """
    if isinstance(path, ObjectPath) and (entries := _known.get(path.parent)) is not None:
        if path.name not in entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return entries[path.name]
    return path.stat()


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Give a file that is read, and the state that it is in; an object is fetched whole, as it was at one moment."""
    if not isinstance(path, ObjectPath):
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno())
        return
    for _ in range(_TRIES):
        state = path.stat()
        content = path.read_bytes()
        if path.stat() == state and len(content) == state.st_size:
            yield BytesIO(content), state
            return
    raise SonarError(f"Is replaced all the time: '{path}'")


def parquet_source(path: Path) -> Any:
    """Return what pyarrow.parquet reads a file from: its path, or of an object the parts that are wanted."""
    return path.open("rb") if isinstance(path, ObjectPath) else path


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Give the path of a local file to write; when all is well it is in the place of `path`, whole and on disk.

    An object appears at the moment at which all of it has been sent; until then the former one is there.
    """
    if not isinstance(path, ObjectPath):
        with durable.replacing(path) as scratch:
            yield scratch
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sonar-") as directory:
        scratch = Path(directory, path.name)
        yield scratch
        store, key = _reached(path)
        with telling(path), scratch.open("rb") as made, store.open_output_stream(key) as sent:
            while piece := made.read(_PIECE):
                sent.write(piece)
        _known.pop(path.parent, None)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say in one line, with the place, what goes wrong with an object store; of a local file let it pass."""
    try:
        yield
    except FileNotFoundError:
        if not isinstance(path, ObjectPath):
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if not isinstance(path, ObjectPath):
            raise
        raise SonarError(f"{_reason(error)}: '{path}'") from None


def _reached(path: ObjectPath) -> tuple[Any, str]:
    """Return the store of a place, and the key of the place there."""
    scheme, bucket, *rest = path.parts
    store, base = _store(scheme, bucket, os.getpid())
    return store, "/".join((base, *rest))


@lru_cache(maxsize=64)
def _store(scheme: str, bucket: str, _process: int) -> tuple[Any, str]:
    """Return access to a bucket, made anew in each process: connections cannot be shared by two."""
    import pyarrow.fs as pafs

    name, _, options = scheme.partition(":")
    uri = f"{name}://{bucket}" + (f"?{options}" if options else "")
    try:
        store, base = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:  # of which ArrowInvalid is one
        raise SonarError(f"{_reason(error)}: '{name}://{bucket}'") from None
    return store, base.rstrip("/")


def _state(info: Any) -> os.stat_result:
    """Return what is known of an object, its time of change in whole seconds, which is what all stores tell."""
    is_file = info.size is not None
    seconds = (info.mtime_ns or 0) // 1_000_000_000
    mode = stat.S_IFREG | 0o444 if is_file else stat.S_IFDIR | 0o555
    times = {"st_mtime_ns": seconds * 1_000_000_000}
    return os.stat_result((mode, 0, 0, 1, 0, 0, info.size or 0, seconds, seconds, seconds), times)


def _reason(error: Exception) -> str:
    """Return what a store says is wrong, on one line."""
    text = " ".join(str(error).split())
    match = _REASON.search(text)
    return f"{match[2].strip(' .')} ({match[1]})" if match else text

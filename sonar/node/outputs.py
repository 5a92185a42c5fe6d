"""Where samples go: standard output, a file, or a spool from which another program delivers them.

Several threads may put at once.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Protocol

from sonar.node.spool import CONTENT_TYPES, Spool

__all__ = ["FileOutput", "Output", "SpoolOutput", "StandardOutput"]


class Output(Protocol):
    """Takes samples, and what else a node tells, as they are written down: one or more whole lines each."""

    def put(self, data: bytes, kind: str = "sample") -> None:
        """Hand over one sample, or an envelope of another kind. Raise OSError if it could not be kept."""


class StandardOutput:
    """Samples are printed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def put(self, data: bytes, kind: str = "sample") -> None:
        with self._turn:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


class FileOutput:
    """Samples are appended to a file. It is opened for each sample, so it may be moved away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn = False
        self._turn = threading.Lock()

    def put(self, data: bytes, kind: str = "sample") -> None:
        with self._turn:
            self._append(data)

    def _append(self, data: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # After a write that the disk had no room for, half a line stands at the end; the next one begins anew.
            rest = b"\n" + data if self._torn else data
            self._torn = True
            while rest:
                rest = rest[os.write(file, rest) :]
            self._torn = False
        finally:
            os.close(file)


class SpoolOutput:
    """Samples are put into a spool directory, each a file of its own that appears complete or not at all."""

    def __init__(self, directory: Path, content_type: str) -> None:
        self._spool = Spool(directory)
        self._content_type = content_type  # of samples

    def put(self, data: bytes, kind: str = "sample") -> None:
        self._spool.put(kind, data, self._content_type if kind == "sample" else CONTENT_TYPES["json"])

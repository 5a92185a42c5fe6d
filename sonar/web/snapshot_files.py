"""Snapshots on disk: who looks first after a restart sees the last state at once, with its age, and does not wait.

A file counts only if it is byte for byte as it was written, by the module that would make it now, for that cluster, and
not longer ago than a day: its first line is a digest over all that. Whatever else lies there is as good as no file.
"""

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sonar import durable
from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.times import DAY, present

__all__ = ["SnapshotFiles"]

_LARGEST = 64 << 20
_LONGEST_S = DAY  # what is older tells nothing of today


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """The files in a directory: of each cluster one for each kind, which is the MODULE.NAME of what makes it."""

    directory: Path

    def prepare(self) -> None:
        """Make the directory if it is not there; raise SonarError if it cannot be one."""
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SonarError(f"cannot keep states in '{self.directory}': {error.strerror}") from None

    def read(self, kind: str, cluster: ClusterName) -> tuple[Any, float, float] | None:
        """Return a snapshot, its age in seconds, and how many it took to make; None if there is none that counts."""
        import orjson

        try:
            with self._path(kind, cluster).open("rb") as file:
                digest, _, body = file.read(_LARGEST).partition(b"\n")
            if digest != _digest(kind, cluster, body):
                return None
            value, took_s = orjson.loads(body)
        except (OSError, ValueError):
            return None
        age = float(present() - value["made"])
        return (value, age, took_s) if 0 <= age <= _LONGEST_S else None

    def write(self, kind: str, cluster: ClusterName, value: Any, took_s: float) -> None:
        """Put a snapshot in place of the last one. Raise OSError, or TypeError if it is nothing for JSON."""
        import orjson

        body = orjson.dumps([value, took_s])
        durable.put(self._path(kind, cluster), _digest(kind, cluster, body) + b"\n" + body, mode=0o600)

    def _path(self, kind: str, cluster: ClusterName) -> Path:
        return self.directory / f"{cluster}.{kind}"


def _digest(kind: str, cluster: ClusterName, body: bytes) -> bytes:
    """Return what tells that a file was written for this cluster, by the source of what makes it."""
    source = Path(str(import_module(kind.rpartition(".")[0]).__file__)).read_bytes()
    facts = b"\0".join((kind.encode(), cluster.encode(), source, body))
    return hashlib.blake2b(facts, digest_size=24).hexdigest().encode()

"""Publishing: a report file appears whole or not at all, and is on disk when it does."""

import re
import time
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError

__all__ = ["publish", "sweep"]


_SCRATCH = re.compile(r"\..+\.[0-9]+")
_ABANDONED_S = 3600


def sweep(directory: Path) -> None:
    """Remove what writers that were killed an hour ago or earlier have left below a directory."""
    limit = time.time() - _ABANDONED_S
    for path in directory.rglob(".*"):
        try:
            if _SCRATCH.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < limit:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SonarError(f"cannot remove '{path}': {error.strerror}") from error


def publish(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Put a file in place by rename, synced; `mode` is cut by the umask. Raise SonarError if that cannot be done."""
    try:
        durable.put(path, text.encode(), mode=mode)
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from error

"""Publishing: a report file appears whole or not at all, and is on disk when it does."""

import os
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["publish"]


def publish(path: Path, text: str) -> None:
    """Put a file in place by rename, synced. Its mode follows the umask. Raise SonarError if that cannot be done."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SonarError(f"cannot write '{path}': {error.strerror}") from error

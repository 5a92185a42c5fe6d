"""The log tree on disk: the files of some days below the root of a cluster, and their bytes."""

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.places import ObjectPath, files_in
from sonar.read.sources import note_days, noted_listing

if TYPE_CHECKING:
    from collections.abc import Collection

    from sonar.read.sources import Listing

__all__ = ["directories_of_days", "file_of_host", "is_json", "listed_days", "read_bytes"]

_OBJECT = re.compile(rb"^[ \t\r]*\{", re.MULTILINE)


def directories_of_days(root: Path, first: int, last: int) -> Iterator[Path]:
    """Yield the directories YYYY/MM/DD that there may be of these days (proleptic ordinals), day by day."""
    # `--from 1-1-1` is an honest way to ask for everything: look only into the years that there are.
    years = [int(name) for name in _listed(root) if re.fullmatch("[0-9]{4}", name) and name != "0000"]
    if not years:
        return
    first = max(first, date(min(years), 1, 1).toordinal())
    last = min(last, date(max(years), 12, 31).toordinal())
    for ordinal in range(first, last + 1):
        day = date.fromordinal(ordinal)
        yield root / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}"


def listed_days(root: Path, first: int, last: int) -> "Iterator[tuple[Path, Collection[str], Listing | None]]":
    """Yield the directories that there are of these days, each with its files, and what was noted of these."""
    note_days(root, first, last)
    for directory in directories_of_days(root, first, last):
        noted = noted_listing(str(directory))
        if noted is not None:
            yield directory, noted.files, noted
            continue
        try:
            names = files_in(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SonarError(f"{error.strerror}: '{directory}'") from error
        yield directory, names, None


def file_of_host(name: str, prefix: str, suffix: str) -> str | None:
    """Return the host between prefix and suffix of a file's name; None if the file is named otherwise."""
    if len(name) < len(prefix) + len(suffix) or not name.startswith(prefix) or not name.endswith(suffix):
        return None
    return name[len(prefix) : len(name) - len(suffix)]


def is_json(content: bytes) -> bool:
    """Whether a line of a file begins as JSON objects do, which no record in CSV does; the first may be torn."""
    return _OBJECT.search(content) is not None


def read_bytes(path: Path, *, must_exist: bool) -> bytes:
    """Return the bytes of a file; of one that has vanished since it was listed, none, unless it must exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if not must_exist:
            return b""
        raise SonarError(f"No such file or directory: '{path}'") from error
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{path}'") from error


def _listed(directory: Path) -> list[str]:
    try:
        return list(directory.listed()) if isinstance(directory, ObjectPath) else os.listdir(directory)
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{directory}'") from error

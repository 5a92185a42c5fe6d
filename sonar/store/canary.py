"""The canary: a record that the server writes for itself, to find it again on the way that every record takes.

    .server/canary/YYYY/MM/DD/hHH.csv     below the data root, `HH` is the hour (UTC), and the host's name is the file's

Below `.server` lies a log like that of a cluster, so that whatever reads a cluster can read it; but no cluster can be
called so, and nobody's answer has a record of it. What is older than the hour before is removed.
"""

import contextlib
import os
from pathlib import Path

from sonar.store.layout import Append
from sonar.store.ledger import SERVER_DIRECTORY
from sonar.times import HOUR, day_of, iso_text

__all__ = ["canary_of", "canary_tree", "is_stored", "newest_canary", "sweep"]

_VERSION = "0.12.1"  # of the format
_TAIL_BYTES = 4096
_TREE = f"{SERVER_DIRECTORY}/canary"


def canary_tree(root: Path) -> Path:
    """Return the log tree of the canary below a data root."""
    return root / _TREE


def canary_of(number: int, now: int) -> Append:
    """Return a canary that its job number tells from others."""
    hour = now % 86400 // HOUR
    line = (
        f"v={_VERSION},time={iso_text(now)},host=h{hour:02},cores=1,user=canary,cmd=canary,job={number},pid={number},"
        "cputime_sec=1\n"
    )
    return Append(f"{_TREE}/{day_of(now):%Y/%m/%d}/h{hour:02}.csv", line.encode())


def is_stored(root: Path, canary: Append) -> bool:
    """Return whether a canary that was just written is at the end of its file."""
    try:
        with (root / canary.path).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return canary.data in file.read()
    except FileNotFoundError:
        return False


def newest_canary(root: Path) -> tuple[Path, bytes] | None:
    """Return the newest file of canaries and its last whole line, without its end; None where there is none."""
    for path in reversed(_files(root)):
        if whole := path.read_bytes().rpartition(b"\n")[0]:
            return path, whole.splitlines()[-1]
    return None


def sweep(root: Path, now: int) -> None:
    """Remove the canaries that are older than the hour before this one, and the directories that they leave empty."""
    kept = {root / canary_of(0, instant).path for instant in (now - HOUR, now)}
    for path in _files(root):
        if path not in kept:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for directory in list(path.parents)[:3]:
                    directory.rmdir()


def _files(root: Path) -> list[Path]:
    return sorted(canary_tree(root).glob("*/*/*/h*.csv"))

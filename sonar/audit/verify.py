"""Check a store as fsck checks a file system: each record can be read, no file ends within one, columns agree with it.

What is bad is never lost, and the log is never rewritten: a torn end is moved into `FILE.bad` beside its file, a bad
record amid good ones is copied there. What `FILE.bad` holds is known, and not damage a second time.

A torn end is cut off only while nobody can be writing the file: under a lease (fcntl(2), F_SETLEASE), which the kernel
grants only if no other process has the file open, and which makes others that open it wait until we are done. So the
server may run meanwhile.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path

from sonar import durable
from sonar.audit.columns import column_problems
from sonar.audit.records import judge_of, torn_end
from sonar.errors import SonarError
from sonar.read.files import is_derived

__all__ = ["Action", "Finding", "Summary", "verify_cluster"]

BAD = ".bad"
QUIET_S = 600.0  # a file that was written since may still be, and is left for the next time


class Action(Enum):
    """What was done about something bad."""

    CUT = "cut"  # moved into FILE.bad
    COPIED = "copied"  # into FILE.bad
    KNOWN = "known"  # is in FILE.bad
    LEFT = "left"  # not touched: it may be being written, or nothing may be changed


@dataclass(frozen=True, slots=True)
class Finding:
    """Something bad: `kind` is bad (a record), torn (an end), unreadable (a file) or columns."""

    path: Path
    kind: str
    reason: str
    offset: int = 0
    size: int = 0
    action: Action = Action.LEFT

    @property
    def is_damage(self) -> bool:
        """Whether somebody is to be told."""
        return self.action is not Action.KNOWN


@dataclass(slots=True)
class Summary:
    """What was checked of a cluster, and what was found."""

    files: int = 0
    bytes: int = 0
    ignored: int = 0  # files that are not the log's
    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: str, *, known: bool = False) -> int:
        """Return how many findings of a kind are new, or known."""
        return sum(one.kind == kind and one.is_damage != known for one in self.findings)


def verify_cluster(
    root: Path,
    days: tuple[date, date] | None = None,
    *,
    repair: bool,
    clock: Callable[[], float] = time.time,
) -> Summary:
    """Check the tree of a cluster, or its directories of some days; without `repair` nothing is written.

    Raise SonarError if the tree itself cannot be read.
    """
    summary = Summary()
    with _ignoring_lease_breaks():
        for directory in _days(root, days):
            for path in _files(directory):
                _verify_file(path, summary, repair=repair, clock=clock)
            summary.findings += [Finding(path, "columns", reason) for path, reason in column_problems(directory)]
    return summary


def _verify_file(path: Path, summary: Summary, *, repair: bool, clock: Callable[[], float]) -> None:
    judge = judge_of(path.name)
    if judge is None:
        summary.ignored += path.suffix != BAD and not is_derived(path.name)
        return
    try:
        with path.open("rb") as file:
            changed = os.fstat(file.fileno()).st_mtime
            data = file.read()
        known = _Known(path)
    except FileNotFoundError:
        return  # taken away since it was listed
    except OSError as error:
        summary.findings.append(Finding(path, "unreadable", error.strerror or str(error)))
        return
    summary.files += 1
    summary.bytes += len(data)
    end = torn_end(path.name, data)
    bad = judge(data[:end])
    new = [one for one in bad if one.data not in known]
    if new and repair:
        _add(path, [one.data for one in new])
    for one in bad:
        action = Action.KNOWN if one.data in known else Action.COPIED if repair else Action.LEFT
        summary.findings.append(Finding(path, "bad", one.reason, one.offset, len(one.data), action))
    if end < len(data):
        is_quiet = clock() - changed > QUIET_S
        cut = repair and is_quiet and _cut(path, end, data[end:], known)
        reason = "no end of line" if is_quiet else "no end of line, it may be being written"
        action = Action.CUT if cut else Action.LEFT
        summary.findings.append(Finding(path, "torn", reason, end, len(data) - end, action))


class _Known:
    """What FILE.bad holds."""

    def __init__(self, path: Path) -> None:
        try:
            self._content = b"\n" + _bad_path(path).read_bytes()
        except FileNotFoundError:
            self._content = b""
        self._lines = frozenset(self._content.split(b"\n"))

    def __contains__(self, record: bytes) -> bool:
        text = record.removesuffix(b"\n")
        return text in self._lines if b"\n" not in text else b"\n" + text + b"\n" in self._content


def _cut(path: Path, end: int, tail: bytes, known: _Known) -> bool:
    """Move the end of a file into FILE.bad; return False, and do nothing, if it is in use or has changed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False  # in use; or a file system without leases
        if os.fstat(descriptor).st_size != end + len(tail) or os.pread(descriptor, len(tail), end) != tail:
            return False
        if tail not in known:  # else the last time ended between the two steps
            _add(path, [tail])
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)  # this ends the lease


def _add(path: Path, records: list[bytes]) -> None:
    """Append records to FILE.bad; they are on the disk when this returns."""
    target = _bad_path(path)
    status = path.stat()
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, status.st_mode & 0o777)
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(descriptor, status.st_uid, status.st_gid)
            file.write(b"".join(record if record.endswith(b"\n") else record + b"\n" for record in records))
            file.flush()
            os.fsync(descriptor)
        durable.sync(path.parent)
    except OSError as error:
        raise SonarError(f"cannot keep what is bad in '{target}': {error.strerror}") from None


def _bad_path(path: Path) -> Path:
    return path.with_name(path.name + BAD)


@contextlib.contextmanager
def _ignoring_lease_breaks() -> Iterator[None]:
    """Not be killed by the signal that says that somebody waits for our lease: it ends in a moment anyhow."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before)


def _days(root: Path, days: tuple[date, date] | None) -> list[Path]:
    """Return the directories of days, ascending."""
    try:
        found = sorted(root.glob("[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]"))
    except OSError as error:
        raise SonarError(f"cannot read '{root}': {error.strerror}") from None
    return [
        path for path in found if path.is_dir() and (days is None or days[0] <= (_date(path) or date.min) <= days[1])
    ]


def _date(path: Path) -> date | None:
    try:
        return date(*(int(part) for part in path.parts[-3:]))
    except ValueError:
        return None


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SonarError(f"cannot read '{directory}': {error.strerror}") from None

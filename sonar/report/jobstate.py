"""The state of violations: which jobs have been seen to break a rule, since when, and whether that has been reported.

The file POLICY-state.csv is free CSV, one job a line, in the form that the first naicreport reads and writes; lines are
sorted, so that two states can be compared. Two runs never work on one state at once: it is locked while it is used.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.report.freecsv import FreeCSVError, parse_line, record_line
from sonar.report.publish import publish
from sonar.times import iso_text, parse_instant

if TYPE_CHECKING:
    from sonar.report.joblog import LoggedJob

__all__ = ["JobState", "State", "locked", "read_state", "write_state"]

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_LARGEST_JOB = 2**32 - 1


@dataclass(frozen=True, slots=True)
class JobState:
    """What is remembered of one job: instants are UTC seconds; an expired job is one whose number may be used anew."""

    id: int
    host: str
    started_on_or_before: int
    first_violation: int
    last_seen: int
    is_reported: bool = False
    is_expired: bool = False

    @property
    def sort_key(self) -> tuple[str, int, int, int]:
        """The order of lines in the file."""
        return (self.host, self.id, self.last_seen, self.started_on_or_before)


class State:
    """The jobs of one state file."""

    def __init__(self, jobs: Sequence[JobState] = ()) -> None:
        self.jobs: list[JobState] = list(jobs)
        self._seen: set[int] = set()  # places in `jobs` of what this run has seen

    def enter(self, logged: "Sequence[LoggedJob]", now: int) -> dict["LoggedJob", JobState]:
        """Bring the state up to what the log tells and return each logged job's entry.

        An entry is the same job as one in the log where host and number agree and their times overlap: of two jobs that
        had the same number one after the other, each keeps its own entry, reported or not.
        """
        places: dict[tuple[str, int], list[int]] = {}
        for place, job in enumerate(self.jobs):
            places.setdefault((job.host, job.id), []).append(place)
        entered: dict[LoggedJob, JobState] = {}
        for one in sorted(logged, key=lambda job: (job.host, job.id, job.last_seen)):
            candidates = [
                place
                for place in places.get((one.host, one.id), ())
                if place not in self._seen
                and min(one.start, one.first_seen) <= self.jobs[place].last_seen
                and self.jobs[place].started_on_or_before <= one.last_seen
            ]
            if candidates:
                place = candidates[0]
                known = self.jobs[place]
                entry = replace(
                    known,
                    started_on_or_before=min(known.started_on_or_before, one.start),
                    last_seen=max(known.last_seen, one.last_seen),
                    is_expired=one.is_expired,
                )
            else:
                place = len(self.jobs)
                self.jobs.append(JobState(0, "", 0, 0, 0))
                entry = JobState(one.id, one.host, one.start, now, one.last_seen, is_expired=one.is_expired)
            self.jobs[place] = entry
            self._seen.add(place)
            entered[one] = entry
        return entered

    def purge(self, before: int) -> int:
        """Forget jobs last seen before an instant, reported or not, but none that this run has seen; return how many.

        What was never reported goes too: its records are out of the window, so nothing could be said about it any more.
        """
        kept = [
            place for place, job in enumerate(self.jobs) if place in self._seen or job.last_seen >= before
        ]  # fmt: skip
        purged = len(self.jobs) - len(kept)
        new_place = {place: number for number, place in enumerate(kept)}
        self.jobs = [self.jobs[place] for place in kept]
        self._seen = {new_place[place] for place in self._seen}
        return purged

    def mark_reported(self, entries: Sequence[JobState]) -> None:
        """Note that these have been reported."""
        reported = set(entries)
        self.jobs = [replace(job, is_reported=True) if job in reported else job for job in self.jobs]


def read_state(path: Path) -> State:
    """Return the state in a file; that of one that does not exist is empty.

    Lines that lack a field or have a bad value are left out. Raise SonarError, naming file and line, if the file cannot
    be read or is no CSV, so that it is never overwritten by a state that knows less.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise SonarError(f"cannot read the state '{path}': {error.strerror}") from None
    except ValueError:
        raise SonarError(f"'{path}': the state is not UTF-8") from None
    jobs = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            job = _job(parse_line(line))
        except FreeCSVError as error:
            raise SonarError(f"'{path}', line {number}: {error}") from None
        if job is not None:
            jobs.append(job)
    return State(jobs)


def write_state(path: Path, state: State) -> None:
    """Put the state in place, sorted, whole and synced."""
    lines = [
        record_line(
            (
                ("id", job.id),
                ("host", job.host),
                ("startedOnOrBefore", iso_text(job.started_on_or_before)),
                ("firstViolation", iso_text(job.first_violation)),
                ("lastSeen", iso_text(job.last_seen)),
                ("isReported", str(job.is_reported).lower()),
                ("isExpired", str(job.is_expired).lower()),
            )
        )
        for job in sorted(state.jobs, key=lambda job: job.sort_key)
    ]
    publish(path, "".join(lines))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a state file, waiting for another run to end. Raise SonarError if there can be no lock."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SonarError(f"cannot lock '{path}': {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _job(fields: dict[str, str]) -> JobState | None:
    """Return the job of a line, None if a field is missing or bad."""
    try:
        times = [parse_instant(fields[name]) for name in ("startedOnOrBefore", "firstViolation", "lastSeen")]
        started, first, last = times
        number = int(fields["id"])
        host = fields["host"]
        reported, expired = _truth(fields["isReported"]), _truth(fields.get("isExpired", "false"))
    except (KeyError, ValueError):
        return None
    if started is None or first is None or last is None or not 0 <= number <= _LARGEST_JOB:
        return None
    return JobState(number, host, started, first, last, reported, expired)


def _truth(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(text)
    return text in _TRUE

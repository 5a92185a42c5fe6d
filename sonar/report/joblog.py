"""The log of scans: which jobs each scan found to break a rule, and from that the jobs, each over all its scans.

STATE_DIR/YYYY/MM/DD/POLICY.csv holds free CSV, a record a violating job and scan, with `now` the instant of the scan.
A scan that found nothing leaves a record without a job, so that a gap is known to be one.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonar.report.freecsv import FreeCSVError, parse_line
from sonar.times import DAY, day_of, parse_instant

__all__ = ["LoggedJob", "Record", "jobs_of", "log_files", "read_log"]

_MARKS = re.compile(r"[<>!]+\Z")
_MINUTE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_LARGEST_JOB = 2**32 - 1
EVERY_HOST = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One job in one scan; without a job number it says only that there was a scan, of one host or of all."""

    scan: int
    host: str
    id: int | None = None
    user: str = ""
    cmd: str = ""
    start: int = 0
    end: int = 0
    values: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LoggedJob:
    """One job over all scans that saw it; `values` are the largest seen."""

    host: str
    id: int
    user: str
    cmd: str
    first_seen: int
    last_seen: int
    start: int
    end: int
    is_expired: bool
    values: tuple[tuple[str, float], ...] = ()

    def value(self, name: str) -> float:
        """Return the largest value of a quantity."""
        return dict(self.values)[name]


def log_files(state_dir: Path, name: str, start: int, end: int) -> list[Path]:
    """Return the files NAME.csv of the UTC days from that of `start` up to that before `end`, those that exist."""
    days = [day_of(instant) for instant in range(start // DAY * DAY, end, DAY)]
    paths = [state_dir / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}" / f"{name}.csv" for day in days]
    return [path for path in paths if path.exists()]


def read_log(paths: Iterable[Path], tags: frozenset[str], quantities: Sequence[str]) -> list[Record]:
    """Return the good records of the files with one of the tags; tell on stderr what was left out, file by file."""
    records = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            print(f"naicreport: '{path}': {error.strerror}, skipping it", file=sys.stderr)
            continue
        dropped = 0
        for line in lines:
            try:
                fields = parse_line(line)
                if fields.get("tag") not in tags:
                    continue
                records.append(_record(fields, quantities))
            except (FreeCSVError, KeyError, ValueError):
                dropped += 1
        if dropped:
            print(f"naicreport: '{path}': {dropped} bad records, skipping them", file=sys.stderr)
    return records


def jobs_of(records: Sequence[Record]) -> list[LoggedJob]:
    """Return the jobs, sorted by host, number and when they were last seen.

    Records of one number in scans that follow each other on the host are one job. A scan without it ends the job: what
    comes after has the number anew. Of the jobs with one number all but the last are expired.
    """
    everywhere = sorted({record.scan for record in records if record.id is None and record.host == EVERY_HOST})
    by_host: dict[str, list[Record]] = {}
    for record in records:
        if record.host != EVERY_HOST:
            by_host.setdefault(record.host, []).append(record)
    jobs = []
    for host in sorted(by_host):
        scans = sorted({record.scan for record in by_host[host]} | set(everywhere))
        number_of = {scan: number for number, scan in enumerate(scans)}
        by_job: dict[int, list[Record]] = {}
        for record in by_host[host]:
            if record.id is not None:
                by_job.setdefault(record.id, []).append(record)
        for job in sorted(by_job):
            runs: list[list[Record]] = []
            for record in sorted(by_job[job], key=lambda record: record.scan):
                if runs and number_of[record.scan] - number_of[runs[-1][-1].scan] <= 1:
                    runs[-1].append(record)
                else:
                    runs.append([record])
            jobs += [_job(run, is_expired=run is not runs[-1]) for run in runs]
    return jobs


def _job(run: Sequence[Record], *, is_expired: bool) -> LoggedJob:
    newest = run[-1]
    largest: dict[str, float] = {}
    for record in run:
        for name, value in record.values:
            largest[name] = max(value, largest.get(name, value))
    return LoggedJob(
        host=newest.host,
        id=newest.id or 0,
        user=newest.user,
        cmd=newest.cmd,
        first_seen=run[0].scan,
        last_seen=newest.scan,
        start=min(record.start for record in run),
        end=max(record.end for record in run),
        is_expired=is_expired,
        values=tuple(largest.items()),
    )


def _record(fields: Mapping[str, str], quantities: Sequence[str]) -> Record:
    """Return the record of a line. Raise KeyError or ValueError if something is missing or bad."""
    scan = _instant(fields["now"])
    if "jobm" not in fields and fields.get("scan") == "done":
        return Record(scan, fields.get("host", EVERY_HOST))
    number = _MARKS.sub("", fields["jobm"])
    if not _NUMBER.fullmatch(number) or int(number) > _LARGEST_JOB:
        raise ValueError(number)
    return Record(
        scan=scan,
        host=fields["host"],
        id=int(number),
        user=fields["user"],
        cmd=fields["cmd"],
        start=_instant(fields["start"]),
        end=_instant(fields["end"]),
        values=tuple((name, float(fields[name])) for name in quantities),
    )


def _instant(text: str) -> int:
    instant = parse_instant(text.replace(" ", "T") + ":00Z") if _MINUTE.fullmatch(text) else None
    if instant is None:
        raise ValueError(text)
    return instant

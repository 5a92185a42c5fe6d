"""The log of scans, written: what a scan found is appended to the day's file of each policy, whole, and synced."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError
from sonar.report.freecsv import record_line
from sonar.report.jobstate import locked
from sonar.report.judging import EVERY_JOB, Offence
from sonar.report.policies import Policy
from sonar.times import day_of, minute_text

__all__ = ["append_scan"]


def append_scan(state_dir: Path, policies: Sequence[Policy], found: Mapping[str, Sequence[Offence]], now: int) -> int:
    """Append what a scan at `now` found, each policy's to its file of that UTC day; return the number of records.

    A file gets a scan in one write; part of a line that a killed scan left is cut off before. A scan of an instant that
    is in the file already, to its last line, is not written again.
    """
    day = day_of(now)
    directory = state_dir / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}"
    written = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for policy in policies:
            path = directory / f"{policy.name}.csv"
            lines = [_line(policy, offence, now) for offence in found[policy.name]]
            done = record_line((("now", minute_text(now)), ("tag", policy.name), ("scan", "done")))
            with locked(path):
                if _append(path, "".join([*lines, done]), done):
                    written += len(lines)
    except OSError as error:
        raise SonarError(f"cannot write the log of scans in '{directory}': {error.strerror}") from error
    return written


def _line(policy: Policy, offence: Offence, now: int) -> str:
    length = offence.end - offence.start
    days, minutes = divmod((length + 30) // 60, 24 * 60)
    values = [(name, _text(offence.measures.get(name))) for name in policy.fields]
    return record_line(
        (
            ("now", minute_text(now)),
            ("jobm", f"{offence.id}{offence.mark}"),
            ("user", offence.user),
            ("duration", f"{days}d{minutes // 60:2}h{minutes % 60:2}m"),
            ("host", "all" if offence.host == EVERY_JOB else offence.host),
            *values,
            ("start", minute_text(offence.start)),
            ("end", minute_text(offence.end)),
            ("cmd", offence.cmd),
            ("tag", policy.name),
        )
    )


def _text(value: float | None) -> str:
    return "nan" if value is None else f"{value:.10g}"


def _append(path: Path, text: str, done: str) -> bool:
    """Append a scan, synced, unless it is there; return whether it was written."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "r+b") as file:
        content = file.read()
        if done.encode() in content:
            return False
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        file.seek(whole)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    durable.sync(path.parent)
    return True

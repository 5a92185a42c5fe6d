"""The command columnize: which days of which clusters to make columns of, and telling of it."""

import logging
import sys
import time
from argparse import Namespace
from datetime import date, timedelta

from sonar import log
from sonar.columns.refresh import Day, State, days_of, refresh, remove_log
from sonar.config.clusters import Clusters
from sonar.config.settings import load_settings
from sonar.errors import SonarError, UsageError
from sonar.times import date_limit, day_of, present

__all__ = ["run"]

_log = logging.getLogger("columnize")


def run(options: Namespace) -> int:
    """Do what the arguments say; return 1 if some day failed."""
    log.setup("columnize", verbose=options.verbose)
    if options.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {options.jobs}")
    if options.remove_log_after is not None and options.remove_log_after < 2:
        raise UsageError("--remove-log-after must be at least 2 days: younger days still grow")
    first, last = _days(options.since, options.until)
    paths = load_settings().paths
    root = options.data or paths.data
    if not root.is_dir():
        raise SonarError(f"--data is no directory: '{root}'")
    known = Clusters(root, paths.clusters if paths.clusters.is_dir() else None)
    failed = False
    for cluster in [known.find(name) for name in options.cluster] if options.cluster else known.names():
        days = days_of(root / cluster, first, last)
        if options.list:
            _list(cluster, days)
            continue
        wanted = [day for day in days if day.files and (day.needs_work or options.force)]
        if options.dry_run:
            for day in wanted:
                print(f"{cluster} {day.day} {day.state.value}: {_size(day.uncovered)} to read")
        else:
            failed |= not _refresh(cluster, wanted, options.jobs)
        if options.remove_log_after is not None:
            oldest = day_of(present()) - timedelta(options.remove_log_after)
            _remove(cluster, days_of(root / cluster, first, min(last, oldest)), dry_run=options.dry_run)
    return 1 if failed else 0


def _days(since: str | None, until: str | None) -> tuple[date, date]:
    now = present()
    first = day_of(date_limit(since, now, end=False)) if since else date.min
    last = day_of(date_limit(until, now, end=True)) if until else date.max
    if first > last:
        raise UsageError("--from must not be after --to")
    return first, last


def _refresh(cluster: str, days: list[Day], jobs: int) -> bool:
    """Make the columns of these days; return whether all went well."""
    if not days:
        return True
    began = time.monotonic()
    total = sum(day.log_bytes for day in days)
    read = made = number = 0
    shows_progress = sys.stderr.isatty()

    def done(day: Day, size: int) -> None:
        nonlocal read, made, number
        read, made, number = read + day.log_bytes, made + size, number + 1
        if shows_progress:
            filled = 30 * number // len(days)
            bar = "#" * filled + "-" * (30 - filled)
            end = "\n" if number == len(days) else ""
            print(f"\r{cluster} [{bar}] {number}/{len(days)} days, {_size(read)}", end=end, file=sys.stderr, flush=True)
        _log.debug("%s %s: %s to %s", cluster, day.day, _size(day.log_bytes), _size(size))

    failures = refresh(days, jobs, done)
    for failure in failures:
        _log.error("%s: %s", cluster, failure)
    seconds = time.monotonic() - began
    _log.info("%s: %d of %d days, %s to %s in %.1f s", cluster, number, len(days), _size(total), _size(made), seconds)
    return not failures


def _remove(cluster: str, days: list[Day], *, dry_run: bool) -> None:
    """Remove the log of days that are in columns."""
    for day in days:
        if day.state is not State.FRESH or not day.log_bytes:
            continue
        if dry_run:
            print(f"{cluster} {day.day}: {_size(day.log_bytes)} of the log to remove")
        elif freed := remove_log(day):
            _log.info("%s %s: removed %s of the log, which the columns have", cluster, day.day, _size(freed))


def _list(cluster: str, days: list[Day]) -> None:
    """Print a line a day, and one for all."""
    print(f"{'cluster':<24}{'day':<12}{'columns':<10}{'log':>10}{'columns':>10}{'uncovered':>11}  files")
    for day in days:
        files = f"{len(day.files)}" + (f", {day.removed} removed" if day.removed else "")
        print(
            f"{cluster:<24}{day.day!s:<12}{day.state.value:<10}{_size(day.log_bytes):>10}{_size(day.column_bytes):>10}"
            f"{_size(day.uncovered):>11}  {files}"
        )
    stale = sum(day.state is State.STALE for day in days)
    missing = sum(day.state is State.MISSING for day in days)
    log_bytes, column_bytes = sum(day.log_bytes for day in days), sum(day.column_bytes for day in days)
    print(
        f"{cluster}: {len(days)} days, {stale} stale, {missing} without columns; "
        f"{_size(log_bytes)} of log, {_size(column_bytes)} of columns"
    )


def _size(number: int) -> str:
    """Return bytes as a short text."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 10_000 or unit == "GB":
            return f"{number} {unit}"
        number = (number + 500) // 1000
    return ""

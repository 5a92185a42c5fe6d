"""Which days of a cluster's log have columns, which are stale, and making them anew."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path

from sonar.errors import SonarError
from sonar.places import known_state
from sonar.read.columns import COLUMNS_NAME, covered, open_columns
from sonar.read.files import LogFile, SampleReader, listed

__all__ = ["Day", "State", "days_of", "refresh", "remove_log"]


class State(Enum):
    """How the columns of a day are to its log."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Day:
    """One directory of the log. Sizes are in bytes; `uncovered` is what has to be read as text."""

    directory: Path
    day: date
    files: tuple[LogFile, ...]
    state: State
    log_bytes: int
    column_bytes: int
    uncovered: int
    removed: int  # files that are in the columns only

    @property
    def needs_work(self) -> bool:
        """Whether new columns would cover more."""
        return self.state is not State.FRESH


def days_of(root: Path, first: date, last: date) -> list[Day]:
    """Return the days of a cluster that have files of samples, or columns, ascending."""
    if not root.is_dir():
        raise SonarError(f"Not a viable log directory: {root}")
    days = []
    for found in listed(root, first.toordinal(), last.toordinal()):
        day = _date_of(found.directory)
        if day is not None and first <= day <= last:
            days.append(_day(found.directory, day, found.samples))
    return days


def _date_of(directory: Path) -> date | None:
    try:
        return date(*map(int, directory.parts[-3:]))
    except ValueError:
        return None


def _day(directory: Path, day: date, files: tuple[LogFile, ...]) -> Day:
    from sonar.columns.rollups import has_rollups

    sizes = {}
    for file in files:
        try:
            sizes[file.path.name] = known_state(file.path).st_size
        except OSError:
            continue
    columns = open_columns(directory / COLUMNS_NAME)
    total = sum(sizes.values())
    if columns is None:
        return Day(directory, day, files, State.MISSING, total, 0, total, 0)
    uncovered = dict(sizes)
    stale = False
    for source in columns.facts.sources:
        offset = covered(source, directory / source.name)
        if offset is not None:
            uncovered[source.name] -= offset
            stale |= sizes.get(source.name, 0) > source.size
            sizes.pop(source.name, None)
        elif not source.removed:
            stale = True
    stale |= bool(sizes) or not has_rollups(directory, columns.identity)
    state = State.STALE if stale else State.FRESH
    removed = sum(source.removed for source in columns.facts.sources)
    return Day(directory, day, files, state, total, known_state(columns.path).st_size, sum(uncovered.values()), removed)


def refresh(days: list[Day], jobs: int, done: Callable[[Day, int], None]) -> list[str]:
    """Make the columns of these days, in so many processes; tell of each when it is done, with its new size.

    A day that fails leaves the others alone; return what failed.
    """
    failures = []
    for day, outcome in _outcomes(days, min(jobs, len(days))):
        if isinstance(outcome, int):
            done(day, outcome)
        else:
            failures.append(outcome)
    return failures


def _outcomes(days: list[Day], jobs: int) -> Iterator[tuple[Day, int | str]]:
    if jobs <= 1:
        for day in days:
            yield day, _made(day)
        return
    import multiprocessing

    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        waiting: dict[Future[int | str], Day] = {}
        left = list(days)
        while waiting or left:
            while left and len(waiting) < 2 * jobs:
                day = left.pop(0)
                waiting[pool.submit(_made, day)] = day
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()


_reader: SampleReader | None = None


def _made(day: Day) -> int | str:
    """Return the size of the day's new columns, or what is wrong."""
    global _reader  # noqa: PLW0603 -- what it has learned from one file helps with the next
    from sonar.columns.write import write_columns

    if _reader is None:
        _reader = SampleReader()
    try:
        return write_columns(day.directory, list(day.files), _reader).bytes
    except (SonarError, OSError) as error:
        return str(error)


def remove_log(day: Day) -> int:
    """Remove the files of a day that its columns cover to the last byte; return how many bytes that frees.

    First the columns note that they are all there is, then the files go; what comes later under their names is added.
    """
    from sonar.columns.write import write_columns

    columns = open_columns(day.directory / COLUMNS_NAME)
    sources = {source.name: source for source in columns.facts.sources if not source.removed} if columns else {}
    complete = [
        file
        for file in day.files
        if (source := sources.get(file.path.name)) is not None
        and covered(source, file.path) == source.size == file.path.stat().st_size
    ]
    if not complete or day.needs_work:
        return 0
    names = frozenset(file.path.name for file in complete)
    write_columns(day.directory, list(day.files), SampleReader(), removing=names)
    noted = open_columns(day.directory / COLUMNS_NAME)
    freed = 0
    for source in noted.facts.sources if noted else ():
        path = day.directory / source.name
        if source.removed and source.name in names and covered(source, path) == source.size:
            freed += source.size
            path.unlink()
    return freed

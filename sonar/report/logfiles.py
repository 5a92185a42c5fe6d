"""Which files of the log the days of a window have, and how long they are: by that a report knows what it read.

A file that was removed from the log because the columns have all of it counts as if it were there.
"""

from collections.abc import Iterator
from pathlib import Path

from sonar.places import files_in, known_state
from sonar.times import DAY, day_of

__all__ = ["day_directory", "files_of_day", "hosts_in_log"]

_COLUMNS = "0+columns.parquet"
_NOT_DATA = (".", "0+columns", "0+rollup-", "0+arrivals")  # a day's own books, and what can be made again


def day_directory(data: Path, instant: int) -> Path:
    """Return the directory of the UTC day of an instant."""
    day = day_of(instant)
    return data / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}"


def files_of_day(directory: Path) -> list[tuple[str, int]]:
    """Return names and lengths of the files of a day, sorted by name; none for a day without a directory."""
    found: dict[str, int] = {}
    try:
        names = files_in(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        if not name.startswith(_NOT_DATA):
            found[name] = known_state(directory / name).st_size
    if _COLUMNS in names:
        from sonar.read.columns import open_columns

        columns = open_columns(directory / _COLUMNS)
        for source in columns.facts.sources if columns is not None else ():
            if source.removed:
                found[source.name] = found.get(source.name, 0) + source.size
    return sorted(found.items())


def hosts_in_log(data: Path, start: int, end: int) -> set[str]:
    """Return the hosts that the files of samples of a window's days are named after."""
    from sonar.read.files import host_of

    days = range(start // DAY * DAY, end + 1, DAY)
    return set(_hosts(host_of(name) for day in days for name, _ in files_of_day(day_directory(data, day))))


def _hosts(names: Iterator[str]) -> Iterator[str]:
    return (name for name in names if name)

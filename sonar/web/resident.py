"""What the process that analyses come from keeps decoded, so that those that it forks have it: days asked for.

What footers of columns say and whole roll-ups of a day are read by the very functions that an analysis calls, which
remember what they read by inode, time of change and size of the file; so what is kept of a file that has been replaced
is never used. One day is read at a time, between two forks, the latest days first.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonar.read.columns import Identity

__all__ = ["Resident"]


@dataclass(slots=True)
class Resident:
    """The days that are kept, in so many bytes."""

    budget: int
    size: int = 0
    _wanted: dict[Path, None] = field(default_factory=dict)
    _kept: "dict[Path, Identity]" = field(default_factory=dict)  # with the identity of the columns
    _is_full: bool = False

    @property
    def has_work(self) -> bool:
        """Whether there are days to read."""
        return bool(self._wanted)

    def want(self, root: Path, first: int, last: int) -> None:
        """Note that days of a tree were asked for, as far as they have columns that are not kept.

        When all memory is taken, older days than those kept are not wanted; for a newer one all is given up.
        """
        from sonar.read.files import COLUMNS_NAME
        from sonar.read.tree import directories_of_days

        for directory in reversed(list(directories_of_days(root, first, last))):
            identity = _identity(directory / COLUMNS_NAME)
            if identity is None or self._kept.get(directory) == identity:
                continue
            if self._is_full and directory not in self._kept and directory < min(self._kept):
                continue
            if self._is_full:
                self.forget()
            self._wanted[directory] = None

    def read_one(self) -> None:
        """Read one of the days that are wanted."""
        from sonar.columns.rollups import VERBS, open_rollup, open_runs
        from sonar.read.columns import COLUMNS_NAME, facts_at
        from sonar.read.plan import prepare_plan
        from sonar.read.sources import keep_listing

        directory = next(iter(self._wanted))
        del self._wanted[directory]
        found = facts_at(directory / COLUMNS_NAME)
        if found is None:
            return
        identity, facts = found
        rollups = [open_rollup(directory, verb, identity) for verb in VERBS]
        for rollup in rollups:
            if rollup is not None:
                rollup.keep()
        runs = open_runs(directory, identity)
        listing = keep_listing(str(directory))
        if listing is not None:
            prepare_plan(directory, listing)
        self._kept[directory] = identity
        self.size += _size_of(facts) + sum(_size_of(one) for one in (*rollups, runs, listing))
        if self.size > self.budget:
            self._is_full = True
            self._wanted.clear()

    def example(self) -> tuple[Path, tuple[str, ...]] | None:
        """Return a small question that can be answered from what is kept, as a tree and the arguments of a command."""
        from sonar.read.columns import COLUMNS_NAME, facts_at

        directory = max(self._kept, default=None)
        found = facts_at(directory / COLUMNS_NAME, self._kept[directory]) if directory else None
        if directory is None or found is None:
            return None
        day = "-".join(directory.parts[-3:])
        argv = ("jobs", "--user=-", f"--host={min(found[1].hosts)}", f"--from={day}", f"--to={day}")
        return directory.parents[2], argv

    def forget(self) -> None:
        """Forget all, also what was replaced since it was read."""
        from sonar.columns.rollups import forget_rollups
        from sonar.read.columns import forget_columns
        from sonar.read.sources import forget_listings

        forget_columns()
        forget_rollups()
        forget_listings()
        self._kept.clear()
        self.size, self._is_full = 0, False


def _identity(path: Path) -> "Identity | None":
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _size_of(value: Any) -> int:
    """Return about how much memory a value and all in it take."""
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size + 100
    if isinstance(value, dict):
        return sum(_size_of(key) + _size_of(one) for key, one in value.items()) + 64
    if isinstance(value, (list, tuple)):
        return sum(map(_size_of, value)) + 56
    names = getattr(type(value), "__slots__", ())
    return sys.getsizeof(value) + sum(_size_of(getattr(value, name)) for name in names if hasattr(value, name))

"""What an answer was made from: the days of log trees that were listed for it, and the state that their files were in.

A process that answers for others notes this while it works. Whoever keeps the answer can tell later, without reading
anything, whether it would still be the same, and who could have made it himself.
"""

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import Any, TypeAlias, TypeVar

from sonar.places import ObjectPath

__all__ = [
    "Access",
    "Days",
    "Listing",
    "Sources",
    "forget_listings",
    "keep_listing",
    "note_days",
    "note_window",
    "noted_listing",
    "noting",
    "state_of",
]

_T = TypeVar("_T")

Days: TypeAlias = tuple[str, int, int]
"""The root of a tree, and the first and the last of its days that were looked at, as proleptic ordinals."""

Access: TypeAlias = tuple[int, int, int, int]
"""A kind of file or directory that was looked at: mode, owner, group; and which bits of a mode that takes."""

Entry: TypeAlias = tuple[str, int, int, int, int, int, int]
"""Of a file its name, inode, time of change, size, mode, owner and group."""

_READ, _LIST = 4, 5


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """What is in a directory, by name, and who may list it. What others make of that is kept with it."""

    entries: tuple[Entry, ...]
    access: Access
    made: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: str) -> "Listing | None":
        """Return that of a directory: each file is looked at, for no other sign tells that it has grown."""
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            above = os.fstat(descriptor)
            entries = []
            with os.scandir(descriptor) as found:
                for entry in found:
                    try:
                        state = entry.stat()
                    except OSError:  # gone meanwhile, or a link that leads nowhere
                        continue
                    entries.append(
                        (
                            entry.name,
                            state.st_ino,
                            state.st_mtime_ns,
                            state.st_size,
                            state.st_mode,
                            state.st_uid,
                            state.st_gid,
                        )
                    )
        finally:
            os.close(descriptor)
        entries.sort()
        return cls(tuple(entries), (S_IMODE(above.st_mode), above.st_uid, above.st_gid, _LIST))

    @property
    def files(self) -> dict[str, tuple[int, int, int]]:
        """The files, each with inode, time of change and size."""
        return self.once("files", lambda: {entry[0]: entry[1:4] for entry in self.entries if S_ISREG(entry[4])})

    @property
    def accesses(self) -> frozenset[Access]:
        """What it takes to read all of it."""
        return self.once(
            "accesses",
            lambda: frozenset({self.access, *((S_IMODE(entry[4]), *entry[5:7], _READ) for entry in self.entries)}),
        )

    @property
    def digest(self) -> bytes:
        """What tells this state from any other."""
        return self.once("digest", lambda: blake2b(repr(self.entries).encode(), digest_size=16).digest())

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what a function makes of the listing, which is called once."""
        if key not in self.made:
            self.made[key] = make()
        found: _T = self.made[key]
        return found


@dataclass(frozen=True, slots=True)
class Sources:
    """What an answer was made from. `timeless`: at any later instant it is the same, as long as the files are."""

    days: tuple[Days, ...]
    states: tuple[bytes, ...]
    access: frozenset[Access]
    timeless: bool

    def are_unchanged(self) -> bool:
        """Whether all files are as they were: none new, none gone, each with its inode, time of change and size."""
        return all(state_of(days)[0] == state for days, state in zip(self.days, self.states, strict=True))


@dataclass(slots=True)
class Noted:
    """What has been noted so far."""

    listings: dict[str, Listing | None] = field(default_factory=dict)  # a directory is looked at once
    _states: dict[Days, bytes] = field(default_factory=dict)
    _access: set[Access] = field(default_factory=set)
    _is_timeless: bool = True
    _has_window: bool = False
    _is_watched: bool = True

    def add_days(self, days: Days) -> None:
        """Note the state of some days before they are read: what changes then makes the state another."""
        if days not in self._states:
            self._states[days], access = state_of(days, self.listings)
            self._access |= access

    def add_window(self, *, timeless: bool) -> None:
        """Note whether a question's answer changes with the present time."""
        self._has_window = True
        self._is_timeless &= timeless

    def add_unwatched(self) -> None:
        """Note that something was looked at of which nobody can tell cheaply whether it has changed since."""
        self._is_watched = False

    def sources(self) -> Sources | None:
        """Return all that was noted; None if that is not all there is to know."""
        if not self._is_watched:
            return None
        timeless = self._is_timeless and self._has_window
        return Sources(tuple(self._states), tuple(self._states.values()), frozenset(self._access), timeless)


_noted: Noted | None = None
_kept: dict[str, Listing] = {}


@contextmanager
def noting() -> Iterator[Noted]:
    """Note what this process looks at. It must not be answering anything else meanwhile."""
    global _noted  # noqa: PLW0603 -- what is noted is all that the process does
    before, _noted = _noted, Noted()
    try:
        yield _noted
    finally:
        _noted = before


def note_days(root: Path, first: int, last: int) -> None:
    """Tell that days of a tree are about to be listed."""
    if _noted is None:
        return
    if isinstance(root, ObjectPath):
        _noted.add_unwatched()
    else:
        _noted.add_days((str(root), first, last))


def note_window(*, timeless: bool) -> None:
    """Tell whether the answer to a question changes with the present time."""
    if _noted is not None:
        _noted.add_window(timeless=timeless)


def noted_listing(directory: str) -> Listing | None:
    """Return what was noted of a directory, if this process notes what it looks at."""
    return None if _noted is None else _noted.listings.get(directory)


def keep_listing(directory: str) -> Listing | None:
    """Return what is in a directory, and keep it: as long as it is the same, so is what was made of it."""
    found = Listing.of(directory)
    if found is not None:
        _kept[directory] = found
    return found


def forget_listings() -> None:
    """Give up the memory that listings take."""
    _kept.clear()


def state_of(days: Days, listings: dict[str, Listing | None] | None = None) -> tuple[bytes, set[Access]]:
    """Return a digest of names, inodes, times of change and sizes of all files of these days, and what they take.

    Directories that are in `listings` are not looked at again, others come to be there.
    """
    listings = {} if listings is None else listings
    root, first, last = days
    access: set[Access] = set()
    digest = blake2b(digest_size=16)
    years = [int(name) for name in _directory(root, access) if len(name) == 4 and name.isdecimal() and name != "0000"]
    if not years:
        digest.update(str(sorted(access)).encode())
        return digest.digest(), access
    first = max(first, date(min(years), 1, 1).toordinal())
    last = min(last, date(max(years), 12, 31).toordinal())
    above = ""
    for ordinal in range(first, last + 1):
        day = date.fromordinal(ordinal)
        month = f"{root}/{day.year:04}/{day.month:02}"
        if month != above:
            above = month
            for directory in (f"{root}/{day.year:04}", month):
                _note(directory, access)
        directory = f"{month}/{day.day:02}"
        if directory not in listings:
            listings[directory] = _listing(directory)
        listing = listings[directory]
        if listing is not None:
            access |= listing.accesses
            digest.update(directory.encode("utf-8", "surrogateescape") + b"\0" + listing.digest)
    digest.update(str(sorted(access)).encode())  # whose they are: that may change, too
    return digest.digest(), access


def _listing(directory: str) -> Listing | None:
    """Return what is in a directory; that which is kept, if it is the same."""
    found, kept = Listing.of(directory), _kept.get(directory)
    if found is None or kept is None or (found.entries, found.access) != (kept.entries, kept.access):
        return found
    return kept


def _directory(path: str, access: set[Access]) -> list[str]:
    _note(path, access)
    try:
        return os.listdir(path)
    except OSError:
        return []


def _note(directory: str, access: set[Access]) -> None:
    try:
        state = Path(directory).stat()
    except OSError:
        return
    access.add((S_IMODE(state.st_mode), state.st_uid, state.st_gid, _LIST))

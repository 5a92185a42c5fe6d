"""Answers that are remembered: a question that was asked before is answered from memory while no file has changed."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonar.read.sources import Sources

__all__ = ["Kept", "Remembered"]

_SHARE = 8  # one answer takes at most so much of the memory for all: a part in so many
_OVERHEAD = 1 << 10


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, the instant for which it was made, and what it was made from."""

    status: int
    media_type: str
    headers: Mapping[str, str]
    body: bytes
    now: int
    sources: "Sources"

    @property
    def size(self) -> int:
        """How much memory it takes."""
        return len(self.body) + _OVERHEAD


@dataclass(slots=True)
class Remembered:
    """The answers to the latest questions, in so many bytes; those that were asked for longest ago make room."""

    budget: int
    size: int = 0
    hits: int = 0
    _kept: "OrderedDict[Hashable, Kept]" = field(default_factory=OrderedDict)

    @property
    def largest(self) -> int:
        """The largest body that is kept."""
        return self.budget // _SHARE

    def find(self, key: Hashable, now: int) -> Kept | None:
        """Return the answer to a question that was asked before, if it would still be the same."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if (now < kept.now if kept.sources.timeless else now != kept.now) or not kept.sources.are_unchanged():
            self._drop(key)
            return None
        if key in self._kept:  # another thread may have made room meanwhile
            self._kept.move_to_end(key)
        self.hits += 1
        return kept

    def keep(self, key: Hashable, kept: Kept) -> None:
        """Remember an answer."""
        if len(kept.body) > self.largest:
            return
        self._drop(key)
        self._kept[key] = kept
        self.size += kept.size
        while self.size > self.budget:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= kept.size

"""Bounds: the first and last instant at which each host was sampled, whatever the record filter."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sonar.analysis.samples import Samples

if TYPE_CHECKING:
    from sonar.verbs.query import Window

__all__ = ["Bounds", "bounds_of", "inferred_window", "joined"]

Bounds = tuple[int, int]


def bounds_of(samples: Samples, window: "Window | None" = None) -> Bounds | None:
    """Return the earliest and latest instant of one host's samples, within the active limits of a window if given.

    None if there is no sample.
    """
    time = samples["time"]
    if window is not None and window.start_active:
        time = time[time >= window.start]
    if window is not None and window.end_active:
        time = time[time <= window.end]
    return (int(time.min()), int(time.max())) if len(time) else None


def joined(bounds: Iterable[Bounds]) -> Bounds:
    """Return the earliest and the latest of several bounds."""
    starts, ends = zip(*bounds, strict=True)
    return min(starts), max(ends)


def inferred_window(window: "Window", bounds: Iterable[Bounds]) -> Bounds:
    """Return the limits of the window asked for, those that were not given taken from the bounds of all hosts."""
    known = list(bounds)
    start, end = joined(known) if known else (window.start, window.end)
    return window.start if window.start_active else start, window.end if window.end_active else end

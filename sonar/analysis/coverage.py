"""Coverage: how often a host was sampled of the times that it should have been, so that a figure can be judged.

A run of the sampler is an instant at which a host sent anything at all, be it a heartbeat. The interval between runs is
that of the cluster if it is stated, else the median distance of the host's own runs; without either, as with fewer than
three runs, nothing is expected of the host.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.samples import Samples

if TYPE_CHECKING:
    from sonar.verbs.query import Window

__all__ = ["FEWEST", "Coverage", "coverage_of_slots", "coverage_of_spans", "interval_of", "runs_of"]

FEWEST = 3
"""With fewer runs than this an average or a peak says nothing yet."""

# Runs that were seen, and that were expected, of each job or slot.
Coverage = tuple[np.ndarray, np.ndarray]


def runs_of(samples: Samples, window: "Window") -> np.ndarray:
    """Return the distinct instants, ascending, at which one host was sampled within the active limits of a window."""
    runs = np.unique(samples["time"])
    if window.start_active:
        runs = runs[runs >= window.start]
    return runs[runs <= window.end] if window.end_active else runs


def interval_of(runs: np.ndarray) -> int | None:
    """Return the seconds between two runs; None if there are too few to tell."""
    return int(np.median(np.diff(runs))) if len(runs) >= FEWEST else None


def coverage_of_spans(
    runs: Mapping[str, np.ndarray],
    hosts: Sequence[Sequence[str]],
    start: np.ndarray,
    end: np.ndarray,
    interval_s: int | None = None,
) -> Coverage:
    """Return the coverage of spans of time, both ends included, added over the hosts of each."""
    intervals = {host: interval_s or interval_of(of_host) for host, of_host in runs.items()}
    seen, expected = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
    for at, (names, first, last) in enumerate(zip(hosts, start.tolist(), end.tolist(), strict=True)):
        for host in names:
            low, high = np.searchsorted(runs[host], [first, last + 1])
            interval = intervals[host]
            seen[at] += high - low
            expected[at] += max(high - low, round((last - first) / interval) + 1 if interval else 0)
    return seen, expected


def coverage_of_slots(
    runs: Mapping[str, np.ndarray],
    hosts: Sequence[str],
    slots: np.ndarray,
    length_s: int,
    limits: tuple[int, int],
    interval_s: int | None = None,
) -> Coverage:
    """Return the coverage of slots by their starts, of each what lies within the limits, added over some hosts."""
    ends = slots + length_s
    inside = np.clip(np.minimum(ends, limits[1] + 1) - np.maximum(slots, limits[0]), 0, None)
    seen, expected = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
    for host in hosts:
        found = np.searchsorted(runs[host], ends) - np.searchsorted(runs[host], slots)
        interval = interval_s or interval_of(runs[host])
        seen += found
        expected += np.maximum(found, inside // interval if interval else 0)
    return seen, expected

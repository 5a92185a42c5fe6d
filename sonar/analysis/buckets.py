"""Time slots: steps folded into half hours, hours, half days, days or weeks (UTC), and empty slots filled.

A slot's value is the mean over the steps in it: those that are there, not those expected, and not weighted by time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sonar.analysis.merge import Steps, union_of_gpus
from sonar.times import DAY

__all__ = [
    "QUANTITIES",
    "WEEK",
    "Series",
    "filled",
    "folded",
    "series_of",
    "summed",
    "truncated",
]

WEEK = 7 * DAY

# 1970-01-05 was a Monday, the day on which weeks begin.
_FIRST_MONDAY = 4 * DAY

_Instants = TypeVar("_Instants", int, np.ndarray)

QUANTITIES = ("util", "cpu_kib", "rss_kib", "gpu_pct", "gpu_kib")


@dataclass(frozen=True, slots=True)
class Series:
    """The load of one host, or of a group, over time: instants ascending, a column a quantity, sets of cards."""

    time: np.ndarray
    values: dict[str, np.ndarray]
    gpus: np.ndarray

    def __len__(self) -> int:
        return len(self.time)


def series_of(steps: Steps) -> Series:
    """Return the steps of one host as they are."""
    return Series(steps.time, {name: steps[name].astype(float) for name in QUANTITIES}, steps["gpus"])


def truncated(time: _Instants, slot: int) -> _Instants:
    """Return the start of the slot that an instant, or each of an array, lies in."""
    start: _Instants = time - (time - (_FIRST_MONDAY if slot == WEEK else 0)) % slot
    return start


def folded(series: Series, slot: int) -> Series:
    """Return the means of a series over its slots."""
    if len(series) == 0:
        return series
    time = truncated(series.time, slot)
    starts = np.flatnonzero(np.append(True, time[1:] != time[:-1]))
    number = np.diff(np.append(starts, len(time)))
    values = {name: np.add.reduceat(column, starts) / number for name, column in series.values.items()}
    return Series(time[starts], values, union_of_gpus(series.gpus, starts))


def filled(series: Series, start: int, end: int, slot: int) -> Series:
    """Return a folded series with a row of zeros for each slot from that of `start` to that of `end` that lacks one."""
    slots = np.arange(truncated(start, slot), truncated(end, slot) + 1, slot)
    time = np.union1d(slots, series.time)
    place = np.searchsorted(time, series.time)
    values = {}
    for name, column in series.values.items():
        values[name] = np.zeros(len(time))
        values[name][place] = column
    gpus = np.zeros(len(time), np.uint64)
    gpus[place] = series.gpus
    return Series(time, values, gpus)


def summed(parts: Sequence[Series]) -> Series:
    """Return the sum of folded series of several hosts, slot by slot, added in the order given."""
    time = np.concatenate([part.time for part in parts])
    order = np.argsort(time, kind="stable")
    time = time[order]
    starts = np.flatnonzero(np.append(True, time[1:] != time[:-1])) if len(time) else np.zeros(0, int)
    values = {}
    for name in QUANTITIES:
        column = np.concatenate([part.values[name] for part in parts])[order]
        values[name] = np.add.reduceat(column, starts) if len(starts) else column
    gpus = np.concatenate([part.gpus for part in parts])[order]
    return Series(time[starts], values, union_of_gpus(gpus, starts))

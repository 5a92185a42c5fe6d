"""Merging: the streams of a job or a host, sampled at about the same times, become one series of steps.

The rule, for one group of streams: a step begins at the smallest instant T not yet used. It takes from each stream the
next sample if that is earlier than T + 10 s, and from each stream that has ended its last sample, once more, if that is
at most 60 s older than T. A step's values are the sums over what it takes. A stream that goes on, but has no sample
near T, adds nothing.

Here the rule is applied to all groups at once. Instants of a group that are less than 10 s apart form a cluster; no
step spans two clusters. A cluster in which no stream occurs twice and that is shorter than 10 s is one step, and within
one host nearly all are; the others are gone through by the letter.
"""

import math
from dataclasses import dataclass

import numpy as np

from sonar.analysis.samples import Samples
from sonar.gpusets import UNKNOWN

__all__ = ["SUMMED", "TAIL_S", "WINDOW_S", "Steps", "merged", "union_of_gpus"]

WINDOW_S = 10
TAIL_S = 60

SUMMED = (
    "util",
    "cpu_pct",
    "cpu_kib",
    "rss_kib",
    "gpu_pct",
    "gpumem_pct",
    "gpu_kib",
    "cputime_s",
    "threads",
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps sorted by group and time: instants, and the sums by column; `gpus`, `gpufail`, `rolledup` beside them."""

    group: np.ndarray
    time: np.ndarray
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.values[column]


def merged(streams: Samples, group: np.ndarray, *, exact: bool = False) -> Steps:
    """Return the steps of each group. `streams` is sorted by stream and time; `group` is each row's group number.

    All rows of a stream must be of one group. Sums are taken in the order of the streams, so they do not depend on the
    order in which records were read; `exact` ones, rounded once, do not depend on any order: for sums that are printed
    to the last digit.
    """
    if len(streams) == 0:
        nothing = np.zeros(0, np.int64)
        return Steps(nothing, nothing, _sums(streams, nothing, nothing, exact=exact))
    step_time = _step_times(streams["time"], streams["stream"], group)
    row, row_group, time = _with_tails(streams, group, step_time)
    order = np.lexsort((streams["stream"][row], time, row_group))
    row, row_group, time = row[order], row_group[order], time[order]
    new = np.ones(len(row), bool)
    new[1:] = (row_group[1:] != row_group[:-1]) | (time[1:] != time[:-1])
    starts = np.flatnonzero(new)
    return Steps(row_group[starts], time[starts], _sums(streams, row, starts, exact=exact))


def union_of_gpus(masks: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the union of the sets of cards in each run of rows; the unknown set absorbs all others."""
    union = np.bitwise_or.reduceat(masks, starts) if len(starts) else masks[:0]
    known: np.ndarray = np.minimum(union, np.uint64(UNKNOWN))
    return known


def _step_times(time: np.ndarray, stream: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return for each row the instant of the step that takes it as the next sample of its stream."""
    order = np.lexsort((stream, time, group))
    t, s, g = time[order], stream[order], group[order]
    new = np.ones(len(t), bool)
    new[1:] = (g[1:] != g[:-1]) | (t[1:] - t[:-1] >= WINDOW_S)
    starts = np.flatnonzero(new)
    cluster = np.cumsum(new) - 1
    ends = np.append(starts[1:], len(t))
    steps = t[starts][cluster]

    by_stream = np.lexsort((s, cluster))
    twice = (cluster[by_stream][1:] == cluster[by_stream][:-1]) & (s[by_stream][1:] == s[by_stream][:-1])
    complicated = t[ends - 1] - t[starts] >= WINDOW_S
    complicated[cluster[by_stream][1:][twice]] = True
    for number in np.flatnonzero(complicated):
        rows = slice(starts[number], ends[number])
        steps[rows] = _literal_steps(t[rows], s[rows])
    result: np.ndarray = np.empty_like(steps)
    result[order] = steps
    return result


def _literal_steps(time: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Return the step of each row of one cluster, by the rule as it is written; rows are sorted by time, stream."""
    steps = np.empty_like(time)
    left = np.arange(len(time))
    while len(left):
        begin = time[left[0]]
        near = left[time[left] < begin + WINDOW_S]
        _, first = np.unique(stream[near], return_index=True)
        taken = near[first]
        steps[taken] = begin
        left = np.setdiff1d(left, taken, assume_unique=True)
    return steps


def _with_tails(
    streams: Samples, group: np.ndarray, step_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row numbers, groups and step instants of all that steps take: heads, then ended streams once more."""
    time, stream = streams["time"], streams["stream"]
    rows = np.arange(len(time))
    # Groups and instants as one number, so that the steps of a group after an instant can be searched for.
    origin = int(min(time.min(), step_time.min()))
    span = int(time.max()) - origin + TAIL_S + 2
    steps = np.unique(group * span + (step_time - origin))
    is_last = np.ones(len(time), bool)
    is_last[:-1] = stream[1:] != stream[:-1]
    last = np.flatnonzero(is_last)
    place = group[last] * span + (time[last] - origin)
    low = np.searchsorted(steps, place, "right")
    number = np.searchsorted(steps, place + TAIL_S, "right") - low
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    tail_steps = steps[np.repeat(low, number) + within]
    tail_rows = np.repeat(last, number)
    return (
        np.append(rows, tail_rows),
        np.append(group, group[tail_rows]),
        np.append(step_time, tail_steps % span + origin),
    )


def _sums(streams: Samples, row: np.ndarray, starts: np.ndarray, *, exact: bool) -> dict[str, np.ndarray]:
    """Return the values of each step from the rows it takes, `starts` being where the steps begin."""

    def add(values: np.ndarray) -> np.ndarray:
        if len(starts) == 0:
            return values[:0]
        if exact and values.dtype.kind == "f":
            return np.array([math.fsum(of_step) for of_step in np.split(values[row], starts[1:])])
        total: np.ndarray = np.add.reduceat(values[row], starts)
        return total

    failed = streams["gpufail"][row]
    return {name: add(streams[name]) for name in SUMMED if name in streams.columns} | {
        "rolledup": add(streams["rolledup"] + 1) - (1 if len(starts) else 0),
        "gpus": union_of_gpus(streams["gpus"][row], starts),
        "gpufail": np.maximum.reduceat(failed, starts) if len(starts) else failed[:0],
    }

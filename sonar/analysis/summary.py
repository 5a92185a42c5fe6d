"""Summaries: what jobs and load need to know of one host's samples of some days, a hundredth of the size.

Summaries of days that follow each other combine to the same answer, to the last digit, as all samples together. What
a sample adds to a step is settled by its own stream, except for the first samples of a stream in a summary: their
utilization, and whether they count at all, depends on what the stream did before. These are kept one by one (the head
of a stream), and so is what the next summary needs to know of its end. All else is summed: exactly, in whole numbers.

This holds for hosts whose runs of the sampler are more than a minute apart, so that each is one step and no stream
that has ended is counted once more, and whose samples give whole KiB and CPU time; others have no summary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.merge import TAIL_S, union_of_gpus
from sonar.analysis.samples import Samples, dense, ordered_by
from sonar.analysis.streams import is_old_version, neutralized, stream_numbers, utilization

if TYPE_CHECKING:
    from sonar.analysis.select import RecordFilter
    from sonar.verbs.query import Window

__all__ = [
    "CLOSED_STREAM",
    "CONTEXT_DROPPED",
    "CONTEXT_KEPT",
    "HALF_HOUR",
    "HEAD",
    "OUTSIDE",
    "SUMMED",
    "Columns",
    "Summary",
    "exact",
    "floats",
    "joined_columns",
    "normalized",
    "summarized",
    "summary_of_nothing",
]

HALF_HOUR = 1800
FRACTION_BITS = 44
_ONE = 1 << FRACTION_BITS
_LARGEST = float(1 << 40)

# Of a step, or of many: whole parts and fractions (in units of 2**-44) of percentages, and whole numbers.
SUMMED = ("util", "util_part", "gpu_pct", "gpu_pct_part", "cpu_kib", "rss_kib", "gpu_kib", "threads")
PEAKS = ("util", "gpu_pct", "cpu_kib", "rss_kib", "gpu_kib", "threads")

# What a row of `heads` is.
HEAD, CONTEXT_KEPT, CONTEXT_DROPPED, OUTSIDE = range(4)
CLOSED_STREAM, CLOSED_HOST = 1, 2  # flags

Columns = dict[str, np.ndarray]

STREAM_KEY = ("job", "epoch", "user", "cmd", "group", "which")


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of some samples of one host; texts are codes into `words`.

    heads: of each stream its first samples, and the last one kept and the last one of all as context for what follows.
    jobs: of each job the sums and peaks of its steps; steps to which a head may add are rows of their own (n = 0).
    slots: of each half hour the number of the host's steps, and their sums.
    runs: the instants within the window at which the host was sampled; extent: the first and last of all samples.
    """

    heads: Columns
    jobs: Columns
    slots: Columns
    words: dict[str, list[str]]
    runs: np.ndarray
    extent: tuple[int, int]


def summarized(
    samples: Samples, records: "RecordFilter", window: "Window | None", *, jobs: bool = True, slots: bool = True
) -> Summary | None:
    """Return the summary of one host's samples that pass a filter; None if they have none. There is a sample.

    Without a window all count. Without `jobs` or `slots` these are left empty.
    """
    time = samples["time"]
    instants = _distinct(time)
    if np.any(np.diff(instants) <= TAIL_S) or any(map(is_old_version, samples.words["version"])):
        return None
    runs = _within(instants, window)
    extent = (int(instants[0]), int(instants[-1]))
    passing = records.mask(samples)
    if not passing.all():
        samples = samples.take(passing)
    number = stream_numbers(samples)
    order = ordered_by(number, samples["time"])
    stream, time = number[order], samples["time"][order]
    first = np.ones(len(order), bool)
    first[1:] = (stream[1:] != stream[:-1]) | (time[1:] != time[:-1])
    if not first.all():
        order, stream = order[first], stream[first]
    rows = neutralized(samples.take(order).with_columns(stream=stream))
    if not _is_whole(rows):
        return None
    return _summary(rows, window, runs, extent, jobs=jobs, slots=slots)


def summary_of_nothing(samples: Samples) -> Summary:
    """Return the summary of no samples: its columns."""
    rows = samples.with_columns(stream=samples["time"])
    return _summary(rows, None, samples["time"], (0, 0), jobs=True, slots=True)


def exact(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whole parts, and fractions in units of 2**-44."""
    whole = np.floor(values)
    return whole.astype(np.int64), np.rint((values - whole) * _ONE).astype(np.int64)


def normalized(sums: np.ndarray) -> np.ndarray:
    """Return rows of SUMMED with what the fractions hold of wholes carried over, so that many can be added."""
    for part in (1, 3):
        sums[part - 1] += sums[part] >> FRACTION_BITS
        sums[part] &= _ONE - 1
    return sums


def floats(sums: np.ndarray) -> np.ndarray:
    """Return rows of PEAKS from rows of SUMMED, as numbers."""
    values = np.empty((len(PEAKS), sums.shape[1]))
    values[0] = sums[0] + sums[1] / float(_ONE)
    values[1] = sums[2] + sums[3] / float(_ONE)
    values[2:] = sums[4:]
    return values


def joined_columns(parts: Sequence[Columns]) -> Columns:
    """Return the rows of all parts."""
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def sums_of(rows: Columns | Samples, util: np.ndarray, gpu_pct: np.ndarray) -> np.ndarray:
    """Return what samples add to a step: rows of SUMMED."""
    sums = np.empty((len(SUMMED), len(util)), np.int64)
    sums[0], sums[1] = exact(util)
    sums[2], sums[3] = exact(gpu_pct)
    for place, name in enumerate(SUMMED[4:], 4):
        sums[place] = rows[name]
    return sums


def _is_whole(rows: Samples) -> bool:
    """Whether sums of the values are exact in whole numbers."""
    for name in ("cpu_kib", "rss_kib", "gpu_kib", "threads"):
        values = rows[name]
        if np.any(values >= _LARGEST) or not np.array_equal(np.floor(values), values):
            return False
    cpu = rows["cpu_pct"]
    # A counter that jumps by more would do so within less than a second, or be damaged.
    large = (
        np.any(rows["gpu_pct"] >= _LARGEST) or np.any(cpu >= _LARGEST) or np.any(rows["cputime_s"] >= _LARGEST / 100)
    )
    return not large


def _distinct(time: np.ndarray) -> np.ndarray:
    """Return the instants that occur, ascending."""
    origin = int(time.min()) if len(time) else 0
    span = int(time.max()) - origin + 1 if len(time) else 0
    if span > 100 * len(time) + (1 << 20):
        return np.unique(time)
    there = np.zeros(span, bool)
    there[time - origin] = True
    return np.flatnonzero(there) + origin


def _within(time: np.ndarray, window: "Window | None") -> np.ndarray:
    if window is None:
        return time
    if window.start_active:
        time = time[time >= window.start]
    return time[time <= window.end] if window.end_active else time


def _summary(
    rows: Samples,
    window: "Window | None",
    runs: np.ndarray,
    extent: tuple[int, int],
    *,
    jobs: bool,
    slots: bool,
) -> Summary:
    size = len(rows)
    stream, time, used = rows["stream"], rows["time"], rows["cputime_s"]
    inside = np.ones(size, bool)
    if window is not None and window.start_active:
        inside &= time >= window.start
    if window is not None and window.end_active:
        inside &= time <= window.end
    index = np.arange(size)
    first = np.ones(size, bool)
    first[1:] = stream[1:] != stream[:-1]
    starts = np.flatnonzero(first)
    length = np.diff(np.append(starts, size))
    util, kept = utilization(first, time, used, rows["cpu_pct"])
    rising = np.zeros(size, bool)
    rising[1:] = ~first[1:] & (used[1:] >= used[:-1])
    ends = starts + length - 1
    last_head = np.minimum.reduceat(np.where(rising, index, np.repeat(ends, length)), starts) if size else starts
    head = index <= np.repeat(last_head, length)
    good = kept & (util >= 0)
    closed = ~head & good & inside
    candidate = closed | (head & inside)

    # The end of each stream, as context.
    last_kept = np.maximum.reduceat(np.where(kept, index, -1), starts) if size else starts
    is_context = np.zeros(size, bool)
    is_context[last_kept[last_kept > last_head]] = True
    is_context[ends[ends > last_head]] = True
    kind = np.where(head, np.where(inside, HEAD, OUTSIDE), np.where(kept, CONTEXT_KEPT, CONTEXT_DROPPED)).astype(
        np.int8
    )

    flags = np.zeros(size, np.int8)
    has_closed = np.maximum.reduceat(closed, starts) if size else starts.astype(bool)
    flags[starts[has_closed]] = CLOSED_STREAM
    closed_instants = _distinct(time[closed])
    if len(closed_instants):
        at = np.minimum(np.searchsorted(closed_instants, time), len(closed_instants) - 1)
        flags[closed_instants[at] == time] |= CLOSED_HOST

    in_heads = head | is_context
    group = (rows["rolledup"] > 0) | (rows["pid"] == 0)
    keyed = rows.with_columns(group=group.astype(np.int8), which=np.where(group, rows["ppid"], rows["pid"]))
    chosen = np.flatnonzero(in_heads)
    heads: Columns = {name: keyed[name][chosen] for name in (*STREAM_KEY, "time", "cputime_s", "cpu_pct", "gpu_pct")}
    heads |= {name: rows[name][chosen].astype(np.int64) for name in SUMMED[4:]}
    heads |= {"gpus": rows["gpus"][chosen], "gpufail": rows["gpufail"][chosen].astype(np.int8)}
    heads |= {"kind": kind[chosen], "flags": flags[chosen]}

    sums = sums_of(rows, np.where(closed, util, 0.0), np.where(closed, rows["gpu_pct"], 0.0))
    sums[4:] *= closed
    return Summary(
        heads,
        _jobs(keyed, candidate & jobs, closed & jobs, head & jobs, sums),
        _slots(rows, closed & slots, closed_instants, sums),
        {name: rows.words[name] for name in ("user", "cmd")},
        runs,
        extent,
    )


def _jobs(keyed: Samples, candidate: np.ndarray, closed: np.ndarray, head: np.ndarray, sums: np.ndarray) -> Columns:
    """Return a row for each job, and one for each step to which a head may add, where closed samples add to it, too."""
    alone = keyed["job"] == 0
    new = np.ones(len(keyed), bool)
    for name in ("job", "epoch"):
        new[1:] &= keyed[name][1:] == keyed[name][:-1]
    new[1:] = ~new[1:] | (alone[1:] & (keyed["stream"][1:] != keyed["stream"][:-1]))
    group = np.cumsum(new) - 1  # rows are sorted by job, then epoch
    chosen = np.flatnonzero(candidate)
    if len(chosen):
        since = keyed["time"][chosen] - int(keyed["time"].min())
        chosen = chosen[np.argsort(group[chosen] * (int(since.max()) + 1) + since, kind="stable")]
    order = chosen
    g, t = group[order], keyed["time"][order]
    step = np.ones(len(order), bool)
    step[1:] = (g[1:] != g[:-1]) | (t[1:] != t[:-1])
    starts = np.flatnonzero(step)
    if len(starts) == 0:
        starts = np.zeros(0, np.int64)
        step_sums = np.zeros((len(SUMMED), 0), np.int64)
        is_open = has_closed = np.zeros(0, bool)
        gpus, failed = np.zeros(0, np.uint64), np.zeros(0, np.int8)
    else:
        is_closed = closed[order]
        step_sums = normalized(np.add.reduceat(sums[:, order], starts, axis=1))
        is_open = np.maximum.reduceat(head[order], starts)
        has_closed = np.maximum.reduceat(is_closed, starts)
        gpus = np.bitwise_or.reduceat(np.where(is_closed, keyed["gpus"][order], np.uint64(0)), starts)
        failed = np.maximum.reduceat(keyed["gpufail"][order].astype(np.int8) * is_closed, starts)
    step_group, step_time = g[starts], t[starts]
    open_steps = np.flatnonzero(is_open & has_closed)
    closed_steps = np.flatnonzero(~is_open)
    peaks = floats(step_sums)
    of_group = step_group[closed_steps]
    runs = np.flatnonzero(np.append(True, of_group[1:] != of_group[:-1])) if len(of_group) else np.zeros(0, np.int64)
    last = np.append(runs[1:], len(of_group)) - 1
    parts: list[Columns] = []
    if len(runs):
        parts.append(
            {
                "row": np.searchsorted(group, of_group[runs]),
                "first": step_time[closed_steps][runs],
                "last": step_time[closed_steps][last],
                "n": last - runs + 1,
                "sums": normalized(np.add.reduceat(step_sums[:, closed_steps], runs, axis=1)),
                "peaks": np.maximum.reduceat(peaks[:, closed_steps], runs, axis=1),
                "gpus": union_of_gpus(gpus[closed_steps], runs),
                "gpufail": np.maximum.reduceat(failed[closed_steps], runs),
            }
        )
    parts.append(
        {
            "row": np.searchsorted(group, step_group[open_steps]),
            "first": step_time[open_steps],
            "last": step_time[open_steps],
            "n": np.zeros(len(open_steps), np.int64),
            "sums": step_sums[:, open_steps],
            "peaks": peaks[:, open_steps],
            "gpus": gpus[open_steps],
            "gpufail": failed[open_steps],
        }
    )
    jobs = joined_columns(parts)
    row = jobs.pop("row")
    key = {"job": keyed["job"][row], "epoch": keyed["epoch"][row]}
    of_stream = key["job"] == 0
    key |= {name: np.where(of_stream, keyed[name][row], 0).astype(np.int64) for name in STREAM_KEY[2:]}
    return key | jobs


def _slots(rows: Samples, closed: np.ndarray, instants: np.ndarray, sums: np.ndarray) -> Columns:
    """Return a row for each half hour in which the host has steps with closed samples."""
    at = np.flatnonzero(closed)
    slot = rows["time"][at] // HALF_HOUR
    if len(at) == 0:
        empty = np.zeros(0, np.int64)
        none = np.zeros((len(SUMMED), 0), np.int64)
        return {"slot": empty, "n": empty, "sums": none, "gpus": empty.astype(np.uint64)}
    relative = slot - slot.min()
    order = np.argsort(relative.astype(np.int16) if relative.max() < 1 << 15 else relative, kind="stable")
    at, slot = at[order], slot[order]
    starts = np.flatnonzero(np.append(True, slot[1:] != slot[:-1]))
    steps = np.unique(instants // HALF_HOUR, return_counts=True)[1]
    return {
        "slot": slot[starts],
        "n": steps,
        "sums": normalized(np.add.reduceat(sums[:, at], starts, axis=1)),
        "gpus": union_of_gpus(rows["gpus"][at], starts),
    }


def stream_number(heads: Columns) -> np.ndarray:
    """Return the number of each row's stream; `host` tells hosts apart."""
    return dense(heads["host"], *(heads[name] for name in STREAM_KEY))

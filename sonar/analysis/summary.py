"""Summaries: what jobs and load need to know of some hosts' samples of some days, a hundredth of the size.

Summaries of days that follow each other combine to the same answer, to the last digit, as all samples together. What
a sample adds to a step is settled by its own stream, except for the first samples of a stream in a summary: their
utilization, and whether they count at all, depends on what the stream did before. These are kept one by one (the head
of a stream), and so is what the next summary needs to know of its end. All else is summed: exactly, in whole numbers.

The second sample depends on the days before only if the first turns out not to count, since the counter was higher
before. Of single processes that is so rare that a brief summary has one row for each, of the first sample, with what
is needed of the last one; where it is so, a full summary has to be asked for.

A job of which all samples are in one summary needs none of this: a row has what it comes to. Details are kept for jobs
that were there at the first or last run, since these are likely to go on; those of others can be had as well.

This holds for hosts whose runs of the sampler are more than a minute apart, so that each is one step and no stream
that has ended is counted once more, and whose samples give whole KiB and CPU time; others have no summary.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from sonar.analysis.exact import SUMMED, Columns, added, normalized, ranges
from sonar.analysis.rows import HostRows, rows_of_hosts
from sonar.analysis.samples import Samples, dense
from sonar.gpusets import UNKNOWN

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.select import RecordFilter
    from sonar.verbs.query import Window

__all__ = [
    "BRIEF",
    "CLOSED_HOST",
    "CLOSED_STREAM",
    "CONTEXT_DROPPED",
    "CONTEXT_KEPT",
    "HALF_HOUR",
    "HEAD",
    "OUTSIDE",
    "STREAM_KEY",
    "Details",
    "Summaries",
    "heads_of",
    "stream_number",
    "summarized",
    "summary_of",
]

HALF_HOUR = 1800

# Kinds of rows of heads. A context is the last sample kept of a stream, or its last of all, if that is not a head.
HEAD, OUTSIDE, CONTEXT_KEPT, CONTEXT_DROPPED = range(4)
CLOSED_STREAM, CLOSED_HOST, BRIEF = 1, 2, 4  # flags; of a brief row the second sample is no head

STREAM_KEY = ("job", "epoch", "user", "cmd", "group", "which")


@dataclass(frozen=True, slots=True)
class Summaries:
    """What is kept of some samples of some hosts; `host`, `user` and `cmd` are codes into `hosts` and `words`.

    jobs: of each job, and of each stream without one, what it comes to if there are no other samples of it: `users`
    and `cmds` are codes into `sets` (see wordsets); `detailed` says whether there are details; `whole` whether the row
    can do without.
    others: the details of the other jobs, where they were wanted apart.
    heads: first samples of streams, and the last one kept and the last one of all as context for what follows; a row
    that is brief has that context itself: `until` and `used`, instant and counter of the last sample.
    parts: of each job the sums and peaks of its other steps; steps to which a head may add are rows of their own (n 0).
    slots: of each half hour the number of the host's steps, and their sums.
    runs: of each host the instants within the window at which it was sampled; extents: its first and last of all.
    """

    hosts: list[str]
    words: dict[str, list[str]]
    sets: "dict[str, pa.Array[Any]]"
    jobs: Columns
    heads: Columns
    parts: Columns
    slots: Columns
    runs: dict[str, np.ndarray]
    extents: dict[str, tuple[int, int]]
    others: tuple[Columns, Columns] | None = None


class Details(Enum):
    """Of which jobs a summary has details."""

    EDGES = "those that were there at the first or the last run, or of which some stream does not count"
    APART = "of all, but of those first, and then of the others"
    ALL = "all"
    LACKING = "those of which some stream does not count: enough if nothing comes before or after"


def summarized(
    samples: Samples,
    records: "RecordFilter",
    window: "Window | None",
    *,
    jobs: bool,
    details: Details = Details.EDGES,
    brief: bool = False,
) -> Summaries | None:
    """Return the summary of some hosts' samples that pass a filter; None if they have none. There is a sample.

    Without a window all count. It is about jobs, with details of some or all, or about load.
    """
    rows = rows_of_hosts(samples, records, window)
    return None if rows is None else summary_of(rows, window, jobs=jobs, details=details, brief=brief)


def summary_of(
    rows: HostRows,
    window: "Window | None",
    *,
    jobs: bool,
    details: Details = Details.EDGES,
    brief: bool = False,
) -> Summaries:
    """Return the summary of rows of some hosts, which were made for the same window."""
    if brief:
        rows = rows.in_brief()
    samples = rows.samples
    hosts = samples.words["host"]
    runs, extents = {}, {}
    for code, host in enumerate(hosts):
        of_host = rows.runs.time[rows.runs.bounds[code] : rows.runs.bounds[code + 1]]
        if len(of_host):
            extents[host] = int(of_host[0]), int(of_host[-1])
            runs[host] = _within(of_host, window)
    words = {name: samples.words[name] for name in ("user", "cmd")}
    sets: dict[str, pa.Array[Any]] = {}
    if jobs:
        from sonar.analysis.daily import details_apart, details_of, jobs_of_rows

        found, steps = jobs_of_rows(rows, sets)
        if details is Details.APART:
            (heads, parts), others = details_apart(rows, steps, found, found["detailed"])
            return Summaries(hosts, words, sets, found, heads, parts, {}, runs, extents, others)
        if details is Details.ALL:
            found["detailed"][:] = True
        elif details is Details.LACKING:
            found["detailed"] = ~found["whole"]
        is_needed = details is not Details.LACKING or found["detailed"].any()
        heads, parts = details_of(rows, steps, found, found["detailed"]) if is_needed else ({}, {})
        return Summaries(hosts, words, sets, found, heads, parts, {}, runs, extents)
    heads, slots = _load(rows)
    return Summaries(hosts, words, sets, {}, heads, {}, slots, runs, extents)


def heads_of(rows: HostRows, streams: np.ndarray) -> Columns:
    """Return the heads of some streams and the context that follows them."""
    starts, ends = rows.starts[streams], (rows.starts + rows.length - 1)[streams]
    last_head, last_kept = rows.last_head[streams], rows.last_kept[streams]
    head = ranges(starts, last_head - starts + 1)
    later_kept, later_end = last_kept > last_head, (ends > last_head) & (ends != last_kept)
    if rows.brief is not None:
        later_kept &= ~rows.brief[streams]
    chosen = np.concatenate([head, last_kept[later_kept], ends[later_end]])
    kind = np.where(rows.within(head), HEAD, OUTSIDE)
    contexts = np.repeat([CONTEXT_KEPT, CONTEXT_DROPPED], [int(later_kept.sum()), int(later_end.sum())])
    flags = np.zeros(len(chosen), np.int8)
    first = np.cumsum(last_head - starts + 1) - (last_head - starts + 1)
    flags[first] = (_number_good(rows, streams, last_head) > 0) * CLOSED_STREAM
    last = chosen.copy()
    if rows.brief is not None:
        is_brief = rows.brief[streams]
        last[first[is_brief]] = ends[is_brief]
        flags[first] |= (is_brief * BRIEF).astype(np.int8)
    stream = np.concatenate([np.repeat(streams, last_head - starts + 1), streams[later_kept], streams[later_end]])
    found: Columns = {name: rows.streams[name][stream] for name in ("host", "job", "epoch", "user", "cmd")}
    found["time"] = rows["time"][chosen]
    found |= {"group": rows.streams["group"][stream].astype(np.int8), "which": rows.streams["which"][stream]}
    found |= {name: rows[name][chosen].astype(float) for name in ("cputime_s", "cpu_pct", "gpu_pct")}
    found |= {name: rows[name][chosen].astype(np.int64) for name in SUMMED[4:]}
    found |= {"until": rows["time"][last], "used": rows["cputime_s"][last].astype(float)}
    found |= {"gpus": rows["gpus"][chosen], "gpufail": rows["gpufail"][chosen].astype(np.int8)}
    return found | {"kind": np.concatenate([kind, contexts]).astype(np.int8), "flags": flags, "row": chosen}


def _number_good(rows: HostRows, streams: np.ndarray, last_head: np.ndarray) -> np.ndarray:
    """Return how many samples of some streams count that are not heads."""
    ends = rows.starts[streams] + rows.length[streams] - 1
    if rows.good is None:
        rest: np.ndarray = ends - last_head
        return rest
    sums = np.append(0, np.cumsum(rows.good))
    number: np.ndarray = sums[ends + 1] - sums[last_head + 1]
    return number


def _within(time: np.ndarray, window: "Window | None") -> np.ndarray:
    if window is None:
        return time
    if window.start_active:
        time = time[time >= window.start]
    return time[time <= window.end] if window.end_active else time


def _load(rows: HostRows) -> tuple[Columns, Columns]:
    """Return the heads of all streams, and a row for each half hour in which a host has steps with closed samples."""
    heads = heads_of(rows, np.arange(len(rows.starts)))
    row = heads.pop("row")
    head = row[heads["kind"] <= OUTSIDE]
    counting = head[rows.counting(head)]
    runs = len(rows.runs.time)
    number = np.bincount(rows.run if rows.good is None else rows.run[rows.good], minlength=runs)
    most = int(number.max()) if runs else 0
    number -= np.bincount(rows.run[counting], minlength=runs)
    heads["flags"] |= ((number > 0)[rows.run[row]] * CLOSED_HOST).astype(np.int8)
    sums = np.zeros((len(SUMMED), runs), np.int64)
    for place, values in enumerate(rows.summands().values()):
        if values is not None:
            sums[place] = added(rows.run, values, runs, most)
            sums[place] -= added(rows.run[counting], values[counting], runs, most).astype(np.int64)
    of_host = np.repeat(np.arange(len(rows.runs.bounds) - 1), np.diff(rows.runs.bounds))
    slot = rows.runs.time // HALF_HOUR
    starts = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (of_host[1:] != of_host[:-1]))[:runs])
    slots: Columns = {"host": of_host[starts], "slot": slot[starts]}
    slots["n"] = np.add.reduceat((number > 0).astype(np.int64), starts) if runs else number
    slots["sums"] = normalized(np.add.reduceat(sums, starts, axis=1)) if runs else sums
    gpus = np.zeros(len(starts), np.uint64)
    if rows["gpus"].any():
        cards = rows["gpus"].copy() if rows.good is None else rows["gpus"] * rows.good
        cards[head] = 0
        at = np.flatnonzero(cards)
        np.bitwise_or.at(gpus, np.searchsorted(starts, rows.run[at], "right") - 1, cards[at])
    slots["gpus"] = np.minimum(gpus, np.uint64(UNKNOWN))
    there = slots["n"] > 0
    return heads, {name: values[..., there] for name, values in slots.items()}


def stream_number(heads: Columns) -> np.ndarray:
    """Return the number of each row's stream; `host` tells hosts apart."""
    return dense(heads["host"], *(heads[name] for name in STREAM_KEY))

"""The rows of some hosts' samples as summaries need them: by host, stream and time, with utilization and runs.

A run of the sampler is an instant at which a host was sampled. Whatever is asked, runs are those of all samples.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.exact import SUMMED, exact
from sonar.analysis.merge import TAIL_S
from sonar.analysis.samples import Samples, Streams, dense, ordered_by
from sonar.analysis.streams import is_old_version, utilization

if TYPE_CHECKING:
    from sonar.analysis.select import RecordFilter
    from sonar.verbs.query import Window

__all__ = ["KEYS", "HostRows", "Runs", "are_in_order", "rows_of_hosts", "streams_of"]

_LARGEST = float(1 << 40)
_NEUTRALIZED = ("cpu_kib", "rss_kib", "gpu_pct", "gpu_kib", "cputime_s")
_VALUES = ("time", "cpu_pct", "gpus", "gpufail", "threads", *_NEUTRALIZED)
KEYS = ("host", "job", "epoch", "user", "cmd", "pid", "ppid", "rolledup")
"""The columns that tell streams apart."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of some hosts, by host and time; those of host number h are from `bounds[h]` on."""

    time: np.ndarray
    bounds: np.ndarray


@dataclass(frozen=True, slots=True)
class HostRows:
    """Samples that pass a filter, by host, stream and time, each instant of a stream once.

    starts, length: where the rows of streams are; head: up to where what a sample adds depends on the stream's past
    (row numbers, of each stream the last one); good: whether a sample counts, None if all do; run: the number of the
    run of each row; brief: of which streams there is one head, though they have more samples that might be.
    """

    samples: Samples
    streams: Streams
    starts: np.ndarray
    length: np.ndarray
    last_head: np.ndarray
    last_kept: np.ndarray
    util: np.ndarray
    kept: np.ndarray | None
    inside: np.ndarray | None
    good: np.ndarray | None
    run: np.ndarray
    runs: Runs
    brief: np.ndarray | None = None

    def in_brief(self) -> "HostRows":
        """Return the same with one head a stream where that is known to do if the head counts."""
        ends = self.starts + self.length - 1
        is_brief = ~self.streams["group"] & (self.last_head <= self.starts + 1) & (self.last_kept == ends)
        return replace(self, last_head=np.where(is_brief, self.starts, self.last_head), brief=is_brief)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.samples.columns[column]

    def __len__(self) -> int:
        return len(self.util)

    def counting(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some rows count."""
        return np.ones(len(rows), bool) if self.good is None else self.good[rows]

    def within(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some rows are within the window."""
        return np.ones(len(rows), bool) if self.inside is None else self.inside[rows]

    def summands(self) -> dict[str, np.ndarray | None]:
        """Return what rows add to sums, by name of SUMMED: None where that is nothing."""
        values: dict[str, np.ndarray | None] = dict.fromkeys(SUMMED)
        util = self.util if self.good is None else np.where(self.good, self.util, 0.0)
        values["util"], values["util_part"] = exact(util)
        for name in ("gpu_pct", *SUMMED[4:]):
            of_rows = self[name]
            if of_rows.any():
                values[name] = of_rows if self.good is None else np.where(self.good, of_rows, of_rows.dtype.type(0))
        share = values["gpu_pct"]
        if share is not None and share.dtype.kind == "f":
            values["gpu_pct"], part = exact(share)
            values["gpu_pct_part"] = part if part.any() else None
        return values


def rows_of_hosts(samples: Samples, records: "RecordFilter", window: "Window | None") -> HostRows | None:
    """Return the rows of some hosts' samples; None if those of a host cannot be summarized. There is a sample.

    That is so if runs are not more than a minute apart, so that more than one step would have them, or values are
    not whole.
    """
    if any(map(is_old_version, samples.words.get("version", ()))):
        return None
    origin = int(samples["time"].min())
    span = int(samples["time"].max()) - origin + 1
    hosts = len(samples.words["host"])
    place = samples["time"] - origin
    streams = samples.streams
    if hosts > 1:
        place += samples["host"] * span if streams is None else np.repeat(streams["host"] * span, streams.length)
    number, at = _numbered(place, hosts * span)
    of_host, time = np.divmod(at, span)
    time += origin
    if np.any((np.diff(time) <= TAIL_S) & (of_host[1:] == of_host[:-1])):
        return None
    runs = Runs(time, np.searchsorted(of_host, np.arange(hosts + 1)))
    used = _VALUES if streams else (*KEYS, *_VALUES)
    samples = Samples({name: samples.columns[name] for name in used} | {"place": place}, samples.words)
    if streams is None:
        passing = records.mask(samples)
        samples, streams = _by_stream(samples if passing.all() else samples.take(np.flatnonzero(passing)))
    else:
        passing = records.mask(Samples(streams.keys, samples.words))
        if not passing.all():
            samples = samples.take(np.flatnonzero(np.repeat(passing, streams.length)))
            streams = streams.take(passing)
    if len(samples) == 0:
        return _rows(samples, streams, number, runs, None)
    samples = _neutralized(samples)
    return _rows(samples, streams, number, runs, window) if _is_whole(samples) else None


def _by_stream(samples: Samples) -> tuple[Samples, Streams]:
    """Return samples sorted by host, stream and time, each instant of a stream once, and their streams."""
    streams = streams_of(samples)
    if are_in_order(streams, samples["time"]):
        return samples, streams
    numbers = np.repeat(dense(*streams.keys.values()), streams.length)
    order = ordered_by(numbers, samples["time"])  # stable: of equal instants the first read stays first
    numbers, time = numbers[order], samples["time"][order]
    new = np.ones(len(order), bool)
    new[1:] = (numbers[1:] != numbers[:-1]) | (time[1:] != time[:-1])
    samples = samples.take(order[new])
    return samples, streams_of(samples)


def are_in_order(streams: Streams, time: np.ndarray) -> bool:
    """Whether rows are sorted by stream and time, each instant of a stream once."""
    numbers = dense(*streams.keys.values())
    later = time[1:] > time[:-1]
    later[streams.starts[1:] - 1] = True
    return bool(later.all()) and not np.any(numbers[1:] <= numbers[:-1])


def _numbered(place: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of the number of each place, as far as it occurs, and the places that occur, ascending."""
    if size > 100 * len(place) + (1 << 20):
        at = np.unique(place)
        return at, at
    there = np.zeros(size, bool)
    there[place] = True
    at = np.flatnonzero(there)
    number = np.empty(size, np.int32)  # of what does not occur whatever memory has
    number[at] = np.arange(len(at))
    return number, at


def streams_of(samples: Samples) -> Streams:
    """Return the runs of rows whose key is the same."""
    group = (samples["rolledup"] > 0) | (samples["pid"] == 0)
    which = np.where(group, samples["ppid"], samples["pid"]) if group.any() else samples["pid"]
    keys = {name: samples[name] for name in KEYS[:5]} | {"group": group, "which": which}
    new = np.zeros(len(samples), bool)
    new[:1] = True
    for key in keys.values():
        if key.strides != (0,):
            new[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(new)
    return Streams({name: key[starts] for name, key in keys.items()}, np.diff(np.append(starts, len(samples))))


def _neutralized(samples: Samples) -> Samples:
    """Return rows in which what is no measurement counts as 0."""
    bad = {}
    for name in _NEUTRALIZED:
        values = samples[name]
        if not values.min() >= 0:  # also if there is a NaN
            bad[name] = np.where(values >= 0, values, values.dtype.type(0))
    return samples.with_columns(**bad) if bad else samples


def _is_whole(samples: Samples) -> bool:
    """Whether sums of the values are exact in whole numbers."""
    for name in ("cpu_kib", "rss_kib", "gpu_kib", "threads"):
        values = samples[name]
        if values.max() >= _LARGEST:
            return False
        if values.dtype.kind == "f" and not np.array_equal(np.floor(values), values):
            return False
    # A counter that jumps by more would do so within less than a second, or be damaged.
    large = np.any(samples["cpu_pct"] >= _LARGEST) or samples["gpu_pct"].max() >= _LARGEST
    return not (large or samples["cputime_s"].max() >= _LARGEST / 100)


def _rows(
    samples: Samples,
    streams: Streams,
    number: np.ndarray,
    runs: Runs,
    window: "Window | None",
) -> HostRows:
    size = len(samples)
    starts, length = streams.starts, streams.length
    time, used, place = samples["time"], samples["cputime_s"], samples["place"]
    run = number[place] if len(number) != len(runs.time) else np.searchsorted(number, place)
    inside = None
    if window is not None:
        inside = np.ones(size, bool)
        if window.start_active:
            inside &= time >= window.start
        if window.end_active:
            inside &= time <= window.end
        if inside.all():
            inside = None
    ends = starts + length - 1
    elapsed, added = np.ones(size, np.int64), np.zeros(size, used.dtype)
    if size:
        np.subtract(time[1:], time[:-1], out=elapsed[1:])
        np.subtract(used[1:], used[:-1], out=added[1:])
    elapsed[starts], added[starts] = 1, 0
    cpu_pct = samples["cpu_pct"]
    if size == 0 or added.min() >= 0:
        kept = None
        util = added / elapsed
        util *= 100
        util[starts] = cpu_pct[starts]
        last_head, last_kept = np.minimum(starts + 1, ends), ends
    else:
        first = np.zeros(size, bool)
        first[starts] = True
        util, kept = utilization(first, time, used, cpu_pct)
        rising = added >= 0
        rising[starts] = False
        index = np.arange(size)
        last_head = np.minimum.reduceat(np.where(rising, index, np.repeat(ends, length)), starts)
        last_kept = np.maximum.reduceat(np.where(kept, index, -1), starts)
    good = util >= 0
    if kept is not None:
        good &= kept
    if inside is not None:
        good &= inside
    return HostRows(
        samples, streams, starts, length, last_head, last_kept, util, kept, inside, None if good.all() else good, run,
        runs,
    )  # fmt: skip

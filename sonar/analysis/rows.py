"""The rows of some hosts' samples as summaries need them: by host, stream and time, with utilization and runs.

A run of the sampler is an instant at which a host was sampled. Whatever is asked, runs are those of all samples.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.exact import SUMMED, exact
from sonar.analysis.merge import TAIL_S
from sonar.analysis.samples import Samples, dense, ordered_by
from sonar.analysis.streams import is_old_version, utilization

if TYPE_CHECKING:
    from sonar.analysis.select import RecordFilter
    from sonar.verbs.query import Window

__all__ = ["HostRows", "Runs", "rows_of_hosts"]

_LARGEST = float(1 << 40)
_NEUTRALIZED = ("cpu_kib", "rss_kib", "gpu_pct", "gpu_kib", "cputime_s")
_USED = (
    "time", "host", "job", "epoch", "user", "cmd", "pid", "ppid", "rolledup", "cpu_pct", "gpus", "gpufail", "threads",
    *_NEUTRALIZED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of some hosts, by host and time; those of host number h are from `bounds[h]` on."""

    time: np.ndarray
    bounds: np.ndarray


@dataclass(frozen=True, slots=True)
class HostRows:
    """Samples that pass a filter, by host, stream and time, each instant of a stream once.

    first, starts, length: where streams begin; head: up to where what a sample adds depends on the stream's past
    (row numbers, of each stream the last one); good: whether a sample counts, None if all do; run: the number of the
    run of each row.
    """

    samples: Samples
    starts: np.ndarray
    length: np.ndarray
    last_head: np.ndarray
    last_kept: np.ndarray
    util: np.ndarray
    kept: np.ndarray | None
    inside: np.ndarray | None
    good: np.ndarray | None
    group: np.ndarray  # of streams: whether they are groups of processes
    which: np.ndarray
    run: np.ndarray
    runs: Runs

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
    if hosts > 1:
        place += samples["host"] * span
    number, at = _numbered(place, hosts * span)
    of_host, time = np.divmod(at, span)
    time += origin
    if np.any((np.diff(time) <= TAIL_S) & (of_host[1:] == of_host[:-1])):
        return None
    runs = Runs(time, np.searchsorted(of_host, np.arange(hosts + 1)))
    samples = Samples({name: samples.columns[name] for name in _USED} | {"place": place}, samples.words)
    passing = records.mask(samples)
    if not passing.all():
        samples = samples.take(np.flatnonzero(passing))
    group, which, starts = _streams(samples)
    if len(samples) == 0:
        return _rows(samples, (group, which, starts), number, runs, None)
    keys = [samples[name][starts] for name in ("host", "job", "epoch", "user", "cmd")]
    numbers = dense(*keys, group[starts], which[starts])
    time = samples["time"]
    later = time[1:] > time[:-1]
    later[starts[1:] - 1] = True
    if np.any(numbers[1:] <= numbers[:-1]) or not later.all():
        length = np.diff(np.append(starts, len(samples)))
        numbers = np.repeat(numbers, length)
        order = ordered_by(numbers, time)  # stable: of equal instants the first read stays first
        numbers, time = numbers[order], time[order]
        new = np.ones(len(order), bool)
        new[1:] = (numbers[1:] != numbers[:-1]) | (time[1:] != time[:-1])
        order, numbers = order[new], numbers[new]
        samples = samples.take(order)
        group, which, starts = _streams(samples)
    samples = _neutralized(samples)
    return _rows(samples, (group, which, starts), number, runs, window) if _is_whole(samples) else None


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


def _streams(samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what else tells streams apart, and where the key changes."""
    group = (samples["rolledup"] > 0) | (samples["pid"] == 0)
    which = np.where(group, samples["ppid"], samples["pid"]) if group.any() else samples["pid"]
    new = np.zeros(len(samples), bool)
    new[:1] = True
    new[1:] = which[1:] != which[:-1]
    for key in (*(samples[name] for name in ("host", "job", "epoch", "user", "cmd")), group):
        if key.strides != (0,):
            new[1:] |= key[1:] != key[:-1]
    return group, which, np.flatnonzero(new)


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
    streams: tuple[np.ndarray, np.ndarray, np.ndarray],
    number: np.ndarray,
    runs: Runs,
    window: "Window | None",
) -> HostRows:
    group, which, starts = streams
    size = len(samples)
    length = np.diff(np.append(starts, size))
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
        samples, starts, length, last_head, last_kept, util, kept, inside, None if good.all() else good, group, which,
        run, runs,
    )  # fmt: skip

"""Streams: the samples of one process, or of one group of rolled-up processes, over time; cleaned, with utilization.

A stream is all samples with the same host, job, epoch, user, command and either process number or, where there is none,
parent. Of two samples at the same instant the first read counts. A sample's utilization is the CPU time used since the
stream's previous sample; the first sample of a stream has the mean since the process began.
"""

import re
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.samples import Samples, dense, ordered_by

if TYPE_CHECKING:
    from sonar.analysis.select import RecordFilter
    from sonar.config.nodes import NodeTable
    from sonar.verbs.query import Window

__all__ = [
    "GROWING",
    "KIB_PER_GB",
    "STREAM_COLUMNS",
    "clean_streams",
    "is_old_version",
    "neutralized",
    "selected",
    "stream_numbers",
    "utilization",
    "with_growth",
]

KIB_PER_GB = 1 << 20

# Where these are not a number, or negative, they count as 0: one bad value must not spoil the sums of a job.
_NEUTRALIZED = ("cpu_kib", "rss_kib", "gpu_pct", "gpumem_pct", "gpu_kib", "cputime_s")

# What streams and their sums are made of. GPU memory by percentage is needed where nodes say so.
STREAM_COLUMNS = (
    "time", "version", "host", "user", "job", "epoch", "pid", "ppid", "cmd", "cpu_pct", "cpu_kib", "rss_kib", "gpus",
    "gpu_pct", "gpu_kib", "gpufail", "cputime_s", "rolledup", "threads",
)  # fmt: skip

# Counters since the process began, of which `with_growth` gives what was added between samples.
GROWING = ("read_kib", "written_kib", "cputime_s")

_OLD_VERSION = re.compile(r"0\.([0-6])(?:\D|\Z)")


def clean_streams(samples: Samples, nodes: "NodeTable | None" = None) -> Samples:
    """Return the samples sorted by stream and time, with columns `stream` (dense number) and `util` (% of a core).

    Samples without a usable utilization are dropped: where the CPU time fell. `nodes` says for which hosts GPU memory
    is known as a share of the cards only.
    """
    number = stream_numbers(samples)
    order = ordered_by(number, samples["time"])  # stable: of equal instants the first read stays first
    stream, time = number[order], samples["time"][order]
    first = np.ones(len(order), bool)
    first[1:] = (stream[1:] != stream[:-1]) | (time[1:] != time[:-1])
    if not first.all():
        order, stream = order[first], stream[first]
    rows = _with_utilization(neutralized(samples.take(order).with_columns(stream=stream)))
    return _with_gpu_memory(rows, nodes) if nodes else rows


def stream_numbers(samples: Samples) -> np.ndarray:
    """Return the number of each sample's stream, counted in sorted order."""
    group = (samples["rolledup"] > 0) | (samples["pid"] == 0)
    which = np.where(group, samples["ppid"], samples["pid"])
    keys = [samples[name] for name in ("host", "job", "epoch", "user", "cmd")]
    return dense(*keys, group, which)


def with_growth(streams: Samples) -> Samples:
    """Add `NAME_added` for each counter: what a sample of one host's cleaned streams adds to it, never negative.

    The first sample of a stream adds all that it has, since the process began after the host's sample before; but not
    if it is of the first instant of all, for what the process did before that is not known.
    """
    if len(streams) == 0:
        return streams.with_columns(**{f"{name}_added": np.zeros(0) for name in GROWING})
    first = np.ones(len(streams), bool)
    first[1:] = streams["stream"][1:] != streams["stream"][:-1]
    from_before = first & (streams["time"] == streams["time"].min())
    added = {}
    for name in GROWING:
        values = _neutral(streams[name])
        before = np.where(first, np.where(from_before, values, 0.0), np.append(0.0, values[:-1]))
        added[f"{name}_added"] = np.maximum(values - before, 0.0)
    return streams.with_columns(**added)


def selected(streams: Samples, records: "RecordFilter", window: "Window") -> Samples:
    """Return the samples of cleaned streams that a question is about: by the record filter and the active limits."""
    keep = records.mask(streams)
    if window.start_active:
        keep &= streams["time"] >= window.start
    if window.end_active:
        keep &= streams["time"] <= window.end
    return streams.take(keep)


def _neutral(values: np.ndarray) -> np.ndarray:
    return np.where(values >= 0, values, 0.0)


def neutralized(rows: Samples) -> Samples:
    """Return rows in which what is no measurement counts as 0."""
    return rows.with_columns(**{name: _neutral(rows[name]) for name in _NEUTRALIZED if name in rows.columns})


def is_old_version(version: str) -> bool:
    """Whether a sampler is so old that it may not have sent CPU time."""
    return bool(_OLD_VERSION.match(version))


def utilization(
    first: np.ndarray, time: np.ndarray, used: np.ndarray, cpu_pct: np.ndarray, forced: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the utilization of samples in percent of a core, and which are kept.

    Rows are sorted by stream and time; `first` says where streams begin, `used` is CPU time in seconds. A sample whose
    CPU time lies below its predecessor's is dropped. The next one is measured against the last sample kept if it has
    reached that again (a glitch), else against the dropped one (the counter began anew). `forced` is for rows between
    which others are left out: 1 is kept, 0 is not, -1 is to be found out.
    """
    index = np.arange(len(time))
    kept = np.ones(len(time), bool)
    kept[1:] = first[1:] | (used[1:] >= used[:-1])
    if forced is not None:
        kept = np.where(forced < 0, kept, forced == 1)
    last_kept = np.maximum.accumulate(np.where(kept | first, index, 0)) if len(index) else index
    before = np.maximum(index - 1, 0)
    bridged = ~kept[before] & (used >= used[last_kept[before]])
    base = np.where(bridged, last_kept[before], before)
    elapsed = np.where(first, 1, time - time[base])
    return np.where(first, cpu_pct, (used - used[base]) / elapsed * 100), kept


def _with_utilization(rows: Samples) -> Samples:
    """Add `util` and drop the samples at which it is negative or not a number."""
    if len(rows) == 0:
        return rows.with_columns(util=np.zeros(0))
    first = np.ones(len(rows), bool)
    first[1:] = rows["stream"][1:] != rows["stream"][:-1]
    util, kept = utilization(first, rows["time"], rows["cputime_s"], rows["cpu_pct"])
    without_counter = _streams_without_counter(rows, first)
    util = np.where(without_counter, rows["cpu_pct"], util)
    return rows.with_columns(util=util).take((kept | without_counter) & (util >= 0))


def _streams_without_counter(rows: Samples, first: np.ndarray) -> np.ndarray:
    """Return the rows of streams from samplers up to 0.6 that sent no CPU time: their utilization is their own mean."""
    old_word = np.array([is_old_version(word) for word in rows.words["version"]], bool)
    old: np.ndarray = old_word[rows["version"]]
    if not old.any():
        return old
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(rows)))
    unused = np.maximum.reduceat(rows["cputime_s"], starts) == 0
    of_stream: np.ndarray = old[starts] & unused
    return np.repeat(of_stream, lengths)


def _with_gpu_memory(rows: Samples, nodes: "NodeTable") -> Samples:
    """Convert between the two readings of GPU memory where the host's cards are known, from the preferred one."""
    known = [nodes.get(host) for host in rows.words["host"]]
    card_kib = np.array(
        [node.gpumem_gb / node.gpu_cards * KIB_PER_GB if node and node.gpu_cards else 0.0 for node in known]
    )[rows["host"]]
    by_percent = np.array([bool(node and node.gpumem_pct) for node in known], bool)[rows["host"]]
    has_cards = card_kib > 0
    gpu_kib = np.where(has_cards & by_percent, rows["gpumem_pct"] / 100 * card_kib, rows["gpu_kib"])
    with np.errstate(over="ignore"):  # a bad record may say anything
        share = rows["gpu_kib"] / np.where(has_cards, card_kib, 1) * 100
    gpumem_pct = np.where(has_cards & ~by_percent, share, rows["gpumem_pct"])
    return rows.with_columns(gpu_kib=gpu_kib, gpumem_pct=gpumem_pct)

"""The rules of streams, utilization and merging as they are written, record by record: slow, and easy to check."""

import math
from dataclasses import dataclass, field
from typing import Any

Sample = dict[str, Any]


@dataclass
class Cleaned:
    """One stream: its key and what is left of its samples, each with `util`."""

    key: tuple[Any, ...]
    samples: list[Sample] = field(default_factory=list)


def clean(samples: list[Sample]) -> list[Cleaned]:
    """Sort samples into streams, drop duplicates, and give each its utilization."""
    streams: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        grouped = sample["rolledup"] > 0 or sample["pid"] == 0
        which = sample["ppid"] if grouped else sample["pid"]
        names = tuple(sample[name].encode() for name in ("user", "cmd"))
        epoch = -1 if sample["epoch"] is None else sample["epoch"]
        key = (sample["host"].encode(), sample["job"], epoch, *names, grouped, which)
        streams.setdefault(key, []).append(sample)
    return [Cleaned(key, _with_utilization(streams[key])) for key in sorted(streams)]


def _with_utilization(samples: list[Sample]) -> list[Sample]:
    by_time: dict[int, Sample] = {}
    for sample in samples:
        by_time.setdefault(sample["time"], sample)
    kept: list[Sample] = []
    base = dropped = None
    for time in sorted(by_time):
        sample = by_time[time]
        if base is None:
            base = sample
            if sample["cpu_pct"] >= 0:
                kept.append(sample | {"util": sample["cpu_pct"]})
            continue
        against = base
        if sample["cputime_s"] < base["cputime_s"]:
            if dropped is None or sample["cputime_s"] < dropped["cputime_s"]:
                dropped = sample
                continue
            against = dropped
        used = (sample["cputime_s"] - against["cputime_s"]) / (time - against["time"]) * 100
        base, dropped = sample, None
        kept.append(sample | {"util": used})
    return kept


def merge(streams: list[list[Sample]]) -> list[tuple[int, list[Sample]]]:
    """Return the steps of one group of streams: the instant, and the samples it takes, in the order of the streams."""
    cursors = [0] * len(streams)
    steps = []
    while any(cursor < len(stream) for cursor, stream in zip(cursors, streams, strict=True)):
        heads = [stream[c]["time"] for c, stream in zip(cursors, streams, strict=True) if c < len(stream)]
        begin = min(heads)
        taken = []
        for number, stream in enumerate(streams):
            if cursors[number] < len(stream):
                if stream[cursors[number]]["time"] < begin + 10:
                    taken.append(stream[cursors[number]])
                    cursors[number] += 1
            elif stream and begin - 60 <= stream[-1]["time"] < begin:
                taken.append(stream[-1])
        steps.append((begin, taken))
    return steps


def close(left: float, right: float) -> bool:
    """Whether two sums of the same numbers are equal, but for the order of adding."""
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)

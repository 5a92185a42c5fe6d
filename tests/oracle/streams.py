"""Samples become streams, and streams steps, by the letter of the rules. Sums are of fractions: no order matters."""

from collections import defaultdict
from fractions import Fraction
from math import isnan
from typing import Any

from tests.oracle import texts
from tests.oracle.question import GB, Asked, passes
from tests.oracle.records import Sample

Stream = list[Sample]


def streams(log: Asked, nodes: Any = None) -> list[tuple[Any, Stream]]:
    """Return the cleaned streams, each with its key, in the order of the keys, and only the samples asked for."""
    by_key: dict[Any, dict[int, Sample]] = defaultdict(dict)
    for sample in log.samples:
        by_key[key_of(sample)].setdefault(sample["time"], sample)
    cleaned = {
        key: with_utilization([neutral(by_key[key][time]) for time in sorted(by_key[key])]) for key in sorted(by_key)
    }
    first: dict[str, int] = {}  # instant of each host that has samples
    for stream in cleaned.values():
        for sample in stream:
            first[sample["host"]] = min(first.get(sample["host"], sample["time"]), sample["time"])
    found = []
    for key, stream in cleaned.items():
        told = [sample | {"added": added} for sample, added in zip(stream, growth(stream, first), strict=True)]
        if nodes:
            told = [with_gpu_memory(sample, nodes.get(sample["host"])) for sample in told]
        if kept := [sample for sample in told if passes(sample, log)]:
            found.append((key, kept))
    return found


def growth(stream: Stream, first: dict[str, int]) -> list[dict[str, float]]:
    """Return what each sample adds to the counters of its process: all of the first, if that began after the host."""
    found, before = [], None
    for sample in stream:
        counters = {name: max(sample[name], 0.0) for name in ("read_kib", "written_kib", "cputime_s")}
        base = counters if sample["time"] == first[sample["host"]] else dict.fromkeys(counters, 0.0)
        found.append({name: max(value - (before or base)[name], 0.0) for name, value in counters.items()})
        before = counters
    return found


def key_of(sample: Sample) -> Any:
    group = sample["rolledup"] > 0 or sample["pid"] == 0
    return (
        sample["host"].encode(),
        sample["job"],
        -1 if sample["epoch"] is None else sample["epoch"],
        sample["user"].encode(),
        sample["cmd"].encode(),
        group,
        sample["ppid"] if group else sample["pid"],
    )


def neutral(sample: Sample) -> Sample:
    """Replace measurements that are negative or no number by 0, except the mean of the CPU."""
    names = ("cpu_kib", "rss_kib", "gpu_pct", "gpumem_pct", "gpu_kib", "cputime_s")
    return sample | {name: sample[name] if sample[name] >= 0 else 0.0 for name in names}


def with_utilization(stream: Stream) -> Stream:
    old = stream[0]["version"].startswith(("0.0.", "0.1.", "0.2.", "0.3.", "0.4.", "0.5.", "0.6."))
    if old and not any(sample["cputime_s"] for sample in stream):
        return [sample | utilization(sample["cpu_pct"]) for sample in stream if sample["cpu_pct"] >= 0]
    kept: Stream = []
    base = stream[0]
    before_was_dropped: Sample | None = None  # the sample just before, if its CPU time had fallen
    if base["cpu_pct"] >= 0:
        kept.append(base | utilization(base["cpu_pct"]))
    for sample in stream[1:]:
        against = base
        if sample["cputime_s"] < base["cputime_s"]:
            if before_was_dropped is None or sample["cputime_s"] < before_was_dropped["cputime_s"]:
                before_was_dropped = sample
                continue
            against = before_was_dropped
        used, elapsed = sample["cputime_s"] - against["cputime_s"], sample["time"] - against["time"]
        exact = (Fraction(sample["cputime_s"]) - Fraction(against["cputime_s"])) / elapsed * 100
        kept.append(sample | {"util": exact, "util_printed": used / elapsed * 100})
        base, before_was_dropped = sample, None
    return kept


def utilization(percent: float) -> Sample:
    return {"util": Fraction(percent), "util_printed": percent}


def with_gpu_memory(sample: Sample, node: Any) -> Sample:
    if node is None or not node.get("gpu_cards") or not node.get("gpumem_gb"):
        return sample
    card = Fraction(node["gpumem_gb"], node["gpu_cards"]) * GB
    if node.get("gpumem_pct"):
        return sample | {"gpu_kib": Fraction(sample["gpumem_pct"]) / 100 * card}
    return sample | {"gpumem_pct": Fraction(sample["gpu_kib"]) / card * 100}


SUMS = ("util", "cpu_kib", "rss_kib", "gpu_pct", "gpumem_pct", "gpu_kib", "cputime_s", "threads")


def merged(group: list[Stream]) -> list[Sample]:
    """Return the steps of some streams, by the letter."""
    cursors = [0] * len(group)
    steps = []
    while any(at < len(stream) for at, stream in zip(cursors, group, strict=True)):
        begin = min(stream[at]["time"] for at, stream in zip(cursors, group, strict=True) if at < len(stream))
        taken = []
        for number, stream in enumerate(group):
            if cursors[number] < len(stream):
                if stream[cursors[number]]["time"] < begin + 10:
                    taken.append(stream[cursors[number]])
                    cursors[number] += 1
            elif begin - 60 <= stream[-1]["time"] < begin:
                taken.append(stream[-1])
        steps.append(summed(begin, taken))
    return steps


def summed(time: int, taken: list[Sample]) -> Sample:
    means = [sample["cpu_pct"] for sample in taken]
    return {
        "time": time,
        **{name: sum(Fraction(sample[name]) for sample in taken) for name in SUMS},
        "util_printed": sum(Fraction(sample["util_printed"]) for sample in taken),
        "cpu_pct": float("nan") if any(map(isnan, means)) else sum(map(Fraction, means)),
        "gpus": texts.union([sample["gpus"] for sample in taken]),
        "gpufail": max(sample["gpufail"] for sample in taken),
        "rolledup": sum(sample["rolledup"] + 1 for sample in taken) - 1,
    }


def mean(values: list[Any]) -> Any:
    return sum(map(Fraction, values)) / len(values)


def distinct(found: list[Stream], name: str) -> list[str]:
    return sorted({sample[name] for stream in found for sample in stream})

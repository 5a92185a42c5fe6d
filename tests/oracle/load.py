"""The load of hosts, sample by sample: the verb load."""

from collections import defaultdict
from fractions import Fraction
from typing import Any

from tests.oracle import coverage, nodes, texts
from tests.oracle.question import DAY, GB, Asked
from tests.oracle.records import Sample
from tests.oracle.streams import Stream, mean, merged, streams

NODE = {"cpu_cores": 0, "mem_gb": 0, "gpu_cards": 0, "gpumem_gb": 0, "gpumem_pct": False, "description": "Unknown"}
RELATIVE = {"rcpu", "rmem", "rres", "rgpu", "rgpumem"}


def capacities(log: Asked) -> Any:
    """Return what nodes have: from the file, else as they told; only where the question needs to know that."""
    if log.tree and log.wants(RELATIVE | {"json"}):
        return nodes.capacities(log) | (log.question.nodes or {}) or None
    return log.question.nodes


def load(log: Asked) -> Any:
    question, all_nodes = log.question, capacities(log)
    lengths = {"half-hourly": 1800, "daily": DAY, "half-daily": DAY // 2, "weekly": 7 * DAY, "none": 0}
    slot = next((lengths[name] for name in lengths if question.has(name)), 3600)
    by_host: dict[str, list[Stream]] = defaultdict(list)
    for _key, stream in streams(log, all_nodes):
        by_host[stream[0]["host"]].append(stream)
    series: dict[tuple[str, ...], list[Sample]] = {(host,): merged(by_host[host]) for host in sorted(by_host)}
    if slot:
        series = {hosts: folded(steps, slot) for hosts, steps in series.items()}
    if question.has("group") and series:
        together: dict[int, list[Any]] = defaultdict(list)
        for steps in series.values():
            for step in steps:
                together[step["time"]].append(step)
        everything = tuple(host for hosts in series for host in hosts)
        series = {everything: [added(time, together[time]) for time in sorted(together)]}
    if slot and not question.has("last") and not question.has("compact"):
        series = {hosts: filled(steps, *log.window, slot) for hosts, steps in series.items()}
    blocks, runs = [], coverage.runs_of(log)
    limits = (log.window[0], min(log.window[1], question.now))
    for hosts, steps in series.items():
        known = [all_nodes[host] for host in hosts if host in all_nodes] if all_nodes else []
        node = NODE | ({name: sum(n.get(name, 0) for n in known) for name in NODE if name != "description"})
        if known:
            node["description"] = "|||".join(n.get("description", "") for n in known)
        rows = [
            load_row(step, hosts, node, question.now) | coverage.of_slot(runs, hosts, step["time"], slot or 1, limits)
            for step in steps
        ]
        blocks.append((texts.hosts(hosts), rows[-1:] if question.has("last") else rows))
    return [row for _, rows in blocks for row in rows], blocks


def truncated(time: int, slot: int) -> int:
    monday = 4 * DAY if slot == 7 * DAY else 0
    return time - (time - monday) % slot


LOADS = ("util", "cpu_kib", "rss_kib", "gpu_pct", "gpu_kib")


def folded(steps: list[Sample], slot: int) -> list[Sample]:
    by_slot: dict[int, list[Sample]] = defaultdict(list)
    for step in steps:
        by_slot[truncated(step["time"], slot)].append(step)
    return [
        {name: mean([step[name] for step in by_slot[time]]) for name in LOADS}
        | {"time": time, "gpus": texts.union([step["gpus"] for step in by_slot[time]])}
        for time in sorted(by_slot)
    ]


def added(time: int, steps: list[Sample]) -> Sample:
    return {name: sum(step[name] for step in steps) for name in LOADS} | {
        "time": time,
        "gpus": texts.union([step["gpus"] for step in steps]),
    }


def filled(steps: list[Sample], start: int, end: int, slot: int) -> list[Sample]:
    by_time = {step["time"]: step for step in steps}
    for time in range(truncated(start, slot), truncated(end, slot) + 1, slot):
        by_time.setdefault(time, dict.fromkeys(LOADS, Fraction(0)) | {"time": time, "gpus": frozenset()})
    return [by_time[time] for time in sorted(by_time)]


def load_row(step: Sample, hosts: tuple[str, ...], node: Any, now: int) -> Any:
    values = {"cpu": step["util"], "gpu": step["gpu_pct"]}
    values |= {name: Fraction(step[column]) / GB for name, column in
               (("mem", "cpu_kib"), ("res", "rss_kib"), ("gpumem", "gpu_kib"))}  # fmt: skip
    row = {name: texts.cut(value) for name, value in values.items()}
    for name, capacity, scale in (
        ("cpu", "cpu_cores", 1), ("mem", "mem_gb", 100), ("res", "mem_gb", 100), ("gpu", "gpu_cards", 1),
        ("gpumem", "gpumem_gb", 100),
    ):  # fmt: skip
        row[f"r{name}"] = texts.nearest(values[name] * scale / node[capacity] if node[capacity] else 0)
    day, clock = texts.minute(step["time"]).split(" ")
    row |= {"date": day, "time": clock, "datetime": f"{day} {clock}", "gpus": texts.gpus(step["gpus"])}
    return row | {"host": texts.hosts(hosts), "now": texts.minute(now), "_node": node}

"""Samples as they are, and when they begin and end: the verbs parse and metadata."""

from collections import defaultdict
from fractions import Fraction
from math import isnan
from typing import Any

from tests.oracle import texts
from tests.oracle.jobs import grouped
from tests.oracle.question import GB, Asked, passes
from tests.oracle.records import Sample
from tests.oracle.streams import Stream, distinct, merged, streams
from tests.oracle.texts import Row


def parse(log: Asked) -> Any:
    question, samples = log.question, log.samples
    if not any(map(question.has, ("clean", "merge-by-job", "merge-by-host-and-job"))):
        rows = [sample | {"util": 0} for sample in samples if passes(sample, log)]
        return [parse_row(row) for row in rows], None
    found = streams(log)
    blocks: list[Any] = []
    if question.has("clean"):
        groups = [[stream] for _, stream in found]
    else:
        groups = grouped_for_parse(found, over_hosts=question.has("merge-by-job"))
    for group in groups:
        if question.has("clean") or group[0][0]["job"] == 0:
            blocks.append([{"names": group[0][0], **sample} for sample in group[0]])
            continue
        hosts, users, commands = (distinct(group, name) for name in ("host", "user", "cmd"))
        facts = {"version": "0.0.0", "host": texts.hosts(hosts), "cores": 0, "user": ",".join(users), "pid": 0}
        facts |= {"job": group[0][0]["job"], "cmd": ",".join(commands)}
        blocks.append([step | facts for step in merged(group)])
    newest = int(question.one("last", "0"))
    blocks.sort(key=lambda rows: tuple(rows[0][name] for name in ("host", "time", "job", "cmd", "pid")))
    return [], [("", [parse_row(row) for row in rows[-newest:]]) for rows in blocks]


def grouped_for_parse(found: list[tuple[Any, Stream]], *, over_hosts: bool) -> list[list[Stream]]:
    """Return the streams by job number and, unless over hosts, host; those without a number each alone."""
    groups: dict[Any, list[Stream]] = defaultdict(list)
    for key, stream in found:
        groups[key if key[1] == 0 else (b"" if over_hosts else key[0], key[1])].append(stream)
    return list(groups.values())


def parse_row(sample: Sample) -> Row:
    row = {name: str(sample[name]) for name in ("version", "host", "cores", "user", "job", "pid", "cmd", "rolledup")}
    row |= {"v": sample["version"], "localtime": texts.minute(sample["time"]), "time": texts.iso(sample["time"])}
    for name, column in (("cpu_pct", "cpu_pct"), ("gpu_pct", "gpu_pct"), ("gpumem_pct", "gpumem_pct"),
                         ("cputime_sec", "cputime_s")):  # fmt: skip
        row[name] = texts.number(float(sample[column]))
    row["cpu_util_pct"] = texts.number(float(sample.get("util_printed") or sample["util"]))
    row["threads"] = str(int(sample["threads"]))
    # Of a process only: nobody adds these up.
    sampled, inside = sample.get("cpu_sampled_pct"), sample.get("in_container")
    row["cpu_util_sampled"] = "" if sampled is None else texts.number(sampled)
    row["contained"] = "" if inside is None else "yes" if inside else "no"
    for name in ("read", "written", "cancelled"):
        row[name] = "" if f"{name}_kib" not in sample else texts.nearest(sample[f"{name}_kib"])
    row |= {"ppid": str(sample.get("ppid", 0)), "epoch": texts.whole(sample.get("epoch"))}
    row |= {"cpu%": row["cpu_pct"], "gpu%": row["gpu_pct"], "gpumem%": row["gpumem_pct"]}
    for gb, kib, column in (("mem_gb", "cpukib", "cpu_kib"), ("res_gb", "rssanonkib", "rss_kib"),
                            ("gpumem_gb", "gpukib", "gpu_kib")):  # fmt: skip
        value = sample[column]
        broken = isinstance(value, float) and isnan(value)
        row[gb] = "NaN" if broken else texts.nearest(Fraction(value) / GB)
        row[kib] = "NaN" if broken else texts.nearest(value)
    row |= {"gpus": texts.gpus(sample["gpus"]), "gpu_status": str(sample["gpufail"]), "gpufail": str(sample["gpufail"])}
    return row


def metadata(log: Asked) -> Any:
    bounds: dict[str, tuple[int, int]] = {}
    for sample in log.samples:
        low, high = bounds.get(sample["host"], (sample["time"],) * 2)
        bounds[sample["host"]] = (min(low, sample["time"]), max(high, sample["time"]))
    if log.question.has("merge-by-job"):
        of_sets = {}
        for group in grouped(streams(log), log.question):
            hosts = distinct(group, "host")
            earliest = min(bounds[host][0] for host in hosts)
            of_sets[texts.hosts(hosts)] = (min(earliest, log.question.now), max(bounds[host][1] for host in hosts))
        bounds = of_sets
    return [
        {"host": host, "earliest": texts.minute(bounds[host][0]), "latest": texts.minute(bounds[host][1])}
        for host in sorted(bounds)
    ], None

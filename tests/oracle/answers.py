"""The six verbs, sample by sample, straight from the rules of sonalyze(1): slow, exact, and easy to check.

Sums and means are of fractions, so no order of adding and no rounding can matter; nothing here uses the program's code.
`answer` is the one entry: `Files` and options as they would be typed in, the text of standard output out.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import isnan
from typing import Any

from tests.oracle import texts
from tests.oracle.records import Sample, samples_of
from tests.oracle.texts import Row

DAY = 86400
GB = 1 << 20
FIELDS = {
    "jobs": "jobm,user,duration,host,cpu-avg,cpu-peak,mem-avg,mem-peak,gpu-avg,gpu-peak,gpumem-avg,gpumem-peak,cmd",
    "load": "date,time,cpu,mem,gpu,gpumem",
    "uptime": "device,host,state,start,end",
    "profile": "time,cpu,mem,gpu,gpumem,nproc,cmd",
    "parse": "job,user,cmd",
    "metadata": "host,earliest,latest",
}
NODE = {"cpu_cores": 0, "mem_gb": 0, "gpu_cards": 0, "gpumem_gb": 0, "gpumem_pct": False, "description": "Unknown"}
Options = dict[str, list[str]]
Stream = list[Sample]


@dataclass(frozen=True)
class Question:
    """What is asked: options by their long names, whose account asks, when, and what the nodes have."""

    options: Options
    account: str = "ann"
    now: int = 0
    nodes: dict[str, dict[str, Any]] | None = None

    def has(self, name: str) -> bool:
        return name in self.options

    def one(self, name: str, default: Any = None) -> Any:
        return self.options[name][0] if name in self.options else default

    def all(self, name: str) -> list[str]:
        return self.options.get(name, [])


def answer(verb: str, question: Question, files: list[tuple[str, bytes]], *, tree: bool = False) -> str:
    """Return what the program prints. Of a tree, names are the paths below its root."""
    start, end, samples = read(question, files, tree=tree)
    rows, blocks = {
        "jobs": jobs, "load": load, "uptime": uptime, "profile": profile, "parse": parse, "metadata": metadata
    }[verb](question, samples, start, end)  # fmt: skip
    words = question.one("fmt", FIELDS[verb]).split(",")
    fields = [word for word in words if word not in {"csv", "csvnamed", "json", "awk", "fixed", "header"}]
    default = "csv" if verb in ("parse", "metadata") else "fixed"
    style = next((style for style in ("csvnamed", "csv", "json", "awk", "fixed") if style in words), default)
    if verb == "profile" and not question.has("fmt") and not any(row["nproc"] for row in rows):
        fields.remove("nproc")
    if verb == "profile" and style == "json":
        return profile_json(rows)
    if verb == "profile" and style == "csv":
        return profile_csv(rows, fields[0])
    if blocks is None:
        return texts.table(rows, fields, style, header="header" in words)
    text = ""
    for title, of_block in blocks:
        part = texts.table(of_block, fields, style, header="header" in words)
        if verb == "parse":
            text += part + "\n" if style == "json" else "*\n" + part
        elif style == "json":
            node = of_block[0]["_node"]
            facts = json.dumps(
                {"hostname": title, "description": node["description"], "gpucards": str(node["gpu_cards"])},
                separators=(",", ":"),
            )
            text += ("," if text else "") + f'{{"system":{facts},"records":{part}}}'
        else:
            text += (f"HOST: {title}\n" if style in ("fixed", "awk") and "host" not in fields else "") + part
    return f"[{text}]" if verb == "load" and style == "json" else text


# ---- which samples -------------------------------------------------------------------------------------------------


def read(question: Question, files: list[tuple[str, bytes]], *, tree: bool) -> tuple[Any, Any, list[Sample]]:
    """Return the limits that select, None for one that does not, and the samples that are read, in order."""
    start = limit(question.one("from"), question.now, end=False)
    end = limit(question.one("to"), question.now, end=True)
    if tree:
        start, end = question.now - DAY if start is None else start, question.now if end is None else end
    names = sorted(files) if tree else files
    by_envelope: set[tuple[str, int]] = set()
    samples: list[Sample] = []
    for is_json in (True, False):
        for name, content in names:
            if tree and not of_days(name, start, end):
                continue
            of_json, found = samples_of(name, content, tree=tree)
            if of_json != is_json:
                continue
            found = [sample for sample in found if is_json or (sample["host"], sample["time"]) not in by_envelope]
            if is_json:
                by_envelope |= {(sample["host"], sample["time"]) for sample in found}
            samples += found
    if tree:
        samples = [sample for sample in samples if start // DAY <= sample["time"] // DAY <= end // DAY]
    if question.has("host"):
        samples = [sample for sample in samples if any(matches(sample["host"], p) for p in question.all("host"))]
    return start, end, samples


def of_days(name: str, start: int, end: int) -> bool:
    day = date(*map(int, name.split("/")[:3]))
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (start, end))
    return first - timedelta(days=1) <= day <= last + timedelta(days=1)


def limit(text: str | None, now: int, *, end: bool) -> Any:
    if text is None:
        return None
    if text[-1] in "dw":
        return now - int(text[:-1]) * DAY * (7 if text[-1] == "w" else 1)
    midnight = int(datetime(*map(int, text.split("-")), tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]
    return midnight + DAY - 1 if end else midnight


def matches(host: str, pattern: str) -> bool:
    """Whether a host matches a pattern of elements, each of which may end in `*`."""
    elements, parts = pattern.split("."), host.split(".")
    return len(elements) <= len(parts) and all(
        part.startswith(element[:-1]) if element.endswith("*") else part == element
        for element, part in zip(elements, parts, strict=False)
    )


def passes(sample: Sample, verb: str, question: Question, start: Any, end: Any) -> bool:
    users, excluded = set(question.all("user")), set(question.all("exclude-user"))
    commands, no_commands = question.all("command"), set(question.all("exclude-command"))
    only_own = verb in ("jobs", "profile") and not any(map(question.has, ("user", "job", "exclude-user", "zombie")))
    if only_own:
        users = {question.account}
    if verb in ("jobs", "profile") and question.has("job"):
        excluded |= {"root", "zabbix"}
    if verb in ("jobs", "load"):
        no_commands |= {"bash", "zsh", "sshd", "tmux", "systemd"}
    if verb in ("jobs", "profile"):
        no_commands |= {"_heartbeat_"}
    return (
        (not users or "-" in users or sample["user"] in users)
        and sample["user"] not in excluded
        and (not commands or sample["cmd"] in commands)
        and sample["cmd"] not in no_commands
        and (not question.has("job") or str(sample["job"]) in question.all("job"))
        and str(sample["job"]) not in question.all("exclude-job")
        and (start is None or sample["time"] >= start)
        and (end is None or sample["time"] <= end)
    )


# ---- streams and steps ---------------------------------------------------------------------------------------------


def streams(
    samples: list[Sample], verb: str, question: Question, start: Any, end: Any, nodes: Any = None
) -> list[tuple[Any, Stream]]:
    """Return the cleaned streams, each with its key, in the order of the keys, and only the samples asked for."""
    by_key: dict[Any, dict[int, Sample]] = defaultdict(dict)
    for sample in samples:
        by_key[key_of(sample)].setdefault(sample["time"], sample)
    found = []
    for key in sorted(by_key):
        stream = with_utilization([neutral(by_key[key][time]) for time in sorted(by_key[key])])
        if nodes:
            stream = [with_gpu_memory(sample, nodes.get(sample["host"])) for sample in stream]
        if kept := [sample for sample in stream if passes(sample, verb, question, start, end)]:
            found.append((key, kept))
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
        "cpu_pct": float("nan") if any(map(isnan, means)) else sum(map(Fraction, means)),
        "gpus": texts.union([sample["gpus"] for sample in taken]),
        "gpufail": max(sample["gpufail"] for sample in taken),
        "rolledup": sum(sample["rolledup"] + 1 for sample in taken) - 1,
    }


def mean(values: list[Any]) -> Any:
    return sum(map(Fraction, values)) / len(values)


def distinct(found: list[Stream], name: str) -> list[str]:
    return sorted({sample[name] for stream in found for sample in stream})


def bounds_of(samples: list[Sample]) -> dict[str, tuple[int, int]]:
    times = defaultdict(list)
    for sample in samples:
        times[sample["host"]].append(sample["time"])
    return {host: (min(of_host), max(of_host)) for host, of_host in times.items()}


# ---- jobs ----------------------------------------------------------------------------------------------------------


def grouped(found: list[tuple[Any, Stream]], *, over_hosts: bool) -> list[list[Stream]]:
    """Return the streams of each job: those of one host first, then those of jobs that may be on several hosts."""
    own: dict[Any, list[Stream]] = defaultdict(list)
    shared: dict[Any, list[Stream]] = defaultdict(list)
    for key, stream in found:
        host, job, epoch, *_ = key
        if job == 0:
            own[(*key[:1], job, epoch, key)].append(stream)
        elif over_hosts or epoch == 0:
            shared[job].append(stream)
        else:
            own[host, job, epoch, ()].append(stream)
    return [own[key] for key in sorted(own)] + [shared[job] for job in sorted(shared)]


def jobs(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    within = [s for s in samples if (start is None or s["time"] >= start) and (end is None or s["time"] <= end)]
    bounds = bounds_of(within)
    found = streams(samples, "jobs", question, start, end, question.nodes)
    rows = []
    for group in grouped(found, over_hosts=question.has("batch")):
        row = job_row(question, group, bounds)
        if job_passes(question, row):
            rows.append(row)
    rows.sort(key=lambda row: (row["_start"], int(row["job"]), row["_hosts"]))
    number = int(question.one("numjobs", "0"))
    kept: list[Row] = []
    for row in reversed(rows):
        if not number or sum(other["user"] == row["user"] for other in kept) < number:
            kept.append(row)
    return kept[::-1], None


def job_row(question: Question, group: list[Stream], bounds: dict[str, tuple[int, int]]) -> Any:
    steps = merged(group)
    hosts, users, commands = (distinct(group, name) for name in ("host", "user", "cmd"))
    first, last = steps[0]["time"], steps[-1]["time"]
    live_at_start = first == min(bounds[host][0] for host in hosts)
    live_at_end = last == max(bounds[host][1] for host in hosts)
    job = str(group[0][0]["job"])
    minutes = (last - first + 30) // 60 * 60
    style = question.one("fmt", "")
    short = not any(word in style.split(",") for word in ("csv", "csvnamed", "json"))
    cards = texts.union([step["gpus"] for step in steps])
    row: dict[str, Any] = {
        "job": job,
        "jobm": job + {(1, 1): "!", (1, 0): "<", (0, 1): ">", (0, 0): ""}[live_at_start, live_at_end],
        "user": ",".join(users),
        "duration": texts.duration(last - first),
        "duration/sec": str(minutes),
        "start": texts.minute(first),
        "start/sec": str(first),
        "end": texts.minute(last),
        "end/sec": str(last),
        "host": texts.hosts([host.split(".")[0] for host in hosts] if short else hosts),
        "cmd": ",".join(commands),
        "gpus": texts.gpus(cards),
        "gpufail": str(max(step["gpufail"] for step in steps)),
        "classification": hex(2 * live_at_start + live_at_end),
        "now": texts.minute(question.now),
        "_start": first,
        "_hosts": hosts,
        "_samples": len(steps),
        "_duration": last - first,
        "_gpu": cards != frozenset(),
        "_live": live_at_end,
        "_zombie": any("<defunct>" in c for c in commands) or any(u.startswith("_zombie_") for u in users),
    }
    nodes = [question.nodes[host] for host in hosts if host in question.nodes] if question.nodes else []
    for name, column, unit, capacity in (
        ("cpu", "util", 1, "cpu_cores"),
        ("mem", "cpu_kib", GB, "mem_gb"),
        ("res", "rss_kib", GB, "mem_gb"),
        ("gpu", "gpu_pct", 1, "gpu_cards"),
        ("gpumem", "gpu_kib", GB, "gpumem_gb"),
        ("thread", "threads", 1, ""),
    ):
        values = [Fraction(step[column]) / unit for step in steps]
        for which, value in (("avg", mean(values)), ("peak", max([*values, Fraction(0)]))):
            row[f"{name}-{which}"] = texts.up(value)
            available = sum(node.get(capacity, 0) for node in nodes)
            row[f"r{name}-{which}"] = texts.up(value * (100 if unit == GB else 1) / available if available else 0)
    for name in ("cpu", "gpu"):
        seconds = (int(row[f"{name}-avg"]) * minutes + 50) // 100
        row[f"{name}time/sec"], row[f"{name}time"] = str(seconds), texts.duration(seconds)
    return row


def job_passes(question: Question, row: Any) -> bool:
    for name, values in question.options.items():
        bound, _, quantity = name.partition("-")
        if bound not in ("min", "max") or name in ("min-samples", "min-runtime"):
            continue
        if quantity.startswith("r") and not quantity.startswith("res") and not question.nodes:
            continue
        if (int(row[quantity]) < int(values[0])) if bound == "min" else (int(row[quantity]) > int(values[0])):
            return False
    units = {"w": 7 * DAY, "d": DAY, "h": 3600, "m": 60}
    shortest = question.one("min-runtime")
    return (
        row["_samples"] >= int(question.one("min-samples", "2"))
        and (shortest is None or row["_duration"] >= int(shortest[:-1]) * units[shortest[-1]])
        and not (question.has("no-gpu") and row["_gpu"])
        and not (question.has("some-gpu") and not row["_gpu"])
        and not (question.has("completed") and row["_live"])
        and not (question.has("running") and not row["_live"])
        and not (question.has("zombie") and not row["_zombie"])
    )


# ---- load ----------------------------------------------------------------------------------------------------------


def load(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    lengths = {"half-hourly": 1800, "daily": DAY, "half-daily": DAY // 2, "weekly": 7 * DAY, "none": 0}
    slot = next((lengths[name] for name in lengths if question.has(name)), 3600)
    by_host: dict[str, list[Stream]] = defaultdict(list)
    for _key, stream in streams(samples, "load", question, start, end, question.nodes):
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
        bounds = list(bounds_of(samples).values())
        first = min((b[0] for b in bounds), default=0) if start is None else start
        last = max((b[1] for b in bounds), default=0) if end is None else end
        series = {hosts: filled(steps, first, last, slot) for hosts, steps in series.items()}
    blocks = []
    for hosts, steps in series.items():
        known = [question.nodes[host] for host in hosts if host in question.nodes] if question.nodes else []
        node = NODE | ({name: sum(n.get(name, 0) for n in known) for name in NODE if name != "description"})
        if known:
            node["description"] = "|||".join(n.get("description", "") for n in known)
        rows = [load_row(step, hosts, node, question.now) for step in steps]
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


# ---- uptime --------------------------------------------------------------------------------------------------------


def uptime(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    bounds = list(bounds_of(samples).values())
    first = min((b[0] for b in bounds), default=0) if start is None else start
    last = max((b[1] for b in bounds), default=0) if end is None else end
    cutoff = int(question.one("interval")) * 120
    found = []
    for host in sorted({sample["host"] for sample in samples}):
        told = {(s["time"], -s["gpufail"]) for s in samples if s["host"] == host and first <= s["time"] <= last}
        probes = sorted(told)  # of one instant, that of a failure first
        if not probes:
            continue
        rows = []
        if probes[0][0] - first > cutoff:
            rows.append(("host", "down", first, probes[0][0]))
        if last - probes[-1][0] > cutoff:
            rows.append(("host", "down", probes[-1][0], last))
        runs = [[probes[0]]]
        for before, probe in pairwise(probes):
            if probe[0] - before[0] > cutoff:
                rows.append(("host", "down", before[0], probe[0]))
                runs.append([])
            runs[-1].append(probe)
        for run in runs:
            rows.append(("host", "up", run[0][0], run[-1][0]))
            since = 0
            for at in range(1, len(run) + 1):
                if at == len(run) or run[at][1] != run[since][1]:
                    until = run[min(at, len(run) - 1)][0]
                    rows.append(("gpu", "down" if run[since][1] else "up", run[since][0], until))
                    since = at
        rows.sort(key=lambda row: (row[2], row[0] == "gpu", row[3], row[1]))
        found += [(host, *row) for row in rows]
    wanted = [s for s in ("up", "down") if question.has(f"only-{s}")] or ["up", "down"]
    return [
        {"host": host, "device": device, "state": state, "start": texts.minute(begin), "end": texts.minute(until)}
        for host, device, state, begin, until in found
        if state in wanted
    ], None


# ---- profile -------------------------------------------------------------------------------------------------------


def profile(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    found = streams(samples, "profile", question, start, end)
    processes = sorted(found, key=lambda item: (item[1][0]["time"], item[0][4], item[1][0]["pid"], item[0]))
    rows: list[Any] = []
    for time in sorted({sample["time"] for _, stream in processes for sample in stream}):
        first = True
        for number, (_, stream) in enumerate(processes):
            for sample in (sample for sample in stream if sample["time"] == time):
                largest = Fraction(question.one("max", "1e300"))
                values = {"cpu": sample["util"], "mem": Fraction(sample["cpu_kib"]) / GB}
                values |= {"gpu": Fraction(sample["gpu_pct"]), "gpumem": Fraction(sample["gpu_kib"]) / GB}
                cut = {name: 0 if v > 2 * largest else min(v, largest) for name, v in values.items()}
                rows.append(
                    {name: texts.nearest(value) for name, value in cut.items()}
                    | {
                        "time": texts.minute(time) if first else " " * 16,
                        "nproc": str(sample["rolledup"] + 1) if sample["rolledup"] else "",
                        "cmd": sample["cmd"],
                        "_instant": time,
                        "_process": number,
                        "_name": f"{sample['cmd']} ({stream[0]['pid']})",
                        "_pid": stream[0]["pid"],
                        "_job": sample["job"],
                    }
                )
                first = False
    return rows, None


def profile_csv(rows: list[Any], quantity: str) -> str:
    names = {row["_process"]: row["_name"] for row in rows}
    lines = [["time", *(names[number] for number in sorted(names))]]
    for time in sorted({row["_instant"] for row in rows}):
        cells = {row["_process"]: row[quantity] for row in rows if row["_instant"] == time}
        lines.append([texts.minute(time), *(cells.get(number, "") for number in sorted(names))])
    return "".join(",".join(texts.quoted(cell) for cell in line) + "\n" for line in lines)


def profile_json(rows: list[Any]) -> str:
    document = []
    for time in sorted({row["_instant"] for row in rows}):
        of_step = [row for row in rows if row["_instant"] == time]
        points = [
            {"command": row["cmd"], "pid": row["_pid"]}
            | {name: int(row[name]) for name in ("cpu", "mem", "gpu", "gpumem")}
            | {"nproc": int(row["nproc"] or 1)}
            for row in of_step
        ]
        document.append({"time": texts.minute(time), "job": of_step[0]["_job"], "points": points})
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


# ---- parse and metadata --------------------------------------------------------------------------------------------


def parse(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    if not any(map(question.has, ("clean", "merge-by-job", "merge-by-host-and-job"))):
        rows = [sample | {"util": 0} for sample in samples if passes(sample, "parse", question, start, end)]
        return [parse_row(row) for row in rows], None
    found = streams(samples, "parse", question, start, end)
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
    blocks.sort(key=lambda rows: tuple(rows[0][name] for name in ("host", "time", "job", "cmd", "pid")))
    return [], [("", [parse_row(row) for row in rows]) for rows in blocks]


def grouped_for_parse(found: list[tuple[Any, Stream]], *, over_hosts: bool) -> list[list[Stream]]:
    """Return the streams by job number and, unless over hosts, host; those without a number each alone."""
    groups: dict[Any, list[Stream]] = defaultdict(list)
    for key, stream in found:
        groups[key if key[1] == 0 else (b"" if over_hosts else key[0], key[1])].append(stream)
    return list(groups.values())


def parse_row(sample: Sample) -> Row:
    iso = datetime.fromtimestamp(sample["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = {name: str(sample[name]) for name in ("version", "host", "cores", "user", "job", "pid", "cmd", "rolledup")}
    row |= {"v": sample["version"], "localtime": texts.minute(sample["time"]), "time": iso}
    for name, column in (("cpu_pct", "cpu_pct"), ("gpu_pct", "gpu_pct"), ("gpumem_pct", "gpumem_pct"),
                         ("cputime_sec", "cputime_s")):  # fmt: skip
        row[name] = texts.number(float(sample[column]))
    row["cpu_util_pct"] = texts.number(float(sample.get("util_printed") or sample["util"]))
    row |= {"cpu%": row["cpu_pct"], "gpu%": row["gpu_pct"], "gpumem%": row["gpumem_pct"]}
    for gb, kib, column in (("mem_gb", "cpukib", "cpu_kib"), ("res_gb", "rssanonkib", "rss_kib"),
                            ("gpumem_gb", "gpukib", "gpu_kib")):  # fmt: skip
        value = sample[column]
        broken = isinstance(value, float) and isnan(value)
        row[gb] = "NaN" if broken else texts.nearest(Fraction(value) / GB)
        row[kib] = "NaN" if broken else texts.nearest(value)
    row |= {"gpus": texts.gpus(sample["gpus"]), "gpu_status": str(sample["gpufail"]), "gpufail": str(sample["gpufail"])}
    return row


def metadata(question: Question, samples: list[Sample], start: Any, end: Any) -> Any:
    bounds = bounds_of(samples)
    if question.has("merge-by-job"):
        found = streams(samples, "metadata", question, start, end)
        of_sets = {}
        for group in grouped(found, over_hosts=True):
            hosts = distinct(group, "host")
            earliest = min(bounds[host][0] for host in hosts)
            of_sets[texts.hosts(hosts)] = (min(earliest, question.now), max(bounds[host][1] for host in hosts))
        bounds = of_sets
    return [
        {"host": host, "earliest": texts.minute(bounds[host][0]), "latest": texts.minute(bounds[host][1])}
        for host in sorted(bounds)
    ], None


__all__ = ["FIELDS", "Question", "answer"]

"""Jobs, sample by sample: the verbs jobs and job."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.oracle import batch, coverage, nodes, texts
from tests.oracle.question import DAY, GB, Asked, Question
from tests.oracle.streams import Stream, distinct, mean, merged, streams

QUANTITIES = (
    ("cpu", "util", 1, "cpu_cores"), ("mem", "cpu_kib", GB, "mem_gb"), ("res", "rss_kib", GB, "mem_gb"),
    ("gpu", "gpu_pct", 1, "gpu_cards"), ("gpumem", "gpu_kib", GB, "gpumem_gb"), ("thread", "threads", 1, ""),
)  # fmt: skip
LONG = {"cpu": "Cpu", "mem": "Mem", "res": "ResidentMem", "gpu": "Gpu", "gpumem": "GpuMem"}
ALIASES = {
    "Job": "job", "JobAndMark": "jobm", "User": "user", "Duration": "duration", "Start": "start", "End": "end",
    "CpuTime": "cputime", "GpuTime": "gputime", "Gpus": "gpus", "GpuFail": "gpufail", "Cmd": "cmd", "hosts": "host",
    "Hosts": "host", "Now": "now", "Classification": "classification", "ReadGB": "read", "WrittenGB": "written",
    "ThreadAvg": "thread-avg", "ThreadPeak": "thread-peak",
}  # fmt: skip
for _name, _long in LONG.items():
    for _which in ("avg", "peak"):
        _unit = "Pct" if _name in ("cpu", "gpu") else "GB"
        ALIASES[f"{_long}{_which.title()}{_unit}"] = f"{_name}-{_which}"
        ALIASES[f"Relative{_long}{_which.title()}Pct"] = f"r{_name}-{_which}"
        if _name.startswith("gpu"):
            ALIASES[f"OccupiedRelative{_long}{_which.title()}Pct"] = f"s{_name}-{_which}"
# Fields that need to know what the nodes have.
RELATIVE = {f"r{name}-{which}" for name in LONG for which in ("avg", "peak")} | {"sgpumem-avg", "sgpumem-peak"}
RELATIVE |= {alias for alias, name in ALIASES.items() if name in RELATIVE}


class NoSuchJobError(Exception):
    """The job that is asked about has no samples; the program tells so, and its status is not 0."""


def grouped(found: list[tuple[Any, Stream]], question: Question) -> list[list[Stream]]:
    """Return the streams of each job: those of one host first, then those of jobs that may be on several hosts."""
    own: dict[Any, list[Stream]] = defaultdict(list)
    shared: dict[Any, list[Stream]] = defaultdict(list)
    for key, stream in found:
        host, job, epoch, *_ = key
        if job == 0:
            own[(*key[:1], job, epoch, key)].append(stream)
        elif (
            question.has("batch")
            or question.has("merge-all")
            or question.has("merge-by-job")
            or (epoch == 0 and not question.has("merge-none"))
        ):
            shared[job].append(stream)
        else:
            own[host, job, epoch, ()].append(stream)
    return [own[key] for key in sorted(own)] + [shared[job] for job in sorted(shared)]


def capacities(log: Asked) -> Any:
    """Return what nodes have: from the file, else as they told; only where the question needs to know that."""
    limits = {name.partition("-")[2] for name in log.question.options if name[:4] in ("min-", "max-")}
    asks = log.verb == "job" or any(name.startswith("r") and name[:3] not in ("res", "run") for name in limits)
    if log.tree and (asks or log.wants(RELATIVE)):
        return nodes.capacities(log) | (log.question.nodes or {}) or None
    return log.question.nodes


def jobs(log: Asked) -> Any:
    _question, number = log.question, int(log.question.one("numjobs", "0"))
    kept: list[Any] = []
    for row in reversed(found_jobs(log)):
        if not number or sum(other["user"] == row["user"] for other in kept) < number:
            kept.append(row)
    return kept[::-1], None


def found_jobs(log: Asked) -> list[Any]:
    """Return the rows of all jobs that the question is about, in order."""
    question = log.question
    within = [sample for sample in log.samples if log.within(sample["time"])]
    bounds: dict[str, tuple[int, int]] = {}
    for sample in within:
        low, high = bounds.get(sample["host"], (sample["time"],) * 2)
        bounds[sample["host"]] = (min(low, sample["time"]), max(high, sample["time"]))
    known = capacities(log)
    runs = coverage.runs_of(log)
    is_short = batch.short(log)
    rows = [job_row(group, bounds, known, runs, is_short=is_short) for group in grouped(streams(log, known), question)]
    filters = any(map(question.has, ("partition", "account", "reservation", "state", "gpu-type")))
    for row, told in zip(rows, batch.of_samples(log, [row["_facts"] for row in rows]), strict=True):
        told_or_made = told or (row["_made"] if question.has("sacct-from-sonar") else {})
        for name, (kind, source) in batch.IN_JOBS.items():
            row[name] = batch.field_text(told_or_made, kind, source, short=is_short)
        row |= {"now": texts.minute(question.now), "now/sec": str(question.now)}
        row["_fails"] = filters and "state" in told_or_made and not passes_filters(told_or_made, question)
        row |= {alias: row[name] for alias, name in ALIASES.items()}
    rows = [row for row in rows if job_passes(question, row, known) and not row["_fails"]]
    return sorted(rows, key=order_of)


def order_of(row: Any) -> Any:
    """Return what rows are sorted by: two jobs of a number, by their users and commands too."""
    names = (row["user"], row["cmd"]) if int(row["job"]) else ()
    return row["_facts"]["first"], int(row["job"]), row["_hosts"], names


def job_row(group: list[Stream], bounds: Any, known: Any, runs: Any, *, is_short: bool) -> Any:
    steps = merged(group)
    hosts, users, commands = (distinct(group, name) for name in ("host", "user", "cmd"))
    first, last = steps[0]["time"], steps[-1]["time"]
    at_start = first == min(bounds[host][0] for host in hosts)
    at_end = last == max(bounds[host][1] for host in hosts)
    job, minutes = group[0][0]["job"], (last - first + 30) // 60 * 60
    cards = texts.union([step["gpus"] for step in steps])
    zombie = any("<defunct>" in c for c in commands) or any(u.startswith("_zombie_") for u in users)
    added = {
        name: sum(Fraction(sample["added"][name]) for stream in group for sample in stream)
        for name in ("read_kib", "written_kib", "cputime_s")
    }
    row: dict[str, Any] = {
        "job": str(job),
        "jobm": f"{job}{('', '>', '<', '!')[2 * at_start + at_end]}",
        "user": ",".join(users),
        "duration": texts.duration(last - first),
        "duration/sec": str(minutes),
        "start": texts.minute(first),
        "start/sec": str(first),
        "end": texts.minute(last),
        "end/sec": str(last),
        "host": batch.hosts_text(hosts, short=is_short),
        "cmd": ",".join(commands),
        "gpus": texts.gpus(cards),
        "gpufail": str(max(step["gpufail"] for step in steps)),
        "classification": hex(2 * at_start + at_end),
        "samples": str(len(steps)),
        "read": texts.up(added["read_kib"] / GB),
        "written": texts.up(added["written_kib"] / GB),
        **{name: "yes" if truth else "no" for name, truth in (
            ("SomeGpu", cards != frozenset()), ("NoGpu", cards == frozenset()), ("Running", at_end),
            ("Completed", not at_end), ("Zombie", zombie), ("Primordial", at_start), ("BornLater", not at_start),
        )},
        **coverage.of_span(runs, hosts, first, last),
        "_hosts": hosts,
        "_facts": {
            "job": job, "first": first, "last": last, "users": users,
            "epoch": max(-1 if s["epoch"] is None else s["epoch"] for stream in group for s in stream),
        },
    }  # fmt: skip
    of_hosts = [known[host] for host in hosts if host in known] if known else []
    used = 0 if cards == "unknown" else len(cards)
    each: dict[str, Fraction] = {}
    for name, column, unit, capacity in QUANTITIES:
        values = [Fraction(step[column]) / unit for step in steps]
        for which, value in (("avg", mean(values)), ("peak", max([*values, Fraction(0)]))):
            each[f"{name}-{which}"] = value
            available = sum(one.get(capacity, 0) for one in of_hosts)
            share = value * (100 if unit == GB else 1) / available if available else 0
            row[f"{name}-{which}"], row[f"r{name}-{which}"] = texts.up(value), texts.up(share)
    all_cards = sum(one.get("gpu_cards", 0) for one in of_hosts)
    of_card = Fraction(sum(one.get("gpumem_gb", 0) for one in of_hosts), all_cards or 1)
    for which in ("avg", "peak"):
        row[f"sgpu-{which}"] = texts.up(each[f"gpu-{which}"] / used if used else 0)
        there = of_card * used
        row[f"sgpumem-{which}"] = texts.up(each[f"gpumem-{which}"] * 100 / there if there else 0)
    for name in ("cpu", "gpu"):
        seconds = (int(row[f"{name}-avg"]) * minutes + 50) // 100
        row[f"{name}time/sec"], row[f"{name}time"] = str(seconds), texts.duration(seconds)
    row["_made"] = {
        "name": row["cmd"], "nodes": hosts, "elapsed": last - first, "user_cpu": added["cputime_s"], "time": last,
        "ave_disk_read": added["read_kib"], "ave_disk_write": added["written_kib"],
        "ave_rss": each["res-avg"] * GB, "max_rss": each["res-peak"] * GB,
        "ave_vmsize": each["mem-avg"] * GB, "max_vmsize": each["mem-peak"] * GB,
    }  # fmt: skip
    return row


def passes_filters(told: Any, question: Question) -> bool:
    models = [gpu.partition("=")[0] for gpu in told["gpus"].split(",")]
    states = [state.upper() for state in question.all("state")]
    return (
        all(
            not question.has(name) or told[name] in question.all(name)
            for name in ("partition", "account", "reservation")
        )
        and (not question.has("state") or told["state"] in states)
        and (not question.has("gpu-type") or any(m.startswith(t) for m in models for t in question.all("gpu-type")))
    )


def job_passes(question: Question, row: Any, known: Any) -> bool:
    for name, values in question.options.items():
        bound, _, quantity = name.partition("-")
        if bound not in ("min", "max") or name in ("min-samples", "min-runtime"):
            continue
        if quantity.startswith("r") and not quantity.startswith("res") and not known:
            continue
        if (int(row[quantity]) < int(values[0])) if bound == "min" else (int(row[quantity]) > int(values[0])):
            return False
    units = {"w": 7 * DAY, "d": DAY, "h": 3600, "m": 60}
    shortest = question.one("min-runtime")
    length = row["_facts"]["last"] - row["_facts"]["first"]
    flags = {"no-gpu": "NoGpu", "some-gpu": "SomeGpu", "completed": "Completed", "running": "Running",
             "zombie": "Zombie"}  # fmt: skip
    return (
        int(row["samples"]) >= int(question.one("min-samples", "2"))
        and (shortest is None or length >= int(shortest[:-1]) * units[shortest[-1]])
        and all(row[field] == "yes" for flag, field in flags.items() if question.has(flag))
    )


def job(log: Asked) -> Any:
    """Return a row for each host of the last job of the number that is asked about."""
    plain = {name: values for name, values in log.question.options.items() if not name.startswith("min-")}
    options = plain | {"min-samples": ["1"]}
    found = found_jobs(replace(log, question=replace(log.question, options=options)))
    if not found:
        raise NoSuchJobError
    whole = found[-1]
    alone = found_jobs(replace(log, question=replace(log.question, options=options | {"merge-none": [""]})))
    facts = whole["_facts"]
    return [
        row | {"host": ",".join(row["_hosts"])}
        for row in alone
        if set(row["_hosts"]) <= set(whole["_hosts"])
        and facts["first"] <= row["_facts"]["first"]
        and row["_facts"]["last"] <= facts["last"]
    ], None

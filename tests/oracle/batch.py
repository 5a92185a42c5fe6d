"""What the batch system told: of jobs, partitions and states of nodes; the verbs sacct, spart and snode."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import floor
from typing import Any

from tests.oracle import records, texts
from tests.oracle.question import DAY, GB, Asked, matches
from tests.oracle.told import Record, Told, instant_or_none, is_json, messages, told

UNKNOWN = {"", "Unknown", "None", "None assigned", "(null)", "N/A"}
MESSAGE_TEXTS = {"name": "job_name", "user": "user_name", "account": "account", "partition": "partition",
                 "reservation": "reservation", "layout": "distribution", "requested": "requested_resources",
                 "allocated": "allocated_resources"}  # fmt: skip
RECORD_TEXTS = {"name": "JobName", "user": "User", "account": "Account", "partition": "Partition",
                "reservation": "Reservation", "layout": "Layout", "alloc_tres": "AllocTRES"}  # fmt: skip
SECONDS = {"ave_cpu": "AveCPU", "min_cpu": "MinCPU", "system_cpu": "SystemCPU", "user_cpu": "UserCPU"}
VOLUMES = {"ave_disk_read": "AveDiskRead", "ave_disk_write": "AveDiskWrite", "ave_rss": "AveRSS",
           "ave_vmsize": "AveVMSize", "max_rss": "MaxRSS", "max_vmsize": "MaxVMSize"}  # fmt: skip
LASTING = (*MESSAGE_TEXTS, "array_job", "array_task", "het_job", "het_offset", "submit", "timelimit", "alloc_tres",
           "req_cpus", "req_nodes", "req_mem")  # fmt: skip


def jobs(content: bytes) -> Iterator[Record]:
    """Yield jobs and steps; seconds and KiB are fractions, what was not told is None or an empty text."""
    if is_json(content):
        for attributes, time, version in messages(content, "job", "jobs"):
            for job in attributes.get("slurm_jobs", []):
                if job.get("job_id"):
                    yield {"time": time, "version": version} | of_message(job)
        return
    for fields in records.rows(content.decode()):
        try:
            yield of_record(dict(field.split("=", 1) for field in fields if "=" in field))
        except records.Bad:
            continue


def of_message(job: Record) -> Record:
    sacct = job.get("sacct", {})

    def extended(name: str) -> int | None:
        return job[name] - 2 if job.get(name, 0) >= 2 else None

    return {
        "job": job["job_id"], "step": job.get("job_step", ""), "state": job.get("job_state", "").split(" ")[0],
        **{name: job.get(attribute, "") for name, attribute in MESSAGE_TEXTS.items()},
        "array_job": job.get("array_job_id") or None, "het_job": job.get("het_job_id") or None,
        "array_task": job.get("array_task_id", 0) if job.get("array_job_id") else None,
        "het_offset": job.get("het_job_offset", 0) if job.get("het_job_id") else None,
        **{name: instant_or_none(job.get(f"{name}_time", "")) for name in ("submit", "start", "end")},
        "timelimit": extended("time_limit"), "priority": extended("priority"), "nodes": names(job.get("nodes", [])),
        "req_cpus": job.get("requested_cpus") or None, "req_nodes": job.get("requested_node_count") or None,
        "req_mem": job.get("requested_memory_per_node") or None, "suspended": job.get("suspend_time", 0),
        "exit_code": job.get("exit_code", 0), "exit_signal": None, "elapsed": sacct.get("ElapsedRaw") or None,
        "alloc_tres": sacct.get("AllocTRES", ""),
        **{name: sacct.get(attribute, 0) for name, attribute in (*SECONDS.items(), *VOLUMES.items())},
    }  # fmt: skip


def of_record(tags: dict[str, str]) -> Record:
    """Return a finished job; the instant of the record is its end."""
    raw = re.fullmatch(r"(\d+)(?:\.(.+))?", tags.get("JobIDRaw", ""))
    time = instant_or_none(tags.get("End", ""))
    if "error" in tags or not tags.get("v") or not raw or not int(raw[1]) or time is None:
        raise records.Bad("no job")

    def known(name: str, convert: Any) -> Any:
        return None if tags.get(name, "") in UNKNOWN else convert(tags[name])

    shown = re.fullmatch(r"(\d+)([_+])(\[.*\]|\d+)(?:\..+)?", tags.get("JobID", ""))
    task = int(shown[3]) if shown and shown[3].isdigit() else None
    is_array = bool(shown) and shown is not None and shown[2] == "_"
    exits = [int(part) for part in (known("ExitCode", str) or "0:0").split(":")]
    limit = known("TimelimitRaw", lambda text: int(text) * 60 if text.isdigit() else None)
    return {
        "time": time, "version": tags["v"], "job": int(raw[1]), "step": raw[2] or "",
        "state": tags.get("State", "").split(" ")[0],
        **{name: known(tag, str) or "" for name, tag in RECORD_TEXTS.items()},
        "array_job": int(shown[1]) if shown and is_array else None, "array_task": task if is_array else None,
        "het_job": int(shown[1]) if shown and not is_array else None, "het_offset": None if is_array else task,
        "submit": known("Submit", records.instant), "start": known("Start", records.instant), "end": time,
        "requested": "", "allocated": "", "timelimit": limit, "priority": known("Priority", int),
        "nodes": names([known("NodeList", str) or ""]), "req_cpus": known("ReqCPUS", int),
        "req_nodes": known("ReqNodes", int), "req_mem": memory_of_node(tags),
        "suspended": known("Suspended", seconds) or 0, "exit_code": exits[0], "exit_signal": (*exits, 0)[1],
        "elapsed": known("ElapsedRaw", seconds),
        **{name: known(tag, seconds) or 0 for name, tag in SECONDS.items()},
        **{name: known(tag, volume) or 0 for name, tag in VOLUMES.items()},
    }  # fmt: skip


def seconds(text: str) -> Fraction:
    """Return the seconds of `[D-][HH:]MM:SS[.mmm]` or of a number."""
    days, _, clock = text.rpartition("-")
    total = Fraction(0)
    for part in clock.split(":"):
        total = total * 60 + Fraction(part)
    return total + int(days or 0) * DAY


def volume(text: str) -> Fraction:
    """Return KiB; without a unit the number is of bytes."""
    text = text.rstrip("nc")
    if text[-1].isdigit():
        return Fraction(text) / 1024
    unit: int = 1024 ** "KMGTP".index(text[-1].upper())
    return Fraction(text[:-1]) * unit


def memory_of_node(tags: dict[str, str]) -> Fraction | None:
    """Return KiB for a node: `c` means for each CPU; without a unit the number is of MiB."""
    text = tags.get("ReqMem", "")
    if text in UNKNOWN:
        return None
    kib: Fraction = volume(text + "M" if text.isdigit() else text)
    return kib * int(tags.get("ReqCPUS") or 1) / int(tags.get("ReqNodes") or 1) if text.endswith("c") else kib


def names(patterns: list[str]) -> list[str]:
    """Return the names of patterns such as `n[1-3,5].x,m1`."""
    found = []
    for pattern in patterns:
        for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", pattern):
            match = re.fullmatch(r"(.*?)\[(.*?)\](.*)", part)
            if not match:
                found.append(part)
                continue
            for piece in match[2].split(","):
                first, _, last = piece.partition("-")
                numbers = range(int(first), int(last or first) + 1)
                found += [f"{match[1]}{number:0{len(first)}}{match[3]}" for number in numbers]
    return found


def of_cluster(content: bytes) -> Iterator[tuple[Record, int]]:
    for attributes, time, _version in messages(content, "cluster"):
        yield attributes, time


def partitions(content: bytes) -> Iterator[Record]:
    for attributes, time in of_cluster(content):
        for one in attributes.get("partitions", []):
            yield {"time": time, "partition": one.get("name", ""), "nodes": names(one.get("nodes", []))}


def states(content: bytes) -> Iterator[Record]:
    for attributes, time in of_cluster(content):
        for one in attributes.get("nodes", []):
            nodes = names(one.get("names", []))
            yield {"time": time, "first": nodes[0] if nodes else "", "nodes": nodes, "states": one.get("states", [])}


CLUSTER_FILES = (("0+cluzter-slurm", ".json"),)
JOBS = Told((("0+job-slurm", ".json"), ("slurm-sacct", ".csv")), jobs, ("job", "step", "time", "state"))
PARTITIONS = Told(CLUSTER_FILES, partitions, ("time", "partition"))
STATES = Told(CLUSTER_FILES, states, ("time", "first"))


def accounted(found: list[Record]) -> list[Record]:
    """Return each job as it was last, with what its steps add; what a later message does not tell is as it was."""
    by_step: dict[tuple[int, str], list[Record]] = {}
    for one in found:
        by_step.setdefault((one["job"], one["step"]), []).append(one)
    ranks = {"": 0, "PENDING": 0, "RUNNING": 1, "SUSPENDED": 1, "COMPLETING": 1}
    newest = {}
    for key, told_of in by_step.items():
        told_of.sort(key=lambda one: (one["time"], ranks.get(one["state"], 2)))
        newest[key] = dict(told_of[-1])
        for name in LASTING:
            known = [one[name] for one in told_of if one[name] not in (None, "")]
            newest[key][name] = known[-1] if known else told_of[-1][name]
    whole = [one for (_, step), one in sorted(newest.items()) if not step and one["user"]]
    for job in whole:
        steps = [one for (number, step), one in newest.items() if number == job["job"] and step]
        for name in ("max_rss", "max_vmsize"):
            job[name] = max([job[name], *(step[name] for step in steps)])
        for name in ("user_cpu", "system_cpu"):
            job[name] = job[name] or sum(Fraction(step[name]) for step in steps)
        lists = [job["allocated"], job["requested"], job["alloc_tres"]]
        job["gpus"] = next((gpus for text in lists if (gpus := gpus_of(text))), "")
        given = [n for text in (job["allocated"], job["alloc_tres"]) for n in re.findall(r"(?:^|,)cpu=(\d+)", text)]
        job["cpus"] = int(given[0]) if given else job["req_cpus"] or 0
    return whole


def gpus_of(resources: str) -> str:
    found = re.findall(r"(?:^|,)gres/gpu(?::([^=,]+))?=(\d+)(?=,|$)", resources)
    models = [f"{model}={number}" for model, number in found if model and int(number)]
    return ",".join(models) or ",".join(f"*={number}" for model, number in found if not model and int(number))


def sacct(log: Asked) -> Any:
    return [sacct_row(job, short=short(log)) for job in accounted(told(JOBS, log)) if is_chosen(job, log)], None


def short(log: Asked) -> bool:
    return not {"csv", "csvnamed", "json"} & set(log.question.one("fmt", "").split(","))


def hosts_text(nodes: list[str], *, short: bool) -> str:
    return texts.hosts([node.split(".")[0] for node in nodes] if short else nodes)


def is_chosen(job: Record, log: Asked) -> bool:
    question = log.question
    kind = next((kind for kind in ("array", "het") if question.has(kind)), None)
    numbers = {str(job[name]) for name in ("job", "array_job", "het_job")}
    in_whole = job["array_job"] or job["het_job"]
    units = {"w": 7 * DAY, "d": DAY, "h": 3600, "m": 60}

    def within(name: str, value: Any) -> bool:
        low, high = question.one(f"min-{name}", "0"), question.one(f"max-{name}")
        low, high = (text and int(text[:-1]) * units[text[-1]] if text and text[-1] in units else text
                     for text in (low, high))  # fmt: skip
        return int(low) <= value and (high is None or value <= int(high))

    return (
        all(
            not question.has(name) or "-" in question.all(name) or job[name] in question.all(name)
            for name in ("user", "account", "partition")
        )
        and job["user"] not in question.all("exclude-user")
        and (not question.has("state") or job["state"] in [state.upper() for state in question.all("state")])
        and (not question.has("job") or bool(numbers & set(question.all("job"))))
        and (not question.has("host") or any(matches(n, p) for n in job["nodes"] for p in question.all("host")))
        and not (question.has("some-gpu") and not job["gpus"])
        and not (question.has("no-gpu") and job["gpus"])
        and (job[f"{kind}_job"] is not None if kind else True)
        and not (not kind and in_whole and (question.has("regular") or not question.has("job")))
        and (
            question.has("all")
            or (
                within("runtime", job["elapsed"] or 0)
                and within("reserved-mem", Fraction(job["req_mem"] or 0) / GB)
                and within("reserved-cores", job["cpus"])
            )
        )
    )


# Fields that are shared by sacct and jobs: kind of text, and name in the record.
COMMON = {
    "Account": ("text", "account"), "ArrayJobID": ("whole", "array_job"), "ArrayTaskID": ("whole", "array_task"),
    "AveCPU": ("whole", "ave_cpu"), "AveDiskRead": ("whole", "ave_disk_read"),
    "AveDiskWrite": ("whole", "ave_disk_write"), "AveRSS": ("whole", "ave_rss"), "AveVMSize": ("whole", "ave_vmsize"),
    "ExitCode": ("whole", "exit_code"), "HetJobID": ("whole", "het_job"), "HetJobOffset": ("whole", "het_offset"),
    "JobName": ("text", "name"), "Layout": ("text", "layout"), "MaxRSS": ("whole", "max_rss"),
    "MaxVMSize": ("whole", "max_vmsize"), "MinCPU": ("whole", "min_cpu"), "NodeList": ("hosts", "nodes"),
    "Partition": ("text", "partition"), "Priority": ("whole", "priority"), "ReqCPUS": ("whole", "req_cpus"),
    "ReqGPUS": ("text", "gpus"), "ReqMem": ("whole", "req_mem"), "ReqNodes": ("whole", "req_nodes"),
    "Reservation": ("text", "reservation"), "State": ("text", "state"), "Submit": ("iso", "submit"),
    "SystemCPU": ("whole", "system_cpu"), "Time": ("iso", "time"), "UserCPU": ("whole", "user_cpu"),
    "Version": ("text", "version"),
}  # fmt: skip
IN_JOBS = COMMON | {
    "ArrayStep": ("text", "step"), "HetStep": ("text", "step"), "JobStep": ("text", "step"),
    "ElapsedRaw": ("whole", "elapsed"), "Suspended": ("whole", "suspended"), "TimelimitRaw": ("whole", "timelimit"),
}  # fmt: skip
IN_SACCT = COMMON | {
    "JobID": ("whole", "job"), "User": ("text", "user"), "ReqRes": ("text", "requested"),
    "AllocRes": ("text", "allocated"), "AllocTRES": ("text", "alloc_tres"), "ExitSignal": ("whole", "exit_signal"),
    "Elapsed": ("duration", "elapsed"), "Suspended": ("duration", "suspended"),
}  # fmt: skip


def field_text(job: Record, kind: str, name: str, *, short: bool) -> str:
    value = job.get(name)
    if value is None:
        return ""
    if kind == "hosts":
        return hosts_text(value, short=short)
    printers: dict[str, Callable[[Any], str]] = {
        "text": str, "whole": texts.whole, "iso": texts.iso, "duration": texts.duration
    }  # fmt: skip
    return printers[kind](value)


def sacct_row(job: Record, *, short: bool) -> dict[str, str]:
    requested, used = job["cpus"] * (job["elapsed"] or 0), Fraction(job["user_cpu"]) + Fraction(job["system_cpu"])
    wait = None if job["start"] is None or job["submit"] is None else job["start"] - job["submit"]
    limit, memory = job["timelimit"], job["req_mem"]
    row = {name: field_text(job, kind, source, short=short) for name, (kind, source) in IN_SACCT.items()}
    row |= {name.title(): texts.iso(job[name], "Unknown") for name in ("submit", "start", "end")}
    return row | {
        "JobName": job["name"][:30] if short else job["name"],
        "Wait": "Unknown" if wait is None else texts.duration(wait),
        "Timelimit": "Unknown" if limit is None else texts.duration(limit),
        "RequestedCPU": str(floor(requested)),
        "UsedCPU": str(floor(used)),
        "rcpu": texts.nearest(100 * used / requested if requested else 0),
        "rmem": texts.nearest(100 * Fraction(job["max_rss"]) / Fraction(memory) if memory else 0),
    }


def snode(log: Asked) -> Any:
    rows = [
        {"Timestamp": texts.minute(one["time"]), "Nodes": hosts_text(one["nodes"], short=short(log))}
        | {"States": ",".join(one["states"])}
        for one in told(STATES, log)
        if not one["nodes"] or any(map(log.about, one["nodes"]))
        if one["nodes"] or not log.question.has("host")
    ]
    return [row | {name.lower(): text for name, text in row.items()} for row in rows], None


def spart(log: Asked) -> Any:
    rows = [
        {"Timestamp": texts.minute(one["time"]), "Partition": one["partition"]}
        | {"Nodes": hosts_text(one["nodes"], short=short(log))}
        for one in told(PARTITIONS, log)
        if not log.question.has("host") or any(map(log.about, one["nodes"]))
    ]
    return [
        row | {"timestamp": row["Timestamp"], "part": row["Partition"], "nodes": row["Nodes"]} for row in rows
    ], None


def of_samples(log: Asked, found: list[dict[str, Any]]) -> list[Record | None]:
    """Return for each job of samples what the batch system tells of it, or None."""
    if not found:
        return []
    since = min(job["first"] for job in found) - DAY
    until = max(job["last"] for job in found) + 14 * DAY
    known = {one["job"]: one for one in accounted(told(JOBS, log, since=since, until=until, named=True))}
    return [one if (one := known.get(job["job"])) and is_same(one, job) else None for job in found]


def is_same(one: Record, job: dict[str, Any]) -> bool:
    begin = one["submit"] if one["start"] is None else one["start"]
    return (
        job["epoch"] <= 0
        and (one["user"] in job["users"] or any(user.startswith("_") for user in job["users"]))
        and (begin is None or begin <= job["last"] + 300)
        and (one["end"] is None or job["first"] - 300 <= one["end"])
    )

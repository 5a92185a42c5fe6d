"""What Slurm tells: its jobs, its partitions, and the states of its nodes. Three topics.

Jobs are read from messages `{"data": {"type": "job", "attributes": {"slurm_jobs": […]}}}` and from the records of
`sacct` in tagged CSV that older senders made of finished jobs; partitions and states from messages of type `cluster`.
A job is one row, each of its steps another, and all of them again each time they are sent: `sonar.analysis.slurm` makes
the newest state of it. Durations are seconds, volumes KiB, and what was not told is null. sonar-data(5), sacct(1).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from sonar import hosts
from sonar.errors import SonarError
from sonar.read.json_objects import BadShapeError, as_object, list_of, number_of, object_of, text_of, whole_of
from sonar.read.topics import Column, Row, Topic, attributes_of, reading_rows
from sonar.times import parse_instant

__all__ = ["JOBS", "NODE_STATES", "PARTITIONS", "exit_code_of", "kib_of", "seconds_of"]

_DURATION = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,6}):(\d{1,6}(?:\.\d*)?)", re.ASCII)
_VOLUME = re.compile(r"(\d{1,18}(?:\.\d*)?)([KMGTP]?)([nc]?)", re.ASCII | re.IGNORECASE)
_KIB = {"": 1 / 1024, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30, "P": 1 << 40}
_EXIT = re.compile(r"(\d{1,9})(?::(\d{1,9}))?", re.ASCII)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_JOB_ID = re.compile(r"(\d{1,18})(?:([_+])(\[[^\]]*\]|\d{1,18}))?(?:\.(.+))?", re.ASCII)
_UNKNOWN = frozenset({"", "Unknown", "None", "None assigned", "(null)", "N/A"})


def seconds_of(text: str) -> float | None:
    """Return the seconds of `[D-][HH:]MM:SS[.mmm]`, or of a plain number; None if it is neither."""
    if match := _DURATION.fullmatch(text):
        days, hours, minutes, seconds = match.groups()
        return int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    return float(text) if _WHOLE.fullmatch(text) else None


def kib_of(text: str) -> float | None:
    """Return the KiB of a volume with or without unit (K, M, G, T, P; bytes without); None if it is none."""
    match = _VOLUME.fullmatch(text)
    return float(match[1]) * _KIB[match[2].upper()] if match else None


def exit_code_of(text: str) -> tuple[int, int] | None:
    """Return the exit code and the signal of `CODE[:SIGNAL]`; None if it is neither."""
    match = _EXIT.fullmatch(text)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _read_jobs(data: bytes, dropped: Counter[str]) -> Iterator[Row]:
    """Yield the rows of a file of jobs; a job that cannot be read costs itself only."""

    def of_message(value: Any) -> Iterator[Row]:
        attributes, time, version = attributes_of(value, "job", "jobs")
        for job in list_of(attributes, "slurm_jobs"):
            try:
                row = _job(as_object(job))
            except BadShapeError as reason:
                dropped[str(reason)] += 1
            else:
                yield {"time": time, "version": version, **row}

    def of_record(fields: list[str]) -> Iterator[Row]:
        yield _accounting_record(dict(field.split("=", 1) for field in fields if "=" in field))

    return reading_rows(data, dropped, of_message, of_record)


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return one job, or step of a job, of a message."""
    number = whole_of(job, "job_id")
    if not number:
        raise BadShapeError("bad-job_id")
    sacct = object_of(job, "sacct")
    return {
        "job": number,
        "step": text_of(job, "job_step"),
        **{column: text_of(job, name) for column, name in _TEXTS.items()},
        "state": _first_word(text_of(job, "job_state")),
        **{column: whole_of(job, name) or None for column, name in _NUMBERS.items()},
        # A task or offset of 0 is not sent: it is 0 where there is a job to count in.
        "array_task": whole_of(job, "array_task_id") if job.get("array_job_id") else None,
        "het_offset": whole_of(job, "het_job_offset") if job.get("het_job_id") else None,
        **{name: parse_instant(text_of(job, f"{name}_time")) for name in ("submit", "start", "end")},
        "timelimit_s": _extended(job, "time_limit"),
        "priority": _extended(job, "priority"),
        "nodes": _names([_as_text(pattern) for pattern in list_of(job, "nodes")]),
        "req_mem_kib": number_of(job, "requested_memory_per_node") or None,
        "suspended_s": number_of(job, "suspend_time"),
        "exit_code": whole_of(job, "exit_code"),
        "exit_signal": None,
        "alloc_tres": text_of(sacct, "AllocTRES"),
        **{column: number_of(sacct, name) for column, name in (*_SECONDS.items(), *_VOLUMES.items())},
        "elapsed_s": number_of(sacct, "ElapsedRaw") or None,
    }


_TEXTS = {
    "name": "job_name",
    "user": "user_name",
    "account": "account",
    "partition": "partition",
    "reservation": "reservation",
    "layout": "distribution",
    "requested": "requested_resources",
    "allocated": "allocated_resources",
}
_NUMBERS = {
    "array_job": "array_job_id",
    "het_job": "het_job_id",
    "req_cpus": "requested_cpus",
    "req_nodes": "requested_node_count",
}
_SECONDS = {"ave_cpu_s": "AveCPU", "min_cpu_s": "MinCPU", "system_cpu_s": "SystemCPU", "user_cpu_s": "UserCPU"}
_VOLUMES = {
    "ave_disk_read_kib": "AveDiskRead",
    "ave_disk_write_kib": "AveDiskWrite",
    "ave_rss_kib": "AveRSS",
    "ave_vmsize_kib": "AveVMSize",
    "max_rss_kib": "MaxRSS",
    "max_vmsize_kib": "MaxVMSize",
}


def _extended(job: Mapping[str, Any], name: str) -> int | None:
    """Return an extended number: 0 is not set, 1 is without limit, others are the number and 2. Null for both."""
    value = whole_of(job, name)
    return value - 2 if value >= 2 else None


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadShapeError("bad-nodes")
    return value


def _accounting_record(values: Mapping[str, str]) -> dict[str, Any]:
    """Return a finished job, or step, of a record of sacct; its instant is that of its end."""
    if "error" in values:
        raise BadShapeError("error-record")
    if not values.get("v"):
        raise BadShapeError("missing-v")
    raw = _JOB_ID.fullmatch(values.get("JobIDRaw", ""))
    if raw is None or raw[2] or not int(raw[1]):
        raise BadShapeError("bad-JobIDRaw")
    time = parse_instant(values.get("End", ""))
    if time is None:
        raise BadShapeError("bad-End")
    shown = _JOB_ID.fullmatch(values.get("JobID", ""))
    in_job = int(shown[1]) if shown and shown[2] else None
    place = int(shown[3]) if shown and shown[3] and shown[3].isdigit() else None
    is_array = shown is not None and shown[2] == "_"
    exit_code, signal = _converted(values, "ExitCode", exit_code_of) or (0, 0)
    return {
        "time": time,
        "version": values["v"],
        "job": int(raw[1]),
        "step": raw[4] or "",
        **{column: _known(values.get(name, "")) for column, name in _RECORD_TEXTS.items()},
        "state": _first_word(values.get("State", "")),
        "array_job": in_job if is_array else None,
        "array_task": place if is_array else None,
        "het_job": None if is_array else in_job,
        "het_offset": None if is_array else place,
        "submit": _converted(values, "Submit", parse_instant),
        "start": _converted(values, "Start", parse_instant),
        "end": time,
        "requested": "",
        "allocated": "",
        "timelimit_s": _minutes(values.get("TimelimitRaw", "")),
        "priority": _converted(values, "Priority", _whole),
        "nodes": _names([_known(values.get("NodeList", ""))]),
        "req_cpus": _converted(values, "ReqCPUS", _whole),
        "req_nodes": _converted(values, "ReqNodes", _whole),
        "req_mem_kib": _memory_of_node(values),
        "suspended_s": _converted(values, "Suspended", seconds_of) or 0.0,
        "exit_code": exit_code,
        "exit_signal": signal,
        "elapsed_s": _converted(values, "ElapsedRaw", seconds_of),
        **{column: _converted(values, name, seconds_of) or 0.0 for column, name in _SECONDS.items()},
        **{column: _converted(values, name, kib_of) or 0.0 for column, name in _VOLUMES.items()},
    }


_RECORD_TEXTS = {
    "name": "JobName",
    "user": "User",
    "account": "Account",
    "partition": "Partition",
    "reservation": "Reservation",
    "layout": "Layout",
    "alloc_tres": "AllocTRES",
}


def _converted(values: Mapping[str, str], name: str, convert: Callable[[str], Any]) -> Any:
    """Return the value of a tag; None if it is missing or says that it is not known. A bad one costs the record."""
    text = values.get(name, "")
    if text in _UNKNOWN:
        return None
    value = convert(text)
    if value is None:
        raise BadShapeError(f"bad-{name}")
    return value


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _minutes(text: str) -> int | None:
    """Return the seconds of a limit in minutes; None for a word such as UNLIMITED, and for what comes to the same."""
    return int(text) * 60 if _WHOLE.fullmatch(text) and len(text) <= 15 else None


def _memory_of_node(values: Mapping[str, str]) -> float | None:
    """Return the memory asked for on each node: what ends in `c` is that of each CPU, in `n` that of each node."""
    text = values.get("ReqMem", "")
    if text.isdecimal():
        text += "M"  # what is asked for is in megabytes, what is used in bytes
    kib: float | None = _converted({"ReqMem": text}, "ReqMem", kib_of)
    if kib is None or not text.endswith("c"):
        return kib
    cpus = _converted(values, "ReqCPUS", _whole) or 1
    nodes = _converted(values, "ReqNodes", _whole) or 1
    return float(kib * cpus / nodes)


def _first_word(state: str) -> str:
    """Return `CANCELLED` of `CANCELLED by 1234`."""
    return state.split(" ", 1)[0]


def _known(text: str) -> str:
    return "" if text in _UNKNOWN else text


def _names(patterns: list[str]) -> list[str]:
    """Return the names of nodes that patterns with brackets stand for; a pattern that is none stays as it is.

    So does one whose names would be more than a host pattern may have, with those of the patterns before it.
    """
    names: list[str] = []
    for pattern in patterns:
        found = _names_of(pattern)
        names += found if len(found) == 1 or len(names) + len(found) <= hosts.LARGEST_EXPANSION else (pattern,)
    return names


@lru_cache(maxsize=4096)
def _names_of(pattern: str) -> tuple[str, ...]:
    if "[" not in pattern and "," not in pattern:
        return (pattern,) if pattern else ()
    try:
        return tuple(hosts.expand(pattern))
    except SonarError:
        return (pattern,)


def _read_cluster(
    data: bytes, dropped: Counter[str], *, of: Callable[[Mapping[str, Any]], Iterator[Row]]
) -> Iterator[Row]:
    def of_message(value: Any) -> Iterator[Row]:
        attributes, time, _version = attributes_of(value, "cluster")
        yield from ({"time": time, **row} for row in of(attributes))

    def of_record(_fields: list[str]) -> Iterator[Row]:
        raise BadShapeError("no-envelope")

    return reading_rows(data, dropped, of_message, of_record)


def _partitions(attributes: Mapping[str, Any]) -> Iterator[Row]:
    for partition in map(as_object, list_of(attributes, "partitions")):
        nodes = _names([_as_text(pattern) for pattern in list_of(partition, "nodes")])
        yield {"partition": text_of(partition, "name"), "nodes": nodes}


def _node_states(attributes: Mapping[str, Any]) -> Iterator[Row]:
    for group in map(as_object, list_of(attributes, "nodes")):
        names = _names([_as_text(pattern) for pattern in list_of(group, "names")])
        states = [_as_text(state) for state in list_of(group, "states")]
        yield {"first": names[0] if names else "", "nodes": names, "states": states}


JOBS = Topic(
    name="jobs",
    columns=(
        Column("time", "whole", "instant at which this was so"),
        Column("version", "text", "version of the sender"),
        Column("job", "whole", "number of the job; of an array's task and of a part of a heterogeneous job its own"),
        Column("step", "text", "name of the step; empty for the job as a whole"),
        Column("name", "text", "name of the job or step"),
        Column("user", "text", "user; steps have none"),
        Column("account", "text", "account"),
        Column("partition", "text", "partition"),
        Column("reservation", "text", "reservation"),
        Column("layout", "text", "distribution of its tasks"),
        Column("state", "text", "PENDING, RUNNING, COMPLETED, …: the first word"),
        Column("array_job", "whole", "number of the array that it is a task of"),
        Column("array_task", "whole", "number of the task"),
        Column("het_job", "whole", "number of the heterogeneous job that it is a part of"),
        Column("het_offset", "whole", "number of the part"),
        Column("submit", "whole", "instant of submission"),
        Column("start", "whole", "instant of the start"),
        Column("end", "whole", "instant of the end"),
        Column("timelimit_s", "whole", "time limit; null if there is none, too"),
        Column("priority", "whole", "priority"),
        Column("nodes", "texts", "names of its nodes"),
        Column("requested", "text", "resources asked for, `key=value,…`"),
        Column("allocated", "text", "resources given"),
        Column("alloc_tres", "text", "the same, as the accounting has it"),
        Column("req_cpus", "whole", "CPUs asked for, on all nodes together"),
        Column("req_nodes", "whole", "nodes asked for"),
        Column("req_mem_kib", "number", "memory asked for on each node"),
        Column("suspended_s", "number", "time suspended"),
        Column("exit_code", "whole", "exit code"),
        Column("exit_signal", "whole", "signal that ended it; messages do not tell"),
        Column("elapsed_s", "number", "time from start to end, or until now"),
        Column("ave_cpu_s", "number", "mean CPU time of its tasks"),
        Column("min_cpu_s", "number", "least CPU time of a task"),
        Column("system_cpu_s", "number", "CPU time in the kernel"),
        Column("user_cpu_s", "number", "CPU time outside of it"),
        Column("ave_disk_read_kib", "number", "mean volume read by its tasks"),
        Column("ave_disk_write_kib", "number", "mean volume written"),
        Column("ave_rss_kib", "number", "mean resident memory of its tasks"),
        Column("ave_vmsize_kib", "number", "mean virtual memory"),
        Column("max_rss_kib", "number", "most resident memory of a task"),
        Column("max_vmsize_kib", "number", "most virtual memory"),
    ),
    key=("job", "step", "time", "state"),
    files=(("0+job-slurm", ".json"), ("slurm-sacct", ".csv")),
    read=_read_jobs,
)

PARTITIONS = Topic(
    name="partitions",
    columns=(
        Column("time", "whole", "instant at which this was so"),
        Column("partition", "text", "name of the partition"),
        Column("nodes", "texts", "names of its nodes"),
    ),
    key=("time", "partition"),
    files=(("0+cluzter-slurm", ".json"),),
    read=partial(_read_cluster, of=_partitions),
)

NODE_STATES = Topic(
    name="node states",
    columns=(
        Column("time", "whole", "instant at which this was so"),
        Column("first", "text", "name of the first of the nodes"),
        Column("nodes", "texts", "names of nodes"),
        Column("states", "texts", "their states, upper case"),
    ),
    key=("time", "first"),
    files=(("0+cluzter-slurm", ".json"),),
    read=partial(_read_cluster, of=_node_states),
)

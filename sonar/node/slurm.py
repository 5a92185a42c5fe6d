"""Ask Slurm for its jobs, partitions and nodes, by its own commands sacct(1), sinfo(1) and scontrol(1).

What they print is taken apart here and sent as `job` and `cluster` envelopes; sonar-data(5) has their fields. Values
that Slurm does not tell, or tells in a way that is not known here, are left out: a job costs no other job.
"""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from sonar.errors import SonarError
from sonar.hosts import compress, split_list
from sonar.node.envelope import time_text

__all__ = ["JOBS_IN_A_MESSAGE", "SlurmError", "cluster_attributes", "has_slurm", "job_attributes", "run_command"]

JOBS_IN_A_MESSAGE = 1000
PROGRAMS = ("sacct", "scontrol", "sinfo")
_TIMEOUT_S = 300.0
_LARGEST_ANSWER = 512 << 20

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it prints; raises SlurmError."""

_FIELDS = (
    "JobIDRaw", "JobID", "User", "Account", "State", "Submit", "Start", "End", "Partition", "Reservation", "Layout",
    "TimelimitRaw", "NodeList", "Priority", "ReqCPUS", "ReqNodes", "ReqMem", "Suspended", "ExitCode", "ReqTRES",
    "AllocTRES", "ElapsedRaw", "SystemCPU", "UserCPU", "AveCPU", "MinCPU", "AveDiskRead", "AveDiskWrite", "AveRSS",
    "AveVMSize", "MaxRSS", "MaxVMSize", "JobName",
)  # fmt: skip
"""The name of the job is last: it may hold the separator."""

_SEPARATOR = "|"
_UNKNOWN = frozenset({"", "Unknown", "None", "None assigned", "(null)", "N/A", "INVALID"})
_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", re.ASCII)
_VOLUME = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)([nc]?)", re.ASCII)
_KIB = {"": 1 / 1024, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30, "P": 1 << 40}
_NUMBER = re.compile(r"(\d+)(?:\.(.+))?", re.ASCII)
_ARRAY = re.compile(r"(\d+)_(\d+)(?:\.|\Z)", re.ASCII)
_HETEROGENEOUS = re.compile(r"(\d+)\+(\d+)(?:\.|\Z)", re.ASCII)
_KEY_VALUE = re.compile(r"(\w+)=(\S*)", re.ASCII)
# What sinfo(1) puts behind the state of a node.
_STATE_MARKS = {
    "*": "NOT_RESPONDING", "~": "POWERED_DOWN", "#": "POWERING_UP", "!": "POWERING_DOWN", "%": "POWERING_DOWN",
    "$": "MAINTENANCE", "@": "REBOOT", "^": "REBOOT", "-": "PLANNED",
}  # fmt: skip


class SlurmError(SonarError):
    """Slurm cannot be asked."""


def has_slurm() -> bool:
    """Return whether its commands are there."""
    return all(shutil.which(program) for program in PROGRAMS)


def job_attributes(run: Run, *, time: int, cluster: str, since: int) -> Iterator[dict[str, object]]:
    """Yield attributes of `job` envelopes: of all jobs that existed since an instant, some in each.

    There is one without jobs where there are none: it says that the sender is up. Raise SlurmError.
    """
    command = ["sacct", "--allusers", "--parsable2", "--noheader", "--noconvert"]
    command += [f"--starttime={_local(since)}", f"--endtime={_local(time)}", f"--format={','.join(_FIELDS)}"]
    jobs = [job for line in run(command).splitlines() if (job := _job(line)) is not None]
    for start in range(0, max(len(jobs), 1), JOBS_IN_A_MESSAGE):
        part = jobs[start : start + JOBS_IN_A_MESSAGE]
        yield {"time": time_text(time), "cluster": cluster, "slurm_jobs": part}


def cluster_attributes(run: Run, *, time: int, cluster: str) -> dict[str, object]:
    """Return the attributes of a `cluster` envelope: partitions, and nodes by state. Raise SlurmError."""
    partitions: dict[str, list[str]] = defaultdict(list)
    for line in run(["sinfo", "--all", "--noheader", "--format=%R|%N"]).splitlines():
        name, separator, nodes = line.strip().partition(_SEPARATOR)
        if separator and name:
            partitions[name] += _patterns(nodes)
    by_states: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for line in run(["scontrol", "--all", "--oneliner", "show", "nodes"]).splitlines():
        fields = dict(_KEY_VALUE.findall(line))
        if "NodeName" in fields and (states := _states(fields.get("State", ""))):
            by_states[states].add(fields["NodeName"])
    return {
        "time": time_text(time),
        "cluster": cluster,
        "slurm": True,
        "partitions": [{"name": name, "nodes": list(dict.fromkeys(nodes))} for name, nodes in partitions.items()],
        "nodes": [
            {"names": split_list(compress(names)), "states": list(states)}
            for states, names in sorted(by_states.items())
        ],
    }


def run_command(command: Sequence[str]) -> str:
    """Run a command of Slurm; times are printed as seconds since 1970."""
    environment = os.environ | {"LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "%s"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, env=environment, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"no command {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} did not end within {_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SlurmError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        first = done.stderr.decode(errors="replace").strip().partition("\n")[0][:200]
        raise SlurmError(f"{command[0]} ended with status {done.returncode}{': ' if first else ''}{first}")
    if len(done.stdout) > _LARGEST_ANSWER:
        raise SlurmError(f"{command[0]} printed more than {_LARGEST_ANSWER} bytes")
    return done.stdout.decode(errors="replace")


def _job(line: str) -> dict[str, object] | None:
    """Return a job, or a step of one; None for a line that is none."""
    parts = line.split(_SEPARATOR, len(_FIELDS) - 1)
    if len(parts) != len(_FIELDS):
        return None
    told = {name: text.strip() for name, text in zip(_FIELDS, parts, strict=True) if text.strip() not in _UNKNOWN}
    number = _NUMBER.fullmatch(told.get("JobIDRaw", ""))
    if not number or not int(number[1]):
        return None
    job: dict[str, object | None] = {
        "job_id": int(number[1]),
        "job_step": number[2] or "",
        "job_name": told.get("JobName", ""),
        "user_name": told.get("User", ""),
        "account": told.get("Account", ""),
        "partition": told.get("Partition", ""),
        "reservation": told.get("Reservation", ""),
        "distribution": told.get("Layout", ""),
        "job_state": told.get("State", "").partition(" ")[0],  # CANCELLED by 1000
        "submit_time": _time(told.get("Submit")),
        "start_time": _time(told.get("Start")),
        "end_time": _time(told.get("End")),
        "time_limit": _limit(told.get("TimelimitRaw", "")),
        "nodes": _patterns(told.get("NodeList", "")),
        "priority": int(told["Priority"]) + 2 if told.get("Priority", "").isdecimal() else None,
        "requested_cpus": _whole(told.get("ReqCPUS")),
        "requested_node_count": _whole(told.get("ReqNodes")),
        "requested_memory_per_node": _memory_per_node(told),
        "suspend_time": _seconds(told.get("Suspended")),
        "exit_code": _whole(told.get("ExitCode", "").partition(":")[0]),
        "requested_resources": told.get("ReqTRES", ""),
        "allocated_resources": told.get("AllocTRES", ""),
        "sacct": _accounting(told),
    }
    return {name: value for name, value in {**job, **_groups(told.get("JobID", ""))}.items() if value}


def _groups(number: str) -> dict[str, object | None]:
    """Return the array or heterogeneous job that a job is part of."""
    if match := _ARRAY.match(number):
        return {"array_job_id": int(match[1]), "array_task_id": int(match[2])}
    if match := _HETEROGENEOUS.match(number):
        return {"het_job_id": int(match[1]), "het_job_offset": int(match[2])}
    return {}


def _accounting(told: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object | None] = {
        "AllocTRES": told.get("AllocTRES", ""),
        "ElapsedRaw": _whole(told.get("ElapsedRaw")),
    }
    values |= {name: _seconds(told.get(name)) for name in ("SystemCPU", "UserCPU", "AveCPU", "MinCPU")}
    for name in ("AveDiskRead", "AveDiskWrite", "AveRSS", "AveVMSize", "MaxRSS", "MaxVMSize"):
        volume = _VOLUME.fullmatch(told.get(name, ""))
        values[name] = round(float(volume[1]) * _KIB[volume[2]]) if volume else None
    return {name: value for name, value in values.items() if value}


def _memory_per_node(told: Mapping[str, str]) -> int | None:
    """Return KiB: what is asked for a node; older versions say `c` where it is for a CPU, and `n` where for a node."""
    volume = _VOLUME.fullmatch(told.get("ReqMem", ""))
    if not volume:
        return None
    kib = float(volume[1]) * (_KIB[volume[2]] if volume[2] else _KIB["M"])  # without unit: megabytes
    if volume[3] == "c":
        kib *= (_whole(told.get("ReqCPUS")) or 1) / (_whole(told.get("ReqNodes")) or 1)
    return round(kib)


def _limit(minutes: str) -> int | None:
    """Return a time limit as it is sent: 1 for none, else its seconds and 2."""
    if minutes.upper() == "UNLIMITED":
        return 1
    return int(minutes) * 60 + 2 if minutes.isdecimal() else None


def _time(text: str | None) -> str:
    return time_text(int(text)) if text and text.isdecimal() else ""


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None


def _seconds(text: str | None) -> int | None:
    match = _DURATION.fullmatch(text or "")
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _patterns(nodes: str) -> list[str]:
    """Return the patterns of a list of nodes; what is none stands as it is."""
    if nodes in _UNKNOWN:
        return []
    try:
        return split_list(nodes)
    except SonarError:
        return [nodes]


def _states(text: str) -> tuple[str, ...]:
    """Return the states in `IDLE+DRAIN*`, in upper case."""
    states = []
    for part in text.upper().split("+"):
        name = part.rstrip("".join(_STATE_MARKS))
        states += [name, *(_STATE_MARKS[mark] for mark in part[len(name) :])]
    return tuple(dict.fromkeys(filter(None, states)))


def _local(instant: int) -> str:
    """Return an instant as sacct takes it, in the time zone of this host."""
    return datetime.fromtimestamp(instant).strftime("%Y-%m-%dT%H:%M:%S")  # noqa: DTZ006

"""What the batch system tells of jobs, beside what their samples tell: fields and filters of the verb jobs.

A job of samples is that of the batch system with the same number, unless its number is known to be local to a host, or
the two were not at the same time or not of the same user: numbers come round, and hosts outside of the batch system
have numbers of their own.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sonar.times import DAY, MINUTE
from sonar.verbs.declare import Field, Kind, Option, OptionType

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.jobs import Jobs
    from sonar.read.topics import TopicScan

__all__ = ["ACCOUNTING_FIELDS", "ACCOUNTING_OPTIONS", "accounting_of", "fails_filters", "filters_jobs", "is_asked_for"]

# A job is told of when it is submitted, and at the latest some time after its end.
_BEFORE_S, _AFTER_S = DAY, 14 * DAY
_SLACK_S = 5 * MINUTE  # clocks differ, and processes are cleaned up after the end

ACCOUNTING_OPTIONS = (
    Option("partition", "in this partition of the batch system", repeat=True, metavar="NAME"),
    Option("account", "on this account of the batch system", repeat=True, metavar="NAME"),
    Option("reservation", "in this reservation of the batch system", repeat=True, metavar="NAME"),
    Option("state", "in this state of the batch system, such as COMPLETED", repeat=True, metavar="STATE"),
    Option("gpu-type", "asked the batch system for GPUs whose model begins so", repeat=True, metavar="NAME"),
    Option("sacct-from-sonar", "what the batch system does not tell, taken from the samples", OptionType.FLAG),
)
_FILTERS = ("partition", "account", "reservation", "state", "gpu-type")

# Field, kind, meaning, column of the batch system's jobs, unit.
_DECLARED: tuple[tuple[str, Kind, str, str, str], ...] = (
    ("Account", Kind.TEXT, "account", "account", ""),
    ("ArrayJobID", Kind.INT, "number of the array that it is a task of", "array_job", ""),
    ("ArrayStep", Kind.TEXT, "step of the task of an array; empty for the task as a whole", "step", ""),
    ("ArrayTaskID", Kind.INT, "number of the task", "array_task", ""),
    ("AveCPU", Kind.SECONDS, "mean CPU time of its tasks", "ave_cpu_s", "s"),
    ("AveDiskRead", Kind.INT, "mean volume read by its tasks", "ave_disk_read_kib", "KiB"),
    ("AveDiskWrite", Kind.INT, "mean volume written by its tasks", "ave_disk_write_kib", "KiB"),
    ("AveRSS", Kind.INT, "mean resident memory of its tasks", "ave_rss_kib", "KiB"),
    ("AveVMSize", Kind.INT, "mean virtual memory of its tasks", "ave_vmsize_kib", "KiB"),
    ("ElapsedRaw", Kind.SECONDS, "how long it ran", "elapsed_s", "s"),
    ("ExitCode", Kind.INT, "exit code", "exit_code", ""),
    ("HetJobID", Kind.INT, "number of the heterogeneous job that it is a part of", "het_job", ""),
    ("HetJobOffset", Kind.INT, "number of the part", "het_offset", ""),
    ("HetStep", Kind.TEXT, "step of the part; empty for the part as a whole", "step", ""),
    ("JobName", Kind.TEXT, "name of the job", "name", ""),
    ("JobStep", Kind.TEXT, "step; empty for the job as a whole", "step", ""),
    ("Layout", Kind.TEXT, "distribution of its tasks", "layout", ""),
    ("MaxRSS", Kind.INT, "most resident memory of a task", "max_rss_kib", "KiB"),
    ("MaxVMSize", Kind.INT, "most virtual memory of a task", "max_vmsize_kib", "KiB"),
    ("MinCPU", Kind.SECONDS, "least CPU time of a task", "min_cpu_s", "s"),
    ("NodeList", Kind.HOSTS, "its nodes", "nodes", ""),
    ("Partition", Kind.TEXT, "partition", "partition", ""),
    ("Priority", Kind.INT, "priority", "priority", ""),
    ("ReqCPUS", Kind.INT, "CPUs asked for, on all nodes together", "req_cpus", ""),
    ("ReqGPUS", Kind.TEXT, "GPUs that it got or asked for, MODEL=N", "gpus", ""),
    ("ReqMem", Kind.INT, "memory asked for on each node", "req_mem_kib", "KiB"),
    ("ReqNodes", Kind.INT, "nodes asked for", "req_nodes", ""),
    ("Reservation", Kind.TEXT, "reservation", "reservation", ""),
    ("State", Kind.TEXT, "state", "state", ""),
    ("Submit", Kind.ISO, "when it was submitted, UTC", "submit", ""),
    ("Suspended", Kind.SECONDS, "how long it was suspended", "suspended_s", "s"),
    ("SystemCPU", Kind.SECONDS, "CPU time in the kernel", "system_cpu_s", "s"),
    ("Time", Kind.ISO, "when this was told, UTC", "time", ""),
    ("TimelimitRaw", Kind.SECONDS, "time limit", "timelimit_s", "s"),
    ("UserCPU", Kind.SECONDS, "CPU time outside of the kernel", "user_cpu_s", "s"),
    ("Version", Kind.TEXT, "version of who told it", "version", ""),
)
_PREFIX = "sacct_"

ACCOUNTING_FIELDS = tuple(
    Field(name, kind, f"{text}, by the batch system", _PREFIX + column, unit)
    for name, kind, text, column, unit in _DECLARED
)
_COLUMNS = tuple(dict.fromkeys(column for *_, column, _unit in _DECLARED))


def is_asked_for(fields: Collection[str], options: Mapping[str, Any]) -> bool:
    """Return whether a question needs to know what the batch system tells."""
    names = {field.name for field in ACCOUNTING_FIELDS}
    return bool(names & set(fields)) or filters_jobs(options)


def filters_jobs(options: Mapping[str, Any]) -> bool:
    """Return whether a question is only about some jobs, by what the batch system tells of them."""
    return any(options[name] for name in _FILTERS)


def accounting_of(jobs: "Jobs", topics: "TopicScan", *, from_samples: bool = False) -> "pa.Table":
    """Return a row for each job: what the batch system tells of it, nulls where it tells nothing.

    With `from_samples` jobs that it does not know get what their samples tell. Columns have the prefix `sacct_`.
    """
    import pyarrow as pa

    from sonar.analysis.slurm import accounted_jobs
    from sonar.read.slurm import JOBS

    schema = accounted_jobs(JOBS.table(())).select(_COLUMNS).schema
    known: dict[int, dict[str, Any]] = {}
    if len(jobs):
        start, end = int(jobs.start.min()) - _BEFORE_S, int(jobs.end.max()) + _AFTER_S
        table = accounted_jobs(topics.table(JOBS, start, end, named=True))
        numbers = set(jobs.job.tolist())
        wanted = [number in numbers for number in table.column("job").to_pylist()]
        known = {row["job"]: row for row in table.filter(pa.array(wanted, pa.bool_())).to_pylist()}
    found = []
    for at in range(len(jobs)):
        row = known.get(int(jobs.job[at]), {})
        if row and (jobs.epoch[at] > 0 or not _is_same(row, jobs.users[at], int(jobs.start[at]), int(jobs.end[at]))):
            row = {}
        found.append(row or (_from_samples(jobs, at) if from_samples else {}))
    arrays = [pa.array([row.get(name) for row in found], schema.field(name).type) for name in _COLUMNS]
    return pa.table(arrays, [_PREFIX + name for name in _COLUMNS])


def fails_filters(rows: "pa.Table", options: Mapping[str, Any]) -> list[bool]:
    """Return which jobs the batch system knows, and knows to fail the filters."""
    failing = []
    judged = [_PREFIX + name for name in ("partition", "account", "reservation", "state", "gpus")]
    for row in rows.select(judged).to_pylist():
        partition, account, reservation, state, gpus = row.values()
        models = tuple(gpu.partition("=")[0] for gpu in (gpus or "").split(","))
        passes = (
            (not options["partition"] or partition in options["partition"])
            and (not options["account"] or account in options["account"])
            and (not options["reservation"] or reservation in options["reservation"])
            and (not options["state"] or state in {wanted.upper() for wanted in options["state"]})
            and (not options["gpu-type"] or any(model.startswith(options["gpu-type"]) for model in models))
        )
        failing.append(state is not None and not passes)
    return failing


def _is_same(job: Mapping[str, Any], users: Sequence[str], start: int, end: int) -> bool:
    """Return whether a job of the batch system can be that of these users, whose names may not be known, and times."""
    if job["user"] not in users and not any(user.startswith("_") for user in users):
        return False
    begin = job["start"] if job["start"] is not None else job["submit"]
    finish = job["end"]
    return (begin is None or begin <= end + _SLACK_S) and (finish is None or start - _SLACK_S <= finish)


def _from_samples(jobs: "Jobs", at: int) -> dict[str, Any]:
    """Return what the samples tell in the words of the batch system."""
    import numpy as np

    from sonar.analysis.rounding import settled

    kib_per_gb = 1 << 20

    def settled_one(value: float) -> float:
        return float(settled(np.array([value]))[0])

    return {
        "name": ",".join(jobs.commands[at]),
        "nodes": list(jobs.hosts[at]),
        "elapsed_s": float(jobs.end[at] - jobs.start[at]),
        "user_cpu_s": settled_one(jobs.totals["cputime_s"][at]),
        "ave_disk_read_kib": float(jobs.totals["read_kib"][at]),
        "ave_disk_write_kib": float(jobs.totals["written_kib"][at]),
        "ave_rss_kib": settled_one(jobs.averages["res"][at] * kib_per_gb),
        "max_rss_kib": settled_one(jobs.peaks["res"][at] * kib_per_gb),
        "ave_vmsize_kib": settled_one(jobs.averages["mem"][at] * kib_per_gb),
        "max_vmsize_kib": settled_one(jobs.peaks["mem"][at] * kib_per_gb),
        "time": int(jobs.end[at]),
    }

"""The verb sacct: jobs as the batch system accounts for them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sonar.errors import UsageError
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from sonar.hosts import HostPatterns
    from sonar.verbs.query import Query

__all__ = ["VERB"]

_KIB_PER_GB = 1 << 20


def run(query: "Query") -> Result:
    """Return a row for each job that was told of in the window, by its newest state, sorted by number."""
    from sonar.analysis.slurm import accounted_jobs
    from sonar.read.slurm import JOBS

    jobs = _with_sums(accounted_jobs(query.topics.table(JOBS)))
    return Result(_chosen(jobs, query.options, query.filter.hosts))


def _with_sums(jobs: "pa.Table") -> "pa.Table":
    """Add what follows from the columns: CPU time asked for and used, their ratio, that of memory, and the wait."""
    import numpy as np
    import pyarrow as pa

    def floats(name: str) -> "np.ndarray":
        column: Any = jobs.column(name)
        values: np.ndarray = column.cast(pa.float64()).fill_null(0.0).to_numpy()
        return values

    def share(used: "np.ndarray", of: "np.ndarray") -> "np.ndarray":
        return np.where(of > 0, 100 * used / np.where(of > 0, of, 1), 0.0)

    cores = floats("cpus")
    requested, used = cores * floats("elapsed_s"), floats("user_cpu_s") + floats("system_cpu_s")
    starts, submits = jobs.column("start").to_pylist(), jobs.column("submit").to_pylist()
    waits = [
        None if start is None or submit is None else start - submit
        for start, submit in zip(starts, submits, strict=True)
    ]
    added = {
        "reserved_cores": pa.array(cores),
        "requested_cpu_s": pa.array(requested),
        "used_cpu_s": pa.array(used),
        "rcpu": pa.array(share(used, requested)),
        "rmem": pa.array(share(floats("max_rss_kib"), floats("req_mem_kib"))),
        "wait_s": pa.array(waits, pa.int64()),
    }
    for name, column in added.items():
        jobs = jobs.append_column(name, column)
    return jobs


def _chosen(jobs: "pa.Table", options: Mapping[str, Any], hosts: "HostPatterns | None") -> "pa.Table":
    """Return the jobs that the options are about."""
    import pyarrow as pa

    keep = [_is_chosen(job, options, hosts) for job in jobs.select(_JUDGED).to_pylist()]
    return jobs.filter(pa.array(keep, pa.bool_()))


_JUDGED = (
    "job", "user", "account", "partition", "state", "gpus", "array_job", "het_job", "nodes", "elapsed_s",
    "req_mem_kib", "reserved_cores",
)  # fmt: skip


def _is_chosen(job: dict[str, Any], options: Mapping[str, Any], hosts: "HostPatterns | None") -> bool:
    for name in ("user", "account", "partition"):
        if options[name] and "-" not in options[name] and job[name] not in options[name]:
            return False
    if job["user"] in options["exclude-user"]:
        return False
    if options["state"] and job["state"] not in {state.upper() for state in options["state"]}:
        return False
    if options["job"] and not {job["job"], job["array_job"], job["het_job"]} & set(options["job"]):
        return False
    if hosts is not None and not any(hosts.match(node) for node in job["nodes"] or ()):
        return False
    if (options["some-gpu"] and not job["gpus"]) or (options["no-gpu"] and job["gpus"]):
        return False
    if options["array"] or options["het"]:
        if job["array_job" if options["array"] else "het_job"] is None:
            return False
    elif (options["regular"] or not options["job"]) and (job["array_job"] or job["het_job"]):
        return False
    return options["all"] or all(
        options[f"min-{name}"] <= value and (options[f"max-{name}"] is None or value <= options[f"max-{name}"])
        for name, value in (
            ("runtime", job["elapsed_s"] or 0),
            ("reserved-mem", (job["req_mem_kib"] or 0) / _KIB_PER_GB),
            ("reserved-cores", job["reserved_cores"]),
        )
    )


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    for names in (("regular", "array", "het"), ("some-gpu", "no-gpu")):
        given = [f"--{name}" for name in names if options[name]]
        if len(given) > 1:
            raise UsageError(f"Only one of {', '.join(given)} can be given")


_OPTIONS = (
    Option("state", "jobs in this state, such as COMPLETED", repeat=True, metavar="STATE"),
    Option("user", "jobs of this user; - for everyone", short="u", repeat=True, metavar="NAME"),
    Option("exclude-user", "no jobs of this user", repeat=True, metavar="NAME"),
    Option("account", "jobs on this account", repeat=True, metavar="NAME"),
    Option("partition", "jobs in this partition", repeat=True, metavar="NAME"),
    Option(
        "job", "this job; an array or heterogeneous job is all of it", OptionType.UINT, "j", repeat=True, metavar="N"
    ),
    Option("min-runtime", "ran at least so long, such as 1w2d3h4m", OptionType.DURATION, default=0, metavar="TIME"),
    Option("max-runtime", "ran at most so long", OptionType.DURATION, metavar="TIME"),
    Option("min-reserved-mem", "asked for at least N GB on a node", OptionType.UINT, default=0, metavar="N"),
    Option("max-reserved-mem", "asked for at most N GB on a node", OptionType.UINT, metavar="N"),
    Option("min-reserved-cores", "at least N CPUs, on all nodes together", OptionType.UINT, default=0, metavar="N"),
    Option("max-reserved-cores", "at most N CPUs, on all nodes together", OptionType.UINT, metavar="N"),
    Option("all", "whatever their length and size: drop the limits", OptionType.FLAG),
    Option("some-gpu", "asked for a GPU", OptionType.FLAG),
    Option("no-gpu", "asked for no GPU", OptionType.FLAG),
    Option(
        "regular", "neither tasks of arrays nor parts of heterogeneous jobs; the default without --job", OptionType.FLAG
    ),
    Option("array", "tasks of arrays only", OptionType.FLAG),
    Option("het", "parts of heterogeneous jobs only", OptionType.FLAG),
)

_FIELDS = (
    Field("JobID", Kind.INT, "number of the job", "job"),
    Field("JobName", Kind.TEXT, "name of the job", "name", longest=30),
    Field("User", Kind.TEXT, "user", "user"),
    Field("Account", Kind.TEXT, "account", "account"),
    Field("Partition", Kind.TEXT, "partition", "partition"),
    Field("Reservation", Kind.TEXT, "reservation", "reservation"),
    Field("State", Kind.TEXT, "state", "state"),
    Field("Submit", Kind.ISO, "when it was submitted, UTC", "submit", missing="Unknown"),
    Field("Start", Kind.ISO, "when it started, UTC", "start", missing="Unknown"),
    Field("End", Kind.ISO, "when it ended, UTC", "end", missing="Unknown"),
    Field("Time", Kind.ISO, "when this was told, UTC", "time"),
    Field("Wait", Kind.DURATION, "from submission to start", "wait_s", missing="Unknown"),
    Field("Elapsed", Kind.DURATION, "how long it ran", "elapsed_s"),
    Field("Suspended", Kind.DURATION, "how long it was suspended", "suspended_s"),
    Field("Timelimit", Kind.DURATION, "time limit", "timelimit_s", missing="Unknown"),
    Field("ExitCode", Kind.INT, "exit code", "exit_code"),
    Field("ExitSignal", Kind.INT, "signal that ended it, where that is told", "exit_signal"),
    Field("Priority", Kind.INT, "priority", "priority"),
    Field("Layout", Kind.TEXT, "distribution of its tasks", "layout"),
    Field("NodeList", Kind.HOSTS, "its nodes", "nodes"),
    Field("ReqCPUS", Kind.INT, "CPUs asked for, on all nodes together", "req_cpus"),
    Field("ReqNodes", Kind.INT, "nodes asked for", "req_nodes"),
    Field("ReqMem", Kind.INT, "memory asked for on each node", "req_mem_kib", "KiB"),
    Field("ReqGPUS", Kind.TEXT, "GPUs that it got or asked for, MODEL=N", "gpus"),
    Field("ReqRes", Kind.TEXT, "resources asked for", "requested"),
    Field("AllocRes", Kind.TEXT, "resources given", "allocated"),
    Field("AllocTRES", Kind.TEXT, "resources given, as the accounting has it", "alloc_tres"),
    Field("ArrayJobID", Kind.INT, "number of the array that it is a task of", "array_job"),
    Field("ArrayTaskID", Kind.INT, "number of the task", "array_task"),
    Field("HetJobID", Kind.INT, "number of the heterogeneous job that it is a part of", "het_job"),
    Field("HetJobOffset", Kind.INT, "number of the part", "het_offset"),
    Field("UserCPU", Kind.SECONDS, "CPU time outside of the kernel", "user_cpu_s", "s"),
    Field("SystemCPU", Kind.SECONDS, "CPU time in the kernel", "system_cpu_s", "s"),
    Field("AveCPU", Kind.SECONDS, "mean CPU time of its tasks", "ave_cpu_s", "s"),
    Field("MinCPU", Kind.SECONDS, "least CPU time of a task", "min_cpu_s", "s"),
    Field("RequestedCPU", Kind.SECONDS, "CPUs that it got, or asked for, times elapsed time", "requested_cpu_s", "s"),
    Field("UsedCPU", Kind.SECONDS, "CPU time used", "used_cpu_s", "s"),
    Field("AveDiskRead", Kind.INT, "mean volume read by its tasks", "ave_disk_read_kib", "KiB"),
    Field("AveDiskWrite", Kind.INT, "mean volume written by its tasks", "ave_disk_write_kib", "KiB"),
    Field("AveRSS", Kind.INT, "mean resident memory of its tasks", "ave_rss_kib", "KiB"),
    Field("AveVMSize", Kind.INT, "mean virtual memory of its tasks", "ave_vmsize_kib", "KiB"),
    Field("MaxRSS", Kind.INT, "most resident memory of a task of it or of its steps", "max_rss_kib", "KiB"),
    Field("MaxVMSize", Kind.INT, "most virtual memory of a task", "max_vmsize_kib", "KiB"),
    Field("rcpu", Kind.ROUND, "CPU time used, of RequestedCPU", unit="%"),
    Field("rmem", Kind.ROUND, "most resident memory of the memory asked for", unit="%"),
    Field("Version", Kind.TEXT, "version of the sender", "version"),
)

VERB = Verb(
    name="sacct",
    summary="Print jobs as the batch system accounts for them",
    options=_OPTIONS,
    fields=_FIELDS,
    aliases={},
    default_fields="JobID,JobName,User,Account,rcpu,rmem",
    run=run,
    privacy=Privacy.OWNED,
    shared=Shared.WINDOW | Shared.HOST | Shared.FORMAT,
    reads=Reads.TOPICS,
    everyone=True,
    check=check,
)

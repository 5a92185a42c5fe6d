"""The verb jobs: one row a job, from the samples of its processes."""

from typing import TYPE_CHECKING, Any

from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa

    from sonar.analysis.jobs import Jobs
    from sonar.config.nodes import Node
    from sonar.verbs.query import Query

__all__ = ["VERB"]

# Quantity, what it is, unit of its values, unit of its relative values, and the capacity that these are relative to.
_QUANTITIES = (
    ("cpu", "CPU", "% of a core", "cpu_cores"),
    ("mem", "virtual memory", "GB", "mem_gb"),
    ("gpu", "GPU", "% of a card", "gpu_cards"),
    ("gpumem", "GPU memory", "GB", "gpumem_gb"),
)
_RESIDENT = ("res", "resident memory", "GB", "mem_gb")


_LARGEST = 1e12  # of what is printed: can still be multiplied by a duration


def run(query: "Query") -> Result:
    """Return the jobs, sorted by start, job number and hosts."""
    from sonar.analysis.bounds import bounds_of
    from sonar.analysis.jobs import combined_jobs, jobs_of_host
    from sonar.analysis.samples import samples_of
    from sonar.analysis.streams import clean_streams, selected

    per_host, shared, bounds = [], [], {}
    for host, table in query.scan.by_host():
        samples = samples_of(table)
        if within := bounds_of(samples, query.window):
            bounds[host] = within
        streams = selected(clean_streams(samples, query.nodes), query.filter, query.window)
        own, of_many = jobs_of_host(streams, over_hosts=query.options["batch"])
        per_host.append(own)
        shared.append(of_many)
    return Result(_chosen(_rows(combined_jobs(per_host, shared), bounds, query), query))


def _rows(jobs: "Jobs", bounds: dict[str, tuple[int, int]], query: "Query") -> "pa.Table":
    """Return all jobs as a table: one column a field, averages and peaks rounded up."""
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.jobs import LIVE_AT_END, LIVE_AT_START, classification

    marks = classification(jobs, bounds)
    mark_text = {0: "", LIVE_AT_START: "<", LIVE_AT_END: ">", LIVE_AT_START | LIVE_AT_END: "!"}
    duration = jobs.end - jobs.start
    minutes_s = (duration + 30) // 60 * 60
    columns: dict[str, Any] = {
        "job": jobs.job,
        "jobm": [f"{job}{mark_text[mark]}" for job, mark in zip(jobs.job.tolist(), marks.tolist(), strict=True)],
        "user": [",".join(users) for users in jobs.users],
        "duration": duration,
        "duration_sec": minutes_s,
        "start": jobs.start,
        "end": jobs.end,
        "host": pa.array(jobs.hosts, pa.list_(pa.string())),
        "cmd": [",".join(commands) for commands in jobs.commands],
        "gpus": jobs.gpus,
        "gpufail": jobs.gpufail,
        "classification": marks,
        "now": np.full(len(jobs), query.now),
        "samples": jobs.samples,
        "any_gpu": jobs.gpus != 0,  # the unknown set counts: its mask is not 0
        "zombie": [_is_zombie(*words) for words in zip(jobs.commands, jobs.users, strict=True)],
    }
    for name in jobs.averages:
        columns[f"{name}_avg"] = _rounded_up(jobs.averages[name])
        columns[f"{name}_peak"] = _rounded_up(jobs.peaks[name])
    for name in ("cpu", "gpu"):
        columns[f"{name}time"] = (columns[f"{name}_avg"] * minutes_s + 50) // 100
    if query.nodes is not None:
        columns |= _relative(jobs, query.nodes)
    return pa.table(columns)


def _rounded_up(values: "np.ndarray") -> "np.ndarray":
    """Return whole numbers; what is absurdly large in a bad record is cut."""
    import numpy as np

    whole: np.ndarray = np.ceil(np.minimum(values, _LARGEST)).astype(np.int64)
    return whole


def _is_zombie(commands: tuple[str, ...], users: tuple[str, ...]) -> bool:
    return any("<defunct>" in command for command in commands) or any(user.startswith("_zombie_") for user in users)


def _relative(jobs: "Jobs", nodes: "Mapping[str, Node]") -> "dict[str, np.ndarray]":
    """Return averages and peaks in percent of what the job's hosts have together, rounded up; 0 where that is 0."""
    import numpy as np

    columns = {}
    for name, _what, unit, capacity in (*_QUANTITIES, _RESIDENT):
        of_job = [sum(getattr(nodes[host], capacity) for host in hosts if host in nodes) for hosts in jobs.hosts]
        available = np.array(of_job, float)
        scale = 100 if unit == "GB" else 1
        for which, values in (("avg", jobs.averages[name]), ("peak", jobs.peaks[name])):
            share = np.where(
                available > 0, np.minimum(values, _LARGEST) * scale / np.where(available > 0, available, 1), 0
            )
            columns[f"r{name}_{which}"] = _rounded_up(share)
    return columns


def _chosen(rows: "pa.Table", query: "Query") -> "pa.Table":
    """Return the rows that pass the filters on aggregates, sorted, and only the last of each user if so asked."""
    import numpy as np

    options = query.options

    def column(name: str) -> "np.ndarray":
        return rows.column(name).to_numpy(zero_copy_only=False) if len(rows) else np.zeros(0, np.int64)

    keep = column("samples") >= options["min-samples"]
    for limit in _LIMITS:
        bound, quantity = limit.name[:3], limit.name[4:]
        if options[limit.name] is None or (
            quantity.startswith("r") and not quantity.startswith("res") and not query.nodes
        ):
            continue
        values = column(quantity.replace("-", "_"))
        keep &= values >= options[limit.name] if bound == "min" else values <= options[limit.name]
    if options["min-runtime"] is not None:
        keep &= column("duration") >= options["min-runtime"]
    used_gpu, live = column("any_gpu").astype(bool), (column("classification") & 1).astype(bool)
    for flag, condition in (
        ("no-gpu", ~used_gpu),
        ("some-gpu", used_gpu),
        ("completed", ~live),
        ("running", live),
        ("zombie", column("zombie").astype(bool)),
    ):
        if options[flag]:
            keep &= condition
    rows = rows.filter(keep)
    ties: list[Any] = rows.column("host").to_pylist()
    order = sorted(range(len(rows)), key=list(zip(column("start"), column("job"), ties, strict=False)).__getitem__)
    return _last_of_each_user(rows.take(np.array(order, np.int64)), options["numjobs"])


def _last_of_each_user(rows: "pa.Table", number: int) -> "pa.Table":
    """Return the rows without those that are followed by `number` others of the same user; 0 is no limit."""
    if not number:
        return rows
    following: dict[str, int] = {}
    keep = []
    for user in reversed(rows.column("user").to_pylist()):
        following[user] = following.get(user, 0) + 1
        keep.append(following[user] <= number)
    return rows.filter(keep[::-1])


def _limit_options() -> tuple[Option, ...]:
    """Return the options that limit averages and peaks, in the order of remote requests."""
    limits = []
    for prefix, bounds, name, what, unit in (
        ("", ("min", "max"), "cpu", "CPU utilization", "% of a core"),
        ("r", ("min", "max"), "cpu", "CPU utilization", "% of all cores"),
        ("", ("min",), "mem", "virtual memory", "GB"),
        ("r", ("min",), "mem", "virtual memory", "% of the memory"),
        ("", ("min",), "res", "resident memory", "GB"),
        ("r", ("min",), "res", "resident memory", "% of the memory"),
        ("", ("min", "max"), "gpu", "GPU utilization", "% of a card"),
        ("r", ("min", "max"), "gpu", "GPU utilization", "% of all cards"),
        ("", ("min",), "gpumem", "GPU memory", "GB"),
        ("r", ("min",), "gpumem", "GPU memory", "% of all GPU memory"),
    ):
        for bound in bounds:
            for which, text in (("avg", "average"), ("peak", "peak")):
                sign = "at least" if bound == "min" else "at most"
                help_text = f"{text} {what} {sign} N {unit}" + ("; needs --config-file" if prefix else "")
                limits.append(Option(f"{bound}-{prefix}{name}-{which}", help_text, OptionType.UINT, metavar="N"))
    return tuple(limits)


_LIMITS = _limit_options()

_OPTIONS = (
    Option("min-samples", "at least N samples", OptionType.UINT, default=2, metavar="N"),
    *_LIMITS,
    Option("min-runtime", "ran at least so long, such as 1w2d3h4m", OptionType.DURATION, metavar="TIME"),
    Option("no-gpu", "used no GPU", OptionType.FLAG),
    Option("some-gpu", "used a GPU", OptionType.FLAG),
    Option("completed", "had ended before the last sample of its hosts", OptionType.FLAG),
    Option("running", "was there at the last sample of its hosts", OptionType.FLAG),
    Option("zombie", "has a defunct process", OptionType.FLAG),
    Option("batch", "take equal job numbers on several hosts as one job", OptionType.FLAG, "b"),
    Option("numjobs", "only the last N jobs of each user; 0 is no limit", OptionType.UINT, "n", default=0, metavar="N"),
)


def _fields() -> tuple[Field, ...]:
    fields = [
        Field("job", Kind.INT, "job number; 0: no job"),
        Field("jobm", Kind.TEXT, "job number and a mark: ! live at start and end of the data, < at start, > at end"),
        Field("user", Kind.TEXT, "user, or users"),
        Field("duration", Kind.DURATION, "from first to last sample, to the minute"),
        Field("duration/sec", Kind.SECONDS, "the same, as seconds", unit="s"),
        Field("start", Kind.MINUTE, "first sample, UTC"),
        Field("start/sec", Kind.SECONDS, "the same, since 1970", "start", "s"),
        Field("end", Kind.MINUTE, "last sample, UTC"),
        Field("end/sec", Kind.SECONDS, "the same, since 1970", "end", "s"),
        Field("cputime", Kind.DURATION, "average CPU utilization times duration"),
        Field("cputime/sec", Kind.SECONDS, "the same, as seconds", "cputime", "s"),
        Field("gputime", Kind.DURATION, "average GPU utilization times duration"),
        Field("gputime/sec", Kind.SECONDS, "the same, as seconds", "gputime", "s"),
    ]
    for name, what, unit, _capacity in (*_QUANTITIES, _RESIDENT):
        for which, text in (("avg", "average"), ("peak", "peak")):
            share = f"{text} {what} of all the hosts have, rounded up"
            fields += [
                Field(f"{name}-{which}", Kind.INT, f"{text} {what}, rounded up", unit=unit),
                Field(f"r{name}-{which}", Kind.INT, share, unit="%", relative=True),
            ]
    return (
        *fields,
        Field("thread-avg", Kind.INT, "average number of threads, rounded up"),
        Field("thread-peak", Kind.INT, "peak number of threads"),
        Field("gpus", Kind.GPUS, "GPUs that were used at any time"),
        Field("gpufail", Kind.INT, "1 if a GPU of the job failed"),
        Field("host", Kind.HOSTS, "host, or hosts; short in fixed and awk format"),
        Field("cmd", Kind.TEXT, "distinct commands"),
        Field("now", Kind.MINUTE, "present time, UTC"),
        Field("now/sec", Kind.SECONDS, "the same, since 1970", "now", "s"),
        Field("classification", Kind.HEX, "2: live at the start of the data, 1: live at their end, added"),
    )


VERB = Verb(
    name="jobs",
    summary="Print jobs: who ran what, where, how long, and what it used",
    options=_OPTIONS,
    fields=_fields(),
    aliases={
        "std": ("jobm", "user", "duration", "host"),
        **{
            prefix + name: (f"{prefix}{name}-avg", f"{prefix}{name}-peak")
            for name, *_ in (*_QUANTITIES, _RESIDENT)
            for prefix in ("", "r")
        },
        "threads": ("thread-avg", "thread-peak"),
    },
    default_fields="std,cpu,mem,gpu,gpumem,cmd",
    run=run,
    privacy=Privacy.OWNED,
    takes_config=True,
    excludes_system_commands=True,
    excludes_heartbeats=True,
)

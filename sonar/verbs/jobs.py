"""The verb jobs: one row a job, from the samples of its processes."""

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sonar import gpusets
from sonar.errors import UsageError
from sonar.verbs import coverage
from sonar.verbs.accounting import (
    ACCOUNTING_FIELDS,
    ACCOUNTING_OPTIONS,
    accounting_of,
    fails_filters,
    filters_jobs,
    is_asked_for,
)
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import pyarrow as pa

    from sonar.analysis.jobs import Jobs
    from sonar.config.nodes import Node
    from sonar.verbs.query import Query

__all__ = ["VERB", "chosen"]

# Quantity, what it is, unit of its values, unit of its relative values, and the capacity that these are relative to.
_QUANTITIES = (
    ("cpu", "CPU", "% of a core", "cpu_cores"),
    ("mem", "virtual memory", "GB", "mem_gb"),
    ("gpu", "GPU", "% of a card", "gpu_cards"),
    ("gpumem", "GPU memory", "GB", "gpumem_gb"),
)
_RESIDENT = ("res", "resident memory", "GB", "mem_gb")


# Fields that are made of what samples add to counters, for which summaries of days do not do.
_FROM_TOTALS = frozenset({"read", "written", "ReadGB", "WrittenGB"})

# Columns by which rows are chosen and sorted, whatever is printed.
_JUDGED = frozenset(
    {"samples", "duration", "any_gpu", "classification", "zombie", "start", "job", "host", "user", "cmd"}
)

_LARGEST = 1e12  # of what is printed: can still be multiplied by a duration


_MARKS = ("", ">", "<", "!")  # by LIVE_AT_END (1) and LIVE_AT_START (2), added


def run(query: "Query") -> Result:
    """Return the jobs, sorted by start, job number and hosts."""
    from sonar.analysis.coverage import coverage_of_spans
    from sonar.analysis.jobs import OverHosts
    from sonar.verbs.partials import jobs_of_all_hosts

    over_hosts = OverHosts.NUMBERED
    if query.options["batch"] or query.options["merge-all"]:
        over_hosts = OverHosts.ALL
    elif query.options["merge-none"]:
        over_hosts = OverHosts.NONE
    with_totals = bool(query.fields & _FROM_TOTALS) or is_asked_for(query.fields, query.options)
    covers = coverage.is_asked_for(query.fields)
    jobs, runs = jobs_of_all_hosts(query, over_hosts, with_totals=with_totals, with_runs=covers)
    bounds = {host: (int(of_host[0]), int(of_host[-1])) for host, of_host in runs.items() if len(of_host)}
    rows = _rows(jobs, bounds, query, _columns_needed(query))
    if covers:
        found = coverage_of_spans(runs, list(jobs.hosts), jobs.start, jobs.end, query.interval_s)
        rows = coverage.with_coverage(rows, found)
    del jobs  # months of them take much memory
    return Result(chosen(rows, query))


def _columns_needed(query: "Query") -> frozenset[str] | None:
    """Return the columns that are printed, compared and sorted by, if nobody looks at others; None is all."""
    if not query.only_fields or is_asked_for(query.fields, query.options):
        return None
    limits = {limit.name[4:].replace("-", "_") for limit in _LIMITS if query.options[limit.name] is not None}
    return query.sources | limits | _JUDGED


def _rows(
    jobs: "Jobs", bounds: dict[str, tuple[int, int]], query: "Query", needed: frozenset[str] | None
) -> "pa.Table":  # fmt: skip
    """Return all jobs as a table: one column a field; averages and peaks are settled, and rounded up when printed."""
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.jobs import LIVE_AT_END, LIVE_AT_START, classification
    from sonar.analysis.streams import KIB_PER_GB

    marks = classification(jobs, bounds)
    users, commands = jobs.users, jobs.commands
    duration = jobs.end - jobs.start
    minutes_s = (duration + 30) // 60 * 60
    cards: Callable[[], np.ndarray] = cache(lambda: _cards(jobs.gpus))
    columns: dict[str, Callable[[], Any]] = {
        "job": lambda: jobs.job,
        "jobm": lambda: _marked(jobs.job, marks),
        "user": lambda: _coded(users.listed(), users.codes),
        "duration": lambda: duration,
        "duration_sec": lambda: minutes_s,
        "start": lambda: jobs.start,
        "end": lambda: jobs.end,
        "host": lambda: _coded(pa.array(jobs.hosts.values, pa.list_(pa.string())), jobs.hosts.codes),
        "cmd": lambda: _coded(commands.listed(), commands.codes),
        "gpus": lambda: jobs.gpus,
        "gpufail": lambda: jobs.gpufail,
        "classification": lambda: marks,
        "now": lambda: np.full(len(jobs), query.now),
        "samples": lambda: jobs.samples,
        "any_gpu": lambda: jobs.gpus != 0,  # the unknown set counts: its mask is not 0
        "no_gpu": lambda: jobs.gpus == 0,
        "running": lambda: (marks & LIVE_AT_END) != 0,
        "completed": lambda: (marks & LIVE_AT_END) == 0,
        "primordial": lambda: (marks & LIVE_AT_START) != 0,
        "born_later": lambda: (marks & LIVE_AT_START) == 0,
        "read_gb": lambda: jobs.totals["read_kib"] / KIB_PER_GB,
        "written_gb": lambda: jobs.totals["written_kib"] / KIB_PER_GB,
        "zombie": lambda: (
            users.with_word(starting="_zombie_")[users.codes]
            | commands.with_word(containing="<defunct>")[commands.codes]
        ),
    }
    for name in jobs.averages:
        columns[f"{name}_avg"] = partial(_limited, jobs.averages[name])
        columns[f"{name}_peak"] = partial(_limited, jobs.peaks[name])
    for name in ("cpu", "gpu"):  # made of what is printed beside it
        columns[f"{name}time"] = partial(_time_used, jobs.averages[name], minutes_s)
    columns |= _shares("sgpu", jobs.averages["gpu"], jobs.peaks["gpu"], cards)
    if query.nodes is not None:
        columns |= _relative(jobs, query.nodes, cards)
    rows = pa.table({name: make() for name, make in columns.items() if needed is None or name in needed})
    if is_asked_for(query.fields, query.options):
        told = accounting_of(jobs, query.topics, from_samples=query.options["sacct-from-sonar"])
        for name in told.column_names:
            rows = rows.append_column(name, told.column(name))
    return rows


def _cards(masks: "np.ndarray") -> "np.ndarray":
    """Return how many cards there are in each set."""
    import numpy as np

    known, place = np.unique(masks, return_inverse=True)
    sizes: np.ndarray = np.array([gpusets.size_of(mask) for mask in known.tolist()], float)
    return sizes[place]


def _time_used(averages: "np.ndarray", minutes_s: "np.ndarray") -> "np.ndarray":
    import numpy as np

    used_s: np.ndarray = (np.ceil(_limited(averages)).astype(np.int64) * minutes_s + 50) // 100
    return used_s


def _limited(values: "np.ndarray") -> "np.ndarray":
    """Return what can be printed rounded up: settled, and what is absurdly large in a bad record cut."""
    import numpy as np

    from sonar.analysis.rounding import settled

    return settled(np.minimum(values, _LARGEST))


def _coded(values: "pa.Array[Any]", codes: "np.ndarray") -> "pa.Array[Any]":
    """Return a column that has each distinct value once: it is filtered, sorted and printed faster."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes), values)


def _marked(job: "np.ndarray", marks: "np.ndarray") -> "pa.Array[Any]":
    """Return job numbers with marks, as texts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from sonar.analysis.samples import dense

    kernels: Any = pc
    codes = dense(job, marks)
    row = np.zeros(int(codes.max()) + 1 if len(codes) else 0, np.int64)
    row[codes] = np.arange(len(codes))
    mark_texts: Any = pa.array([_MARKS[mark] for mark in range(len(_MARKS))])
    numbers: Any = pa.array(job[row]).cast(pa.string())
    return _coded(kernels.binary_join_element_wise(numbers, mark_texts.take(pa.array(marks[row])), ""), codes)


def _relative(
    jobs: "Jobs", nodes: "Mapping[str, Node]", cards: "Callable[[], np.ndarray]"
) -> "dict[str, Callable[[], np.ndarray]]":
    """Return averages and peaks in percent of what the job's hosts have together, and of the cards that it used."""
    import numpy as np

    @cache
    def available(capacity: str) -> "np.ndarray":
        of_set = [sum(getattr(nodes[host], capacity) for host in hosts if host in nodes) for hosts in jobs.hosts.values]
        values: np.ndarray = np.array(of_set or [0], float)[jobs.hosts.codes]
        return values

    def of_cards() -> "np.ndarray":
        all_cards = available("gpu_cards")
        of_used: np.ndarray = available("gpumem_gb") / np.where(all_cards > 0, all_cards, 1) * cards()
        return of_used

    columns: dict[str, Callable[[], np.ndarray]] = {}
    for name, _what, unit, capacity in (*_QUANTITIES, _RESIDENT):
        scale = 100 if unit == "GB" else 1
        columns |= _shares(
            f"r{name}", jobs.averages[name] * scale, jobs.peaks[name] * scale, partial(available, capacity)
        )
    return columns | _shares("sgpumem", jobs.averages["gpumem"] * 100, jobs.peaks["gpumem"] * 100, of_cards)


def _shares(
    name: str, averages: "np.ndarray", peaks: "np.ndarray", available: "Callable[[], np.ndarray]"
) -> "dict[str, Callable[[], np.ndarray]]":
    """Return columns of averages and peaks by what is available; 0 where that is 0."""
    import numpy as np

    def share(values: "np.ndarray") -> "np.ndarray":
        of_rows = available()
        divisor = np.where(of_rows > 0, of_rows, 1)
        return _limited(np.where(of_rows > 0, np.minimum(values, _LARGEST) / divisor, 0))

    return {f"{name}_avg": partial(share, averages), f"{name}_peak": partial(share, peaks)}


def chosen(rows: "pa.Table", query: "Query") -> "pa.Table":
    """Return the rows that pass the filters on aggregates, sorted."""
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
        values = np.ceil(column(quantity.replace("-", "_")))  # limits are on what is printed
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
    if filters_jobs(options):
        keep &= ~np.array(fails_filters(rows, options), bool)
    kept = np.flatnonzero(keep)
    # Ties of start and job are rare: the others need not be compared by their hosts.
    order = kept[np.lexsort((column("job")[kept], column("start")[kept]))]
    start, job = column("start")[order], column("job")[order]
    tied = np.flatnonzero((start[1:] == start[:-1]) & (job[1:] == job[:-1]))
    for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1) if len(tied) else ():
        part = order[run[0] : run[-1] + 2]
        # A number that was given twice, before and after a boot, may be of two jobs; of number 0 many are of one user.
        names = ("host", "user", "cmd") if job[run[0]] else ("host",)
        keys: list[Any] = list(zip(*(rows.column(name).take(part).to_pylist() for name in names), strict=True))
        order[run[0] : run[-1] + 2] = part[sorted(range(len(part)), key=keys.__getitem__)]
    if query.only_fields:
        rows = rows.select([name for name in rows.column_names if name in query.sources or name == "user"])
    return rows.take(order)


def last_of_each_user(result: Result, query: "Query") -> Result:
    """Return the rows without those that are followed by as many others of the same user as --numjobs says."""
    number = query.options["numjobs"]
    if not number or len(result.rows) == 0:
        return result
    following: dict[str, int] = {}
    keep = []
    for user in reversed(result.rows.column("user").to_pylist()):
        following[user] = following.get(user, 0) + 1
        keep.append(following[user] <= number)
    return Result(result.rows.filter(keep[::-1]))


def check(options: "Mapping[str, Any]") -> None:
    """Refuse options that do not go together."""
    if options["merge-none"] and (options["batch"] or options["merge-all"]):
        raise UsageError("Only one of --merge-none, --merge-all (or --batch) can be given")


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
                help_text = f"{text} {what} {sign} N {unit}"
                option = f"{bound}-{prefix}{name}-{which}"
                limits.append(Option(option, help_text, OptionType.UINT, metavar="N", relative=bool(prefix)))
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
    Option("merge-all", "the same", OptionType.FLAG),
    Option("merge-none", "never take jobs on several hosts as one", OptionType.FLAG),
    *ACCOUNTING_OPTIONS,
    Option("numjobs", "only the last N jobs of each user; 0 is no limit", OptionType.UINT, "n", default=0, metavar="N"),
)


def _fields() -> tuple[Field, ...]:
    fields = [
        Field("job", Kind.INT, "job number; 0: no job", aliases=("Job",)),
        Field(
            "jobm",
            Kind.TEXT,
            "job number and a mark: ! live at start and end of the data, < at start, > at end",
            aliases=("JobAndMark",),
        ),
        Field("user", Kind.TEXT, "user, or users", aliases=("User",)),
        Field("duration", Kind.DURATION, "from first to last sample, to the minute", aliases=("Duration",)),
        Field("duration/sec", Kind.SECONDS, "the same, as seconds", unit="s"),
        Field("start", Kind.MINUTE, "first sample, UTC", aliases=("Start",)),
        Field("start/sec", Kind.SECONDS, "the same, since 1970", "start", "s"),
        Field("end", Kind.MINUTE, "last sample, UTC", aliases=("End",)),
        Field("end/sec", Kind.SECONDS, "the same, since 1970", "end", "s"),
        Field("cputime", Kind.DURATION, "average CPU utilization times duration", aliases=("CpuTime",)),
        Field("cputime/sec", Kind.SECONDS, "the same, as seconds", "cputime", "s"),
        Field("gputime", Kind.DURATION, "average GPU utilization times duration", aliases=("GpuTime",)),
        Field("gputime/sec", Kind.SECONDS, "the same, as seconds", "gputime", "s"),
    ]
    for name, what, unit, _capacity in (*_QUANTITIES, _RESIDENT):
        for which, text in (("avg", "average"), ("peak", "peak")):
            share = f"{text} {what} of all the hosts have, rounded up"
            long = f"{_LONG_NAMES[name]}{which.capitalize()}"
            fields += [
                Field(
                    f"{name}-{which}",
                    Kind.CEIL,
                    f"{text} {what}, rounded up",
                    unit=unit,
                    aliases=(f"{long}{'GB' if unit == 'GB' else 'Pct'}",),
                ),
                Field(f"r{name}-{which}", Kind.CEIL, share, unit="%", relative=True, aliases=(f"Relative{long}Pct",)),
            ]
            if name.startswith("gpu"):
                of_used = f"{text} {what} of the cards that the job used, rounded up; 0 if it is not known which"
                fields.append(
                    Field(
                        f"s{name}-{which}",
                        Kind.CEIL,
                        of_used,
                        unit="%",
                        relative=name == "gpumem",
                        aliases=(f"OccupiedRelative{long}Pct",),
                    )
                )
    return (
        *fields,
        Field("thread-avg", Kind.CEIL, "average number of threads, rounded up", aliases=("ThreadAvg",)),
        Field("thread-peak", Kind.CEIL, "peak number of threads", aliases=("ThreadPeak",)),
        Field("read", Kind.CEIL, "what its processes read since they were first seen, rounded up", "read_gb", "GB",
              aliases=("ReadGB",)),
        Field("written", Kind.CEIL, "what its processes wrote, rounded up", "written_gb", "GB",
              aliases=("WrittenGB",)),
        Field("gpus", Kind.GPUS, "GPUs that were used at any time", aliases=("Gpus",)),
        Field("gpufail", Kind.INT, "1 if a GPU of the job failed", aliases=("GpuFail",)),
        Field("host", Kind.HOSTS, "host, or hosts; short in fixed and awk format", aliases=("hosts", "Hosts")),
        Field("cmd", Kind.TEXT, "distinct commands", aliases=("Cmd",)),
        Field("now", Kind.MINUTE, "present time, UTC", aliases=("Now",)),
        Field("now/sec", Kind.SECONDS, "the same, since 1970", "now", "s"),
        Field("classification", Kind.HEX, "2: live at the start of the data, 1: live at their end, added",
              aliases=("Classification",)),
        Field("samples", Kind.INT, "number of its samples, those of its processes at one instant as one"),
        *coverage.COVERAGE_FIELDS,
        Field("SomeGpu", Kind.BOOL, "used a GPU", "any_gpu"),
        Field("NoGpu", Kind.BOOL, "used no GPU", "no_gpu"),
        Field("Running", Kind.BOOL, "was there at the last sample of its hosts", "running"),
        Field("Completed", Kind.BOOL, "had ended before the last sample of its hosts", "completed"),
        Field("Zombie", Kind.BOOL, "has a defunct process", "zombie"),
        Field("Primordial", Kind.BOOL, "was there at the first sample of its hosts", "primordial"),
        Field("BornLater", Kind.BOOL, "began after the first sample of its hosts", "born_later"),
        *ACCOUNTING_FIELDS,
    )  # fmt: skip


_LONG_NAMES = {"cpu": "Cpu", "mem": "Mem", "gpu": "Gpu", "gpumem": "GpuMem", "res": "ResidentMem"}
_ALL_FIELDS = _fields()


def _pair(name: str) -> tuple[str, str]:
    return f"{name}-avg", f"{name}-peak"


VERB = Verb(
    name="jobs",
    summary="Print jobs: who ran what, where, how long, and what it used",
    options=_OPTIONS,
    fields=_ALL_FIELDS,
    aliases={
        "std": ("jobm", "user", "duration", "host"),
        **{prefix + name: _pair(prefix + name) for name, *_ in (*_QUANTITIES, _RESIDENT) for prefix in ("", "r")},
        "sgpu": _pair("sgpu"),
        "sgpumem": _pair("sgpumem"),
        "cover": ("samples", "seen", "expected", "coverage", "brief"),
        "threads": ("thread-avg", "thread-peak"),
        # Not `all`: as in the original, that is an unknown word of this verb.
        "All": (
            "jobm", "job", "user", "duration", "duration/sec", "start", "start/sec", "end", "end/sec", "cpu", "mem",
            "res", "gpu", "gpumem", "threads", "read", "written", "cputime", "cputime/sec", "gputime", "gputime/sec",
            "gpus", "gpufail", "cmd", "host", "now", "now/sec", "classification", "cover",
        ),
    },
    default_fields="std,cpu,mem,gpu,gpumem,cmd",
    run=run,
    privacy=Privacy.OWNED,
    finish=last_of_each_user,
    takes_config=True,
    excludes_system_commands=True,
    excludes_heartbeats=True,
    check=check,
)  # fmt: skip

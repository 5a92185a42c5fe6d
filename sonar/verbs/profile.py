"""The verb profile: one job over time, process by process."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from sonar.errors import SonarError
from sonar.times import minute_text
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.profile import Profile
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB"]

_QUANTITIES = ("cpu", "mem", "gpu", "gpumem")
_RESIDENT = "res"  # a quantity too, but no field that is printed without being named
_LONG = 2.5  # times the usual distance of two instants: nobody sampled the job in between
_TIME_WIDTH = len("YYYY-MM-DD HH:MM")


def run(query: "Query") -> Result:
    """Return a row for each process at each instant; facts has the profile itself, the job, its hosts and users."""
    from sonar.analysis.profile import bucketed, clamped, profile_of
    from sonar.analysis.samples import concatenated, dense, samples_of
    from sonar.analysis.streams import clean_streams, selected
    from sonar.read.rows import empty_table

    if query.filter.jobs is None or len(query.filter.jobs) != 1 or query.filter.exclude_jobs:
        raise SonarError("Exactly one specific job number is required by `profile`")
    found = {}
    for host, table in query.scan.by_host():
        streams = selected(clean_streams(samples_of(table)), query.filter, query.window)
        if len(streams):
            found[host] = streams
    if len(found) > 1 and query.filter.hosts is None and any(of_host["epoch"].any() for of_host in found.values()):
        # Only numbers of the batch system are sure to be of one job on all hosts.
        raise SonarError(f"profile only implemented for single-host jobs: choose of {', '.join(found)} by --host")
    parts = list(found.values()) or [clean_streams(samples_of(empty_table()))]
    streams = concatenated(parts)
    streams = streams.with_columns(stream=dense(streams["host"], streams["stream"]))
    profile = profile_of(streams)
    if query.options["max"] is not None:
        profile = clamped(profile, query.options["max"])
    bucket = query.options["bucket"]
    if bucket > 1 and len(profile):
        profile = bucketed(profile, bucket)
    facts = {
        "profile": profile,
        "job": next(iter(query.filter.jobs)),
        "hosts": list(found),
        "users": sorted(set(streams.texts("user"))),
        "bucket": bucket,
    }
    return Result(_rows(profile), facts=facts)


def _rows(profile: "Profile") -> "pa.Table":
    """Return the points as a table; `process` is the place in the profile's lists."""
    import pyarrow as pa

    from sonar.analysis.rounding import settled

    processes = profile.process.tolist()
    return pa.table(
        {
            "time": profile.time,
            "process": profile.process,
            **{name: settled(values) for name, values in profile.values.items()},
            "nproc": pa.array([n + 1 if n else None for n in profile.rolledup.tolist()], pa.int64()),
            "cmd": pa.array([profile.commands[at] for at in processes], pa.string()),
            "host": pa.array([profile.hosts[at] for at in processes], pa.string()),
        }
    )


def _profile(result: Result) -> "Profile":
    """Return the profile of the rows that are left of it: of their processes only."""
    import numpy as np

    from sonar.analysis.profile import Profile

    whole: Profile = result.facts["profile"]
    left, process = np.unique(result.rows.column("process").to_numpy(), return_inverse=True)
    return Profile(
        time=result.rows.column("time").to_numpy(),
        process=process,
        values={name: result.rows.column(name).to_numpy() for name in whole.values},
        rolledup=np.array([(number or 1) - 1 for number in result.rows.column("nproc").to_pylist()], np.int64),
        commands=[whole.commands[at] for at in left],
        pids=[whole.pids[at] for at in left],
        hosts=[whole.hosts[at] for at in left],
    )


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write a table of all, or as CSV, JSON or HTML a series for each process."""
    from sonar.render.formats import Style, write_rows

    if Style.CSVNAMED.value in fmt.words:
        raise SonarError("Named fields are not supported")
    kinds = sorted(fmt.words & {"csv", "json", "html", "chart"})
    if len(kinds) > 1:
        raise SonarError(f"one type of output at a time, not {', '.join(kinds)}")
    if kinds in ([], ["json"]) and result.facts["bucket"] > 1:
        raise SonarError(f"Bucketing not implemented for {kinds[0] if kinds else 'fixed'} output")
    if kinds == ["json"]:
        out.write(_json(result, fmt))
    elif kinds:
        quantity = _one_quantity(fmt)
        {"csv": _write_csv, "html": _write_html, "chart": _write_chart}[kinds[0]](result, quantity, fmt, out)
    else:
        fields = fmt.fields
        if fmt.is_default and not result.facts["profile"].rolledup.any():
            fields = tuple(field for field in fields if field.name != "nproc")
        if fmt.is_default and len(result.facts["hosts"]) > 1:
            fields = (*fields, next(field for field in VERB.fields if field.name == "host"))
        rows = result.rows
        if fmt.style in (Style.FIXED, Style.AWK):
            rows, fields = _with_each_time_once(rows, fields)
        write_rows(rows, replace(fmt, fields=fields), out)


def _with_each_time_once(rows: "pa.Table", fields: tuple[Field, ...]) -> "tuple[pa.Table, tuple[Field, ...]]":
    """Return the rows with the time as a text on the first row of each instant, blanks on the others."""
    import pyarrow as pa

    texts, before = [], None
    times: list[int] = rows.column("time").to_numpy().tolist()
    for time in times:
        texts.append(" " * _TIME_WIDTH if time == before else minute_text(time))
        before = time
    rows = rows.append_column("time_once", pa.array(texts, pa.string()))
    once = (replace(one, kind=Kind.TEXT, column="time_once") if one.name == "time" else one for one in fields)
    return rows, tuple(once)


def _one_quantity(fmt: "Format") -> str:
    """Return the one quantity that a series is about. Raise SonarError for none, several, or another field."""
    names = ("cpu",) if fmt.is_default else fmt.names
    for name in names:
        if name not in {*_QUANTITIES, _RESIDENT, "rss"}:
            raise SonarError(f"Not a known field: {name}")
    if len(names) != 1:
        raise SonarError(f"formatted output needs exactly one valid field, not {', '.join(names)}")
    return _RESIDENT if names[0] == "rss" else names[0]


def _whole_numbers(result: Result, quantity: str, fmt: "Format") -> list[int]:
    """Return the values of a quantity as they are printed: rounded."""
    from sonar.render.formats import texts

    field = next(field for field in VERB.fields if field.name == quantity)
    return [int(text) for text in texts(result.rows, field, fmt)]


def _values_at(result: Result, quantity: str, fmt: "Format") -> tuple[list[int], list[list[int | None]]]:
    """Return the instants, and for each process its values, None where it was not there."""
    profile = _profile(result)
    instants = sorted(set(profile.time.tolist()))
    place = {time: at for at, time in enumerate(instants)}
    series: list[list[int | None]] = [[None] * len(instants) for _ in profile.commands]
    values = _whole_numbers(result, quantity, fmt)
    for time, process, value in zip(profile.time.tolist(), profile.process.tolist(), values, strict=True):
        series[process][place[time]] = value
    return instants, series


def _with_gaps(instants: list[int], series: list[list[int | None]]) -> tuple[list[int], list[list[int | None]]]:
    """Return the same with an instant without values in each distance that is much longer than usual."""
    steps = sorted(after - before for before, after in pairwise(instants))
    usual = steps[len(steps) // 2] if steps else 0
    gaps = [at for at, (before, after) in enumerate(pairwise(instants), 1) if after - before > _LONG * usual]
    for at in reversed(gaps):
        instants = [*instants[:at], (instants[at - 1] + instants[at]) // 2, *instants[at:]]
        series = [[*values[:at], None, *values[at:]] for values in series]
    return instants, series


def _names(profile: "Profile") -> list[str]:
    """Return `CMD (PID)` of each process, with several hosts `CMD (PID@HOST)`."""
    several = len(set(profile.hosts)) > 1
    return [
        f"{command} ({pid}@{host})" if several else f"{command} ({pid})"
        for command, pid, host in zip(profile.commands, profile.pids, profile.hosts, strict=True)
    ]


def _write_csv(result: Result, quantity: str, fmt: "Format", out: TextIO) -> None:
    """Write a line an instant, a column a process."""
    import csv

    instants, series = _values_at(result, quantity, fmt)
    labels = [minute_text(time) for time in instants]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", *_names(_profile(result))])
    writer.writerows([label, *values] for label, *values in zip(labels, *series, strict=True))


def _write_html(result: Result, quantity: str, fmt: "Format", out: TextIO) -> None:
    """Write a page with a chart."""
    from sonar.render.chart import Line, chart_page

    instants, series = _with_gaps(*_values_at(result, quantity, fmt))
    lines = [Line(name, values) for name, values in zip(_names(_profile(result)), series, strict=True)]
    labels = [minute_text(time) for time in instants]
    out.write(chart_page(_title(result, quantity), labels, lines, instants))


def _write_chart(result: Result, quantity: str, fmt: "Format", out: TextIO) -> None:
    """Write a chart of characters."""
    from sonar.render.chart import Line
    from sonar.render.plot import terminal_chart

    instants, series = _with_gaps(*_values_at(result, quantity, fmt))
    lines = [Line(name, values) for name, values in zip(_names(_profile(result)), series, strict=True)]
    out.write(terminal_chart(_title(result, quantity), instants, lines, width=fmt.width))


def _title(result: Result, quantity: str) -> str:
    from sonar.hosts import compress

    facts = result.facts
    bucketing = f", bucketing={facts['bucket']}" if facts["bucket"] > 1 else ""
    users = ",".join(facts["users"])
    hosts = compress(facts["hosts"]) or "unknown"
    return f"`{quantity}` profile of job {facts['job']} on `{hosts}`, user `{users}`{bucketing}"


def _json(result: Result, fmt: "Format") -> str:
    """Return an array with an object for each instant."""
    profile = _profile(result)
    names = (*_QUANTITIES, *((_RESIDENT,) if {_RESIDENT, "rss"} & set(fmt.names) else ()))
    values = {name: _whole_numbers(result, name, fmt) for name in names}
    several = len(result.facts["hosts"]) > 1
    steps: dict[int, list[dict[str, object]]] = {}
    for at, (time, process) in enumerate(zip(profile.time.tolist(), profile.process.tolist(), strict=True)):
        point: dict[str, object] = {"command": profile.commands[process], "pid": profile.pids[process]}
        point |= {name: column[at] for name, column in values.items()}
        if several:
            point["host"] = profile.hosts[process]
        steps.setdefault(time, []).append(point | {"nproc": int(profile.rolledup[at]) + 1})
    document = [
        {"time": minute_text(time), "job": result.facts["job"], "points": points} for time, points in steps.items()
    ]
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


VERB = Verb(
    name="profile",
    summary="Print one job over time, process by process",
    options=(
        Option("max", "cut values above N; above twice N take them for errors", OptionType.FLOAT, metavar="N"),
        Option("bucket", "means over N instants at a time, in CSV and HTML", OptionType.UINT, default=0, metavar="N"),
    ),
    fields=(
        Field("time", Kind.MINUTE, "instant, UTC; in fixed and awk format on the first row that has it"),
        Field("cpu", Kind.ROUND, "CPU utilization", unit="% of a core"),
        Field("mem", Kind.ROUND, "virtual memory", unit="GB"),
        Field("res", Kind.ROUND, "resident memory", unit="GB", aliases=("rss",)),
        Field("gpu", Kind.ROUND, "GPU utilization", unit="% of a card"),
        Field("gpumem", Kind.ROUND, "GPU memory", unit="GB"),
        Field("nproc", Kind.INT, "number of processes in the sample; by default only if it is ever above 1"),
        Field("cmd", Kind.TEXT, "command"),
        Field("host", Kind.TEXT, "host; by default only if there are several"),
    ),
    aliases={"all": ("time", *_QUANTITIES, "nproc", "cmd")},
    default_fields="all",
    run=run,
    privacy=Privacy.FILTERED,
    excludes_heartbeats=True,
    write=write,
    controls={"html": "a page with a chart of one quantity", "chart": "such a chart in the terminal"},
)

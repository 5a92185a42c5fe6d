"""The verb load: how loaded each host was over time."""

import json
import resource
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from sonar.errors import SonarError, UsageError
from sonar.times import DAY, HOUR
from sonar.verbs import coverage
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.buckets import Series
    from sonar.config.nodes import Node, NodeTable
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB", "UndescribedHostError"]

# Length of the slots that an option asks for, in seconds; `none` keeps the samples.
_SLOTS = {"hourly": HOUR, "half-hourly": HOUR // 2, "daily": DAY, "half-daily": DAY // 2, "weekly": 7 * DAY, "none": 0}
_MOST_ROWS = 5_000_000  # a thousand hosts by the hour for half a year; `--from 1-1-1` would be a century of empty slots
_ROW_BYTES = 1400  # of memory, until it is written


class UndescribedHostError(SonarError):
    """A value relative to a host's capacity is wanted, but the configuration does not describe the host."""


def run(query: "Query") -> Result:
    """Return the load of each host, or of all together, a block a host; facts has each block's node."""
    import numpy as np

    from sonar.analysis.bounds import inferred_window
    from sonar.analysis.buckets import filled, summed
    from sonar.analysis.coverage import coverage_of_slots
    from sonar.hosts import compress
    from sonar.verbs.partials import loads_of_all_hosts

    options = query.options
    slot = next((length for name, length in _SLOTS.items() if options[name]), HOUR)
    relative = any(field.relative for field in VERB.fields if field.name in query.fields)
    covers = coverage.is_asked_for(query.fields) or "chart" in query.words
    is_filled = bool(slot) and not options["last"] and not options["compact"]
    if is_filled and query.window.start_active and query.window.end_active:  # refuse before the work, not after
        _refuse_many(query.window.start, query.window.end, slot, 1 if options["group"] else len(query.scan.hosts))
    loads = loads_of_all_hosts(query, slot, with_runs=covers)
    undescribed: list[str] = []
    if relative and not query.has_node_file:
        # Nodes describe themselves, or not: those that did not are no reason to tell nothing of the others.
        undescribed = [host for host in loads if host not in (query.nodes or {})]
        loads = {host: load for host, load in loads.items() if host not in undescribed}
        if undescribed and not loads:
            raise UndescribedHostError(f"Relative values requested without config info for {', '.join(undescribed)}")
    bounds = [load.bounds for load in loads.values()]
    runs = {host: load.runs for host, load in loads.items()}
    by_host = {host: load.series for host, load in loads.items() if load.series is not None}
    hosts: list[tuple[str, ...]] = [(host,) for host in by_host]
    series_list = list(by_host.values())
    nodes = [_node(names, query.nodes, required=relative) for names in hosts]
    if options["group"] and by_host:
        hosts, series_list = [tuple(by_host)], [summed(series_list)]
        nodes = [_node(hosts[0], query.nodes, required=relative)]
    start, end = inferred_window(query.window, bounds)
    if is_filled:
        _refuse_many(start, end, slot, len(series_list))
        series_list = [filled(series, start, end, slot) for series in series_list]
    result = _result(hosts, nodes, series_list, query)
    if undescribed:
        warning = (
            f"no config info for {compress(undescribed)}, leaving out: relative values need to know what hosts have"
        )
        result = replace(result, warnings=(warning,))
    if covers:
        limits = (start, min(end, query.now))
        parts = [
            coverage_of_slots(runs, names, times, slot or 1, limits, query.interval_s)
            for names, series in zip(hosts, series_list, strict=True)
            for times in [series.time[-1:] if options["last"] else series.time]
        ]
        whole = tuple(np.concatenate([part[at] for part in parts]) if parts else np.zeros(0, int) for at in (0, 1))
        result = replace(result, rows=coverage.with_coverage(result.rows, (whole[0], whole[1])))
    return result


def _refuse_many(start: int, end: int, slot: int, blocks: int) -> None:
    """Raise SonarError if there would be too many rows, or more than this process may have memory for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    most = _MOST_ROWS if limit == resource.RLIM_INFINITY else min(_MOST_ROWS, limit // _ROW_BYTES)
    if (end - start) // slot * blocks > most:
        raise SonarError(f"More than {most} rows: ask for a shorter time, longer slots, or --compact")


def _node(hosts: tuple[str, ...], nodes: "NodeTable | None", *, required: bool) -> "Node | None":
    """Return what the hosts have together. Raise UndescribedHostError for one that is not described if it must be."""
    from sonar.config.nodes import combined

    known = []
    for host in hosts:
        if nodes is not None and host in nodes:
            known.append(nodes[host])
        elif required:
            raise UndescribedHostError(f"Relative values requested without config info for {host}")
    if not known:
        return None
    return known[0] if len(hosts) == 1 else combined(known, ",".join(hosts))


def _result(
    hosts: list[tuple[str, ...]], nodes: "list[Node | None]", series_list: "list[Series]", query: "Query"
) -> Result:
    import pyarrow as pa

    from sonar.hosts import compress

    tables, blocks, at = [], [], 0
    for names, node, series in zip(hosts, nodes, series_list, strict=True):
        table = _rows(names, node, series, query.now)
        if query.options["last"]:
            table = table.slice(len(table) - 1)
        tables.append(table)
        blocks.append((compress(names), at, len(table)))
        at += len(table)
    rows = (
        pa.concat_tables(tables)
        if tables
        else pa.table({field.source: pa.array([]) for field in VERB.fields if field not in coverage.COVERAGE_FIELDS})
    )
    return Result(rows, tuple(blocks), {"nodes": tuple(nodes)})


def _rows(hosts: tuple[str, ...], node: "Node | None", series: "Series", now: int) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    from sonar.analysis.rounding import settled
    from sonar.analysis.streams import KIB_PER_GB
    from sonar.hosts import compress

    cpu, gpu = settled(series.values["util"]), settled(series.values["gpu_pct"])
    memory = {
        name: settled(series.values[column] / KIB_PER_GB)
        for name, column in (("mem", "cpu_kib"), ("res", "rss_kib"), ("gpumem", "gpu_kib"))
    }

    def share(values: "np.ndarray", capacity: int) -> "np.ndarray":
        return settled(values / capacity) if capacity else np.zeros(len(values))

    return pa.table(
        {
            "time": series.time,
            "host": pa.array([compress(hosts)] * len(series), pa.string()),
            "cpu": cpu,
            "gpu": gpu,
            **memory,
            "rcpu": share(cpu, node.cpu_cores if node else 0),
            "rmem": share(memory["mem"] * 100, node.mem_gb if node else 0),
            "rres": share(memory["res"] * 100, node.mem_gb if node else 0),
            "rgpu": share(gpu, node.gpu_cards if node else 0),
            "rgpumem": share(memory["gpumem"] * 100, node.gpumem_gb if node else 0),
            "gpus": series.gpus,
            "now": np.full(len(series), now),
        }
    )


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write a table a host, under a line with its name unless the format tells it otherwise; JSON is nested."""
    from sonar.render.formats import Style, block_texts

    if "chart" in fmt.words:
        _write_chart(result, fmt, out)
        return
    blocks = result.blocks or ()
    texts = block_texts(result.rows, [(start, length) for _title, start, length in blocks], fmt)
    titles = [title for title, _start, _length in blocks]
    if fmt.is_json:
        elements = [
            f'{{"system":{_system(title, node)},"records":{text}}}'
            for title, node, text in zip(titles, result.facts["nodes"], texts, strict=True)
        ]
        out.write(f"[{','.join(elements)}]" + ("\n" if fmt.style is Style.NATIVE else ""))
        return
    titled = fmt.style in {Style.FIXED, Style.AWK} and "host" not in fmt.names
    for title, text in zip(titles, texts, strict=True):
        out.write(f"HOST: {title}\n{text}" if titled else text)


_CHARTED = ("cpu", "mem", "res", "gpu", "gpumem", "rcpu", "rmem", "rres", "rgpu", "rgpumem")


def _write_chart(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write a chart of one quantity, a line a host; slots without samples are gaps."""
    from sonar.render.chart import Line
    from sonar.render.plot import terminal_chart

    names = [name for name in fmt.names if name in _CHARTED]
    if fmt.is_default:
        names = ["cpu"]
    if len(names) != 1:
        raise SonarError(f"chart needs exactly one of {', '.join(_CHARTED)}, not {', '.join(names) or 'none'}")
    of_block = {}
    for title, first, length in result.blocks or ():
        rows = result.rows.slice(first, length)
        times: list[int] = rows.column("time").to_numpy().tolist()
        seen: list[int] = rows.column("runs_seen").to_numpy().tolist()
        values: list[float] = rows.column(names[0]).to_numpy().tolist()
        of_block[title] = {time: value if n else None for time, value, n in zip(times, values, seen, strict=True)}
    instants = sorted({time for points in of_block.values() for time in points})
    lines = [Line(title, [points.get(time) for time in instants]) for title, points in of_block.items()]
    field = next(one for one in VERB.fields if one.name == names[0])
    out.write(terminal_chart(f"{field.help} ({field.unit})", instants, lines, width=fmt.width))


def _system(host: str, node: "Node | None") -> str:
    facts = {
        "hostname": host,
        "description": node.description if node else "Unknown",
        "gpucards": str(node.gpu_cards if node else 0),
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    slots = [f"--{name}" for name in _SLOTS if options[name]]
    if len(slots) > 1:
        raise UsageError(f"Only one of {', '.join(slots)} can be given")
    if options["all"] and options["last"]:
        raise UsageError("Only one of --all, --last can be given")
    if options["group"] and options["none"]:
        raise SonarError("Grouping across hosts requires first bucketing by time")


VERB = Verb(
    name="load",
    summary="Print the load of hosts over time",
    options=(
        Option("hourly", "means over hours (the default)", OptionType.FLAG),
        Option("half-hourly", "means over half hours", OptionType.FLAG),
        Option("daily", "means over days, UTC", OptionType.FLAG),
        Option("half-daily", "means over half days, UTC", OptionType.FLAG),
        Option("weekly", "means over weeks from Monday on, UTC", OptionType.FLAG),
        Option("none", "the samples themselves", OptionType.FLAG),
        Option("group", "the sum over all hosts", OptionType.FLAG),
        Option("all", "all slots of the window (the default)", OptionType.FLAG),
        Option("last", "only the last slot of each host that has samples", OptionType.FLAG),
        Option("compact", "only slots that have samples", OptionType.FLAG),
    ),
    fields=(
        Field("date", Kind.DATE, "day at the start of the slot, UTC", "time"),
        Field("time", Kind.CLOCK, "time at the start of the slot, UTC"),
        Field("datetime", Kind.MINUTE, "day and time at the start of the slot, UTC", "time"),
        Field("cpu", Kind.TRUNC, "CPU utilization, cut", unit="% of a core"),
        Field("mem", Kind.TRUNC, "virtual memory, cut", unit="GB"),
        Field("res", Kind.TRUNC, "resident memory, cut", unit="GB"),
        Field("gpu", Kind.TRUNC, "GPU utilization, cut", unit="% of a card"),
        Field("gpumem", Kind.TRUNC, "GPU memory, cut", unit="GB"),
        Field("rcpu", Kind.ROUND, "CPU utilization of all cores", unit="%", relative=True),
        Field("rmem", Kind.ROUND, "virtual memory of all memory", unit="%", relative=True),
        Field("rres", Kind.ROUND, "resident memory of all memory", unit="%", relative=True),
        Field("rgpu", Kind.ROUND, "GPU utilization of all cards", unit="%", relative=True),
        Field("rgpumem", Kind.ROUND, "GPU memory of all GPU memory", unit="%", relative=True),
        Field("gpus", Kind.GPUS, "GPUs in use"),
        Field("host", Kind.TEXT, "host, or the group's hosts"),
        *coverage.COVERAGE_FIELDS,
        Field("now", Kind.MINUTE, "present time, UTC"),
    ),
    aliases={"cover": tuple(field.name for field in coverage.COVERAGE_FIELDS)},
    default_fields="date,time,cpu,mem,gpu,gpumem",
    run=run,
    privacy=Privacy.PUBLIC,
    takes_config=True,
    describes_hosts=True,
    excludes_system_commands=True,
    everyone=True,
    check=check,
    write=write,
    controls={"chart": "a chart of one quantity in the terminal, a line a host"},
)

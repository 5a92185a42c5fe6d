"""The verb uptime: when hosts and their GPUs were up and down."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from sonar.errors import UsageError
from sonar.times import MINUTE
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    from pathlib import Path

    from sonar.analysis.bounds import Bounds
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.uptime import Probes
    from sonar.columns.rollups import DayRuns
    from sonar.read.columns import Facts, Identity
    from sonar.read.plan import DayPlan, HostPlan
    from sonar.read.scan import Pieces
    from sonar.verbs.query import Query

__all__ = ["VERB"]

_Day: TypeAlias = "tuple[Facts | None, DayRuns | None]"  # of the columns of a day, and the runs in them
_Told: TypeAlias = "tuple[Probes, Bounds]"  # when a host was sampled, and the first and last instant of all records


def run(query: "Query") -> Result:
    """Return the periods of each host, sorted by host and start."""
    import pyarrow as pa

    from sonar.analysis.bounds import inferred_window
    from sonar.analysis.uptime import Period, periods

    told = _told(query)
    probes = {host: of_host for host, (of_host, _) in told.items()}
    start, end = inferred_window(query.window, [bounds for _, bounds in told.values()])
    cutoff_s = query.options["interval"] * MINUTE * 2
    wanted = {"up", "down"}
    if query.options["only-up"] or query.options["only-down"]:
        wanted = {"up"} if query.options["only-up"] else {"down"}
    of_host = {host: periods(probe, start, end, cutoff_s) for host, probe in probes.items()}
    for host in _known_hosts(query, start, end) if end - start > cutoff_s else ():
        # It should have been sampled, and was not once.
        of_host[host] = of_host.get(host) or [Period("host", "down", start, end)]
    found = [(host, *period) for host in sorted(of_host) for period in of_host[host] if period.state in wanted]
    names = ("host", "device", "state", "start", "end")
    return Result(pa.table({name: [row[at] for row in found] for at, name in enumerate(names)}))


def _told(query: "Query") -> "dict[str, _Told]":
    """Return when each host was sampled, by the records that count, and its bounds: by roll-ups as far as they go."""
    records = None if query.filter.is_everything else query.filter
    columns = ("time", "gpufail", *(() if records is None else ("user", "cmd", "job", "pid")))
    work = partial(_parts, records)
    plans = query.scan.plans() if records is None and query.scan.use_rollups else None
    if plans is not None:
        days: dict[tuple[Path, Identity], _Day] = {}
        of_runs = {host: _of_runs(plan, days) for host, plan in plans.items()}
        live = {host: replace(plans[host], days=rest) for host, (_, rest) in of_runs.items() if rest}
        of_live, is_clean = query.scan.map_plans(work, columns, live)
        parts = {host: [*known, *(of_live.get(host) or ())] for host, (known, _) in of_runs.items()}
        told = {host: _joined(of_host) for host, of_host in parts.items() if of_host}
        # Where records of a host stand in the file of another, or days overlap, they are to be looked at together.
        if is_clean and None not in told.values():
            number = sum(len(known) for known, _ in of_runs.values())
            query.scan.way = f"roll-ups of {number} days of hosts, samples of {sum(len(p.days) for p in live.values())}"
            return {host: of_host for host, of_host in told.items() if of_host is not None}
    return dict(query.scan.map(partial(_whole, records), columns))


def _of_runs(
    plan: "HostPlan", days: "dict[tuple[Path, Identity], _Day]"
) -> "tuple[list[_Told], tuple[DayPlan, ...]]":  # fmt: skip
    """Return what roll-ups tell of a host, and the days that they do not; `days` are those known so far."""
    from sonar.analysis.uptime import probes_of_runs

    known: list[_Told] = []
    rest = []
    first, last = plan.limits
    for day in plan.days:
        runs = None
        if day.columns is not None and not day.texts and day.sources is None:
            key = day.directory, day.columns
            if key not in days:
                days[key] = _day(*key)
            facts, of_hosts = days[key]
            rows = facts.hosts[plan.host] if facts else None
            if rows is not None and (rows.latest < first or rows.earliest > last):
                continue
            if rows is not None and rows.source >= 0 and first <= rows.earliest and rows.latest <= last:
                runs = of_hosts
        if runs is None:
            rest.append(day)
        else:
            time = runs.time[plan.host]
            known.append((probes_of_runs(time, runs.failed[plan.host]), (int(time[0]), int(time[-1]))))
    return known, tuple(rest)


def _day(directory: "Path", identity: "Identity") -> "_Day":
    from sonar.columns.rollups import open_runs
    from sonar.read.columns import facts_at
    from sonar.read.files import COLUMNS_NAME

    found = facts_at(directory / COLUMNS_NAME, identity)
    return found[1] if found else None, open_runs(directory, identity)


def _parts(records: "RecordFilter | None", _host: str, pieces: "Pieces") -> "list[_Told] | None":
    """Return when a host was sampled, piece by piece."""
    from sonar.analysis.bounds import bounds_of
    from sonar.analysis.uptime import probes_of

    parts = [
        (probes_of(samples if records is None else samples.take(records.mask(samples))), bounds)
        for samples in pieces
        if (bounds := bounds_of(samples))
    ]
    return parts or None


def _whole(records: "RecordFilter | None", host: str, pieces: "Pieces") -> "_Told | None":
    """Return when a host was sampled."""
    parts = _parts(records, host, pieces)
    return _joined(parts) if parts else None


def _joined(parts: "list[_Told]") -> "_Told | None":
    """Return parts of which each is later than the one before, when sorted, as one; None if they are not."""
    import numpy as np

    from sonar.analysis.bounds import joined
    from sonar.analysis.uptime import Probes

    parts = sorted(parts, key=lambda part: part[1])
    if any(later[1][0] <= earlier[1][1] for earlier, later in pairwise(parts)):
        return None
    probes, bounds = zip(*parts, strict=True)
    return Probes(*(np.concatenate(column) for column in zip(*probes, strict=True))), joined(bounds)


def _known_hosts(query: "Query", start: int, end: int) -> list[str]:
    """Return the hosts asked for that the configuration file lists, or that described themselves before the end."""
    from sonar.read.capacities import stored_nodes

    patterns = query.filter.hosts
    known = {*(query.nodes or ()), *stored_nodes(query.topics, start, end)}
    return [host for host in known if patterns is None or patterns.match(host)]


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    if options["only-up"] and options["only-down"]:
        raise UsageError("Only one of --only-up, --only-down can be given")


VERB = Verb(
    name="uptime",
    summary="Print when hosts and their GPUs were up and down",
    options=(
        Option(
            "interval",
            "minutes between samples; a gap longer than twice that is down time",
            OptionType.UINT,
            metavar="MINUTES",
            required=True,
        ),
        Option("only-up", "only periods of being up", OptionType.FLAG),
        Option("only-down", "only periods of being down", OptionType.FLAG),
    ),
    fields=(
        Field("device", Kind.TEXT, "host or gpu"),
        Field("host", Kind.TEXT, "host"),
        Field("state", Kind.TEXT, "up or down"),
        Field("start", Kind.MINUTE, "start of the period, UTC"),
        Field("end", Kind.MINUTE, "end of the period, UTC"),
    ),
    aliases={"all": ("device", "host", "state", "start", "end")},
    default_fields="all",
    run=run,
    privacy=Privacy.PUBLIC,
    counts_everything=True,
    takes_config=True,
    everyone=True,
    check=check,
)

"""Jobs and load from summaries of days: of roll-ups where there are some, else made of many hosts' columns at once."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    import numpy as np

    from sonar.analysis.combine import Part
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.summary import Details, Summaries
    from sonar.read.columns import HostRows, Identity
    from sonar.read.plan import DayPlan, HostPlan
    from sonar.read.scan import Tables
    from sonar.verbs.partials import Selection
    from sonar.verbs.query import Query

__all__ = ["CannotRollUpError", "Portion", "RolledUp", "rolled_up"]

_R = TypeVar("_R")

_HOSTS_AT_ONCE = 25
_COST_ROLLED = 1 << 14  # of the summary of a host and day
_COST = 1 << 18  # of the columns of a host and day, in bytes of text that cost as much


@dataclass(frozen=True, slots=True)
class Portion:
    """Some hosts, and where the summaries of their days are: days of roll-ups, and parts made of samples."""

    verb: str
    records: "RecordFilter | None"  # what the roll-ups are to be filtered by
    days: "tuple[tuple[Path, Identity, frozenset[str]], ...]"
    made: "tuple[Part, ...]"

    def parts(self) -> "list[Part]":
        """Return the summaries. Raise CannotRollUpError if they cannot be had."""
        from sonar.analysis.combine import Part
        from sonar.columns.rollups import open_rollup
        from sonar.read.plan import ColumnsChangedError

        parts = list(self.made)
        for directory, identity, hosts in self.days:
            rollup = open_rollup(directory, self.verb, identity)
            try:
                found = rollup.summaries(hosts, self.records) if rollup else None
            except ColumnsChangedError:
                found = None
            if rollup is None or found is None:
                raise CannotRollUpError
            parts.append(Part(found, hosts, rollup.every))
        return parts


class CannotRollUpError(Exception):
    """A job has samples of users who are asked for, and of others, or roll-ups have been replaced."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Summaries of the days of hosts; `rest` are hosts that cannot be summarized.

    Of each host answered for: its runs in the window, and the first and last instant of its samples.
    """

    portions: tuple[Portion, ...]
    runs: "dict[str, np.ndarray]"
    extents: dict[str, tuple[int, int]]
    rest: "dict[str, HostPlan]"

    def each(self, query: "Query", work: "Callable[[Portion], _R]") -> "list[_R]":
        """Return what a function makes of each portion. Raise CannotRollUpError if it cannot be made."""
        cost = _COST_ROLLED * sum(len(hosts) for portion in self.portions for *_, hosts in portion.days)
        return list(query.scan.each(work, self.portions, cost))


@dataclass(frozen=True, slots=True)
class _Portion:
    """Hosts whose columns of a day are read at once."""

    directory: "Path"
    identity: "Identity"
    hosts: tuple[str, ...]


@dataclass(slots=True)
class _Host:
    """What is known of a host while its days are looked at."""

    parts: "list[tuple[tuple[int, int], np.ndarray]]" = field(default_factory=list)  # extent and runs
    live: "list[DayPlan]" = field(default_factory=list)
    is_refused: bool = False


@dataclass(slots=True)
class _Days:
    """Which days of which hosts are in roll-ups, and which in columns that have all of the log."""

    rolled: "dict[tuple[Path, Identity], set[str]]" = field(default_factory=dict)
    columns: "dict[tuple[Path, Identity], list[str]]" = field(default_factory=dict)
    _known: "dict[tuple[Path, Identity], _Known | None]" = field(default_factory=dict)

    def known(self, day: "DayPlan", verb: str | None, *, with_runs: bool) -> "_Known | None":
        """Return what columns and the roll-up for a verb tell of a day; None if it has no columns."""
        if day.columns is None:
            return None
        key = day.directory, day.columns
        if key not in self._known:
            self._known[key] = _known_of(*key, verb, with_runs=with_runs)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class _Known:
    """Where the rows of hosts are in the columns of a day, which hosts are in the roll-up, and runs if wanted."""

    hosts: "Mapping[str, HostRows]"
    rolled: "Collection[str]"
    runs: "Mapping[str, np.ndarray] | None"


def _known_of(directory: "Path", identity: "Identity", verb: str | None, *, with_runs: bool) -> _Known | None:
    from sonar.columns.rollups import open_rollup, open_runs
    from sonar.read.columns import facts_at
    from sonar.read.files import COLUMNS_NAME

    found = facts_at(directory / COLUMNS_NAME, identity)
    if found is None:
        return None
    rollup = open_rollup(directory, verb, identity) if verb else None
    runs = open_runs(directory, identity) if rollup and with_runs else None
    if runs is None and with_runs:
        rollup = None
    return _Known(found[1].hosts, rollup.hosts if rollup else (), runs.time if runs else None)


def rolled_up(
    query: "Query", verb: str, selection: "Selection", columns: tuple[str, ...], *, with_runs: bool
) -> RolledUp | None:
    """Return what summaries of days say about a question; None if there are no columns, or they do not answer it.

    Unless all runs are wanted, there are only the first and the last of those of a roll-up.
    """
    import numpy as np

    from sonar.analysis.combine import Part
    from sonar.analysis.merge import TAIL_S
    from sonar.read.plan import ColumnsChangedError, HostPlan

    if query.filter.exclude_system_processes:  # streams of groups may have such and others
        return None
    plans = query.scan.plans()
    if plans is None:
        return None
    hosts: dict[str, _Host] = {}
    days = _Days()
    rest: dict[str, HostPlan] = {}
    verb_rolled = verb if _may_use_rollups(query, verb) else None
    for host, plan in plans.items():
        if selection.converts_gpu_memory(host):
            rest[host] = plan
        else:
            hosts[host] = _look_at(plan, verb_rolled, selection, days, with_runs=with_runs)
    try:
        parts = _of_columns(query, selection, verb, columns, days, hosts)
    except ColumnsChangedError:
        return None
    live = {host: HostPlan(host, tuple(one.live), plans[host].limits) for host, one in hosts.items() if one.live}
    summaries, is_clean = query.scan.map_plans(partial(_summaries_of, selection, verb), columns, live)
    if not is_clean:  # samples of some host stood in the file of another
        return None
    for host, of_live in summaries.items():
        hosts[host].is_refused |= of_live is None
        hosts[host].parts += [(found.extents[host], found.runs[host]) for found in of_live or ()]
        parts += [Part(found, frozenset((host,))) for found in of_live or ()]
    extents, runs = {}, {}
    for host, one in hosts.items():
        of_parts = sorted(one.parts, key=lambda part: part[0])
        times = [instant for extent, _ in of_parts for instant in extent]
        if one.is_refused or any(times[at + 1] - times[at] <= TAIL_S for at in range(1, len(times) - 1, 2)):
            rest[host] = plans[host]
        elif of_parts:
            extents[host] = times[0], times[-1]
            runs[host] = np.concatenate([of_part for _, of_part in of_parts])
    if not extents:
        return None
    rolled = sum(len(wanted) for wanted in days.rolled.values())
    samples = sum(len(plan.days) for plan in plans.values()) - rolled
    query.scan.way = f"roll-ups of {rolled} days of hosts, samples of {samples}"
    return RolledUp(_portions(query, verb, sorted(extents), days, parts), runs, extents, rest)


def _portions(query: "Query", verb: str, hosts: list[str], days: _Days, parts: "list[Part]") -> tuple[Portion, ...]:
    """Return the summaries of some hosts at a time, which bounds memory."""
    records = query.filter
    filters = records.users is not None or records.exclude_users or records.jobs is not None or records.exclude_jobs
    portions = []
    at_once = _HOSTS_AT_ONCE * (8 if filters else 1)  # little is left of many
    for at in range(0, len(hosts), at_once):
        portion = frozenset(hosts[at : at + at_once])
        of_days = tuple((*day, portion & wanted) for day, wanted in days.rolled.items() if wanted & portion)
        made = tuple(replace(part, hosts=part.hosts & portion) for part in parts if part.hosts & portion)
        portions.append(Portion(verb, records if filters else None, of_days, made))
    return tuple(portions)


def _may_use_rollups(query: "Query", verb: str) -> bool:
    from sonar.analysis.select import DEFAULT_EXCLUSIONS

    records = query.filter
    filters = records.users is not None or records.exclude_users or records.jobs is not None or records.exclude_jobs
    if not query.scan.use_rollups or (filters and verb == "load"):
        return False
    return records.commands is None and records.exclude_commands == DEFAULT_EXCLUSIONS[verb]


def _of_columns(
    query: "Query",
    selection: "Selection",
    verb: str,
    columns: tuple[str, ...],
    days: _Days,
    hosts: dict[str, _Host],
) -> "list[Part]":
    """Return summaries made of columns; notes extents and runs of each host, or that it has no summary."""
    from sonar.analysis.combine import Part
    from sonar.analysis.summary import Details
    from sonar.columns.rollups import portions_of
    from sonar.read.columns import open_columns
    from sonar.read.files import COLUMNS_NAME
    from sonar.read.plan import ColumnsChangedError

    portions = []
    for (directory, identity), wanted in days.columns.items():
        opened = open_columns(directory / COLUMNS_NAME, identity)
        if opened is None:
            raise ColumnsChangedError
        portions += [_Portion(directory, identity, portion) for portion in portions_of(opened, wanted)]
    work = partial(_summarize, selection, verb, columns, Details.EDGES)
    cost = _COST * sum(len(portion.hosts) for portion in portions)
    parts = []
    for portion, (summaries, refused) in zip(portions, query.scan.each(work, portions, cost), strict=True):
        for found in summaries:
            for host, extent in found.extents.items():
                hosts[host].parts.append((extent, found.runs[host]))

            every = partial(_every, selection, verb, columns, portion)
            parts.append(Part(found, frozenset(found.extents), every))
        for host in refused:
            hosts[host].is_refused = True
    return parts


def _every(
    selection: "Selection", verb: str, columns: tuple[str, ...], portion: _Portion, hosts: frozenset[str]
) -> "Summaries":
    """Return the summaries of some hosts of a portion with all details."""
    from sonar.analysis.summary import Details

    asked = replace(portion, hosts=tuple(sorted(hosts)))
    (again,), _ = _summarize(selection, verb, columns, Details.ALL, asked)
    return again


def _summarize(
    selection: "Selection", verb: str, columns: tuple[str, ...], details: "Details", portion: _Portion
) -> "tuple[list[Summaries], list[str]]":
    """Return summaries of the hosts of a portion, together if they all can be summarized, and those that cannot."""
    from sonar.analysis.summary import summarized
    from sonar.read.columns import open_columns
    from sonar.read.files import COLUMNS_NAME
    from sonar.read.plan import ColumnsChangedError

    opened = open_columns(portion.directory / COLUMNS_NAME, portion.identity)
    if opened is None:
        raise ColumnsChangedError
    samples = opened.samples(portion.hosts, columns)
    found = summarized(samples, selection.records, selection.window, jobs=verb == "jobs", details=details)
    if found is not None:
        return [found], []
    if len(portion.hosts) == 1:
        return [], list(portion.hosts)
    summaries, refused = [], []
    for host in portion.hosts:
        alone = _Portion(portion.directory, portion.identity, (host,))
        of_host, failed = _summarize(selection, verb, columns, details, alone)
        summaries += of_host
        refused += failed
    return summaries, refused


def _look_at(
    plan: "HostPlan", verb: str | None, selection: "Selection", days: _Days, *, with_runs: bool
) -> _Host:  # fmt: skip
    """Return which days of a host have to be read one by one, and what is known of the others, which are noted."""
    import numpy as np

    found = _Host()
    first = max(plan.limits[0], selection.window.start)
    last = min(plan.limits[1], selection.window.end)
    for day in plan.days:
        known = days.known(day, verb, with_runs=with_runs)
        rows = known.hosts[plan.host] if known and not day.texts and day.sources is None else None
        if known is None or rows is None or rows.source < 0 or day.columns is None:
            found.live.append(day)
            continue
        if rows.latest < plan.limits[0] or rows.earliest > plan.limits[1]:
            continue
        if rows.earliest < plan.limits[0] or rows.latest > plan.limits[1]:
            found.live.append(day)
            continue
        if plan.host in known.rolled and first <= rows.earliest and rows.latest <= last:
            extent = rows.earliest, rows.latest
            found.parts.append((extent, np.array(extent) if known.runs is None else known.runs[plan.host]))
            days.rolled.setdefault((day.directory, day.columns), set()).add(plan.host)
        else:
            days.columns.setdefault((day.directory, day.columns), []).append(plan.host)
    return found


def _summaries_of(selection: "Selection", verb: str, host: str, tables: "Tables") -> "list[Summaries] | None":
    """Return the summaries of some days of a host; None if they cannot be made, which is told apart from none."""
    from sonar.verbs.partials import summaries

    return summaries(selection, host, tables, jobs=verb == "jobs")

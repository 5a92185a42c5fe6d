"""Jobs and load from summaries of days: of roll-ups where there are some, else made of many hosts' columns at once."""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    import numpy as np

    from sonar.analysis.combine import Part
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.summary import Details, Summaries
    from sonar.read.columns import ColumnsFile, HostRows, Identity
    from sonar.read.plan import DayPlan, HostPlan
    from sonar.read.scan import Pieces
    from sonar.verbs.partials import Selection
    from sonar.verbs.query import Query

__all__ = ["CannotRollUpError", "RolledUp", "rolled_up"]

_R = TypeVar("_R")

_HOSTS_AT_ONCE = 50
_MOST_THREADS = 8
# In bytes of text that cost as much:
_COST_ROLLED = 1 << 12  # of the summary of a host and day; the answers' way back from another process counts against it
_COST = 1 << 18  # of the columns of a host and day


_OfDays: TypeAlias = "tuple[tuple[Path, Identity, frozenset[str]], ...]"


@dataclass(frozen=True, slots=True)
class _Portion:
    """Some hosts, and where the summaries of their days are: roll-ups, columns, and what was made of the log."""

    verb: str
    selection: "Selection"
    columns: tuple[str, ...]
    from_rollups: _OfDays
    from_columns: _OfDays
    made: "tuple[Part, ...]"
    filters_rollups: bool
    threads: int

    @property
    def cost(self) -> int:
        """About how many bytes of text take as long."""
        return sum(
            each * len(hosts)
            for each, days in ((_COST_ROLLED, self.from_rollups), (_COST, self.from_columns))
            for *_, hosts in days
        )


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[_R]):
    """What became of a portion, without the hosts that cannot be summarized; the runs of hosts in columns."""

    result: _R
    refused: frozenset[str]
    runs: "dict[str, list[np.ndarray]]"


class CannotRollUpError(Exception):
    """A job has samples of users who are asked for, and of others, or files have been replaced."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Summaries of the days of hosts; `rest` are hosts that cannot be summarized.

    Of each host answered for: its runs in the window, and the first and last instant of its samples. Both are complete,
    and `rest` too, when all portions have been worked on.
    """

    portions: tuple[_Portion, ...]
    plans: "dict[str, HostPlan]"
    runs: "dict[str, np.ndarray]"
    extents: dict[str, tuple[int, int]]
    rest: "dict[str, HostPlan]"

    def each(self, query: "Query", of_parts: "Callable[[list[Part]], _R]") -> "list[_R]":
        """Return what a function makes of the summaries of each portion, of which it has its own list.

        Raise CannotRollUpError if it cannot be made.
        """
        import numpy as np

        cost = sum(portion.cost for portion in self.portions)
        outcomes = list(query.scan.each(partial(_outcome, of_parts), self.portions, cost))
        for outcome in outcomes:
            for host, runs in outcome.runs.items():
                self.runs[host] = np.sort(np.concatenate([self.runs[host], *runs]))
            for host in outcome.refused:
                self.rest[host] = self.plans[host]
                del self.runs[host], self.extents[host]
        return [outcome.result for outcome in outcomes]


def _from_rollups(portion: _Portion) -> "list[Part]":
    """Return what the roll-ups say; in threads if they are objects of a store, which lets wait."""
    from sonar.analysis.combine import Part
    from sonar.columns.rollups import open_rollup

    records = portion.selection.records if portion.filters_rollups else None

    def part(day: "tuple[Path, Identity, frozenset[str]]") -> Part:
        directory, identity, hosts = day
        rollup = open_rollup(directory, portion.verb, identity)
        found = rollup.summaries(hosts, records) if rollup else None
        if rollup is None or found is None:
            raise CannotRollUpError
        return Part(found, hosts, rollup.every, partial(_full, portion, directory, identity))

    if portion.threads < 2 or len(portion.from_rollups) < 2:
        return list(map(part, portion.from_rollups))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(portion.threads) as pool:
        return list(pool.map(part, portion.from_rollups))


def _outcome(of_parts: "Callable[[list[Part]], _R]", portion: _Portion) -> _Outcome[_R]:
    from sonar.analysis.combine import Part
    from sonar.analysis.summary import Details
    from sonar.columns.rollups import portions_of
    from sonar.read.columns import open_columns
    from sonar.read.files import COLUMNS_NAME
    from sonar.read.plan import ColumnsChangedError

    parts = list(portion.made)
    refused: set[str] = set()
    runs: dict[str, list[np.ndarray]] = {}
    try:
        parts += _from_rollups(portion)
        for directory, identity, hosts in portion.from_columns:
            opened = open_columns(directory / COLUMNS_NAME, identity)
            if opened is None:
                raise CannotRollUpError
            for some in portions_of(opened, [host for host in opened.facts.hosts if host in hosts]):
                summaries, failed = _summarize(portion, opened, some, Details.EDGES)
                refused.update(failed)
                every = partial(_every, portion, opened)
                for one in summaries:
                    parts.append(Part(one, frozenset(one.extents), every))
                    for host, of_host in one.runs.items():
                        runs.setdefault(host, []).append(of_host)
    except ColumnsChangedError:
        raise CannotRollUpError from None
    if refused:
        parts = [replace(part, hosts=part.hosts - refused) for part in parts]
    return _Outcome(of_parts(parts), frozenset(refused), runs)


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
    columns: "dict[tuple[Path, Identity], set[str]]" = field(default_factory=dict)
    _known: "dict[tuple[Path, Identity], _Known | None]" = field(default_factory=dict)

    def known(self, day: "DayPlan", verb: str | None, *, with_runs: bool) -> "_Known | None":
        """Return what columns and the roll-up for a verb tell of a day; None if it has no columns."""
        if day.columns is None:
            return None
        key = day.directory, day.columns
        if key not in self._known:
            self._known[key] = _known_of(*key, verb, with_runs=with_runs)
        return self._known[key]

    @property
    def row_groups(self) -> "Mapping[str, int]":
        """In which row group of the columns of some day each host is, which is much the same on others."""
        known = next((self._known[day] for day in self.columns), None)
        return {host: rows.first for host, rows in known.hosts.items()} if known else {}


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
    from sonar.places import ObjectPath
    from sonar.read.plan import HostPlan

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
    parts: list[Part] = []
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
    filters = verb_rolled is not None and _filters(query.filter)
    is_far = any(isinstance(directory, ObjectPath) for directory, _ in days.rolled)
    threads = _MOST_THREADS if filters and is_far else 1
    parts_of = _Portion(verb, selection, columns, (), (), tuple(parts), filters, threads)
    return RolledUp(_portions(query, parts_of, sorted(extents), days), plans, runs, extents, rest)


def _portions(query: "Query", whole: _Portion, hosts: list[str], days: _Days) -> tuple[_Portion, ...]:
    """Return the summaries of some hosts at a time, which bounds memory and can be worked on by several processes."""
    at_once = _HOSTS_AT_ONCE
    if whole.filters_rollups:
        at_once *= 8  # little is left of many
    elif days.columns:
        at_once = max(min(at_once, len(hosts) // (2 * query.scan.jobs)), 1)
    portions = []
    for first, last in pairwise([*_cuts(hosts, at_once, days.row_groups), len(hosts)]):
        some = frozenset(hosts[first:last])
        rolled, columns = (
            tuple((*day, some.intersection(wanted)) for day, wanted in of_days.items() if not some.isdisjoint(wanted))
            for of_days in (days.rolled, days.columns)
        )
        made = tuple(replace(part, hosts=part.hosts & some) for part in whole.made if part.hosts & some)
        portions.append(replace(whole, from_rollups=rolled, from_columns=columns, made=made))
    return tuple(portions)


def _cuts(hosts: list[str], at_once: int, group: "Mapping[str, int]") -> list[int]:
    """Return where portions of about so many hosts begin: where a row group does if one is near; it is read once."""
    cuts = []
    for at in range(0, len(hosts), at_once):
        near = range(at, max(at - at_once // 2, 0), -1)
        begins = (place for place in near if group.get(hosts[place]) != group.get(hosts[place - 1], -1))
        cuts.append(next(begins, at))
    return cuts


def _filters(records: "RecordFilter") -> bool:
    """Return whether a filter is one that roll-ups of jobs can be put through."""
    return bool(records.users is not None or records.exclude_users or records.jobs is not None or records.exclude_jobs)


def _may_use_rollups(query: "Query", verb: str) -> bool:
    from sonar.analysis.select import DEFAULT_EXCLUSIONS

    records = query.filter
    if not query.scan.use_rollups or (_filters(records) and verb == "load"):
        return False
    return records.commands is None and records.exclude_commands == DEFAULT_EXCLUSIONS[verb]


def _full(portion: _Portion, directory: "Path", identity: "Identity", hosts: frozenset[str]) -> "Summaries":
    """Return the summaries of some hosts in the columns that a roll-up was made of."""
    from sonar.read.columns import open_columns
    from sonar.read.files import COLUMNS_NAME

    opened = open_columns(directory / COLUMNS_NAME, identity)
    if opened is None:
        raise CannotRollUpError
    return _every(portion, opened, hosts)


def _every(portion: _Portion, opened: "ColumnsFile", hosts: frozenset[str]) -> "Summaries":
    """Return the summaries of some hosts in columns with all details."""
    from sonar.analysis.summary import Details

    (again,), _ = _summarize(portion, opened, tuple(sorted(hosts)), Details.ALL)
    return again


def _summarize(
    portion: _Portion, opened: "ColumnsFile", hosts: tuple[str, ...], details: "Details"
) -> "tuple[list[Summaries], list[str]]":
    """Return summaries of some hosts, together if they all can be summarized, and those that cannot."""
    from sonar.analysis.summary import summarized

    samples = opened.samples(hosts, portion.columns)
    records, window = portion.selection.records, portion.selection.window
    found = summarized(samples, records, window, jobs=portion.verb == "jobs", details=details)
    if found is not None:
        return [found], []
    if len(hosts) == 1:
        return [], list(hosts)
    summaries, refused = [], []
    for host in hosts:
        of_host, failed = _summarize(portion, opened, (host,), details)
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
            found.parts.append(((rows.earliest, rows.latest), np.zeros(0, np.int64)))  # runs follow
            days.columns.setdefault((day.directory, day.columns), set()).add(plan.host)
    return found


def _summaries_of(selection: "Selection", verb: str, host: str, pieces: "Pieces") -> "list[Summaries] | None":
    """Return the summaries of some days of a host; None if they cannot be made, which is told apart from none."""
    from sonar.verbs.partials import summaries

    return summaries(selection, host, pieces, jobs=verb == "jobs")

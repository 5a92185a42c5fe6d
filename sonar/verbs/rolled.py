"""Jobs and load from roll-ups: which days of which hosts they answer for, and the rest from samples."""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from sonar.analysis.combine import Summaries
    from sonar.analysis.summary import Summary
    from sonar.columns.rollups import DayRollup
    from sonar.read.plan import DayPlan, HostPlan
    from sonar.read.scan import Tables
    from sonar.verbs.partials import Selection
    from sonar.verbs.query import Query

__all__ = ["RolledUp", "rolled_up"]

_HOSTS_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What roll-ups say, with summaries of the days that have none or are cut; `rest` are hosts that cannot be so.

    Of each host answered for: its runs in the window, and the first and last instant of its samples.
    """

    parts: "list[tuple[Summaries, frozenset[str]]]"
    runs: "dict[str, np.ndarray]"
    extents: dict[str, tuple[int, int]]
    rest: "dict[str, HostPlan]"

    def portions(self) -> "Iterator[Summaries]":
        """Yield the summaries of some hosts at a time, which bounds memory."""
        from sonar.analysis.combine import joined_summaries

        hosts = sorted(self.extents)
        for at in range(0, len(hosts), _HOSTS_AT_ONCE):
            portion = frozenset(hosts[at : at + _HOSTS_AT_ONCE])
            chosen = [(part, wanted & portion) for part, wanted in self.parts if wanted & portion]
            if chosen:
                yield joined_summaries(chosen)


@dataclass(slots=True)
class _Host:
    """What is known of a host while its days are looked at."""

    parts: "list[tuple[tuple[int, int], np.ndarray]]" = field(default_factory=list)  # extent and runs
    live: "list[DayPlan]" = field(default_factory=list)


def rolled_up(query: "Query", verb: str, selection: "Selection", columns: tuple[str, ...]) -> RolledUp | None:
    """Return what the roll-ups of a verb say about a question; None if they do not answer it."""
    import numpy as np

    from sonar.analysis.combine import filtered_summaries, summaries_of
    from sonar.analysis.merge import TAIL_S
    from sonar.analysis.select import DEFAULT_EXCLUSIONS
    from sonar.read.plan import HostPlan

    records = query.filter
    filters = records.users is not None or records.exclude_users or records.jobs is not None or records.exclude_jobs
    if records.exclude_system_processes:  # summaries know no process numbers
        return None
    if records.commands is not None or records.exclude_commands != DEFAULT_EXCLUSIONS[verb]:
        return None
    plans = query.scan.plans() if query.scan.use_rollups else None
    if plans is None or (filters and verb == "load"):
        return None
    hosts: dict[str, _Host] = {}
    batches: dict[Path, tuple[DayRollup, set[str]]] = {}
    rest: dict[str, HostPlan] = {}
    for host, plan in plans.items():
        if selection.converts_gpu_memory(host):
            rest[host] = plan
        else:
            hosts[host] = _look_at(plan, verb, selection, batches)
    if not batches:
        return None
    live = {host: HostPlan(host, tuple(one.live), plans[host].limits) for host, one in hosts.items() if one.live}
    summaries, is_clean = query.scan.map_plans(partial(_summaries_of, selection, verb), columns, live)
    if not is_clean:  # samples of some host stood in the file of another
        return None
    extents, runs = {}, {}
    for host, one in hosts.items():
        of_live: list[Summary] | None = summaries.get(host, [])
        parts = sorted([*one.parts, *((part.extent, part.runs) for part in of_live or ())], key=lambda part: part[0])
        times = [instant for extent, _ in parts for instant in extent]
        if of_live is None or any(times[at + 1] - times[at] <= TAIL_S for at in range(1, len(times) - 1, 2)):
            rest[host] = plans[host]
        elif parts:
            extents[host] = times[0], times[-1]
            runs[host] = np.concatenate([of_part for _, of_part in parts])
    answered = frozenset(extents)
    chosen = [(rollup.summaries, answered & wanted) for rollup, wanted in batches.values() if answered & wanted]
    more = [(host, part) for host, found in summaries.items() if host in answered for part in found or ()]
    if filters:
        narrowed = [(filtered_summaries(part, records), wanted) for part, wanted in chosen]
        chosen = [(part, wanted) for part, wanted in narrowed if part is not None]
        if len(chosen) < len(narrowed):  # a job has samples of users who are asked for, and of others
            return None
    if more:
        chosen.append((summaries_of(more), answered))
    if not chosen:
        return None
    days = sum(len(wanted) for _, wanted in batches.values())
    samples = sum(len(one.live) for one in hosts.values()) + sum(len(plan.days) for plan in rest.values())
    query.scan.way = f"roll-ups of {days} days of hosts, samples of {samples}"
    return RolledUp(chosen, runs, extents, rest)


def _look_at(
    plan: "HostPlan", verb: str, selection: "Selection", batches: "dict[Path, tuple[DayRollup, set[str]]]"
) -> _Host:
    """Return which days of a host have to be summarized, and what is known of the others, which are noted."""
    from sonar.columns.rollups import open_rollup
    from sonar.read.columns import open_columns
    from sonar.read.files import COLUMNS_NAME

    found = _Host()
    first = max(plan.limits[0], selection.window.start)
    last = min(plan.limits[1], selection.window.end)
    for day in plan.days:
        if day.columns is None or day.texts or day.sources is not None:
            found.live.append(day)
            continue
        opened = open_columns(day.directory / COLUMNS_NAME, day.columns)
        rows = opened.facts.hosts[plan.host] if opened else None
        if rows is not None and (rows.latest < plan.limits[0] or rows.earliest > plan.limits[1]):
            continue
        rollup = open_rollup(day.directory, verb, day.columns)
        extent = rollup.extents.get(plan.host) if rollup else None
        if rollup is None or extent is None or extent[0] < first or extent[1] > last:
            found.live.append(day)
            continue
        found.parts.append((extent, rollup.runs[plan.host]))
        batches.setdefault(day.directory, (rollup, set()))[1].add(plan.host)
    return found


def _summaries_of(selection: "Selection", verb: str, host: str, tables: "Tables") -> "list[Summary] | None":
    """Return the summaries of some days of a host; None if they cannot be made, which is told apart from none."""
    from sonar.verbs.partials import summaries

    return summaries(selection, host, tables, jobs=verb == "jobs", slots=verb == "load")

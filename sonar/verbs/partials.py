"""What the verbs make of each host's samples, and how these parts become the whole: jobs and load.

A part is computed wherever the scan sees fit, in this process or another, so it is a function of plain values.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sonar.analysis.bounds import Bounds
    from sonar.analysis.buckets import Series
    from sonar.analysis.jobs import Jobs, OverHosts
    from sonar.analysis.samples import Samples
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.summary import Summary
    from sonar.config.nodes import NodeTable
    from sonar.read.scan import Tables
    from sonar.verbs.query import Query, Window

__all__ = ["HostLoad", "jobs_of_all_hosts", "loads_of_all_hosts"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples an answer is about, and what is known of the hosts."""

    records: "RecordFilter"
    window: "Window"
    nodes: "NodeTable | None"

    def converts_gpu_memory(self, host: str) -> bool:
        """Whether GPU memory of this host is computed from a percentage, which is not exact."""
        node = self.nodes.get(host) if self.nodes else None
        return bool(node and node.gpu_cards and node.gpumem_pct)


@dataclass(frozen=True, slots=True)
class HostJobs:
    """The jobs of one host; `shared` are the rows of jobs that may have run on others too, if they are needed."""

    jobs: "Jobs"
    shared: "Samples | None"
    bounds: "Bounds | None"


@dataclass(frozen=True, slots=True)
class HostLoad:
    """The load of one host, None if it has none of the samples asked for, and its bounds."""

    series: "Series | None"
    bounds: "Bounds"


def jobs_of_all_hosts(
    query: "Query", over_hosts: "OverHosts", *, with_totals: bool
) -> "tuple[Jobs, dict[str, Bounds]]":
    """Return the jobs of all hosts, and the bounds of each host; without totals those of counters are 0."""
    import numpy as np

    from sonar.analysis.jobs import OverHosts, combined_jobs

    selection = Selection(query.filter, query.window, query.nodes)
    columns = _columns(query, with_totals=with_totals)
    work = partial(_jobs_of_host, selection, over_hosts, with_totals)
    found = dict(query.scan.map(work, columns))
    bounds = {host: part.bounds for host, part in found.items() if part.bounds}
    shared = [part.shared for part in found.values() if part.shared is not None]
    parts = {host: part.jobs for host, part in found.items()}
    if over_hosts is OverHosts.NUMBERED:
        numbers = [part.job[(part.epoch == 0) & (part.job != 0)] for part in parts.values()]
        numbers += [np.unique(rows["job"]) for rows in shared]
        on_hosts = np.concatenate([*numbers, np.zeros(0, np.int64)])
        distinct, number = np.unique(on_hosts, return_counts=True)
        several = distinct[number > 1]
        if len(several):
            # Steps of jobs on several hosts are made of the samples of all of them together.
            again = {}
            for host, jobs in parts.items():
                is_shared = (jobs.epoch == 0) & (jobs.job != 0) & np.isin(jobs.job, several)
                if is_shared.any():
                    again[host] = jobs.take(~is_shared)
            work_again = partial(_rows_of_jobs, selection, frozenset(several.tolist()), frozenset(again), with_totals)
            shared += [rows for _, rows in query.scan.map(work_again, columns)]
            parts |= again
    return combined_jobs(parts.values(), shared), bounds


def loads_of_all_hosts(query: "Query", slot: int) -> dict[str, HostLoad]:
    """Return the load of each host as means over slots of so many seconds, or with 0 step by step."""
    selection = Selection(query.filter, query.window, query.nodes)
    return dict(query.scan.map(partial(_load_of_host, selection, slot), _columns(query, with_totals=False)))


def _columns(query: "Query", *, with_totals: bool) -> tuple[str, ...]:
    from sonar.analysis.streams import GROWING, STREAM_COLUMNS

    return (*STREAM_COLUMNS, *(("gpumem_pct",) if query.nodes else ()), *(GROWING if with_totals else ()))


def _jobs_of_host(
    selection: Selection,
    over_hosts: "OverHosts",
    with_totals: bool,  # noqa: FBT001
    host: str,
    tables: "Tables",
) -> HostJobs | None:
    from sonar.analysis.combine import jobs_of_summaries, summaries_of
    from sonar.analysis.jobs import OverHosts, jobs_of_host

    if not with_totals and over_hosts is not OverHosts.ALL:
        summaries = _summaries(selection, host, tables)
        if summaries is not None:
            jobs, _ = jobs_of_summaries(summaries_of([(host, summary) for summary in summaries]))
            return HostJobs(jobs, None, _bounds_of_summaries(summaries))
    streams, bounds = _streams(selection, host, tables, with_totals=with_totals)
    if streams is None:
        return None
    jobs, shared = jobs_of_host(streams, over_hosts)
    return HostJobs(jobs, shared, bounds)


def _rows_of_jobs(
    selection: Selection,
    numbers: frozenset[int],
    hosts: frozenset[str],
    with_totals: bool,  # noqa: FBT001
    host: str,
    tables: "Tables",
) -> "Samples | None":
    """Return the samples of some jobs that the batch system has numbered."""
    import numpy as np

    if host not in hosts:
        return None
    streams, _ = _streams(selection, host, tables, with_totals=with_totals)
    if streams is None:
        return None
    return streams.take((streams["epoch"] == 0) & np.isin(streams["job"], list(numbers)))


def _load_of_host(selection: Selection, slot: int, host: str, tables: "Tables") -> HostLoad | None:
    from sonar.analysis.buckets import folded, series_of
    from sonar.analysis.combine import load_of_summaries, summaries_of
    from sonar.analysis.merge import merged
    from sonar.analysis.summary import HALF_HOUR

    if slot and slot % HALF_HOUR == 0:
        summaries = _summaries(selection, host, tables)
        if summaries is not None:
            series = load_of_summaries(summaries_of([(host, summary) for summary in summaries]), slot).get(host)
            return HostLoad(series, (summaries[0].extent[0], summaries[-1].extent[1]))
    streams, bounds = _streams(selection, host, tables, with_totals=False, inside_only=False)
    if streams is None or bounds is None:
        return None
    if not len(streams):
        return HostLoad(None, bounds)
    of_steps = series_of(merged(streams, streams["stream"] * 0))
    return HostLoad(folded(of_steps, slot) if slot else of_steps, bounds)


def _summaries(selection: Selection, host: str, tables: "Tables") -> "list[Summary] | None":
    """Return summaries of a host's samples, each later than the one before; None if it cannot be summarized.

    Then not all tables have been looked at.
    """
    from sonar.analysis.merge import TAIL_S
    from sonar.analysis.samples import samples_of
    from sonar.analysis.summary import summarized

    if selection.converts_gpu_memory(host):
        return None
    found: list[Summary] = []
    for table in tables:
        summary = summarized(samples_of(table), selection.records, selection.window)
        if summary is None or (found and summary.extent[0] - found[-1].extent[1] <= TAIL_S):
            return None
        found.append(summary)
    return found or None


def _bounds_of_summaries(summaries: "Sequence[Summary]") -> "Bounds | None":
    from sonar.analysis.bounds import joined

    known = [summary.bounds for summary in summaries if summary.bounds]
    return joined(known) if known else None


def _streams(
    selection: Selection, host: str, tables: "Tables", *, with_totals: bool, inside_only: bool = True
) -> "tuple[Samples | None, Bounds | None]":
    """Return the cleaned streams that the answer is about, and the host's bounds, within the window if so asked."""
    from sonar.analysis.bounds import bounds_of
    from sonar.analysis.samples import samples_of
    from sonar.analysis.streams import clean_streams, selected, with_growth
    from sonar.read.scan import whole

    table = whole(host, tables)
    if table is None:
        return None, None
    samples = samples_of(table)
    streams = clean_streams(samples, selection.nodes)
    if with_totals:
        streams = with_growth(streams)
    bounds = bounds_of(samples, selection.window if inside_only else None)
    return selected(streams, selection.records, selection.window), bounds

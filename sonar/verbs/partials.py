"""What the verbs make of each host's samples, and how these parts become the whole: jobs and load.

A part is computed wherever the scan sees fit, in this process or another, so it is a function of plain values.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from sonar.analysis.bounds import Bounds
    from sonar.analysis.buckets import Series
    from sonar.analysis.jobs import Jobs, OverHosts
    from sonar.analysis.samples import Samples
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.summary import Summaries
    from sonar.config.nodes import NodeTable
    from sonar.read.scan import Pieces
    from sonar.verbs.query import Query, Window

__all__ = ["HostLoad", "Selection", "jobs_of_all_hosts", "loads_of_all_hosts", "summaries"]


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
    runs: "np.ndarray"  # when it was sampled, within the window


@dataclass(frozen=True, slots=True)
class HostLoad:
    """The load of one host, None if it has none of the samples asked for; its bounds, and its runs in the window."""

    series: "Series | None"
    bounds: "Bounds"
    runs: "np.ndarray"


def jobs_of_all_hosts(
    query: "Query", over_hosts: "OverHosts", *, with_totals: bool, with_runs: bool
) -> "tuple[Jobs, dict[str, np.ndarray]]":
    """Return the jobs of all hosts, and the runs of each host in the window; without totals those of counters are 0.

    Unless all runs are wanted, some between the first and the last may be left out.
    """
    import numpy as np

    from sonar.analysis.combine import jobs_of_parts
    from sonar.analysis.jobs import OverHosts, combined_jobs
    from sonar.verbs.rolled import CannotRollUpError, rolled_up

    selection = Selection(query.filter, query.window, query.nodes)
    columns = _columns(query, with_totals=with_totals)
    work = partial(_jobs_of_host, selection, over_hosts, with_totals, with_runs)
    found: dict[str, HostJobs] = {}
    parts: dict[str, Jobs] = {}
    runs: dict[str, np.ndarray] = {}
    rolled = None
    if not with_totals and over_hosts is not OverHosts.ALL:
        rolled = rolled_up(query, "jobs", selection, columns, with_runs=with_runs)
    if rolled is not None:
        try:
            of_portions = rolled.each(query, jobs_of_parts)
            of_rest, is_clean = query.scan.map_plans(work, columns, rolled.rest)
        except CannotRollUpError:
            rolled = None
        else:
            if is_clean:
                parts = {f"/{at}": jobs for at, jobs in enumerate(of_portions)}
                found = {host: part for host, part in of_rest.items() if part is not None}
                runs = dict(rolled.runs)
            else:
                rolled = None
    if rolled is None:
        found = dict(query.scan.map(work, columns))
    runs |= {host: part.runs for host, part in found.items()}
    shared = [part.shared for part in found.values() if part.shared is not None]
    parts |= {host: part.jobs for host, part in found.items()}
    if over_hosts is OverHosts.NUMBERED:
        numbers = [part.job[(part.epoch == 0) & (part.job != 0)] for part in parts.values()]
        numbers += [np.unique(rows["job"]) for rows in shared]
        on_hosts = np.concatenate([*numbers, np.zeros(0, np.int64)])
        distinct, number = np.unique(on_hosts, return_counts=True)
        several = distinct[number > 1]
        if len(several):
            # Steps of jobs on several hosts are made of the samples of all of them together.
            again: set[str] = set()
            for host, jobs in parts.items():
                is_shared = (jobs.epoch == 0) & (jobs.job != 0) & np.isin(jobs.job, several)
                if is_shared.any():
                    again.update(name for names in jobs.hosts.take(is_shared) for name in names)
                    parts[host] = jobs.take(~is_shared)
            work_again = partial(_rows_of_jobs, selection, frozenset(several.tolist()), frozenset(again), with_totals)
            shared += [rows for _, rows in query.scan.map(work_again, columns)]
    return combined_jobs(parts.values(), shared), runs


def loads_of_all_hosts(query: "Query", slot: int, *, with_runs: bool) -> dict[str, HostLoad]:
    """Return the load of each host as means over slots of so many seconds, or with 0 step by step.

    Unless all runs are wanted, some between the first and the last may be left out.
    """
    from sonar.analysis.combine import load_of_parts
    from sonar.analysis.summary import HALF_HOUR
    from sonar.verbs.rolled import CannotRollUpError, rolled_up

    selection = Selection(query.filter, query.window, query.nodes)
    columns = _columns(query, with_totals=False)
    work = partial(_load_of_host, selection, slot, with_runs)
    rolled = None
    if slot and slot % HALF_HOUR == 0:
        rolled = rolled_up(query, "load", selection, columns, with_runs=with_runs)
    if rolled is not None:
        try:
            of_portions = rolled.each(query, partial(load_of_parts, slot=slot))
            of_rest, is_clean = query.scan.map_plans(work, columns, rolled.rest)
        except CannotRollUpError:
            pass
        else:
            if is_clean:
                series = {host: found for portion in of_portions for host, found in portion.items()}
                extents = rolled.extents
                loads = {host: HostLoad(series.get(host), extents[host], runs) for host, runs in rolled.runs.items()}
                loads |= {host: load for host, load in of_rest.items() if load is not None}
                return {host: loads[host] for host in sorted(loads)}
    return dict(query.scan.map(work, columns))


def _columns(query: "Query", *, with_totals: bool) -> tuple[str, ...]:
    from sonar.analysis.streams import GROWING, STREAM_COLUMNS

    return (*STREAM_COLUMNS, *(("gpumem_pct",) if query.nodes else ()), *(GROWING if with_totals else ()))


def _jobs_of_host(
    selection: Selection,
    over_hosts: "OverHosts",
    with_totals: bool,  # noqa: FBT001
    with_runs: bool,  # noqa: FBT001
    host: str,
    pieces: "Pieces",
) -> HostJobs | None:

    from sonar.analysis.combine import Part, jobs_of_parts
    from sonar.analysis.jobs import OverHosts, jobs_of_host

    if not with_totals and over_hosts is not OverHosts.ALL:
        found = summaries(selection, host, pieces, jobs=True, alone=True)
        if found is not None:
            jobs = jobs_of_parts([Part(summary, frozenset((host,))) for summary in found])
            return HostJobs(jobs, None, _runs([summary.runs[host] for summary in found], with_runs=with_runs))
    streams = _streams(selection, pieces, with_totals=with_totals)
    if streams is None:
        return None
    jobs, shared = jobs_of_host(streams.selected, over_hosts)
    return HostJobs(jobs, shared, _runs([streams.runs], with_runs=with_runs))


def _runs(parts: "list[np.ndarray]", *, with_runs: bool) -> "np.ndarray":
    """Return all runs of a host, or no more than the first and the last."""
    import numpy as np

    runs = np.concatenate(parts)
    return runs if with_runs else runs[:: max(len(runs) - 1, 1)].copy()


def _rows_of_jobs(
    selection: Selection,
    numbers: frozenset[int],
    hosts: frozenset[str],
    with_totals: bool,  # noqa: FBT001
    host: str,
    pieces: "Pieces",
) -> "Samples | None":
    """Return the samples of some jobs that the batch system has numbered."""
    import numpy as np

    if host not in hosts:
        return None
    streams = _streams(selection, pieces, with_totals=with_totals)
    if streams is None:
        return None
    rows = streams.selected
    return rows.take((rows["epoch"] == 0) & np.isin(rows["job"], list(numbers)))


def _load_of_host(
    selection: Selection,
    slot: int,
    with_runs: bool,  # noqa: FBT001
    host: str,
    pieces: "Pieces",
) -> HostLoad | None:
    from sonar.analysis.buckets import folded, series_of
    from sonar.analysis.combine import Part, load_of_parts
    from sonar.analysis.merge import merged
    from sonar.analysis.summary import HALF_HOUR

    if slot and slot % HALF_HOUR == 0:
        found = summaries(selection, host, pieces, jobs=False)
        if found is not None:
            series = load_of_parts([Part(summary, frozenset((host,))) for summary in found], slot).get(host)
            runs = _runs([summary.runs[host] for summary in found], with_runs=with_runs)
            return HostLoad(series, (found[0].extents[host][0], found[-1].extents[host][1]), runs)
    streams = _streams(selection, pieces, with_totals=False)
    if streams is None:
        return None
    rows = streams.selected
    runs = _runs([streams.runs], with_runs=with_runs)
    if not len(rows):
        return HostLoad(None, streams.bounds, runs)
    of_steps = series_of(merged(rows, rows["stream"] * 0))
    return HostLoad(folded(of_steps, slot) if slot else of_steps, streams.bounds, runs)


def summaries(
    selection: Selection, host: str, pieces: "Pieces", *, jobs: bool, alone: bool = False
) -> "list[Summaries] | None":
    """Return summaries of a host's samples with all details, each later than the one before; None if there are none.

    Then not all pieces have been looked at. If they are alone, nothing else being known of the host's jobs, the summary
    of one piece does with fewer details.
    """
    from itertools import chain, islice

    from sonar.analysis.merge import TAIL_S
    from sonar.analysis.summary import Details, summarized

    if selection.converts_gpu_memory(host):
        return None
    found: list[Summaries] = []
    left = iter(pieces)
    first = list(islice(left, 2 if alone else 0))
    details = Details.LACKING if alone and len(first) == 1 else Details.ALL
    for samples in chain(first, left):
        summary = summarized(samples, selection.records, selection.window, jobs=jobs, details=details)
        if summary is None or (found and summary.extents[host][0] - found[-1].extents[host][1] <= TAIL_S):
            return None
        found.append(summary)
    return found or None


@dataclass(frozen=True, slots=True)
class _Streams:
    """One host's cleaned streams that the answer is about, its bounds, and its runs in the window."""

    selected: "Samples"
    bounds: "Bounds"
    runs: "np.ndarray"


def _streams(selection: Selection, pieces: "Pieces", *, with_totals: bool) -> _Streams | None:
    from sonar.analysis.bounds import bounds_of
    from sonar.analysis.coverage import runs_of
    from sonar.analysis.samples import concatenated
    from sonar.analysis.streams import clean_streams, selected, with_growth

    parts = list(pieces)
    if not parts:
        return None
    samples = concatenated(parts)
    bounds = bounds_of(samples)
    if bounds is None:
        return None
    streams = clean_streams(samples, selection.nodes)
    if with_totals:
        streams = with_growth(streams)
    chosen = selected(streams, selection.records, selection.window)
    return _Streams(chosen, bounds, runs_of(samples, selection.window))

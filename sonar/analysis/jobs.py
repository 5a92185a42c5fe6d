"""Jobs: from streams to one row a job, with averages and peaks over its steps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sonar.analysis.bounds import Bounds, joined
from sonar.analysis.merge import Steps, merged, union_of_gpus
from sonar.analysis.samples import NO_EPOCH, Samples, concatenated, dense
from sonar.analysis.streams import GROWING, KIB_PER_GB
from sonar.analysis.wordsets import WordSets

__all__ = [
    "AVERAGED",
    "LIVE_AT_END",
    "LIVE_AT_START",
    "Jobs",
    "OverHosts",
    "classification",
    "combined_jobs",
    "jobs_of_host",
]

LIVE_AT_END = 1
LIVE_AT_START = 2

# Result columns of averages and peaks, and how they come from the sums of a step.
AVERAGED = {
    "cpu": ("util", 1),
    "mem": ("cpu_kib", KIB_PER_GB),
    "res": ("rss_kib", KIB_PER_GB),
    "gpu": ("gpu_pct", 1),
    "gpumem": ("gpu_kib", KIB_PER_GB),
    "thread": ("threads", 1),
}


@dataclass(frozen=True, slots=True)
class Jobs:
    """One row a job. Averages and peaks are not rounded: CPU and GPU in percent of one core or card, memory in GB."""

    job: np.ndarray
    start: np.ndarray
    end: np.ndarray
    samples: np.ndarray  # number of steps
    averages: dict[str, np.ndarray]
    peaks: dict[str, np.ndarray]
    gpus: np.ndarray
    gpufail: np.ndarray
    hosts: WordSets
    users: WordSets
    commands: WordSets
    epoch: np.ndarray  # the largest of its samples: above 0 the number is local to a host, -1 if it is not known
    totals: dict[str, np.ndarray]  # of each counter of GROWING, what its processes added to it

    def __len__(self) -> int:
        return len(self.job)

    @classmethod
    def of_nothing(cls) -> "Jobs":
        """Return no rows."""
        empty, none = np.zeros(0, np.int64), np.zeros(0)
        nothing = dict.fromkeys(AVERAGED, none)
        words = WordSets.of_words(empty, [])
        gpus, totals = empty.astype(np.uint64), dict.fromkeys(GROWING, none)
        return cls(empty, empty, empty, empty, nothing, nothing, gpus, empty, words, words, words, empty, totals)

    def take(self, rows: np.ndarray) -> "Jobs":
        """Return the rows of a mask or in the order of an index."""

        def taken(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: column[rows] for name, column in values.items()}

        return Jobs(
            self.job[rows],
            self.start[rows],
            self.end[rows],
            self.samples[rows],
            taken(self.averages),
            taken(self.peaks),
            self.gpus[rows],
            self.gpufail[rows],
            self.hosts.take(rows),
            self.users.take(rows),
            self.commands.take(rows),
            self.epoch[rows],
            taken(self.totals),
        )


class OverHosts(Enum):
    """Which jobs of equal number on several hosts are one."""

    NUMBERED = "those that the batch system has numbered for the whole cluster (epoch 0)"
    ALL = "all"
    NONE = "none"


def jobs_of_host(streams: Samples, over_hosts: OverHosts = OverHosts.NUMBERED) -> tuple[Jobs, Samples]:
    """Return the jobs of one host's streams, and the rows of those jobs that may have run on other hosts too.

    `streams` has the columns `NAME_added` of `with_growth`. Samples of job number 0 are of no job: each stream is a
    row of its own.
    """
    shared = (streams["job"] != 0) & (over_hosts is not OverHosts.NONE)
    if over_hosts is OverHosts.NUMBERED:
        shared &= streams["epoch"] == 0
    own = streams.take(~shared)
    alone = np.where(own["job"] == 0, own["stream"], NO_EPOCH)
    return _jobs(own, dense(own["job"], own["epoch"], alone)), streams.take(shared)


def combined_jobs(per_host: Iterable[Jobs], shared: Sequence[Samples]) -> Jobs:
    """Return all jobs: those of each host, and those made from the rows of jobs shared by hosts, merged by number.

    What they used is taken out of the parts, since twice the jobs of a month take much memory.
    """
    parts = [jobs for jobs in per_host if len(jobs)]
    if rows := [part for part in shared if len(part)]:
        together = concatenated(rows)
        stream = dense(together["host"], together["stream"])
        order = np.lexsort((together["time"], stream))
        together = together.with_columns(stream=stream).take(order)
        parts.append(_jobs(together, dense(together["job"])))
    if not parts:
        return Jobs.of_nothing()
    return Jobs(
        job=np.concatenate([part.job for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        samples=np.concatenate([part.samples for part in parts]),
        averages={name: np.concatenate([part.averages.pop(name) for part in parts]) for name in AVERAGED},
        peaks={name: np.concatenate([part.peaks.pop(name) for part in parts]) for name in AVERAGED},
        gpus=np.concatenate([part.gpus for part in parts]),
        gpufail=np.concatenate([part.gpufail for part in parts]),
        hosts=WordSets.together([part.hosts for part in parts]),
        users=WordSets.together([part.users for part in parts]),
        commands=WordSets.together([part.commands for part in parts]),
        epoch=np.concatenate([part.epoch for part in parts]),
        totals=_joined_totals(parts),
    )


def _joined_totals(parts: Sequence[Jobs]) -> dict[str, np.ndarray]:
    """Return the totals of all parts, which are mostly not asked for and 0."""
    nothing = np.broadcast_to(0.0, sum(map(len, parts)))
    totals = {}
    for name in GROWING:
        of_parts = [part.totals[name] for part in parts]
        totals[name] = np.concatenate(of_parts) if any(values.any() for values in of_parts) else nothing
    return totals


def classification(jobs: Jobs, bounds: dict[str, Bounds]) -> np.ndarray:
    """Return for each job whether it was live at the first (2) and last (1) sample of its hosts, added."""
    hosts = jobs.hosts.values
    used = np.zeros(len(hosts), bool)
    used[jobs.hosts.codes] = True
    limits = np.zeros((len(used), 2), np.int64)
    for code in np.flatnonzero(used).tolist():
        limits[code] = joined(bounds[host] for host in hosts[code])
    earliest, latest = limits[jobs.hosts.codes].T
    marks: np.ndarray = LIVE_AT_START * (jobs.start == earliest) + LIVE_AT_END * (jobs.end == latest)
    return marks


def _jobs(streams: Samples, group: np.ndarray) -> Jobs:
    """Return one row for each group of streams."""
    if len(streams) == 0:
        return Jobs.of_nothing()
    steps = merged(streams, group)
    new = np.ones(len(steps), bool)
    new[1:] = steps.group[1:] != steps.group[:-1]
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(steps))
    numbers, representative = np.unique(group, return_index=True)
    averages, peaks = _averages_and_peaks(steps, starts, ends - starts)
    return Jobs(
        job=streams["job"][representative],
        start=steps.time[starts],
        end=steps.time[ends - 1],
        samples=ends - starts,
        averages=averages,
        peaks=peaks,
        gpus=union_of_gpus(steps["gpus"], starts),
        gpufail=np.maximum.reduceat(steps["gpufail"], starts).astype(np.int64),
        hosts=WordSets.of_groups(group, streams["host"], streams.words["host"], numbers),
        users=WordSets.of_groups(group, streams["user"], streams.words["user"], numbers),
        commands=WordSets.of_groups(group, streams["cmd"], streams.words["cmd"], numbers),
        epoch=_largest(streams["epoch"], group),
        totals={
            name: np.bincount(group, streams.columns.get(f"{name}_added", np.zeros(len(streams)))) for name in GROWING
        },
    )


def _averages_and_peaks(
    steps: Steps, starts: np.ndarray, number: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    averages, peaks = {}, {}
    for name, (column, divisor) in AVERAGED.items():
        values = steps[column] / divisor
        averages[name] = np.add.reduceat(values, starts) / number
        peaks[name] = np.maximum(np.maximum.reduceat(values, starts), 0.0)
    return averages, peaks


def _largest(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) != 0))
    largest: np.ndarray = np.maximum.reduceat(values[order], starts)
    return largest

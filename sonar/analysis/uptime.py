"""Up and down times of one host and of its GPUs, from the instants at which it was sampled."""

from typing import NamedTuple

import numpy as np

from sonar.analysis.samples import Samples

__all__ = ["Period", "Probes", "periods", "probes_of", "probes_of_runs"]


class Probes(NamedTuple):
    """What the records of a host tell, by time: instants, and whether a GPU has failed, once for each that is told.

    Records of one instant may tell both; that of the failure is first then.
    """

    time: np.ndarray
    failed: np.ndarray


class Period(NamedTuple):
    """A time in which the host, or its GPUs, were up or down."""

    device: str
    state: str
    start: int
    end: int


def probes_of(samples: Samples) -> Probes:
    """Return when one host was sampled: whatever the order of its records, and however often each is there."""
    time, failed = samples["time"], samples["gpufail"] != 0
    order = np.lexsort((~failed, time))
    time, failed = time[order], failed[order]
    new = np.ones(len(time), bool)
    new[1:] = (time[1:] != time[:-1]) | (failed[1:] != failed[:-1])
    return Probes(time[new], failed[new])


def probes_of_runs(time: np.ndarray, failed: np.ndarray) -> Probes:
    """Return the same from the distinct instants, and whether records told of a failure: 0 none, 1 all, 2 some."""
    twice = failed == 2
    if not twice.any():
        return Probes(time, failed != 0)
    times = np.repeat(time, np.where(twice, 2, 1))
    has_failed = np.repeat(failed != 0, np.where(twice, 2, 1))
    has_failed[np.flatnonzero(np.append(False, times[1:] == times[:-1]))] = False
    return Probes(times, has_failed)


def periods(probes: Probes, start: int, end: int, cutoff_s: int) -> list[Period]:
    """Return the periods of a host within a window, sorted; a gap longer than `cutoff_s` is down time.

    Without a sample in the window nothing is known, and there is no period.
    """
    within = (start <= probes.time) & (probes.time <= end)
    time, failed = probes.time[within], probes.failed[within]
    if len(time) == 0:
        return []
    found = []
    if time[0] - start > cutoff_s:
        found.append(Period("host", "down", start, int(time[0])))
    if end - time[-1] > cutoff_s:
        found.append(Period("host", "down", int(time[-1]), end))
    breaks = np.flatnonzero(np.diff(time) > cutoff_s) + 1
    found += [Period("host", "down", int(time[at - 1]), int(time[at])) for at in breaks]
    for run in np.split(np.arange(len(time)), breaks):
        found.append(Period("host", "up", int(time[run[0]]), int(time[run[-1]])))
        changes = np.flatnonzero(failed[run][1:] != failed[run][:-1]) + 1
        for part in np.split(run, changes):
            until = min(part[-1] + 1, run[-1])
            found.append(Period("gpu", "down" if failed[part[0]] else "up", int(time[part[0]]), int(time[until])))
    return sorted(found, key=lambda period: (period.start, period.device != "host", period.end, period.state))

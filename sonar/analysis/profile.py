"""The profile of a job: what each of its processes used at each instant at which the job was sampled."""

from dataclasses import dataclass, replace

import numpy as np

from sonar.analysis.samples import Samples, dense
from sonar.analysis.streams import KIB_PER_GB
from sonar.times import MINUTE

__all__ = ["QUANTITIES", "Profile", "bucketed", "clamped", "profile_of"]

# Result columns, where they come from, and what their values are divided by.
QUANTITIES = {
    "cpu": ("util", 1),
    "mem": ("cpu_kib", KIB_PER_GB),
    "res": ("rss_kib", KIB_PER_GB),
    "gpu": ("gpu_pct", 1),
    "gpumem": ("gpu_kib", KIB_PER_GB),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Points sorted by instant and process; `process` counts the processes by first instant, command and number."""

    time: np.ndarray
    process: np.ndarray
    values: dict[str, np.ndarray]
    rolledup: np.ndarray
    commands: list[str]  # of each process
    pids: list[int]
    hosts: list[str]

    def __len__(self) -> int:
        return len(self.time)


def profile_of(streams: Samples) -> Profile:
    """Return the profile of the cleaned streams of one job, `stream` counting those of all its hosts.

    Hosts are not sampled at the same second: on several, instants are rounded to minutes, and of two samples of a
    process in the same minute the first counts.
    """
    hosts = [streams.words["host"][code] for code in np.unique(streams["host"])]
    if len(hosts) > 1:
        minute = (streams["time"] + MINUTE // 2) // MINUTE * MINUTE
        again = np.zeros(len(streams), bool)
        again[1:] = (minute[1:] == minute[:-1]) & (streams["stream"][1:] == streams["stream"][:-1])
        streams = streams.with_columns(time=minute).take(~again)
    new = np.ones(len(streams), bool)
    new[1:] = streams["stream"][1:] != streams["stream"][:-1]
    starts = np.flatnonzero(new)
    first = np.repeat(streams["time"][starts], np.diff(np.append(starts, len(streams))))
    process = dense(first, streams["cmd"], streams["pid"], streams["host"], streams["stream"])
    order = np.lexsort((process, streams["time"]))
    _, representative = np.unique(process, return_index=True)
    rows = streams.take(order)
    return Profile(
        time=rows["time"],
        process=process[order],
        values={name: rows[column] / divisor for name, (column, divisor) in QUANTITIES.items()},
        rolledup=rows["rolledup"],
        commands=[streams.words["cmd"][code] for code in streams["cmd"][representative]],
        pids=streams["pid"][representative].tolist(),
        hosts=[streams.words["host"][code] for code in streams["host"][representative]],
    )


def clamped(profile: Profile, limit: float) -> Profile:
    """Return the profile with values above the limit cut to it; above twice the limit they are errors and count 0."""
    values = {
        name: np.where(column > 2 * limit, 0.0, np.minimum(column, limit)) for name, column in profile.values.items()
    }
    return replace(profile, values=values)


def bucketed(profile: Profile, size: int) -> Profile:
    """Return means over `size` instants at a time, at the middle one of these; of each process where it is there."""
    instants, step = np.unique(profile.time, return_inverse=True)
    bucket = step // size
    first = np.arange(0, len(instants), size)
    middle = instants[first + np.minimum(size, len(instants) - first) // 2]
    order = np.lexsort((profile.process, bucket))
    of_bucket, of_process = bucket[order], profile.process[order]
    new = np.ones(len(order), bool)
    new[1:] = (of_bucket[1:] != of_bucket[:-1]) | (of_process[1:] != of_process[:-1])
    starts = np.flatnonzero(new)
    number = np.diff(np.append(starts, len(order)))
    values = {name: np.add.reduceat(column[order], starts) / number for name, column in profile.values.items()}
    return replace(
        profile,
        time=middle[of_bucket[starts]],
        process=of_process[starts],
        values=values,
        rolledup=np.maximum.reduceat(profile.rolledup[order], starts),
    )

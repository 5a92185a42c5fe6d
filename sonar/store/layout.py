"""Which file of the log a record belongs to: `CLUSTER/YYYY/MM/DD/FILE` below the data root.

    HOST.csv                samples, tagged CSV                     day by the record's own UTC offset
    sysinfo-HOST.json       old descriptions of a node                        the same
    slurm-sacct.csv         finished jobs of the batch system                 the same
    0+sample-NODE.json      samples                                 day in UTC
    0+sysinfo-NODE.json     descriptions of a node                  day in UTC
    0+job-slurm.json        jobs of the batch system                day in UTC
    0+cluzter-slurm.json    nodes and partitions                    day in UTC
    0+errors-NODE.json      what a sampler complained about         day in UTC

`0` is the version of the format and `+` cannot occur in a host name. Names come here only as `sonar.names` has
checked them, so that no path can leave the data root. Readers look one day further on both sides, since older writers
had other rules.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from sonar.names import BadNameError, ClusterName, HostName
from sonar.times import DAY, day_of

__all__ = [
    "Append",
    "Topic",
    "envelope_path",
    "errors_path",
    "is_plausible",
    "local_day",
    "sacct_path",
    "samples_path",
    "sysinfo_path",
    "utc_day",
]

_LONGEST_NAME = 255  # of a file, in every file system that matters
_EARLIEST = 1420070400  # 2015-01-01: no sampler is older


@dataclass(frozen=True, slots=True)
class Append:
    """Bytes that end in a newline, and the file below the data root that they go to."""

    path: str
    data: bytes


class Topic(Enum):
    """What an envelope describes, by the name that senders use."""

    SAMPLE = "sample"
    SYSINFO = "sysinfo"
    JOB = "job"
    CLUSTER = "cluster"

    @property
    def per_node(self) -> bool:
        """Whether each node sends its own."""
        return self in {Topic.SAMPLE, Topic.SYSINFO}


def is_plausible(instant: int, now: int) -> bool:
    """Whether a record may be that old or new: since 2015, and at most a day in the future."""
    return _EARLIEST <= instant <= now + DAY


def local_day(time: str) -> str:
    """Return `YYYY/MM/DD` of an RFC 3339 time in its own UTC offset."""
    return time[:10].replace("-", "/")


@lru_cache(256)
def _day_text(day: int) -> str:
    return day_of(day * DAY).strftime("%Y/%m/%d")


def utc_day(instant: int) -> str:
    """Return `YYYY/MM/DD` of an instant in UTC."""
    return _day_text(instant // DAY)


def samples_path(cluster: ClusterName, day: str, host: HostName) -> str:
    """Return the file of a host's tagged CSV samples."""
    return _path(cluster, day, f"{host}.csv")


def sysinfo_path(cluster: ClusterName, day: str, host: HostName) -> str:
    """Return the file of a host's old descriptions."""
    return _path(cluster, day, f"sysinfo-{host}.json")


def sacct_path(cluster: ClusterName, day: str) -> str:
    """Return the file of a cluster's finished jobs."""
    return _path(cluster, day, "slurm-sacct.csv")


def envelope_path(cluster: ClusterName, day: str, topic: Topic, node: HostName | None) -> str:
    """Return the file of an envelope; `node` only for the topics that each node sends."""
    match topic:
        case Topic.JOB:
            name = "0+job-slurm.json"
        case Topic.CLUSTER:
            name = "0+cluzter-slurm.json"
        case _:
            name = f"0+{topic.value}-{node}.json"
    return _path(cluster, day, name)


def errors_path(cluster: ClusterName, day: str, node: HostName) -> str:
    """Return the file of the errors of a node's sampler. No reader of data takes it for data."""
    return _path(cluster, day, f"0+errors-{node}.json")


def _path(cluster: ClusterName, day: str, name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise BadNameError(f"host name too long: {name[:80]!r}…")
    return f"{cluster}/{day}/{name}"

"""What a sample is: the records of its processes, the state of the host, and what could not be read."""

from dataclasses import dataclass

from sonar.node.gpus import Gpu, GpuUse
from sonar.node.system import SystemState

__all__ = ["FORMAT_VERSION", "ProcessRecord", "Sample"]

FORMAT_VERSION = "0.19.0"
"""Version of the record formats that we write. Readers go by it to know which fields mean what in a record (percent or
fraction, for instance), so it is not the version of this program, whose numbers began anew."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process, or one group of rolled-up processes, at the time of the sample. Counters begin with the process."""

    user: str
    job: int
    """0: the process belongs to no job."""
    epoch: int
    """0: the job number is one of a batch system; else the second of the boot that the number belongs to."""
    pid: int
    ppid: int
    cmd: str
    cpu_avg_pct: float = 0.0
    """Of one core, since the process began, without its children: what ps(1) shows as %CPU."""
    cpu_util_pct: float = 0.0
    """Of one core, since the previous sample, without its children; 0 without a previous sample."""
    cpu_time_s: int = 0
    """With dead children."""
    virtual_kib: int = 0
    resident_kib: int = 0
    threads: int = 1
    io_kib: tuple[int, int, int] | None = None
    """Read, written, cancelled; None where the sampler may not know."""
    rolledup: int = 0
    """How many other processes are in the record."""
    in_container: bool = False
    gpus: tuple[GpuUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """All that one run of the sampler saw. Without records it is a heartbeat: the host is up."""

    time: int
    cluster: str
    host: str
    records: tuple[ProcessRecord, ...]
    """By job, user and pid."""
    system: SystemState | None
    """None where the load of the host is not asked for."""
    gpus: tuple[Gpu, ...] = ()
    errors: tuple[str, ...] = ()
    """What went wrong and did not cost the sample."""

"""Read the state of the host as a whole from /proc: boot time, cores, memory, load and disks."""

from dataclasses import dataclass
from pathlib import Path

from sonar.node.processes import CLOCK_TICKS

__all__ = ["Disk", "SystemState", "boot_time", "read_system", "uptime_s"]


@dataclass(frozen=True, slots=True)
class Disk:
    """One whole disk or partition: the counters of /proc/diskstats in the kernel's order, as many as it has."""

    name: str
    major: int
    minor: int
    stats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SystemState:
    """The host at one moment."""

    boot: int
    """Instant."""
    cpu_s: tuple[int, ...]
    """CPU seconds since boot, one for each logical core; 0 for a core that is offline."""
    used_kib: int
    """Memory that is not available to new programs."""
    load: tuple[float, float, float]
    """Load averages over 1, 5 and 15 minutes."""
    runnable: int
    existing: int
    """Scheduling entities: processes and threads."""
    disks: tuple[Disk, ...]


def read_system(proc: Path) -> SystemState:
    """Return the state of the host whose /proc is `proc`. Raise OSError, ValueError or LookupError if it is unusable.

    Only the disks may be missing: in some containers there is no list of them.
    """
    stat = _lines(proc / "stat")
    averages = (proc / "loadavg").read_text().split()
    runnable, existing = averages[3].split("/")
    return SystemState(
        boot=_boot_of(stat),
        cpu_s=_cpu_seconds(stat),
        used_kib=_used_kib(_lines(proc / "meminfo")),
        load=(float(averages[0]), float(averages[1]), float(averages[2])),
        runnable=int(runnable),
        existing=int(existing),
        disks=_disks(proc / "diskstats"),
    )


def boot_time(proc: Path) -> int:
    """Return the instant at which the host was booted."""
    return _boot_of(_lines(proc / "stat"))


def uptime_s(proc: Path) -> float:
    """Return the seconds since boot, on the clock that start times of processes are measured with."""
    return float((proc / "uptime").read_text().split()[0])


def _lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines() if line]


def _boot_of(stat: list[list[str]]) -> int:
    return {line[0]: int(line[1]) for line in stat if line[0] == "btime"}["btime"]


def _cpu_seconds(stat: list[list[str]]) -> tuple[int, ...]:
    """Work done by each core: user, nice, system and interrupts. Guests are part of user, stolen time is no work."""
    seconds = {
        int(line[0][3:]): sum(int(line[field]) for field in (1, 2, 3, 6, 7)) // CLOCK_TICKS
        for line in stat
        if line[0].startswith("cpu") and line[0] != "cpu"
    }
    return tuple(seconds.get(core, 0) for core in range(max(seconds) + 1))


def _used_kib(meminfo: list[list[str]]) -> int:
    kib = {line[0]: int(line[1]) for line in meminfo if line[0] in {"MemTotal:", "MemAvailable:"}}
    return max(kib["MemTotal:"] - kib["MemAvailable:"], 0)


def _disks(diskstats: Path) -> tuple[Disk, ...]:
    try:
        lines = _lines(diskstats)
    except FileNotFoundError:
        return ()
    return tuple(Disk(line[2], int(line[0]), int(line[1]), tuple(map(int, line[3:]))) for line in lines)

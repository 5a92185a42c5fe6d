"""What the host is made of: system, processors, memory and GPUs, from uname(2), /proc and /sys.

A host that does not tell a part of it (a virtual machine, an ARM processor, a container) is described without it.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonar.node.gpus import GpuCard

__all__ = ["Topology", "read_topology", "sysinfo_attributes"]

_CPU = re.compile(r"cpu(\d+)")
_NODE = re.compile(r"node(\d+)")


@dataclass(frozen=True, slots=True)
class Topology:
    """The processors. The product of the three numbers is the number of logical cores."""

    sockets: int
    cores_per_socket: int
    threads_per_core: int
    model: str
    numa_nodes: int = 0
    """0: not known."""
    distances: tuple[tuple[int, ...], ...] = ()
    """Between NUMA nodes, 10 being a node's to itself."""


def read_topology(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Topology:
    """Return the processors of a host whose kernel shows itself in `proc` and `sys`; raise OSError without /proc."""
    processors = _processors((proc / "cpuinfo").read_text(errors="replace"))
    model = next((one["model name"] for one in processors if one.get("model name")), "")
    places = _places_by_sys(sys) or _places_by_proc(processors)
    threads = len(places) or os.cpu_count() or 1
    sockets = len({socket for socket, _ in places}) or 1
    cores = len(set(places)) or threads
    # Cores that are offline, or cores of two kinds, make a product of whole numbers that is none of the host's.
    if threads % cores or cores % sockets:
        sockets, cores = 1, threads
    numa_nodes, distances = _numa(sys)
    return Topology(sockets, cores // sockets, threads // cores, model, numa_nodes, distances)


def sysinfo_attributes(
    *,
    time: str,
    cluster: str,
    host: str,
    cards: Sequence[GpuCard],
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
) -> dict[str, object]:
    """Return the attributes of a `sysinfo` envelope. Raise OSError or ValueError if the host tells nothing."""
    topology = read_topology(proc, sys)
    system = os.uname()
    return {
        "time": time,
        "cluster": cluster,
        "node": host,
        "os_name": system.sysname,
        "os_release": system.release,
        "architecture": system.machine,
        "numa_nodes": topology.numa_nodes,
        "sockets": topology.sockets,
        "cores_per_socket": topology.cores_per_socket,
        "threads_per_core": topology.threads_per_core,
        "cpu_model": topology.model,
        "memory": _memory_kib(proc),
        **({"distances": topology.distances} if topology.distances else {}),
        **({"cards": [_card(card) for card in cards]} if cards else {}),
    }


def _card(card: GpuCard) -> dict[str, object]:
    values: dict[str, object] = {
        "address": card.address,
        "manufacturer": card.manufacturer,
        "model": card.model,
        "architecture": card.architecture,
        "driver": card.driver,
        "firmware": card.firmware,
        "memory": card.memory_kib,
        "power_limit": card.power_limit_w,
        "max_power_limit": card.max_power_limit_w,
        "min_power_limit": card.min_power_limit_w,
        "max_ce_clock": card.max_compute_clock_mhz,
        "max_memory_clock": card.max_memory_clock_mhz,
    }
    return {"index": card.index, "uuid": card.uuid, **{name: value for name, value in values.items() if value}}


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """Return the fields of each processor of /proc/cpuinfo."""
    processors = []
    for block in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if "processor" in fields:
            processors.append(fields)
    return processors


def _places_by_proc(processors: Iterable[dict[str, str]]) -> list[tuple[int, int]]:
    """Return socket and core of each logical core, where /proc/cpuinfo has them."""
    try:
        return [(int(one["physical id"]), int(one["core id"])) for one in processors]
    except (KeyError, ValueError):
        return []


def _places_by_sys(sys: Path) -> list[tuple[int, int]]:
    """Return socket and core of each logical core that is online."""
    places = []
    for directory in _numbered(sys / "devices/system/cpu", _CPU):
        try:
            socket, core = (
                int((directory / "topology" / name).read_text()) for name in ("physical_package_id", "core_id")
            )
        except (OSError, ValueError):
            continue
        places.append((max(socket, 0), core))  # -1: the firmware does not tell
    return places


def _numa(sys: Path) -> tuple[int, tuple[tuple[int, ...], ...]]:
    nodes = _numbered(sys / "devices/system/node", _NODE)
    try:
        distances = tuple(tuple(map(int, (node / "distance").read_text().split())) for node in nodes)
    except (OSError, ValueError):
        distances = ()
    return len(nodes), distances if len(nodes) > 1 else ()


def _numbered(directory: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Return the entries whose names are of a kind with a number, by number."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    numbers = sorted((int(match[1]), name) for name in names if (match := pattern.fullmatch(name)))
    return [directory / name for _, name in numbers]


def _memory_kib(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0])
    return 0

"""What a host is made of: real hosts, virtual machines and ARM, from made-up /proc and /sys."""

import json
import os
from collections import Counter
from pathlib import Path

from sonar.node.envelope import envelope_of
from sonar.node.gpus import GpuCard
from sonar.node.sysinfo import Topology, read_topology, sysinfo_attributes
from sonar.read.sysinfo import CARDS, NODES


def x86(sockets: int, cores: int, threads: int) -> str:
    blocks: list[str] = []
    for socket in range(sockets):
        for core in range(cores):
            for _ in range(threads):
                blocks.append(
                    f"processor\t: {len(blocks)}\nmodel name\t: EPYC 7702\nphysical id\t: {socket}\n"
                    f"siblings\t: {cores * threads}\ncore id\t\t: {core}\ncpu cores\t: {cores}\n"
                )
    return "\n".join(blocks) + "\n"


def make_proc(root: Path, cpuinfo: str) -> Path:
    root.mkdir()
    (root / "cpuinfo").write_text(cpuinfo)
    (root / "meminfo").write_text("MemTotal:       527433728 kB\nMemFree: 1 kB\n")
    return root


def make_sys(root: Path, places: list[tuple[int, int]], distances: list[str] | None = None) -> Path:
    for number, (socket, core) in enumerate(places):
        topology = root / f"devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{socket}\n")
        (topology / "core_id").write_text(f"{core}\n")
    (root / "devices/system/cpu/cpufreq").mkdir(parents=True)
    for number, row in enumerate(distances or []):
        node = root / f"devices/system/node/node{number}"
        node.mkdir(parents=True)
        (node / "distance").write_text(row + "\n")
    return root


def test_two_sockets_with_hyperthreads(tmp_path: Path) -> None:
    proc = make_proc(tmp_path / "proc", x86(2, 64, 2))
    assert read_topology(proc, tmp_path / "none") == Topology(2, 64, 2, "EPYC 7702")
    places = [(socket, core) for socket in range(2) for _ in range(2) for core in range(64)]
    sys = make_sys(tmp_path / "sys", places, ["10 32", "32 10"])
    assert read_topology(proc, sys) == Topology(2, 64, 2, "EPYC 7702", 2, ((10, 32), (32, 10)))


def test_arm_processors_tell_neither_model_nor_sockets(tmp_path: Path) -> None:
    cpuinfo = "\n".join(f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n" for n in range(8))
    proc = make_proc(tmp_path / "proc", cpuinfo)
    sys = make_sys(tmp_path / "sys", [(-1, core) for core in range(8)], ["10"])
    assert read_topology(proc, sys) == Topology(1, 8, 1, "", 1)


def test_host_that_tells_nothing_has_as_many_cores_as_we_can_use(tmp_path: Path) -> None:
    proc = make_proc(tmp_path / "proc", "processor\t: 0\n")
    found = read_topology(proc, tmp_path / "none")
    assert (found.sockets, found.threads_per_core) == (1, 1)
    assert found.cores_per_socket == os.cpu_count()


def test_cores_of_two_kinds_are_counted_as_one_socket(tmp_path: Path) -> None:
    proc = make_proc(tmp_path / "proc", x86(1, 1, 1))
    sys = make_sys(tmp_path / "sys", [(0, 0), (0, 0), (0, 1), (0, 1), (0, 2)])  # two with threads, one without
    assert read_topology(proc, sys) == Topology(1, 5, 1, "EPYC 7702")


def test_readers_read_it_back(tmp_path: Path) -> None:
    proc = make_proc(tmp_path / "proc", x86(2, 64, 1))
    cards = [GpuCard(0, "GPU-aa", manufacturer="NVIDIA", model="A100", memory_kib=40 << 20, power_limit_w=400)] * 2
    attributes = sysinfo_attributes(
        time="2026-03-02T08:35:00+00:00", cluster="fox", host="g1", cards=cards, proc=proc, sys=tmp_path / "none"
    )
    line = envelope_of("sysinfo", attributes)
    assert json.loads(line)["data"]["type"] == "sysinfo"
    dropped: Counter[str] = Counter()
    (node,) = NODES.read(line, dropped)
    assert not dropped
    assert (node["host"], node["cpu_cores"], node["memory_kib"]) == ("g1", 128, 527433728)
    assert node["description"] == "2x64 EPYC 7702, 503 GiB, 2x A100 @ 40GiB"
    assert [card["power_limit"] for card in CARDS.read(line, dropped)] == [400, 400]

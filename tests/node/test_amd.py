"""GPUs of AMD's driver, read from a made-up /sys."""

from pathlib import Path

import pytest

from sonar.node.amd import AmdGpus
from sonar.node.gpus import Gpu, GpuCard, GpuReading, GpuUse, joined
from sonar.node.sampler import Sampler

from tests.node.fake_proc import FakeProc

GIB = 1 << 30


def write(directory: Path, **files: str | int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(f"{content}\n")
    return directory


def add_gpu(sys: Path, card: int, address: str, *, busy: int, used: int, unique_id: str = "") -> Path:
    device = write(
        sys / f"class/drm/card{card}/device",
        vendor="0x1002",
        device="0x740f",
        uevent=f"DRIVER=amdgpu\nPCI_SLOT_NAME={address}",
        gpu_busy_percent=busy,
        mem_busy_percent=busy // 2,
        mem_info_vram_total=64 * GIB,
        mem_info_vram_used=used,
        pp_dpm_sclk="0: 500Mhz\n1: 800Mhz *\n2: 1700Mhz",
        pp_dpm_mclk="0: 400Mhz\n1: 1600Mhz *",
        vbios_version="113-D65201-042",
        product_name="Instinct MI210",
    )
    if unique_id:
        write(device, unique_id=unique_id)
    write(
        device / "hwmon/hwmon3", temp1_input=47000, power1_average=92_000_000, power1_cap=300_000_000,
        power1_cap_max=300_000_000, power1_cap_min=0, pwm1=51,
    )  # fmt: skip
    return device


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Two GPUs, the second of which has the lower address, and a display controller; three processes compute."""
    root = tmp_path / "sys"
    add_gpu(root, 0, "0000:c3:00.0", busy=80, used=8 * GIB, unique_id="c0ffee")
    add_gpu(root, 2, "0000:43:00.0", busy=0, used=0)
    write(root / "class/drm/card1/device", vendor="0x1a03")
    write(root / "class/drm/card0-HDMI-A-1", status="disconnected")
    write(root / "class/kfd/kfd/topology/nodes/0", gpu_id="0", properties="cpu_cores_count 64")
    write(root / "class/kfd/kfd/topology/nodes/1", gpu_id="4711", properties=f"location_id {0xC3 << 8}\ndomain 0")
    write(root / "class/kfd/kfd/topology/nodes/2", gpu_id="4712", properties=f"location_id {0x43 << 8}\ndomain 0")
    for pid, size, units in ((100, 4 * GIB, 30), (101, 2 * GIB, 10)):
        process = write(root / f"class/kfd/kfd/proc/{pid}", vram_4711=size, pasid=32770)
        write(process / "stats_4711", cu_occupancy=units)
    write(root / "class/kfd/kfd/proc/102", vram_4712=GIB, vram_9999=1)
    write(root / "module/amdgpu", version="6.8.5")
    return root


def test_gpus_are_counted_by_address(sys: Path) -> None:
    first, second = AmdGpus(sys).read().gpus
    assert (first.uuid, first.index) == ("amd-0000:43:00.0", 0)
    assert second == Gpu(
        1, "c0ffee", fan_pct=20, used_kib=8 << 20, compute_pct=80, memory_pct=40, temperature_c=47, power_w=92,
        power_limit_w=300, compute_clock_mhz=800, memory_clock_mhz=1600,
    )  # fmt: skip


def test_load_is_divided_by_what_processes_occupy(sys: Path) -> None:
    uses = AmdGpus(sys).read().uses
    assert uses == {
        100: [GpuUse(1, "c0ffee", compute_pct=60.0, memory_kib=4 << 20, memory_pct=6.25)],
        101: [GpuUse(1, "c0ffee", compute_pct=20.0, memory_kib=2 << 20, memory_pct=3.125)],
        102: [GpuUse(0, "amd-0000:43:00.0", compute_pct=0.0, memory_kib=1 << 20, memory_pct=1.5625)],
    }


def test_load_is_divided_evenly_where_occupancy_is_not_told(sys: Path) -> None:
    for pid in (100, 101):
        (sys / f"class/kfd/kfd/proc/{pid}/stats_4711/cu_occupancy").unlink()
    uses = AmdGpus(sys).read().uses
    assert [uses[pid][0].compute_pct for pid in (100, 101)] == [40.0, 40.0]


def test_cards(sys: Path) -> None:
    _, card = AmdGpus(sys).cards()
    assert card == GpuCard(
        1, "c0ffee", address="0000:c3:00.0", manufacturer="AMD", model="Instinct MI210", driver="6.8.5",
        firmware="113-D65201-042", memory_kib=64 << 20, power_limit_w=300, max_power_limit_w=300,
        max_compute_clock_mhz=1700, max_memory_clock_mhz=1600,
    )  # fmt: skip


def test_host_without_such_gpus(tmp_path: Path) -> None:
    assert AmdGpus(tmp_path).read() == GpuReading()
    assert AmdGpus(tmp_path).cards() == []


def test_files_that_are_missing_or_nonsense_are_zero(sys: Path) -> None:
    device = sys / "class/drm/card0/device"
    for name in ("gpu_busy_percent", "pp_dpm_sclk", "mem_info_vram_used"):
        (device / name).write_text("n/a\n")
    (device / "hwmon/hwmon3/temp1_input").unlink()
    gpu = AmdGpus(sys).read().gpus[1]
    assert (gpu.compute_pct, gpu.compute_clock_mhz, gpu.used_kib, gpu.temperature_c) == (0, 0, 0, 0)


def test_two_makers_on_one_host_count_for_themselves(sys: Path) -> None:
    other = GpuReading([Gpu(0, "GPU-aa")], {100: [GpuUse(0, "GPU-aa")]}, ["trouble"])
    both = joined([other, AmdGpus(sys).read()])
    assert [(gpu.index, gpu.uuid) for gpu in both.gpus] == [(0, "GPU-aa"), (0, "amd-0000:43:00.0"), (1, "c0ffee")]
    assert [use.uuid for use in both.uses[100]] == ["GPU-aa", "c0ffee"]
    assert both.errors == ["trouble"]


def test_sample_has_them(sys: Path, tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.add(100, "train")
    sample = Sampler(cluster="fox", host="g1", proc=proc.root, read_gpus=AmdGpus(sys).read).sample()
    (train,) = [record for record in sample.records if record.pid == 100]
    assert [use.uuid for use in train.gpus] == ["c0ffee"]
    assert {record.user for record in sample.records} >= {"_zombie_101", "_zombie_102"}
    assert len(sample.gpus) == 2

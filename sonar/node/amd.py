"""Read the GPUs of AMD's driver, and the processes that use them, from /sys; no library is needed.

    class/drm/cardN/device          a GPU: use, memory, sensors below hwmon; amdgpu's names, see the kernel's
                                    Documentation/gpu/amdgpu/thermal.rst and driver-misc.rst
    class/kfd/kfd/topology/nodes    which number the compute driver gives to it
    class/kfd/kfd/proc/PID          what a process that computes holds: vram_NUMBER in bytes, and in
                                    stats_NUMBER/cu_occupancy how many compute units it occupies

GPUs are counted in the order of their addresses, as the vendor's own tools do.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sonar.node.gpus import Gpu, GpuCard, GpuReading, GpuUse

__all__ = ["AmdGpus"]

_VENDOR = "0x1002"
_CARD = re.compile(r"card\d+")
_CLOCK = re.compile(r"\d+: (\d+)M[Hh]z ?(\*?)")


@dataclass(frozen=True, slots=True)
class _Device:
    index: int
    address: str
    path: Path

    def text(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.path / name).read_text(errors="replace").strip()
        return ""

    def number(self, name: str) -> int:
        text = self.text(name)
        return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else 0

    def sensor(self, *names: str) -> int:
        """Return the first of these that the GPU's sensors have, 0 without any."""
        for directory in sorted((self.path / "hwmon").glob("hwmon*")):
            for name in names:
                if value := self.number(f"hwmon/{directory.name}/{name}"):
                    return value
        return 0

    def clocks(self, name: str) -> list[tuple[int, bool]]:
        """Return the frequencies in MHz that a clock can have, and whether it has it now."""
        return [(int(mhz), bool(star)) for mhz, star in _CLOCK.findall(self.text(name))]

    @property
    def uuid(self) -> str:
        return self.text("unique_id") or f"amd-{self.address}"

    @property
    def total_kib(self) -> int:
        return self.number("mem_info_vram_total") // 1024


class AmdGpus:
    """The GPUs of AMD's driver below a /sys; none where there is no such driver."""

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._sys = sys

    def read(self) -> GpuReading:
        """Return the GPUs as they are now, and who uses them."""
        devices = self._devices()
        if not devices:
            return GpuReading()
        return GpuReading([_gpu(device) for device in devices], self._uses(devices))

    def cards(self) -> list[GpuCard]:
        """Return what the GPUs are."""
        return [_card(device, self._driver()) for device in self._devices()]

    def _devices(self) -> list[_Device]:
        found = {}
        for name in _names(self._sys / "class/drm"):
            path = self._sys / "class/drm" / name / "device"
            # What does not count its memory is a display controller, and no GPU to compute with.
            is_gpu = _CARD.fullmatch(name) and (path / "mem_info_vram_total").exists()
            if is_gpu and _Device(0, "", path).text("vendor") == _VENDOR:
                found[_address(path)] = path
        return [_Device(index, address, path) for index, (address, path) in enumerate(sorted(found.items()))]

    def _driver(self) -> str:
        with contextlib.suppress(OSError):
            return (self._sys / "module/amdgpu/version").read_text().strip()
        return ""

    def _uses(self, devices: list[_Device]) -> dict[int, list[GpuUse]]:
        """Return what each process holds of each GPU; the GPU's load is divided by what they occupy of it."""
        by_number = self._numbers(devices)
        held: dict[int, dict[int, tuple[int, int]]] = {}  # index of the GPU -> pid -> bytes, occupied units
        for process in _names(self._sys / "class/kfd/kfd/proc"):
            directory = self._sys / "class/kfd/kfd/proc" / process
            for name in _names(directory) if process.isdecimal() else ():
                kind, _, number = name.partition("_")
                if kind == "vram" and number in by_number:
                    device = _Device(0, "", directory)
                    occupied = device.number(f"stats_{number}/cu_occupancy")
                    held.setdefault(by_number[number], {})[int(process)] = (device.number(name), occupied)
        uses: dict[int, list[GpuUse]] = {}
        for device in devices:
            of_gpu = held.get(device.index, {})
            busy, all_occupied = device.number("gpu_busy_percent"), sum(units for _, units in of_gpu.values())
            for pid, (size, units) in sorted(of_gpu.items()):
                share = units / all_occupied if all_occupied else 1 / len(of_gpu)
                use = GpuUse(
                    device.index,
                    device.uuid,
                    compute_pct=busy * share,
                    memory_kib=size // 1024,
                    memory_pct=100 * (size // 1024) / device.total_kib if device.total_kib else 0.0,
                )
                uses.setdefault(pid, []).append(use)
        return uses

    def _numbers(self, devices: list[_Device]) -> dict[str, int]:
        """Return the index of the GPU that each of the compute driver's numbers stands for."""
        by_address = {device.address: device.index for device in devices}
        found = {}
        nodes = self._sys / "class/kfd/kfd/topology/nodes"
        for name in _names(nodes):
            node = _Device(0, "", nodes / name)
            properties = dict(line.split(" ", 1) for line in node.text("properties").splitlines() if " " in line)
            with contextlib.suppress(ValueError):
                place, domain = int(properties.get("location_id", "0")), int(properties.get("domain", "0"))
                # Bus, device and function as PCI packs them.
                address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"
                if (number := node.text("gpu_id")) not in {"", "0"} and address in by_address:
                    found[number] = by_address[address]
        return found


def _gpu(device: _Device) -> Gpu:
    return Gpu(
        device.index,
        device.uuid,
        fan_pct=round(device.sensor("pwm1") * 100 / 255),
        used_kib=device.number("mem_info_vram_used") // 1024,
        compute_pct=device.number("gpu_busy_percent"),
        memory_pct=device.number("mem_busy_percent"),
        temperature_c=device.sensor("temp1_input") // 1000,
        power_w=device.sensor("power1_average", "power1_input") // 1_000_000,
        power_limit_w=device.sensor("power1_cap") // 1_000_000,
        compute_clock_mhz=_now(device.clocks("pp_dpm_sclk")),
        memory_clock_mhz=_now(device.clocks("pp_dpm_mclk")),
    )


def _card(device: _Device, driver: str) -> GpuCard:
    return GpuCard(
        device.index,
        device.uuid,
        address=device.address,
        manufacturer="AMD",
        model=device.text("product_name") or device.text("device"),
        driver=driver,
        firmware=device.text("vbios_version"),
        memory_kib=device.total_kib,
        power_limit_w=device.sensor("power1_cap") // 1_000_000,
        max_power_limit_w=device.sensor("power1_cap_max") // 1_000_000,
        min_power_limit_w=device.sensor("power1_cap_min") // 1_000_000,
        max_compute_clock_mhz=max((mhz for mhz, _ in device.clocks("pp_dpm_sclk")), default=0),
        max_memory_clock_mhz=max((mhz for mhz, _ in device.clocks("pp_dpm_mclk")), default=0),
    )


def _now(clocks: list[tuple[int, bool]]) -> int:
    return next((mhz for mhz, is_now in clocks if is_now), 0)


def _address(device: Path) -> str:
    """Return the PCI address of a device: `0000:c3:00.0`."""
    with contextlib.suppress(OSError):
        for line in (device / "uevent").read_text().splitlines():
            if line.startswith("PCI_SLOT_NAME="):
                return line.partition("=")[2].strip()
    return device.resolve().name


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []

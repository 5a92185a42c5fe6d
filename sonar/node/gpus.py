"""Read the GPUs of the host and the processes that use them, by NVML, the management library of NVIDIA's driver.

NVML is opened for each sample and closed after it: an open handle would keep the administrator from resetting a GPU or
exchanging the driver, and a driver that comes later is found without a restart. What one GPU cannot or will not tell
is left out; a GPU that is broken is reported as failing and costs none of the others.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["ComputeMode", "Gpu", "GpuCard", "GpuReading", "GpuUse", "Nvml", "joined"]

Answer = TypeVar("Answer")


class ComputeMode(Enum):
    """Whom the driver lets use a GPU."""

    DEFAULT = "Default"
    EXCLUSIVE = "ExclusiveProcess"
    PROHIBITED = "Prohibited"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at one moment; 0 where it does not tell."""

    index: int
    uuid: str = ""
    failing: bool = False
    fan_pct: int = 0
    compute_mode: ComputeMode = ComputeMode.UNKNOWN
    performance_state: int | None = None
    """0 is the fastest."""
    used_kib: int = 0
    compute_pct: int = 0
    memory_pct: int = 0
    """Share of time in which the GPU's memory was being read or written."""
    temperature_c: int = 0
    power_w: int = 0
    power_limit_w: int = 0
    compute_clock_mhz: int = 0
    memory_clock_mhz: int = 0


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What one process, or one group of them, uses of one GPU."""

    index: int
    uuid: str
    failing: bool = False
    compute_pct: float = 0.0
    memory_kib: int = 0
    memory_pct: float = 0.0
    """Share of the GPU's memory that is held."""


@dataclass(frozen=True, slots=True)
class GpuCard:
    """What a GPU is, as far as it tells."""

    index: int
    uuid: str
    address: str = ""
    manufacturer: str = ""
    model: str = ""
    architecture: str = ""
    driver: str = ""
    firmware: str = ""
    memory_kib: int = 0
    power_limit_w: int = 0
    max_power_limit_w: int = 0
    min_power_limit_w: int = 0
    max_compute_clock_mhz: int = 0
    max_memory_clock_mhz: int = 0


@dataclass(frozen=True, slots=True)
class GpuReading:
    """All GPUs of the host, by index; who uses them; and what went wrong."""

    gpus: Sequence[Gpu] = ()
    uses: Mapping[int, Sequence[GpuUse]] = field(default_factory=dict)
    """By pid."""
    errors: Sequence[str] = ()


def joined(readings: Sequence[GpuReading]) -> GpuReading:
    """Return the GPUs of several makers together; each maker counts its own from 0."""
    uses: dict[int, list[GpuUse]] = {}
    for reading in readings:
        for pid, of_pid in reading.uses.items():
            uses.setdefault(pid, []).extend(of_pid)
    return GpuReading(
        [gpu for reading in readings for gpu in reading.gpus], uses, [text for one in readings for text in one.errors]
    )


class Nvml:
    """The GPUs of NVIDIA's driver. Nothing is imported or opened before the first reading, nor without a driver."""

    def __init__(self, traces: Sequence[Path] = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))) -> None:
        self._traces = traces
        self._library: ModuleType | None = None
        self._seen_us: dict[str, int] = {}

    def read(self) -> GpuReading:
        """Return the GPUs as they are now: none without driver or library, an error where these do not work."""
        return self._opened(self._read_all, lambda text: GpuReading(errors=[text] if text else ()))

    def cards(self) -> list[GpuCard]:
        """Return what the GPUs are; none where that cannot be found out, which `read` tells of."""
        return self._opened(_all_cards, lambda _text: [])

    def _opened(self, ask: Callable[[ModuleType], Answer], without: Callable[[str], Answer]) -> Answer:
        """Return what `ask` makes of the open library; where it cannot be opened, what `without` makes of why."""
        if not any(trace.exists() for trace in self._traces):
            return without("")
        if self._library is None:
            try:
                self._library = importlib.import_module("pynvml")
            except ImportError:
                return without("there is an NVIDIA driver, but the Python module pynvml is missing")
        library = self._library
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            absent = {library.NVML_ERROR_DRIVER_NOT_LOADED, library.NVML_ERROR_NOT_FOUND}
            return without("" if error.value in absent else f"NVML: {error}")
        try:
            return ask(library)
        except library.NVMLError as error:
            return without(f"NVML: {error}")
        finally:
            _optional(library, library.nvmlShutdown)

    def _read_all(self, library: ModuleType) -> GpuReading:
        gpus: list[Gpu] = []
        uses: dict[int, list[GpuUse]] = {}
        errors: list[str] = []
        for index in range(library.nvmlDeviceGetCount()):
            uuid = ""
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(_optional(library, library.nvmlDeviceGetUUID, handle))
                gpu, total_kib = _gpu(library, handle, index, uuid)
                gpus.append(gpu)
                for pid, use in self._uses(library, handle, gpu, total_kib).items():
                    uses.setdefault(pid, []).append(use)
            except library.NVMLError as error:
                gpus[index:] = [Gpu(index, uuid, failing=error.value != library.NVML_ERROR_NO_PERMISSION)]
                errors.append(f"GPU {index}: {error}")
        return GpuReading(gpus, uses, errors)

    def _uses(self, library: ModuleType, handle: object, gpu: Gpu, total_kib: int) -> dict[int, GpuUse]:
        memory_kib: dict[int, int] = {}
        for call in (library.nvmlDeviceGetComputeRunningProcesses, library.nvmlDeviceGetGraphicsRunningProcesses):
            for process in _optional(library, call, handle) or ():
                # A process that computes and draws is in both lists with the same number.
                memory_kib[process.pid] = max(memory_kib.get(process.pid, 0), (process.usedGpuMemory or 0) // 1024)
        # The driver keeps some seconds of readings. Where that is not supported (MIG) or allowed, only memory is known.
        readings = _optional(library, library.nvmlDeviceGetProcessUtilization, handle, self._seen_us.get(gpu.uuid, 0))
        compute_pct: dict[int, list[int]] = {}
        for reading in readings or ():
            if reading.pid and reading.smUtil <= 100:
                compute_pct.setdefault(reading.pid, []).append(reading.smUtil)
        if readings:
            self._seen_us[gpu.uuid] = max(reading.timeStamp for reading in readings)
        return {
            pid: GpuUse(
                gpu.index,
                gpu.uuid,
                failing=gpu.failing,
                compute_pct=sum(values) / len(values) if (values := compute_pct.get(pid)) else 0.0,
                memory_kib=memory_kib.get(pid, 0),
                memory_pct=100 * memory_kib.get(pid, 0) / total_kib if total_kib else 0.0,
            )
            for pid in sorted(memory_kib.keys() | compute_pct.keys())
        }


def _gpu(library: ModuleType, handle: object, index: int, uuid: str) -> tuple[Gpu, int]:
    """Return the GPU and the size of its memory in KiB."""

    def number(call: Callable[..., object], *arguments: object) -> int:
        value = _optional(library, call, handle, *arguments)
        return value if isinstance(value, int) else 0

    memory = _optional(library, library.nvmlDeviceGetMemoryInfo, handle)
    utilization = _optional(library, library.nvmlDeviceGetUtilizationRates, handle)
    state = _optional(library, library.nvmlDeviceGetPerformanceState, handle)
    mode = _optional(library, library.nvmlDeviceGetComputeMode, handle)
    gpu = Gpu(
        index,
        uuid,
        fan_pct=number(library.nvmlDeviceGetFanSpeed),
        compute_mode={
            library.NVML_COMPUTEMODE_DEFAULT: ComputeMode.DEFAULT,
            library.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: ComputeMode.EXCLUSIVE,
            library.NVML_COMPUTEMODE_PROHIBITED: ComputeMode.PROHIBITED,
        }.get(mode, ComputeMode.UNKNOWN),
        performance_state=state if isinstance(state, int) and state != library.NVML_PSTATE_UNKNOWN else None,
        used_kib=memory.used // 1024 if memory else 0,
        compute_pct=utilization.gpu if utilization else 0,
        memory_pct=utilization.memory if utilization else 0,
        temperature_c=number(library.nvmlDeviceGetTemperature, library.NVML_TEMPERATURE_GPU),
        power_w=number(library.nvmlDeviceGetPowerUsage) // 1000,
        power_limit_w=number(library.nvmlDeviceGetEnforcedPowerLimit) // 1000,
        compute_clock_mhz=number(library.nvmlDeviceGetClockInfo, library.NVML_CLOCK_SM),
        memory_clock_mhz=number(library.nvmlDeviceGetClockInfo, library.NVML_CLOCK_MEM),
    )
    return gpu, memory.total // 1024 if memory else 0


def _all_cards(library: ModuleType) -> list[GpuCard]:
    cards = []
    driver = _text(_optional(library, library.nvmlSystemGetDriverVersion))
    for index in range(library.nvmlDeviceGetCount()):
        try:
            cards.append(_card(library, library.nvmlDeviceGetHandleByIndex(index), index, driver))
        except library.NVMLError:
            cards.append(GpuCard(index, "", manufacturer="NVIDIA", driver=driver))
    return cards


def _card(library: ModuleType, handle: object, index: int, driver: str) -> GpuCard:
    def of(call: str, *arguments: object) -> Any:
        return _optional(library, getattr(library, call), handle, *arguments)

    memory, place = of("nvmlDeviceGetMemoryInfo"), of("nvmlDeviceGetPciInfo")
    limits = of("nvmlDeviceGetPowerManagementLimitConstraints") or (0, 0)
    version = of("nvmlDeviceGetCudaComputeCapability")
    return GpuCard(
        index,
        _text(of("nvmlDeviceGetUUID")),
        address=_text(getattr(place, "busId", None)),
        manufacturer="NVIDIA",
        model=_text(of("nvmlDeviceGetName")),
        architecture=f"compute capability {version[0]}.{version[1]}" if version else "",
        driver=driver,
        firmware=_text(of("nvmlDeviceGetVbiosVersion")),
        memory_kib=memory.total // 1024 if memory else 0,
        power_limit_w=(of("nvmlDeviceGetEnforcedPowerLimit") or 0) // 1000,
        min_power_limit_w=limits[0] // 1000,
        max_power_limit_w=limits[1] // 1000,
        max_compute_clock_mhz=of("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_SM) or 0,
        max_memory_clock_mhz=of("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_MEM) or 0,
    )


def _optional(library: ModuleType, call: Callable[..., object], *arguments: object) -> Any:
    """Return what NVML answers, None where it has no answer; raise only the errors that say that the GPU is broken."""
    try:
        return call(*arguments)
    except library.NVMLError as error:
        broken = {library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED, library.NVML_ERROR_IRQ_ISSUE}
        if error.value in broken:
            raise
        return None


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""

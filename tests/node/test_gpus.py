"""GPUs read through a fake NVML."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pynvml
import pytest

from sonar.node.gpus import ComputeMode, Gpu, GpuReading, GpuUse, Nvml
from sonar.node.sampler import Sampler

from tests.node.fake_proc import FakeProc

CONSTANTS = [name for name in dir(pynvml) if name.startswith(("NVML_ERROR", "NVML_COMPUTEMODE", "NVML_CLOCK_"))]


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value

    def __str__(self) -> str:
        return f"error {self.value}"


class FakeNvml(ModuleType):
    """Two GPUs of 1000 KiB. `answers` replaces what a function returns, for (name, index) or for a name."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.open = 0
        self.answers: dict[object, object] = {}
        self.asked: list[tuple[object, ...]] = []
        for name in CONSTANTS:
            setattr(self, name, getattr(pynvml, name))
        self.NVMLError = NvmlError
        self.NVML_PSTATE_UNKNOWN = pynvml.NVML_PSTATE_UNKNOWN
        self.NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> object:
        return self._answer("nvmlDeviceGetCount", 2)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        self._answer(("nvmlDeviceGetHandleByIndex", index), None)
        return index

    def __getattr__(self, name: str) -> Callable[..., object]:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)

        def ask(index: int, *arguments: object) -> object:
            self.asked.append((name, index, *arguments))
            return self._answer((name, index), self.answers.get(name, DEFAULTS[name](index)))

        return ask

    def _answer(self, key: object, default: object) -> object:
        answer = self.answers.get(key, default)
        if isinstance(answer, NvmlError):
            raise answer
        return answer


DEFAULTS: dict[str, Callable[[int], object]] = {
    "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
    "nvmlDeviceGetMemoryInfo": lambda _index: SimpleNamespace(used=512_000, total=1_024_000),
    "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=40 + index, memory=7),
    "nvmlDeviceGetPerformanceState": lambda _index: 2,
    "nvmlDeviceGetComputeMode": lambda _index: pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
    "nvmlDeviceGetFanSpeed": lambda _index: 33,
    "nvmlDeviceGetTemperature": lambda _index: 61,
    "nvmlDeviceGetPowerUsage": lambda _index: 123_999,
    "nvmlDeviceGetEnforcedPowerLimit": lambda _index: 300_000,
    "nvmlDeviceGetClockInfo": lambda _index: 1400,
    "nvmlDeviceGetComputeRunningProcesses": lambda _index: [],
    "nvmlDeviceGetGraphicsRunningProcesses": lambda _index: [],
    "nvmlDeviceGetProcessUtilization": lambda _index: NvmlError(pynvml.NVML_ERROR_NOT_FOUND),
}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    trace = tmp_path / "version"
    trace.touch()
    return trace


def holding(pid: int, kib: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=None if kib is None else kib * 1024)


def computing(pid: int, pct: int, time: int) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, smUtil=pct, timeStamp=time)


def test_every_field_of_a_gpu(library: FakeNvml, driver: Path) -> None:
    reading = Nvml([driver]).read()

    assert reading.gpus[1] == Gpu(
        index=1,
        uuid="GPU-1",
        fan_pct=33,
        compute_mode=ComputeMode.EXCLUSIVE,
        performance_state=2,
        used_kib=500,
        compute_pct=41,
        memory_pct=7,
        temperature_c=61,
        power_w=123,
        power_limit_w=300,
        compute_clock_mhz=1400,
        memory_clock_mhz=1400,
    )
    assert (len(reading.gpus), reading.uses, reading.errors, library.open) == (2, {}, [], 0)


def test_what_a_gpu_does_not_tell_is_left_out(library: FakeNvml, driver: Path) -> None:
    for name in DEFAULTS.keys() - {"nvmlDeviceGetUUID"}:
        library.answers[name] = NvmlError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    library.answers["nvmlDeviceGetUUID"] = b"GPU-x"

    reading = Nvml([driver]).read()

    assert reading == GpuReading([Gpu(0, "GPU-x"), Gpu(1, "GPU-x")], {}, [])


def test_processes_have_memory_and_use_of_each_gpu(library: FakeNvml, driver: Path) -> None:
    library.answers |= {
        ("nvmlDeviceGetComputeRunningProcesses", 0): [holding(7, 250), holding(8, None)],
        ("nvmlDeviceGetGraphicsRunningProcesses", 0): [holding(7, 250)],
        ("nvmlDeviceGetProcessUtilization", 0): [computing(7, 50, 10), computing(7, 100, 12), computing(9, 30, 11)],
        ("nvmlDeviceGetComputeRunningProcesses", 1): [holding(7, 100)],
    }

    uses = Nvml([driver]).read().uses

    assert uses == {
        7: [
            GpuUse(0, "GPU-0", compute_pct=75.0, memory_kib=250, memory_pct=25.0),
            GpuUse(1, "GPU-1", memory_kib=100, memory_pct=10.0),
        ],
        8: [GpuUse(0, "GPU-0")],
        9: [GpuUse(0, "GPU-0", compute_pct=30.0)],
    }


def test_use_is_asked_for_since_the_previous_sample(library: FakeNvml, driver: Path) -> None:
    library.answers["nvmlDeviceGetProcessUtilization", 0] = [computing(7, 50, 1234)]
    nvml = Nvml([driver])

    nvml.read()
    nvml.read()

    asked = [call[1:] for call in library.asked if call[0] == "nvmlDeviceGetProcessUtilization"]
    assert asked == [(0, 0), (1, 0), (0, 1234), (1, 0)]


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", *sorted(DEFAULTS)])
@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_broken_gpu_is_failing_and_costs_no_other(library: FakeNvml, driver: Path, function: str, error: int) -> None:
    library.answers[function, 0] = NvmlError(error)

    reading = Nvml([driver]).read()

    assert [(gpu.index, gpu.failing) for gpu in reading.gpus] == [(0, True), (1, False)]
    assert reading.gpus[1].temperature_c == 61
    assert reading.errors == [f"GPU 0: error {error}"]
    assert library.open == 0


def test_gpu_that_we_may_not_see_is_not_failing(library: FakeNvml, driver: Path) -> None:
    library.answers["nvmlDeviceGetHandleByIndex", 0] = NvmlError(pynvml.NVML_ERROR_NO_PERMISSION)

    reading = Nvml([driver]).read()

    assert [(gpu.index, gpu.failing) for gpu in reading.gpus] == [(0, False), (1, False)]
    assert len(reading.errors) == 1


def test_without_driver_nothing_is_imported(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert Nvml([driver.with_name("absent")]).read() == GpuReading()
    (error,) = Nvml([driver]).read().errors
    assert "pynvml is missing" in error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, True),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, True),
    ],
)
def test_nvml_that_does_not_start_costs_no_sample(library: FakeNvml, driver: Path, error: int, told: bool) -> None:
    library.answers["nvmlInit"] = NvmlError(error)

    reading = Nvml([driver]).read()

    assert (reading.gpus, reading.uses, bool(reading.errors)) == ((), {}, told)


def test_nvml_that_cannot_count_is_closed_again(library: FakeNvml, driver: Path) -> None:
    library.answers["nvmlDeviceGetCount"] = NvmlError(pynvml.NVML_ERROR_UNKNOWN)

    assert Nvml([driver]).read().errors == ["NVML: error 999"]
    assert library.open == 0


def test_records_have_the_gpus_of_their_process(library: FakeNvml, driver: Path, tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.add(7)
    proc.add(8, "bash")
    library.answers["nvmlDeviceGetComputeRunningProcesses", 1] = [holding(7, 250), holding(99, 500)]

    taken = Sampler(cluster="c", host="n", proc=proc.root, read_gpus=Nvml([driver]).read).sample()

    assert {record.pid: [use.index for use in record.gpus] for record in taken.records} == {7: [1], 8: [], 99: [1]}
    (unseen,) = [record for record in taken.records if record.pid == 99]
    assert (unseen.user, unseen.cmd, unseen.job, unseen.epoch) == ("_zombie_99", "_unknown_", 0, 0)
    assert len(taken.gpus) == 2

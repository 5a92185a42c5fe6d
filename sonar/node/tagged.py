"""Write a sample as tagged CSV, the older record format: lines of `name=value` fields.

A field that has its default is not written. The load of the cores and the state of the GPUs belong to the host; they
stand on the first line of the sample. A sample without records is one heartbeat line.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from sonar.node.envelope import time_text
from sonar.node.gpus import ComputeMode, Gpu
from sonar.node.records import FORMAT_VERSION, ProcessRecord, Sample

__all__ = ["CONTENT_TYPE", "base45", "error_line", "load_text", "sample_lines"]

CONTENT_TYPE = "text/csv"

# Base 45, little-endian. A number's first digit is from the one alphabet, all others are from the other one, so
# numbers need no separator; neither alphabet has a comma or a quote.
_FIRST_DIGITS = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_"
_OTHER_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"

_NEEDS_QUOTES = re.compile('[,"\r\n]')


def sample_lines(sample: Sample) -> bytes:
    """Return the lines of a sample in UTF-8."""
    host_fields = []
    if sample.system:
        host_fields = [f"load={load_text(sample.system.cpu_s)}"]
        if sample.gpus:
            host_fields.append(f"gpuinfo={_gpu_text(sample.gpus)}")
    common = [f"v={FORMAT_VERSION}", f"time={time_text(sample.time)}", f"host={sample.host}"]
    lines = [common + _process_fields(record) for record in sample.records]
    if not lines:
        lines = [[*common, "user=_sonar_", "cmd=_heartbeat_"]]
    lines[0] += host_fields
    return "".join(_csv_line(line) for line in lines).encode(errors="replace")


def error_line(detail: str, *, time: int, host: str) -> bytes:
    """Return the line that says why there is no sample. Readers skip and count it."""
    return _csv_line(
        [f"v={FORMAT_VERSION}", f"error={detail}", f"timestamp={time_text(time)}", f"host={host}"]
    ).encode()


def base45(number: int) -> str:
    """Return a number >= 0 in base 45."""
    number, first = divmod(number, 45)
    text = _FIRST_DIGITS[first]
    while number:
        number, digit = divmod(number, 45)
        text += _OTHER_DIGITS[digit]
    return text


def load_text(cpu_s: Sequence[int]) -> str:
    """Return the CPU seconds of the cores: the smallest one, then what each core has above it."""
    base = min(cpu_s, default=0)
    return base45(base) + "".join(base45(seconds - base) for seconds in cpu_s)


def _process_fields(record: ProcessRecord) -> list[str]:
    values = (
        ("user", record.user),
        ("cmd", record.cmd),
        ("job", record.job),
        ("epoch", record.epoch),
        ("pid", record.pid),
        ("ppid", record.ppid),
        ("cpu%", round(record.cpu_avg_pct, 1)),
        ("cpukib", record.virtual_kib),
        ("rssanonkib", record.resident_kib),
        ("gpus", ",".join(str(use.index) for use in record.gpus)),
        ("gpu%", round(sum(use.compute_pct for use in record.gpus), 1)),
        ("gpumem%", round(sum(use.memory_pct for use in record.gpus), 1)),
        ("gpukib", sum(use.memory_kib for use in record.gpus)),
        ("cputime_sec", record.cpu_time_s),
        ("gpufail", int(any(use.failing for use in record.gpus))),
        ("rolledup", record.rolledup),
    )
    return [f"{name}={value}" for name, value in values if value]


def _gpu_text(gpus: Sequence[Gpu]) -> str:
    """Return the state of the GPUs: CSV in itself, each field with one value for each GPU."""

    def mode(gpu: Gpu) -> str:
        return "" if gpu.compute_mode in {ComputeMode.DEFAULT, ComputeMode.UNKNOWN} else gpu.compute_mode.value

    attributes: tuple[tuple[str, Callable[[Gpu], int | str]], ...] = (
        ("fan%", lambda gpu: gpu.fan_pct),
        ("mode", mode),
        ("perf", lambda gpu: "" if gpu.performance_state is None else f"P{gpu.performance_state}"),
        ("musekib", lambda gpu: gpu.used_kib),
        ("cutil%", lambda gpu: gpu.compute_pct),
        ("mutil%", lambda gpu: gpu.memory_pct),
        ("tempc", lambda gpu: gpu.temperature_c),
        ("poww", lambda gpu: gpu.power_w),
        ("powlimw", lambda gpu: gpu.power_limit_w),
        ("cez", lambda gpu: gpu.compute_clock_mhz),
        ("memz", lambda gpu: gpu.memory_clock_mhz),
    )
    fields = []
    for name, value_of in attributes:
        values = [str(value_of(gpu) or "") for gpu in gpus]
        if any(values):
            fields.append(f"{name}={'|'.join(values)}")
    return ",".join(fields)


def _csv_line(fields: Iterable[str]) -> str:
    """Return a CSV record; a field that CSV would misread is quoted as a whole."""
    return ",".join(_quoted(field) if _NEEDS_QUOTES.search(field) else field for field in fields) + "\n"


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"'

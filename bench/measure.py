"""Measure whole processes: wall time, CPU time and peak memory, as the median of several runs."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Cost", "measure", "table"]

RUNS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command cost: medians over the runs; `spread` is (max - min) / median of the CPU time."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    spread: float


def measure(
    argv: Sequence[str | os.PathLike[str]], *, runs: int = RUNS, before: Callable[[], None] = lambda: None
) -> Cost:
    """Run the command several times, its output thrown away, and return what it cost; it must exit with 0.

    `before` is called before each run, and does not count.
    """
    wall, cpu, peak = [], [], []
    for _ in range(runs):
        before()
        began = time.perf_counter()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{argv}: exit status {process.returncode}")
        wall.append(time.perf_counter() - began)
        cpu.append(usage.ru_utime + usage.ru_stime)
        peak.append(usage.ru_maxrss / 1024)
    middle = statistics.median(cpu)
    return Cost(statistics.median(wall), middle, statistics.median(peak), (max(cpu) - min(cpu)) / middle)


def table(title: str, rows: Sequence[tuple[str, Cost]]) -> str:
    """Return the costs as a Markdown table for HACKING.md."""
    lines = [f"### {title}", "", "| command | wall s | CPU s | peak MB | spread |", "|---|---|---|---|---|"]
    for name, cost in rows:
        lines.append(f"| {name} | {cost.wall_s:.3f} | {cost.cpu_s:.3f} | {cost.peak_mb:.0f} | {cost.spread:.0%} |")
    return "\n".join(lines) + "\n"

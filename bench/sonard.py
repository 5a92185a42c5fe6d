"""Measure what one sample costs: run sonard beside many sleeping processes and read its CPU time and memory.

    python bench/sonard.py [--processes 450] [--samples 6]

Prints one line and stops by itself after as many seconds as there are samples. Start-up and the first sample, which
fills the caches, are not counted.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET_MS = 600.0
"""One percent of a core at one sample a minute."""


def main() -> int:
    """Return 0 if a sample costs less than the budget."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of one sample of sonard.")
    parser.add_argument("--processes", type=int, default=450, choices=range(1, 5001), metavar="N")
    parser.add_argument("--samples", type=int, default=6, choices=range(2, 61), metavar="N")
    options = parser.parse_args()
    sleepers = [
        subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(options.processes)
    ]
    try:
        cost_ms, resident_kib, processes = measure(options.samples)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()
    print(f"{cost_ms:.1f} ms of CPU time a sample of {processes} processes, {resident_kib / 1024:.1f} MiB resident")
    return 0 if cost_ms < BUDGET_MS else 1


def measure(samples: int) -> tuple[float, int, int]:
    """Return the milliseconds of CPU time a sample, the KiB resident at the end, and the processes in a sample."""
    command = [sys.executable, str(ROOT / "libexec/sonard"), "--cluster", "bench", "--interval", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as sonard:
        assert sonard.stdout is not None
        sonard.stdout.readline()
        before_ns = cpu_ns(sonard.pid)
        for _ in range(samples - 1):
            line = sonard.stdout.readline()
        after_ns = cpu_ns(sonard.pid)
        resident_kib = next(
            int(line.split()[1])
            for line in Path(f"/proc/{sonard.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS:")
        )
        sonard.terminate()
    return (after_ns - before_ns) / 1e6 / (samples - 1), resident_kib, line.count(b'"cmd":')


def cpu_ns(pid: int) -> int:
    """Return the CPU time that a process has used, in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


if __name__ == "__main__":
    sys.exit(main())

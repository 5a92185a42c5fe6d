"""Questions to a synthetic cluster by the resident server: the first after its start, new ones, and the same again.

    BENCH=medium python bench/served.py

The data are those of bench/questions.py, with their columns. sonalyze asks over the server's socket, as a whole
process; the server's CPU time is that of all its processes. Prints a table.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from synthetic import FIRST_DAY, with_columns

from measure import measure

HERE = Path(__file__).resolve().parent
LIBEXEC = HERE.parent / "libexec"
NAMES = range(8, 28)  # of users that nobody has asked about


@dataclass(frozen=True)
class Server:
    """A running sonalyzed, and what a command needs to find it."""

    pid: int
    environment: dict[str, str]

    def cpu_s(self) -> float:
        """Return the CPU time of all its processes so far, also of those that have ended."""
        ticks = 0
        for pid in (self.pid, *_children(self.pid)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Ask, print."""
    root, hosts, days = with_columns(os.environ.get("BENCH") or "small")
    all_days, seven = _window(root, days), _window(root, min(days, 7))
    jobs = ["jobs", "-u", "user007", *all_days]
    load, uptime = ["load", "--hourly", *seven], ["uptime", "--interval", "5", *seven]
    small = ["jobs", "-u-", "--host", "c1-1", *_window(root, 1)]
    print(f"### Questions to {hosts} hosts, {days} days, by the server\n")
    print("| question | ms | most ms | CPU ms, command | CPU ms, server |\n|---|---|---|---|---|")
    with _running(root.parent) as server:
        _ask(server, f"`jobs -u user007`, {days} days, the first after the start", [jobs])
        for _ in range(3):  # what is read of the days is kept a moment later
            _cost(server, ["jobs", "-u", "nobody", *all_days])
            time.sleep(1)
        _ask(
            server, f"`jobs -u NAME`, {days} days, new names", [["jobs", "-u", f"user{n:03}", *all_days] for n in NAMES]
        )
        _ask(server, "the same again", [jobs] * 20)
        for title, argv in (("`load --hourly`, 7 days", load), ("`uptime --interval 5`, 7 days", uptime)):
            _ask(server, title, [argv])
            _ask(server, "the same again", [argv] * 20)
        _ask(server, "`jobs -u-`, one host and day", [small])
        _ask(server, "the same again", [small] * 20)
    for module in ("argparse", "pyarrow.parquet"):
        cost = measure([sys.executable, "-c", f"import {module}"], runs=20)
        print(f"| `python -c 'import {module}'` | {1e3 * cost.wall_s:.0f} | | {1e3 * cost.cpu_s:.0f} | |")
    print()


def _ask(server: Server, title: str, questions: Sequence[Sequence[str | Path]]) -> None:
    """Ask, and print a row: medians over the questions."""
    costs = [_cost(server, argv) for argv in questions]
    wall, command, served = zip(*costs, strict=True)
    print(
        f"| {title} | {median(wall):.0f} | {max(wall):.0f} | {median(command):.0f} | {sum(served) / len(costs):.0f} |"
    )


def _cost(server: Server, argv: Sequence[str | Path]) -> tuple[float, float, float]:
    """Return milliseconds: of the clock, of CPU of the command, and of the server."""
    before = server.cpu_s()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, LIBEXEC / "sonalyze", *argv], env=server.environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = status
    if status:
        raise SystemExit(f"{argv}: exit status {status}")
    return 1e3 * wall, 1e3 * (usage.ru_utime + usage.ru_stime), 1e3 * (server.cpu_s() - before)


@contextmanager
def _running(clusters: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        settings, ports = root / "sonar.conf", root / "ports"
        settings.write_text(f"[Analysis]\nSocket={root}/commands\n")
        environment = os.environ | {"SONAR_CONFIG": str(settings), "HOME": scratch}
        process = subprocess.Popen(
            [sys.executable, LIBEXEC / "sonalyzed", "--data", clusters, "--allow-anonymous", "--listen", "127.0.0.1:0",
             "--port-file", ports, "--command-socket", root / "commands"],
            env=environment,
        )  # fmt: skip
        try:
            while not ports.exists():
                time.sleep(0.05)
            yield Server(process.pid, environment)
        finally:
            process.terminate()
            process.wait(60)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _window(root: Path, days: int) -> list[str | Path]:
    last = FIRST_DAY + timedelta(days=days - 1)
    return ["--data-path", root, "--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}"]


if __name__ == "__main__":
    main()

"""A fake /proc for tests of the sampler: directories and files with what the kernel would say."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BOOT = 1_700_000_000
UPTIME_S = 10_000.0
EPOCH = BOOT - 1577836800


class FakeProc:
    """Writes the files of a host that was booted at BOOT, UPTIME_S ago, with two cores and no process yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "self").mkdir()
        (root / "stat").write_text(
            "cpu  0 0 0 0 0 0 0 0 0 0\n"
            f"cpu0 {100 * TICKS} {TICKS} {10 * TICKS} 999999 5 {2 * TICKS} {3 * TICKS} 7 8 9\n"
            f"cpu1 {50 * TICKS} 0 0 999999 0 0 0 0 0 0\n"
            f"intr 1 2 3\nctxt 4\nbtime {BOOT}\nprocesses 5\n"
        )
        (root / "meminfo").write_text("MemTotal: 1000000 kB\nMemFree: 100 kB\nMemAvailable: 400000 kB\n")
        (root / "loadavg").write_text("0.50 1.25 2.00 3/456 789\n")
        (root / "diskstats").write_text("   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8       1 sda1 9 8 7 6\n")
        self.set_uptime(UPTIME_S)

    def set_uptime(self, seconds: float) -> None:
        (self.root / "uptime").write_text(f"{seconds:.2f} 1.00\n")

    def add(
        self,
        pid: int,
        cmd: str = "python",
        *,
        ppid: int = 1,
        pgrp: int | None = None,
        uid: int = 4242,
        state: str = "S",
        flags: int = 0x400000,
        user_s: float = 0,
        system_s: float = 0,
        children_s: float = 0,
        threads: int = 1,
        age_s: float = 1000,
        memory: bool = True,
        cgroup: str | None = "0::/user.slice\n",
        io: tuple[int, int, int] | None = (4096, 1, 0),
        pid_namespaces: int = 1,
    ) -> Path:
        """Add or replace a process; its directory is returned."""
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True)
        start = int((UPTIME_S - age_s) * TICKS)
        ticks = [int(s * TICKS) for s in (user_s, system_s, children_s, 0)]
        (directory / "stat").write_text(
            f"{pid} ({cmd}) {state} {ppid} {pid if pgrp is None else pgrp} {pid} 0 -1 {flags} 0 0 0 0 "
            f"{ticks[0]} {ticks[1]} {ticks[2]} {ticks[3]} 20 0 {threads} 0 {start} 1 2 3\n"
        )
        lines = [f"Name:\t{cmd}", "Umask:\t0022", f"Pid:\t{pid}", f"Uid:\t{uid}\t0\t0\t0", "Groups:\t4 20"]
        lines.append("NSpid:\t" + "\t".join(str(pid - level) for level in range(pid_namespaces)))
        if memory:
            lines += ["RssAnon:\t    5000 kB", "RssFile:\t     900 kB", "VmData:\t    7000 kB", "VmStk:\t     132 kB"]
        (directory / "status").write_text("\n".join([*lines, f"Threads:\t{threads}"]) + "\n")
        if cgroup is not None:
            (directory / "cgroup").write_text(cgroup)
        if io is not None:
            read, written, cancelled = io
            (directory / "io").write_text(
                f"rchar: 99\nwchar: 99\nsyscr: 1\nsyscw: 1\nread_bytes: {read}\nwrite_bytes: {written}\n"
                f"cancelled_write_bytes: {cancelled}\n"
            )
        return directory

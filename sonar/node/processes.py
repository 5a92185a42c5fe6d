"""Read what one sample needs of every process from /proc, in few system calls.

A process costs one `openat` for its directory and three calls for each of the files `stat`, `status`, `cgroup` and
`io`. The files are opened relative to the directory, so they all belong to the same process: where it ends while it is
read, opening or reading fails, also if its pid has been given to another one. Such a process is left out. Processes
that the selection leaves out are read no further than is needed to know that.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sonar.node.cgroups import names_container, slurm_job

__all__ = ["CLOCK_TICKS", "FIRST_USER_UID", "Process", "ProcessTable", "Selection", "read_processes"]

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
"""Clock ticks in a second: the unit of CPU and start times in /proc/PID/stat."""

FIRST_USER_UID = 1000
"""Accounts below this number belong to the system (UID_MIN of login.defs(5))."""

_PF_KTHREAD = 0x00200000
_LARGEST_FILE = 1 << 16
# Control characters would break the lines of the log; a process may put any byte but NUL into its name.
_PRINTABLE = dict.fromkeys((*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029), "?")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which processes become records. A process is left out where one of the rules says so."""

    exclude_system: bool = False
    exclude_users: frozenset[str] = frozenset()
    exclude_commands: tuple[str, ...] = ()
    """Beginnings of commands."""
    min_cpu_s: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc shows it at one moment."""

    pid: int
    ppid: int
    pgrp: int
    start_ticks: int
    """Since boot. Together with the pid it names the process for as long as the host is up."""
    uid: int
    cmd: str
    own_ticks: int
    """CPU time of the process itself."""
    total_ticks: int
    """CPU time with that of dead children it has waited for."""
    threads: int
    virtual_kib: int
    """Data and stack."""
    resident_kib: int
    """Private resident memory; 0 where it has none (zombies) or the kernel does not tell."""
    io_kib: tuple[int, int, int] | None
    """Read, written, cancelled; None where we may not know."""
    slurm_job: int | None
    in_container: bool


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """All processes of the host but the kernel's threads."""

    processes: list[Process]
    """Those that the selection lets through, by pid."""
    pids: frozenset[int]
    """All of them."""
    parents: frozenset[int]
    """Those that have children."""
    is_partial: bool = False
    """Whether there are processes that we may not look at."""


def read_processes(proc: Path, selection: Selection, user_of: Callable[[int], str]) -> ProcessTable:
    """Return the processes below `proc`; raise OSError if that directory itself cannot be read."""
    processes: list[Process] = []
    pids: list[int] = []
    parents: list[int] = []
    is_partial = False
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
        try:
            directory = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            is_partial = is_partial or isinstance(error, PermissionError)
            continue
        try:
            stat = _Stat.parse(_contents("stat", directory))
            if stat.is_kernel_thread or stat.state in b"Xx":
                continue
            process = _rest_of(pid, stat, directory, selection, user_of)
        except (OSError, ValueError, IndexError) as error:
            is_partial = is_partial or isinstance(error, PermissionError)
            continue
        finally:
            os.close(directory)
        pids.append(pid)
        parents.append(stat.ppid)
        if process:
            processes.append(process)
    return ProcessTable(processes, frozenset(pids), frozenset(parents), is_partial)


@dataclass(slots=True)
class _Stat:
    """The fields of /proc/PID/stat that we use: proc_pid_stat(5)."""

    cmd: str
    state: bytes
    ppid: int
    pgrp: int
    is_kernel_thread: bool
    own_ticks: int
    total_ticks: int
    threads: int
    start_ticks: int

    @classmethod
    def parse(cls, text: bytes) -> "_Stat":
        # The command stands in parentheses and may itself contain blanks and parentheses.
        begin, end = text.index(b"("), text.rindex(b")")
        fields = text[end + 2 :].split()
        own = int(fields[11]) + int(fields[12])
        return cls(
            cmd=text[begin + 1 : end].decode(errors="replace").translate(_PRINTABLE) or "_noinfo_",
            state=fields[0],
            ppid=int(fields[1]),
            pgrp=max(int(fields[2]), 0),
            is_kernel_thread=bool(int(fields[6]) & _PF_KTHREAD),
            own_ticks=own,
            total_ticks=own + int(fields[13]) + int(fields[14]),
            threads=int(fields[17]),
            start_ticks=int(fields[19]),
        )


def _rest_of(
    pid: int, stat: _Stat, directory: int, selection: Selection, user_of: Callable[[int], str]
) -> Process | None:
    """Return the process, None if the selection leaves it out."""
    if stat.total_ticks < selection.min_cpu_s * CLOCK_TICKS or stat.cmd.startswith(selection.exclude_commands):
        return None
    status = _contents("status", directory)
    uid = int(_line(status, b"\nUid:").split()[0])
    if selection.exclude_system and uid < FIRST_USER_UID:
        return None
    if selection.exclude_users and user_of(uid) in selection.exclude_users:
        return None
    try:
        cgroup = _contents("cgroup", directory)
    except FileNotFoundError:  # a kernel without control groups
        cgroup = b""
    return Process(
        pid=pid,
        ppid=stat.ppid,
        pgrp=stat.pgrp,
        start_ticks=stat.start_ticks,
        uid=uid,
        cmd=f"{stat.cmd} <defunct>" if stat.state == b"Z" else stat.cmd,
        own_ticks=stat.own_ticks,
        total_ticks=stat.total_ticks,
        threads=stat.threads,
        virtual_kib=_kib(status, b"\nVmData:") + _kib(status, b"\nVmStk:"),
        resident_kib=_kib(status, b"\nRssAnon:"),
        io_kib=_io_kib(directory),
        slurm_job=slurm_job(cgroup),
        # More than one number: the process is in a pid namespace below ours.
        in_container=len(_line(status, b"\nNSpid:").split()) > 1 or names_container(cgroup),
    )


def _io_kib(directory: int) -> tuple[int, int, int] | None:
    """Return KiB read, written and cancelled, rounded up; None where the kernel does not let us know."""
    try:
        text = b"\n" + _contents("io", directory)
    except (PermissionError, FileNotFoundError):
        return None
    read, written, cancelled = (
        (int(_line(text, key)) + 1023) // 1024
        for key in (b"\nread_bytes:", b"\nwrite_bytes:", b"\ncancelled_write_bytes:")
    )
    return read, written, cancelled


def _contents(name: str, directory: int) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, _LARGEST_FILE)
    finally:
        os.close(file)


def _line(text: bytes, key: bytes) -> bytes:
    """Return what follows `key` (`\\nName:`) on its line; nothing if the key is not there."""
    begin = text.find(key)
    if begin < 0:
        return b""
    begin += len(key)
    end = text.find(b"\n", begin)
    return text[begin:end] if end >= 0 else text[begin:]


def _kib(status: bytes, key: bytes) -> int:
    """Return the number of a line `Name:   123 kB`; 0 if the line is not there."""
    value = _line(status, key)
    return int(value[:-3]) if value else 0

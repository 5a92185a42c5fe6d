"""Take samples: read the processes, the host and its GPUs at one moment, and say of each process whose job it is.

A sample is the same for every output format; `sonar.node.envelope` and `sonar.node.tagged` write it down.
"""

import pwd
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sonar.errors import SonarError
from sonar.node.gpus import GpuReading, GpuUse
from sonar.node.processes import CLOCK_TICKS, Process, Selection, read_processes
from sonar.node.records import ProcessRecord, Sample
from sonar.node.rollup import rolled_up
from sonar.node.system import boot_time, read_system, uptime_s

__all__ = ["EPOCH_START", "Sampler", "SamplingError"]

EPOCH_START = 1577836800
"""2020-01-01T00:00:00Z. Epochs, which tell apart equal job numbers of different boots, count from here."""


_PARTIAL = "may not look at processes of other users (hidepid of proc(5))"


class SamplingError(SonarError):
    """The host could not be sampled."""


class Sampler:
    """Samples one host, again and again; remembers the CPU time of each process from one sample to the next."""

    def __init__(
        self,
        *,
        cluster: str,
        host: str,
        selection: Selection = Selection(),  # noqa: B008 -- it is frozen
        batchless: bool = False,
        rollup: bool = False,
        load: bool = True,
        read_gpus: Callable[[], GpuReading] = GpuReading,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.host = host
        self._selection = selection
        self._batchless = batchless
        self._rollup = rollup
        self._load = load
        self._read_gpus = read_gpus
        self._proc = proc
        self._clock = clock
        self._users = _Users()
        self._epoch: int | None = None
        self._uptime_s: float | None = None
        self._own_ticks: dict[tuple[int, int], int] = {}

    def sample(self) -> Sample:
        """Return the host as it is now. Raise SamplingError where that cannot be found out at all."""
        try:
            return self._sample()
        except (OSError, ValueError, LookupError) as error:
            raise SamplingError(f"cannot sample {self._proc}: {error!r}") from error

    def _sample(self) -> Sample:
        now = int(self._clock())
        uptime = uptime_s(self._proc)
        if self._epoch is None:
            # The kernel's boot time moves when the clock is set; the epoch must not, or running jobs would fall apart.
            # Zero would stand for a job number of a batch system.
            self._epoch = max(boot_time(self._proc) - EPOCH_START, 1)
        self._users.forget_unknown()
        reading = self._read_gpus()
        table = read_processes(self._proc, self._selection, self._users.name)
        elapsed_s = None if self._uptime_s is None else uptime - self._uptime_s
        records = [
            self._record(process, uptime, elapsed_s, reading.uses.get(process.pid, ())) for process in table.processes
        ]
        self._uptime_s = uptime
        self._own_ticks = {(process.pid, process.start_ticks): process.own_ticks for process in table.processes}
        if self._rollup:
            records = rolled_up(records, table.parents)
        records += _unseen(reading.uses, table.pids)
        return Sample(
            time=now,
            cluster=self.cluster,
            host=self.host,
            records=tuple(sorted(records, key=lambda record: (record.job, record.user, record.pid))),
            system=read_system(self._proc) if self._load else None,
            gpus=tuple(reading.gpus) if self._load else (),
            errors=(*reading.errors, *([_PARTIAL] if table.is_partial else [])),
        )

    def _record(
        self, process: Process, uptime: float, elapsed_s: float | None, gpus: Sequence[GpuUse]
    ) -> ProcessRecord:
        in_batch = process.slurm_job is not None and not self._batchless
        age_s = max(uptime - process.start_ticks / CLOCK_TICKS, 1 / CLOCK_TICKS)
        average_pct = 100 * process.own_ticks / CLOCK_TICKS / age_s
        current_pct = 0.0
        before = self._own_ticks.get((process.pid, process.start_ticks))
        if before is not None and elapsed_s:
            current_pct = 100 * (process.own_ticks - before) / CLOCK_TICKS / elapsed_s
        elif elapsed_s is not None and age_s <= elapsed_s:
            current_pct = average_pct  # it began after the previous sample
        job = process.slurm_job if in_batch else process.pgrp
        return ProcessRecord(
            user=self._users.name(process.uid),
            job=job or 0,
            epoch=0 if in_batch else self._epoch or 0,
            pid=process.pid,
            ppid=process.ppid,
            cmd=process.cmd,
            cpu_avg_pct=average_pct,
            cpu_util_pct=max(current_pct, 0.0),
            cpu_time_s=(process.total_ticks + CLOCK_TICKS // 2) // CLOCK_TICKS,
            virtual_kib=process.virtual_kib,
            resident_kib=process.resident_kib,
            threads=process.threads,
            io_kib=process.io_kib,
            in_container=process.in_container,
            gpus=tuple(gpus),
        )


def _unseen(uses: Mapping[int, Sequence[GpuUse]], pids: frozenset[int]) -> list[ProcessRecord]:
    """Return records of what uses GPUs but is no process that we can see: gone, or in another pid namespace."""
    return [
        ProcessRecord(user=f"_zombie_{pid}", job=0, epoch=0, pid=pid, ppid=0, cmd="_unknown_", gpus=tuple(of_pid))
        for pid, of_pid in uses.items()
        if pid not in pids
    ]


class _Users:
    """Names of accounts. Asking may go over the network, so names are kept; that there is none, for one sample only."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._unknown: dict[int, str] = {}

    def name(self, uid: int) -> str:
        """Return the name of an account, `_user_<uid>` for an unknown one."""
        name = self._known.get(uid) or self._unknown.get(uid)
        if name is None:
            try:
                name = self._known[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                name = self._unknown[uid] = f"_user_{uid}"
        return name

    def forget_unknown(self) -> None:
        """Ask again from now on for accounts that were not there."""
        self._unknown.clear()

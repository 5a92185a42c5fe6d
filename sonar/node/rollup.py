"""Join equal processes: the leaf processes of one parent that belong to one job and run one command.

A job with a thousand equal workers then is one record. The group has a pid of its own, outside of the range of real
pids and computed from what makes the group, so it is the same in each sample and after a restart of the sampler.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sonar.node.gpus import GpuUse
from sonar.node.records import ProcessRecord

__all__ = ["FIRST_GROUP_PID", "rolled_up"]

FIRST_GROUP_PID = 1 << 22
"""The kernel gives no pid from here on (PID_MAX_LIMIT of 64-bit systems)."""


def rolled_up(records: Iterable[ProcessRecord], parents: frozenset[int]) -> list[ProcessRecord]:
    """Return `records` with the members of each group replaced by one record. `parents`: pids that have children.

    A process without equals, with children or without a job stays as it is.
    """
    kept: list[ProcessRecord] = []
    groups: dict[tuple[str, int, int, int, str, bool], list[ProcessRecord]] = defaultdict(list)
    for record in records:
        if record.pid in parents or record.job == 0:
            kept.append(record)
        else:
            key = (record.user, record.job, record.epoch, record.ppid, record.cmd, record.in_container)
            groups[key].append(record)
    taken: set[int] = set()
    for key, members in sorted(groups.items()):
        if len(members) == 1:
            kept.append(members[0])
            continue
        pid = FIRST_GROUP_PID + zlib.crc32(repr(key).encode())
        while pid in taken:
            pid += 1
        taken.add(pid)
        kept.append(_sum(members, pid))
    return kept


def _sum(members: Sequence[ProcessRecord], pid: int) -> ProcessRecord:
    first = members[0]
    io = [member.io_kib for member in members if member.io_kib is not None]
    return ProcessRecord(
        user=first.user,
        job=first.job,
        epoch=first.epoch,
        pid=pid,
        ppid=first.ppid,
        cmd=first.cmd,
        cpu_avg_pct=sum(member.cpu_avg_pct for member in members),
        cpu_util_pct=sum(member.cpu_util_pct for member in members),
        cpu_time_s=sum(member.cpu_time_s for member in members),
        virtual_kib=sum(member.virtual_kib for member in members),
        resident_kib=sum(member.resident_kib for member in members),
        threads=sum(member.threads for member in members),
        io_kib=(sum(kib[0] for kib in io), sum(kib[1] for kib in io), sum(kib[2] for kib in io)) if io else None,
        rolledup=len(members) - 1,
        in_container=first.in_container,
        gpus=_sum_of_uses(use for member in members for use in member.gpus),
    )


def _sum_of_uses(uses: Iterable[GpuUse]) -> tuple[GpuUse, ...]:
    by_gpu: dict[tuple[int, str], list[GpuUse]] = defaultdict(list)
    for use in uses:
        by_gpu[use.index, use.uuid].append(use)
    return tuple(
        GpuUse(
            index,
            uuid,
            failing=any(use.failing for use in same),
            compute_pct=sum(use.compute_pct for use in same),
            memory_kib=sum(use.memory_kib for use in same),
            memory_pct=sum(use.memory_pct for use in same),
        )
        for (index, uuid), same in sorted(by_gpu.items())
    )

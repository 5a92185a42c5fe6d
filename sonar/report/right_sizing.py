"""The report right-sizing: what jobs of the batch system reserved and what they used, by user, account or partition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sonar.errors import UsageError
from sonar.report.audience import Audience, Personal
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import share, usages
from sonar.times import HOUR
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from sonar.report.slurm import SlurmJob
    from sonar.report.survey import Survey

__all__ = ["TABLE"]

_KINDS = ("user", "account", "partition")


@dataclass(slots=True)
class _Sum:
    jobs: int = 0
    reserved_cores: float = 0.0
    used_cores: float = 0.0
    reserved_gb: float = 0.0
    used_gb: float = 0.0
    reserved_cards: float = 0.0
    used_cards: float = 0.0


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return the sums over jobs that ran, the largest waste of cores first. Without accounting there are no rows."""
    from sonar.report.slurm import slurm_jobs

    by = given["by"]
    if by not in _KINDS:
        raise UsageError(f"Invalid value for --by: {by!r} is none of {', '.join(_KINDS)}")
    sampled = {job.job: job for job in usages(survey)}
    sums: dict[str, _Sum] = {}
    for job in slurm_jobs(survey).values():
        if not job.elapsed_s:
            continue
        _add(sums.setdefault(getattr(job, by) or "none", _Sum()), job, sampled.get(job.id))
    rows: list[Row] = [
        {
            "name": name,
            "jobs": one.jobs,
            "reserved-core-hours": round(one.reserved_cores, 1),
            "used-core-hours": round(one.used_cores, 1),
            "cpu-efficiency": share(one.used_cores, one.reserved_cores) if one.reserved_cores else None,
            "reserved-gb-hours": round(one.reserved_gb, 1),
            "used-gb-hours": round(one.used_gb, 1),
            "mem-efficiency": share(one.used_gb, one.reserved_gb) if one.reserved_gb else None,
            "reserved-card-hours": round(one.reserved_cards, 1),
            "used-card-hours": round(one.used_cards, 1),
            "gpu-efficiency": share(one.used_cards, one.reserved_cards) if one.reserved_cards else None,
        }
        for name, one in sums.items()
    ]
    rows.sort(key=lambda row: (row["used-core-hours"] - row["reserved-core-hours"], row["name"]))
    return Table(rows, {"by": by})


def _add(total: _Sum, job: "SlurmJob", sampled: object) -> None:
    from sonar.report.usage import Usage

    hours = (job.elapsed_s or 0) / HOUR
    total.jobs += 1
    total.reserved_cores += (job.cores or 0) * hours
    total.reserved_gb += (job.mem_gb or 0) * hours
    total.reserved_cards += (job.cards or 0) * hours
    if isinstance(sampled, Usage):
        total.used_cards += min(sampled.gpu_hours, (job.cards or 0) * hours)
    if job.cpu_s:
        total.used_cores += job.cpu_s / HOUR
    elif isinstance(sampled, Usage):
        total.used_cores += sampled.core_hours
    if job.max_rss_gb:
        total.used_gb += job.max_rss_gb * hours
    elif isinstance(sampled, Usage):
        total.used_gb += sampled.gb_hours


TABLE = TableReport(
    name="right-sizing",
    title="Reserved and used",
    summary="Compare what jobs of the batch system reserved with what they used",
    columns=(
        Column("name", "text", "user, account or partition", personal=Personal.WHO),
        Column("jobs", "count", "jobs that ran"),
        Column("reserved-core-hours", "number", "hours of cores reserved", "h"),
        Column("used-core-hours", "number", "hours of cores used", "h"),
        Column("cpu-efficiency", "number", "share of the reserved", "%"),
        Column("reserved-gb-hours", "number", "hours of a GB of memory reserved", "h"),
        Column("used-gb-hours", "number", "hours of a GB, at the peak of each job", "h"),
        Column("mem-efficiency", "number", "share of the reserved", "%"),
        Column("reserved-card-hours", "number", "hours of GPUs reserved", "h"),
        Column("used-card-hours", "number", "hours of fully used GPUs", "h"),
        Column("gpu-efficiency", "number", "share of the reserved", "%"),
    ),
    make=make,
    audience=Audience.LOGIN,
    options=(Option("by", f"one of {', '.join(_KINDS)}", default="user", metavar="KIND"),),
    window="7d",
)

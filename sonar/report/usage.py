"""What each job used, in the units that sums are made of: core, GPU and memory hours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sonar.gpusets import UNKNOWN
from sonar.times import HOUR

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["Usage", "Used", "share", "usages", "used_by"]


class Usage(NamedTuple):
    """One job: hours of cores used, of GPUs held and used, of resident memory in GB; start and end are instants."""

    job: int
    user: str
    commands: tuple[str, ...]
    hosts: tuple[str, ...]
    start: int
    end: int
    core_hours: float
    card_hours: float  # cards held, where it is known which
    gpu_hours: float  # of a fully used card
    gb_hours: float
    used_gpu: bool

    @property
    def duration(self) -> int:
        """Return the seconds from its first sample to its last."""
        return self.end - self.start


@dataclass(slots=True)
class Used:
    """The sum over some jobs."""

    jobs: int = 0
    core_hours: float = 0.0
    card_hours: float = 0.0
    gpu_hours: float = 0.0
    gb_hours: float = 0.0

    def add(self, one: Usage) -> None:
        """Add a job."""
        self.jobs += 1
        self.core_hours += one.core_hours
        self.card_hours += one.card_hours
        self.gpu_hours += one.gpu_hours
        self.gb_hours += one.gb_hours

    def by(self, kind: str) -> float:
        """Return one of the sums: cpu, gpu or memory."""
        return {"cpu": self.core_hours, "gpu": max(self.card_hours, self.gpu_hours), "memory": self.gb_hours}[kind]


def usages(survey: "Survey") -> list[Usage]:
    """Return all jobs of the window, in the order of the verb jobs."""
    return survey.once("usages", lambda: _usages(survey))


def _usages(survey: "Survey") -> list[Usage]:
    names = ("job", "user", "cmd", "host", "start", "end", "cpu_avg", "gpu_avg", "res_avg", "gpus")
    jobs = survey.jobs()
    columns: list[list[Any]] = [jobs.column(name).to_pylist() for name in names]
    found = []
    for job, user, cmd, hosts, start, end, cpu, gpu, memory, mask in zip(*columns, strict=True):
        hours = (end - start) / HOUR
        cards = 0 if mask == UNKNOWN else int(mask).bit_count() * len(hosts)
        found.append(
            Usage(
                job, user, tuple(cmd.split(",")), tuple(hosts), start, end,
                cpu / 100 * hours, cards * hours, gpu / 100 * hours, memory * hours, mask != 0,
            )
        )  # fmt: skip
    return found


def used_by(jobs: Iterable[Usage], keys: Callable[[Usage], Iterable[str]]) -> dict[str, Used]:
    """Return the sums by key; a job counts for each of its keys."""
    sums: dict[str, Used] = {}
    for job in jobs:
        for key in keys(job):
            sums.setdefault(key, Used()).add(job)
    return sums


def share(part: float, whole: float) -> float:
    """Return a share in percent, to a tenth; of nothing it is 0."""
    return round(part / whole * 100, 1) if whole else 0.0

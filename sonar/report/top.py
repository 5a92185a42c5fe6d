"""The reports top-users, top-accounts and top-commands: who and what used most, with shares."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from sonar.errors import UsageError
from sonar.report.audience import Audience, Personal
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import Usage, Used, share, usages, used_by
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["ACCOUNTS", "COMMANDS", "USERS"]

_KINDS = ("cpu", "gpu", "memory")


def _users(_survey: "Survey") -> Callable[[Usage], Iterable[str]]:
    return lambda job: [job.user]


def _commands(_survey: "Survey") -> Callable[[Usage], Iterable[str]]:
    # A job of several commands is counted once, under all of them.
    return lambda job: [",".join(job.commands)]


def _accounts(survey: "Survey") -> Callable[[Usage], Iterable[str]]:
    from sonar.report.slurm import slurm_jobs

    slurm = slurm_jobs(survey)
    return lambda job: [slurm[job.job].account or "none" if job.job in slurm else "none"]


def make(
    keys: "Callable[[Survey], Callable[[Usage], Iterable[str]]]",
    name: str,
    survey: "Survey",
    given: Mapping[str, str],
) -> Table:
    """Return who used most, with shares of the sum over all jobs."""
    by, limit = given["by"], given["limit"]
    if by not in _KINDS:
        raise UsageError(f"Invalid value for --by: {by!r} is none of {', '.join(_KINDS)}")
    if not limit.isdigit():
        raise UsageError(f"Invalid value for --limit: {limit!r} is no whole number")
    jobs = usages(survey)
    total = Used()
    for job in jobs:
        total.add(job)
    sums = used_by(jobs, keys(survey))
    ordered = sorted(sums, key=lambda key: (-sums[key].by(by), key))[: int(limit)]
    rows: list[Row] = [
        {
            name: key,
            "jobs": sums[key].jobs,
            "core-hours": round(sums[key].core_hours, 1),
            "cpu-share": share(sums[key].core_hours, total.core_hours),
            "card-hours": round(sums[key].card_hours, 1),
            "card-share": share(sums[key].card_hours, total.card_hours),
            "gpu-hours": round(sums[key].gpu_hours, 1),
            "gb-hours": round(sums[key].gb_hours, 1),
            "memory-share": share(sums[key].gb_hours, total.gb_hours),
        }
        for key in ordered
        if sums[key].by(by) > 0 or by == "cpu"
    ]
    return Table(rows, {"by": by})


def _table(
    name: str, what: str, kind: Personal, keys: "Callable[[Survey], Callable[[Usage], Iterable[str]]]"
) -> TableReport:
    return TableReport(
        name=f"top-{name}s",
        title=f"Top {name}s",
        summary=f"List the {name}s that used most CPU, GPU or memory time, with shares",
        columns=(
            Column(name, "text", what, personal=kind),
            Column("jobs", "count", "jobs"),
            Column("core-hours", "number", "hours of cores used", "h"),
            Column("cpu-share", "number", "share of everybody's", "%"),
            Column("card-hours", "number", "hours of GPUs held", "h"),
            Column("card-share", "number", "share of everybody's", "%"),
            Column("gpu-hours", "number", "hours of fully used GPUs", "h"),
            Column("gb-hours", "number", "hours of a GB of resident memory", "h"),
            Column("memory-share", "number", "share of everybody's", "%"),
        ),
        make=partial(make, keys, name),
        audience=Audience.LOGIN,
        options=(
            Option("by", f"order by one of {', '.join(_KINDS)}", default="cpu", metavar="KIND"),
            Option("limit", "most rows", default="25", metavar="N"),
        ),
        window="7d",
    )


USERS = _table("user", "user", Personal.WHO, _users)
ACCOUNTS = _table("account", "account of the batch system; none where it has no account", Personal.WHO, _accounts)
COMMANDS = _table("command", "commands of a job", Personal.WHAT, _commands)

"""The report software: which commands are in use, by how many people, and what they use."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sonar.report.audience import Audience, Personal
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import Used, share, usages, used_by

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE"]


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return each command with the jobs that ran it; a job of several commands counts for each of them."""
    del given
    jobs = usages(survey)
    total = Used()
    people: dict[str, set[str]] = {}
    for job in jobs:
        total.add(job)
        for command in set(job.commands):
            people.setdefault(_name(command), set()).add(job.user)
    sums = used_by(jobs, lambda job: sorted({_name(command) for command in job.commands}))
    rows: list[Row] = [
        {
            "command": command,
            "users": len(people[command]),
            "jobs": sums[command].jobs,
            "core-hours": round(sums[command].core_hours, 1),
            "cpu-share": share(sums[command].core_hours, total.core_hours),
            "card-hours": round(sums[command].card_hours, 1),
        }
        for command in sorted(sums, key=lambda name: (-sums[name].core_hours, name))
    ]
    return Table(rows, {})


def _name(command: str) -> str:
    """Return a command without the mark of a process that has ended."""
    return command.removesuffix(" <defunct>")


TABLE = TableReport(
    name="software",
    title="Software in use",
    summary="List the commands in use, by CPU time",
    columns=(
        Column("command", "text", "command", personal=Personal.WHAT),
        Column("users", "count", "how many users ran it"),
        Column("jobs", "count", "in how many jobs"),
        Column("core-hours", "number", "hours of cores that these jobs used", "h"),
        Column("cpu-share", "number", "share of those of all jobs; shares add up to more than 100", "%"),
        Column("card-hours", "number", "hours of GPUs that these jobs held", "h"),
    ),
    make=make,
    audience=Audience.LOGIN,
    window="7d",
)

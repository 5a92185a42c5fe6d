"""The report misfits: jobs that were on nodes with GPUs and used none."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sonar.errors import UsageError
from sonar.hosts import compress
from sonar.report.audience import Audience, Personal
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import usages
from sonar.times import iso_text, parse_duration
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE"]


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return the jobs, those with the most CPU time first."""
    try:
        shortest = parse_duration(given["min-runtime"])
    except UsageError as error:
        raise UsageError(f"Invalid value for --min-runtime: {error}") from None
    least = float(given["min-cores"])
    with_gpus = {host for host, node in survey.nodes.items() if node.gpu_cards}
    rows: list[Row] = []
    for job in usages(survey):
        mean = job.core_hours / (job.duration / 3600) if job.duration else 0.0
        if job.used_gpu or job.duration < shortest or mean < least or not with_gpus.intersection(job.hosts):
            continue
        rows.append(
            {
                "job": job.job,
                "user": job.user,
                "command": ",".join(job.commands),
                "host": compress(job.hosts),
                "start": iso_text(job.start),
                "duration": job.duration,
                "core-hours": round(job.core_hours, 1),
                "cores": round(mean, 1),
            }
        )
    rows.sort(key=lambda row: (-row["core-hours"], row["host"], row["job"]))
    return Table(rows, {"nodes-with-gpus": len(with_gpus)})


TABLE = TableReport(
    name="misfits",
    title="Jobs on GPU nodes that used no GPU",
    summary="List jobs that were on nodes with GPUs and used none",
    columns=(
        Column("job", "id", "job number", personal=Personal.WHAT),
        Column("user", "text", "user", personal=Personal.WHO),
        Column("command", "text", "commands", personal=Personal.WHAT),
        Column("host", "text", "node, or nodes"),
        Column("start", "time", "first sample in the window"),
        Column("duration", "count", "how long", "s"),
        Column("core-hours", "number", "hours of cores used", "h"),
        Column("cores", "number", "mean number of cores used"),
    ),
    make=make,
    audience=Audience.LOGIN,
    options=(
        Option("min-runtime", "shortest job that counts", default="1h", metavar="TIME"),
        Option("min-cores", "fewest cores used on average", default="1", metavar="N"),
    ),
    window="7d",
)

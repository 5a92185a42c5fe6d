"""The report monitoring-cost: what the monitoring itself costs: on the nodes, on disk, and for this report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sonar.report.audience import Audience
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.report.usage import usages
from sonar.times import DAY, day_of

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE"]

_OURS = frozenset({"sonar", "sonard", "exfiltrate", "sonar-nvidia"})


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return the figures, each with its unit."""
    from pathlib import Path

    from sonar.report.logfiles import hosts_in_log
    from sonar.report.products import read_days

    del given
    jobs = usages(survey)
    hours = sum(job.core_hours for job in jobs if _OURS.issuperset(job.commands))
    total = sum(job.core_hours for job in jobs)
    rows: list[Row] = [
        {"what": "CPU time of the samplers, where they see themselves", "value": round(hours, 3), "unit": "core hours"},
        {"what": "of all CPU time that jobs used", "value": round(hours / total * 100, 4) if total else 0, "unit": "%"},
    ]
    if isinstance(survey.data, Path):
        read = read_days(survey.data, survey.start, survey.end)
        days = max(len(read["days"]), 1)
        nodes = max(len(hosts_in_log(survey.data, survey.start, survey.end)), 1)
        first, last = (read_days(survey.data, at // DAY * DAY, at // DAY * DAY)["bytes"] for at in _ends(survey))
        rows += [
            {"what": "log of the window", "value": read["bytes"], "unit": "bytes"},
            {"what": "log a day", "value": read["bytes"] // days, "unit": "bytes"},
            {"what": "log a day and node", "value": read["bytes"] // days // nodes, "unit": "bytes"},
            {"what": "files a day", "value": round(read["files"] / days, 1), "unit": "files"},
            {"what": f"log of {day_of(survey.start)}", "value": first, "unit": "bytes"},
            {"what": f"log of {day_of(survey.end - DAY)}", "value": last, "unit": "bytes"},
        ]
    return Table(rows, {})


def _ends(survey: "Survey") -> tuple[int, int]:
    """Return the first day of the window and the last that is over."""
    return survey.start, max(survey.end - DAY, survey.start)


TABLE = TableReport(
    name="monitoring-cost",
    title="Cost of the monitoring",
    summary="Tell what the monitoring itself costs, on nodes and on disk",
    columns=(
        Column("what", "text", "what is measured"),
        Column("value", "number", "how much"),
        Column("unit", "text", "of what"),
    ),
    make=make,
    audience=Audience.ADMIN,
    window="7d",
)

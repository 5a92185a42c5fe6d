"""The report silent-nodes: nodes that were not heard of, or never."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sonar.report.tables import Column, Row, Table, TableReport
from sonar.times import iso_text
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE"]


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return the nodes whose last sample is more than some sampling intervals old, the longest silent first."""
    most_s = int(given["steps"]) * survey.step_s
    seen = survey.last_seen()
    rows: list[Row] = []
    for host in sorted({*seen, *survey.nodes}):
        last = seen.get(host)
        if last is None or survey.end - last > most_s:
            rows.append(
                {
                    "host": host,
                    "state": "never" if last is None else "silent",
                    "last-seen": None if last is None else iso_text(last),
                    "silent-for": None if last is None else survey.end - last,
                }
            )
    rows.sort(key=lambda row: (-(row["silent-for"] or 1 << 40), row["host"]))
    return Table(rows, {"nodes": len({*seen, *survey.nodes})})


TABLE = TableReport(
    name="silent-nodes",
    title="Silent nodes",
    summary="List the nodes that were not heard of",
    columns=(
        Column("host", "text", "node"),
        Column("state", "text", "silent, or never: described, but not heard of within the window"),
        Column("last-seen", "time", "its last sample"),
        Column("silent-for", "count", "time since then", "s"),
    ),
    make=make,
    options=(Option("steps", "sampling intervals without a sample that are silence", default="3", metavar="N"),),
    window="14d",
)

"""The report downtime: when nodes and their GPUs were down, how long, and how available each was."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sonar.report.tables import Column, Row, Table, TableReport
from sonar.times import iso_text

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE", "availabilities"]


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return the periods of being down, by host and time; the facts have the availability of all."""
    del given
    available = availabilities(survey)
    rows: list[Row] = [
        {
            "host": period.host,
            "device": period.device,
            "from": iso_text(period.start),
            "to": iso_text(period.end),
            "length": period.end - period.start,
            "availability": available[period.host],
        }
        for period in survey.periods()
        if not period.is_up
    ]
    rows.sort(key=lambda row: (row["host"], row["from"], row["device"]))
    mean = round(sum(available.values()) / len(available), 3) if available else None
    return Table(rows, {"availability": mean, "availabilities": available})


def availabilities(survey: "Survey") -> dict[str, float]:
    """Return for each node the share of its time in which it was not down, percent.

    Its time is the window, from its first sample on if it was never heard of before. A node that is described and was
    not heard of at all was down all the time.
    """
    hosts = set(survey.last_seen())
    down = dict.fromkeys(hosts, 0)
    first = dict.fromkeys(hosts, survey.end)
    for period in survey.periods():
        if period.device == "host":
            first[period.host] = min(first.get(period.host, survey.end), period.start)
            if not period.is_up:
                down[period.host] = down.get(period.host, 0) + period.end - period.start
    known = {
        host: round(max(0.0, 100 - down[host] / max(survey.end - first[host], 1) * 100), 3) for host in first
    }  # fmt: skip
    return dict(sorted((dict.fromkeys(survey.nodes, 0.0) | known).items()))


TABLE = TableReport(
    name="downtime",
    title="Down time",
    summary="List when nodes and GPUs were down, and how available nodes were",
    columns=(
        Column("host", "text", "node"),
        Column("device", "text", "host or gpu"),
        Column("from", "time", "last sample before, or start of the window"),
        Column("to", "time", "first sample after, or end of the window"),
        Column("length", "count", "how long", "s"),
        Column("availability", "number", "share of the window in which the node was up", "%"),
    ),
    make=make,
    window="30d",
)

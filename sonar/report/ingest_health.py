"""The report ingest-health: what arrived from each node, how late, what was dropped or refused; server down time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sonar.errors import UsageError
from sonar.names import ClusterName
from sonar.report.audience import Audience
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.times import iso_text

if TYPE_CHECKING:
    from sonar.report.survey import Survey

__all__ = ["TABLE"]


@dataclass(slots=True)
class _Sum:
    posts: int = 0
    records: int = 0
    size: int = 0
    dropped: int = 0
    refused: int = 0
    late: list[int] = field(default_factory=list)
    last: int = 0
    why: str = ""


def make(survey: "Survey", given: Mapping[str, str]) -> Table:
    """Return a row a node, and one without a name for posts that did not say; by the ledger of arrivals."""
    from pathlib import Path

    from sonar.store.ledger import read_arrivals, server_intervals

    del given
    if not isinstance(survey.data, Path):
        raise UsageError("the ledger of arrivals lies in a log tree: give --data-dir")
    root, cluster = survey.data.parent, ClusterName(survey.data.name)
    sums: dict[str, _Sum] = {}
    for arrival in read_arrivals(root, cluster, survey.start, survey.end + 1):
        one = sums.setdefault(arrival.host, _Sum())
        if arrival.status != 200:
            one.refused += arrival.posts
            one.why = one.why or f"{arrival.status} {arrival.why}"
            continue
        one.posts += arrival.posts
        one.records += arrival.records
        one.size += arrival.bytes
        one.dropped += arrival.dropped
        one.why = one.why or arrival.why
        one.last = max(one.last, arrival.at)
        if arrival.records:
            one.late.append(arrival.late)
    rows: list[Row] = [
        {
            "host": host,
            "posts": one.posts,
            "records": one.records,
            "bytes": one.size,
            "late": sorted(one.late)[len(one.late) // 2] if one.late else None,
            "latest": max(one.late, default=None),
            "dropped": one.dropped,
            "refused": one.refused,
            "why": one.why,
            "last": iso_text(one.last) if one.last else None,
        }
        for host, one in sorted(sums.items())
    ]
    down = server_intervals(root, survey.start, survey.end)
    facts = {
        "records": sum(one.records for one in sums.values()),
        "bytes": sum(one.size for one in sums.values()),
        "server-down": sum(interval.end - interval.start for interval in down),
    }
    return Table(rows, facts)


TABLE = TableReport(
    name="ingest-health",
    title="Health of the ingest",
    summary="Tell what arrived from each node, how late, and what was dropped or refused",
    columns=(
        Column("host", "text", "node; empty where the post did not say"),
        Column("posts", "count", "posts taken"),
        Column("records", "count", "records stored"),
        Column("bytes", "count", "bytes stored"),
        Column("late", "count", "median time from the newest record of a post to its arrival", "s"),
        Column("latest", "count", "longest such time", "s"),
        Column("dropped", "count", "records dropped"),
        Column("refused", "count", "posts refused"),
        Column("why", "text", "first reason for dropping or refusing"),
        Column("last", "time", "last arrival"),
    ),
    make=make,
    audience=Audience.ADMIN,
)

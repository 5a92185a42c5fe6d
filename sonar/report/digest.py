"""The weekly digest for administrators: nodes, users, violations, misfits, the ingest; as text, HTML and JSON."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sonar.report.audience import Audience, Personal
from sonar.report.pages import Part, page, text_page
from sonar.report.tables import Column, Row, Table, TableReport
from sonar.times import iso_text, minute_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sonar.report.site import Site
    from sonar.report.survey import Survey
    from sonar.report.violations import Violation

__all__ = ["Digest", "digest"]

_MOST_ROWS = 25


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest in its forms."""

    title: str
    text: str
    html: str
    content: dict[str, Any]


def _nothing(_survey: "Survey", _given: object) -> Table:
    return Table([], {})


VIOLATORS = TableReport(
    name="violators",
    title="Violators",
    summary="Users with violations in the week",
    columns=(
        Column("user", "text", "user", personal=Personal.WHO),
        Column("jobs", "count", "jobs that broke a policy within the week"),
        Column("policies", "text", "which policies"),
        Column("before", "count", "jobs that did within the three weeks before: a repeat offender if any"),
    ),
    make=_nothing,
    audience=Audience.ADMIN,
)


def digest(site: "Site", survey: "Survey", found: "Sequence[Violation]") -> Digest:
    """Return the digest of a survey and of the violations that are known."""
    from sonar.report import table

    start, end = minute_text(survey.start), minute_text(survey.end)
    title = f"{site.cluster.title}: the week to {end[:10]}"
    facts = f"From {start} to {end} UTC; made {minute_text(site.now)} UTC."
    parts = [Part("Violators", VIOLATORS, _violators(survey, found))]
    for name, heading, options in (
        ("silent-nodes", "Silent nodes", {}),
        ("downtime", "Down time", {}),
        ("top-users", "Top users by CPU time", {"by": "cpu"}),
        ("top-users", "Top users by GPU time", {"by": "gpu"}),
        ("misfits", "Jobs on GPU nodes that used no GPU", {}),
        ("top-commands", "Top commands by CPU time", {"by": "cpu"}),
        ("ingest-health", "What arrived", {}),
    ):
        declared = table(name)
        made = declared.make(survey, declared.given(options))
        more = len(made.rows) - _MOST_ROWS
        note = f"The first {_MOST_ROWS} of {len(made.rows)}." if more > 0 else ""
        if name == "downtime" and made.facts["availability"] is not None:
            note = f"Nodes were available for {made.facts['availability']} % of the time. {note}".strip()
        parts.append(Part(heading, declared, made.rows[:_MOST_ROWS], note=note))
    content = {
        "report": "digest",
        "title": title,
        "cluster": site.name,
        "generated": iso_text(site.now),
        "from": iso_text(survey.start),
        "to": iso_text(survey.end),
        "parts": [
            {"title": part.title, "table": part.table.name if part.table else None, "rows": list(part.rows)}
            for part in parts
        ],
    }
    json.dumps(content, allow_nan=False)
    return Digest(title, text_page(title, facts, parts), page(title, facts, parts), content)


def _violators(survey: "Survey", found: "Sequence[Violation]") -> list[Row]:
    """Return the users with violations within the window, most jobs first."""
    by_user: dict[str, list[Violation]] = {}
    for one in found:
        by_user.setdefault(one.job.user, []).append(one)
    rows: list[Row] = []
    for user, own in by_user.items():
        within = [one for one in own if one.job.last_seen >= survey.start]
        if within:
            before = [one for one in own if one.state.first_violation < survey.start]
            policies = sorted({one.policy.name for one in within})
            rows.append(
                {"user": user, "jobs": len(within), "policies": " ".join(policies), "before": len(before)}
            )  # fmt: skip
    return sorted(rows, key=lambda row: (-row["jobs"], row["user"]))

"""The page of a user: the jobs, and what they used day by day of what they held."""

from collections.abc import Mapping, Sequence
from typing import Any

from sonar.times import DAY, HOUR
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import COLUMNS, job_rows, shown_jobs

__all__ = ["PAGE"]

_SPANS = (("7d", "7 days"), ("14d", "14 days"), ("30d", "30 days"), ("90d", "90 days"))
_MOST_JOBS = 50
_JOB_COLUMNS = [column for column in COLUMNS if column.name != "user"]


def build(context: Context) -> Mapping[str, Any]:
    """Return the sums, the days and the jobs of a user."""
    user = context.path["user"]
    since = context.get("from") if context.get("from") in dict(_SPANS) else "14d"
    rows = job_rows(context, {"user": [user], "from": [since]})
    rows.sort(key=lambda row: (row["end"], row["start"]), reverse=True)
    days = int(since[:-1])
    return {
        "title": user,
        "user": user,
        "is_own": user == context.asker.who.name,
        "spans": _SPANS,
        "since": since,
        "number": len(rows),
        "running": sum(bool(row["classification"] & 1) for row in rows),
        "core_hours": round(sum(_hours(row, "cpu_avg") for row in rows)),
        "card_hours": round(sum(_hours(row, "gpu_avg") for row in rows)),
        "chart": _days(rows, context.asker.now, days),
        "jobs": shown_jobs(rows[:_MOST_JOBS], _JOB_COLUMNS),
        "columns": _JOB_COLUMNS,
    }


def _hours(row: Mapping[str, Any], column: str) -> float:
    """Return the hours of cores or cards that a job used: mean utilization times length."""
    return float(row[column] / 100 * (row["end"] - row["start"]) / HOUR)


def _days(rows: Sequence[Mapping[str, Any]], now: int, days: int) -> dict[str, Any]:
    """Return core hours and card hours by the day, each job spread evenly over its length."""
    times = list(range((now - days * DAY) // DAY * DAY, now + 1, DAY))
    cores, cards = [0.0] * len(times), [0.0] * len(times)
    for row in rows:
        length = max(row["end"] - row["start"], 1)
        for at, start in enumerate(times):
            share = max(min(row["end"], start + DAY) - max(row["start"], start), 0) / length
            cores[at] += share * _hours(row, "cpu_avg")
            cards[at] += share * _hours(row, "gpu_avg")
    charts = [
        ("Core hours", "hours a day", "mean CPU use of each job times its time on that day", cores),
        ("Card hours", "hours a day", "mean GPU use of each job times its time on that day", cards),
    ]
    return {
        "times": times,
        "charts": [
            {
                "title": title, "unit": unit, "percent": False, "meaning": meaning, "names": ["used"],
                "lines": [[round(value, 1) for value in values]],
            }
            for title, unit, meaning, values in charts if any(values) or title == "Core hours"
        ],
    }  # fmt: skip


PAGE = Page("/c/{cluster}/user/{user}", "user.html", build, section="jobs")

"""The rhythms of reports: what is made every five minutes, every hour, day, week and month; scans and notices.

report(8) says the same for those who run it. Each rhythm ends with its files in place; all of them can be run again at
any time, also after having been killed.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.report.making import Maker
from sonar.report.products import Product, Task, late_tasks, publish_all, remove_stale
from sonar.times import DAY

if TYPE_CHECKING:
    from sonar.report.outbox import Message
    from sonar.report.site import Site

__all__ = ["RHYTHMS", "Outcome", "run_rhythm"]


@dataclass(slots=True)
class Outcome:
    """What a run did: files made, rows in them, what went wrong without keeping the rest from being made."""

    files: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    messages: "list[Message]" = field(default_factory=list)


def run_rhythm(site: "Site", rhythm: str, *, dry_run: bool = False) -> Outcome:
    """Run a rhythm, one of RHYTHMS. A dry run of notices tells nobody; it returns the messages."""
    return RHYTHMS[rhythm](site, dry_run)


def _live(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001 - of one type with the others
    day = _task(site, "load", 1, tag="minutely", bucketing="none")
    return _make(site, [day, _task(site, "at-a-glance", 1), _task(site, "hostnames", 1)])


def _hourly(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001
    tasks = [
        _task(site, "load", 1, tag="daily", bucketing="hourly"),
        _task(site, "load", 7, tag="weekly", bucketing="hourly"),
        *_of_groups(site, 1, "daily", "hourly"),
        *_of_groups(site, 7, "weekly", "hourly"),
    ]
    return _make(site, [*tasks, *late_tasks(site, but=tasks)])


def _daily(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001
    tasks = [
        _task(site, "load", 30, tag="monthly", bucketing="daily"),
        _task(site, "load", 90, tag="quarterly", bucketing="daily"),
        *_of_groups(site, 30, "monthly", "daily"),
        *_of_groups(site, 90, "quarterly", "daily"),
    ]
    outcome = _make(site, tasks)
    _clean(site)
    return outcome


def _scan(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001
    """Look for violations of all policies in one pass, and append them to the log."""
    from sonar.report.judging import judge
    from sonar.report.scanlog import append_scan
    from sonar.report.slurm import slurm_jobs

    policies = site.policies()
    outcome = Outcome()
    for window in sorted({policy.window_s for policy in policies}):
        of_window = [policy for policy in policies if policy.window_s == window]
        survey = site.survey(window)
        found = judge(survey, of_window, slurm_jobs(survey))
        outcome.rows += append_scan(site.state, of_window, found, site.now)
        outcome.files += len(of_window)
    return outcome


def _notices(site: "Site", dry_run: bool) -> Outcome:  # noqa: FBT001
    """Tell administrators and users what is new; then the files of violations are made as the states are now."""
    from sonar.report.notices import tell

    told = tell(site, dry_run=dry_run)
    outcome = Outcome(messages=list(told.messages))
    if not dry_run:
        made = _make(site, [_task(site, "violations", 28)])
        outcome.files, outcome.rows = made.files, made.rows
        outcome.problems += made.problems
    return outcome


def _task(site: "Site", report: str, days: int, **options: str) -> Task:
    """Return the task of a report on the last so many days."""
    return Task(report, site.now - days * DAY, site.now, site.now, options)


def _of_groups(site: "Site", days: int, tag: str, bucketing: str) -> list[Task]:
    return [
        _task(site, "load", days, tag=f"{group.name}-{tag}", bucketing=bucketing, group=",".join(group.nodes))
        for group in site.cluster.groups
    ]


def _make(site: "Site", tasks: Sequence[Task]) -> Outcome:
    """Make and publish the files of tasks; one that fails keeps no other from being made."""
    maker, outcome = Maker(site), Outcome()
    for task in tasks:
        try:
            products: list[Product] = maker.make(task)
            publish_all(site, products)
        except SonarError as error:
            outcome.problems.append(f"{task.report} {dict(task.options) or ''}: {error}")
            continue
        outcome.files += len(products)
        outcome.rows += sum(product.rows for product in products)
    return outcome


def _clean(site: "Site") -> None:
    """Remove the load files of hosts and groups that are gone: without data in the last two weeks."""
    from sonar.report.hostnames import hosts_with_files

    heard = set(site.survey(14 * DAY).last_seen())
    public = site.reports / "public"
    gone = [host for host in hosts_with_files(public) if host not in heard] if public.is_dir() else []
    for host in gone:
        for tag in ("minutely", "daily", "weekly", "monthly", "quarterly"):
            remove_stale(site, set(), f"{host}-{tag}.json")
        print(f"report: {site.name}: {host} has sent nothing for two weeks, its files are removed", file=sys.stderr)


def _month_before(now: int) -> tuple[int, int]:
    """Return the first and last instant of the month before that of now."""
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = int(first.timestamp()) - 1
    before = datetime.fromtimestamp(end, UTC).replace(day=1, hour=0, minute=0, second=0)
    return int(before.timestamp()), end


RHYTHMS: Mapping[str, Callable[["Site", bool], Outcome]] = {
    "live": _live,
    "hourly": _hourly,
    "daily": _daily,
    "scan": _scan,
    "notices": _notices,
}

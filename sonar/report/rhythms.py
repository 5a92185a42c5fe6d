"""The rhythms of reports: what is made every five minutes, every hour, day, week and month; scans and notices.

sonarctl-report(8) says the same for those who run it. Each rhythm ends with its files in place; all of them can be run
again at any time, also after having been killed.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.report.logfiles import hosts_in_log
from sonar.report.making import Maker
from sonar.report.products import Product, Task, late_tasks, publish_all, remove_stale
from sonar.times import DAY

if TYPE_CHECKING:
    from sonar.report.outbox import Message
    from sonar.report.site import Site

__all__ = ["RHYTHMS", "Outcome", "run_rhythm"]


@dataclass(slots=True)
class Outcome:
    """What a run did: files made, rows in them, what went wrong without keeping the rest from being made.

    Reports of load are left out while nobody has told how large the nodes are: that is no failure.
    """

    files: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    messages: "list[Message]" = field(default_factory=list)


def run_rhythm(site: "Site", rhythm: str, *, dry_run: bool = False) -> Outcome:
    """Run a rhythm, one of RHYTHMS. A dry run of notices tells nobody; it returns the messages.

    Of a new cluster, from which nothing has arrived yet, there is nothing to report.
    """
    if not any(site.data.glob("[0-9]*")):
        return Outcome()
    return RHYTHMS[rhythm](site, dry_run)


_GONE_DAYS = 14  # a host that was not heard of for so long is no longer listed
_DAILY_TABLES = (
    "top-users",
    "top-accounts",
    "top-commands",
    "software",
    "misfits",
    "right-sizing",
    "unused-capacity",
    "ingest-health",
    "monitoring-cost",
)


def _live(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001 - of one type with the others
    day = _task(site, "load", 1, tag="minutely", bucketing="none")
    return _make(site, [day, _task(site, "at-a-glance", 1), _task(site, "hostnames", _GONE_DAYS)])


def _hourly(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001
    tasks = [
        _task(site, "load", 1, tag="daily", bucketing="hourly", read="7"),
        _task(site, "load", 7, tag="weekly", bucketing="hourly"),
        *_of_groups(site, 1, "daily", "hourly", read="7"),
        *_of_groups(site, 7, "weekly", "hourly"),
        *_table_tasks(site, ["silent-nodes"]),
    ]
    return _make(site, [*tasks, *late_tasks(site, but=tasks)])


def _daily(site: "Site", _dry_run: bool) -> Outcome:  # noqa: FBT001
    tasks = [
        _task(site, "load", 30, tag="monthly", bucketing="daily", read="90"),
        _task(site, "load", 90, tag="quarterly", bucketing="daily"),
        *_of_groups(site, 30, "monthly", "daily", read="90"),
        *_of_groups(site, 90, "quarterly", "daily"),
        _task(site, "downtime", 30, read="90"),
        *_table_tasks(site, _DAILY_TABLES),
        _task(site, "top-users", 7, by="gpu", file="top-users-gpu.json"),
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


def _weekly(site: "Site", dry_run: bool) -> Outcome:  # noqa: FBT001
    """Make the digest of seven days, named by the week that ended last, and mail it to who gets it, once."""
    year, week, _ = datetime.fromtimestamp(site.now - DAY, UTC).isocalendar()
    name = f"digest-{year}-W{week:02}"
    return _mailed(site, [_task(site, "digest", 7, file=name)], "weekly", dry_run=dry_run)


def _monthly(site: "Site", dry_run: bool) -> Outcome:  # noqa: FBT001
    """Make the utilization of the month before, and of the quarter before when one has just ended; mail it once."""
    start, end = _months_before(site.now, 1)
    first = datetime.fromtimestamp(start, UTC)
    tasks = [Task("utilization", start, end, site.now, {"file": f"utilization-{first.year}-{first.month:02}"})]
    if first.month % 3 == 0:
        begin, _ = _months_before(site.now, 3)
        name = f"utilization-{first.year}-Q{first.month // 3}"
        tasks.append(Task("utilization", begin, end, site.now, {"file": name}))
    return _mailed(site, tasks, "monthly", dry_run=dry_run)


def _mailed(site: "Site", tasks: Sequence[Task], kind: str, *, dry_run: bool) -> Outcome:
    """Make and publish files, and mail text and page of each task once. A dry run returns the mails only."""
    from sonar.report.notices import tell_once
    from sonar.report.outbox import Message

    outcome, maker = Outcome(), Maker(site)
    for task in tasks:
        products = maker.make(task)
        if not dry_run:
            publish_all(site, products)
            outcome.files += len(products)
            outcome.rows += sum(product.rows for product in products)
        texts = {product.name.rpartition(".")[2]: product.text for product in products}
        recipients = tuple(site.who_gets(kind))
        if not recipients:
            continue
        message = Message(
            kind=kind,
            sender=site.mail_from,
            recipients=recipients,
            subject=texts["txt"].split("\n", 1)[0],
            body=texts["txt"],
            notes={},
            date=site.now,
            html=texts["html"],
        )
        if dry_run or tell_once(site, task.options["file"], message):
            outcome.messages.append(message)
    return outcome


def _table_tasks(site: "Site", names: Sequence[str]) -> list[Task]:
    """Return the tasks of tables over their usual windows."""
    from sonar.report import table

    return [_task(site, name, int(table(name).window.removesuffix("d"))) for name in names]


def _task(site: "Site", report: str, days: int, **options: str) -> Task:
    """Return the task of a report on the last so many days."""
    return Task(report, site.now - days * DAY, site.now, site.now, options)


def _of_groups(site: "Site", days: int, tag: str, bucketing: str, **options: str) -> list[Task]:
    return [
        _task(
            site, "load", days, tag=f"{group.name}-{tag}", bucketing=bucketing, group=",".join(group.nodes), **options
        )
        for group in site.cluster.groups
    ]


def _make(site: "Site", tasks: Sequence[Task]) -> Outcome:
    """Make and publish the files of tasks; one that fails keeps no other from being made."""
    from sonar.verbs.parameters import UndescribedNodesError

    maker, outcome, of_unknown_size = Maker(site), Outcome(), 0
    for task in tasks:
        try:
            products: list[Product] = maker.make(task)
            publish_all(site, products)
        except UndescribedNodesError:
            of_unknown_size += 1
            continue
        except SonarError as error:
            outcome.problems.append(f"{task.report} {dict(task.options) or ''}: {error}")
            continue
        outcome.files += len(products)
        outcome.rows += sum(product.rows for product in products)
    if of_unknown_size:
        outcome.left_out.append(
            f"{of_unknown_size} reports of load are left out: no node is described, see sonar-cluster(5)"
        )
    return outcome


def _clean(site: "Site") -> None:
    """Remove the load files of hosts and groups that are gone: without data in the last two weeks."""
    from sonar.report.hostnames import hosts_with_files

    heard = hosts_in_log(site.data, site.now - _GONE_DAYS * DAY, site.now)
    public = site.reports / "public"
    gone = [host for host in hosts_with_files(public) if host not in heard] if public.is_dir() else []
    for host in gone:
        for tag in ("minutely", "daily", "weekly", "monthly", "quarterly"):
            remove_stale(site, set(), f"{host}-{tag}.json")
        print(f"report: {site.name}: {host} has sent nothing for two weeks, its files are removed", file=sys.stderr)


def _months_before(now: int, number: int) -> tuple[int, int]:
    """Return the first and last instant of the so many months before that of now."""
    today = datetime.fromtimestamp(now, UTC)
    months = today.year * 12 + today.month - 1
    first, last = (
        datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in (months - number, months)
    )  # fmt: skip
    return int(first.timestamp()), int(last.timestamp()) - 1


RHYTHMS: Mapping[str, Callable[["Site", bool], Outcome]] = {
    "live": _live,
    "hourly": _hourly,
    "daily": _daily,
    "scan": _scan,
    "notices": _notices,
    "weekly": _weekly,
    "monthly": _monthly,
}

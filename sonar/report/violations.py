"""The report of violations: what the scans of one policy found, against the state of what has been seen before.

The text tells each job once: it is marked as reported when the text has been delivered. JSON has all jobs of the
window, reported or not, and marks nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonar.errors import UsageError
from sonar.report.declare import FROM, NOW, STATE_DIR, TO, Call, Report
from sonar.report.joblog import LoggedJob, jobs_of, log_files, read_log
from sonar.report.jobstate import JobState, State, locked, read_state, write_state
from sonar.report.measures import measure_text
from sonar.report.policies import Policy, policy
from sonar.times import DAY, minute_text
from sonar.verbs.declare import Option, OptionType

__all__ = [
    "CPUHOG_FIELDS",
    "DEADWEIGHT",
    "ML_CPUHOG",
    "REPORT",
    "Violation",
    "old_row",
    "purge_limit",
    "text_of",
    "violations",
]

CPUHOG_FIELDS = ("cpu-peak", "rcpu-avg", "rcpu-peak", "rmem-avg", "rmem-peak")


@dataclass(frozen=True, slots=True)
class Violation:
    """One job that breaks a policy: what the log tells of it and what is remembered."""

    policy: Policy
    job: LoggedJob
    state: JobState

    @property
    def row(self) -> dict[str, Any]:
        """The members of one element of a report file."""
        job = self.job
        return {
            "policy": self.policy.name,
            "hostname": job.host,
            "id": job.id,
            "user": job.user,
            "cmd": job.cmd,
            "started-on-or-before": minute_text(self.state.started_on_or_before),
            "first-violation": minute_text(self.state.first_violation),
            "last-seen": minute_text(job.last_seen),
            "reported": self.state.is_reported,
            **{name: _plain(value) for name, value in job.values},
        }


def _plain(value: float) -> float | int | None:
    """Return a number as JSON has it; what is not known is null."""
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def violations(found: Policy, paths: Sequence[Path], state: State, now: int) -> list[Violation]:
    """Enter what the logs tell into the state, and return the violations, sorted by host, number and last seen."""
    logged = jobs_of(read_log(paths, found.tags, found.fields))
    entries = state.enter(logged, now)
    return [Violation(found, job, entries[job]) for job in logged]


def purge_limit(start: int, end: int) -> int:
    """Return the instant before which jobs are forgotten: before the window, and two days old at least."""
    return min(start, end - 2 * DAY)


def text_of(found: Policy, violation: Violation) -> str:
    """Return the paragraph about one job that administrators read."""
    job, values = violation.job, dict(violation.job.values)
    last_seen = "Last Seen" if found.name == "cpuhog" else "Last seen"
    lines = [
        f'{found.heading or found.title} on host "{job.host}":',
        f"  Job#: {job.id}",
        f"  User: {job.user}",
        f"  Command: {job.cmd}",
        f"  Started on or before: {minute_text(violation.state.started_on_or_before)}",
        f"  Violation first detected: {minute_text(violation.state.first_violation)}",
        f"  {last_seen}: {minute_text(job.last_seen)}",
    ]
    if found.name == "cpuhog":
        lines += [
            "  Observed data:",
            f"    CPU peak = {int(values['cpu-peak'] / 100)} cores",
            f"    CPU utilization avg/peak = {int(values['rcpu-avg'])}%, {int(values['rcpu-peak'])}%",
            f"    Memory utilization avg/peak = {int(values['rmem-avg'])}%, {int(values['rmem-peak'])}%",
            "",
        ]
    elif values:
        lines += [
            "  Observed data:",
            *(f"    {measure_text(name, value)}" for name, value in values.items() if not math.isnan(value)),
            "",
        ]
    return "\n".join(lines) + "\n"


def _run(call: Call, found: Policy, old_fields: Sequence[str] | None = None) -> None:
    """Make the report; `old_fields` names the fields of the JSON that pages of old read, None gives all."""
    state_dir, state_file = call.path("state-dir"), call.path("state-file")
    if state_dir is not None and call.files:
        raise UsageError("--state-dir and files do not go together")
    if state_dir is None and not call.files:
        raise UsageError("No log: give --state-dir, or --state-file and files after --")
    if state_file is None:
        if state_dir is None:
            raise UsageError("--state-file must be given with files")
        state_file = state_dir / f"{found.name}-state.csv"
    start, end = call.days()
    paths = list(call.files) if state_dir is None else log_files(state_dir, found.name, start, end)
    with locked(state_file):
        state = read_state(state_file)
        rows = violations(found, paths, state, call.now)
        purged = state.purge(purge_limit(start, end))
        new = [row for row in rows if not row.state.is_reported]
        call.tell(f"{len(paths)} files, {len(rows)} jobs in the log, {len(new)} not reported yet, {purged} purged")
        if call.flag("json"):
            elements = [row.row if old_fields is None else old_row(row, old_fields) for row in rows]
            call.out.write(json.dumps(elements, ensure_ascii=False, separators=(",", ":")) + "\n")
        elif call.flag("summary"):
            call.out.writelines(_summary(row) for row in new)
        else:
            call.out.writelines(text_of(found, row) for row in new)
        call.out.flush()  # what cannot be delivered is not marked as reported
        if not call.flag("json"):
            state.mark_reported([row.state for row in new])
        write_state(state_file, state)


def _summary(row: Violation) -> str:
    job = row.job
    peak = f",{int(row.job.value('cpu-peak') / 100)}" if row.policy.name == "cpuhog" else ""
    return f"{job.user},{job.id},{job.host}{peak}\n"


def old_row(violation: Violation, names: Sequence[str]) -> dict[str, Any]:
    """Return the members that pages of old know, with these fields cut to whole numbers; `cpu-peak` in cores."""
    row, values = violation.row, dict(violation.job.values)
    del row["policy"], row["reported"]
    for name in violation.policy.fields:
        del row[name]
    cores = {"cpu-peak": int(values["cpu-peak"] / 100)} if "cpu-peak" in names else {}
    return row | cores | {name: int(values[name]) for name in names if name not in cores}


_OPTIONS = (
    STATE_DIR,
    Option("state-file", "the state, if not in --state-dir", OptionType.PATH, metavar="FILE"),
    FROM,
    TO,
    Option("json", "all jobs of the window as JSON; marks none as reported", OptionType.FLAG),
    Option("summary", "a line a job that was not reported yet", OptionType.FLAG),
    NOW,
)
_OLD = {"data-path": "state-dir"}


DEADWEIGHT = Report(
    "deadweight",
    "Tell of zombies and hung jobs that the scans found",
    _OPTIONS,
    lambda call: _run(call, policy("deadweight"), ()),
    old_options=_OLD,
)
ML_CPUHOG = Report(
    "ml-cpuhog",
    "Tell of jobs that hog the CPU and use no GPU",
    _OPTIONS,
    lambda call: _run(call, policy("cpuhog"), CPUHOG_FIELDS),
    old_options=_OLD,
)
REPORT = Report(
    "violations",
    "Tell of jobs that break a policy: naicreport violations POLICY",
    (
        *_OPTIONS,
        Option("policy", "which policy; also as a bare word", metavar="NAME"),
        Option("policy-dir", "where a site's own policies are", OptionType.PATH, metavar="DIR"),
    ),
    lambda call: _run(call, policy(call.named("policy"), call.path("policy-dir"))),
    positional="policy",
)

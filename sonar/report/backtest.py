"""The report backtest: who a policy would have reported over weeks, and what another version of it would change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import UsageError
from sonar.report.declare import CLUSTER, CONFIG, DATA, FROM, NOW, TO, Call, Report
from sonar.report.measures import measure_text
from sonar.report.policies import Policy, policy, read_policy
from sonar.report.tables import (
    FORMATS,
    Column,
    Row,
    Table,
    TableReport,
    as_csv,
    as_json,
    as_text,
    site_of_call,
    survey_of,
)
from sonar.times import iso_text
from sonar.verbs.declare import Option, OptionType

if TYPE_CHECKING:
    from sonar.report.judging import Offence
    from sonar.report.survey import Survey

__all__ = ["EXPLAIN", "REPORT", "backtest"]

_Key = tuple[str, int, str]


def backtest(survey: "Survey", policies: Sequence[Policy]) -> "list[dict[_Key, Offence]]":
    """Return for each policy who it would have reported in the survey's window, scanned window by window.

    Each job is there once, as the scan that saw it longest found it. Scans follow each other by half a window, so that
    what lies across the edge of one is whole in another.
    """
    from dataclasses import replace

    from sonar.report.judging import judge
    from sonar.report.slurm import slurm_jobs

    found: list[dict[_Key, Offence]] = [{} for _ in policies]
    for window in sorted({one.window_s for one in policies}):
        places = [place for place, one in enumerate(policies) if one.window_s == window]
        end = min(survey.start + window, survey.end)
        while True:
            part = replace(survey, start=max(end - window, survey.start), end=end, _answers={})
            slurm = slurm_jobs(part)
            for place in places:
                # One name for both, since versions of a policy may be called alike.
                for offence in judge(part, [policies[place]], slurm)[policies[place].name]:
                    key = (offence.host, offence.id, offence.user)
                    known = found[place].get(key)
                    if known is None or offence.end - offence.start >= known.end - known.start:
                        found[place][key] = offence
            if end >= survey.end:
                break
            end = min(end + window // 2, survey.end)
    return found


_TABLE = TableReport(
    name="backtest",
    title="Back-test",
    summary="",
    columns=(
        Column("change", "text", "both, only this one, or only the other"),
        Column("host", "text", "node"),
        Column("job", "id", "job number"),
        Column("user", "text", "user"),
        Column("command", "text", "commands"),
        Column("start", "time", "first sample that the scan saw"),
        Column("duration", "count", "as the scan saw it", "s"),
        Column("measures", "text", "what the policy looks at"),
    ),
    make=lambda _survey, _given: Table([], {}),
)


def _run(call: Call) -> None:
    form = call.text("format", "text")
    if form not in FORMATS:
        raise UsageError(f"Invalid value for --format: {form!r} is none of {', '.join(FORMATS)}")
    policies = [_named(call, "policy")]
    if call.flag("against"):
        policies.append(_named(call, "against"))
    survey = survey_of(call, "8w")
    found = backtest(survey, policies)
    table = Table(_rows(policies, found), _facts(call, policies, found))
    if form == "json":
        window = {"from": iso_text(survey.start), "to": iso_text(survey.end)}
        table = Table(table.rows, {"report": "backtest", "title": _TABLE.title, **window, **table.facts})
    call.out.write({"text": as_text, "csv": as_csv, "json": as_json}[form](_TABLE, table))


def _named(call: Call, name: str) -> Policy:
    """Return the policy that an option names: a name, of --cluster also one of its own, or a file."""
    text = call.named(name)
    if "/" in text or text.endswith(".policy"):
        return read_policy(Path(text))
    site = site_of_call(call)
    return policy(text, call.path("policy-dir")) if site is None else site.policy(text)


def _rows(policies: Sequence[Policy], found: "Sequence[Mapping[_Key, Offence]]") -> list[Row]:
    rows: list[Row] = []
    for key in sorted({key for one in found for key in one}):
        places = [place for place, one in enumerate(found) if key in one]
        offence, judged = found[places[0]][key], policies[places[0]]
        change = "both" if len(places) == 2 else f"only {_label(policies, places[0])}"
        row: Row = {
            "change": change,
            "host": offence.host,
            "job": offence.id,
            "user": offence.user,
            "command": offence.cmd,
            "start": iso_text(offence.start),
            "duration": offence.end - offence.start,
            "measures": _measures(judged, offence),
        }
        if len(policies) == 1:
            del row["change"]
        rows.append(row)
    return rows


def _measures(judged: Policy, offence: "Offence") -> str:
    values = [(name, offence.measures.get(name)) for name in judged.fields]
    return "; ".join(f"{name} {value:g}" for name, value in values if value is not None)


def _label(policies: Sequence[Policy], place: int) -> str:
    one, other = policies[0], policies[-1]
    return policies[place].name if one.name != other.name else ("the first", "the second")[place]


def _facts(
    call: Call, policies: Sequence[Policy], found: "Sequence[Mapping[_Key, Offence]]"
) -> dict[str, object]:  # fmt: skip
    return {
        "generated": iso_text(call.now),
        "policies": [
            {"name": one.name, "source": str(one.source), "offenders": len(keys)}
            for one, keys in zip(policies, found, strict=True)
        ],
    }


def _explain(call: Call) -> None:
    """Print what a policy says, and for a job in the data how it fares by each of its conditions."""
    judged = _named(call, "policy")
    lines = [f"{judged.name}: {judged.title}", f"  file: {judged.source}"]
    for head, text in (("trigger", judged.trigger), ("problem", judged.problem), ("remedy", judged.remedy)):
        lines += [f"  {head}: {text}"] if text else []
    given = [(name, value) for name, values in judged.options.items() for value in values]
    options = [f"--{name}" + (f"={value}" if value != "true" else "") for name, value in given]
    whom = "users, by all their jobs" if judged.per == "user" else "jobs"
    lines.append(f"  looks at: {whom} of the last {judged.window_s // 3600} h")
    lines += [f"  selected by: sonalyze jobs {' '.join(options)}"] if options else []
    lines += [f"  and by: {condition}" for condition in (*judged.select_where, *judged.where)]
    lines += [f"  and by: at least {judged.min_coverage} % of the samples there"] if judged.min_coverage else []
    if judged.idle_s:
        lines.append(
            f"  and by: GPUs held for {judged.idle_s // 60} min on end, with a mean utilization below "
            f"{judged.idle_gpu} % and at most {judged.idle_gpumem} % of their memory taken"
        )
    for name in ("users", "hosts", "commands", "accounts", "partitions"):
        excepted = getattr(judged, f"except_{name}")
        lines += [f"  but not: {name} {' '.join(excepted)}"] if excepted else []
    call.out.write("\n".join(lines) + "\n")
    if call.flag("job"):
        call.out.write(_verdict(call, judged))


def _verdict(call: Call, judged: Policy) -> str:
    from dataclasses import replace

    from sonar.report.judging import judge
    from sonar.report.slurm import slurm_jobs

    number = call.text("job")
    if not number.isdigit():
        raise UsageError(f"Invalid value for --job: {number!r} is no job number")
    survey = survey_of(call)
    loose = replace(
        judged, per="job", options={}, where=(), select_where=(), min_coverage=0, idle_gpu=101, idle_gpumem=100,
        except_users=(), except_hosts=(), except_commands=(), except_accounts=(), except_partitions=(),
    )  # fmt: skip
    slurm = slurm_jobs(survey)
    all_jobs = [one for one in judge(survey, [replace(loose, idle_s=0)], slurm)[judged.name] if one.id == int(number)]
    if not all_jobs:
        return f"\nThere is no job {number} in the data of the window.\n"
    found = judge(survey, [replace(judged, per="job")], slurm)[judged.name]
    reported = {(one.host, one.id, one.start): one for one in found}
    selected = replace(loose, options=judged.options, idle_s=0)
    chosen = {(one.host, one.id, one.start) for one in judge(survey, [selected], slurm)[judged.name]}
    lines = []
    for job in all_jobs:
        key = (job.host, job.id, job.start)
        one = reported.get(key, job)
        lines += ["", f"job {one.id} on {one.host}, user {one.user}, {one.cmd}"]
        lines.append(f"  {_yes(key in chosen)}  selected by the options")
        lines += [
            f"  {_yes(part.holds(one.measures))}  {part}{_values(part.measure, one)}"
            for part in (*judged.select_where, *judged.where)
        ]
        if judged.min_coverage:
            coverage = one.measures["coverage"] or 0
            lines.append(
                f"  {_yes(coverage >= judged.min_coverage)}  coverage {coverage:g} % of {judged.min_coverage} %"
            )
        lines.append(f"  {'reported' if key in reported else 'not reported'}")
        lines += [
            f"    {measure_text(name, value)}"
            for name in judged.fields
            if (value := one.measures.get(name)) is not None
        ]
    return "\n".join(lines) + "\n"


def _yes(holds: bool | None) -> str:  # noqa: FBT001 - a verdict
    return {True: "yes", False: "no ", None: "?  "}[holds]


def _values(name: str, one: "Offence") -> str:
    value = one.measures.get(name)
    return ", which is not known" if value is None else f", it is {value:g}"


_POLICY = Option("policy", "a policy, or a file with one; also as a bare word", metavar="NAME")
_POLICY_DIR = Option("policy-dir", "where a site's own policies are", OptionType.PATH, metavar="DIR")
_INTERVAL = Option("interval", "minutes between samples", metavar="MINUTES")
_FORMAT = Option("format", f"one of {', '.join(FORMATS)}", default="text", metavar="FORMAT")

REPORT = Report(
    "backtest",
    "List who a policy would have reported, and the difference to another",
    (
        CLUSTER,
        DATA,
        CONFIG,
        _POLICY,
        Option("against", "another policy, or version of it in a file", metavar="NAME"),
        _POLICY_DIR,
        FROM,
        TO,
        _INTERVAL,
        _FORMAT,
        NOW,
    ),
    _run,
    positional="policy",
)
EXPLAIN = Report(
    "explain",
    "Say what a policy looks at, and with --job how a job fares by it",
    (
        _POLICY,
        _POLICY_DIR,
        Option("job", "a job in the data of the window", metavar="N"),
        CLUSTER,
        DATA,
        CONFIG,
        FROM,
        TO,
        _INTERVAL,
        NOW,
    ),
    _explain,
    positional="policy",
)

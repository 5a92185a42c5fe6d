"""Judging: which jobs, or users, break a policy in a survey, by measures of jobs and of the GPUs they left idle."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from sonar.hosts import HostPatterns, compress
from sonar.report.policies import Policy
from sonar.times import HOUR

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.idle import IdleSpell
    from sonar.report.slurm import SlurmJob
    from sonar.report.survey import Survey
    from sonar.verbs.declare import Field

__all__ = ["EVERY_JOB", "Offence", "judge"]

EVERY_JOB = "*"  # stands for the host where a user is judged by all jobs together


@dataclass(frozen=True, slots=True)
class Offence:
    """One job, or one user's jobs, that break a policy: where, who, what, when, and the measures."""

    policy: str
    host: str
    id: int
    user: str
    cmd: str
    start: int
    end: int
    mark: str
    measures: Mapping[str, float | None]
    account: str = ""
    partition: str = ""


def judge(survey: "Survey", policies: Sequence[Policy], slurm: "Mapping[int, SlurmJob]") -> dict[str, list[Offence]]:
    """Return the offences by policy, each sorted by host, job and user. `slurm` has what Slurm tells, by job number.

    Jobs are asked for once; the policies then select from them, but for one that looks at part of the records only.
    """
    found = {}
    everyone = survey.jobs()
    for policy in policies:
        chosen = _chosen(survey, policy, everyone)
        idle = _idle(survey, policy, chosen)
        candidates = [_with_slurm(one, slurm) for one in _candidates(survey, policy, chosen, idle)]
        candidates = [one for one in candidates if not _is_excepted(policy, one)]
        if policy.per == "user":
            candidates = [one for one in candidates if all(part.holds(one.measures) for part in policy.select_where)]
            candidates = _per_user(policy, candidates, everyone)
        judged = [one for one in candidates if _breaks(policy, one)]
        found[policy.name] = sorted(judged, key=lambda one: (one.host, one.id, one.user, one.start))
    return found


def _chosen(survey: "Survey", policy: Policy, everyone: "pa.Table") -> "pa.Table":
    """Return the jobs that the policy's options select."""
    from sonar.verbs.jobs import chosen
    from sonar.verbs.parameters import FILTER_OPTIONS

    filters = {option.name for option in FILTER_OPTIONS} | {"batch"}
    if filters & set(policy.options):
        return survey.ask("jobs", {"user": ("-",), **policy.options}).rows
    return chosen(everyone, survey.query("jobs", policy.options))


def _candidates(
    survey: "Survey", policy: Policy, jobs: "pa.Table", idle: "Mapping[tuple[str, int], list[IdleSpell]]"
) -> Iterable[Offence]:
    """Yield each job with its measures."""
    columns = {field.name: _numbers(jobs, field) for field in _number_fields() if field.source in jobs.column_names}
    texts: dict[str, list[Any]] = {
        name: jobs.column(name).to_pylist() for name in ("job", "jobm", "user", "cmd", "host", "start", "end")
    }
    masks: list[Any] = jobs.column("gpus").to_pylist()
    samples: list[Any] = jobs.column("samples").to_pylist()
    for row in range(len(jobs)):
        measures: dict[str, float | None] = {name: values[row] for name, values in columns.items()}
        hosts, start, end = texts["host"][row], texts["start"][row], texts["end"][row]
        measures |= _job_measures(survey, measures, hosts, end - start, samples[row], masks[row])
        if policy.idle_s:
            own = [spell for host in hosts for spell in idle.get((host, texts["job"][row]), ())]
            spells = [spell for spell in own if start <= spell.start and spell.end <= end]
            if not spells:
                continue
            spell = max(spells, key=lambda spell: spell.length)
            measures |= {
                "idle": spell.length,
                "idle-gpu": round(spell.gpu, 1),
                "idle-gpumem": round(spell.gpumem, 1),
                "idle-cards": spell.cards,
            }
        mark = texts["jobm"][row].lstrip("0123456789")
        yield Offence(
            policy.name, compress(hosts), texts["job"][row], texts["user"][row], texts["cmd"][row], start, end, mark,
            measures,
        )  # fmt: skip


def _numbers(jobs: "pa.Table", field: "Field") -> list[Any]:
    """Return the values of a field as `sonalyze jobs` prints them: who gets a letter can compare."""
    from sonar.verbs.declare import Kind

    values: list[Any] = jobs.column(field.source).to_pylist()
    if field.kind is Kind.CEIL:
        return [None if value is None else ceil(value) for value in values]
    return values


def _number_fields() -> "list[Field]":
    from sonar import verbs
    from sonar.verbs.declare import Kind

    numbers = {Kind.INT, Kind.FLOAT, Kind.CEIL, Kind.ROUND, Kind.TRUNC}
    return [field for field in verbs.verb("jobs").fields if field.kind in numbers and field.name != "job"]


def _job_measures(
    survey: "Survey", row: Mapping[str, float | None], hosts: Sequence[str], duration: int, samples: int, mask: int
) -> dict[str, float | None]:
    from sonar.gpusets import UNKNOWN

    cards = None if mask == UNKNOWN else int(mask).bit_count() * len(hosts)
    cpu_avg, cpu_peak, gpu_avg, gpu_peak = (
        row.get(name) or 0 for name in ("cpu-avg", "cpu-peak", "gpu-avg", "gpu-peak")
    )
    cards_of = [survey.nodes[host].gpu_cards for host in hosts if host in survey.nodes]
    described = [survey.nodes[host].cpu_cores for host in hosts if host in survey.nodes]
    return {
        "duration": duration,
        "coverage": min(100.0, round(samples / (duration // survey.step_s + 1) * 100, 1)),
        "cores-avg": cpu_avg / 100,
        "cores-peak": cpu_peak / 100,
        "cores": sum(described) if len(described) == len(hosts) else None,
        "node-cards": sum(cards_of) if len(cards_of) == len(hosts) else None,
        "cards": cards,
        "card-avg": gpu_avg / cards if cards else None,
        "card-peak": gpu_peak / cards if cards else None,
        "card-hours": None if cards is None else round(cards * duration / HOUR, 2),
        "core-hours": round(cpu_avg / 100 * duration / HOUR, 2),
    }


def _with_slurm(one: Offence, slurm: "Mapping[int, SlurmJob]") -> Offence:
    """Return the job with what Slurm reserved for it, if it is Slurm's."""
    known = slurm.get(one.id)
    if known is None or (known.user and known.user not in one.user.split(",")):
        return one
    measures = dict(one.measures) | known.measures(one.measures)
    return replace(one, measures=measures, account=known.account, partition=known.partition)


def _is_excepted(policy: Policy, one: Offence) -> bool:
    patterns = HostPatterns.parse(policy.except_hosts) if policy.except_hosts else None
    return (
        not set(one.user.split(",")).isdisjoint(policy.except_users)
        or not set(one.cmd.split(",")).isdisjoint(policy.except_commands)
        or one.account in policy.except_accounts
        or one.partition in policy.except_partitions
        or (patterns is not None and all(patterns.match(host) for host in _hosts(one)))
    )


def _hosts(one: Offence) -> list[str]:
    from sonar.hosts import names_in

    return names_in(one.host)


def _per_user(policy: Policy, jobs: Sequence[Offence], everyone: "pa.Table") -> list[Offence]:
    """Return one entry a user, made of the user's jobs; its number is made from the name, so that it stays the same."""
    both: list[list[Any]] = [everyone.column(name).to_pylist() for name in ("cpu_avg", "duration")]
    cpu_total = sum(mean / 100 * length for mean, length in zip(*both, strict=True)) / HOUR
    card_total = sum(_card_seconds(everyone)) / HOUR
    by_user: dict[str, list[Offence]] = {}
    for job in jobs:
        by_user.setdefault(job.user, []).append(job)
    users = []
    for user, own in by_user.items():
        core_hours = sum(job.measures["core-hours"] or 0 for job in own)
        card_hours = sum(job.measures["card-hours"] or 0 for job in own)
        durations = sorted(job.measures["duration"] or 0 for job in own)
        measures: dict[str, float | None] = {
            "jobs": len(own),
            "core-hours": round(core_hours, 2),
            "card-hours": round(card_hours, 2),
            "duration": durations[len(durations) // 2],
            "coverage": min(job.measures["coverage"] or 0 for job in own),
            "share-cpu": round(core_hours / cpu_total * 100, 1) if cpu_total else None,
            "share-gpu": round(card_hours / card_total * 100, 1) if card_total else None,
            "hours-largest": round(max(core_hours, card_hours), 2),
        }
        shares = [share for share in (measures["share-cpu"], measures["share-gpu"]) if share is not None]
        measures["share-largest"] = max(shares, default=None)
        commands = sorted({command for job in own for command in job.cmd.split(",")})
        users.append(
            Offence(
                policy.name,
                EVERY_JOB,
                zlib.crc32(user.encode()),
                user,
                ",".join(commands[:5]),
                min(job.start for job in own),
                max(job.end for job in own),
                "",
                measures,
            )
        )
    return users


def _card_seconds(jobs: "pa.Table") -> list[int]:
    from sonar.gpusets import UNKNOWN

    columns: list[list[Any]] = [jobs.column(name).to_pylist() for name in ("gpus", "host", "duration")]
    return [
        0 if mask == UNKNOWN else int(mask).bit_count() * len(hosts) * duration
        for mask, hosts, duration in zip(*columns, strict=True)
    ]


def _breaks(policy: Policy, one: Offence) -> bool:
    coverage = one.measures.get("coverage")
    if policy.min_coverage and (coverage is None or coverage < policy.min_coverage):
        return False
    return all(condition.holds(one.measures) for condition in policy.where)


def _idle(survey: "Survey", policy: Policy, chosen: "pa.Table") -> "dict[tuple[str, int], list[IdleSpell]]":
    """Return the idle spells by host and job number, of the hosts on which a chosen job held cards."""
    from sonar.analysis.idle import idle_spells
    from sonar.analysis.merge import merged
    from sonar.analysis.samples import dense, samples_of
    from sonar.analysis.streams import clean_streams, selected

    if not policy.idle_s or not len(chosen):
        return {}
    with_cards: list[list[Any]] = [chosen.column(name).to_pylist() for name in ("host", "gpus")]
    hosts = sorted({host for names, mask in zip(*with_cards, strict=True) if mask for host in names})
    if not hosts:
        return {}
    found: dict[tuple[str, int], list[IdleSpell]] = {}
    query = survey.query("jobs", {"user": ("-",), "host": hosts})
    for host, table in query.scan.by_host():
        streams = selected(clean_streams(samples_of(table), query.nodes), query.filter, query.window)
        if not len(streams):
            continue
        group = dense(streams["job"], streams["epoch"])
        spells = idle_spells(
            merged(streams, group), policy.idle_s, survey.step_s, policy.idle_gpu, policy.idle_gpumem
        )  # fmt: skip
        job_of = dict(zip(group.tolist(), streams["job"].tolist(), strict=True))
        for number, spell in spells.items():
            found.setdefault((host, job_of[number]), []).append(spell)
    return found

"""Summaries of days become answers: jobs, and the load of hosts, as all samples together would give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sonar.analysis.buckets import QUANTITIES, Series, truncated
from sonar.analysis.jobs import AVERAGED, Jobs, WordSets
from sonar.analysis.merge import union_of_gpus
from sonar.analysis.samples import dense, ordered_by
from sonar.analysis.streams import GROWING, utilization
from sonar.analysis.summary import (
    CLOSED_HOST,
    CLOSED_STREAM,
    CONTEXT_DROPPED,
    CONTEXT_KEPT,
    HALF_HOUR,
    HEAD,
    PEAKS,
    STREAM_KEY,
    SUMMED,
    Columns,
    Summary,
    floats,
    joined_columns,
    normalized,
    stream_number,
    sums_of,
)

if TYPE_CHECKING:
    from sonar.analysis.select import RecordFilter

__all__ = [
    "Summaries",
    "filtered_summaries",
    "jobs_of_summaries",
    "joined_summaries",
    "load_of_summaries",
    "summaries_of",
]


@dataclass(frozen=True, slots=True)
class Summaries:
    """Summaries of hosts, each later than the one before, on one vocabulary; `host` is a code into `hosts`."""

    heads: Columns
    jobs: Columns
    slots: Columns
    words: dict[str, list[str]]
    hosts: list[str]


def summaries_of(parts: Sequence[tuple[str, Summary]]) -> Summaries:
    """Return the summaries of some hosts together; there is at least one."""
    hosts = sorted({host for host, _ in parts})
    host_code = {host: code for code, host in enumerate(hosts)}
    words = {
        name: sorted({word for _, part in parts for word in part.words[name]}, key=str.encode)
        for name in ("user", "cmd")
    }
    codes = {name: {word: code for code, word in enumerate(known)} for name, known in words.items()}
    tables: dict[str, list[Columns]] = {"heads": [], "jobs": [], "slots": []}
    for host, part in parts:
        place: Columns = {
            name: np.array([codes[name][word] for word in part.words[name]] or [0], np.int64)
            for name in ("user", "cmd")
        }
        for table, rows in (("heads", part.heads), ("jobs", part.jobs), ("slots", part.slots)):
            size = rows["gpus"].shape[0]
            coded: Columns = {name: place[name][rows[name]] for name in place if name in rows}
            if table == "jobs":  # only rows without a job number are of a stream
                coded = {name: np.where(rows["job"] == 0, values, 0) for name, values in coded.items()}
            tables[table].append(rows | coded | {"host": np.full(size, host_code[host])})
    joined = {name: joined_columns(found) for name, found in tables.items()}
    return Summaries(joined["heads"], joined["jobs"], joined["slots"], words, hosts)


def joined_summaries(parts: Sequence[tuple[Summaries, frozenset[str]]]) -> Summaries:
    """Return the summaries of some of the hosts of each part, on one vocabulary; there is at least one."""
    hosts = sorted({host for part, wanted in parts for host in part.hosts if host in wanted})
    words = {
        name: sorted({word for part, _ in parts for word in part.words[name]}, key=str.encode)
        for name in ("user", "cmd")
    }
    codes = {"host": {host: code for code, host in enumerate(hosts)}}
    codes |= {name: {word: code for code, word in enumerate(known)} for name, known in words.items()}
    tables: dict[str, list[Columns]] = {"heads": [], "jobs": [], "slots": []}
    for part, wanted in parts:
        place: Columns = {
            name: np.array([codes[name][word] for word in known] or [0], np.int64) for name, known in part.words.items()
        }
        place["host"] = np.array(
            [codes["host"][host] if host in wanted else -1 for host in part.hosts] or [0], np.int64
        )
        everything = wanted.issuperset(part.hosts)
        for table, rows in (("heads", part.heads), ("jobs", part.jobs), ("slots", part.slots)):
            coded: Columns = {name: place[name][rows[name]] for name in place if name in rows}
            if table == "jobs":
                coded |= {name: np.where(rows["job"] == 0, coded[name], 0) for name in ("user", "cmd")}
            joined = rows | coded
            if not everything:
                keep = coded["host"] >= 0
                joined = {name: values[..., keep] for name, values in joined.items()}
            tables[table].append(joined)
    found = {name: joined_columns(of_table) for name, of_table in tables.items()}
    return Summaries(found["heads"], found["jobs"], found["slots"], words, hosts)


def filtered_summaries(parts: Summaries, records: "RecordFilter") -> Summaries | None:
    """Return what a filter by user and job leaves; None if a job has samples of users who pass and of others."""
    heads, jobs = parts.heads, parts.jobs

    def passing(rows: Columns, *, users: bool) -> np.ndarray:
        keep = np.ones(len(rows["job"]), bool)
        if users:
            wanted = [
                (records.users is None or word in records.users) and word not in records.exclude_users
                for word in parts.words["user"]
            ]
            keep &= np.array(wanted or [True], bool)[rows["user"]]
        if records.jobs is not None:
            keep &= np.isin(rows["job"], list(records.jobs))
        if records.exclude_jobs:
            keep &= ~np.isin(rows["job"], list(records.exclude_jobs))
        return keep

    kept = passing(heads, users=True)
    keys = [np.concatenate([heads[name], jobs[name].astype(np.int64)]) for name in ("host", "job", "epoch")]
    group = dense(*keys)
    of_heads, of_jobs = group[: len(kept)], group[len(kept) :]
    good, bad = np.zeros(len(group) + 1, bool), np.zeros(len(group) + 1, bool)
    good[of_heads[kept]] = True
    bad[of_heads[~kept]] = True
    numbered = jobs["job"] != 0
    if np.any(good[of_jobs] & bad[of_jobs] & numbered):
        return None
    keep = np.where(numbered, good[of_jobs], passing(jobs, users=True)) & passing(jobs, users=False)
    return Summaries(
        {name: values[kept] for name, values in heads.items()},
        {name: values[..., keep] for name, values in jobs.items()},
        parts.slots,
        parts.words,
        parts.hosts,
    )


def _contributions(heads: Columns) -> tuple[Columns, np.ndarray]:
    """Return the rows sorted by stream and time, with `util` and `stream`, and which of them count."""
    number = stream_number(heads)
    order = ordered_by(number, heads["time"])
    rows = {name: values[order] for name, values in heads.items()}
    rows["stream"] = number[order]
    first = np.ones(len(order), bool)
    first[1:] = rows["stream"][1:] != rows["stream"][:-1]
    kind = rows["kind"]
    forced = np.where(kind == CONTEXT_KEPT, 1, np.where(kind == CONTEXT_DROPPED, 0, -1))
    util, kept = utilization(first, rows["time"], rows["cputime_s"], rows["cpu_pct"], forced)
    rows["util"] = util
    return rows, (kind == HEAD) & kept & (util >= 0)


def jobs_of_summaries(parts: Summaries) -> tuple[Jobs, np.ndarray]:
    """Return a row for each job of each host, and the host's code of each."""
    heads, counts = _contributions(parts.heads)
    jobs = parts.jobs
    of_stream = heads["job"] == 0
    key = {name: heads[name] for name in ("host", "job", "epoch")}
    key |= {name: np.where(of_stream, heads[name], 0).astype(np.int64) for name in STREAM_KEY[2:]}
    names = ("host", *STREAM_KEY)
    group = dense(*(np.concatenate([key[name], jobs[name].astype(np.int64)]) for name in names))
    size = len(of_stream)
    head_group, job_group = group[:size], group[size:]
    number = int(group.max()) + 1 if len(group) else 0

    # Steps to which heads add: their own part, and that of closed samples where there is one.
    at = np.flatnonzero(counts)
    is_open = np.flatnonzero(jobs["n"] == 0)
    added = {name: heads[name][at] for name in heads}
    sums = np.concatenate([sums_of(added, added["util"], added["gpu_pct"]), jobs["sums"][:, is_open]], axis=1)
    step_group = np.concatenate([head_group[at], job_group[is_open]])
    step_time = np.concatenate([added["time"], jobs["first"][is_open]])
    gpus = np.concatenate([added["gpus"], jobs["gpus"][is_open]])
    failed = np.concatenate([added["gpufail"], jobs["gpufail"][is_open]])
    order = ordered_by(step_group, step_time)
    step_group, step_time = step_group[order], step_time[order]
    new = np.ones(len(order), bool)
    new[1:] = (step_group[1:] != step_group[:-1]) | (step_time[1:] != step_time[:-1])
    starts = np.flatnonzero(new)
    closed = np.flatnonzero(jobs["n"] > 0)
    if len(starts):
        step_sums = normalized(np.add.reduceat(sums[:, order], starts, axis=1))
        step_gpus = union_of_gpus(gpus[order], starts)
        step_failed = np.maximum.reduceat(failed[order], starts)
    else:
        step_sums, step_gpus, step_failed = sums, gpus, failed

    # These steps, and the sums over the others.
    all_group = np.concatenate([step_group[starts], job_group[closed]])
    order = np.argsort(all_group, kind="stable")
    all_group = all_group[order]
    if len(order) == 0:
        return Jobs.of_nothing(), np.zeros(0, np.int64)
    runs = np.flatnonzero(np.append(True, all_group[1:] != all_group[:-1]))

    def reduced(function: np.ufunc, of_steps: np.ndarray, of_closed: np.ndarray) -> np.ndarray:
        both = np.concatenate([of_steps, of_closed], axis=-1)[..., order]
        result: np.ndarray = function.reduceat(both, runs, axis=-1)
        return result

    steps = reduced(np.add, np.ones(len(starts), np.int64), jobs["n"][closed])
    totals = floats(normalized(reduced(np.add, step_sums, jobs["sums"][:, closed])))
    peaks = reduced(np.maximum, floats(step_sums), jobs["peaks"][:, closed])
    all_gpus = np.concatenate([step_gpus, jobs["gpus"][closed]])[order]
    present = all_group[runs]
    representative = np.empty(number, np.int64)
    representative[group] = np.arange(len(group))
    rows = representative[present]
    whole_key = {
        name: np.concatenate([key[name], jobs[name].astype(np.int64)])[rows] for name in ("host", "job", "epoch")
    }

    counting = counts | ((heads["flags"] & CLOSED_STREAM) != 0)
    place = {name: position for position, name in enumerate(PEAKS)}
    return (
        Jobs(
            job=whole_key["job"],
            start=reduced(np.minimum, step_time[starts], jobs["first"][closed]),
            end=reduced(np.maximum, step_time[starts], jobs["last"][closed]),
            samples=steps,
            averages={name: totals[place[c]] / divisor / steps for name, (c, divisor) in AVERAGED.items()},
            peaks={name: np.maximum(peaks[place[c]] / divisor, 0.0) for name, (c, divisor) in AVERAGED.items()},
            gpus=union_of_gpus(all_gpus, runs),
            gpufail=reduced(np.maximum, step_failed, jobs["gpufail"][closed]).astype(np.int64),
            hosts=WordSets(whole_key["host"], [(host,) for host in parts.hosts]),
            users=WordSets.of_groups(head_group[counting], heads["user"][counting], parts.words["user"], present),
            commands=WordSets.of_groups(head_group[counting], heads["cmd"][counting], parts.words["cmd"], present),
            epoch=whole_key["epoch"],
            totals=dict.fromkeys(GROWING, np.zeros(len(runs))),
        ),
        whole_key["host"],
    )


def load_of_summaries(parts: Summaries, slot: int) -> Mapping[str, Series]:
    """Return the load of each host that has steps, as means over slots of so many seconds."""
    heads, counts = _contributions(parts.heads)
    slots = parts.slots
    at = np.flatnonzero(counts)
    added = {name: heads[name][at] for name in heads}
    # A step that only heads make counts once, with the first of these.
    order = np.lexsort((added["time"], added["host"]))
    added = {name: values[order] for name, values in added.items()}
    own_step = np.ones(len(order), bool)
    own_step[1:] = (added["host"][1:] != added["host"][:-1]) | (added["time"][1:] != added["time"][:-1])
    own_step &= (added["flags"] & CLOSED_HOST) == 0

    host = np.concatenate([added["host"], slots["host"]])
    start = truncated(np.concatenate([added["time"], slots["slot"] * HALF_HOUR]), slot)
    sums = np.concatenate([sums_of(added, added["util"], added["gpu_pct"]), slots["sums"]], axis=1)
    number = np.concatenate([own_step.astype(np.int64), slots["n"]])
    gpus = np.concatenate([added["gpus"], slots["gpus"]])
    order = np.lexsort((start, host))
    if len(order) == 0:
        return {}
    host, start = host[order], start[order]
    new = np.append(True, (host[1:] != host[:-1]) | (start[1:] != start[:-1]))
    starts = np.flatnonzero(new)
    steps = np.add.reduceat(number[order], starts)
    totals = floats(normalized(np.add.reduceat(sums[:, order], starts, axis=1)))
    union = union_of_gpus(gpus[order], starts)
    host, start = host[starts], start[starts]
    found = {}
    for code, name in enumerate(parts.hosts):
        rows = slice(*np.searchsorted(host, [code, code + 1]).tolist())
        if rows.start < rows.stop:
            values = {q: totals[PEAKS.index(q), rows] / steps[rows] for q in QUANTITIES}
            found[name] = Series(start[rows], values, union[rows])
    return found


assert set(QUANTITIES) <= set(PEAKS) <= set(SUMMED)

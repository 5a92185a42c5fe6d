"""Summaries of days become answers: jobs, and the load of hosts, as all samples together would give them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sonar.analysis.buckets import QUANTITIES, Series, truncated
from sonar.analysis.exact import PEAKS, SUMMED, Columns, floats, joined_columns, normalized, sums_of
from sonar.analysis.jobs import AVERAGED, Jobs, combined_jobs
from sonar.analysis.merge import union_of_gpus
from sonar.analysis.samples import dense, ordered_by
from sonar.analysis.streams import GROWING, utilization
from sonar.analysis.summary import (
    BRIEF,
    CLOSED_HOST,
    CLOSED_STREAM,
    CONTEXT_DROPPED,
    CONTEXT_KEPT,
    HALF_HOUR,
    HEAD,
    STREAM_KEY,
    Summaries,
    stream_number,
)
from sonar.analysis.wordsets import WordSets, joined_texts, words_of

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.analysis.select import RecordFilter

__all__ = ["Part", "jobs_of_parts", "load_of_parts", "passing_jobs", "together"]

_K = TypeVar("_K")

_JOB_KEY = ("host", *STREAM_KEY)
_SETS = {"users": "user", "cmds": "cmd"}
_PLACE = {name: place for place, name in enumerate(PEAKS)}


@dataclass(frozen=True, slots=True)
class Part:
    """Summaries of which some hosts count.

    `every` gives those of some hosts with details of every job, `full` those with heads that are not brief too.
    """

    summaries: Summaries
    hosts: frozenset[str]
    every: "Callable[[frozenset[str]], Summaries] | None" = None
    full: "Callable[[frozenset[str]], Summaries] | None" = None


def passing_jobs(texts: list[str], users: np.ndarray, job: np.ndarray, records: "RecordFilter") -> np.ndarray | None:
    """Return the rows of jobs that pass a filter by user and job; None if one has users who do and others.

    `users` are codes into the texts of sets of users.
    """

    def passes(user: str) -> bool:
        return (records.users is None or user in records.users) and user not in records.exclude_users

    sets = [words_of(text) for text in texts]
    several = [at for at, of_set in enumerate(sets) if len(of_set) > 1 and len(set(map(passes, of_set))) > 1]
    if several and np.isin(users, several).any():
        return None
    keep: np.ndarray = np.array([passes(of_set[0]) for of_set in sets] or [True])[users]
    if records.jobs is not None:
        keep = keep & np.isin(job, list(records.jobs))
    if records.exclude_jobs:
        keep = keep & ~np.isin(job, list(records.exclude_jobs))
    return np.flatnonzero(keep)


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """Hosts, words and sets of words of some parts, and the code of each; those of hosts and words ascend by byte."""

    hosts: dict[str, int]
    words: dict[str, dict[str, int]]
    sets: "dict[str, pa.Array[Any]]"
    places: dict[str, list[np.ndarray]]  # of the sets of each part

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "_Vocabulary":
        """Return that of some parts."""
        hosts = sorted({host for part in parts for host in part.hosts})
        words: dict[str, dict[str, int]] = {}
        sets, places = {}, {}
        for name in ("user", "cmd"):
            known = {word for part in parts for word in part.summaries.words[name]}
            words[name] = {word: code for code, word in enumerate(sorted(known, key=str.encode))}
            known_sets = [part.summaries.sets[name] for part in parts if part.summaries.sets]
            sets[name], places[name] = joined_texts(known_sets)
        return cls({host: code for code, host in enumerate(hosts)}, words, sets, places)

    def rows(self, parts: Sequence[Part], table: str) -> Columns:
        """Return the rows of a table of all parts, and of which part each is."""
        found = []
        for number, part in enumerate(parts):
            rows: Columns = getattr(part.summaries, table)
            if not rows:
                continue
            host = _codes(self.hosts, part.summaries.hosts, part.hosts)[rows["host"]]
            coded: Columns = {"host": host, "part": np.full(len(host), number)}
            for name in ("user", "cmd"):
                if name in rows:
                    coded[name] = _codes(self.words[name], part.summaries.words[name])[rows[name]]
                    if table != "heads":  # only rows without a job number are of a stream
                        coded[name] = np.where(rows["job"] == 0, coded[name], 0)
            for column, name in _SETS.items():
                if column in rows:
                    coded[column] = self.places[name][number][rows[column]]
            joined = rows | coded
            if not part.hosts.issuperset(part.summaries.hosts):
                keep = host >= 0
                if not keep.all():
                    joined = {name: values[..., keep] for name, values in joined.items()}
            found.append(joined)
        return joined_columns(found) if found else {}


def together(found: Sequence[Summaries]) -> Summaries:
    """Return the summaries of different hosts as one, without runs and extents."""
    parts = [Part(one, frozenset(one.hosts)) for one in found]
    vocabulary = _Vocabulary.of(parts)
    tables = {}
    for name in ("jobs", "heads", "parts", "slots"):
        tables[name] = vocabulary.rows(parts, name)
        tables[name].pop("part", None)
    others = [
        Part(replace(one, heads=one.others[0], parts=one.others[1]), frozenset(one.hosts))
        for one in found
        if one.others
    ]
    apart = vocabulary.rows(others, "heads"), vocabulary.rows(others, "parts")
    for rows in apart:
        rows.pop("part", None)
    words = {name: list(known) for name, known in vocabulary.words.items()}
    return Summaries(
        list(vocabulary.hosts), words, vocabulary.sets, **tables, runs={}, extents={}, others=apart if others else None
    )


def _codes(known: "Mapping[_K, int]", members: "Sequence[_K]", wanted: "frozenset[_K] | None" = None) -> np.ndarray:
    """Return the code of each member; -1 of what is not wanted."""
    codes = [known[one] if wanted is None or one in wanted else -1 for one in members]
    return np.array(codes or [0], np.int64)


def jobs_of_parts(parts: Sequence[Part]) -> Jobs:
    """Return a row for each job of each host. Of a host, each part is later than the one before."""
    given = [part for part in parts if part.summaries.jobs and part.hosts]
    parts, origin = list(given), list(range(len(given)))
    vocabulary = _Vocabulary.of(parts)
    jobs = vocabulary.rows(parts, "jobs")
    if not jobs or len(jobs["job"]) == 0:
        return Jobs.of_nothing()
    number = dense(*(jobs[name] for name in _JOB_KEY))
    alone = (np.bincount(number)[number] == 1) & jobs["whole"]
    lacking = ~alone & ~jobs["detailed"]
    names = list(vocabulary.hosts)
    if lacking.any():
        for at in np.unique(jobs["part"][lacking]).tolist():
            hosts = frozenset(names[code] for code in set(jobs["host"][lacking & (jobs["part"] == at)].tolist()))
            part = parts[at]
            assert part.every is not None
            parts[at] = replace(part, hosts=part.hosts - hosts)
            parts.append(Part(part.every(hosts), hosts))
            origin.append(at)
    whole = np.flatnonzero(alone & (jobs["n"] > 0))
    found = _jobs_alone({name: values[..., whole] for name, values in jobs.items()}, names, vocabulary.sets)
    if alone.all():
        return found
    heads, steps = vocabulary.rows(parts, "heads"), vocabulary.rows(parts, "parts")
    key = {name: heads[name] for name in ("host", "job", "epoch")}
    of_stream = heads["job"] == 0
    key |= {name: np.where(of_stream, heads[name], 0).astype(np.int64) for name in STREAM_KEY[2:]}
    of_tables = [{name: jobs[name][~alone] for name in _JOB_KEY}, key, steps]
    group = dense(*(np.concatenate([table[name].astype(np.int64) for table in of_tables]) for name in _JOB_KEY))
    wanted, of_heads, of_steps = np.split(group, np.cumsum([len(table["job"]) for table in of_tables[:2]]))
    goes_on = np.zeros(int(group.max()) + 1, bool)
    goes_on[wanted] = True
    del parts, jobs, key, of_tables, group, of_stream  # months of them take much memory
    heads = {name: values[goes_on[of_heads]] for name, values in (heads | {"of": of_heads}).items()}
    steps = {name: values[..., goes_on[of_steps]] for name, values in (steps | {"of": of_steps}).items()}
    heads, counts, begins_anew = _contributions(heads)
    if begins_anew.any():
        heads["part"] = np.array(origin)[heads["part"]]
        return jobs_of_parts(_in_full(given, heads, begins_anew, names))
    return combined_jobs([found, _jobs_of_details(heads, counts, steps, vocabulary)], ())


def _jobs_alone(jobs: Columns, hosts: list[str], sets: "dict[str, pa.Array[Any]]") -> Jobs:
    """Return the jobs that rows of summaries tell all of."""
    sums, steps = floats(jobs["sums"]), jobs["n"]
    none = np.zeros(len(steps))
    return Jobs(
        job=jobs["job"],
        start=jobs["first"],
        end=jobs["last"],
        samples=steps,
        averages={name: sums[_PLACE[c]] / divisor / steps for name, (c, divisor) in AVERAGED.items()},
        peaks={name: np.maximum(jobs["peaks"][_PLACE[c]] / divisor, 0.0) for name, (c, divisor) in AVERAGED.items()},
        gpus=jobs["gpus"],
        gpufail=jobs["gpufail"].astype(np.int64),
        hosts=WordSets.of_words(jobs["host"], hosts),
        users=WordSets(jobs["users"], sets["user"]),
        commands=WordSets(jobs["cmds"], sets["cmd"]),
        epoch=jobs["epoch"],
        totals=dict.fromkeys(GROWING, none),
    )


def _in_full(parts: Sequence[Part], heads: Columns, begins_anew: np.ndarray, hosts: list[str]) -> list[Part]:
    """Return parts of which those of some hosts, which have such heads, are no longer brief."""
    found = list(parts)
    for at in np.unique(heads["part"][begins_anew]).tolist():
        of_part = heads["host"][begins_anew & (heads["part"] == at)]
        some = frozenset(hosts[code] for code in set(of_part.tolist()))
        part = parts[at]
        assert part.full is not None
        found[at] = replace(part, hosts=part.hosts - some)
        found.append(Part(part.full(some), some))
    return found


def _contributions(heads: Columns) -> tuple[Columns, np.ndarray, np.ndarray]:
    """Return the rows sorted by stream and time, with `util` and `stream`, which of them count, and which begin anew.

    These are brief ones that do not count, since the counter was higher before: what follows them is not known.
    """
    number = stream_number(heads)
    order = ordered_by(number, heads["time"])
    rows = {name: values[order] for name, values in heads.items()}
    rows["stream"] = number[order]
    is_brief = (rows["flags"] & BRIEF) != 0
    first = np.ones(len(order), bool)
    first[1:] = rows["stream"][1:] != rows["stream"][:-1]
    before = np.arange(len(order)) - 1
    used = np.where(first, 0.0, rows["used"][before])
    elapsed = np.where(first, 1, rows["time"] - rows["until"][before])
    kept = rows["cputime_s"] >= used
    rows["util"] = np.where(first, rows["cpu_pct"], (rows["cputime_s"] - used) / elapsed * 100)
    kept |= first
    if not is_brief.all():
        others = np.zeros(int(number.max()) + 1, bool)
        others[rows["stream"][~is_brief]] = True
        at = np.flatnonzero(others[rows["stream"]])
        rows["util"][at], kept[at] = _one_by_one({name: values[at] for name, values in rows.items()}, is_brief[at])
    return rows, (rows["kind"] == HEAD) & kept & (rows["util"] >= 0), is_brief & ~kept


def _one_by_one(rows: Columns, is_brief: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return utilization, and which are kept, of rows sorted by stream and time of which not all are brief."""
    kind = rows["kind"]
    forced = np.where(kind == CONTEXT_KEPT, 1, np.where(kind == CONTEXT_DROPPED, 0, -1))
    brief = np.flatnonzero(is_brief & (rows["until"] > rows["time"]))
    place = np.concatenate([np.arange(len(kind)), brief])  # with the end of each brief one as a row of its own
    order = np.argsort(place, kind="stable")

    def both(values: np.ndarray, of_ends: np.ndarray) -> np.ndarray:
        return np.concatenate([values, of_ends])[order]

    stream = rows["stream"][place][order]
    first = np.ones(len(order), bool)
    first[1:] = stream[1:] != stream[:-1]
    util, kept = utilization(
        first,
        both(rows["time"], rows["until"][brief]),
        both(rows["cputime_s"], rows["used"][brief]),
        rows["cpu_pct"][place][order],
        both(forced, np.ones(len(brief), np.int64)),
    )
    own = order < len(kind)
    return util[own], kept[own]


def _jobs_of_details(heads: Columns, counts: np.ndarray, jobs: Columns, vocabulary: _Vocabulary) -> Jobs:
    """Return a row for each job of which there are heads, or sums of other steps (`jobs`), by the number in `of`."""
    head_group, job_group = heads["of"], jobs["of"]
    group = np.concatenate([head_group, job_group])
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
        return Jobs.of_nothing()
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
        name: np.concatenate([heads[name], jobs[name].astype(np.int64)])[rows] for name in ("host", "job", "epoch")
    }

    counting = counts | ((heads["flags"] & CLOSED_STREAM) != 0)
    words = {name: list(known) for name, known in vocabulary.words.items()}
    return Jobs(
        job=whole_key["job"],
        start=reduced(np.minimum, step_time[starts], jobs["first"][closed]),
        end=reduced(np.maximum, step_time[starts], jobs["last"][closed]),
        samples=steps,
        averages={name: totals[_PLACE[c]] / divisor / steps for name, (c, divisor) in AVERAGED.items()},
        peaks={name: np.maximum(peaks[_PLACE[c]] / divisor, 0.0) for name, (c, divisor) in AVERAGED.items()},
        gpus=union_of_gpus(all_gpus, runs),
        gpufail=reduced(np.maximum, step_failed, jobs["gpufail"][closed]).astype(np.int64),
        hosts=WordSets.of_words(whole_key["host"], list(vocabulary.hosts)),
        users=WordSets.of_groups(head_group[counting], heads["user"][counting], words["user"], present),
        commands=WordSets.of_groups(head_group[counting], heads["cmd"][counting], words["cmd"], present),
        epoch=whole_key["epoch"],
        totals=dict.fromkeys(GROWING, np.zeros(len(runs))),
    )


def load_of_parts(parts: Sequence[Part], slot: int) -> Mapping[str, Series]:
    """Return the load of each host that has steps, as means over slots of so many seconds."""
    vocabulary = _Vocabulary.of(parts)
    heads, slots = vocabulary.rows(parts, "heads"), vocabulary.rows(parts, "slots")
    if not heads:
        return {}
    heads, counts, begins_anew = _contributions(heads)
    if begins_anew.any():
        return load_of_parts(_in_full(parts, heads, begins_anew, list(vocabulary.hosts)), slot)
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
    for code, name in enumerate(vocabulary.hosts):
        rows = slice(*np.searchsorted(host, [code, code + 1]).tolist())
        if rows.start < rows.stop:
            values = {q: totals[PEAKS.index(q), rows] / steps[rows] for q in QUANTITIES}
            found[name] = Series(start[rows], values, union[rows])
    return found


assert set(QUANTITIES) <= set(PEAKS) <= set(SUMMED)

"""Summaries of days combine to what all samples together give: for counters that fall, streams that pause, one row."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest

from sonar.analysis.buckets import folded, series_of
from sonar.analysis.combine import Part, jobs_of_parts, load_of_parts
from sonar.analysis.jobs import AVERAGED, Jobs, jobs_of_host
from sonar.analysis.merge import merged
from sonar.analysis.rounding import settled
from sonar.analysis.samples import Samples, samples_of
from sonar.analysis.select import RecordFilter
from sonar.analysis.streams import clean_streams, selected
from sonar.analysis.summary import Details, Summaries, summarized
from sonar.read.rows import Rows
from sonar.verbs.query import Window

BASE = 1_709_337_600  # a midnight
EVERYTHING = RecordFilter(exclude_commands=frozenset({"bash"}))


def history(chance: Random) -> list[dict[str, Any]]:
    """Return samples of one host in order of time: a run every five minutes over some days, at times none."""
    streams: list[dict[str, Any]] = [
        {
            "user": chance.choice(["ann", "bob", "eve"]),
            "cmd": chance.choice(["sim", "post", "bash"]),
            "job": chance.choice([0, 7, 7, 8, 9]),
            "epoch": chance.choice([None, 0, 5]),
            "pid": chance.choice([0, number + 1]),
            "ppid": number,
            "rolledup": chance.choice([0, 0, 3]),
            "alive": (chance.randint(0, 40), chance.randint(0, 60)),
            "used": chance.randint(0, 500),
        }
        for number in range(chance.randint(1, 12))
    ]
    rows, time = [], BASE + chance.randint(0, 80_000)
    for run in range(chance.randint(1, 60)):
        time += chance.choice([300, 301, 307, 7200, 40_000]) if chance.random() < 0.4 else 300
        for stream in streams:
            first, last = stream["alive"]
            if not first <= run <= last or chance.random() < 0.15:
                continue
            stream["used"] = max(0, stream["used"] + chance.choice([0, 17, 299, 1200, -3, -400]))
            rows.append(
                {name: stream[name] for name in ("user", "cmd", "job", "epoch", "pid", "ppid", "rolledup")}
                | {
                    "version": "0.9.0", "host": "n1", "time": time, "cputime_s": float(stream["used"]),
                    "cpu_pct": chance.choice([0.0, 33.3, 99.9, float("nan"), -1.0]),
                    "cpu_kib": float(chance.randint(0, 1 << 22)), "rss_kib": float(chance.randint(0, 1 << 21)),
                    "gpu_pct": chance.choice([0.0, 0.1, 66.7]), "gpu_kib": float(chance.randint(0, 99)),
                    "gpus": chance.choice([0, 1, 6, 1 << 63]), "gpufail": int(chance.random() < 0.05),
                    "threads": chance.randint(0, 4),
                }
            )  # fmt: skip
            if chance.random() < 0.05:
                rows.append(rows[-1] | {"cputime_s": 0.0})
    return rows


def samples(rows: list[dict[str, Any]]) -> Samples:
    made = Rows()
    for row in rows:
        made.add(row)
    return samples_of(made.table())


def parts_of(
    rows: list[dict[str, Any]], cuts: list[int], window: Window, brief: list[bool], *, jobs: bool = True
) -> list[Part]:
    """Return summaries of the rows, cut into parts before some instants, some of them in brief."""
    found: list[Part] = []
    for first, last in zip([0, *cuts], [*cuts, 1 << 60], strict=True):
        if part := [row for row in rows if first <= row["time"] < last]:

            def summary(part: list[dict[str, Any]], brief: bool, details: Details, _hosts: frozenset[str]) -> Summaries:
                made = summarized(samples(part), EVERYTHING, window, jobs=jobs, details=details, brief=brief)
                assert made is not None
                return made

            host, is_brief = frozenset({"n1"}), brief[len(found)]
            every, full = (partial(summary, part, is_so, Details.ALL) for is_so in (is_brief, False))

            def details(hosts: frozenset[str], every: Callable[[frozenset[str]], Summaries] = every) -> Summaries:
                return replace(every(hosts), jobs={})  # as roll-ups have them

            found.append(Part(summary(part, is_brief, Details.EDGES, host), host, details, full))
    return found


def as_rows(jobs: Jobs) -> list[Any]:
    numbers = [np.ceil(settled(values[name])) for values in (jobs.averages, jobs.peaks) for name in AVERAGED]
    columns = [jobs.job, jobs.start, jobs.end, jobs.samples, *numbers, jobs.gpus, jobs.gpufail, jobs.epoch]
    texts = [list(jobs.hosts), list(jobs.users), list(jobs.commands)]
    return sorted(zip(*(column.tolist() for column in columns), *texts, strict=True))


@pytest.mark.parametrize("seed", range(150))
def test_parts_give_the_whole(seed: int) -> None:
    chance = Random(seed)
    rows = history(chance)
    if not rows:
        return
    times = sorted({row["time"] for row in rows})
    cuts = sorted(chance.sample(times, chance.randint(0, min(len(times), 5))))
    window = Window(times[0], times[-1])
    if chance.random() < 0.4:
        window = Window(*sorted((chance.choice(times), chance.choice(times))))
    streams = selected(clean_streams(samples(rows)), EVERYTHING, window)

    brief = [chance.random() < 0.7 for _ in range(6)]
    parts = parts_of(rows, cuts, window, brief)

    own, shared = jobs_of_host(streams)
    jobs = jobs_of_parts(parts)
    is_own = (jobs.epoch != 0) | (jobs.job == 0)
    assert as_rows(jobs.take(is_own)) == as_rows(own)
    assert sorted(set(shared["job"].tolist())) == sorted(jobs.job[~is_own].tolist())
    load = load_of_parts(parts_of(rows, cuts, window, brief, jobs=False), 3600)
    if len(streams) == 0:
        assert load == {}
        return
    expected = folded(series_of(merged(streams, streams["stream"] * 0)), 3600)
    assert load["n1"].time.tolist() == expected.time.tolist()
    assert load["n1"].gpus.tolist() == expected.gpus.tolist()
    for name, values in expected.values.items():
        assert np.allclose(load["n1"].values[name], values, rtol=1e-12, atol=1e-10), name


@pytest.mark.parametrize("seed", range(40))
def test_it_does_not_matter_where_days_end(seed: int) -> None:
    """To the last bit; brief or not."""
    chance = Random(seed)
    rows = history(chance)
    if not rows:
        return
    times = sorted({row["time"] for row in rows})
    window = Window(times[0], times[-1])

    answers = []
    for _ in range(2):
        cuts = sorted(chance.sample(times, chance.randint(0, min(len(times), 5))))
        brief = [chance.random() < 0.7 for _ in range(6)]
        parts = parts_of(rows, cuts, window, brief)
        jobs = jobs_of_parts(parts)
        load = load_of_parts(parts_of(rows, cuts, window, brief, jobs=False), 86400)
        unrounded = [values[name].tolist() for values in (jobs.averages, jobs.peaks) for name in sorted(values)]
        of_jobs = sorted(zip(jobs.job.tolist(), jobs.start.tolist(), *unrounded, strict=True))
        answers.append(
            [
                of_jobs,
                as_rows(jobs),
                [[s.time.tolist(), [v.tolist() for v in s.values.values()]] for s in load.values()],
            ]
        )

    assert answers[0] == answers[1]


def test_what_cannot_be_summarized() -> None:
    row = {"version": "0.9.0", "host": "n1", "user": "ann", "cmd": "sim", "time": BASE, "pid": 1}
    window = Window(BASE, BASE + 1000)

    assert summarized(samples([row, row | {"time": BASE + 61}]), EVERYTHING, window, jobs=True) is not None
    assert summarized(samples([row, row | {"time": BASE + 60}]), EVERYTHING, window, jobs=True) is None
    assert summarized(samples([row | {"version": "0.6.0"}]), EVERYTHING, window, jobs=True) is None
    assert summarized(samples([row | {"cpu_kib": 0.5}]), EVERYTHING, window, jobs=True) is None
    assert summarized(samples([row | {"cpu_kib": 1e15}]), EVERYTHING, window, jobs=True) is None

"""The columnar analysis against the rules applied record by record, on random streams."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.analysis.merge import merged
from sonar.analysis.samples import samples_of
from sonar.analysis.streams import clean_streams, with_growth
from sonar.read.rows import DEFAULTS, Rows, empty_table

from tests.analysis import naive

START = 1_700_000_000


def table(samples: list[dict[str, Any]]) -> pa.Table:
    rows = Rows()
    for sample in samples:
        rows.add({"version": "0.12.1", "host": "n1", "user": "u", "cmd": "c", **sample})
    return rows.table()


@st.composite
def runs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Streams at some interval with jitter: resets, duplicates, several hosts, jobs and commands."""
    interval = draw(st.sampled_from([3, 8, 12, 30, 60, 61, 300]))
    samples = []
    for _ in range(draw(st.integers(1, 6))):
        identity = {
            "host": draw(st.sampled_from(["n1", "n2"])),
            "job": draw(st.sampled_from([0, 5, 6])),
            "pid": draw(st.sampled_from([0, 11, 12])),
            "ppid": draw(st.sampled_from([1, 2])),
            "cmd": draw(st.sampled_from(["a", "b"])),
            "rolledup": draw(st.sampled_from([0, 0, 2])),
        }
        time, used = START + draw(st.integers(0, 100)), draw(st.integers(0, 500))
        for _ in range(draw(st.integers(1, 8))):
            samples.append(
                {**identity, "time": time, "cputime_s": float(used), "cpu_pct": float(draw(st.integers(-1, 300)))}
                | {"cpu_kib": float(draw(st.integers(0, 5000))), "gpus": draw(st.sampled_from([0, 1, 6, 1 << 63]))}
            )
            time += draw(st.sampled_from([0, 1, interval, interval, interval, 2 * interval])) + draw(st.integers(0, 12))
            used = max(used + draw(st.integers(-200, 400)), 0)
    return draw(st.permutations(samples))


def stream_of(sample: dict[str, Any]) -> tuple[Any, ...]:
    group = sample["rolledup"] > 0 or sample["pid"] == 0
    return (sample["host"], sample["job"], sample["cmd"], group, sample["ppid" if group else "pid"])


def full(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [DEFAULTS | {"version": "0.12.1", "host": "n1", "user": "u", "cmd": "c"} | sample for sample in samples]


@settings(max_examples=300, deadline=None)
@given(runs())
def test_streams_are_those_of_the_rules(samples: list[dict[str, Any]]) -> None:
    expected = [
        (sample["time"], sample["util"], sample["cmd"])
        for stream in naive.clean(full(samples))
        for sample in stream.samples
    ]

    streams = clean_streams(samples_of(table(samples)))

    assert list(zip(streams["time"].tolist(), streams["util"].tolist(), streams.texts("cmd"), strict=True)) == expected


@settings(max_examples=150, deadline=None)
@given(runs())
def test_what_counters_grow_by_is_summed_sample_by_sample(samples: list[dict[str, Any]]) -> None:
    of_host = [sample for sample in samples if sample["host"] == "n1"]
    cleaned = naive.clean(full(of_host))
    beginning = min((sample["time"] for stream in cleaned for sample in stream.samples), default=0)
    expected = []
    for stream in cleaned:
        seen = None
        for sample in stream.samples:
            if seen is None:
                seen = sample["cputime_s"] if sample["time"] == beginning else 0.0
            expected.append(max(sample["cputime_s"] - seen, 0.0))
            seen = sample["cputime_s"]

    streams = with_growth(clean_streams(samples_of(table(of_host))))

    assert streams["cputime_s_added"].tolist() == expected


@settings(max_examples=300, deadline=None)
@given(runs(), st.sampled_from(["host", "job", "all"]))
def test_steps_are_those_of_the_rules(samples: list[dict[str, Any]], by: str) -> None:
    streams = clean_streams(samples_of(table(samples)))
    group = streams[by] if by != "all" else np.zeros(len(streams), np.int64)
    expected = []
    for number in sorted(set(group.tolist())):
        of_group = streams.take(group == number)
        lists = [
            [
                {"time": int(t), "util": float(u), "kib": float(k), "rolledup": int(r), "gpus": int(g)}
                for t, u, k, r, g in zip(
                    *(of_group[name][of_group["stream"] == stream] for name in
                      ("time", "util", "cpu_kib", "rolledup", "gpus")), strict=True)
            ]
            for stream in sorted(set(of_group["stream"].tolist()))
        ]  # fmt: skip
        expected += [(number, time, taken) for time, taken in naive.merge(lists)]

    steps = merged(streams, group)

    assert list(zip(steps.group.tolist(), steps.time.tolist(), strict=True)) == [(g, t) for g, t, _ in expected]
    for at, (_, _, taken) in enumerate(expected):
        assert naive.close(steps["util"][at], sum(sample["util"] for sample in taken))
        assert steps["cpu_kib"][at] == sum(sample["kib"] for sample in taken)
        assert steps["rolledup"][at] == sum(sample["rolledup"] + 1 for sample in taken) - 1
        union = 0
        for sample in taken:
            union |= sample["gpus"]
        assert int(steps["gpus"][at]) == min(union, 1 << 63)


@settings(max_examples=100, deadline=None)
@given(runs(), st.randoms())
def test_reading_order_matters_only_between_equal_instants(samples: list[dict[str, Any]], chance: Any) -> None:
    distinct = list({(stream_of(sample), sample["time"]): sample for sample in samples}.values())
    shuffled = list(distinct)
    chance.shuffle(shuffled)

    one, two = (clean_streams(samples_of(table(order))) for order in (distinct, shuffled))

    for column in ("time", "util", "stream", "cpu_kib"):
        assert one[column].tolist() == two[column].tolist()


def test_no_samples_give_no_streams_and_no_steps() -> None:
    streams = clean_streams(samples_of(empty_table()))

    assert len(streams) == 0
    assert len(merged(streams, streams["stream"])) == 0


def test_a_negative_or_missing_quantity_counts_as_nothing() -> None:
    sample = {"time": START, "pid": 7, "job": 7, "cpu_kib": float("nan"), "gpu_pct": -5.0, "rss_kib": 9.0}

    streams = clean_streams(samples_of(table([sample])))

    assert [streams[name].tolist() for name in ("cpu_kib", "gpu_pct", "rss_kib")] == [[0.0], [0.0], [9.0]]


def test_two_jobs_without_process_numbers_are_two_streams() -> None:
    samples = [
        {"time": START + 300 * at, "user": user, "job": job, "cmd": "python", "cputime_s": float(300 * at)}
        for job, user in ((11, "ann"), (22, "bob"))
        for at in range(3)
    ]

    streams = clean_streams(samples_of(table(samples)))

    assert sorted(set(streams["job"].tolist())) == [11, 22]
    assert streams["util"].tolist() == [0.0, 100.0, 100.0] * 2


def test_samplers_without_cpu_time_keep_their_own_percentage() -> None:
    old = [
        {"version": "0.6.0", "time": START + 300 * at, "pid": 601, "job": 601, "cpu_pct": 30.0 + 10 * at}
        for at in (0, 1)
    ]
    new = [{**sample, "version": "0.7.0", "pid": 602} for sample in old]

    assert clean_streams(samples_of(table(old)))["util"].tolist() == [30.0, 40.0]
    assert clean_streams(samples_of(table(new)))["util"].tolist() == [30.0, 0.0]


def test_gpu_memory_follows_the_reading_that_the_node_prefers() -> None:
    from sonar.config.nodes import Node

    sample = {"time": START, "pid": 1, "job": 1, "gpumem_pct": 50.0, "gpu_kib": float(4 << 20)}
    by_percent = {"n1": Node("n1", "", 8, 64, 2, 22, gpumem_pct=True)}
    by_size = {"n1": Node("n1", "", 8, 64, 2, 22)}

    percent = clean_streams(samples_of(table([sample])), by_percent)
    size = clean_streams(samples_of(table([sample])), by_size)

    assert percent["gpu_kib"].tolist() == [5.5 * (1 << 20)]
    assert round(float(size["gpumem_pct"][0]), 3) == 36.364

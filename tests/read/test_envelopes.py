"""Sample envelopes: mapping, defaults, and what one bad message may cost."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.gpusets import UNKNOWN
from sonar.read.envelopes import read_envelopes
from sonar.read.rows import Rows


def read(data: str | bytes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    rows, dropped = Rows(), Counter[str]()
    read_envelopes(data if isinstance(data, bytes) else data.encode(), rows, dropped)
    return rows.table().to_pylist(), dict(dropped)


def envelope(version: str = "0.18.0", **attributes: Any) -> dict[str, Any]:
    known = {"time": "2024-03-01T11:00:00+01:00", "node": "n1", "jobs": [job(500)]}
    return {"meta": {"version": version}, "data": {"type": "sample", "attributes": known | attributes}}


def job(number: int, **process: Any) -> dict[str, Any]:
    return {"job": number, "user": "ann", "processes": [{"cmd": "py", "pid": 70, **process}]}


def test_a_process_is_one_row() -> None:
    system = {"cpus": [1, 2, 3, 4], "gpus": [{"uuid": "A"}, {"index": 1, "uuid": "B", "failing": 1}]}
    process = {
        "virtual_memory": 1048576, "resident_memory": 524288, "num_threads": 3, "cpu_avg": 150.5, "cpu_util": 88,
        "cpu_time": 300, "data_read": 2097152, "rolledup": 1, "in_container": True,
        "gpus": [{"uuid": "A", "gpu_util": 50, "gpu_memory": 1048576, "gpu_memory_util": 10},
                 {"index": 1, "uuid": "B", "gpu_util": 25, "gpu_memory": 524288, "gpu_memory_util": 5}],
    }  # fmt: skip

    (row,), dropped = read(json.dumps(envelope(system=system, jobs=[job(500, **process)])))

    assert dropped == {}
    assert (row["time"], row["host"], row["user"], row["cmd"]) == (1709287200, "n1", "ann", "py")
    assert (row["cores"], row["job"], row["epoch"], row["pid"], row["threads"]) == (4, 500, 0, 70, 4)
    assert (row["cpu_pct"], row["cpu_sampled_pct"], row["cputime_s"]) == (150.5, 88.0, 300)
    assert (row["cpu_kib"], row["rss_kib"], row["read_kib"]) == (1048576, 524288, 2097152)
    assert (row["gpus"], row["gpu_pct"], row["gpumem_pct"], row["gpu_kib"], row["gpufail"]) == (3, 75, 15, 1572864, 1)
    assert row["in_container"] is True


def test_no_jobs_are_a_heartbeat() -> None:
    (row,), _ = read(json.dumps(envelope(jobs=[])))

    assert (row["user"], row["cmd"], row["job"]) == ("_sonar_", "_heartbeat_", 0)


def test_utilization_was_a_fraction_before_version_16() -> None:
    (old,), _ = read(json.dumps(envelope("0.15.9", jobs=[job(1, cpu_util=0.5)])))
    (new,), _ = read(json.dumps(envelope("0.16.0", jobs=[job(1, cpu_util=0.5)])))

    assert (old["cpu_sampled_pct"], new["cpu_sampled_pct"]) == (50.0, 0.5)


def test_failing_cards_are_told_apart_by_identifier() -> None:
    system = {"gpus": [{"index": 0, "uuid": "nvidia", "failing": 1}, {"index": 0, "uuid": "amd"}]}
    jobs = [job(1, gpus=[{"index": 0, "uuid": "amd"}]), job(2, gpus=[{"index": 0, "uuid": "nvidia"}])]

    rows, _ = read(json.dumps(envelope(system=system, jobs=jobs)))

    assert [row["gpufail"] for row in rows] == [0, 1]


def test_a_card_number_beyond_the_mask_makes_the_set_unknown() -> None:
    (row,), _ = read(json.dumps(envelope(jobs=[job(1, gpus=[{"index": 70}, {"index": 2}])])))

    assert row["gpus"] == UNKNOWN


@pytest.mark.parametrize("layout", [{}, {"indent": 2}])
@pytest.mark.parametrize("between", ["\n", "", "\n\n "])
def test_envelopes_may_be_printed_in_any_way(layout: dict[str, int], between: str) -> None:
    texts = [json.dumps(envelope(jobs=[job(number)]), **layout) for number in (1, 2, 3)]  # type: ignore[arg-type]

    rows, dropped = read(between.join(texts))

    assert [row["job"] for row in rows] == [1, 2, 3]
    assert dropped == {}


BAD = {
    "bad-json": '{"data":',
    "bad-time": json.dumps(envelope(time="yesterday")),
    "missing-node": json.dumps(envelope(node="")),
    "error-record": '{"meta":{},"errors":[{"detail":"no"}]}',
    "both-data-and-errors": json.dumps(envelope() | {"errors": []}),
    "no-envelope": "7",
    "bad-pid": json.dumps(envelope(jobs=[job(1, pid="x")])),
    "bad-cpu_avg": json.dumps(envelope(jobs=[job(1, cpu_avg=True)])),
    "bad-shape": json.dumps(envelope(jobs=[3])),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_envelope_is_dropped_alone_and_counted(reason: str) -> None:
    good = json.dumps(envelope(jobs=[job(1)])), json.dumps(envelope(jobs=[job(2)]))

    rows, dropped = read(f"{good[0]}\n{BAD[reason]}\n{good[1]}\n")

    assert [row["job"] for row in rows] == [1, 2]
    assert dropped == {reason: 1}


def test_a_number_that_is_none_costs_its_envelope() -> None:
    good, bad = json.dumps(envelope()), json.dumps(envelope(jobs=[job(1, cpu_avg=float("nan"))]))

    rows, dropped = read(f"{bad}\n{good}\n")

    assert [row["job"] for row in rows] == [500]
    assert dropped == {"bad-json": 1}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    rows, _ = read(data)

    assert rows == []


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5), lambda inner:
       st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
           ["jobs", "processes", "gpus", "index", "time", "node", "system", "cpus", "user", "job", "pid"]), inner,
           max_size=4), max_leaves=12))  # fmt: skip
def test_any_shape_is_read_without_an_error(attributes: Any) -> None:
    rows, dropped = read(json.dumps({"data": {"attributes": attributes}}))

    assert rows == [] or not dropped

"""CSV records, tagged and untagged: what is read, what is dropped, and why."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.gpusets import UNKNOWN
from sonar.read.records import read_records
from sonar.read.rows import Rows

GOOD = "v=0.12.1,time=2024-03-01T10:00:00+01:00,host=n1,user=ann,cmd=py"


def read(data: str | bytes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    rows, dropped = Rows(), Counter[str]()
    read_records(data if isinstance(data, bytes) else data.encode(), rows, dropped)
    return rows.table().to_pylist(), dict(dropped)


def test_all_tags_of_a_record_are_read() -> None:
    (row,), dropped = read(
        f'{GOOD},job=7,epoch=9,pid=12345678901,ppid=1,cpu%=12.5,cpukib=2048,rssanonkib=1024,"gpus=0,2",gpu%=150,'
        "gpumem%=10,gpukib=512,gpufail=3,cputime_sec=90,rolledup=2,cores=64,load=&J\n"
    )

    assert dropped == {}
    assert row["time"] == 1709283600
    assert (row["job"], row["epoch"], row["pid"], row["ppid"], row["cores"]) == (7, 9, 12345678901, 1, 64)
    assert (row["cpu_pct"], row["cpu_kib"], row["rss_kib"], row["cputime_s"]) == (12.5, 2048, 1024, 90)
    assert (row["gpus"], row["gpu_pct"], row["gpumem_pct"], row["gpu_kib"], row["gpufail"]) == (5, 150, 10, 512, 1)


def test_what_is_absent_has_its_default() -> None:
    (row,), _ = read(GOOD + "\n")

    assert (row["job"], row["epoch"], row["gpus"], row["cputime_s"], row["in_container"]) == (0, None, 0, 0.0, False)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (GOOD.replace("host=n1,", ""), "missing-host"),
        (GOOD.replace("host=n1", "host="), "missing-host"),
        (GOOD.replace("v=0.12.1,", ""), "missing-v"),
        (GOOD.replace("user=ann,", ""), "missing-user"),
        (GOOD.replace("T10:00:00", "T10:00"), "bad-time"),
        (GOOD.replace("+01:00", "+0100"), "bad-time"),
        (GOOD.replace("03-01", "02-30"), "bad-time"),
        (GOOD + ",job=1,job=2", "repeated-job"),
        (GOOD + ",cores=1x92", "bad-cores"),
        (GOOD + ",job=4294967296", "bad-job"),
        (GOOD + ",job=-1", "bad-job"),
        (GOOD + ",cpu%=inf", "bad-cpu%"),
        (GOOD + ",cpu%=1e999", "bad-cpu%"),
        (GOOD + ",cpu%= 1", "bad-cpu%"),
        (GOOD + ",cpu%=1_0", "bad-cpu%"),
        (GOOD + ",gpus=a", "bad-gpus"),
        ("v=0.13.0,error=no,timestamp=2024-03-01T10:00:00Z", "error-record"),
        ("2024-03-01T10:00:00Z,n1,8,ann", "untagged-width"),
    ],
)
def test_a_bad_record_is_dropped_alone_and_counted(record: str, reason: str) -> None:
    rows, dropped = read(f"{GOOD},job=1\n{record}\n{GOOD},job=2\n")

    assert [row["job"] for row in rows] == [1, 2]
    assert dropped == {reason: 1}


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5.0), ("+5", 5.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-2", -2.0)]
)
def test_numbers_are_read(text: str, value: float) -> None:
    (row,), _ = read(f"{GOOD},cpu%={text}\n")

    assert row["cpu_pct"] == value


def test_unknown_tags_empty_fields_and_odd_fields_are_ignored() -> None:
    rows, dropped = read(f"{GOOD},blague=37,cores192,,=5\n")

    assert (len(rows), dropped) == (1, {})


def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter() -> None:
    rows, dropped = read(f"\ufeff{GOOD},job=1\r\n\r\n\n{GOOD},job=2\r{GOOD},job=3")

    assert [row["job"] for row in rows] == [1, 2, 3]
    assert dropped == {}


def test_bytes_that_are_no_utf8_cost_their_record() -> None:
    rows, dropped = read(GOOD.encode() + b",job=1\n" + GOOD.encode() + b"\xff\n" + GOOD.encode() + b",job=2\n")

    assert [row["job"] for row in rows] == [1, 2]
    assert dropped == {"bad-utf8": 1}


def test_quoted_fields_hold_commas_quotes_and_line_breaks() -> None:
    rows, _ = read(GOOD.replace(",cmd=py", "") + ',"cmd=a,""b""\nc",job=5\n')

    assert [(row["cmd"], row["job"]) for row in rows] == [('a,"b"\nc', 5)]


def test_a_torn_quote_costs_its_own_record_only() -> None:
    rows, dropped = read(f'{GOOD},"gpus=0,1\n{GOOD},job=2\n"v=0.12.1",{GOOD[9:]},job=3\n')

    assert [row["job"] for row in rows] == [2, 3]
    assert dropped == {"torn": 1}


def test_a_heartbeat_may_lack_its_user() -> None:
    (row,), _ = read("v=0.12.1,time=2024-03-01T10:00:00Z,host=n1,cmd=_heartbeat_\n")

    assert (row["user"], row["cmd"]) == ("_sonar_", "_heartbeat_")


def test_an_empty_set_of_gpus_is_none_where_samplers_leave_it_out() -> None:
    new, _ = read(GOOD + ",gpus=\n")
    old, dropped = read(GOOD.replace("0.12.1", "0.7.0") + ",gpus=\n")

    assert [row["gpus"] for row in new] == [0]
    assert (old, dropped) == ([], {"bad-gpus": 1})


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("", {}),
        (",101,50,10.5,9", {"gpus": 5, "gpu_pct": 50.0, "gpumem_pct": 10.5, "gpu_kib": 9.0}),
        (",10,0,0,0,77", {"gpus": 2, "cputime_s": 77.0}),
        ("," + "1" * 32 + ",0,0,0", {"gpus": UNKNOWN}),
        (",0,0,0,0,0", {}),
    ],
    ids=["8", "12", "13", "unknown set", "no cards"],
)
def test_untagged_records_of_every_width(tail: str, told: dict[str, Any]) -> None:
    (row,), dropped = read(f"2023-06-01T12:00:00.75+02:00,n1,8,ann,42,py,12.5,1024{tail}\n")
    (nothing,), _ = read(GOOD + "\n")

    known = {"time": 1685613600, "version": "0.6.0", "host": "n1", "cores": 8, "user": "ann", "job": 42, "pid": 42}
    assert dropped == {}
    assert row == nothing | known | {"cmd": "py", "cpu_pct": 12.5, "cpu_kib": 1024.0} | told


@pytest.mark.parametrize("tail", [",101", ",101,50,10", ",101,50,10,9,77,5"])
def test_untagged_records_of_another_width_are_dropped(tail: str) -> None:
    assert read(f"2023-06-01T10:00:00Z,n1,8,ann,42,py,12.5,1024{tail}\n") == ([], {"untagged-width": 1})


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    rows, dropped = read(data)

    assert len(rows) + sum(dropped.values()) <= data.count(b"\n") + data.count(b"\r") + 1


@given(st.binary(max_size=80).filter(lambda data: b'"' not in data))
def test_junk_between_good_records_costs_neither(junk: bytes) -> None:
    rows, _ = read(GOOD.encode() + b",job=1\n" + junk + b"\n" + GOOD.encode() + b",job=2\n")

    assert [rows[0]["job"], rows[-1]["job"]] == [1, 2]

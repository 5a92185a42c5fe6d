"""The verbs parse and metadata: what newer samplers tell, the newest samples of each stream, times and files."""

from pathlib import Path

import pytest

from sonar.errors import UsageError

from tests.verbs.asking import ask, envelope, put, rows

GIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for minute in (0, 5, 10):
        process = {
            "cmd": "x", "pid": 1 << 40, "ppid": 7, "cpu_time": minute * 60, "num_threads": 3, "data_read": minute,
            "data_written": 2, "data_cancelled": 1, "in_container": True, "cpu_util": 12.5,
        }  # fmt: skip
        jobs = [{"job": 5, "user": "ann", "epoch": 9, "processes": [process]}]
        put(
            tmp_path,
            "0+sample-n1.json",
            envelope("sample", time=f"2024-03-01T10:{minute:02}:00Z", node="n1", jobs=jobs),
        )
    return tmp_path


def test_what_newer_samplers_tell_has_fields(tree: Path) -> None:
    fields = "pid,ppid,epoch,threads,read,written,cancelled,contained,cpu_util_sampled"

    assert list(rows("parse", tree, fields)[1].values()) == [
        str(1 << 40), "7", "9", "4", "5", "2", "1", "yes", "12.5",
    ]  # fmt: skip
    merged = rows("sample", tree, "threads,read,contained", merge_by_job="true")
    assert merged[0] == {"threads": "4", "read": "", "contained": ""}


@pytest.mark.parametrize(("number", "minutes"), [("1", ["10"]), ("2", ["05", "10"]), ("9", ["00", "05", "10"])])
def test_last_keeps_the_newest_of_each_stream(tree: Path, number: str, minutes: list[str]) -> None:
    answer = ask("parse", tree, fmt="csv,time", clean="true", last=number)

    assert answer.splitlines() == ["*", *(f"2024-03-01T10:{minute}:00Z" for minute in minutes)]
    with pytest.raises(UsageError, match="--last needs"):
        ask("parse", tree, last="1")


def test_metadata_tells_times_and_files(tmp_path: Path) -> None:
    """In place of the hosts, or with --bounds before them."""
    record = "v=0.9.0,time=2024-03-01T10:0{}:30Z,host=n1,user=u,cmd=c\n"
    path = put(tmp_path, "n1.csv", record.format(1), record.format(5))
    put(tmp_path, "0+sysinfo-n1.json", "{}\n")
    times = "From: 2024-02-29T12:00:00Z\nTo:   2024-03-01T12:00:00Z\n"
    bounds = "n1,2024-03-01 10:01,2024-03-01 10:05\n"

    assert ask("metadata", tmp_path) == bounds
    assert ask("metadata", tmp_path, times="true") == times
    assert ask("metadata", tmp_path, files="true") == f"{path}\n"
    assert ask("metadata", tmp_path, times="true", files="true", bounds="true") == f"{times}{path}\n{bounds}"
    assert ask("metadata", [path], times="true") == "From: 2024-03-01T10:01:30Z\nTo:   2024-03-01T10:05:30Z\n"
    assert ask("metadata", [path], times="true", to="2024-03-02") == (
        "From: 2024-03-01T10:01:30Z\nTo:   2024-03-02T23:59:59Z\n"
    )


def test_merged_sums_are_rounded_once(tmp_path: Path) -> None:
    """One after the other 1, 1e16 and 1 would be 1e16, whichever two come first."""
    for at, share in enumerate(("1", "1e16", "1"), 1):
        record = f"v=0.9.0,time=2024-03-01T10:00:00Z,host=n1,user=u,cmd=c,job=7,pid={at},cpu%={share},gpu%={share}\n"
        put(tmp_path, "n1.csv", record)

    sums, fmt = f"*\n{','.join(['10000000000000002'] * 3)}\n", "csv,cpu%,cpu_util_pct,gpu%"
    assert ask("parse", tmp_path, fmt=fmt, merge_by_job="true") == sums
    assert ask("parse", tmp_path, fmt=fmt, merge_by_host_and_job="true") == sums

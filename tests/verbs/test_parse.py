"""The verb parse: what newer samplers tell, and the newest samples of each stream."""

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

"""`/sonar-reading` and `/sonar-heartbeat`: arrays of objects become lines as the first server wrote them."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.ingest.endpoints.readings import heartbeat_line, reading_line
from sonar.read.records import read_records
from sonar.read.rows import Rows

from tests.ingest.conftest import Infiltrate, Starter

FULL = {
    "version": "abc",
    "time": "123",
    "host": "hi",
    "cores": 5,
    "user": "me",
    "job": 37,
    "pid": 1337,
    "cmd": "secret",
    "cpu%": 0.5,
    "cpukib": 12,
    "gpus": "none",
    "gpu%": 0.25,
    "gpumem%": 10,
    "gpukib": 14,
    "gpufail": 2,
    "cputime_sec": 1234,
    "rolledup": 1,
}
LINE = (
    "v=abc,time=123,host=hi,cores=5,user=me,job=37,pid=1337,cmd=secret,cpu%=0.5,cpukib=12,gpus=none,gpu%=0.25,"
    "gpumem%=10,gpukib=14,gpufail=2,cputime_sec=1234,rolledup=1"
)
NOW = "2023-11-15T00:00:03+01:00"


def test_rendering() -> None:
    assert reading_line(FULL) == LINE
    assert heartbeat_line(FULL) == "v=abc,time=123,host=hi,cores=0,user=_sonar_,job=0,pid=0,cmd=_heartbeat_"
    assert reading_line({}) == (
        "v=,time=,host=,cores=0,user=,job=0,pid=0,cmd=,cpu%=0,cpukib=0,gpus=none,gpu%=0,gpumem%=0,gpukib=0,gpufail=0,"
        "cputime_sec=0,rolledup=0"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (675, "675"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (123456.75, "123456.75"),
        (999999.5, "999999.5"),
        (1e6, "1e+06"),
        (1234567, "1.234567e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-2.5e-7, "-2.5e-07"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_floats_are_as_go_prints_them(number: float, text: str) -> None:
    assert f",cpu%={text},cpukib" in reading_line({"cpu%": number})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_the_same(number: float) -> None:
    text = reading_line({"cpu%": number}).partition("cpu%=")[2].partition(",")[0]
    assert math.isclose(float(text), number, rel_tol=0, abs_tol=0)


names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=12)


@settings(deadline=None)  # the first one imports pyarrow
@given(names, names, st.integers(0, 2**32 - 1), st.sampled_from(["", "none", "0", "0,2", "unknown"]))
def test_lines_are_read_back(user: str, command: str, job: int, gpus: str) -> None:
    record = {"version": "0.7.0", "time": NOW, "host": "h", "user": user, "cmd": command, "job": job, "gpus": gpus}
    rows, dropped = Rows(), Counter[str]()
    read_records(reading_line(record).encode() + b"\n", rows, dropped)

    table = rows.table().to_pylist()
    assert (dropped.total(), len(table)) == (0, 1)
    assert (table[0]["user"], table[0]["cmd"], table[0]["job"]) == (user, command, job)


def reading(**changes: Any) -> dict[str, Any]:
    good = {"version": "0.7.0", "time": NOW, "cluster": "test", "host": "myhost", "user": "limeng", "cmd": "python"}
    return good | changes


def test_two_runs_of_the_first_sender(start: Starter) -> None:
    server = start("--allow-anonymous")
    first = reading(
        **{"cores": 56, "job": 1511785, "pid": 0, "cpu%": 675, "cpukib": 123249780, "gpus": "3,1,2,0", "gpu%": 396},
        **{"gpumem%": 276, "gpukib": 37986304, "cputime_sec": 2652658, "rolledup": 36},
    )
    second = reading(
        time=NOW.replace(":00:03", ":05:03"),
        user="balintl",
        cores=56,
        job=4159295,
        pid=4159295,
        **{"cmd": "watch", "cpu%": 0.1, "cpukib": 1916, "gpus": "none", "gpu%": 0, "cputime_sec": 2663},
    )
    for one in (first, second):
        answer = server.post("/sonar-reading", json.dumps([one]).encode(), user="dead", password="pool")
        assert (answer.status, answer.body) == (200, b"")
    server.stop()

    assert server.stored() == {
        "test/2023/11/15/myhost.csv": (
            b"v=0.7.0,time=2023-11-15T00:00:03+01:00,host=myhost,cores=56,user=limeng,job=1511785,pid=0,cmd=python,"
            b'cpu%=675,cpukib=123249780,"gpus=3,1,2,0",gpu%=396,gpumem%=276,gpukib=37986304,gpufail=0,'
            b"cputime_sec=2652658,rolledup=36\n"
            b"v=0.7.0,time=2023-11-15T00:05:03+01:00,host=myhost,cores=56,user=balintl,job=4159295,pid=4159295,"
            b"cmd=watch,cpu%=0.1,cpukib=1916,gpus=none,gpu%=0,gpumem%=0,gpukib=0,gpufail=0,cputime_sec=2663,rolledup=0\n"
        )
    }


def test_good_elements_are_kept_beside_bad_ones(start: Starter) -> None:
    server = start("--allow-anonymous")
    bad: list[Any] = [
        None,
        17,
        [],
        {},
        reading(pid=1.5),
        reading(pid=-1),
        reading(pid="7"),
        reading(pid=True),
        reading(job=2**64),
        reading(**{"cpu%": "7"}),
        reading(user=5),
        reading(host="../x"),
        reading(cluster="../x"),
        reading(cluster=None),
        reading(time="now"),
    ]
    upper = {key.upper(): value for key, value in reading(job=3.0, unknown=[1]).items()}

    body = json.dumps([*bad, reading(job=1), reading(job=2, cmd='a "b", c'), upper])
    answer = server.post("/sonar-reading", body.encode())
    assert (answer.status, answer.headers["x-sonar-dropped"]) == (200, str(len(bad)))
    # What is not JSON at all costs only the element that it is in.
    broken = b'[{"cpu%":NaN},' + json.dumps(reading(job=4)).encode() + b', {"a":Infinity} ]'
    answer = server.post("/sonar-reading", broken)
    assert (answer.status, answer.headers["x-sonar-dropped"]) == (200, "2")
    assert server.post("/sonar-reading", b'[{"a":1},').status == 400
    assert server.post("/sonar-heartbeat", json.dumps([reading(), reading(host="b")]).encode()).status == 200
    server.stop()

    stored = server.stored()
    assert set(stored) == {"test/2023/11/15/myhost.csv", "test/2023/11/15/b.csv"}
    lines = stored["test/2023/11/15/myhost.csv"].decode().splitlines()
    assert [line.partition(",job=")[2].partition(",")[0] for line in lines] == ["1", "2", "3", "4", "0"]
    assert ',"cmd=a ""b"", c",' in lines[1]
    assert lines[4].endswith(",cores=0,user=_sonar_,job=0,pid=0,cmd=_heartbeat_")


def test_user_may_write_its_own_cluster_only(infiltrate: Infiltrate) -> None:
    mine, other = reading(cluster="mlx.example.org"), reading(cluster="fox.example.org")
    assert infiltrate.post("/sonar-reading", json.dumps([other]).encode()).status == 403
    answer = infiltrate.post("/sonar-reading", json.dumps([other, mine, reading(cluster=None)]).encode())
    assert (answer.status, answer.headers["x-sonar-dropped"]) == (200, "1")
    infiltrate.stop()
    assert {path.partition("/")[0] for path in infiltrate.stored()} == {"mlx.example.org"}

"""Examples worked out by hand: each says what goes in, and the numbers that every verb makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.verbs.asking import ask, envelope, put, rows

GIB = 1 << 20

Points = list[tuple[str, float, float]]


def records(job: int, cmd: str, pid: int, points: Points, **more: object) -> str:
    """Return tagged records of one process: time of 2024-03-01, or with a day; CPU seconds; mean CPU %."""
    values = {"v": "0.7.1", "host": "n1.x.no", "user": "ann", "cores": 8, "cpukib": GIB} | more
    return "".join(
        ",".join(f"{tag}={value}" for tag, value in values.items())
        + f",time={time if 'T' in time else f'2024-03-01T{time}'}Z,job={job},cmd={cmd},pid={pid}"
        + f",cputime_sec={used:g},cpu%={mean:g}\n"
        for time, used, mean in points
    )


def file_of(directory: Path, *texts: str) -> list[Path]:
    path = directory / "x.csv"
    path.write_text("".join(texts))
    return [path]


def steps(data: Any, field: str = "cpu_util_pct", **options: Any) -> list[tuple[Any, ...]]:
    """Return time of day, value and number of further processes of each sample that parse prints."""
    answer = ask("parse", data, fmt=f"json,time,{field},rolledup", **options)
    points = [row for line in answer.splitlines() for row in json.loads(line)]
    return [(row["time"][11:19], round(float(row[field]), 4), int(row["rolledup"])) for row in points]


SIM: Points = [
    ("10:00:00", 300, 90), ("10:05:00", 900, 95), ("10:06:00", 930, 95), ("10:06:05", 935, 95),
    ("10:10:00", 920, 95), ("10:15:00", 1220, 95),
]  # fmt: skip
POST: Points = [("10:00:00", 30, 10), ("10:05:00", 60, 10), ("10:05:00", 999, 10)]


def test_a_duplicate_a_falling_counter_and_a_pair_closer_than_ten_seconds(tmp_path: Path) -> None:
    data = file_of(tmp_path, records(100, "sim", 11, SIM, cpukib=GIB), records(100, "post", 12, POST, cpukib=GIB // 2))
    # 10:10 fell by 15 s and is dropped; 10:15 has reached the last kept value again, 285 s more in 535 s.
    bridged = round(285 / 535 * 100, 4)

    clean = steps(data, clean="true")
    merged = steps(data, merge_by_host_and_job="true")

    assert [value for _, value, _ in clean] == [10, 10, 90, 200, 50, 100, bridged]
    assert merged == [
        ("10:00:00", 100, 1),
        ("10:05:00", 210, 1),
        ("10:06:00", 60, 1),  # post ended a minute before: its last sample counts once more
        ("10:06:05", 100, 0),  # one sample of a stream and step: the pair is not fused
        ("10:15:00", bridged, 0),
    ]
    (job,) = rows("jobs", data, "duration,cpu-avg,cpu-peak,mem-avg,mem-peak,cputime/sec,cmd", user="-")
    # (100 + 210 + 60 + 100 + 53.27) / 5, and 1.5, 1.5, 1.5, 1, 1 GB.
    assert job == {
        "duration": "0d 0h15m", "cpu-avg": "105", "cpu-peak": "210", "mem-avg": "2", "mem-peak": "2",
        "cputime/sec": str(105 * 900 // 100), "cmd": "post,sim",
    }  # fmt: skip
    load = ask("load", data, fmt="csv,time,cpu,mem")
    assert load == "10:00,104,1\n"


N2 = {"host": "n2.x.no"}


def job_on_three_hosts(**more: object) -> str:
    return (
        records(200, "mpi", 11, [("10:00:00", 10, 100), ("10:05:00", 310, 9), ("10:10:00", 610, 9)], **more)
        + records(200, "mpi", 71, [("10:00:04", 5, 50), ("10:05:12", 159, 9), ("10:10:09", 307, 9)], **N2, **more)
        + records(200, "mpi", 31, [("10:09:30", 7, 70)], host="n3.x.no", **more)
    )


def test_a_job_over_hosts_whose_clocks_differ(tmp_path: Path) -> None:
    data = file_of(tmp_path, job_on_three_hosts())

    assert steps(data, merge_by_job="true") == [
        ("10:00:00", 150, 1),  # 4 s apart
        ("10:05:00", 100, 0),
        ("10:05:12", 50, 0),  # 12 s apart: a step of its own
        ("10:09:30", 70, 0),
        ("10:10:00", 219.8316, 2),  # 9 s apart, and n3 ended 30 s before
    ]
    fields = "host,cpu-avg,cpu-peak,mem-avg,duration"
    assert rows("jobs", data, fields, user="-", batch="true") == [
        {"host": "n[1-3].x.no", "cpu-avg": "118", "cpu-peak": "220", "mem-avg": "2", "duration": "0d 0h10m"}
    ]
    apart = rows("jobs", data, "host,cpu-avg,cpu-peak", user="-", min_samples="1")
    assert [tuple(row.values()) for row in apart] == [
        ("n1.x.no", "100", "100"), ("n2.x.no", "50", "50"), ("n3.x.no", "70", "70"),
    ]  # fmt: skip


@pytest.mark.parametrize(("epoch", "hosts"), [({}, 3), ({"epoch": 0}, 1), ({"epoch": 130000000}, 3)])
def test_numbers_of_the_batch_system_are_one_job_without_being_asked(
    tmp_path: Path, epoch: dict[str, object], hosts: int
) -> None:
    answer = rows("jobs", file_of(tmp_path, job_on_three_hosts(**epoch)), "job", user="-", min_samples="1")

    assert len(answer) == hosts


LONG: Points = [("10:00:00", 100, 100), ("10:01:00", 160, 9), ("10:02:00", 220, 9), ("10:03:01", 281, 9)]
BRIEF = "".join(records(400, "bcd"[at], 2 + at, [(f"10:0{at}:00", 1, 40)]) for at in range(3))


def test_the_tail_of_processes_that_end_at_minute_sampling(tmp_path: Path) -> None:
    data = file_of(tmp_path, records(400, "a", 1, LONG), BRIEF)

    assert [step[:2] for step in steps(data, merge_by_host_and_job="true")] == [
        ("10:00:00", 140), ("10:01:00", 180), ("10:02:00", 180), ("10:03:01", 100),
    ]  # fmt: skip
    assert rows("jobs", data, "cpu-avg,cpu-peak", user="-") == [{"cpu-avg": "150", "cpu-peak": "180"}]


def test_load_has_zeros_where_nothing_was_sampled(tmp_path: Path) -> None:
    other = records(401, "z", 5, [("10:40:00", 40, 300), ("10:50:00", 340, 9)], user="bob", cpukib=3 * GIB)
    beat = records(0, "_heartbeat_", 0, [("12:10:00", 0, 0)], user="_sonar_", cpukib=0)
    data = file_of(tmp_path, records(400, "a", 1, LONG), BRIEF, other, beat)

    # (140 + 180 + 180 + 100 + 300 + 50) / 6, and 15 GB / 6; the heartbeat is a step of nothing.
    assert ask("load", data, fmt="csv,time,cpu,mem") == "10:00,158,2\n11:00,0,0\n12:00,0,0\n"
    compact = ask("load", data, fmt="csv,time,cpu", half_hourly="true", compact="true")
    assert compact == "10:00,150\n10:30,175\n12:00,0\n"
    assert [line.split(",")[1] for line in ask("load", data, fmt="csv,time,cpu", none="true").splitlines()] == [
        "140", "180", "180", "100", "300", "50", "0",
    ]  # fmt: skip
    answer = rows("jobs", data, "jobm,duration,cpu-avg,cpu-peak", user="-", min_samples="1")
    assert [tuple(row.values()) for row in answer] == [
        ("400<", "0d 0h 3m", "150", "180"),
        ("401", "0d 0h10m", "175", "300"),  # not live at the end: the heartbeat came later
    ]


NIGHT: Points = [("2024-03-01T23:55:00", 100, 20), ("2024-03-02T00:00:00", 400, 25), ("2024-03-02T00:05:00", 550, 30)]


def test_the_first_sample_of_a_window_knows_the_one_before(tmp_path: Path) -> None:
    data = file_of(tmp_path, records(300, "x", 11, NIGHT))

    assert [step[1] for step in steps(data, clean="true", from_="2024-03-02")] == [100, 50]
    assert [step[1] for step in steps(data, clean="true")] == [20, 100, 50]


def test_a_group_that_lost_members_begins_anew(tmp_path: Path) -> None:
    points: Points = [("10:00:00", 1000, 300), ("10:05:00", 200, 9), ("10:10:00", 800, 9), ("10:15:00", 1400, 9)]
    data = file_of(tmp_path, records(500, "py", 0, points, rolledup=3))

    assert [step[1] for step in steps(data, clean="true")] == [300, 200, 200]
    assert rows("jobs", data, "cpu-avg", user="-") == [{"cpu-avg": "234"}]


def test_a_group_and_a_process_of_its_command_are_two_streams(tmp_path: Path) -> None:
    group: Points = [("10:00:00", 10, 100), ("10:10:00", 310, 9)]
    data = file_of(tmp_path, records(600, "py", 0, group, rolledup=2), records(600, "py", 40, [("10:05:00", 100, 80)]))

    assert steps(data, clean="true") == [("10:00:00", 100, 2), ("10:10:00", 50, 2), ("10:05:00", 80, 0)]
    assert rows("jobs", data, "cpu-avg", user="-") == [{"cpu-avg": "77"}]


def test_the_oldest_samplers_told_no_cpu_time(tmp_path: Path) -> None:
    points: Points = [("10:00:00", 0, 30), ("10:05:00", 0, 40)]

    old = file_of(tmp_path, records(601, "py", 601, points, v="0.6.0"))
    assert [step[1] for step in steps(old, clean="true")] == [30, 40]
    assert rows("jobs", old, "cpu-avg", user="-") == [{"cpu-avg": "35"}]
    new = file_of(tmp_path, records(601, "py", 601, points, v="0.18"))
    assert [step[1] for step in steps(new, clean="true")] == [30, 0]


def test_a_message_tells_of_threads_cards_and_failures(tmp_path: Path) -> None:
    gpus = [{"index": 0, "gpu_util": 50, "gpu_memory": GIB, "gpu_memory_util": 10},
            {"index": 1, "gpu_util": 25, "gpu_memory": GIB // 2, "gpu_memory_util": 5}]  # fmt: skip
    train = {
        "cmd": "py", "pid": 70, "virtual_memory": GIB, "resident_memory": GIB // 2, "num_threads": 3,
        "cpu_avg": 150.5, "cpu_util": 88, "cpu_time": 300, "data_read": 2 * GIB, "gpus": gpus,
    }  # fmt: skip
    processes = [train, {"cmd": "w", "pid": 0, "rolledup": 2}]
    system = {"cpus": [1, 2, 3, 4], "gpus": [{"uuid": "A"}, {"index": 1, "uuid": "B", "failing": 1}]}
    jobs = [{"job": 500, "epoch": 0, "user": "ann", "processes": processes}]
    put(
        tmp_path,
        "0+sample-n1.json",
        envelope("sample", time="2024-03-01T11:00:00.7+01:00", node="n1", system=system, jobs=jobs),
        envelope("sample", time="2024-03-01T11:05:00+01:00", node="n1", jobs=[]),
    )

    sample, rolled_up, beat = rows(
        "parse", tmp_path, "time,cores,cpu_pct,cpukib,rssanonkib,gpus,gpu%,gpumem%,gpukib,gpufail,cputime_sec,user,cmd"
    )  # fmt: skip

    assert list(sample.values()) == [
        "2024-03-01T10:00:00Z", "4", "150.5", str(GIB), str(GIB // 2), "0,1", "75", "15", str(3 * GIB // 2), "1",
        "300", "ann", "py",
    ]  # fmt: skip
    assert (rolled_up["cmd"], rolled_up["gpus"], rolled_up["cputime_sec"]) == ("w", "none", "0")
    assert (beat["user"], beat["cmd"]) == ("_sonar_", "_heartbeat_")
    fields = "job,user,cmd,host,gpufail,gpus,thread-peak"
    assert rows("jobs", tmp_path, fields, user="-", min_samples="1") == [
        {"job": "500", "user": "ann", "cmd": "py,w", "host": "n1", "gpufail": "1", "gpus": "0,1", "thread-peak": "5"}
    ]


@pytest.mark.parametrize(
    "text",
    ["", records(7, "a", 1, [("10:00:00", 1, 1)]), records(0, "_heartbeat_", 0, [("10:00:00", 0, 0)], user="_sonar_"),
     records(0, "a", 5, [("10:00:00", 1, 1), ("10:05:00", 2, 1)])],
    ids=["nothing", "one sample", "only a heartbeat", "only job 0"],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["jobs", "load", "uptime", "profile", "parse", "metadata"])
def test_the_smallest_logs_have_an_answer(verb: str, text: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"profile": {"job": "7"}, "uptime": {"interval": "5"}, "jobs": {"user": "-"}}.get(
        verb, {}
    )

    answer = ask(verb, file_of(tmp_path, text), fmt="default,csv" if verb != "profile" else "csv,cpu", **options)

    if not text:
        assert answer == ("time\n" if verb == "profile" else "")

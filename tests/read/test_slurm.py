"""What Slurm tells: forms of values, messages, records of sacct."""

import json
from collections import Counter
from typing import Any

import pytest

from sonar.read.slurm import JOBS, NODE_STATES, PARTITIONS, exit_code_of, kib_of, seconds_of
from sonar.read.topics import Topic


def read(topic: Topic, data: str) -> tuple[list[dict[str, Any]], "Counter[str]"]:
    dropped: Counter[str] = Counter()
    rows = [dict(row) for row in topic.read(data.encode(), dropped)]
    topic.table(rows)  # fits its columns
    return rows, dropped


def jobs(*listed: object, kind: str = "job") -> str:
    attributes = {"time": "2024-03-01T10:00:00Z", "cluster": "fox", "slurm_jobs": listed}
    return json.dumps({"meta": {"version": "0.18.4"}, "data": {"type": kind, "attributes": attributes}}) + "\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:12.345", 12.345), ("01:02:03", 3723), ("2-01:02:03", 176523), ("1-00:00:00", 86400), ("62:00", 3720),
        ("7200", 7200), ("5:5", 305), ("", None), ("1:2:3:4", None), ("x", None), ("-1", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "kib"),
    [
        ("4000M", 4096000), ("1.50G", 1.5 * 2**20), ("12K", 12), ("2T", 2**31), ("1024", 1), ("4Gn", 4 * 2**20),
        ("0.51M", 0.51 * 1024), ("", None), ("G", None), ("4X", None), ("-4M", None),
    ],
)  # fmt: skip
def test_volumes(text: str, kib: float | None) -> None:
    assert kib_of(text) == kib


@pytest.mark.parametrize(("text", "codes"), [("1", (1, 0)), ("0:9", (0, 9)), ("2:15", (2, 15)), ("x", None)])
def test_exit_codes(text: str, codes: tuple[int, int] | None) -> None:
    assert exit_code_of(text) == codes


@pytest.mark.parametrize("kind", ["job", "jobs"])
def test_a_job_of_a_message(kind: str) -> None:
    rows, dropped = read(
        JOBS,
        jobs(
            {"job_id": 77, "job_state": "CANCELLED by 1234", "user_name": "kim", "time_limit": 3602, "priority": 1,
             "submit_time": "2024-03-01T09:00:00Z", "nodes": ["c1-[5-7]", "gpu-1"], "exit_code": 2,
             "requested_memory_per_node": 4096, "sacct": {"UserCPU": 3, "MaxRSS": 5, "AllocTRES": "cpu=4"}},
            {"job_id": 78, "array_job_id": 70}, {"job_id": 79, "het_job_id": 79, "job_step": "0"},
            kind=kind,
        ),
    )  # fmt: skip

    first, task, part = rows
    assert (first["job"], first["step"], first["state"], first["exit_code"]) == (77, "", "CANCELLED", 2)
    assert first["timelimit_s"] == 3600
    assert (first["priority"], task["timelimit_s"]) == (None, None)  # without limit, not set
    assert (first["submit"], first["start"], first["end"]) == (1709283600, None, None)
    assert first["nodes"] == ["c1-5", "c1-6", "c1-7", "gpu-1"]
    assert (first["req_mem_kib"], first["user_cpu_s"], first["max_rss_kib"]) == (4096, 3, 5)
    assert (task["array_job"], task["array_task"], task["het_offset"]) == (70, 0, None)
    assert (part["step"], part["het_job"], part["het_offset"]) == ("0", 79, 0)
    assert not dropped


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, "bad-job_id"), ({"job_id": "7"}, "bad-job_id"), ({"job_id": 7, "job_step": 0}, "bad-job_step"),
        ({"job_id": 7, "nodes": [1]}, "bad-nodes"), ({"job_id": 7, "sacct": {"UserCPU": "1"}}, "bad-UserCPU"),
        (5, "bad-shape"),
    ],
)  # fmt: skip
def test_a_bad_job_costs_itself_only(bad: object, reason: str) -> None:
    rows, dropped = read(JOBS, jobs({"job_id": 1}, bad, {"job_id": 2}))

    assert [row["job"] for row in rows] == [1, 2]
    assert dropped == Counter({reason: 1})


def test_a_heartbeat_of_the_master_is_no_job() -> None:
    assert read(JOBS, jobs()) == ([], Counter())


RECORD = (
    "v=0.1.0,JobID={},JobIDRaw={},User=bob,Account=ec1,State=COMPLETED,Start=2024-03-01T04:00:00+01:00,"
    "End=2024-03-01T06:00:00+01:00,ElapsedRaw=7200,JobName=hi{}\n"
)


def test_a_record_of_sacct() -> None:
    rows, dropped = read(
        JOBS,
        RECORD.format(
            "5", "5", ",ReqCPUS=4,ReqNodes=2,ReqMem=2Gc,TimelimitRaw=300,UserCPU=01:30:00.500,ExitCode=2:9,"
            '"NodeList=c1-[5-6]","AllocTRES=cpu=4,gres/gpu=1",Submit=Unknown,Suspended=00:00:00,MaxRSS=1.5G'
        ),
    )  # fmt: skip

    (row,) = rows
    assert (row["time"], row["start"], row["end"], row["submit"]) == (1709269200, 1709262000, 1709269200, None)
    assert (row["elapsed_s"], row["timelimit_s"], row["user_cpu_s"]) == (7200, 18000, 5400.5)
    assert (row["exit_code"], row["exit_signal"], row["max_rss_kib"]) == (2, 9, 1.5 * 2**20)
    assert row["req_mem_kib"] == 4 * 2**20  # 2 G for each of 4 CPUs on 2 nodes
    assert (row["nodes"], row["alloc_tres"]) == (["c1-5", "c1-6"], "cpu=4,gres/gpu=1")
    assert not dropped


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [("0", 0), ("300", 18000), ("UNLIMITED", None), ("9" * 15, 60 * (10**15 - 1)), ("9" * 18, None)],
)
def test_time_limits(minutes: str, seconds: int | None) -> None:
    rows, dropped = read(JOBS, RECORD.format("5", "5", f",TimelimitRaw={minutes}"))

    assert JOBS.table(rows).column("timelimit_s").to_pylist() == [seconds]
    assert not dropped


@pytest.mark.parametrize(
    ("shown", "raw", "place"),
    [
        ("12_3", "15", (15, "", 12, 3, None, None)),
        ("12_3.batch", "15.batch", (15, "batch", 12, 3, None, None)),
        ("12_[4-9%2]", "12", (12, "", 12, None, None, None)),
        ("12+1.0", "13.0", (13, "0", None, None, 12, 1)),
        ("12.extern", "12.extern", (12, "extern", None, None, None, None)),
    ],
)
def test_arrays_and_heterogeneous_jobs(shown: str, raw: str, place: tuple[object, ...]) -> None:
    rows, _ = read(JOBS, RECORD.format(shown, raw, ""))

    names = ("job", "step", "array_job", "array_task", "het_job", "het_offset")
    assert tuple(rows[0][name] for name in names) == place


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("v=0.1.0,error=no,timestamp=2024-03-01T06:00:00+01:00\n", "error-record"),
        ("JobIDRaw=5,End=2024-03-01T06:00:00+01:00\n", "missing-v"),
        (RECORD.format("0", "0", ""), "bad-JobIDRaw"),
        (RECORD.format("5", "x", ""), "bad-JobIDRaw"),
        (RECORD.format("5", "5", ",MaxRSS=much"), "bad-MaxRSS"),
        ("v=0.1.0,JobIDRaw=5,End=Unknown\n", "bad-End"),
    ],
)
def test_a_bad_record_costs_itself_only(line: str, reason: str) -> None:
    rows, dropped = read(JOBS, line + RECORD.format("6", "6", ""))

    assert [row["job"] for row in rows] == [6]
    assert dropped == Counter({reason: 1})


def test_partitions_and_states_of_nodes() -> None:
    attributes = {
        "time": "2024-03-01T10:00:00Z", "slurm": True, "partitions": [{"name": "normal", "nodes": ["c1-[5-6]"]}],
        "nodes": [{"names": ["c1-[5-6]", "x[3-1]"], "states": ["MIXED", "DRAIN"]}],
    }  # fmt: skip
    data = json.dumps({"data": {"type": "cluster", "attributes": attributes}}) + "\n"

    partitions, _ = read(PARTITIONS, data)
    states, _ = read(NODE_STATES, data)

    assert partitions == [{"time": 1709287200, "partition": "normal", "nodes": ["c1-5", "c1-6"]}]
    assert states[0]["nodes"] == ["c1-5", "c1-6", "x[3-1]"]  # a pattern that is none stays as it is
    assert states[0]["states"] == ["MIXED", "DRAIN"]


def test_names_of_all_patterns_together_are_bounded() -> None:
    patterns = ["a[1-60000]", "b[1-60000]", "c[1-30000]", "d1"]

    rows, dropped = read(JOBS, jobs({"job_id": 1, "nodes": patterns}))

    nodes = rows[0]["nodes"]
    assert (len(nodes), nodes[59999], nodes[60000], nodes[60001]) == (90_002, "a60000", "b[1-60000]", "c1")
    assert nodes[-1] == "d1"
    assert not dropped

"""The verbs about the batch system: newest states of jobs, what follows from them, and who is chosen."""

from pathlib import Path

import pytest

from sonar.errors import UsageError

from tests.verbs.asking import ask, envelope, put, rows

GIB = 1 << 20


def told(time: str, *jobs: object) -> str:
    return envelope("job", time=f"2024-03-01T{time}Z", cluster="fox", slurm_jobs=jobs)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    pending = {
        "job_id": 77, "job_state": "PENDING", "user_name": "kim", "job_name": "n" * 40, "account": "nn1",
        "partition": "accel", "requested_cpus": 4, "requested_node_count": 1, "requested_memory_per_node": 4 * GIB,
        "requested_resources": "cpu=4,gres/gpu:rtx30=1,gres/gpu=1,mem=4G", "submit_time": "2024-03-01T01:50:00Z",
        "time_limit": 7202,
    }  # fmt: skip
    ended = {
        "job_id": 77, "job_state": "COMPLETED", "user_name": "kim", "start_time": "2024-03-01T02:00:00Z",
        "end_time": "2024-03-01T03:00:00Z", "nodes": ["gpu-[1-2]"],
        "sacct": {"ElapsedRaw": 3600, "AllocTRES": "cpu=4"},
    }  # fmt: skip
    steps = [
        {"job_id": 77, "job_step": name, "sacct": {"UserCPU": 3000, "SystemCPU": 600, "MaxRSS": rss}}
        for name, rss in (("batch", GIB), ("0", 2 * GIB))
    ]
    running = {"job_id": 79, "job_state": "RUNNING", "user_name": "ann", "account": "nn2", "nodes": ["c1-5"]}
    put(tmp_path, "0+job-slurm.json", told("02:00:00", pending, running))
    put(tmp_path, "0+job-slurm.json", told("03:10:00", ended, *steps))
    # Of the same instant, in the wrong order; and a step whose job is not known.
    put(
        tmp_path,
        "0+job-slurm.json",
        told("03:10:00", {**pending, "job_state": "RUNNING"}, {"job_id": 9, "job_step": "0"}),
    )
    record = (
        "v=0.1.0,JobID={},JobIDRaw={},User=eva,Account=nn1,State={},End=2024-03-01T06:00:00Z,JobName=x,ElapsedRaw={}\n"
    )
    put(
        tmp_path, "slurm-sacct.csv", record.format("80_1", 81, "COMPLETED", 60), record.format("90+0", 90, "FAILED", 60)
    )
    put(tmp_path, "slurm-sacct.csv", record.format("99", 99, "CANCELLED by 5", 600))
    return tmp_path


def test_a_job_is_its_newest_state_with_what_was_told_before(tree: Path) -> None:
    fields = "JobID,State,Account,ReqGPUS,NodeList,Wait,Elapsed,Timelimit"
    (job,) = rows("sacct", tree, f"{fields},RequestedCPU,UsedCPU,MaxRSS,rcpu,rmem", user="kim")

    assert job == {
        "JobID": "77", "State": "COMPLETED", "Account": "nn1", "ReqGPUS": "rtx30=1", "NodeList": "gpu-[1-2]",
        "Wait": "0d 0h10m", "Elapsed": "0d 1h 0m", "Timelimit": "0d 2h 0m", "RequestedCPU": "14400",
        "UsedCPU": "7200", "MaxRSS": str(2 * GIB), "rcpu": "50", "rmem": "50",
    }  # fmt: skip


def test_jobs_are_sorted_and_names_short_in_fixed_columns(tree: Path) -> None:
    assert ask("sacct", tree, fmt="JobID,JobName,State,End") == (
        "JobID  JobName                         State      End\n"
        f"77     {'n' * 30}  COMPLETED  2024-03-01T03:00:00Z\n"
        "79                                     RUNNING    Unknown\n"
        "99     x                               CANCELLED  2024-03-01T06:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, "77 79 99"),
        ({"state": ["completed", "FAILED"]}, "77"),
        ({"state": "completed,CANCELLED"}, "77 99"),
        ({"user": "kim,ann"}, "77 79"),
        ({"user": "-"}, "77 79 99"),
        ({"exclude_user": "kim"}, "79 99"),
        ({"job": "77,79"}, "77 79"),
        ({"account": "nn2"}, "79"),
        ({"partition": "accel"}, "77"),
        ({"host": "gpu-2"}, "77"),
        ({"host": "gpu*,c1-5"}, "77 79"),
        ({"some_gpu": "true"}, "77"),
        ({"no_gpu": "true"}, "79 99"),
        ({"array": "true"}, "81"),
        ({"het": "true"}, "90"),
        ({"job": ["80", "79"]}, "79 81"),
        ({"job": "90"}, "90"),
        ({"job": "90", "regular": "true"}, ""),
        ({"min_runtime": "10m"}, "77 99"),
        ({"min_runtime": "11m", "all": "true"}, "77 79 99"),
        ({"max_runtime": "10m"}, "79 99"),
        ({"min_reserved_mem": "4"}, "77"),
        ({"max_reserved_mem": "3"}, "79 99"),
        ({"min_reserved_cores": "4"}, "77"),
        ({"max_reserved_cores": "3"}, "79 99"),
        ({"to": "2024-02-29"}, ""),
    ],
)
def test_options_choose_jobs(tree: Path, options: dict[str, str], chosen: str) -> None:
    window = {} if "to" not in options else {"from_": "2024-02-28"}

    assert " ".join(row["JobID"] for row in rows("sacct", tree, "JobID", **options, **window)) == chosen


def test_options_that_do_not_go_together_are_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="Only one of --array, --het"):
        ask("sacct", tree, array="true", het="true")


def test_states_of_nodes_and_partitions(tmp_path: Path) -> None:
    attributes = {
        "slurm": True, "partitions": [{"name": "normal", "nodes": ["c1-[5-6]"]}, {"name": "accel", "nodes": ["gpu-1"]}],
        "nodes": [{"names": ["gpu-1"], "states": ["MIXED", "DRAIN"]}, {"names": ["c1-[5-6]"], "states": ["IDLE"]}],
    }  # fmt: skip
    for hour in ("05", "04"):
        put(tmp_path, "0+cluzter-slurm.json", envelope("cluster", time=f"2024-03-01T{hour}:00:00Z", **attributes))

    assert ask("snode", tmp_path, fmt="csv,Timestamp,nodes,states") == (
        '2024-03-01 04:00,c1-[5-6],IDLE\n2024-03-01 04:00,gpu-1,"MIXED,DRAIN"\n'
        '2024-03-01 05:00,c1-[5-6],IDLE\n2024-03-01 05:00,gpu-1,"MIXED,DRAIN"\n'
    )
    assert rows("spart", tmp_path, "part,nodes", host="c1-6") == [{"part": "normal", "nodes": "c1-[5-6]"}] * 2

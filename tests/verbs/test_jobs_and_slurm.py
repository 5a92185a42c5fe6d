"""The verb jobs: what the batch system tells of a job, input and output, occupied cards, merging over hosts."""

from pathlib import Path

import pytest

from sonar.config.nodes import Node
from sonar.errors import UsageError

from tests.verbs.asking import ask, envelope, put, rows

GIB = 1 << 20


def sample(root: Path, node: str, time: str, *jobs: object) -> None:
    put(root, f"0+sample-{node}.json", envelope("sample", time=f"2024-03-01T{time}Z", node=node, jobs=list(jobs)))


def job(number: int, *processes: object, epoch: int = 0, user: str = "ann") -> dict[str, object]:
    return {"job": number, "user": user, "epoch": epoch, "processes": list(processes)}


def process(pid: int, **more: object) -> dict[str, object]:
    return {"cmd": f"c{pid}", "pid": pid, "cpu_avg": 100, **more}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Job 77 of the batch system on two hosts, number 77 again later, and number 78 of a host itself."""
    for node, pid in (("n1", 1), ("n2", 2)):
        for minute in (0, 5):
            used = process(pid, cpu_time=minute * 60)
            local = job(78, process(pid + 10), epoch=5, user="bob")
            sample(tmp_path, node, f"02:{minute:02}:00", job(77, used), local)
    for minute in (0, 5):
        sample(tmp_path, "n1", f"09:{minute:02}:00", job(77, process(5), user="eva"))
    told = {
        "job_id": 77, "user_name": "ann", "account": "nn1", "partition": "accel", "job_state": "COMPLETED",
        "start_time": "2024-03-01T01:59:00Z", "end_time": "2024-03-01T02:06:00Z", "requested_cpus": 8,
        "requested_resources": "gres/gpu:a100=2", "sacct": {"ElapsedRaw": 420},
    }  # fmt: skip
    number_of_host = {
        **told,
        "job_id": 78,
        "user_name": "bob",
        "account": "wrong",
        "job_state": "RUNNING",
        "end_time": None,
    }
    jobs = [told, number_of_host]
    put(tmp_path, "0+job-slurm.json", envelope("job", time="2024-03-01T02:10:00Z", slurm_jobs=jobs))
    return tmp_path


def test_the_batch_system_tells_of_its_jobs_at_their_time(tree: Path) -> None:
    # The last job 77 began hours after the batch system's had ended, and all hosts' samples are one job then.
    answer = rows("jobs", tree, "job,user,host,Account,State,ReqCPUS,ReqGPUS,ElapsedRaw", user="-", to="2024-03-01")
    assert [(row["job"], row["user"], row["Account"]) for row in answer] == [
        ("77", "ann,eva", "nn1"),
        ("78", "bob", ""),
        ("78", "bob", ""),
    ]
    assert (answer[0]["ReqCPUS"], answer[0]["ReqGPUS"], answer[0]["ElapsedRaw"]) == ("8", "a100=2", "420")
    later = rows("jobs", tree, "job,user,Account", user="eva", merge_none="true")
    assert later == [{"job": "77", "user": "eva", "Account": ""}]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, "77 78 78"),
        ({"account": "nn1"}, "77 78 78"),
        ({"account": "nn2"}, "78 78"),
        ({"account": "nn1,nn2"}, "77 78 78"),
        ({"state": ["running", "completed"]}, "77 78 78"),
        ({"state": "FAILED"}, "78 78"),
        ({"partition": "normal"}, "78 78"),
        ({"reservation": "r"}, "78 78"),
        ({"gpu_type": "a1"}, "77 78 78"),
        ({"gpu_type": "h1"}, "78 78"),
    ],
)
def test_a_job_goes_only_if_the_batch_system_knows_better(tree: Path, options: dict[str, str], numbers: str) -> None:
    answer = rows("jobs", tree, "job", user=["ann", "bob"], **options)

    assert " ".join(row["job"] for row in answer) == numbers


def test_what_it_does_not_tell_can_come_from_the_samples(tree: Path) -> None:
    answer = rows("jobs", tree, "job,NodeList,ElapsedRaw,Account", user="bob", sacct_from_sonar="true")

    assert answer[0] == {"job": "78", "NodeList": "n1", "ElapsedRaw": "300", "Account": ""}


@pytest.mark.parametrize(
    ("option", "hosts"),
    [
        ({}, ["77 n[1-2]", "78 n1", "78 n2"]),
        ({"merge_none": "true"}, ["77 n1", "77 n2", "78 n1", "78 n2"]),
        ({"merge_all": "true"}, ["77 n[1-2]", "78 n[1-2]"]),
        ({"batch": "true"}, ["77 n[1-2]", "78 n[1-2]"]),
    ],
)
def test_numbers_of_the_batch_system_are_merged_over_hosts(
    tree: Path, option: dict[str, str], hosts: list[str]
) -> None:
    answer = rows("jobs", tree, "job,host", user=["ann", "bob"], **option)

    assert [f"{row['job']} {row['host']}" for row in answer] == hosts


def test_merging_all_and_none_do_not_go_together(tree: Path) -> None:
    with pytest.raises(UsageError, match="--merge-none"):
        ask("jobs", tree, merge_none="true", batch="true")


def test_input_and_output_are_what_was_added_between_samples(tmp_path: Path) -> None:
    def at(time: str, *processes: object) -> None:
        sample(tmp_path, "n1", time, job(7, *processes))

    at("10:00:00", process(1, data_read=100 * GIB, data_written=GIB))  # had it before the host was sampled
    at("10:05:00", process(1, data_read=103 * GIB, data_written=GIB), process(2, data_read=5 * GIB))
    at("10:10:00", process(2, data_read=7 * GIB), process(3, data_read=GIB // 2, data_written=4 * GIB))

    answer = rows("jobs", tmp_path, "read,written,ReadGB", user="-")

    assert answer == [{"read": "11", "written": "4", "ReadGB": "11"}]  # 3 + 7 + 0.5, rounded up


def test_use_of_occupied_cards_is_relative_to_those(tmp_path: Path) -> None:
    gpus = [{"index": at, "uuid": f"U{at}", "gpu_util": 50, "gpu_memory": 10 * GIB} for at in (1, 3)]
    for minute in (0, 5):
        sample(tmp_path, "n1", f"10:{minute:02}:00", job(7, process(1, gpus=gpus)))
    nodes = {"n1": Node("n1", "", 8, 64, gpu_cards=4, gpumem_gb=160)}
    fields = "gpu-avg,rgpu-avg,sgpu-avg,rgpumem-peak,sgpumem-peak,OccupiedRelativeGpuPeakPct,SomeGpu,NoGpu,gpus"

    (answer,) = rows("jobs", tmp_path, fields, user="-", nodes=nodes)

    assert answer == {
        "gpu-avg": "100", "rgpu-avg": "25", "sgpu-avg": "50", "rgpumem-peak": "13", "sgpumem-peak": "25",
        "OccupiedRelativeGpuPeakPct": "50", "SomeGpu": "yes", "NoGpu": "no", "gpus": "1,3",
    }  # fmt: skip


def test_marks_are_fields_of_their_own(tree: Path) -> None:
    fields = "job,Running,Completed,Primordial,BornLater,Zombie"

    answer = rows("jobs", tree, fields, user="-", merge_none="true")

    assert [f"{row['job']} {row['Primordial']} {row['Running']}" for row in answer] == [
        "77 yes yes", "77 yes yes", "78 yes no", "78 yes yes",
    ]  # fmt: skip
    assert rows("jobs", tree, "BornLater,Running", user="eva") == [{"BornLater": "yes", "Running": "yes"}]
    assert all({row["Running"], row["Completed"]} == {"yes", "no"} for row in answer)
    assert all({row["Primordial"], row["BornLater"]} == {"yes", "no"} for row in answer)

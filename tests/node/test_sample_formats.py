"""A sample written down as JSON and as tagged CSV."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.node import envelope, tagged
from sonar.node.gpus import ComputeMode, Gpu, GpuUse
from sonar.node.records import ProcessRecord, Sample
from sonar.node.system import Disk, SystemState

SYSTEM = SystemState(
    boot=1_699_999_000,
    cpu_s=(897, 900),
    used_kib=600,
    load=(0.5, 0.0, 2.0),
    runnable=3,
    existing=456,
    disks=(Disk("sda", 8, 0, (1, 2)),),
)
GPUS = (
    Gpu(0, "GPU-a", fan_pct=27, compute_mode=ComputeMode.DEFAULT, performance_state=0, used_kib=1014720, power_w=4),
    Gpu(1, "GPU-b", failing=True),
)
BATCH = ProcessRecord(
    user="ada", job=77, epoch=0, pid=300, ppid=200, cmd='a,"b', cpu_avg_pct=312.54, cpu_util_pct=98.7654, cpu_time_s=61,
    virtual_kib=9000, resident_kib=4000, threads=4, io_kib=(4, 0, 2), in_container=True,
    gpus=(GpuUse(0, "GPU-a", compute_pct=40, memory_kib=1000, memory_pct=12.5),
          GpuUse(1, "GPU-b", failing=True, compute_pct=2.25, memory_kib=24)),
)  # fmt: skip
GROUP = ProcessRecord(user="ada", job=77, epoch=0, pid=5_000_000, ppid=300, cmd="rank", rolledup=3, threads=4)
LOCAL = ProcessRecord(user="bob", job=88, epoch=122, pid=400, ppid=1, cmd="sh")
TIME = "2023-11-14T22:13:20+00:00"


def sample(*records: ProcessRecord, system: SystemState | None = SYSTEM, gpus: tuple[Gpu, ...] = GPUS) -> Sample:
    return Sample(1_700_000_000, "fox", "n1", records, system, gpus if system else ())


def attributes(taken: Sample) -> dict[str, object]:
    line = envelope.sample_envelope(taken)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    whole = json.loads(line)
    assert whole.keys() == {"meta", "data"}
    assert (whole["meta"]["producer"], whole["data"]["type"]) == ("sonar", "sample")
    found: dict[str, object] = whole["data"]["attributes"]
    return found


def test_envelope_has_the_fields_of_the_format() -> None:
    assert attributes(sample(BATCH, GROUP, LOCAL)) == {
        "time": TIME,
        "cluster": "fox",
        "node": "n1",
        "system": {
            "boot": "2023-11-14T21:56:40+00:00",
            "cpus": [897, 900],
            "gpus": [
                {
                    "index": 0, "uuid": "GPU-a", "fan": 27, "compute_mode": "Default", "performance_state": 1,
                    "memory": 1014720, "power": 4,
                },
                {"index": 1, "uuid": "GPU-b", "failing": 1, "compute_mode": "Unknown"},
            ],
            "disks": [{"name": "sda", "major": 8, "minor": 0, "stats": [1, 2]}],
            "used_memory": 600,
            "load1": 0.5,
            "load15": 2.0,
            "runnable_entities": 3,
            "existing_entities": 456,
        },
        "jobs": [
            {
                "job": 77,
                "user": "ada",
                "processes": [
                    {
                        "cmd": 'a,"b', "pid": 300, "ppid": 200, "in_container": True, "num_threads": 3,
                        "resident_memory": 4000, "virtual_memory": 9000, "cpu_avg": 312.54, "cpu_util": 98.765,
                        "cpu_time": 61, "data_read": 4, "data_cancelled": 2,
                        "gpus": [
                            {"index": 0, "uuid": "GPU-a", "gpu_util": 40, "gpu_memory": 1000, "gpu_memory_util": 12.5},
                            {"index": 1, "uuid": "GPU-b", "gpu_util": 2.25, "gpu_memory": 24},
                        ],
                    },
                    {"cmd": "rank", "pid": 5_000_000, "ppid": 300, "num_threads": 3, "rolledup": 3},
                ],
            },
            {"job": 88, "user": "bob", "epoch": 122, "processes": [{"cmd": "sh", "pid": 400, "ppid": 1}]},
        ],
    }  # fmt: skip


def test_each_process_without_a_job_is_a_job_object_of_its_own() -> None:
    lone = [ProcessRecord(user="_zombie_9", job=0, epoch=0, pid=pid, ppid=0, cmd="_unknown_") for pid in (9, 10)]

    jobs = attributes(sample(*lone))["jobs"]

    assert isinstance(jobs, list)
    assert [(job["job"], len(job["processes"])) for job in jobs] == [(0, 1), (0, 1)]


def test_sample_without_records_is_a_heartbeat() -> None:
    assert attributes(sample(system=None)) == {"time": TIME, "cluster": "fox", "node": "n1", "jobs": []}
    assert tagged.sample_lines(sample(system=None)) == (
        f"v=0.19.0,time={TIME},host=n1,user=_sonar_,cmd=_heartbeat_\n".encode()
    )


def test_name_that_is_no_unicode_costs_no_sample() -> None:
    record = ProcessRecord(user="jos\udce9", job=1, epoch=0, pid=2, ppid=3, cmd="sh")

    assert b'"user":"jos?"' in envelope.sample_envelope(sample(record))
    assert b",user=jos?," in tagged.sample_lines(sample(record))


def test_what_went_wrong_is_told_beside_the_sample() -> None:
    taken = Sample(1_700_000_000, "fox", "n1", (), None, errors=("GPU 1: lost",))

    assert attributes(taken)["errors"] == [{"detail": "GPU 1: lost", "time": TIME, "cluster": "fox", "node": "n1"}]


def test_failure_is_an_envelope_of_errors() -> None:
    whole = json.loads(envelope.error_envelope("no /proc", time=1_700_000_000, cluster="fox", host="n1"))

    assert whole.keys() == {"meta", "errors"}
    assert whole["errors"] == [{"detail": "no /proc", "time": TIME, "cluster": "fox", "node": "n1"}]
    assert tagged.error_line("no, /proc", time=1_700_000_000, host="n1") == (
        f'v=0.19.0,"error=no, /proc",timestamp={TIME},host=n1\n'.encode()
    )


def test_lines_of_tagged_csv() -> None:
    assert tagged.sample_lines(sample(BATCH, GROUP, LOCAL)).decode().splitlines() == [
        (
            f'v=0.19.0,time={TIME},host=n1,user=ada,"cmd=a,""b",job=77,pid=300,ppid=200,cpu%=312.5,cpukib=9000,'
            'rssanonkib=4000,"gpus=0,1",gpu%=42.2,gpumem%=12.5,gpukib=1024,cputime_sec=61,gpufail=1,'
            'load=&J(},"gpuinfo=fan%=27|,perf=P0|,musekib=1014720|,poww=4|"'
        ),
        f"v=0.19.0,time={TIME},host=n1,user=ada,cmd=rank,job=77,pid=5000000,ppid=300,rolledup=3",
        f"v=0.19.0,time={TIME},host=n1,user=bob,cmd=sh,job=88,epoch=122,pid=400,ppid=1",
    ]


def test_heartbeat_carries_the_load() -> None:
    (line,) = tagged.sample_lines(sample(gpus=())).decode().splitlines()

    assert line.endswith(",user=_sonar_,cmd=_heartbeat_,load=&J(}")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "("), (1, ")"), (44, "_"), (45, "(1"), (897, "&J"), (45**3 - 1, "_``")]
)
def test_base_45(number: int, text: str) -> None:
    assert tagged.base45(number) == text
    assert decoded(text) == [number]


def decoded(text: str) -> list[int]:
    """Return the numbers of a base-45 text, read by the definition."""
    first, others = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"
    numbers: list[int] = []
    weight = 1
    for char in text:
        if char in first:
            numbers.append(first.index(char))
            weight = 45
        else:
            numbers[-1] += others.index(char) * weight
            weight *= 45
    return numbers


@given(st.lists(st.integers(0, 2**50), max_size=300))
def test_load_can_be_read_back(cpu_s: list[int]) -> None:
    base, *above = decoded(tagged.load_text(cpu_s))

    assert [base + more for more in above] == cpu_s


@given(cmd=st.text(min_size=1), user=st.text(min_size=1))
def test_any_text_survives_csv(cmd: str, user: str) -> None:
    record = ProcessRecord(user=user, job=1, epoch=0, pid=2, ppid=3, cmd=cmd)
    text = tagged.sample_lines(sample(record, system=None)).decode()

    (fields,) = csv.reader(io.StringIO(text, newline=""))

    assert fields[3:5] == [f"user={user}", f"cmd={cmd}"]

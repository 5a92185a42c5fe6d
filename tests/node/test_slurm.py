"""What Slurm is asked and how its answers are taken: by programs of our own making on PATH, and by the readers."""

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.node import slurm
from sonar.node.envelope import envelope_of
from sonar.node.errands import DAY_S, Errands
from sonar.node.slurm import SlurmError, cluster_attributes, job_attributes, run_command
from sonar.read.slurm import JOBS, NODE_STATES, PARTITIONS

SONARD = Path(__file__).resolve().parents[2] / "libexec" / "sonard"
NOW = 1772442000  # 2026-03-02 09:00 UTC

DONE = {
    "JobIDRaw": "8812", "JobID": "8812", "User": "kim", "Account": "nn1", "State": "COMPLETED", "Submit": "1772430000",
    "Start": "1772431000", "End": "1772440000", "Partition": "accel", "Layout": "Block", "TimelimitRaw": "1440",
    "NodeList": "gpu-[1-2],c1-7", "Priority": "4711", "ReqCPUS": "40", "ReqNodes": "2", "ReqMem": "50G",
    "Suspended": "00:00:00", "ExitCode": "0:0", "ReqTRES": "billing=40,cpu=40", "AllocTRES": "cpu=40,gres/gpu=4,mem=50G",  # noqa: E501
    "ElapsedRaw": "9000", "SystemCPU": "01:02.500", "UserCPU": "1-02:03:04", "JobName": "train|a b",
}  # fmt: skip


def line(**fields: str) -> str:
    return "|".join(fields.get(name, "") for name in slurm._FIELDS)


SACCT = "\n".join(
    [
        line(**DONE),
        line(JobIDRaw="8812.batch", JobID="8812.batch", State="COMPLETED", Start="1772431000", End="1772440000",
             NodeList="gpu-1", ReqCPUS="20", ExitCode="0:0", ElapsedRaw="9000", AveCPU="10:00", MinCPU="10:00",
             AveDiskRead="12.50M", MaxRSS="1024K", MaxVMSize="2G", JobName="batch"),
        line(JobIDRaw="8900", JobID="8890_3", User="ann", Account="nn2", State="CANCELLED by 1000", Submit="1772430000",
             Start="Unknown", End="1772441000", Partition="normal", TimelimitRaw="UNLIMITED", NodeList="None assigned",
             Priority="0", ReqCPUS="1", ReqNodes="1", ReqMem="4Gc", ExitCode="0:15", JobName="x"),
        line(JobIDRaw="8901", JobID="8901+1", User="ann", State="PENDING", Submit="1772441000", Start="Unknown",
             End="Unknown", TimelimitRaw="10", NodeList="None assigned", ReqCPUS="8", ReqNodes="4", ReqMem="4096Mc",
             JobName="h"),
        "garbage",
        line(JobIDRaw="none", JobName="x"),
    ]
)  # fmt: skip
SINFO = "normal|c1-[5-28]\naccel|gpu-[1-2]\nempty|\n"
SCONTROL = (
    "NodeName=c1-5 Arch=x86_64 CoresPerSocket=32 State=IDLE ThreadsPerCore=1 OS=Linux 5.14 #1 SMP\n"
    "NodeName=c1-6 Arch=x86_64 State=IDLE\n"
    "NodeName=c1-7 Arch=x86_64 State=MIXED+DRAIN* Reason=disk = bad [root@2026]\n"
    "NodeName=gpu-1 State=DOWN+NOT_RESPONDING Partitions=accel\n"
)


def rows(kind: str, attributes: dict[str, object], topic: object) -> list[dict[str, object]]:
    dropped: Counter[str] = Counter()
    found = list(topic.read(envelope_of(kind, attributes), dropped))  # type: ignore[attr-defined]
    assert not dropped
    return found


def test_readers_read_the_jobs_back() -> None:
    (attributes,) = job_attributes(lambda _: SACCT, time=NOW, cluster="fox", since=NOW - 7200)
    done, batch, cancelled, pending = rows("job", attributes, JOBS)
    assert (done["job"], done["step"], done["name"], done["user"]) == (8812, "", "train|a b", "kim")
    assert (done["submit"], done["start"], done["end"]) == (1772430000, 1772431000, 1772440000)
    assert (done["timelimit_s"], done["priority"], done["state"]) == (86400, 4711, "COMPLETED")
    assert sorted(done["nodes"]) == ["c1-7", "gpu-1", "gpu-2"]  # type: ignore[call-overload]
    assert (done["req_cpus"], done["req_nodes"], done["req_mem_kib"]) == (40, 2, 50 << 20)
    assert (done["system_cpu_s"], done["user_cpu_s"], done["elapsed_s"]) == (62, 93784, 9000)
    assert done["allocated"] == "cpu=40,gres/gpu=4,mem=50G"
    assert (batch["job"], batch["step"], batch["ave_cpu_s"]) == (8812, "batch", 600)
    assert (batch["ave_disk_read_kib"], batch["max_rss_kib"], batch["max_vmsize_kib"]) == (12800, 1024, 2 << 20)
    assert (cancelled["state"], cancelled["array_job"], cancelled["array_task"]) == ("CANCELLED", 8890, 3)
    assert (cancelled["timelimit_s"], cancelled["start"], cancelled["priority"]) == (None, None, 0)
    assert cancelled["req_mem_kib"] == 4 << 20
    assert (pending["het_job"], pending["het_offset"], pending["end"]) == (8901, 1, None)
    assert pending["req_mem_kib"] == 2 * (4 << 20)  # 8 CPUs on 4 nodes


def test_question_is_for_all_users_and_a_window() -> None:
    asked: list[list[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(list(command))
        return ""

    list(job_attributes(run, time=NOW, cluster="fox", since=NOW - 7200))
    (command,) = asked
    assert command[0] == "sacct"
    assert "--allusers" in command
    (start,) = (word for word in command if word.startswith("--starttime="))
    assert len(start) == len("--starttime=2026-03-02T07:00:00")


def test_without_jobs_there_is_one_message_and_with_many_several() -> None:
    (empty,) = job_attributes(lambda _: "", time=NOW, cluster="fox", since=0)
    assert empty == {"time": "2026-03-02T09:00:00+00:00", "cluster": "fox", "slurm_jobs": []}
    many = "\n".join(line(JobIDRaw=str(n), State="PENDING") for n in range(1, 2501))
    parts = [part["slurm_jobs"] for part in job_attributes(lambda _: many, time=NOW, cluster="fox", since=0)]
    assert [len(part) for part in parts] == [1000, 1000, 500]  # type: ignore[arg-type]


def answer(command: Sequence[str]) -> str:
    return {"sacct": SACCT, "sinfo": SINFO, "scontrol": SCONTROL}[command[0]]


def test_readers_read_partitions_and_states_back() -> None:
    attributes = cluster_attributes(answer, time=NOW, cluster="fox")
    assert attributes["partitions"] == [
        {"name": "normal", "nodes": ["c1-[5-28]"]}, {"name": "accel", "nodes": ["gpu-[1-2]"]},
        {"name": "empty", "nodes": []},
    ]  # fmt: skip
    assert attributes["nodes"] == [
        {"names": ["gpu-1"], "states": ["DOWN", "NOT_RESPONDING"]},
        {"names": ["c1-[5-6]"], "states": ["IDLE"]},
        {"names": ["c1-7"], "states": ["MIXED", "DRAIN", "NOT_RESPONDING"]},
    ]
    assert len(rows("cluster", attributes, PARTITIONS)) == 3
    states = [row["nodes"] for row in rows("cluster", attributes, NODE_STATES)]
    assert states == [["gpu-1"], ["c1-5", "c1-6"], ["c1-7"]]


@given(st.text(alphabet=st.sampled_from("|=,[]-+*~ 0123456789KMGcn:.abz\n"), max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_is_printed_gives_messages_that_can_be_sent(text: str) -> None:
    for attributes in job_attributes(lambda _: text, time=NOW, cluster="fox", since=0):
        json.loads(envelope_of("job", attributes))
    json.loads(envelope_of("cluster", cluster_attributes(lambda _: text, time=NOW, cluster="fox")))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs called as Slurm's, which print what lies beside them."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in (("sacct", SACCT), ("sinfo", SINFO), ("scontrol", SCONTROL)):
        (directory / f"{name}.out").write_text(text)
        program = directory / name
        program.write_text(f'#!/bin/sh\n[ "$SLURM_TIME_FORMAT" = %s ] || exit 3\nexec cat {directory}/{name}.out\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_commands_that_fail_say_why(programs: Path) -> None:
    assert run_command(["sinfo"]) == SINFO
    (programs / "sacct").write_text("#!/bin/sh\necho 'slurmdbd: no route' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match="sacct ended with status 1: slurmdbd: no route"):
        run_command(["sacct"])
    with pytest.raises(SlurmError, match="no command nothing-of-slurm"):
        run_command(["nothing-of-slurm"])


def sonard(*argv: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SONARD), "--cluster=fox", "--host=login-1", "--once", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("programs")
def test_sonard_tells_of_slurm() -> None:
    done = sonard("--slurm", "--sysinfo", "--exclude-command=")
    assert (done.returncode, done.stderr) == (0, "")
    envelopes = [json.loads(text)["data"] for text in done.stdout.splitlines()]
    assert [one["type"] for one in envelopes] == ["sample", "sysinfo", "job", "cluster"]
    assert len(envelopes[2]["attributes"]["slurm_jobs"]) == 4
    assert {one["attributes"]["cluster"] for one in envelopes} == {"fox"}


def test_sonard_on_a_host_without_slurm_says_so_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = sonard("--slurm")
    assert done.returncode == 1
    assert "cannot tell of job, trying again: no command sacct" in done.stderr
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [sorted(one) for one in lines] == [["data", "meta"], ["errors", "meta"], ["errors", "meta"]]


class Kept:
    def __init__(self) -> None:
        self.put_kinds: list[str] = []
        self.asked: list[str] = []

    def put(self, _data: bytes, kind: str = "sample") -> None:
        self.put_kinds.append(kind)


def test_errands_are_done_at_the_start_and_once_in_each_period() -> None:
    kept = Kept()
    now = float(NOW)
    errands = Errands(
        "fox", "login-1", kept, cards=list, sysinfo=True, slurm_interval_s=3600, run=answer, clock=lambda: now
    )  # fmt: skip
    errands.run_due()
    assert kept.put_kinds == ["sysinfo", "job", "cluster"]
    for _ in range(DAY_S // 600):
        now += 600
        errands.run_due()
    counted = Counter(kept.put_kinds)
    assert (counted["sysinfo"], counted["job"], counted["cluster"]) == (2, 25, 25)


def test_jobs_of_a_time_in_which_slurm_could_not_be_asked_are_asked_for_later() -> None:
    starts: list[str] = []
    broken = False

    def run(command: Sequence[str]) -> str:
        if command[0] == "sacct":
            if broken:
                raise SlurmError("down")
            starts.append(command[5])
        return ""

    kept = Kept()
    now = float(NOW)
    errands = Errands("fox", "h", kept, cards=list, sysinfo=False, slurm_interval_s=3600, run=run, clock=lambda: now)
    errands.run_due()
    broken = True
    for _ in range(5):
        now += 3600
        errands.run_due()
    broken = False
    now += 3600
    errands.run_due()
    first, second = (text.partition("=")[2] for text in starts)
    assert Counter(kept.put_kinds)["job"] == 3  # one of them complains
    hours = (int(second[8:10]) - int(first[8:10])) * 24 + int(second[11:13]) - int(first[11:13])
    assert hours == 1  # two hours before the first look; one before it, at the second

"""Processes read from a fake /proc, whose numbers we know."""

import os
from pathlib import Path
from typing import Any

import pytest

from sonar.node import processes
from sonar.node.processes import Selection
from sonar.node.records import ProcessRecord, Sample
from sonar.node.sampler import Sampler, SamplingError

from tests.node.fake_proc import EPOCH, TICKS, UPTIME_S, FakeProc

SLURM_V1 = "9:name=systemd:/\n4:memory:/slurm/uid_4242/job_280678/step_interactive/task_0\n0::/\n"
SLURM_V2 = "0::/system.slice/node_slurmstepd.scope/job_77/step_0/user/task_1\n"


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def sample(proc: FakeProc, **options: object) -> Sample:
    return sampler(proc, **options).sample()


def sampler(proc: FakeProc, **options: object) -> Sampler:
    return Sampler(cluster="c", host="n1", proc=proc.root, clock=lambda: 1_700_010_000.9, **options)  # type: ignore[arg-type]


def only_record(proc: FakeProc, **options: object) -> ProcessRecord:
    (record,) = sample(proc, **options).records
    return record


def test_all_fields_of_a_process(proc: FakeProc) -> None:
    proc.add(
        300, "my prog) S 1", ppid=200, pgrp=250, user_s=30, system_s=20, children_s=5.6, threads=4,
        io=(4096, 1, 2048),
    )  # fmt: skip

    assert only_record(proc) == ProcessRecord(
        user="_user_4242",
        job=250,
        epoch=EPOCH,
        pid=300,
        ppid=200,
        cmd="my prog) S 1",
        cpu_avg_pct=5.0,
        cpu_util_pct=0.0,
        cpu_time_s=56,
        virtual_kib=7132,
        resident_kib=5000,
        threads=4,
        io_kib=(4, 1, 2),
    )


def test_time_is_floored_and_the_names_are_given(proc: FakeProc) -> None:
    taken = sample(proc)

    assert (taken.time, taken.cluster, taken.host, taken.records) == (1_700_010_000, "c", "n1", ())


def test_user_is_looked_up(proc: FakeProc) -> None:
    proc.add(300, uid=0)

    assert only_record(proc).user == "root"


def test_current_use_is_that_since_the_previous_sample(proc: FakeProc) -> None:
    proc.add(300, user_s=100, children_s=50)
    watcher = sampler(proc)
    watcher.sample()
    proc.add(300, user_s=115, system_s=5, children_s=500)
    proc.set_uptime(UPTIME_S + 40)

    (record,) = watcher.sample().records
    assert record.cpu_util_pct == pytest.approx(50.0)
    assert record.cpu_time_s == 620


def test_current_use_of_a_process_that_began_after_the_previous_sample_is_its_mean(proc: FakeProc) -> None:
    watcher = sampler(proc)
    watcher.sample()
    proc.set_uptime(UPTIME_S + 40)
    proc.add(300, user_s=5, age_s=-20)

    (record,) = watcher.sample().records
    assert record.cpu_util_pct == record.cpu_avg_pct == pytest.approx(25.0)


def test_a_pid_that_was_given_away_again_has_no_past(proc: FakeProc) -> None:
    proc.add(300, user_s=100)
    watcher = sampler(proc)
    watcher.sample()
    proc.add(300, user_s=1, age_s=-30)
    proc.set_uptime(UPTIME_S + 40)

    (record,) = watcher.sample().records
    assert record.cpu_util_pct == pytest.approx(10.0)


def test_process_in_its_first_tick_has_finite_use(proc: FakeProc) -> None:
    proc.add(300, user_s=1 / TICKS, age_s=0)

    assert only_record(proc).cpu_avg_pct == pytest.approx(100.0)


@pytest.mark.parametrize(("cgroup", "job"), [(SLURM_V1, 280678), (SLURM_V2, 77), ("0::/slurm/uid_1/job_5\n", 5)])
def test_job_of_slurm_comes_from_the_control_group(proc: FakeProc, cgroup: str, job: int) -> None:
    proc.add(300, cgroup=cgroup)

    record = only_record(proc)
    assert (record.job, record.epoch) == (job, 0)


@pytest.mark.parametrize("cgroup", ["0::/user.slice/job_x/y\n", "0::/my_job_5/x\n", "0::/job_0/x\n", "", None])
def test_without_slurm_the_job_is_the_process_group_of_this_boot(proc: FakeProc, cgroup: str | None) -> None:
    proc.add(300, pgrp=250, cgroup=cgroup)

    record = only_record(proc)
    assert (record.job, record.epoch) == (250, EPOCH)


def test_batchless_takes_the_process_group_even_below_slurm(proc: FakeProc) -> None:
    proc.add(300, pgrp=250, cgroup=SLURM_V2)

    record = only_record(proc, batchless=True)
    assert (record.job, record.epoch) == (250, EPOCH)


def test_epoch_stays_when_the_clock_is_set(proc: FakeProc) -> None:
    proc.add(300)
    watcher = sampler(proc)
    watcher.sample()
    stat = proc.root / "stat"
    stat.write_text(stat.read_text().replace("btime 1700", "btime 1800"))

    taken = watcher.sample()
    assert taken.records[0].epoch == EPOCH
    assert taken.system
    assert taken.system.boot == 1_800_000_000


def test_epoch_before_2020_is_not_that_of_a_batch_system(proc: FakeProc) -> None:
    stat = proc.root / "stat"
    stat.write_text(stat.read_text().replace("btime 1700000000", "btime 5"))
    proc.add(300)

    assert only_record(proc).epoch == 1


def test_zombie_is_marked(proc: FakeProc) -> None:
    proc.add(300, "worker", state="Z", memory=False)

    record = only_record(proc)
    assert (record.cmd, record.resident_kib, record.virtual_kib) == ("worker <defunct>", 0, 0)


def test_kernel_threads_and_dead_processes_are_left_out(proc: FakeProc) -> None:
    proc.add(2, "kthreadd", flags=0x208040, memory=False)
    proc.add(3, "gone", state="X")

    assert sample(proc).records == ()


def test_process_without_permission_to_read_its_io_has_none(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(300)
    contents = processes._contents

    def refusing(name: str, directory: int) -> bytes:
        if name == "io":
            raise PermissionError(13, "Permission denied")
        return contents(name, directory)

    monkeypatch.setattr(processes, "_contents", refusing)
    assert only_record(proc).io_kib is None


@pytest.mark.parametrize("missing", ["stat", "status"])
def test_process_that_vanishes_while_it_is_read_is_left_out(proc: FakeProc, missing: str) -> None:
    proc.add(300)
    (proc.add(301) / missing).unlink()

    assert only_record(proc).pid == 300


def test_process_that_cannot_be_understood_costs_no_other(proc: FakeProc) -> None:
    proc.add(300)
    (proc.add(301) / "stat").write_text("301 (torn) S 1")
    (proc.add(302) / "stat").write_text("")
    (proc.add(303) / "status").write_text("Name:\tx\n")

    assert only_record(proc).pid == 300


def test_name_of_a_process_breaks_no_line(proc: FakeProc) -> None:
    (proc.add(300) / "stat").write_bytes(b'300 (a\n\x1b\xff,"b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 1 2\n')
    (proc.add(301) / "stat").write_bytes(b"301 () S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 1 2\n")

    assert [record.cmd for record in sample(proc).records] == ['a??\ufffd,"b', "_noinfo_"]


@pytest.mark.parametrize(
    ("cgroup", "pid_namespaces", "expected"),
    [
        ("0::/user.slice\n", 1, False),
        ("0::/user.slice\n", 2, True),
        ("0::/system.slice/docker-0123abcd.scope\n", 1, True),
        ("1:cpu:/docker/0123abcd\n", 1, True),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-12.scope\n", 1, True),
        ("0::/user.slice/apptainer-815.scope\n", 1, True),
        ("0::/system.slice/docker.service\n", 1, False),
    ],
)
def test_containers_are_noticed(proc: FakeProc, cgroup: str, pid_namespaces: int, expected: bool) -> None:
    proc.add(300, cgroup=cgroup, pid_namespaces=pid_namespaces)

    assert only_record(proc).in_container is expected


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), {300, 301, 302, 303}),
        (Selection(exclude_system=True), {300, 301, 303}),
        (Selection(exclude_users=frozenset({"root", "nobody?"})), {300, 301, 303}),
        (Selection(exclude_commands=("bash", "no")), {300, 302, 303}),
        (Selection(min_cpu_s=10), {303}),
    ],
)
def test_selection_leaves_processes_out(proc: FakeProc, selection: Selection, left: set[int]) -> None:
    proc.add(300, user_s=9.9)
    proc.add(301, "bash-5")
    proc.add(302, uid=0)
    proc.add(303, user_s=9, children_s=1)

    assert {record.pid for record in sample(proc, selection=selection).records} == left


def test_rollup_joins_leaves_of_one_job_parent_and_command(proc: FakeProc) -> None:
    proc.add(100, "mpirun", pgrp=100)
    for pid in (201, 202, 203):
        proc.add(pid, "rank", ppid=100, pgrp=100, user_s=100, threads=2)
    proc.add(204, "rank", ppid=100, pgrp=100)
    proc.add(205, "other", ppid=204, pgrp=100)
    proc.add(206, "rank", ppid=1, pgrp=100)
    watcher = sampler(proc, rollup=True)

    records = {record.pid: record for record in watcher.sample().records}

    assert records.keys() >= {100, 204, 205, 206}
    (group,) = [record for pid, record in records.items() if pid not in {100, 204, 205, 206}]
    assert group.pid >= 1 << 22
    assert (group.cmd, group.ppid, group.job, group.rolledup) == ("rank", 100, 100, 2)
    assert (group.cpu_time_s, group.resident_kib, group.threads, group.io_kib) == (300, 15000, 6, (12, 3, 0))
    assert group.cpu_avg_pct == pytest.approx(30.0)


def test_pid_of_a_group_is_the_same_after_a_restart_and_with_other_members(proc: FakeProc) -> None:
    for pid in (201, 202, 203):
        proc.add(pid, "rank", ppid=100, pgrp=100)
    before = only_record(proc, rollup=True)
    proc.add(204, "rank", ppid=100, pgrp=100)

    after = only_record(proc, rollup=True)

    assert (before.pid, before.rolledup, after.rolledup) == (after.pid, 2, 3)


def test_state_of_the_host(proc: FakeProc) -> None:
    system = sample(proc).system

    assert system
    assert (system.boot, system.cpu_s, system.used_kib) == (1_700_000_000, (116, 50), 600_000)
    assert (system.load, system.runnable, system.existing) == ((0.5, 1.25, 2.0), 3, 456)
    assert [(disk.name, disk.major, disk.minor, disk.stats) for disk in system.disks] == [
        ("sda", 8, 0, tuple(range(1, 12))),
        ("sda1", 8, 1, (9, 8, 7, 6)),
    ]


def test_core_that_is_offline_keeps_its_place(proc: FakeProc) -> None:
    stat = proc.root / "stat"
    stat.write_text(stat.read_text().replace("cpu1", "cpu3"))

    system = sample(proc).system
    assert system
    assert system.cpu_s == (116, 0, 0, 50)


def test_host_without_disks_is_sampled(proc: FakeProc) -> None:
    (proc.root / "diskstats").unlink()

    system = sample(proc).system
    assert system
    assert system.disks == ()


def test_load_can_be_left_out(proc: FakeProc) -> None:
    assert sample(proc, load=False).system is None


@pytest.mark.parametrize("file", ["uptime", "stat", "meminfo", "loadavg"])
@pytest.mark.parametrize("damage", ["missing", "empty", "nonsense"])
def test_host_that_cannot_be_read_is_an_error(proc: FakeProc, file: str, damage: str) -> None:
    path = proc.root / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("cpu0 what\nbtime ever\n" if damage == "nonsense" else "")

    with pytest.raises(SamplingError, match="cannot sample"):
        sample(proc)


def test_processes_that_we_may_not_look_at_are_told_once_and_cost_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.add(10, "mine")
    proc.add(11, "hidden")
    real_open = os.open

    def open_as_others(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith("/11"):
            raise PermissionError(1, "Operation not permitted", str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("os.open", open_as_others)
    sample = Sampler(cluster="fox", host="h", proc=proc.root).sample()

    assert [record.cmd for record in sample.records] == ["mine"]
    assert sample.errors == ("may not look at processes of other users (hidepid of proc(5))",)

"""The report on one job, its notes, and where its figures come from."""

from dataclasses import replace
from pathlib import Path

import pytest

from sonar.config.nodes import Node
from sonar.errors import SonarError
from sonar.verbs.notes import NOTES, Figures, notes_on

from tests.verbs.asking import ask, envelope, put, rows

GIB = 1 << 20
GOOD = Figures(
    hosts=2, idle_hosts=0, duration_s=7200, limit_s=8000, completed=True, state="COMPLETED", seen=50, expected=50,
    cores=16, cpu_avg=14, cpu_peak=16, mem_gb=64, mem_peak=40, cards=4, cards_used=4, gpu_avg=3, gpu_peak=4,
    gpu_failed=False, zombie=False, asked=True,
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Job 77 on two hosts for half an hour: one core of sixteen in use on n1, nothing on n2; one card of four."""
    for minute in range(0, 31, 5):
        for node, rate, gpus in (("n1", 1.0, [{"index": 0, "gpu_util": 50, "gpu_memory": GIB}]), ("n2", 0.0, [])):
            process = {"cmd": "train", "pid": 5, "cpu_avg": 100 * rate, "cpu_time": int(rate * minute * 60)}
            process |= {"resident_memory": 2 * GIB, "virtual_memory": 9 * GIB, "gpus": gpus}
            job = {"job": 77, "user": "ann", "epoch": 0, "processes": [process]}
            text = envelope("sample", time=f"2024-03-01T02:{minute:02}:00Z", node=f"{node}.x", jobs=[job])
            put(tmp_path, f"0+sample-{node}.x.json", text)
    told = {
        "job_id": 77, "job_name": "fit", "user_name": "ann", "partition": "accel", "job_state": "COMPLETED",
        "start_time": "2024-03-01T01:59:00Z", "end_time": "2024-03-01T02:31:00Z", "requested_cpus": 16,
        "requested_memory_per_node": 32 * GIB, "requested_node_count": 2, "time_limit": 86400,
        "requested_resources": "gres/gpu:a100=4",
    }  # fmt: skip
    put(tmp_path, "0+job-slurm.json", envelope("job", time="2024-03-01T03:00:00Z", slurm_jobs=[told]))
    return tmp_path


def test_report_is_one_screen(tree: Path) -> None:
    report = ask("job", tree, job="77")

    assert (
        report
        == """\
Job 77  ann  fit                                                       COMPLETED
  ran      2024-03-01 02:00 to 2024-03-01 02:30 UTC, 30 min of a limit of 1 d
  on       n[1-2].x
  asked    2 nodes, 16 CPUs, 32 GB a node, GPUs a100=4, partition accel
  samples  14 of 14 expected (100 %)

  CPU      ██································    6%  1.0 of 16 cores, peak 1.0
  memory   ██································    6%  4.0 of 64 GB
  GPU      ████······························   12%  0.50 of 4 cards, peak 0.50

  host                     CPU    peak      memory      GPU   peak   samples
  n1                       1.0     1.0      2.0 GB      0.5    0.5         7
  n2                       0.0     0.0      2.0 GB      0.0    0.0         7

* It used 1 of the 4 GPUs that it asked for.
      #SBATCH --gpus=1
* 1 of its 2 hosts did nothing. Was the program started on all of them?
      #SBATCH --nodes=1
* It used one core of the 16 that it asked for: the program does not run in
  parallel.
      #SBATCH --ntasks=1 --cpus-per-task=1
* It used 4.0 GB at most of the 64 GB of memory that it asked for.
      #SBATCH --mem=3G
* It ended long before its time limit: shorter jobs start sooner.
      #SBATCH --time=0-00:45:00
"""
    )
    assert max(map(len, report.splitlines())) <= 80


def test_without_a_batch_system_it_is_about_what_the_hosts_have(tree: Path) -> None:
    (tree / "2024/03/01/0+job-slurm.json").unlink()
    nodes = {name: Node(name, "", 8, 64, 4, 160) for name in ("n1.x", "n2.x")}

    report = ask("job", tree, nodes=nodes, job="77")

    assert "  CPU      ██································    6%  1.0 of 16 cores, peak 1.0\n" in report
    assert "  GPU      █████████████████·················   50%  0.50 of 1 cards" in report
    assert "SBATCH" not in report
    assert "memory   4.0 GB at its peak\n" in ask("job", tree, job="77")


def test_rows_of_its_hosts_are_printed_in_other_formats(tree: Path) -> None:
    assert rows("job", tree, "host,cpu-peak,gpus,seen", job="77") == [
        {"host": "n1.x", "cpu-peak": "100", "gpus": "0", "seen": "7"},
        {"host": "n2.x", "cpu-peak": "0", "gpus": "none", "seen": "7"},
    ]


def test_job_must_be_one_that_is_there(tree: Path) -> None:
    with pytest.raises(SonarError, match="No samples of job 5 in this time"):
        ask("job", tree, job="5")
    with pytest.raises(SonarError, match="Exactly one job number is required"):
        ask("job", tree)


def test_figures_are_explained(tree: Path) -> None:
    told = {
        row["figure"]: (row["value"], row["formula"], row["samples"]) for row in rows("explain", tree, "all", job="77")
    }

    assert told["cpu-avg"][0] == "100"
    assert told["cpu-avg"][1].endswith("sum over its samples / their number, rounded up: 700.0000 / 7 = 100.0000")
    assert told["gpus"] == ("0", "all cards in any of its samples", "7 of 7")
    assert told["mark <"] == ("yes", "start = the first sample of its hosts", "2024-03-01T02:00:00Z")
    assert told["note serial"][0] == "holds"
    assert told["note zombie"][0] == "no"
    assert sum(name.startswith("note ") for name in told) == len(NOTES)
    printed = ask("explain", tree, job="77")
    assert "\n2024-03-01T02:05:00Z  2          100  18   4    50   1\n" in printed


@pytest.mark.parametrize(
    ("change", "name", "request_line"),
    [
        ({"seen": 2}, "brief", ""),
        ({"seen": 30}, "coverage", ""),
        ({"state": "OUT_OF_MEMORY"}, "out-of-memory", "#SBATCH --mem=48G"),
        ({"state": "TIMEOUT"}, "timeout", "#SBATCH --time=0-04:27:00"),
        ({"gpu_failed": True}, "gpu-failed", ""),
        ({"gpu_avg": 0.0, "gpu_peak": 0.1}, "gpu-idle", "leave out --gpus and --gres=gpu, and a partition with GPUs"),
        ({"cards_used": 3}, "gpu-number", "#SBATCH --gpus=3"),
        ({"gpu_avg": 0.5}, "gpu-low", ""),
        ({"idle_hosts": 1}, "hosts-idle", "#SBATCH --nodes=1"),
        ({"cpu_avg": 1.0, "cpu_peak": 2.0}, "serial", "#SBATCH --ntasks=1 --cpus-per-task=1"),
        ({"cpu_avg": 5.0, "cpu_peak": 7.5}, "cpu-low", "#SBATCH --cpus-per-task=4"),
        ({"cpu_avg": 20.0, "cpu_peak": 22.0}, "cpu-crowded", "#SBATCH --cpus-per-task=10"),
        ({"mem_peak": 60.0}, "memory-narrow", "#SBATCH --mem=36G"),
        ({"mem_peak": 8.0}, "memory-low", "#SBATCH --mem=5G"),
        ({"limit_s": 86400}, "time-low", "#SBATCH --time=0-03:00:00"),
        ({"zombie": True}, "zombie", ""),
    ],
)
def test_each_note_holds_where_its_rule_does(change: dict[str, object], name: str, request_line: str) -> None:
    figures = replace(GOOD, **change)  # type: ignore[arg-type]

    assert notes_on(GOOD) == []
    assert [(note.name, note.request(figures)) for note in notes_on(figures)] == [(name, request_line)]


def test_every_note_has_a_test() -> None:
    tested = test_each_note_holds_where_its_rule_does.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {note.name for note in NOTES} == {case[1] for case in tested}
    assert all(note.text(GOOD) for note in NOTES)

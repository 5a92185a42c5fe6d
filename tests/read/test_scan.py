"""The scan: which files of a tree answer a question, and what of them is given."""

import json
from pathlib import Path

import pytest

from sonar.errors import SonarError
from sonar.hosts import HostPatterns
from sonar.read.scan import Scan
from sonar.times import parse_instant


def instant(text: str) -> int:
    found = parse_instant(text)
    assert found is not None
    return found


def line(time: str, host: str, job: int) -> str:
    return f"v=0.12.1,time={time},host={host},user=ann,cmd=py,job={job}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for day, host, job in (("01", "a", 1), ("02", "a", 2), ("02", "b.x", 3), ("03", "a", 4)):
        path = tmp_path / "2024" / "03" / day / f"{host}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line(f"2024-03-{day}T10:00:00Z", host, job))
    return tmp_path


def jobs(scan: Scan) -> list[int | None]:
    return [job for table in scan.tables() for job in table.column("job").to_pylist()]


def test_only_the_days_asked_for_are_given(tree: Path) -> None:
    scan = Scan.of_tree(tree, instant("2024-03-02T00:00:00Z"), instant("2024-03-02T12:00:00Z"))

    assert jobs(scan) == [2, 3]


def test_a_record_filed_under_its_local_date_is_found(tree: Path) -> None:
    with (tree / "2024" / "03" / "02" / "a.csv").open("a") as file:
        file.write(line("2024-03-02T00:30:00+01:00", "a", 9))

    scan = Scan.of_tree(tree, instant("2024-03-01T00:00:00Z"), instant("2024-03-01T23:59:59Z"))

    assert set(jobs(scan)) == {1, 9}


def test_hosts_select_files_and_records(tree: Path) -> None:
    (tree / "2024" / "03" / "02" / "b.x.csv").write_text(
        line("2024-03-02T10:00:00Z", "b.x", 3) + line("2024-03-02T10:00:00Z", "a", 8)
    )

    scan = Scan.of_tree(tree, 0, instant("2024-03-09T00:00:00Z"), HostPatterns.parse(["b"]))

    assert [path.name for path in scan.files] == ["b.x.csv"]
    assert jobs(scan) == [3]


def test_each_host_comes_once_in_order_wherever_its_records_lie(tree: Path) -> None:
    with (tree / "2024" / "03" / "03" / "a.csv").open("a") as file:
        file.write(line("2024-03-03T11:00:00Z", "c", 7) + line("2024-03-03T11:00:00Z", "b.x", 6))

    scan = Scan.of_tree(tree, 0, instant("2024-03-09T00:00:00Z"))

    found = [(host, table.column("job").to_pylist()) for host, table in scan.by_host(["job"])]
    assert found == [("a", [1, 2, 4]), ("b.x", [3, 6]), ("c", [7])]


def test_an_envelope_wins_over_csv_of_the_same_host_and_instant(tree: Path) -> None:
    attributes = {"time": "2024-03-02T10:00:00Z", "node": "a", "jobs": [{"job": 5, "processes": [{"cmd": "x"}]}]}
    text = json.dumps({"data": {"type": "sample", "attributes": attributes}})
    (tree / "2024" / "03" / "02" / "0+sample-a.json").write_text(text + "\n")

    scan = Scan.of_tree(tree, instant("2024-03-02T00:00:00Z"), instant("2024-03-02T23:00:00Z"))

    assert jobs(scan) == [5, 3]


def test_other_files_of_the_tree_are_not_samples(tree: Path) -> None:
    day = tree / "2024" / "03" / "02"
    for name in ("cpuhog.csv", "bughunt.csv", "slurm-sacct.csv", "sysinfo-a.json", "0+job-slurm.json", "x.txt", ".csv"):
        (day / name).write_text(line("2024-03-02T10:00:00Z", "a", 99))
    (day / "folder.csv").mkdir()

    scan = Scan.of_tree(tree, instant("2024-03-02T00:00:00Z"), instant("2024-03-02T23:00:00Z"))

    assert jobs(scan) == [2, 3]


def test_a_file_that_vanishes_from_the_tree_is_no_error(tree: Path) -> None:
    scan = Scan.of_tree(tree, 0, instant("2024-03-09T00:00:00Z"))
    scan.files[0].unlink()

    assert jobs(scan) == [2, 3, 4]


def test_explicit_files_give_all_their_records_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line("1999-03-02T10:00:00Z", "a", 1) + "junk\n")
    (tmp_path / "other").write_text('{"data":{"attributes":{"time":"2024-03-02T10:00:00Z","node":"n"}}}\n')

    scan = Scan.of_files([tmp_path / "log", tmp_path / "other"])

    assert set(jobs(scan)) == {0, 1}
    assert dict(scan.discarded) == {(tmp_path / "log", "missing-v"): 1}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match="Not a viable log directory"):
        Scan.of_tree(tmp_path / "nowhere", 0, 1)
    with pytest.raises(SonarError, match="No such file or directory"):
        jobs(Scan.of_files([tmp_path / "absent"]))

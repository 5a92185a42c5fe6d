"""naicreport violations and its old names: the log of scans, the state between runs, what is told once."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.report.freecsv import FreeCSVError, parse_line, record_line
from sonar.report.joblog import Record, jobs_of
from sonar.report.jobstate import JobState, State, read_state, write_state

NAICREPORT = Path(__file__).resolve().parents[2] / "libexec" / "naicreport"
HOUR = 3600
T0 = 1_770_000_000 // 60 * 60


def naicreport(
    directory: Path, *argv: str, status: int | None = 0, stdout: IO[str] | int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, NAICREPORT, *argv],
        cwd=directory,
        env=os.environ | {"SONAR_NOW": "2024-01-15T12:00:00Z"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert status is None or done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def dead(job: int, now: str, start: str, end: str, host: str = "h1", user: str = "u1") -> str:
    return f"now={now},jobm={job},tag=deadweight,user={user},cmd=x,host={host},start={start},end={end}\n"


@given(st.dictionaries(st.from_regex(r"[a-z-]{1,8}", fullmatch=True), st.text(max_size=20), max_size=6))
def test_free_csv_comes_back_as_it_was(fields: dict[str, str]) -> None:
    flat = {name: value.replace("\r", " ").replace("\n", " ") for name, value in fields.items()}

    assert parse_line(record_line(fields)) == flat


@given(st.text(max_size=60))
def test_any_line_is_fields_or_an_error(line: str) -> None:
    with contextlib.suppress(FreeCSVError):
        assert all("=" not in name for name in parse_line(line))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), max_size=20, unique=True))
def test_a_gap_between_scans_parts_jobs(seen: list[tuple[int, int]]) -> None:
    scans = [Record(T0 + number * HOUR, "") for number in range(7)]
    records = [
        Record(T0 + scan * HOUR, "h", job, "u", "c", T0, T0 + scan * HOUR) for scan, job in seen
    ]  # fmt: skip

    jobs = jobs_of([*scans, *records])

    for number in {job for _, job in seen}:
        present = [(scan, number) in seen for scan in range(7)]
        runs = sum(is_there and not before for is_there, before in zip(present, [False, *present[:-1]], strict=True))
        of_number = [job for job in jobs if job.id == number]
        assert len(of_number) == runs
        assert [job.is_expired for job in of_number] == [True] * (runs - 1) + [False]


def test_a_reused_number_is_another_job_and_is_reported(tmp_path: Path) -> None:
    first = dead(7, "2024-01-10 02:00", "2024-01-10 00:00", "2024-01-10 01:55")
    (tmp_path / "a.csv").write_text(first)
    argv = ["deadweight", "--from", "2024-01-01", "--state-file", "s.csv", "--summary", "--"]
    assert naicreport(tmp_path, *argv, "a.csv").stdout == "u1,7,h1\n"

    other = dead(99, "2024-01-11 02:00", "2024-01-11 00:00", "2024-01-11 01:55")  # a scan without 7
    second = dead(7, "2024-01-12 02:00", "2024-01-12 00:00", "2024-01-12 01:55", user="u2")
    (tmp_path / "b.csv").write_text(first + other + second)

    assert sorted(naicreport(tmp_path, *argv, "b.csv").stdout.splitlines()) == ["u1,99,h1", "u2,7,h1"]
    assert naicreport(tmp_path, *argv, "b.csv").stdout == ""
    sevens = [job for job in read_state(tmp_path / "s.csv").jobs if job.id == 7]
    assert [(job.is_reported, job.is_expired) for job in sevens] == [(True, True), (True, False)]


def test_what_a_run_has_seen_is_not_purged_by_it(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(dead(7, "2023-10-24 20:02", "2023-10-24 00:00", "2023-10-24 20:00"))
    argv = ["deadweight", "--state-file", "s.csv", "--summary", "--", "old.csv"]

    assert naicreport(tmp_path, *argv).stdout == "u1,7,h1\n"
    assert naicreport(tmp_path, *argv).stdout == ""


def test_what_left_the_log_is_forgotten_by_age_even_if_never_reported(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    write_state(tmp_path / "s.csv", State([JobState(1, "h", T0, T0, 1_600_000_000)]))

    naicreport(tmp_path, "deadweight", "--state-file", "s.csv", "--json", "--", "empty.csv")

    assert (tmp_path / "s.csv").read_text() == ""


def test_an_unreadable_state_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(dead(7, "2024-01-15 02:00", "2024-01-15 00:00", "2024-01-15 01:55"))
    (tmp_path / "s.csv").write_text('id="1\n')
    argv = ["deadweight", "--state-file", "s.csv", "--summary", "--", "a.csv"]

    done = naicreport(tmp_path, *argv, status=1)

    assert "s.csv', line 1" in done.stderr
    assert (tmp_path / "s.csv").read_text() == 'id="1\n'
    (tmp_path / "s.csv").unlink()
    (tmp_path / "s.csv").mkdir()  # root may read anything but this
    assert "s.csv" in naicreport(tmp_path, *argv, status=1).stderr


def test_text_that_nobody_received_is_told_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(dead(7, "2024-01-15 02:00", "2024-01-15 00:00", "2024-01-15 01:55"))
    argv = ["deadweight", "--state-file", "s.csv", "--", "a.csv"]

    with Path("/dev/full").open("w") as full:
        done = naicreport(tmp_path, *argv, status=1, stdout=full)

    assert "Standard output" in done.stderr
    assert "Job#: 7" in naicreport(tmp_path, *argv).stdout
    assert naicreport(tmp_path, *argv).stdout == ""


def test_now_is_an_option(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(dead(7, "2024-02-15 02:00", "2024-02-15 00:00", "2024-02-15 01:55"))

    done = naicreport(
        tmp_path, "deadweight", "--now", "2024-02-15 12:00", "--state-file", "s.csv", "--json", "--", "a.csv"
    )

    assert '"first-violation":"2024-02-15 12:00"' in done.stdout


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["deadweight", "--state-dir", "d", "--", "a.csv"], "--state-dir"),
        (["deadweight", "--from", "2023-02-31", "--state-dir", "."], "2023-02-31"),
        (["violations", "no-such", "--state-dir", "."], "no-such"),
        (["violations", "--state-dir", "."], "--policy"),
        (["load", "--data-dir", "d"], "--config-file"),
        (["no-such-report"], "no-such-report"),
    ],
)
def test_a_wrong_command_line_names_the_culprit(argv: list[str], culprit: str, tmp_path: Path) -> None:
    done = naicreport(tmp_path, *argv, status=2)

    assert culprit in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_states_are_sorted_and_survive_a_round_trip(tmp_path: Path) -> None:
    jobs = [JobState(2, "b", T0, T0, T0), JobState(10, "a", T0, T0, T0, is_reported=True), JobState(9, "a", T0, T0, T0)]
    write_state(tmp_path / "s.csv", State(jobs))

    assert [(job.host, job.id) for job in read_state(tmp_path / "s.csv").jobs] == [("a", 9), ("a", 10), ("b", 2)]
    assert set(read_state(tmp_path / "s.csv").jobs) == set(jobs)

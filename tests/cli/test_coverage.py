"""How well jobs and slots are covered by samples: runs of the sampler seen and expected."""

from pathlib import Path

import pytest

from tests.cli.test_sonalyze import answer

START = 9 * 60  # minutes of the day
# n1 is sampled every five minutes for two hours, but not from 9:30 to 10:00; only heartbeats in the first ten minutes.
# Job 7 has a process in three runs at 9:10, 9:15 and 10:05, job 8 in one.
RUNS = [minute for minute in range(START, START + 121, 5) if not 570 < minute < 600]
RECORDS = "".join(
    f"v=0.9.0,time=2024-01-10T{minute // 60:02}:{minute % 60:02}:00Z,host=n1.x,{what}\n"
    for minute in RUNS
    for what in (
        ["user=ann,job=7,pid=1,cmd=a,cputime_sec=1"] if minute in (550, 555, 605)
        else ["user=bob,job=8,pid=2,cmd=b"] if minute == 610
        else ["user=_sonar_,cmd=_heartbeat_"]
    )
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text(RECORDS + "v=0.9.0,time=2024-01-10T09:00:00Z,host=n2.x,user=ann,job=9,cmd=c\n")
    return tmp_path


def test_job_is_covered_by_the_runs_of_its_host(place: Path) -> None:
    argv = ("jobs", "-u-", "--min-samples=1", "--fmt=csv,job,cover", "--", "data.csv")

    # 9:10 to 10:05: 12 runs expected, those at 9:35 to 9:55 are missing. A host with one run tells no interval.
    assert answer(place, *argv) == "9,1,1,1,100,yes\n7,3,7,12,58,no\n8,1,1,1,100,yes\n"
    query = ("-q", "coverage < 80 and brief = no")
    assert answer(place, *argv[:2], *query, *argv[2:]) == "7,3,7,12,58,no\n"


def test_slot_is_covered_by_the_runs_within_the_window(place: Path) -> None:
    argv = ("load", "--host=n1", "--from=2024-01-10", "--compact", "--fmt=csv,time,cover", "--", "data.csv")

    assert answer(place, *argv) == "09:00,7,12,58,no\n10:00,12,12,100,no\n11:00,1,1,100,yes\n"
    last = (*argv[:4], "--last", "--fmt=csv,time,cover", "--", "data.csv")
    assert answer(place, *last) == "11:00,1,1,100,yes\n"
    assert answer(place, "load", "--host=none", "--fmt=csv,time,cover", "--", "data.csv") == ""


def test_group_adds_up_its_hosts(place: Path) -> None:
    argv = ("load", "--group", "--compact", "--daily", "--fmt=csv,cover", "--", "data.csv")

    assert answer(place, *argv) == "21,25,84,no\n"


def test_a_stated_interval_goes_before_what_the_samples_tell(place: Path) -> None:
    (place / "fox.conf").write_text("[Cluster]\nTitle=Fox\nSampleInterval=1min\n")
    (place / "silent.conf").write_text("[Cluster]\nTitle=Fox\n")
    jobs = ("jobs", "-u-", "--min-samples=1", "--fmt=csv,job,cover")
    load = ("load", "--host=n1", "--compact", "--fmt=csv,time,cover")

    # 9:10 to 10:05 are 56 runs at one a minute.
    stated = answer(place, *jobs, "--config-file=fox.conf", "--", "data.csv")
    assert stated == "9,1,1,1,100,yes\n7,3,7,56,12,no\n8,1,1,1,100,yes\n"
    assert answer(place, *load, "--config-file=fox.conf", "--", "data.csv").splitlines()[0] == "09:00,7,60,11,no"
    assert answer(place, *jobs, "--config-file=silent.conf", "--", "data.csv") == answer(place, *jobs, "--", "data.csv")

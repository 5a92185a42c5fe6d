"""The package as a library: sonar.open and its answers, the page's examples, and that importing it is light."""

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

import sonar
from sonar.demo.history import write_history
from sonar.errors import SonarError, UsageError

PAGE = Path(__file__).resolve().parents[1] / "man" / "sonar.3"
NOW = 1_730_000_000  # 2024-10-27T03:33:20Z


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONAR_NOW", "2024-01-10T12:00:00Z")


@pytest.fixture
def files(tmp_path: Path, now: None) -> list[Path]:
    """The samples of two users' jobs, in two files."""
    paths = []
    for user, job, rate in (("ann", 10, 0.5), ("bob", 20, 2.0)):
        lines = [
            f"v=0.9.0,time=2024-01-10T10:{minute:02}:00Z,host=n1.x,user={user},job={job},pid={job},cmd=c,"
            f"cputime_sec={60 * rate * minute},gpus=0\n"
            for minute in range(0, 21, 5)
        ]
        paths.append(tmp_path / f"{user}.csv")
        paths[-1].write_text("".join(lines))
    return paths


def test_answers_are_tables_of_values(files: list[Path]) -> None:
    log = sonar.open(*files)

    jobs = log.jobs(fields="job,user,host,start,duration,cpu-avg")
    assert jobs.to_pylist() == [
        {
            "job": job,
            "user": user,
            "host": ["n1.x"],
            "start": datetime(2024, 1, 10, 10, tzinfo=UTC),
            "duration": timedelta(minutes=20),
            "cpu-avg": cpu,
        }
        for job, user, cpu in ((10, "ann", 40), (20, "bob", 160))
    ]
    assert {"gpus", "mem-peak", "coverage"} <= set(log.jobs().column_names)
    assert log.load(fields="time,host,cpu").num_rows == 1
    assert log.uptime(5).column("state").to_pylist() == ["up", "up"]
    assert log.profile(10).num_rows == 5
    assert log.samples(user="bob").num_rows == 5
    assert log.samples(clean=True, query="cpu_util_pct = 50", fields="host").num_rows == 4
    assert log.ask("metadata").to_pylist()[0]["host"] == "n1.x"


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ({}, [10, 20]),
        ({"user": "ann"}, [10]),
        ({"user": ["ann", "bob"]}, [10, 20]),
        ({"job": 20}, [20]),
        ({"query": "cpu-avg > 100"}, [20]),
        ({"sort": "-job"}, [20, 10]),
        ({"numjobs": 1, "min_samples": 6}, []),
        ({"no_gpu": True}, []),
        ({"no_gpu": False}, [10, 20]),
        ({"since": "2024-01-11"}, []),
        ({"since": date(2024, 1, 10), "until": date(2024, 1, 10)}, [10, 20]),
        ({"until": "1d"}, []),
        ({"since": datetime(2024, 1, 10, 10, 16, tzinfo=UTC)}, []),
        ({"since": datetime(2024, 1, 10, 10, 15, tzinfo=UTC), "min_samples": 2}, [10, 20]),
    ],
)
def test_options_are_those_of_the_command(files: list[Path], options: dict[str, object], jobs: list[int]) -> None:
    answer = sonar.open(*files).ask("jobs", **options)  # type: ignore[arg-type]

    assert answer.column("job").to_pylist() == jobs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frob": 1}, "jobs has no option --frob"),
        ({"fields": "job,bogus,csv"}, "jobs has no field 'bogus', 'csv'"),
        ({"query": "job ="}, "--query: expected a value"),
        ({"since": "soon"}, "--from: Invalid date syntax 'soon'"),
        ({"since": datetime(2024, 1, 10)}, "has no time zone"),  # noqa: DTZ001 -- that is the mistake
        ({"min_samples": "x"}, "--min-samples: 'x'"),
    ],
)
def test_mistakes_name_the_option(files: list[Path], options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        sonar.open(*files).ask("jobs", **options)  # type: ignore[arg-type]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match="No such file or directory: 'absent'"):
        sonar.open("absent")
    with pytest.raises(SonarError, match="No such file or directory"):
        sonar.open(tmp_path, nodes="absent")
    with pytest.raises(UsageError, match="do not go together"):
        sonar.open(tmp_path, "x")
    with pytest.raises(UsageError, match="No such verb: 'frob'"):
        sonar.open(tmp_path).ask("frob")


def test_importing_it_is_light() -> None:
    program = "import sonar, sys; sonar.open; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert not {"pyarrow", "numpy", "typer", "sonar.library"} & set(done.stdout.split())


def test_example_of_the_page_runs(tmp_path: Path) -> None:
    write_history(tmp_path / "log", now=NOW)
    scripts = re.findall(r"^\.Bd -literal\n(import sys\n.*?)^\.Ed$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(scripts) == 1

    done = subprocess.run(
        [sys.executable, "-c", scripts[0], str(tmp_path / "log")],
        env={"SONAR_NOW": "2024-10-27T03:33:20Z"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) > 3
    assert all(re.fullmatch(r"\w+ +\d+\.\d h +\d+ %", line) for line in lines)

"""A cluster that was added, and has sent nothing yet, or samples only: its timers run, and none of them fails."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "report"
PLACES = ("data", "cluster", "report", "state", "outbox")


RHYTHMS = ("live", "hourly", "daily", "scan", "notices", "weekly", "monthly")


def report(root: Path, rhythm: str, *more: str) -> subprocess.CompletedProcess[str]:
    options = [word for place in PLACES for word in (f"--{place}-dir", str(root / place))]
    return subprocess.run(
        [sys.executable, PROGRAM, rhythm, "--cluster", "new.example.org", *options, *more],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directories of a site with a cluster that has no data."""
    for place in PLACES:
        (tmp_path / place).mkdir()
    (tmp_path / "data/new.example.org").mkdir()
    (tmp_path / "cluster/new.example.org.conf").write_text("[Cluster]\n")
    return tmp_path


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_nothing_is_reported_and_nothing_fails(root: Path, rhythm: str) -> None:
    done = report(root, rhythm)

    assert done.returncode == 0, done.stderr
    assert not [path for path in (root / "report").rglob("*") if path.is_file()]
    assert not any((root / "outbox").iterdir())


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_nodes_of_unknown_size_have_all_reports_but_those_of_load(root: Path, rhythm: str) -> None:
    day = root / "data/new.example.org/2026/03/01"
    day.mkdir(parents=True)
    lines = [
        f"v=0.11.0,time=2026-03-01T{hour:02}:{minute:02}:00+00:00,host=c1.new,user=kim,cmd=sim,job=9,pid=9,cores=4,"
        f"cpu%=99.5,cpukib=1000,cputime_sec={3600 * hour + 60 * minute}\n"
        for hour in range(12)
        for minute in range(0, 60, 5)
    ]
    (day / "c1.new.csv").write_text("".join(lines))

    done = report(root, rhythm, "--now", "2026-03-01T12:00:00Z")

    made = {path.name for path in (root / "report").rglob("*.json")}
    assert done.returncode == 0, done.stderr
    assert ("reports of load are left out: no node is described" in done.stderr) == (
        rhythm in {"live", "hourly", "daily"}
    )
    assert not [name for name in made if name.startswith("c1.new-")]
    assert {"live": {"at-a-glance.json", "hostnames.json"}}.get(rhythm, set()) <= made

    (root / "cluster/new.example.org.conf").write_text("[Cluster]\n\n[Node]\nHosts=c1.new\nCores=8\nMemory=64G\n")
    if rhythm == "live":
        told = report(root, rhythm, "--now", "2026-03-01T12:00:00Z")
        assert told.returncode == 0, told.stderr
        assert "left out" not in told.stderr
        assert (root / "report/new.example.org/public/c1.new-minutely.json").exists()

"""A cluster that was added and has sent nothing yet: its timers run, and none of them fails."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "report"
PLACES = ("data", "cluster", "report", "state", "outbox")


@pytest.mark.parametrize("rhythm", ["live", "hourly", "daily", "scan", "notices", "weekly", "monthly"])
def test_nothing_is_reported_and_nothing_fails(tmp_path: Path, rhythm: str) -> None:
    for place in PLACES:
        (tmp_path / place).mkdir()
    (tmp_path / "data/new.example.org").mkdir()
    (tmp_path / "cluster/new.example.org.conf").write_text("[Cluster]\n")
    options = [word for place in PLACES for word in (f"--{place}-dir", str(tmp_path / place))]

    done = subprocess.run(
        [sys.executable, PROGRAM, rhythm, "--cluster", "new.example.org", *options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert not [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert not any((tmp_path / "outbox").iterdir())

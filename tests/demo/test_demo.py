"""make demo, as a user runs it: everything happens, and nothing is left running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(200)
def test_the_demonstration_shows_both_clusters_and_ends_by_itself(tmp_path: Path) -> None:
    state = tmp_path / "state"

    done = subprocess.run(
        [sys.executable, "-m", "sonar.demo", "--state", state, "--seconds", "1"],
        cwd=TOP, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    own = done.stdout.split("$ sonalyze jobs")[1]
    assert "python" in own.split("$ sonalyze load")[0]
    assert "gpu-1" in done.stdout
    assert "/c/demo.example.org" in done.stdout
    reports = list((state / "reports").rglob("*.json"))
    assert len(reports) == 6
    assert all(json.loads(path.read_text())["labels"] for path in reports)
    assert still_running(state) == []


def still_running(state: Path) -> list[str]:
    """Return the command lines of processes that speak of the demonstration's state."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(state).encode() in command:
                found.append(command.decode(errors="replace"))
    return found


def test_a_directory_that_is_no_demonstration_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")

    done = subprocess.run(
        [sys.executable, "-m", "sonar.demo", "--state", tmp_path, "--seconds", "1"],
        cwd=TOP, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert (tmp_path / "thesis.txt").read_text() == "precious"

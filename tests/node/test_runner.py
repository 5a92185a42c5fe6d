"""The command line of older versions of sonard, with a sampler of our own making."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sonar.node.runner import is_of_old

SONARD = Path(__file__).resolve().parents[2] / "libexec" / "sonard"


def sampler(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "sonar"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_smoke(tmp_path: Path) -> None:
    program = sampler(tmp_path, 'echo "sample $*"; echo noise >&2')
    log = tmp_path / "log"
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, SONARD, "-i", "5", "-m=7", "-s", program, "-v", log], stderr=subprocess.PIPE, text=True
    ) as process:
        while len(log.read_text().splitlines() if log.exists() else []) < 2:
            assert time.monotonic() - began < 60
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 0
    assert time.monotonic() - began >= 5
    runs = log.read_text().splitlines()
    assert set(runs) == {
        "sample ps --exclude-system-jobs --exclude-commands=bash,ssh,zsh,tmux,systemd --min-cpu-time 2 --batchless"
    }
    assert shown.count("Running ") == len(runs) >= 2
    assert shown.count("Adjusting -m value to 2 to fit value of -i (which is 5)") == 1


def test_run_that_has_begun_is_finished(tmp_path: Path) -> None:
    program = sampler(tmp_path, "echo begin; sleep 1; echo end")
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, SONARD, "-s", program, log]) as process:
        deadline = time.monotonic() + 60
        while not log.exists() or not log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert log.read_text() == "begin\nend\n"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-i", "4", "-s", "x", "log"], "Minimum -i value is 5 seconds, have 4"),
        (["-m", "0", "-s", "x", "log"], "Minimum -m value is 1 second, have 0"),
        (["-s", "x"], "There must be exactly one logfile argument at the end, I see []"),
        (["-s", "x", "a", "b"], "There must be exactly one logfile argument at the end, I see ['a', 'b']"),
        (["-i", "soon", "-s", "x", "log"], "soon"),
        (["-v", "log"], "-s must name the sampler"),
        (["-s", "/nowhere/sonar", "{log}"], "Could not run /nowhere/sonar"),
        (["-s", "x", "/nowhere/log"], "Could not open /nowhere/log"),
    ],
)
def test_what_is_wrong_ends_it_with_status_1(tmp_path: Path, argv: list[str], text: str) -> None:
    words = [word.replace("{log}", str(tmp_path / "log")) for word in argv]
    done = subprocess.run(
        [sys.executable, SONARD, *words], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert text in done.stderr


def test_sampler_that_fails_ends_it(tmp_path: Path) -> None:
    program = sampler(tmp_path, "echo half; exit 3")
    done = subprocess.run(
        [sys.executable, SONARD, "-s", program, tmp_path / "log"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Sonar exited with an error (status 3)" in done.stderr
    assert (tmp_path / "log").read_text() == "half\n"


def test_rollup_can_be_asked_for(tmp_path: Path) -> None:
    program = sampler(tmp_path, 'echo "$*"; exit 1')
    subprocess.run([sys.executable, SONARD, "--s", program, "-rollup", tmp_path / "log"], timeout=60, check=False,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    assert (tmp_path / "log").read_text().split()[-1] == "--rollup"


def test_new_command_lines_are_not_taken_for_old_ones() -> None:
    assert not is_of_old(["--cluster", "c", "--spool", "d"])
    assert not is_of_old(["--help"])
    assert not is_of_old([])
    assert not is_of_old(["file"])

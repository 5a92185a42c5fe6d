"""The black-box cases that may lie beside the checkout, run as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SHARED = TOP.parent / "shared"
RUNNER = SHARED / "tools" / "run-cases"

# What exists so far, by the beginning of a case's name.
SONALYZE = (
    "clean_", "completed", "config_", "cpu_", "csv_", "files_", "fixed_", "fmt_", "format_", "from_", "gpu_", "gpumem_",
    "host_", "jobs_", "load_", "mem_", "merge_", "metadata_", "min_", "parse_", "remote_", "running", "short_", "some_",
    "profile_", "source_", "tree_", "untagged_", "uptime_", "usage_", "version",
)  # fmt: skip
CASES = [("sonalyze", prefix) for prefix in SONALYZE] + [("naicreport", "")]


@pytest.mark.parametrize(("program", "prefix"), CASES)
def cases_hold(program: str, prefix: str, tmp_path: Path) -> None:
    # The runner selects by a part of the name; the folder holds just those that begin so.
    for case in (SHARED / "cases" / program).glob(f"{prefix}*.json"):
        (tmp_path / case.name).write_bytes(case.read_bytes())
    command = tmp_path / "command"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {TOP / "libexec" / program} "$@"\n')
    command.chmod(0o755)

    done = subprocess.run(
        [sys.executable, RUNNER, tmp_path, command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ,
    )

    assert done.returncode == 0, done.stdout
    assert "0 failed" in done.stdout
    assert not done.stdout.startswith("0 passed")


if RUNNER.exists():
    test_cases_hold = cases_hold

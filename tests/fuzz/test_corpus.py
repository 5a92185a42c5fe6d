"""What the fuzzer has found to break something, the seeds that it begins with, and thousands of inputs made of them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import check_of, seeds_of, targets

SEEDS = [path for target in targets() for path in sorted(seeds_of(target).iterdir())]
# Each target has about ten seconds; those that write files or compute hashes get less far.
RUNS = dict.fromkeys(targets(), 30_000) | {
    "csv_files": 4_000,
    "envelope_files": 10_000,
    "host_patterns": 15_000,
    "password_files": 4_000,
}


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_known_inputs_break_nothing(seed: Path) -> None:
    check_of(seed.parent.name)(seed.read_bytes())


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="there is no atheris for this platform")
@pytest.mark.parametrize("target", targets())
def test_inputs_that_reach_ever_more_code_break_nothing(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", str(RUNS[target]), "--state", tmp_path, target],
        env=os.environ | {"PYTHONHASHSEED": "0"},  # the same inputs each time
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {RUNS[target]} runs" in done.stderr
    assert any((tmp_path / target).iterdir())  # there was more to reach than the seeds do

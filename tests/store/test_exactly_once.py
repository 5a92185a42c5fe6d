"""However a writer ends, each record that it answered for is in the files once, whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("mode", ["kill", "power", "mixed"])
def test_broken_off_at_each_system_call(mode: str) -> None:
    farm = Path(__file__).with_name("crash_farm.py")

    done = subprocess.run(
        [sys.executable, str(farm), mode, "1"], capture_output=True, text=True, timeout=280, check=False
    )

    complaints = done.stdout.splitlines()
    assert complaints, done.stderr
    summary = json.loads(complaints.pop())
    assert complaints == []
    assert done.returncode == 0
    assert summary["crashes"] > 200  # as many as there are calls to break off at

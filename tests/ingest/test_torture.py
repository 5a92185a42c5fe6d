"""The short forms of `make torture`."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_thirty_kills_under_load_lose_nothing() -> None:
    command = [sys.executable, "-m", "tests.ingest.torture", "30", "1"]

    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=250, check=False)

    lines = done.stdout.splitlines()
    assert lines, done.stderr
    summary = json.loads(lines.pop())
    assert lines == []
    assert (done.returncode, summary["rounds"], summary["wrong"]) == (0, 30, 0)
    assert summary["answered"] > 100
    assert summary["attempts"] > summary["answered"]  # some were killed with a request in hand

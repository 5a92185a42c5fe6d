"""Run every benchmark of this folder and print their tables, for HACKING.md."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = (
    "startup",
    "history",
    "questions",
    "served",
    "scaling",
    "reports",
    "sonard",
    "ingest",
    "connections",
    "pages",
)

for name in BENCHMARKS:
    subprocess.run([sys.executable, HERE / f"{name}.py"], check=True)

"""What it costs to start: --help of every executable, beside what the interpreter and its libraries cost alone."""

import sys
from pathlib import Path

from measure import measure, table

LIBEXEC = Path(__file__).resolve().parents[1] / "libexec"
YARDSTICKS = ("pass", "import argparse", "import typer", "import pyarrow.parquet")


def main() -> None:
    """Print the table."""
    rows = [(f"`python -c '{code}'`", measure([sys.executable, "-c", code])) for code in YARDSTICKS]
    rows += [
        (f"`{path.name} --help`", measure([sys.executable, path, "--help"]))
        for path in sorted(LIBEXEC.iterdir())
        if path.is_file()
    ]
    print(table("Start-up", rows))


if __name__ == "__main__":
    main()

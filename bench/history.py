"""The same questions to the generated history (three nodes, two weeks, text only), beside reading its bytes."""

import subprocess
import sys
import tempfile
from pathlib import Path

from sonar.demo.history import write_history
from sonar.times import present

from measure import measure, table

SONALYZE = Path(__file__).resolve().parents[1] / "libexec" / "sonalyze"
PLAIN_PARSER = """
import csv, sys
for path in sys.argv[1:]:
    with open(path, newline="") as file:
        for row in csv.reader(file):
            dict(field.partition("=")[::2] for field in row)
"""


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_history(root, now=present())
        files = sorted(str(path) for path in root.rglob("*.*") if path.is_file())
        text = [name for name in files if name.endswith(".csv")]
        size = sum(Path(name).stat().st_size for name in files)
        print(f"{len(files)} files, {size / 1e6:.1f} MB\n")
        window = ["--data-path", str(root), "--from", "2w"]
        questions = {
            "sha256sum of all": ["sha256sum", *files],
            "csv.reader and a dict a record, the CSV files": [sys.executable, "-c", PLAIN_PARSER, *text],
            "jobs -u-": [sys.executable, SONALYZE, "jobs", "-u-", *window],
            "jobs -u-, one day": [sys.executable, SONALYZE, "jobs", "-u-", "--data-path", str(root)],
            "load --hourly": [sys.executable, SONALYZE, "load", "--hourly", *window],
            "uptime --interval 5": [sys.executable, SONALYZE, "uptime", "--interval", "5", *window],
        }
        print(table("Two weeks of three nodes, from text", [(name, measure(argv)) for name, argv in questions.items()]))


if __name__ == "__main__":
    subprocess.run(["sync"], check=True)
    main()

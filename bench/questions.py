"""Questions to a synthetic cluster: from text and from columns, beside what reading the same text costs.

    BENCH=medium python bench/questions.py

small (the default) is 10 hosts and 7 days, 117 MB; medium 100 hosts and 30 days, 5 GB. The data are made once, in
bench/data. Prints a table, writes bench/results.json, and a chart of time and memory against the size.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from synthetic import FIRST_DAY, SIZES, write_tree

from measure import Cost, measure, table

HERE = Path(__file__).resolve().parent
LIBEXEC = HERE.parent / "libexec"
PLAIN_PARSER = """
import csv, sys
for path in sys.argv[1:]:
    with open(path, newline="") as file:
        for row in csv.reader(file):
            dict(field.partition("=")[::2] for field in row)
"""
FAST_PARSER = """
import sys
from collections import Counter
from sonar.read.tokens import Tokenizer
tokenizer = Tokenizer()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        tokenizer.table(file.read(), Counter())
"""


def main() -> None:
    """Make the data, ask, print."""
    name = os.environ.get("BENCH") or "small"
    hosts, days = SIZES[name]
    clusters = HERE / "data" / name
    root = clusters / "bench.example.org"
    write_tree(root, hosts, days)
    runs = 5 if name == "small" else 3
    texts = sorted(str(path) for path in root.rglob("*.csv"))
    week = [path for path in texts if _day_of(path) <= 7]
    size = sum(Path(path).stat().st_size for path in texts)
    results: dict[str, Cost] = {}

    def ask(what: str, *argv: str | Path, times: int = runs) -> None:
        results[what] = measure(argv, runs=times)
        print(f"{what}: {results[what].wall_s:.2f} s", file=sys.stderr)

    parts = texts[: min(len(texts), 40)]
    ask("parse: csv.reader and a dict a record, one core", sys.executable, "-c", PLAIN_PARSER, *parts)
    ask("parse: sonar.read.tokens, one core", sys.executable, "-c", FAST_PARSER, *parts)
    ask("`wc -l` of all", "wc", "-l", *texts)
    ask("`sha256sum` of all", "sha256sum", *texts)
    ask("`sha256sum` of 7 days", "sha256sum", *week)
    columnize = [sys.executable, LIBEXEC / "columnize", "--data", clusters, "--force"]
    ask("`columnize`", *columnize, times=1 if name != "small" else runs)
    all_days = ["--data-path", root, *_window(days)]
    seven = ["--data-path", root, *_window(7)]
    one = ["--data-path", root, *_window(1), "--host", "c1-1"]
    for way, options in (("columns", ()), ("text", ("--no-columns",))):
        sonalyze = [sys.executable, LIBEXEC / "sonalyze"]
        ask(f"`jobs -u-`, {days} days, {way}", *sonalyze, "jobs", "-u-", *all_days, *options)
        ask(f"`jobs -u user007`, {days} days, {way}", *sonalyze, "jobs", "-u", "user007", *all_days, *options)
        ask(f"`load --hourly`, 7 days, {way}", *sonalyze, "load", "--hourly", *seven, *options)
        ask(f"`uptime --interval 5`, 7 days, {way}", *sonalyze, "uptime", "--interval", "5", *seven, *options)
        ask(f"`jobs -u-`, one host and day, {way}", *sonalyze, "jobs", "-u-", *one, *options)
    ask("`python -c 'import pyarrow.parquet'`", sys.executable, "-c", "import pyarrow.parquet")
    stored = sum(path.stat().st_size for path in root.rglob("0+*.parquet"))
    title = f"Questions to {hosts} hosts, {days} days: {size / 1e6:,.0f} MB of text, {stored / 1e6:,.0f} MB of columns"
    print(table(title, list(results.items())))
    known = HERE / "results.json"
    everything = json.loads(known.read_text()) if known.exists() else {}
    everything[name] = {"text_bytes": size, "column_bytes": stored} | {
        what: asdict(cost) for what, cost in results.items()
    }
    known.write_text(json.dumps(everything, indent=1) + "\n")


def _window(days: int) -> list[str]:
    last = FIRST_DAY + timedelta(days=days - 1)
    return ["--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}"]


def _day_of(path: str) -> int:
    return int(Path(path).parent.name)


if __name__ == "__main__":
    subprocess.run(["sync"], check=True)
    main()

"""Questions to a synthetic cluster: from roll-ups, columns and text, beside what reading the same text costs.

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

from synthetic import FIRST_DAY, SIZES, host_name, write_tree

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


WAYS: dict[str, tuple[str, ...]] = {
    "roll-ups": (),
    "columns": ("--no-rollup",),
    "text": ("--no-columns",),
}


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
    for way, options in WAYS.items():
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
    (HERE / "scaling.svg").write_text(_chart(root, hosts, days))
    known = HERE / "results.json"
    everything = json.loads(known.read_text()) if known.exists() else {}
    everything[name] = {"text_bytes": size, "column_bytes": stored} | {
        what: asdict(cost) for what, cost in results.items()
    }
    known.write_text(json.dumps(everything, indent=1) + "\n")


def _chart(root: Path, hosts: int, days: int) -> str:
    """Return a chart of the CPU time of `jobs -u-` against the number of hosts and days, both axes from 0."""
    sizes = [max(1, hosts * part // 4) for part in range(1, 5)]
    lines = []
    for way, options in WAYS.items():
        costs = []
        for number in sizes:
            named = ",".join(host_name(at).partition(".")[0] for at in range(number))
            asked = [sys.executable, LIBEXEC / "sonalyze", "jobs", "-u-", "--data-path", root, *_window(days)]
            costs.append(measure([*asked, "--host", named, *options], runs=1).cpu_s)
        lines.append((way, costs))
    most = max(cost for _, costs in lines for cost in costs)
    drawn = []
    for (way, costs), colour in zip(lines, ("#1b7837", "#2166ac", "#b2182b"), strict=True):
        points = " ".join(
            f"{60 + 480 * n / hosts:.0f},{300 - 260 * c / most:.0f}" for n, c in zip(sizes, costs, strict=True)
        )
        x, y = points.split()[-1].split(",")
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<text x="{int(x) + 6}" y="{int(y) + 4}" fill="{colour}">{way}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 340" font-family="sans-serif" font-size="12">\n'
        '<rect width="640" height="340" fill="#fff"/><path d="M60 30V300H560" fill="none" stroke="#888"/>\n'
        f'<text x="60" y="20">CPU seconds of jobs -u- over {days} days</text>\n'
        f'<text x="50" y="44" text-anchor="end">{most:.1f}</text>\n'
        f'<text x="50" y="304" text-anchor="end">0</text>\n'
        f'<text x="540" y="320" text-anchor="middle">{hosts} hosts</text>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _window(days: int) -> list[str]:
    last = FIRST_DAY + timedelta(days=days - 1)
    return ["--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}"]


def _day_of(path: str) -> int:
    return int(Path(path).parent.name)


if __name__ == "__main__":
    subprocess.run(["sync"], check=True)
    main()

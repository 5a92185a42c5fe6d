"""Questions to a synthetic cluster: from roll-ups, columns and text, beside what others take for the same.

    BENCH=medium python bench/questions.py

small (the default) is 10 hosts and 7 days, 117 MB; medium 100 hosts and 30 days, 5 GB; large 1,000 hosts and 30 days,
of which only columns are kept; a size may also be given as 1000x3. The data are made once, in bench/data. Prints a
table, and writes bench/results.json.

Yardsticks: reading the same text; DuckDB with the same text, and with SQL over the same Parquet files, which asks for
the sums of the same samples, without what else Sonar does (streams that break off, filters of samples, merged hosts).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from synthetic import CLUSTER, FIRST_DAY, size_of, write_tree, written_days

from measure import Cost, measure, table

HERE = Path(__file__).resolve().parent
LIBEXEC = HERE.parent / "libexec"
MOST_TEXT = 3000  # days of hosts; of more only columns are kept
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
DUCKDB = """
import duckdb, sys
duckdb.sql(sys.argv[1]).fetchall()
"""
CSV_SQL = (
    "SELECT max(length(f0)) FROM read_csv({files}, header=false, auto_detect=false, null_padding=true, columns={{"
    + ", ".join(f"'f{number}': 'VARCHAR'" for number in range(24))
    + "}})"
)
# CPU time between samples of a process: what both questions are about.
_STEPS = """
WITH steps AS (
  SELECT host, user, job, cmd, time, cpu_kib, rss_kib, gpu_pct, gpumem_pct, gpu_kib,
    100 * (cputime_s - lag(cputime_s) OVER stream) / (time - lag(time) OVER stream) AS cpu
  FROM read_parquet({files})
  WINDOW stream AS (PARTITION BY host, job, user, cmd, pid ORDER BY time))
"""
JOBS_SQL = (
    _STEPS
    + """
SELECT host, job, user, min(time), max(time), count(DISTINCT time), avg(cpu), max(cpu), avg(cpu_kib), max(cpu_kib),
  avg(rss_kib), max(rss_kib), avg(gpu_pct), max(gpu_pct), avg(gpu_kib), max(gpu_kib), string_agg(DISTINCT cmd)
FROM steps GROUP BY host, job, user ORDER BY job, host
"""
)
LOAD_SQL = (
    _STEPS
    + """
, moments AS (
  SELECT host, time, sum(cpu) AS cpu, sum(cpu_kib) AS mem, sum(gpu_pct) AS gpu, sum(gpu_kib) AS gpumem
  FROM steps GROUP BY host, time)
SELECT host, time // 3600, avg(cpu), avg(mem), avg(gpu), avg(gpumem) FROM moments GROUP BY ALL ORDER BY ALL
"""
)
WAYS: dict[str, tuple[str, ...]] = {
    "roll-ups": (),
    "columns": ("--no-rollup",),
    "text": ("--no-columns",),
}


def main() -> None:
    """Make the data, ask, print."""
    name = os.environ.get("BENCH") or "small"
    hosts, days = size_of(name)
    clusters = HERE / "data" / name
    root = clusters / CLUSTER
    results: dict[str, Cost] = {}
    runs = int(os.environ.get("RUNS") or (5 if name == "small" else 3))

    def ask(what: str, *argv: str | Path, times: int = runs, before: Callable[[], None] = lambda: None) -> None:
        results[what] = measure(argv, runs=times, before=before)
        print(f"{what}: {results[what].wall_s:.2f} s", file=sys.stderr)

    has_text = hosts * days <= MOST_TEXT
    if has_text:
        write_tree(root, hosts, days)
        texts = sorted(str(path) for path in root.rglob("*.csv"))
        week = [path for path in texts if int(Path(path).parent.name) <= 7]
        parts = texts[: min(len(texts), 40)]
        size = sum(Path(path).stat().st_size for path in texts)
        ask("parse: csv.reader and a dict a record, one core", sys.executable, "-c", PLAIN_PARSER, *parts)
        ask("parse: sonar.read.tokens, one core", sys.executable, "-c", FAST_PARSER, *parts)
        ask("parse: DuckDB, two threads", sys.executable, "-c", DUCKDB, CSV_SQL.format(files=parts))
        ask("`wc -l` of all", "wc", "-l", *texts)
        ask("`sha256sum` of all", "sha256sum", *texts)
        ask("`sha256sum` of 7 days", "sha256sum", *week)
        columnize = [sys.executable, LIBEXEC / "columnize", "--data", clusters, "--force"]
        ask("`columnize`", *columnize, times=1 if name != "small" else runs)
    else:
        size, results["`columnize`, day by day"] = columns_only(clusters, hosts, days)
    columns = sorted(root.rglob("0+columns.parquet"))
    all_days = ["--data-path", root, *_window(days)]
    seven = ["--data-path", root, *_window(min(days, 7))]
    one = ["--data-path", root, *_window(1), "--host", "c1-1"]
    sonalyze = [sys.executable, LIBEXEC / "sonalyze"]
    for way, options in WAYS.items():
        if way == "text" and not has_text:
            continue
        local = (*options, "--local")
        ask(f"`jobs -u-`, {days} days, {way}", *sonalyze, "jobs", "-u-", *all_days, *local)
        ask(f"`jobs -u user007`, {days} days, {way}", *sonalyze, "jobs", "-u", "user007", *all_days, *local)
        ask(f"`load --hourly`, 7 days, {way}", *sonalyze, "load", "--hourly", *seven, *local)
        ask(f"`uptime --interval 5`, 7 days, {way}", *sonalyze, "uptime", "--interval", "5", *seven, *local)
        ask(f"`jobs -u-`, one host and day, {way}", *sonalyze, "jobs", "-u-", *one, *local)
    for way in ("roll-ups", "columns"):
        cold = (*WAYS[way], "--local")
        for what, argv in (("`jobs -u user007`", ["jobs", "-u", "user007"]), ("`load --hourly`", ["load", "--hourly"])):
            place = all_days if argv[0] == "jobs" else seven
            title = f"{what}, {days if argv[0] == 'jobs' else 7} days, {way}, not in the page cache"
            ask(title, *sonalyze, *argv, *place, *cold, before=lambda: _drop_from_cache(root))
    in_sql = [str(path) for path in columns]
    ask(f"DuckDB, jobs, {days} days, columns", sys.executable, "-c", DUCKDB, JOBS_SQL.format(files=in_sql))
    ask("DuckDB, load, 7 days, columns", sys.executable, "-c", DUCKDB, LOAD_SQL.format(files=in_sql[:7]))
    ask("`python -c 'import pyarrow.parquet'`", sys.executable, "-c", "import pyarrow.parquet")
    ask("`python -c 'import duckdb'`", sys.executable, "-c", "import duckdb")
    stored = sum(path.stat().st_size for path in root.rglob("0+*") if path.suffix in {".parquet", ".arrow"})
    title = f"Questions to {hosts} hosts, {days} days: {size / 1e6:,.0f} MB of text, {stored / 1e6:,.0f} MB of columns"
    print(table(title, list(results.items())))
    known = HERE / "results.json"
    everything = json.loads(known.read_text()) if known.exists() else {}
    everything[name] = {"text_bytes": size, "column_bytes": stored} | {
        what: asdict(cost) for what, cost in results.items()
    }
    known.write_text(json.dumps(everything, indent=1) + "\n")


def columns_only(clusters: Path, hosts: int, days: int) -> tuple[int, Cost]:
    """Make columns and roll-ups of each day, and remove its text; return how much that was, and what all cost.

    The columns know that they are all there is, as after `columnize --remove-log-after`.
    """
    notes = clusters / "made.json"
    if not notes.exists():
        size, costs = 0, []
        remove = ["--force", "--remove-log-after", "2"]
        os.environ["SONAR_NOW"] = f"{FIRST_DAY + timedelta(days=days + 9):%Y-%m-%dT%H:%M:%SZ}"
        for directory in written_days(clusters / CLUSTER, hosts, days):
            size += sum(path.stat().st_size for path in directory.glob("*.csv"))
            day = f"{FIRST_DAY:%Y-%m}-{directory.name}"
            columnize = [sys.executable, LIBEXEC / "columnize", "--data", clusters, "--from", day, "--to", day]
            costs.append(measure(columnize, runs=1))
            measure([*columnize, *remove], runs=1)
            print(f"{day}: {costs[-1].cpu_s:.1f} s", file=sys.stderr)
        whole = Cost(
            sum(cost.wall_s for cost in costs),
            sum(cost.cpu_s for cost in costs),
            max(cost.peak_mb for cost in costs),
            0,
        )
        notes.write_text(json.dumps([size, asdict(whole)]))
        del os.environ["SONAR_NOW"]
    size, made = json.loads(notes.read_text())
    return size, Cost(**made)


def _drop_from_cache(root: Path) -> None:
    """Have the kernel forget what it keeps of the files made of the log; what is in memory of the disk stays."""
    for path in root.rglob("0+*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _window(days: int) -> list[str]:
    last = FIRST_DAY + timedelta(days=days - 1)
    return ["--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}"]


if __name__ == "__main__":
    subprocess.run(["sync"], check=True)
    main()

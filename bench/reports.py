"""The sets of reports that timers make of a synthetic cluster: what each costs, beside one scan of the same columns.

    BENCH=medium python bench/reports.py

The sizes and the data are those of bench/questions.py, which makes them if they are not there. Prints a table.
"""

import os
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from synthetic import CLUSTER, FIRST_DAY, host_name, with_columns

from sonar.hosts import compress

from measure import Cost, measure, table

HERE = Path(__file__).resolve().parent
LIBEXEC = HERE.parent / "libexec"
RHYTHMS = ("live", "hourly", "scan", "notices", "daily", "weekly", "monthly")


def main() -> None:
    """Make the data, make the reports, print."""
    root, hosts, days = with_columns(os.environ.get("BENCH") or "small")
    runs = int(os.environ.get("RUNS") or 5)
    now = f"{FIRST_DAY + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    window = ["--from", f"{FIRST_DAY + timedelta(days=days - 1):%Y-%m-%d}", "--to", f"{FIRST_DAY:%Y-%m}-{days:02}"]
    scratch = Path(tempfile.mkdtemp(prefix="reports-"))
    try:
        _describe(scratch / "clusters", hosts)
        places = ["--data-dir", root.parent, "--cluster-dir", scratch / "clusters"]
        places += [word for kind in ("report", "state", "outbox") for word in (f"--{kind}-dir", scratch / kind)]
        rows: list[tuple[str, Cost]] = []
        for rhythm in os.environ.get("RHYTHMS", "").split() or RHYTHMS:
            argv = [sys.executable, LIBEXEC / "report", rhythm, "--cluster", CLUSTER, "--now", now, *places]
            rows.append((f"`report {rhythm}`", measure(argv, runs=runs)))
        day = [sys.executable, LIBEXEC / "sonalyze", "jobs", "-u-", "--data-path", root, *window, "--no-rollup"]
        rows.append(("`sonalyze jobs -u-`, the last day, from columns", measure(day, runs=runs)))
    finally:
        shutil.rmtree(scratch)
    print(table(f"Reports of {hosts} hosts and {days} days", rows))


def _describe(directory: Path, hosts: int) -> None:
    """Describe the synthetic cluster: of five hosts, the first two have GPUs; one group of each kind."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for number in range(hosts):
        kinds[number % 5 < 2].append(host_name(number))
    lines = ["[Cluster]", "Title=Benchmark", "Features=uptime gpu"]
    for has_gpus, names in kinds.items():
        group, patterns = "gpu" if has_gpus else "cpu", compress(names)
        lines += ["[Node]", f"Hosts={patterns}", "Cores=64", "Memory=512G"]
        lines += ["GPUs=4", "GPUMemory=160G"] if has_gpus else []
        lines += ["[Group]", f"Name={group}", f"Nodes={patterns}"]
    directory.mkdir(parents=True)
    (directory / f"{CLUSTER}.conf").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Roll-ups change no answer, and are what answers where options allow."""

from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sonar import verbs
from sonar.columns.refresh import days_of, refresh
from sonar.gpusets import text_of
from sonar.render.formats import write_result
from sonar.verbs.parameters import query_of

from tests.analysis.test_summaries import history

JOBS = {"user": ["-"], "min-samples": ["1"], "fmt": ["csvnamed,jobm,user,duration/sec,host,cpu,mem,res,gpu,gpumem,cmd"]}
QUESTIONS: list[tuple[str, dict[str, list[str]]]] = [
    ("jobs", JOBS),
    ("jobs", JOBS | {"user": ["ann"]}),
    ("jobs", JOBS | {"user": [], "exclude-user": ["bob"]}),
    ("jobs", JOBS | {"job": ["7"]}),
    ("jobs", JOBS | {"merge-none": ["true"]}),
    ("jobs", JOBS | {"exclude-job": ["7"], "host": ["n[1-2]"]}),
    ("jobs", JOBS | {"min-cpu-avg": ["50"], "max-cpu-peak": ["900"], "min-runtime": ["30m"], "min-samples": ["3"]}),
    ("jobs", JOBS | {"running": ["true"], "some-gpu": ["true"]}),
    ("jobs", JOBS | {"completed": ["true"], "numjobs": ["1"], "no-gpu": ["true"]}),
    ("jobs", JOBS | {"zombie": ["true"]}),
    ("load", {"fmt": ["csv,datetime,cpu,mem,res,gpu,gpumem,gpus,host"]}),
    ("load", {"daily": ["true"], "group": ["true"], "compact": ["true"]}),
    ("load", {"weekly": ["true"], "compact": ["true"]}),
    ("load", {"half-daily": ["true"], "host": ["n[2-3]"]}),
    ("load", {"half-hourly": ["true"], "last": ["true"]}),
    ("jobs", JOBS | {"fmt": ["csvnamed,job,start,end,seen,expected,jobm"]}),
    ("load", {"fmt": ["csvnamed,datetime,cpu,seen,expected"], "half-hourly": ["true"]}),
    ("uptime", {"interval": ["5"]}),
    ("uptime", {"interval": ["20"], "only-down": ["true"], "host": ["n[1-2]"]}),
]


def line(row: dict[str, Any], host: str) -> str:
    """Return a sample as tagged CSV, which has no threads."""
    time = datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = [f"v=0.9.0,time={time},host={host},user={row['user']},cmd={row['cmd']},job={row['job']},pid={row['pid']}"]
    fields += [
        f"ppid={row['ppid']},rolledup={row['rolledup']},cpu%={row['cpu_pct']},cputime_sec={row['cputime_s']:.0f}"
    ]
    fields += [f"cpukib={row['cpu_kib']:.0f},rssanonkib={row['rss_kib']:.0f},gpu%={row['gpu_pct']}"]
    fields += [f'gpukib={row["gpu_kib"]:.0f},"gpus={text_of(row["gpus"])}",gpufail={row["gpufail"]}']
    return ",".join(fields + ([] if row["epoch"] is None else [f"epoch={row['epoch']}"])) + "\n"


def write(root: Path, lines: dict[Path, list[str]]) -> None:
    for path, of_file in lines.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / path).open("a") as file:
            file.writelines(of_file)


def answer(
    root: Path, question: tuple[str, dict[str, list[str]]], window: list[str], columns: bool, rollups: bool
) -> tuple[str, str]:
    name, options = question
    verb = verbs.verb(name)
    options = {option: values for option, values in options.items() if values} | {"from": window[:1], "to": window[1:]}
    query, fmt = query_of(verb, options, data=root, now=1_800_000_000)
    query.scan.use_columns, query.scan.use_rollups = columns, rollups
    out = StringIO()
    write_result(verb, verb.answer(query), fmt, out)
    return out.getvalue(), query.scan.way


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_the_same(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    early: dict[Path, list[str]] = {}
    late: dict[Path, list[str]] = {}
    for host in ("n1", "n2", "n3"):
        for row in history(chance):
            day = datetime.fromtimestamp(row["time"], UTC)
            path = Path(f"{day:%Y/%m/%d}") / f"{host}.csv"
            text = line(row, host)
            (late if chance.random() < 0.02 else early).setdefault(path, []).append(text)
            if chance.random() < 0.01:
                late.setdefault(path, []).append(text)
    write(tmp_path, early)
    days = days_of(tmp_path, date.min, date.max)
    assert refresh(days, 1, lambda _day, _size: None) == []
    ways = set()
    for _ in range(2):
        for window in (["2024-03-01", "2024-03-20"], ["2024-03-03", "2024-03-04"]):
            for question in QUESTIONS:
                plain, _ = answer(tmp_path, question, window, columns=False, rollups=False)
                from_columns, _ = answer(tmp_path, question, window, columns=True, rollups=False)
                rolled, way = answer(tmp_path, question, window, columns=True, rollups=True)
                assert from_columns == plain, question
                assert rolled == plain, question
                ways.add(way.partition(" of")[0])
        write(tmp_path, late)
    assert "roll-ups" in ways

"""Columns change no answer: at every moment of a log that grows, is repeated, torn, rewritten and removed."""

from collections.abc import Iterator
from datetime import date
from io import StringIO
from pathlib import Path
from random import Random

import pytest

from sonar import verbs
from sonar.columns.refresh import State, days_of, refresh, remove_log
from sonar.errors import SonarError
from sonar.read import columns
from sonar.read.sources import noting
from sonar.render.formats import write_result
from sonar.verbs.parameters import query_of
from sonar.web.resident import Resident

from tests.oracle.generate import Log, log

QUESTIONS: list[tuple[str, dict[str, list[str]]]] = [
    ("jobs", {"user": ["-"], "min-samples": ["1"], "fmt": ["csvnamed,All"]}),
    ("jobs", {"user": ["ann"], "batch": ["true"]}),
    ("load", {"fmt": ["csv,datetime,cpu,mem,res,gpu,gpumem,gpus,host"]}),
    ("load", {"none": ["true"]}),
    ("load", {"daily": ["true"], "group": ["true"], "compact": ["true"]}),
    ("uptime", {"interval": ["3"]}),
    ("parse", {}),
    ("parse", {"clean": ["true"], "fmt": ["csvnamed,all"]}),
    ("parse", {"merge-by-job": ["true"], "fmt": ["csv,all"]}),
    ("metadata", {}),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cluster's tree, empty."""
    return tmp_path


def answer(root: Path, question: tuple[str, dict[str, list[str]]], window: dict[str, list[str]], *, plain: bool) -> str:
    name, options = question
    verb = verbs.verb(name)
    query, fmt = query_of(verb, options | window, data=root, now=1_800_000_000)
    query.scan.use_columns = not plain
    out = StringIO()
    try:
        write_result(verb, verb.run(query), fmt, out)
    except SonarError as error:
        return str(error)
    bad = sorted((path.name, reason, count) for (path, reason), count in query.scan.discarded.items())
    return out.getvalue() + repr(bad if name != "parse" else "")


def assert_same(root: Path, made: Log, chance: Random) -> None:
    windows: list[dict[str, list[str]]] = [
        {"from": ["2024-02-28"], "to": ["2024-03-05"]},
        {"from": ["2024-03-02"], "to": ["2024-03-02"]},
        {"from": ["2024-03-01"], "to": ["2024-03-03"], "host": [chance.choice(made.hosts)]},
    ]
    for window in windows:
        for question in chance.sample(QUESTIONS, 4):
            expected = answer(root, question, window, plain=True)
            assert answer(root, question, window, plain=False) == expected, question
            with noting():  # as the server does it, from what it keeps
                assert answer(root, question, window, plain=False) == expected, question


def columnize(root: Path) -> None:
    failures = refresh([day for day in days_of(root, date.min, date.max) if day.files], 1, lambda _day, _size: None)
    assert failures == []


@pytest.fixture
def resident() -> Iterator[Resident]:
    """Return what the server keeps of days."""
    kept = Resident(1 << 30)
    yield kept
    kept.forget()


@pytest.mark.parametrize("seed", range(10))
def test_a_log_that_grows(root: Path, seed: int, resident: Resident) -> None:
    chance = Random(seed)
    resident.budget = chance.choice([1, 1 << 30])  # with little room, days are given up all the time
    made = log(chance)
    files = {root / name: content for name, content in made.tree}
    if files and chance.random() < 0.3:  # records of a host in the file of another
        path, other = chance.choice(list(files)), chance.choice(list(files))
        if path.suffix == other.suffix == ".csv":
            files[path] += files[other]
    written = dict.fromkeys(files, 0)
    for _ in range(3):
        for path, content in files.items():
            until = len(content) if chance.random() < 0.3 else chance.randint(written[path], len(content))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(content[written[path] : until])
            written[path] = until
        if files and chance.random() < 0.3:  # somebody has rewritten a file
            path = chance.choice(list(files))
            path.write_bytes(content := path.read_bytes().partition(b"\n")[2])
            files[path] = content
            written[path] = len(content)
        assert_same(root, made, chance)
        if chance.random() < 0.8:
            columnize(root)
            assert {day.state for day in days_of(root, date.min, date.max) if day.log_bytes} <= {State.FRESH}
        if chance.random() < 0.8:
            resident.want(root, date.min.toordinal(), date.max.toordinal())
            while resident.has_work:
                resident.read_one()
        assert_same(root, made, chance)


@pytest.mark.parametrize("seed", range(100, 103))
def test_a_log_that_is_removed(root: Path, seed: int) -> None:
    chance = Random(seed)
    made = log(chance)
    for name, content in made.tree:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if content.endswith(b"\n") else content + b"\n")
    window = {"from": ["2024-02-28"], "to": ["2024-03-05"]}
    expected = [answer(root, question, window, plain=True) for question in QUESTIONS]
    columnize(root)
    for day in days_of(root, date.min, date.max):
        remove_log(day)

    assert [answer(root, question, window, plain=False) for question in QUESTIONS] == expected


def test_what_comes_later_for_a_removed_day_is_added(root: Path) -> None:
    path = root / "2024" / "03" / "01" / "n1.csv"
    path.parent.mkdir(parents=True)
    line = "v=0.9.0,time=2024-03-01T10:{:02}:00Z,host=n1,user=ann,cmd=py,job=1,pid=7,cputime_sec={}\n"
    path.write_text(line.format(0, 0) + line.format(5, 300))
    columnize(root)
    (day,) = days_of(root, date.min, date.max)
    assert remove_log(day) > 0
    assert not path.exists()
    path.write_text(line.format(10, 900))
    question = ("parse", {"clean": ["true"], "fmt": ["csv,time,cpu_util_pct"]})
    window = {"from": ["2024-03-01"], "to": ["2024-03-01"]}
    before = answer(root, question, window, plain=False)

    columnize(root)

    assert "10:10:00Z,200" in before
    assert answer(root, question, window, plain=False) == before
    path.unlink()
    assert "10:10" not in answer(root, question, window, plain=False)


def test_columns_that_cannot_be_read_are_none(root: Path) -> None:
    path = root / "2024" / "03" / "01" / "n1.csv"
    path.parent.mkdir(parents=True)
    path.write_text("v=0.9.0,time=2024-03-01T10:00:00Z,host=n1,user=ann,cmd=py\n")
    (path.parent / columns.COLUMNS_NAME).write_bytes(b"PAR1 and then junk")
    window = {"from": ["2024-03-01"], "to": ["2024-03-01"]}

    assert "ann" in answer(root, ("parse", {}), window, plain=False)
    columnize(root)
    assert days_of(root, date.min, date.max)[0].state is State.FRESH

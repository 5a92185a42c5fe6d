"""Every verb gives the same bytes whichever way its answer comes: text, columns, roll-ups, Dask, the server.

The logs are random, with late, repeated and torn records. They are asked about as they are when the columns have all of
them, and again when files have grown since, so that some days are stale, and others have no columns yet.
"""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from random import Random

import pytest

from sonar import verbs
from sonar.cli.served import answered_by_server
from sonar.columns.refresh import days_of, refresh
from sonar.errors import SonarError
from sonar.read.workers import dask_workers
from sonar.render.formats import write_result
from sonar.times import iso_text
from sonar.verbs.declare import Reads
from sonar.verbs.parameters import query_of

from tests.oracle.generate import BASE, HOSTS, USERS, Log, log
from tests.read.test_dask import running_cluster
from tests.web.conftest import Server, running

NOW = BASE + 3 * 86400
Given = dict[str, list[str]]
TRUE = ["true"]
# What is asked, by verb. More options are added by chance.
BASES: dict[str, list[Given]] = {
    "jobs": [
        {"user": ["-"], "min-samples": ["1"], "fmt": ["csvnamed,All"]},
        {"user": ["-"], "min-samples": ["1"], "batch": TRUE, "fmt": ["csv,All"]},
        {"user": ["-"], "min-samples": ["1"], "merge-all": TRUE, "fmt": ["json,All"]},
        {"user": ["-"], "merge-none": TRUE, "fmt": ["csv,job,host,start,read,written,seen,expected,sgpu-avg"]},
        {"user": ["-"], "min-samples": ["1"], "sacct-from-sonar": TRUE},
        {"user": ["ann"]},
        {"zombie": TRUE, "min-samples": ["1"]},
        {"user": ["-"], "query": ["duration > 5m or cpu-peak > 50"], "sort": ["-duration,job"]},
    ],
    "job": [{"job": ["7"], "fmt": ["csv,All"]}, {"job": ["500"]}],
    "explain": [{"job": ["7"]}],
    "load": [
        {"hourly": TRUE, "fmt": ["csv,datetime,cpu,mem,res,gpu,gpumem,gpus,host"]},
        {"none": TRUE, "fmt": ["csvnamed,All"]},
        {"half-hourly": TRUE, "compact": TRUE},
        {"daily": TRUE, "group": TRUE, "fmt": ["json,date,cpu,mem,gpu"]},
        {"last": TRUE},
    ],
    "uptime": [{"interval": ["3"]}, {"interval": ["60"], "only-down": TRUE, "fmt": ["csv,All"]}],
    "profile": [
        {"job": ["7"], "fmt": ["csv,time,cpu,mem,res,gpu,gpumem,nproc,cmd,host"]},
        {"job": ["8"], "bucket": ["3"], "max": ["100"], "fmt": ["json,time,cpu,mem"]},
    ],
    "parse": [
        {"fmt": ["csvnamed,all"]},
        {"clean": TRUE, "fmt": ["csvnamed,all"]},
        {"merge-by-job": TRUE, "fmt": ["csv,all"]},
        {"merge-by-host-and-job": TRUE, "fmt": ["json,all"]},
    ],
    "metadata": [{}, {"bounds": TRUE}, {"times": TRUE}],
    "config": [{"fmt": ["csv,All"]}],
    "node": [{"fmt": ["csv,All"]}, {"newest": TRUE}],
    "card": [{}],
    "gpu": [{"fmt": ["csv,Hostname,Timestamp,Index,Memory,Power"]}],
    "nodeprof": [{}],
    "diskprof": [{}],
    "top": [{}],
    "sacct": [{"all": TRUE}, {"fmt": ["csv,JobID,State,User,UsedCPU,rcpu,rmem"]}],
    "snode": [{}],
    "spart": [{}],
}
WINDOWS: list[Given] = [
    {"from": ["2024-02-28"], "to": ["2024-03-05"]},
    {"from": ["2024-03-01"], "to": ["2024-03-01"]},
    {"from": ["2024-03-02"], "to": ["2024-03-02"]},
    {"from": ["3d"]},
]
FILTERS: list[Given] = [
    {"host": [HOSTS[0], HOSTS[3]]},
    {"user": ["bob", "ann"]},
    {"exclude-user": [USERS[0]]},
    {"command": ["python"]},
    {"exclude-command": ["bash,python"]},
    {"exclude-job": ["7"]},
    {"job": ["8"]},
    {"exclude-system-jobs": TRUE},
    {"min-cpu-peak": ["20"]},
    {"some-gpu": TRUE},
]


@dataclass(frozen=True)
class Machine:
    """A server, with its tree for each log, and workers of a Dask cluster."""

    server: Server
    workers: Executor


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("ways")
    (root / "data").mkdir()
    (root / "sonar.conf").write_text(f"[Analysis]\nSocket={root}/commands\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("SONAR_NOW", iso_text(NOW)),
            ("SONAR_CONFIG", f"{root}/sonar.conf"),
            ("HOME", str(root)),
            ("LOGNAME", "ann"),
        ):
            patch.setenv(name, value)
        options: list[str | Path] = ["--allow-anonymous", "--command-socket", root / "commands"]
        with (
            running_cluster(root) as cluster,
            dask_workers(cluster.address) as workers,
            running(root, options, tls=False) as server,
        ):
            yield Machine(server, workers)


def test_all_verbs_are_asked() -> None:
    of_logs = {name for name in verbs.NAMES if verbs.verb(name).reads in (Reads.SAMPLES, Reads.TOPICS)}

    assert set(BASES) == of_logs


def question(chance: Random, name: str) -> Given:
    """Return a random question to a verb."""
    given = dict(chance.choice(BASES[name]))
    verb = verbs.verb(name)
    known = {option.name for option in verb.options} | {"host"}
    if verb.reads is Reads.SAMPLES:
        known |= {"user", "exclude-user", "command", "exclude-command", "job", "exclude-job", "exclude-system-jobs"}
    for more in chance.sample(FILTERS, chance.choice([0, 0, 1, 2])):
        if known.issuperset(more) and given.keys().isdisjoint(more):
            given |= more
    return given | chance.choice(WINDOWS)


def here(root: Path, name: str, given: Given, *, columns: bool, rollups: bool, workers: Executor | None = None) -> str:
    """Return what this process answers, or why it does not."""
    verb = verbs.verb(name)
    out = StringIO()
    try:
        query, fmt = query_of(verb, given, data=root, account="ann" if name == "jobs" else None, now=NOW)
        query.scan.use_columns, query.scan.use_rollups = columns, rollups
        query.scan.executor = workers
        write_result(verb, verb.answer(query), fmt, out)
    except SonarError as error:
        return f"ERROR: {error}"
    return out.getvalue()


def by_socket(root: Path, name: str, given: Given) -> str | None:
    """Return what the server answers to the command; None where it leaves that to the command."""
    options = [
        f"--{option}" if values == TRUE else f"--{option}={value}"
        for option, values in given.items()
        for value in values
    ]
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            status = answered_by_server([name, *options, "--data-path", str(root)])
        finally:
            os.dup2(before, 1)
            os.close(before)
        file.seek(0)
        return file.read().decode() if status == 0 else None


def by_http(server: Server, root: Path, name: str, given: Given) -> str | None:
    """Return what the server answers over HTTP; None if it refuses."""
    from urllib.parse import urlencode

    asked = urlencode([("cluster", root.name), *((key, value) for key, values in given.items() for value in values)])
    answer = server.get(f"/{name}?{asked}", login=None)
    return answer.data.decode() if answer.status == 200 else None


def assert_same(machine: Machine, root: Path, questions: list[tuple[str, Given]], *, everywhere: bool) -> int:
    """Hold all ways to what the text says; return how many bytes that was."""
    size = 0
    for name, given in questions:
        expected = here(root, name, given, columns=False, rollups=False)
        asked = f"{name} {given}"
        assert here(root, name, given, columns=True, rollups=False) == expected, f"columns: {asked}"
        assert here(root, name, given, columns=True, rollups=True) == expected, f"roll-ups: {asked}"
        if not everywhere:
            continue
        by_dask = here(root, name, given, columns=True, rollups=len(asked) % 2 == 0, workers=machine.workers)
        assert by_dask == expected, f"Dask: {asked}"
        is_error = expected.startswith("ERROR: ")
        for _ in range(2):  # the second time from memory
            told = by_socket(root, name, given)
            assert told == (None if is_error else expected), f"socket: {asked}"
        told = by_http(machine.server, root, name, {"user": ["ann"], **given} if mine(name, given) else given)
        assert told == (None if is_error else expected), f"HTTP: {asked}"
        size += len(expected) * (not is_error)
    return size


def mine(name: str, given: Given) -> bool:
    """Whether a question is about the records of whoever asks, who is nobody over HTTP."""
    return name == "jobs" and given.keys().isdisjoint({"user", "job", "exclude-user", "zombie", "query"})


def write(root: Path, made: Log, shares: dict[str, float]) -> None:
    """Write each file up to a part of its length, which may tear a record."""
    for name, content in [*made.tree, *made.told]:
        end = int(len(content) * shares.get(name, 1))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("ab") as file:
            file.write(content[file.tell() : end])


@pytest.mark.parametrize("seed", range(5))
def test_same_bytes_every_way(machine: Machine, seed: int) -> None:
    chance = Random(f"ways {seed}")
    made = log(chance, exact=False)
    root = machine.server.data / f"c{seed}.example.org"
    root.mkdir()
    write(root, made, {name: chance.choice([0.2, 0.5, 0.9, 1]) for name, _ in made.tree})
    days = [day for day in days_of(root, date.min, date.max) if day.files]
    assert refresh(days, 1, lambda _day, _size: None) == []
    of_samples = [name for name in BASES if verbs.verb(name).reads is Reads.SAMPLES]
    others = chance.sample([name for name in BASES if name not in of_samples], 4)
    names = [*of_samples, *others, "jobs", "jobs", "load", "parse"]
    questions = [(name, question(chance, name)) for name in names]

    assert_same(machine, root, [one for one in questions if one[0] not in others], everywhere=False)
    write(root, made, {})
    assert assert_same(machine, root, questions, everywhere=True) > 1000

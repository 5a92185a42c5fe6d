"""Envelopes as real senders write them, complete or not: what is answered, what lies on disk, what is read of it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from sonar.read.envelopes import read_envelopes
from sonar.read.rows import Rows
from sonar.read.slurm import JOBS
from sonar.read.system import GPUS
from sonar.read.topics import Topic

from tests.ingest.conftest import CLUSTER, PASSWORD, Infiltrate

Facts = dict[str, Any]
Reader = Callable[[bytes], list[Facts]]


def samples(data: bytes) -> list[Facts]:
    """Return the samples that are read of a file."""
    rows, dropped = Rows(), Counter[str]()
    read_envelopes(data, rows, dropped)
    assert not dropped
    return rows.table().to_pylist()


def rows_of(topic: Topic, data: bytes) -> list[Facts]:
    """Return the rows of a topic that are read of a file."""
    dropped: Counter[str] = Counter()
    rows = list(topic.read(data, dropped))
    assert not dropped
    return topic.table(rows).to_pylist()


def envelope(kind: str = "sample", **attributes: Any) -> dict[str, Any]:
    known = {"time": "{day}T08:35:00Z", "cluster": CLUSTER, "node": "n1", **attributes}
    present = {key: value for key, value in known.items() if value is not None}
    return {"meta": {"producer": "sonar", "version": "0.18.4"}, "data": {"type": kind, "attributes": present}}


def job(number: int, **more: Any) -> dict[str, Any]:
    return {"job": number, "user": "kim", "processes": [{"cmd": "x", "pid": 5, "cpu_time": 60}]} | more


GPU_LESS = envelope(system={"gpus": [{"uuid": "A"}, {"index": 1, "uuid": "B"}]}, jobs=[])
STRANGE = envelope(removed_field={"deep": [1.50, {"x": None}]}, jobs=[job(5, new_field=[[]])], topo="a\u2028b")
ERRORS = {"meta": {}, "errors": [{"detail": "no", "time": "{day}T08:35:00Z", "cluster": CLUSTER, "node": "n1"}]}
SLURM_JOB = {"job_id": 77, "job_state": "PENDING", "user_name": "kim"}
PLAIN = envelope(jobs=[job(1)])
OTHER = envelope(jobs=[job(2)])
NAN = envelope(jobs=[job(3)], system={"load1": float("nan")})


@dataclass(frozen=True)
class Case:
    """A post: whatever it holds, in the order given; which of it is stored; and what is read there."""

    posted: list[dict[str, Any]]
    stored: list[dict[str, Any]]
    expected: list[Facts]  # some facts of each row
    reader: Reader = samples
    path: str = "/api/v1/insert/sample"
    file: str = "0+sample-n1.json"
    status: int = 200
    pretty: bool = False


CASES = {
    "card without its number": Case(
        [GPU_LESS], [GPU_LESS], [{"index": 0, "uuid": "A"}, {"index": 1, "uuid": "B"}], partial(rows_of, GPUS)
    ),
    "job of a batch system, without an epoch": Case(
        [PLAIN], [PLAIN], [{"job": 1, "epoch": 0, "user": "kim", "cputime_s": 60.0}]
    ),
    "job of a boot": Case([envelope(jobs=[job(1, epoch=7)])], [envelope(jobs=[job(1, epoch=7)])], [{"epoch": 7}]),
    "Slurm job that has not ended": Case(
        [envelope("job", node=None, slurm_jobs=[SLURM_JOB])],
        [envelope("job", node=None, slurm_jobs=[SLURM_JOB])],
        [{"job": 77, "state": "PENDING", "submit": None, "start": None, "end": None}],
        partial(rows_of, JOBS),
        "/api/v1/insert/job",
        "0+job-slurm.json",
    ),
    "type `jobs`, at either path": Case(
        [envelope("jobs", slurm_jobs=[SLURM_JOB])],
        [envelope("jobs", slurm_jobs=[SLURM_JOB])],
        [{"job": 77}],
        partial(rows_of, JOBS),
        "/insert/jobs",
        "0+job-slurm.json",
    ),
    "no load of the node": Case([PLAIN], [PLAIN], [{"cores": 0, "gpufail": 0, "cmd": "x"}]),
    "fields that nobody knows": Case([STRANGE], [STRANGE], [{"job": 5, "cmd": "x"}]),
    "errors instead of data": Case([ERRORS], [ERRORS], [], lambda _: [], file="0+errors-n1.json"),
    "a prefix that is allowed": Case([PLAIN], [PLAIN], [{"job": 1}], path="/api/v0/insert/test.sample"),
    "a prefix that is not": Case([PLAIN], [], [], path="/api/v0/insert/other.sample", status=404),
    "a number that is none": Case([NAN], [], [], status=400),
    "a number that is none, among others": Case([PLAIN, NAN, OTHER], [PLAIN, OTHER], [{"job": 1}, {"job": 2}]),
    "data and errors": Case([PLAIN | {"errors": []}], [], [], status=400),
    "data and errors, among others": Case([PLAIN, OTHER | ERRORS, OTHER], [PLAIN, OTHER], [{"job": 1}, {"job": 2}]),
    "two in a body": Case([PLAIN, OTHER], [PLAIN, OTHER], [{"job": 1}, {"job": 2}]),
    "printed over many lines": Case([STRANGE, PLAIN], [STRANGE, PLAIN], [{"job": 5}, {"job": 1}], pretty=True),
    "cluster that is not named": Case(
        [envelope(cluster=None, jobs=[job(1)])], [envelope(cluster=None, jobs=[job(1)])], [{"job": 1}]
    ),
    "another's cluster": Case([envelope(cluster="fox.example.org")], [], [], status=403),
    "type of another path": Case([envelope("sysinfo")], [], [], status=400),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infiltrate]:
    """Serve all cases, each of which has a day of its own."""
    scratch = tmp_path_factory.mktemp("envelopes")
    passwords = scratch / "passwords"
    passwords.touch(0o600)
    passwords.write_text(f"{CLUSTER}:{PASSWORD}\n")
    running = Infiltrate(
        scratch, "--password-file", str(passwords), "--listen", "127.0.0.1:0", "--topic-prefix", "test"
    )
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("name", CASES)
def test_envelopes_strict_or_not(server: Infiltrate, name: str) -> None:
    case, number = CASES[name], 1 + list(CASES).index(name)

    def text(value: Mapping[str, Any], **layout: Any) -> bytes:
        return json.dumps(value, **layout).replace("{day}", f"2026-01-{number:02}").encode()

    layout: dict[str, Any] = {"indent": 1} if case.pretty else {}
    answer = server.post(case.path, b"\n".join(text(value, **layout) for value in case.posted) + b"\n")

    dropped = len(case.posted) - len(case.stored)
    assert answer.status == case.status
    assert answer.headers.get("x-sonar-dropped") == (str(dropped) if case.stored and dropped else None)
    server.settle()
    files = {path: data for path, data in server.stored().items() if f"/2026/01/{number:02}/" in path}
    # On one line without blanks if it was on many; else the very bytes.
    separators = (",", ":") if case.pretty else None
    stored = b"".join(text(value, separators=separators) + b"\n" for value in case.stored)
    assert files == ({f"{CLUSTER}/2026/01/{number:02}/{case.file}": stored} if stored else {})
    found = case.reader(stored)
    assert [{key: row[key] for key in facts} for row, facts in zip(found, case.expected, strict=True)] == case.expected

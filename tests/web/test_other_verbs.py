"""The verbs about nodes, Slurm, clusters and reports over HTTP: the answers of the spot, to who may have them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.verbs.asking import ask, envelope, put
from tests.web.conftest import LIBEXEC, Server, passwords_file, running

FOX = "fox.example.org"
WINDOW = {"from": "2024-03-01", "to": "2024-03-01"}
VERBS = {
    "node": {"newest": "true"},
    "config": {},
    "card": {"fmt": "json,All"},
    "gpu": {"gpu": "1", "fmt": "csv,All"},
    "nodeprof": {},
    "diskprof": {"host": "n1"},
    "top": {},
    "sacct": {"fmt": "csv,All"},
    "snode": {},
    "spart": {"fmt": "json,all"},
}


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a cluster that has told all there is to tell."""
    root = tmp_path_factory.mktemp("fox")
    data, day = root / "data" / FOX, "2024-03-01T10"
    (root / "data" / "empty.example.org").mkdir(parents=True)
    cards = [{"index": at, "uuid": f"U{at}", "model": "A100", "memory": 1 << 25} for at in range(2)]
    node = {"sockets": 1, "cores_per_socket": 2, "threads_per_core": 1, "cpu_model": "EPYC", "memory": 1 << 25}
    put(data, "0+sysinfo-n1.json", envelope("sysinfo", time=f"{day}:00:00Z", node="n1", cards=cards, **node))
    for minute, seconds in ((0, 0), (5, 200)):
        system = {"cpus": [0, seconds], "gpus": cards, "load1": 1.5, "disks": [{"name": "sda", "stats": [1, 2, 3, 4]}]}
        process = {"cmd": "x", "pid": 5, "cpu_avg": 100, "cpu_time": minute * 60}
        jobs = [{"job": 7, "user": "grete", "processes": [process]}]
        sample = envelope("sample", time=f"{day}:{minute:02}:00Z", node="n1", system=system, jobs=jobs)
        put(data, "0+sample-n1.json", sample)
    told = [
        {"job_id": number, "user_name": user, "job_state": "COMPLETED", "account": "nn1"}
        for number, user in ((7, "grete"), (8, "ada"))
    ]
    put(data, "0+job-slurm.json", envelope("job", time=f"{day}:10:00Z", slurm_jobs=told))
    states = {"nodes": [{"names": ["n1"], "states": ["IDLE"]}], "partitions": [{"name": "p", "nodes": ["n1"]}]}
    put(data, "0+cluzter-slurm.json", envelope("cluster", time=f"{day}:10:00Z", **states))
    for audience in ("admin", "login"):
        path = root / "reports" / FOX / audience / "r.json"
        path.parent.mkdir(parents=True)
        path.write_text(f'["{audience}"]\n')
    (root / "cluster-aliases.json").write_text(json.dumps([{"alias": "fox", "value": FOX}]))
    passwords_file(root / "passwords")
    options: list[str | Path] = [
        "--cluster-config",
        root,
        "--password-file",
        root / "passwords",
        "--reports",
        root / "reports",
    ]
    with running(root, options) as server:
        yield server


@pytest.mark.parametrize("verb", VERBS)
def test_the_answer_is_that_of_the_spot(fox: Server, verb: str) -> None:
    answer = fox.ask(verb, cluster="fox", **WINDOW, **VERBS[verb])

    options: dict[str, Any] = {f"{name}_": value for name, value in {**WINDOW, **VERBS[verb]}.items()}
    expected = ask(verb, fox.data / FOX, **options)
    assert (answer.status, answer.data.decode()) == (200, expected)
    assert len(expected) > 10


def test_jobs_know_what_slurm_tells(fox: Server) -> None:
    answer = fox.ask("jobs", cluster=FOX, user="-", fmt="json,job,Account,rcpu-avg", **WINDOW)

    assert json.loads(answer.data) == [{"job": "7", "Account": "nn1", "rcpu-avg": "50"}]


def test_accounts_of_others_are_for_support_only(fox: Server) -> None:
    def users(login: str, **more: str) -> str:
        return fox.ask("sacct", login=login, cluster=FOX, fmt="csv,User", **WINDOW, **more).data.decode()

    assert users("ada:s3cret") == "grete\nada\n"
    assert users("grete:gr3te") == "grete\n"
    assert users("grete:gr3te", user="ada") == ""
    assert users("grete:gr3te", job="8") == ""


def test_clusters_and_reports_are_those_that_one_may_see(fox: Server) -> None:
    def text(login: str, verb: str, **parameters: str) -> str:
        return fox.ask(verb, login=login, **parameters).data.decode()

    assert text("ada:s3cret", "cluster", fmt="csv,cluster,aliases") == f"empty.example.org,\n{FOX},fox\n"
    assert text("fox:f0x", "cluster", fmt="csv,cluster") == "empty.example.org\n"
    report = {"cluster": "fox", "report-name": "r.json"}
    assert text("root:t0p", "report", **report) == '["admin"]\n'
    assert text("grete:gr3te", "report", **report) == '["login"]\n'
    for name in ("../admin/r.json", "x", ".", "%2e%2e"):
        assert fox.ask("report", cluster="fox", **{"report-name": name}).status == 400


@pytest.mark.parametrize(
    ("verb", "argv"),
    [("spart", ["--cluster", "fox"]), ("cluster", []), ("version", []), ("node", ["--cluster", "fox"])],
)
def test_the_command_asks_the_server(fox: Server, tmp_path: Path, verb: str, argv: list[str]) -> None:
    (tmp_path / "auth").write_text("ada:s3cret\n")
    (tmp_path / "auth").chmod(0o600)
    window = [] if verb in {"cluster", "version"} else [f"--{name}={value}" for name, value in WINDOW.items()]

    done = subprocess.run(
        [sys.executable, LIBEXEC / "sonalyze", verb, "--remote", fox.url, "--ca-file", fox.config / "ca.crt",
         "--auth-file", tmp_path / "auth", *argv, *window],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    parameters = {} if verb in {"cluster", "version"} else {"cluster": "fox", **WINDOW}
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == fox.ask(verb, **parameters).data.decode()
    assert len(done.stdout) > 10

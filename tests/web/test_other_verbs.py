"""The verbs about nodes, Slurm, clusters and reports over HTTP: the answers of the spot, to who may have them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.verbs.asking import ask
from tests.web.conftest import FOX, LIBEXEC, Server, auth_file

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

    assert users("ada") == "grete\nada\n"
    assert users("grete") == "grete\n"
    assert users("grete", user="ada") == ""
    assert users("grete", job="8") == ""


def test_clusters_and_reports_are_those_that_one_may_see(fox: Server) -> None:
    def text(login: str, verb: str, **parameters: str) -> str:
        return fox.ask(verb, login=login, **parameters).data.decode()

    assert text("ada", "cluster", fmt="csv,cluster,aliases") == f"empty.example.org,\n{FOX},fox\n"
    assert text("fox", "cluster", fmt="csv,cluster") == "empty.example.org\n"
    report = {"cluster": "fox", "report-name": "r.json"}
    assert text("root", "report", **report) == '["admin"]\n'
    assert text("grete", "report", **report) == '["login"]\n'
    for name in ("../admin/r.json", "x", ".", "%2e%2e"):
        assert fox.ask("report", cluster="fox", **{"report-name": name}).status == 400


@pytest.mark.parametrize(
    ("verb", "argv"),
    [("spart", ["--cluster", "fox"]), ("cluster", []), ("version", []), ("node", ["--cluster", "fox"])],
)
def test_the_command_asks_the_server(fox: Server, tmp_path: Path, verb: str, argv: list[str]) -> None:
    auth = auth_file(tmp_path / "auth")
    window = [] if verb in {"cluster", "version"} else [f"--{name}={value}" for name, value in WINDOW.items()]

    done = subprocess.run(
        [sys.executable, LIBEXEC / "sonalyze", verb, "--remote", fox.url, "--ca-file", fox.config / "ca.crt",
         "--auth-file", auth, *argv, *window],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    parameters = {} if verb in {"cluster", "version"} else {"cluster": "fox", **WINDOW}
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == fox.ask(verb, **parameters).data.decode()
    assert len(done.stdout) > 10

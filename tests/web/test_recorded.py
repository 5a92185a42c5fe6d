"""Requests and their answers as they were recorded of the original server, and the project's own of the same kind."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from sonar import verbs
from sonar.web.questions import question_of

from tests.web.conftest import NOW, Server, running

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "sonalyzed" / "http.json"
OWN = Path(__file__).with_name("requests.json")
MAGIC = "xxxxxtruexxxxx"
WORDS_OF_SERVER = ("--data-path", "--config-file")  # the original gave them to the command; nobody can ask for them
TEXT = "text/plain; charset=utf-8"


def prepare(root: Path, cases: dict[str, Any]) -> list[str | Path]:
    """Make the directory that the cases are about; return the options of the server."""
    instant = time.gmtime(NOW - 60)
    day = root / "data" / "mlx.hpc.uio.no" / time.strftime("%Y/%m/%d", instant)
    day.mkdir(parents=True)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", instant)
    record = "v=0.7.0,time={},host=ml1,cores=4,user=ann,job=100,pid=7,cmd=python,cpu%=50,cpukib=1000,cputime_sec={}\n"
    (day / "ml1.csv").write_text(record.format(now, 10) + record.format(now.replace("Z", "+00:00"), 20))
    (root / "cluster-aliases.json").write_text(json.dumps(cases["aliases"]))
    node = {"hostname": "ml1", "description": "", "cpu_cores": 4, "mem_gb": 8}
    (root / "mlx.hpc.uio.no-config.json").write_text(json.dumps([node]))
    for name, text in cases["files"].items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    file = root / "passwords"
    file.write_text(cases["password_file"])
    file.chmod(0o600)
    return ["--cluster-config", root, "--site-pages", root / "q"]


@pytest.mark.parametrize("path", [path for path in (RECORDED, OWN) if path.exists()], ids=lambda path: str(path.name))
def test_requests_are_answered(path: Path, tmp_path: Path) -> None:
    cases = json.loads(path.read_text())
    options = prepare(tmp_path, cases)
    check = check_recorded if path == RECORDED else check_own
    done = 0
    for kind, who in (
        ("with_passwords", ["--password-file", tmp_path / "passwords"]),
        ("without_passwords", ["--allow-anonymous"]),
    ):
        with running(tmp_path, [*options, *who], tls=False) as server:
            for case in cases[kind]:
                check(server, case, tmp_path)
                done += 1
    assert done == {RECORDED: 49, OWN: 44}[path]


def ask(server: Server, case: dict[str, Any], root: Path) -> tuple[Any, str]:
    """Return the answer and how to tell of it; whatever it is, it has no path of the server, and may not be kept."""
    response = server.get(
        case["url"], method=case.get("method", "GET"), login=case.get("auth"), headers=case.get("headers", {})
    )
    told = f"{case}: {response.status} {response.data[:300]!r}"
    assert str(root) not in response.data.decode(), told
    assert response.headers.get("x-content-type-options") == "nosniff" or urlsplit(case["url"]).path == "/ping", told
    if response.status == 405:
        assert response.headers["allow"] == "GET, HEAD", told
    if response.status == 401:
        assert response.headers["www-authenticate"].startswith("Basic realm="), told
    if case.get("method") == "HEAD":
        assert response.data == b"", told
    return response, told


def check_own(server: Server, case: dict[str, Any], root: Path) -> None:
    response, told = ask(server, case, root)
    assert response.status == case["status"], told
    assert response.headers["content-type"] == case.get("type", TEXT), told
    if "body" in case:
        assert response.data.decode() == case["body"], told
    if "words" in case:
        assert question_words(case["url"]) == case["words"], told


def check_recorded(server: Server, case: dict[str, Any], root: Path) -> None:
    original, url = case["original"], case["url"]
    response, told = ask(server, case, root)
    status, kind = expected_status(case), response.headers.get("content-type")
    if "sonalyze_argv_order_of_options_free" in original and status == 200:
        check_question(case, response, told)
        return
    assert response.status == status, told
    if status in (401, 405) or (status == 400 and "careful" not in case and "u=1" not in url):
        assert response.data.decode() == original["body"] or case.get("method") == "HEAD", told
        assert kind == original["content_type"], told
    elif status == 200 and url.startswith("/q/"):
        assert response.data.decode() == original["body"], told
        assert kind == {"html": "text/html", "js": "text/javascript", "css": "text/css"}[url.rpartition(".")[2]] + (
            "; charset=utf-8"
        ), told
    elif status in (400, 404):
        assert kind == TEXT, told
        assert response.data, told
        assert b"/q" not in response.data, told


def check_question(case: dict[str, Any], response: Any, told: str) -> None:
    """Check that the question is what the original's command line was, and the answer what a verb gives."""
    original, url = case["original"], case["url"]
    words = question_words(url)
    expected = [word for word in original["sonalyze_argv_order_of_options_free"] if "{ROOT}" not in word]
    expected = [word for word in expected if word not in WORDS_OF_SERVER]
    if "hourly=true" in url:  # a plain true is a flag to us, and was a value to the original
        expected = [word for word in expected if word != "true"]
    assert words == expected, told
    if response.status == 400:  # the recorder's command did not mind what a verb minds
        assert b"required" in response.data or b"job" in response.data, told
        return
    assert response.status == 200, told
    fmt = dict(parse_qsl(urlsplit(url).query)).get("fmt", "")
    by_word = {"json": "application/json", "csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8"}
    kind = next((by_word[word] for word in fmt.split(",") if word in by_word), "")
    verb = urlsplit(url).path.removeprefix("/")
    assert response.headers["content-type"] == (kind or {"load": TEXT}.get(verb, response.headers["content-type"])), (
        told
    )


# What the recorded original answered is what we answer, unless the case or one of these says why not.
def expected_status(case: dict[str, Any]) -> int:
    careful, url = case.get("careful", ""), case["url"]
    if "failme" in url:
        return 200  # to the stub a word that makes it fail, to us a user without jobs
    by_words = {"404": 404, "400": 400, "405": 405, "200": 200, "accept": 200}
    for words, status in by_words.items():
        if careful.lower().startswith(words) or f"({words})" in careful or careful.endswith(f"{words} here."):
            return status
    if careful.endswith("400."):
        return 400
    if case.get("method") == "OPTIONS":
        return 405  # as the other methods
    if urlsplit(url).path in ("/", "/version"):
        return 200  # the original had none
    if "u=1" in url:
        return 400  # not a long option
    return int(case["original"]["status"])


def question_words(url: str) -> list[str]:
    """The question as a command line has it, without the place of the data."""
    parts = urlsplit(url)
    verb = verbs.verb(parts.path.removeprefix("/"))
    _, given = question_of(verb, parse_qsl(parts.query, keep_blank_values=True))
    words = [verb.name]
    for name, values in given.items():
        for value in values:
            is_flag = value == "true" and (f"{name}={MAGIC}" in url or f"{name}=true" in url)
            words += [f"--{name}"] if is_flag else [f"--{name}", value]
    return words

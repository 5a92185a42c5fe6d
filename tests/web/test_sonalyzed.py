"""sonalyzed as a process: questions, attacks, passwords, headers, and the page."""

import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sonar.demo.history import NODES

from tests.web.conftest import CLUSTER, LIBEXEC, PEOPLE, Server, auth_file

MAGIC = "xxxxxtruexxxxx"
QUESTION = {"cluster": CLUSTER, "user": "-", "fmt": "csv,job,user,start,cpu-avg,host"}


def cli(server: Server, *argv: str) -> str:
    return subprocess.run(
        [sys.executable, LIBEXEC / "sonalyze", *argv, "--data-path", server.data / CLUSTER],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_ping_needs_no_password(server: Server) -> None:
    for method in ("GET", "HEAD"):
        response = server.get("/ping", method=method, login=None)
        assert (response.status, response.data) == (200, b"ok\n" if method == "GET" else b"")


@pytest.mark.parametrize(
    "login",
    # The last has an id: the name of a test is in the environment of all that it starts.
    [None, "ada:wrong", "ada:", pytest.param(f"eve:{PEOPLE['ada'][0]}", id="eve")],
)
def test_nobody_else_gets_an_answer(server: Server, login: str | None) -> None:
    for path in ("/", f"/c/{CLUSTER}", f"/jobs?cluster={CLUSTER}", "/c/nonesuch"):
        response = server.get(path, login=login)
        assert (response.status, response.data) == (401, b"Unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_answers_are_those_of_the_command_line(server: Server) -> None:
    # An hour ago, so that a new day or a sample that leaves the window between two questions changes nothing.
    window = ("--from", "3d", "--to", "1d")
    for verb, options, parameters in (
        ("jobs", ["-u-", "--no-gpu", f"--fmt={QUESTION['fmt']}"], {**QUESTION, "no-gpu": MAGIC}),
        (
            "jobs",
            ["-u-", "--some-gpu", "--fmt=json,job,user"],
            {**QUESTION, "some-gpu": "true", "fmt": "json,job,user"},
        ),
        ("load", ["--daily", "--fmt=csv,date,cpu"], {"cluster": CLUSTER, "daily": "true", "fmt": "csv,date,cpu"}),
        ("metadata", [], {"cluster": "demo"}),
    ):
        answer = server.ask(verb, **parameters, **{"from": window[1], "to": window[3]})
        assert answer.status == 200, answer.data
        assert answer.data.decode() == cli(server, verb, *window, *options)
        assert len(answer.data) > 100


def test_relative_values_know_the_nodes(server: Server) -> None:
    for verb, field in (("jobs", "rcpu-avg"), ("load", "rcpu")):
        answer = server.ask(verb, cluster=CLUSTER, fmt=f"json,{field}", **({"user": "-"} if verb == "jobs" else {}))
        assert answer.status == 200, answer.data
        assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/jobs", 400, "Missing `cluster`"),
        ("/jobs?cluster=", 400, "Missing `cluster`"),
        ("/jobs?cluster=a&cluster=b", 400, "Bad parameter cluster"),
        ("/jobs?cluster=nonesuch", 404, "no cluster"),
        ("/jobs?cluster=../../etc", 400, "bad cluster name"),
        ("/jobs?cluster=demo&data-path=/etc", 400, "Bad parameter data-path"),
        ("/jobs?cluster=demo&config-file=/etc/passwd", 400, "Bad parameter config-file"),
        ("/jobs?cluster=demo&remote=http://x", 400, "Bad parameter remote"),
        ("/jobs?cluster=demo&auth-file=/x", 400, "Bad parameter auth-file"),
        ("/jobs?cluster=demo&raw=true", 400, "Bad parameter raw"),
        ("/jobs?cluster=demo&u=ann", 400, "Bad parameter u"),
        ("/jobs?cluster=demo&-x=1", 400, "Bad parameter -x"),
        ("/jobs?cluster=demo&no-gpu=--config-file=/etc/passwd", 400, "no-gpu"),
        ("/jobs?cluster=demo&batch=--", 400, "batch"),
        ("/jobs?cluster=demo&min-cpu-avg=many", 400, "min-cpu-avg"),
        ("/jobs?cluster=demo&from=--", 400, "from"),
        ("/jobs?cluster=demo&host=a[", 400, "a["),
        ("/jobs?cluster=demo&fmt=nothing", 400, "No output fields"),
        ("/jobs?cluster=demo&query=bogus%3D1", 400, "--query: no field 'bogus', at column 1 of 'bogus=1'"),
        ("/load?cluster=demo&from=1900-01-01", 400, "rows: ask for a shorter time"),
        ("/api/v0/jobs?cluster=demo&fmt=arrow,job", 400, "fmt: arrow is binary and cannot be a JSON string"),
        ("/api/v0/jobs?cluster=demo&q=user", 400, "after 'user', found the end, at column 5"),
        ("/profile/../../etc/passwd", 404, "404"),
        ("/static/../app.py", 404, "404"),
        ("/static/%2e%2e/app.py", 404, "404"),
        ("/nonesuch", 404, "404"),
        ("/c/nonesuch", 404, "no cluster"),
        ("/c/%2e%2e", 400, "bad cluster name"),
    ],
)
def test_bad_requests_are_refused_and_tell_no_path(server: Server, path: str, status: int, text: str) -> None:
    response = server.get(path)

    assert response.status == status, response.data
    assert text in response.data.decode()
    assert str(server.config) not in response.data.decode()
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_typed_tables_are_those_of_the_command(server: Server) -> None:
    import io

    import pyarrow as pa
    from pyarrow import parquet

    texts = server.ask("jobs", cluster=CLUSTER, user="-", fmt="csv,job").data.decode().split()
    answer = server.ask("jobs", cluster=CLUSTER, user="-", fmt="parquet,job,user")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/vnd.apache.parquet")
    assert [str(job) for job in parquet.read_table(io.BytesIO(answer.data)).column("job").to_pylist()] == texts
    answer = server.ask("jobs", cluster=CLUSTER, user="-", fmt="arrow,job,user")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/vnd.apache.arrow.stream")
    assert [str(job) for job in pa.ipc.open_stream(answer.data).read_all().column("job").to_pylist()] == texts


def test_other_methods_are_refused(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE"):
        response = server.get(f"/jobs?cluster={CLUSTER}", method=method)
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("path", "login"),
    [
        ("/", "ada"), (f"/c/{CLUSTER}", "ada"), (f"/c/{CLUSTER}/jobs", "ada"),
        ("/api", "ada"),
        (f"/jobs?cluster={CLUSTER}", "ada"), (f"/api/v0/metadata?cluster={CLUSTER}", "ada"),
        (f"/api/v2/cluster/{CLUSTER}/nodes/info", "ada"), ("/metrics", "ada"), ("/status", "ada"),
        (f"/profile?cluster={CLUSTER}&job=1&fmt=html,cpu", "ada"), ("/jobs", "ada"),
        ("/nonesuch", "ada"), ("/api/nonesuch", "ada"), ("/", None), ("/login", None),
        ("/openapi.json", None), ("/dash2.html", None), ("/c/nonesuch", "ada"),
    ],
)  # fmt: skip
def test_answers_are_private_and_closed_to_other_hosts(server: Server, path: str, login: str | None) -> None:
    """Pages, answers, errors, redirections."""
    headers = server.get(path, login=login).headers

    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_scripts_and_styles_may_be_kept_and_nothing_else(server: Server) -> None:
    page = server.get("/").data.decode()
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        headers = server.get(address.replace("&amp;", "&"), login=None).headers
        assert headers["Cache-Control"] == "max-age=31536000, immutable"
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Authorization" in server.get("/").headers["Vary"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/index.html", "/"),
        ("/dash2.html", "/c/ml"),
        ("/dash2.html?cluster=demo", "/c/demo"),
        ("/machine-detail.html?cluster=demo&host=gpu-1", "/c/demo/node/gpu-1"),
        ("/subcluster.html?cluster=demo&subcluster=nvidia", "/c/demo/group/nvidia"),
        ("/violators.html?cluster=demo", "/c/demo/violations"),
        ("/violator.html?cluster=demo&user=femi", "/c/demo/violations/femi"),
        ("/deadweight.html?cluster=demo", "/c/demo/violations"),
        ("/q/jobquery.html?cluster=demo&user=femi&min-peak-cpu=2", "/c/demo/jobs?user=femi&min-cpu-peak=2"),
        ("/jobquery.html", "/"),
        ("/dash2.html?cluster=//evil.example.org", "/c/%2F%2Fevil.example.org"),
    ],
)
def test_addresses_of_old_lead_to_the_pages_of_today(server: Server, old: str, new: str) -> None:
    answer = server.get(old)
    assert (answer.status, answer.headers["location"]) == (303, new)


class _Reader(HTMLParser):
    """Collects what a page loads, and what would break its own rules."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.captions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in {"script", "link", "img"}:
            self.loads += [value for name in ("src", "href") if (value := attributes.get(name))]
        if tag == "style" or "style" in attributes or any(name.startswith("on") for name in attributes):
            self.inline.append(tag)
        if tag == "script" and "src" not in attributes and attributes.get("type") != "application/json":
            self.inline.append(tag)


def test_the_page_shows_nodes_and_jobs_and_loads_only_from_here(server: Server) -> None:
    response = server.get("/c/demo")
    page = response.data.decode()
    reader = _Reader()
    reader.feed(page)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    for machine in NODES:
        assert f'title="{machine.name}"' in page
    assert "Newest sample" in page
    assert len(re.findall(r'<th scope="row"', page)) == len(NODES)
    assert reader.inline == []
    assert reader.loads
    for address in reader.loads:
        assert address.startswith("/static/")
        assert server.get(address, login=None).status == 200


def test_texts_from_nodes_are_escaped(server: Server) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 600))
    day = server.data / "evil.example.org" / now[:10].replace("-", "/")
    day.mkdir(parents=True)
    command = "<script>alert(1)</script>"
    (day / "n1.csv").write_text(
        "".join(
            f"v=0.12.1,time={now}:{second}Z,host=n1,user=<b>,cmd={command},job=1,pid=1,cputime_sec=1\n"
            for second in ("01", "40")
        )
    )

    page = server.get("/c/evil.example.org/jobs").data.decode()

    assert command not in page
    assert "&lt;script&gt;" in page


def test_a_cluster_without_samples_has_a_page(server: Server) -> None:
    response = server.get("/c/empty.example.org")

    assert response.status == 200
    assert "never" in response.data.decode()


def test_remote_sonalyze_prints_what_the_local_one_does(server: Server, tmp_path: Path) -> None:
    auth = auth_file(tmp_path / "auth")
    question = ["jobs", "-u-", "--from", "3d", "--to", "1d", "--numjobs", "3"]
    remote = [
        "--remote",
        server.url,
        "--cluster",
        "demo",
        "--auth-file",
        str(auth),
        "--ca-file",
        str(server.config / "ca.crt"),
    ]

    done = subprocess.run(
        [sys.executable, LIBEXEC / "sonalyze", *question, *remote],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == cli(server, *question)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--data", "/nonesuch", "--allow-anonymous"], "--data"),
        (["--data", "/", "--allow-anonymous"], "listen"),
        (["--data", "/", "--allow-anonymous", "--listen", "x:y"], "--listen"),
        (["--data", "/", "--allow-anonymous", "--listen-tls", "127.0.0.1:0"], "certificate"),
    ],
)
def test_it_does_not_start_on_a_wrong_command_line(argv: list[str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, LIBEXEC / "sonalyzed", *argv], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr

"""The command lines of older senders: what they said, what they sent, and what is better now."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.node.legacy import is_of_old
from sonar.node.readings import batches, parse_readings

from tests.node.scripted_server import Certificates, Reply, ScriptedServer, scripted_server

EXFILTRATE = Path(__file__).resolve().parents[2] / "libexec" / "exfiltrate"

PYTHON = (
    "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=myhost,cores=56,user=limeng,job=1511785,pid=0,cmd=python,"
    'cpu%=675,cpukib=123249780,"gpus=3,1,2,0",gpu%=396,gpumem%=276,gpukib=37986304,cputime_sec=2652658,rolledup=36\n'
)
WATCH = (
    "v=0.7.0,time=2023-11-15T00:05:03+01:00,host=myhost,cores=56,user=balintl,job=4159295,pid=4159295,cmd=watch,"
    "cpu%=0.1,cpukib=1916,gpus=none,gpu%=0,gpumem%=0,gpukib=0,cputime_sec=2663\n"
)
HEARTBEAT = "v=0.7.0,time=2023-11-15T00:10:03+01:00,host=myhost,cores=56,user=_sonar_,job=0,pid=0,cmd=_heartbeat_\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(None) as made:
        yield made


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    path = tmp_path / "auth"
    path.write_text("dead/pool\n")  # the old form, and open to all: it was never looked at
    path.chmod(0o644)
    return path


def run(tmp_path: Path, *argv: str | Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, EXFILTRATE, *argv], input=given, capture_output=True, text=True, timeout=120, check=False,
        env=kept | {"SONAR_SPOOL": str(tmp_path / "spool")},
    )  # fmt: skip


def send(
    tmp_path: Path, server: ScriptedServer, *more: str | Path, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    where = ["-cluster", "test", "-source", "sonar/csvnamed", "-output", "json", "-target", server.url]
    return run(tmp_path, *where, *more, given=given)


def waiting(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((tmp_path / "spool").glob("*/new/*"))]


def test_samples_become_arrays_of_readings_and_heartbeats(tmp_path: Path, server: ScriptedServer, auth: Path) -> None:
    done = send(tmp_path, server, "-window", "0", "-auth-file", auth, given=PYTHON + HEARTBEAT + WATCH)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second = server.requests
    assert (first.path, second.path) == ("/sonar-reading", "/sonar-heartbeat")
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Authorization"] == "Basic ZGVhZDpwb29s"
    assert json.loads(first.body) == [
        {
            "version": "0.7.0", "time": "2023-11-15T00:00:03+01:00", "cluster": "test", "host": "myhost", "cores": 56,
            "user": "limeng", "job": 1511785, "cmd": "python", "cpu%": 675.0, "cpukib": 123249780, "gpus": "3,1,2,0",
            "gpu%": 396.0, "gpumem%": 276.0, "gpukib": 37986304, "cputime_sec": 2652658, "rolledup": 36,
        },
        {
            "version": "0.7.0", "time": "2023-11-15T00:05:03+01:00", "cluster": "test", "host": "myhost", "cores": 56,
            "user": "balintl", "job": 4159295, "pid": 4159295, "cmd": "watch", "cpu%": 0.1, "cpukib": 1916,
            "gpus": "none", "cputime_sec": 2663,
        },
    ]  # fmt: skip
    assert json.loads(second.body) == [
        {"version": "0.7.0", "time": "2023-11-15T00:10:03+01:00", "host": "myhost", "cluster": "test"}
    ]
    assert waiting(tmp_path) == []


def test_lines_as_the_original_took_and_dropped_them() -> None:
    text = (
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=8,cmd=a\n"  # no user
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores192,user=u,cmd=b\n"  # field dropped
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=8,user=u,cmd=c\n"
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=1x92,user=u,cmd=d\n"  # record dropped
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=8,user=_sonar_,job=0,pid=0,cmd=_heartbeat_\n"
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=8,user=u,cmd=e\n"
        "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,cores=8,user=u,cmd=f,blague=37\n"  # unknown name
    )
    found = parse_readings(text, "test")
    assert [one["cmd"] for one in found.readings] == ["b", "c", "e", "f"]
    assert len(found.heartbeats) == 1
    assert found.problems == 4


def test_numbers_that_json_has_not_and_a_bad_quote() -> None:
    start = "v=0.7.0,time=2023-11-15T00:00:03+01:00,host=h,user=u,cmd=c"
    text = f'{start},cpu%=inf,gpu%=-inf,gpumem%=NaN\n{start},cm"d=x,"y\n{start},pid=-1\n{start},pid=1.5\n{start}\n'
    found = parse_readings(text, "test")
    assert [(one.get("cpu%"), one.get("gpu%"), one.get("gpumem%")) for one in found.readings] == [
        (1.7976931348623157e308, -1.7976931348623157e308, None),
        (None, None, None),
    ]
    assert found.problems == 3
    assert b"NaN" not in b"".join(batches(found.readings))


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_records_with_what_must_be_there(text: str) -> None:
    found = parse_readings(text, "test")
    for one in found.readings:
        assert {"version", "time", "host", "user", "cmd", "cluster", "cores"} <= set(one)
    for batch in batches(found.readings):
        json.loads(batch, parse_constant=pytest.fail)


def test_plain_sender_posts_standard_input_to_the_url_as_it_is(tmp_path: Path, auth: Path) -> None:
    certificates = Certificates(tmp_path)
    with scripted_server(certificates.server_context("127.0.0.1")) as server:
        url = f"{server.url}/sonar-freecsv?cluster=fox"
        done = run(
            tmp_path, "-mimetype", "text/csv", "-ca-cert", certificates.ca, "--auth-file", auth, url, given=PYTHON
        )
        assert (done.returncode, done.stderr) == (0, "")
        (request,) = server.requests
    assert (request.path, request.body) == ("/sonar-freecsv?cluster=fox", PYTHON.encode())
    assert request.headers["Content-Type"] == "text/csv"


def test_plain_sender_without_options(tmp_path: Path, server: ScriptedServer) -> None:
    assert run(tmp_path, f"{server.url}/x", given="data").returncode == 0
    assert run(tmp_path, f"{server.url}/x", given=" \n").returncode == 0
    (request,) = server.requests
    assert (request.path, request.headers["Content-Type"], request.body) == ("/x", "text/plain", b"data")
    assert "Authorization" not in request.headers


def test_what_cannot_be_delivered_waits_on_the_disk_and_goes_first(tmp_path: Path, server: ScriptedServer) -> None:
    server.always = Reply(503, headers={"Retry-After": "3600"})
    done = send(tmp_path, server, given=WATCH)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(waiting(tmp_path)) == 1
    server.always = Reply()
    assert send(tmp_path, server, given=PYTHON).returncode == 0
    assert [json.loads(body)[0]["cmd"] for body in server.accepted()] == ["watch", "python"]
    assert waiting(tmp_path) == []


def test_server_that_cannot_be_reached_and_a_password_file_that_is_not_there_lose_nothing(
    tmp_path: Path, server: ScriptedServer
) -> None:
    done = send(tmp_path, server, "-auth-file", tmp_path / "none", given=WATCH)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(waiting(tmp_path)) == 1
    assert server.requests == []


def test_second_run_beside_one_that_delivers_leaves_it_to_that(tmp_path: Path, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.script.append(Reply(hold=hold))
    results: list[int] = []
    first = threading.Thread(target=lambda: results.append(send(tmp_path, server, given=WATCH).returncode))
    first.start()
    assert server.arrived.acquire(timeout=60)
    assert send(tmp_path, server, given=PYTHON).returncode == 0
    hold.set()
    first.join()
    assert results == [0]
    assert [json.loads(body)[0]["cmd"] for body in server.accepted()] == ["watch", "python"]


def test_spool_that_others_could_write_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    from sonar.errors import SonarError
    from sonar.node import legacy

    place = Path("/var/tmp") / f"exfiltrate-{os.getuid()}"
    if place.exists():
        pytest.skip("is in use")
    place.mkdir(mode=0o700)
    try:
        os.chown(place, 12345, 12345)
        with pytest.raises(SonarError, match="others can write there"):
            legacy._spool_directory("x")
    finally:
        place.rmdir()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-source", "sonar/csvnamed", "-output", "json", "-target", "http://x"], "Argument -cluster is required"),
        (["-cluster", "c", "-output=json", "-target=http://x"], "Argument -source is required"),
        (["-cluster", "c", "-source=csv", "-output=json", "-target=http://x"], "Unknown --source value"),
        (["-cluster", "c", "-source=sonar/csvnamed", "-output=csv", "-target=http://x"], "-output must be `json`"),
        (
            ["--cluster", "c", "--source=sonar/csvnamed", "-output", "json", "-target=http://x/"],
            "Failed to parse target",
        ),
        (["--cluster", "c", "--source=sonar/csvnamed", "-output", "json", "-target=x:80"], "Failed to parse target"),
        (["-cluster", "../c", "-source=sonar/csvnamed", "-output=json", "-target=http://x"], "bad cluster name"),
        (["-mimetype", "text/csv"], "exactly one URL"),
        (["-window", "soon", "http://x/"], "want a number of seconds"),
        (["-nonsense", "http://x/"], "-nonsense"),
        (["-ca-cert", "x.pem", "http://x/"], "-ca-cert needs an https URL"),
        (["http://ann:secret@x/"], "without a user name"),
    ],
)
def test_wrong_command_lines_are_fatal_in_the_old_words(tmp_path: Path, argv: list[str], text: str) -> None:
    done = run(tmp_path, *argv)
    assert done.returncode == 1
    assert done.stderr.startswith("exfiltrate: FATAL: Command line: ")
    assert text in done.stderr
    assert "secret" not in done.stderr


def test_new_command_lines_are_not_taken_for_old_ones() -> None:
    assert not is_of_old(["--url", "https://x", "--cluster", "c", "--spool", "d"])
    assert not is_of_old(["--cluster", "c", "--spool", "d", "--url", "https://x"])
    assert not is_of_old(["--help"])
    assert not is_of_old([])

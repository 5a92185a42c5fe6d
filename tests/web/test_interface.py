"""The HTTP interface of sonalyzed: formats, tags, compression, limits, cancellation, requests of old clients."""

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from tests.waiting import until
from tests.web.conftest import CLUSTER, NOW, Server, basic, running

ARROW = "application/vnd.apache.arrow.stream"


def jobs(server: Server, accept: str, fmt: str = "job,user,start,cpu-avg", login: str = "ada"):  # type: ignore[no-untyped-def]
    path = f"/jobs?cluster=demo&user=-&from=3d&to=1d&fmt={fmt}"
    return server.get(path, headers={"accept": accept}, login=login)


def test_accept_chooses_the_format(server: Server) -> None:
    as_json = jobs(server, "application/json")
    as_csv = jobs(server, "text/html;q=0.1, text/csv")
    as_arrow = jobs(server, ARROW)
    as_text = jobs(server, "*/*")

    rows = json.loads(as_json.data)
    assert as_json.headers["content-type"] == "application/json"
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert as_csv.data.decode().splitlines()[0] == "job,user,start,cpu-avg"
    assert as_arrow.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(as_arrow.data).read_all()
    assert table.schema.field("start").type == pa.timestamp("s", "UTC")
    assert (table.schema.field("cpu-avg").metadata or {})[b"unit"] == b"% of a core"
    assert table.column("job").to_pylist() == [int(row["job"]) for row in rows]
    assert as_text.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(rows) > 10


def test_fmt_is_stronger_than_accept(server: Server) -> None:
    assert jobs(server, "text/csv", "json,job").headers["content-type"] == "application/json"


def test_v0_answers_one_json_string_and_json_errors(server: Server) -> None:
    text = server.get("/jobs?cluster=demo&user=-&from=3d&to=1d&fmt=csv,job,cmd").data.decode()
    wrapped = server.get("/api/v0/jobs?cluster=demo&user=-&from=3d&to=1d&fmt=csv,job,cmd")
    error = server.get("/api/v0/jobs?cluster=demo&user=-&nonsense=1")
    missing = server.get("/api/nonsense")

    assert json.loads(wrapped.data) == text
    assert len(text) > 100
    assert (error.status, error.headers["content-type"]) == (400, "application/json")
    assert json.loads(error.data) == {"title": "Bad Request", "status": 400, "detail": "Bad parameter nonsense"}
    assert json.loads(missing.data)["status"] == 404


def test_an_answer_has_a_tag_and_is_not_sent_twice(server: Server) -> None:
    path = "/jobs?cluster=demo&user=-&from=3d&to=1d&fmt=csv,job,user"
    first = server.get(path)
    again = server.get(path, headers={"if-none-match": first.headers["etag"]})
    other = server.get(path, headers={"if-none-match": '"something"'})

    assert (again.status, again.data) == (304, b"")
    assert other.data == first.data != b""
    assert "Authorization" in first.headers["vary"]


def test_large_answers_are_compressed_and_streamed(server: Server) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW - 9 * 86400))
    path = f"/parse?cluster=demo&from={day}&to=2d&fmt=csv,all"
    plain = server.get(path)
    packed = server.get(path, headers={"accept-encoding": "gzip"}, decode=False)

    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.data) < len(plain.data) / 5
    assert gzip.decompress(packed.data)[:1000] == plain.data[:1000]
    assert plain.headers.get("transfer-encoding") == "chunked"


def test_head_tells_the_same_without_a_body(server: Server) -> None:
    response = server.get("/metadata?cluster=demo", method="HEAD")
    assert (response.status, response.data) == (200, b"")
    assert int(response.headers["content-length"]) > 0


def test_ready_and_metrics(server: Server) -> None:
    server.get("/metadata?cluster=demo")
    assert json.loads(server.get("/ready", login=None).data)["ready"] is True
    text = server.get("/metrics").data.decode()
    assert 'sonalyzed_requests_total{endpoint="/metadata",status="200"}' in text
    assert "sonalyzed_tasks_running" in text
    assert "process_resident_memory_bytes" in text
    assert server.get("/metrics", login=None).status == 401
    assert server.get("/metrics", login="grete").status == 403


def test_a_body_of_a_get_is_ignored_whatever_it_is(small: Server) -> None:
    for body in ("Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        parts = urlsplit(small.url)
        with socket.create_connection((str(parts.hostname), parts.port or 0)) as connection:
            connection.sendall(f"GET /version HTTP/1.1\r\nHost: x\r\n{body}".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200


def test_what_is_not_there_is_told_as_a_page_to_people(server: Server) -> None:
    base = f"/c/{CLUSTER}"
    for path, text in (
        ("/nonesuch", "there is no such page"), (f"{base}/nonesuch", "there is no such page"),
        (f"{base}/user/-", "no user"), (f"{base}/user/ada,grete", "no user"),
        (f"{base}/group/nonesuch", "no group"), (f"{base}/node/nonesuch", "no node"),
        ("/c/nonesuch/jobs", "no cluster"),
    ):  # fmt: skip
        answer = server.get(path, headers={"accept": "text/html,*/*;q=0.8"})
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8"), path
        assert text in answer.data.decode()
    assert server.get("/nonesuch").data == b"404 page not found"
    assert json.loads(server.get("/api/v9", headers={"accept": "text/html"}).data)["status"] == 404


def test_pipelined_requests_are_answered_in_their_order(small: Server) -> None:
    parts = urlsplit(small.url)
    paths = ("/version", f"/jobs?cluster={CLUSTER}&user=-&from=1d&fmt=csv,job", "/ping", "/nonesuch")
    head = f"Host: x\r\nAuthorization: {basic('ada')}\r\n\r\n"
    asked = "".join(f"GET {path} HTTP/1.1\r\n{head}" for path in paths)
    with socket.create_connection((str(parts.hostname), parts.port or 0)) as connection:
        connection.sendall(asked.encode())
        with connection.makefile("rb") as stream:
            statuses, bodies = [], []
            for _ in paths:
                statuses.append(int(stream.readline().split()[1]))
                fields = dict(line.lower().split(b": ") for line in iter(stream.readline, b"\r\n"))
                bodies.append(stream.read(int(fields[b"content-length"])))
    assert statuses == [200, 200, 200, 404]
    assert bodies[0].startswith(b"sonalyze version(")
    assert bodies[2:] == [b"ok\n", b"404 page not found"]


def test_keep_alive(server: Server) -> None:
    parts = urlsplit(server.url)
    import ssl

    context = ssl.create_default_context(cafile=str(server.config / "ca.crt"))
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, context=context)
    sockets = set()
    for path in ("/ping", "/version", "/ping"):
        connection.request("GET", path)
        assert connection.getresponse().read()
        assert connection.sock is not None
        sockets.add(connection.sock.fileno())
    connection.close()
    assert len(sockets) == 1


@pytest.fixture(scope="module")
def small(site: Path):  # type: ignore[no-untyped-def]
    """A server that allows little."""
    options: list[str | Path] = ["--cluster-config", site, "--password-file", site / "passwords"]
    limits = ["--queries", "1", "--waiting", "1", "--query-time", "120", "--query-memory", "1G"]
    with running(site, [*options, *limits], tls=False) as server:
        yield server


SLOW = f"/parse?cluster={CLUSTER}&from=14d&fmt=csv,all&clean=true"


def raw_request(server: Server, path: str) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.hostname
    assert parts.port
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('ada')}\r\n\r\n".encode())
    return connection


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics").data.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def processes_of(server: Server) -> set[int]:
    """The processes of analyses, and the one that waits for the next: the grandchildren of the server."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return {pid for pid, parent in parents.items() if parents.get(parent) == server.pid}


def kill_processes(server: Server) -> None:
    for pid in processes_of(server):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_who_goes_away_stops_the_question(small: Server) -> None:
    cancelled = metric(small, 'sonalyzed_tasks_total{outcome="cancelled"}')
    connection = raw_request(small, SLOW)
    until(lambda: metric(small, 'sonalyzed_tasks_running{lane="question"}') == 1, "it runs")
    started = processes_of(small)
    connection.close()

    until(lambda: metric(small, 'sonalyzed_tasks_running{lane="question"}') == 0, "it has stopped")
    assert metric(small, 'sonalyzed_tasks_total{outcome="cancelled"}') == cancelled + 1
    until(lambda: not processes_of(small) & started, "its process is gone")


def test_too_many_questions_are_503_and_ping_and_pages_go_on(small: Server) -> None:
    held = [raw_request(small, SLOW) for _ in range(2)]
    until(lambda: metric(small, 'sonalyzed_tasks_waiting{lane="question"}') == 1, "one waits")
    try:
        refused = small.get(f"/metadata?cluster={CLUSTER}")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert small.get("/ping", login=None).status == 200
        assert small.get("/").status == 200
        assert small.get("/ready", login=None).status == 200
    finally:
        for connection in held:
            connection.close()
    until(lambda: metric(small, "sonalyzed_tasks_running") == 0, "all have stopped")
    assert small.get(f"/metadata?cluster={CLUSTER}").status == 200


def test_a_killed_process_is_an_error_of_one_question_only(small: Server) -> None:
    lost = metric(small, 'sonalyzed_tasks_total{outcome="lost"}')
    connection = raw_request(small, SLOW)

    def is_lost() -> bool:
        kill_processes(small)
        return metric(small, 'sonalyzed_tasks_total{outcome="lost"}') > lost

    until(is_lost, "its process was killed")
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert response.status == 500
    connection.close()
    assert small.get(f"/metadata?cluster={CLUSTER}").status == 200


def test_a_process_that_was_killed_before_it_was_needed_is_none(small: Server) -> None:
    for days in (3, 5, 7):
        # Another question each time: what was asked before is answered without a process, and then none waits.
        assert small.get(f"/metadata?cluster={CLUSTER}&from={days}d").status == 200
        until(lambda: processes_of(small), "one waits")
        kill_processes(small)
        assert small.get(f"/metadata?cluster={CLUSTER}&from={days + 1}d").status == 200


def test_too_slow_is_504_and_too_large_is_503(site: Path) -> None:
    options: list[str | Path] = ["--cluster-config", site, "--password-file", site / "passwords"]
    with running(site, [*options, "--query-time", "1"], tls=False) as server:
        connection = raw_request(server, SLOW)
        until(lambda: processes_of(server), "it runs")
        stopped = processes_of(server)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)  # as slow as can be
        slow = http.client.HTTPResponse(connection)
        slow.begin()
        assert slow.status == 504
        connection.close()
        assert server.get("/ping", login=None).status == 200
        until(lambda: not processes_of(server) & stopped, "its process is gone")
    with running(site, [*options, "--query-memory", "60M"], tls=False) as server:
        large = server.get(f"/jobs?cluster={CLUSTER}&from=14d&user=-")
        assert large.status == 503
        assert "memory" in large.data.decode()


def test_who_waits_when_the_server_stops_is_told_at_once_and_who_is_answered_is_served(site: Path) -> None:
    options: list[str | Path] = ["--cluster-config", site, "--password-file", site / "passwords", "--queries", "1"]
    with running(site, options, tls=False) as server:
        served = raw_request(server, SLOW)
        until(lambda: metric(server, 'sonalyzed_tasks_running{lane="question"}') == 1, "it runs")
        waiting = raw_request(server, f"/metadata?cluster={CLUSTER}")
        until(lambda: metric(server, 'sonalyzed_tasks_waiting{lane="question"}') == 1, "one waits")
        os.kill(server.pid, signal.SIGTERM)
        told = http.client.HTTPResponse(waiting)
        told.begin()
        assert told.status == 503
        assert int(str(told.headers["retry-after"])) > 0
        waiting.close()
        answer = http.client.HTTPResponse(served)
        answer.begin()
        assert answer.status == 200
        assert len(answer.read()) > 1_000_000
        served.close()


def test_the_state_of_a_cluster_is_at_hand_before_anybody_asks(site: Path) -> None:
    """It is computed at the start, and the overview, the first page and the ages on all pages have it."""
    options: list[str | Path] = ["--cluster-config", site, "--password-file", site / "passwords"]
    with running(site, options, tls=False) as server:
        until(lambda: b"Its state has not" not in server.get("/").data, "the states are there")
        for page in ("/jobs", "/reports", "/violations", "/gaps", ""):
            assert b'title="the newest sample of any node' in server.get(f"/c/{CLUSTER}{page}").data, page

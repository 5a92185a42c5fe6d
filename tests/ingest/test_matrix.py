"""Every upload endpoint × everything that may be wrong with a request: one table, one server."""

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, PASSWORD, Infiltrate, basic

TIME = "2026-03-02T12:00:00+01:00"
MAX_BODY = 200_000


@dataclass(frozen=True)
class Place:
    """An endpoint, and how a good post of one record looks there."""

    path: str
    media: str
    file: str  # what a good post is stored in
    record: dict[str, Any] = field(default_factory=dict)
    time_key: str = "time"
    host_key: str = "host"
    shape: str = "csv"  # csv, array, object or envelope

    def body(self, **changes: Any) -> bytes:
        """Return a body with one record; a change to None leaves a key out."""
        record = {key: value for key, value in (self.record | changes).items() if value is not None}
        match self.shape:
            case "csv":
                return ",".join(f"{key}={value}" for key, value in record.items()).encode() + b"\n"
            case "array":
                return json.dumps([record]).encode()
            case "object":
                return json.dumps(record).encode()
        return json.dumps({"meta": {}, "data": {"type": self.record["kind"], "attributes": record}}).encode()

    @property
    def names_cluster(self) -> bool:
        """Whether the cluster is a parameter, and not in the records."""
        return "cluster=" in self.path

    def of(self, cluster: str) -> tuple[str, bytes]:
        """Return path and body of a post for a cluster."""
        if self.names_cluster:
            return self.path.replace(CLUSTER, cluster), self.body()
        return self.path, self.body(cluster=cluster)


SAMPLE = {"v": "0.12.1", "time": TIME, "host": "n1", "user": "kim", "cmd": "x", "job": 5}
READING = {"version": "0.7.0", "time": TIME, "cluster": CLUSTER, "host": "n1", "cores": 4, "user": "kim", "cmd": "x"}
OLD_SYSINFO = {"timestamp": TIME, "hostname": "n1", "description": "a node", "cpu_cores": 4, "mem_gb": 8}
ENVELOPE = {"time": TIME, "cluster": CLUSTER, "node": "n1"}
SACCT = {"v": "0.1.0", "JobID": "7", "JobIDRaw": "7", "User": "kim", "End": TIME}
DAY = f"{CLUSTER}/2026/03/02"

PLACES = {
    "sonar-reading": Place("/sonar-reading", "application/json", "n1.csv", READING, shape="array"),
    "sonar-heartbeat": Place("/sonar-heartbeat", "application/json", "n1.csv", READING, shape="array"),
    "sonar-freecsv": Place(f"/sonar-freecsv?cluster={CLUSTER}", "text/csv", "n1.csv", SAMPLE),
    "sysinfo": Place(
        f"/sysinfo?cluster={CLUSTER}",
        "application/json",
        "sysinfo-n1.json",
        OLD_SYSINFO,
        "timestamp",
        "hostname",
        "object",
    ),
    "add-sample": Place(f"/add?sample=xxxxxtruexxxxx&cluster={CLUSTER}", "text/csv", "n1.csv", SAMPLE),
    "add-sysinfo": Place(
        f"/add?sysinfo=true&cluster={CLUSTER}",
        "application/json",
        "sysinfo-n1.json",
        OLD_SYSINFO,
        "timestamp",
        "hostname",
        "object",
    ),
    "add-sacct": Place(f"/add?slurm-sacct=true&cluster={CLUSTER}", "text/csv", "slurm-sacct.csv", SACCT, "End", ""),
    **{
        f"{prefix}{kind}": Place(
            f"{prefix}{kind}",
            "application/json",
            file,
            ENVELOPE | {"kind": kind},
            host_key="node" if "n1" in file else "",
            shape="envelope",
        )
        for prefix in ("/insert/", "/api/v0/insert/", "/api/v1/insert/")
        for kind, file in {
            "sample": "0+sample-n1.json",
            "sysinfo": "0+sysinfo-n1.json",
            "job": "0+job-slurm.json",
            "cluster": "0+cluzter-slurm.json",
        }.items()
    },
}

each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infiltrate]:
    """Serve all cases of the table; each looks only at what it has added itself."""
    scratch = tmp_path_factory.mktemp("matrix")
    passwords = scratch / "passwords"
    passwords.write_text(f"{CLUSTER}:{PASSWORD}\n{FOX}:{FOX_PASSWORD}\n")
    passwords.chmod(0o600)
    aliases = scratch / "aliases.json"
    aliases.write_text(json.dumps([{"alias": "ml", "value": CLUSTER}]))
    options = ["--password-file", str(passwords), "--aliases", str(aliases), "--listen", "127.0.0.1:0"]
    running = Infiltrate(scratch, *options, "--max-body", str(MAX_BODY))
    try:
        yield running
    finally:
        running.stop()
        assert "Traceback" not in running.log.read_text()


def post(server: Infiltrate, place: Place, body: bytes, **options: Any) -> int:
    options.setdefault("headers", {"Content-Type": place.media})
    return server.post(options.pop("path", place.path), body, **options).status


@each_place
def test_faults_of_the_request(server: Infiltrate, place: Place) -> None:
    body = place.body()
    charset = {"Content-Type": f"{place.media.upper()}; charset=utf-8"}
    wrong = {"Content-Type": "application/json" if place.media == "text/csv" else "text/csv"}
    # Who guesses passwords is slowed down: each case guesses from elsewhere.
    source = f"127.0.{1 + list(PLACES.values()).index(place)}.1"
    other_path, other_body = place.of(FOX)
    alias_path, alias_body = place.of("ml")
    for label, status, found in [
        ("GET", 405, server.request("GET", place.path).status),
        ("PUT", 405, server.request("PUT", place.path, body).status),
        ("a good one", 200, post(server, place, body)),
        ("no type", 200, post(server, place, body, headers={})),
        ("type with charset", 200, post(server, place, body, headers=charset)),
        ("curl's type", 200, post(server, place, body, headers={"Content-Type": "application/x-www-form-urlencoded"})),
        ("wrong type", 415, post(server, place, body, headers=wrong)),
        ("no credentials", 401, post(server, place, body, user=None)),
        ("unknown user", 401, post(server, place, body, user="nobody", password="x", source=source)),
        ("wrong password", 401, post(server, place, body, password="x", source=f"{source}1")),
        ("other cluster", 403, post(server, place, other_body, path=other_path)),
        ("alias as cluster", 200, post(server, place, alias_body, path=alias_path)),
        ("gzip", 200, post(server, place, gzip.compress(body), headers={"Content-Encoding": "gzip"})),
        ("gzip that is none", 400, post(server, place, b"x" + body, headers={"Content-Encoding": "gzip"})),
        ("gzip cut off", 400, post(server, place, gzip.compress(body)[:-9], headers={"Content-Encoding": "gzip"})),
        ("bomb", 413, post(server, place, gzip.compress(bytes(MAX_BODY + 1)), headers={"Content-Encoding": "gzip"})),
        ("unknown encoding", 415, post(server, place, body, headers={"Content-Encoding": "br"})),
        ("over-size", 413, post(server, place, bytes(MAX_BODY + 1))),
    ]:
        assert (label, found) == (label, status)


@each_place
def test_faults_of_the_body(server: Infiltrate, place: Place) -> None:
    array, csv = place.shape == "array", place.shape == "csv"
    cases: list[tuple[str, int, bytes]] = [
        ("empty", 200 if csv else 400, b""),
        ("[]", 200 if array else 400, b"[]"),
        ("null", 200 if array else 400, b"null"),
        ("{}", 400, b"{}"),
        ("null element", 400, b"[null]"),
        ("not JSON", 400, b"{"),
        ("deep", 400, b"[" * 90_000),
        ("deeper than 64", 400, b'{"a":' * 65 + b"1" + b"}" * 65),
        ("binary", 400, b"\xff\xfe\x00\x01"),
        ("no time", 400, place.body(**{place.time_key: None})),
        ("bad time", 400, place.body(**{place.time_key: "yesterday"})),
        ("time without offset", 400, place.body(**{place.time_key: "2026-03-02T12:00:00"})),
        ("of the year 1", 400, place.body(**{place.time_key: "0001-01-01T00:00:00Z"})),
        ("of the future", 400, place.body(**{place.time_key: "2199-01-01T00:00:00Z"})),
        ("not a date", 400, place.body(**{place.time_key: "2026-02-30T00:00:00Z"})),
    ]
    if place.host_key:
        hosts = ("../x", "..", "a/b", "", "a..b", "-", "n" * 300, "a b", "slurm-sacct", "x\\u0000")
        cases += [(f"host {host[:9]!r}", 400, place.body(**{place.host_key: host})) for host in hosts]
    if not place.names_cluster:
        clusters = ("../x", "a/b", "a..b", "c" * 300, ".spool", ".server")
        cases += [(f"cluster {cluster[:9]!r}", 400, place.body(cluster=cluster)) for cluster in clusters]
    server.settle()
    before = server.files()
    for label, status, body in cases:
        assert (label, post(server, place, body)) == (label, status)
    server.settle()
    after = server.files()
    assert {name for name in after if name not in before and not name.endswith(".jsonl")} == set()
    assert not [path for path in server.data.parent.rglob("x*") if path.is_file()]


@each_place
def test_clusters_of_the_path(server: Infiltrate, place: Place) -> None:
    if not place.names_cluster:
        assert post(server, place, place.body(cluster=None)) == 200  # it is the user's
        assert post(server, place, place.body(cluster="")) == 200
        return
    for value, status in {"": 400, "../x": 400, f"{CLUSTER}&cluster={CLUSTER}": 400, CLUSTER.upper(): 200}.items():
        path = place.path.replace(CLUSTER, value)
        assert (value, post(server, place, place.body(), path=path)) == (value, status)
    assert post(server, place, place.body(), path=place.path.replace(f"cluster={CLUSTER}", "")) == 400


@each_place
def test_ways_of_sending(server: Infiltrate, place: Place) -> None:
    body = place.body()
    head = f"POST {place.path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(CLUSTER, PASSWORD)}\r\n".encode()

    def connect() -> "closing[socket.socket]":
        return closing(socket.create_connection(("127.0.0.1", server.port), timeout=60))

    with connect() as chunked:
        chunked.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte in (body[:1], body[1:]):
            chunked.sendall(b"%x\r\n%s\r\n" % (len(byte), byte))
        chunked.sendall(b"0\r\n\r\n")
        assert chunked.recv(65536).startswith(b"HTTP/1.1 200 ")
    with connect() as expecting:
        expecting.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert expecting.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        expecting.sendall(body)
        assert expecting.recv(65536).startswith(b"HTTP/1.1 200 ")
    with connect() as slow:
        slow.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 50):
            slow.sendall(body[at : at + 50])
            assert server.request("GET", "/ping", user=None).status == 200
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_body_that_stops_coming_is_408(tmp_path: Path, password_file: Path) -> None:
    options = ["--password-file", str(password_file), "--listen", "127.0.0.1:0", "--request-timeout", "0.3"]
    server = Infiltrate(tmp_path, *options)
    try:
        with ExitStack() as stack:
            stalled = {}
            for name, place in PLACES.items():
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
                stalled[name] = stack.enter_context(closing(connection))
                head = f"POST {place.path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(CLUSTER, PASSWORD)}\r\n"
                connection.sendall(head.encode() + b"Content-Length: 9\r\n\r\n[")
            for name, connection in stalled.items():
                assert (name, connection.recv(65536)[:13]) == (name, b"HTTP/1.1 408 ")
    finally:
        server.stop()
    assert server.stored() == {}
    assert {one.status for one in server.ledger()} <= {408}


def test_unknown_places(server: Infiltrate) -> None:
    for path in ("/", "/x", "/sonar-reading/", "/add/", "/insert", "/insert/x", "/api/v2/insert/sample", "/kprox"):
        assert (path, server.post(path, b"{}").status) == (path, 404)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", b"Need exactly one of `-sample`, `-sysinfo`, or `-slurm-sacct`"),
        ("sample=true&sysinfo=true", b"Need exactly one of"),
        ("sample=false", b"Need exactly one of"),
        ("sample=yes", b"Bad operation: Bad `sample` parameter"),
        ("sysinfo=", b"Bad operation: Bad `sysinfo` parameter"),
        ("slurm-sacct=true&slurm-sacct=true", b"Bad operation: Bad `slurm-sacct` parameter"),
    ],
)
def test_add_wants_one_operation(server: Infiltrate, query: str, text: bytes) -> None:
    answer = server.post(f"/add?cluster={CLUSTER}&{query}", PLACES["add-sample"].body())
    assert answer.status == 400
    assert text in answer.body


def test_each_good_post_is_where_it_belongs(tmp_path: Path, password_file: Path) -> None:
    server = Infiltrate(tmp_path, "--password-file", str(password_file), "--listen", "127.0.0.1:0")
    answers = [
        server.post(place.path, place.body(), headers={"Content-Type": place.media}) for place in PLACES.values()
    ]
    for (name, place), answer in zip(PLACES.items(), answers, strict=True):
        assert (name, answer.status) == (name, 200)
        if place.shape != "envelope":
            assert answer.body == b""  # cron mails what curl prints
    server.stop()

    assert set(server.stored()) == {f"{DAY}/{place.file}" for place in PLACES.values()}

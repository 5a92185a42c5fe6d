"""Requests as bytes on a socket: chunks, 100-continue, sizes, slowness, garbage, TLS."""

import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from tests.ingest.conftest import CLUSTER, PASSWORD, Infiltrate, Starter, basic

LINE = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim,cmd=lmp,job=998,cpu%=99.8\n"
FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"
AUTHORIZATION = f"Authorization: {basic(CLUSTER, PASSWORD)}\r\n".encode()
HEAD = b"POST /sonar-freecsv?cluster=" + CLUSTER.encode() + b" HTTP/1.1\r\nHost: x\r\n" + AUTHORIZATION


@pytest.fixture
def small(start: Starter) -> Infiltrate:
    """Let bodies have 1000 bytes at most."""
    return start("--max-body", "1000")


def connect(server: Infiltrate) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", server.port), timeout=60))


def response(connection: socket.socket) -> bytes:
    """Return one response with a Content-Length, or what there is when the connection ends."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return data
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def status(connection: socket.socket) -> int:
    return int(response(connection).split(b" ")[1])


@pytest.mark.parametrize(
    ("version", "hosts", "expected"),
    [(b"1.1", 1, 200), (b"1.1", 0, 400), (b"1.1", 2, 400), (b"1.0", 0, 200)],
)
def test_http_1_1_wants_one_host(infiltrate: Infiltrate, version: bytes, hosts: int, expected: int) -> None:
    head = HEAD.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/" + version + b"\r\n" + b"Host: x\r\n" * hosts)
    with connect(infiltrate) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(LINE), LINE))
        assert status(connection) == expected
        if expected == 400 or version == b"1.0":
            assert connection.recv(1) == b""
    infiltrate.settle()
    assert infiltrate.stored() == ({FILE: LINE} if expected == 200 else {})


def test_chunked_bodies_are_taken(infiltrate: Infiltrate) -> None:
    with connect(infiltrate) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (LINE[:40], LINE[40:]):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        assert status(connection) == 200

    infiltrate.stop()
    assert infiltrate.stored() == {FILE: LINE}


def test_client_that_expects_100_continue_gets_it(infiltrate: Infiltrate) -> None:
    with connect(infiltrate) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(LINE))
        assert response(connection).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(LINE)
        assert status(connection) == 200


def test_client_that_expects_100_continue_is_refused_before_it_sends(small: Infiltrate) -> None:
    with connect(small) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
        assert status(connection) == 413
    with connect(small) as connection:
        connection.sendall(HEAD.replace(AUTHORIZATION, b"") + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert status(connection) == 401


def test_declared_length_is_refused_before_reading(small: Infiltrate) -> None:
    with connect(small) as connection:
        connection.sendall(HEAD + b"Content-Length: 99999999999999\r\n\r\n")
        answer = response(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"body over 1000 bytes")


def test_chunked_body_is_refused_when_it_grows_too_large(small: Infiltrate) -> None:
    with connect(small) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n")
        assert status(connection) == 413
    assert small.post_csv(LINE).status == 200


def test_connection_goes_on_after_a_refused_body_is_through(small: Infiltrate) -> None:
    with connect(small) as connection:
        connection.sendall(HEAD + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000)
        assert status(connection) == 413
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE)
        assert status(connection) == 200


def test_malformed_requests(infiltrate: Infiltrate) -> None:
    for request, expected in [
        (b"nonsense\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"X: " + b"y" * 33_000 + b"\r\n\r\n", 431),
        (HEAD + b"X: " + b"y" * 200_000, 431),
        (b"GET /" + b"y" * 200_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ]:
        with connect(infiltrate) as connection:
            connection.sendall(request)
            assert (request[:80], status(connection)) == (request[:80], expected)
    assert infiltrate.request("GET", "/ping", user=None).status == 200


def test_pipelined_requests_are_answered_in_order(infiltrate: Infiltrate) -> None:
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE
    with connect(infiltrate) as connection:
        connection.sendall(one + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" + one)
        data = b""
        while data.count(b"HTTP/1.1 200") < 3:
            data += connection.recv(65536)
    assert data.index(b"ok\n") > data.index(b"HTTP/1.1 200")


def test_client_that_goes_away_leaves_nothing(infiltrate: Infiltrate) -> None:
    with connect(infiltrate) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + LINE)
    assert infiltrate.request("GET", "/ping", user=None).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {}
    assert "Traceback" not in infiltrate.log.read_text()


def test_idle_connections_make_room_for_those_who_have_something_to_say(tmp_path: Path) -> None:
    server = Infiltrate(tmp_path, "--allow-anonymous", "--listen", "127.0.0.1:0", open_files=400)  # 100 connections
    try:
        with ExitStack() as stack:
            idle = [stack.enter_context(connect(server)) for _ in range(150)]
            for _ in range(50):
                assert server.post_csv(LINE).status == 200
            idle[0].settimeout(60)
            assert idle[0].recv(1) == b""  # the oldest had to go
            idle[-1].sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE)
            assert status(idle[-1]) == 200
    finally:
        server.stop()
    assert server.stored() == {FILE: LINE * 51}
    assert "Traceback" not in server.log.read_text()


def test_many_idle_and_dribbling_connections_cost_nothing() -> None:
    bench = Path(__file__).resolve().parents[2] / "bench" / "connections.py"
    done = subprocess.run([sys.executable, bench, "1000", "50", "2"], timeout=120, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ping(infiltrate: Infiltrate) -> None:
    answer = infiltrate.request("GET", "/ping", user=None)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"ok\n", "text/plain; charset=utf-8")
    assert infiltrate.request("HEAD", "/ping", user=None).body == b""
    assert infiltrate.request("GET", "/ping", user="x", password="wrong").status == 200
    assert infiltrate.post("/ping", b"").status == 405


def test_curl_as_deployed_scripts_call_it(infiltrate: Infiltrate, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login {CLUSTER} password {PASSWORD}\n")
    body = tmp_path / "body"
    body.write_bytes(LINE * 20_000)

    command = ["curl", "-sS", "--netrc-file", str(netrc), "--data-binary", f"@{body}", "-H", "Content-Type: text/csv"]
    url = f"http://127.0.0.1:{infiltrate.port}/sonar-freecsv?cluster={CLUSTER}"
    done = subprocess.run([*command, url], check=True, capture_output=True, timeout=60)

    assert (done.stdout, done.stderr) == (b"", b"")
    infiltrate.stop()
    assert infiltrate.stored() == {FILE: LINE * 20_000}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    issued = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return chain, key


def over_tls(server: Infiltrate, authority: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", server.ports["tls"]), timeout=60)
    with closing(context.wrap_socket(plain, server_hostname="127.0.0.1")) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE)
        return status(connection)


def test_tls_beside_plain(start: Starter, authority: trustme.CA, certificate: tuple[Path, Path]) -> None:
    chain, key = map(str, certificate)
    server = start("--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key)

    assert over_tls(server, authority) == 200
    assert over_tls(server, authority, ssl.TLSVersion.TLSv1_2) == 200
    assert server.post_csv(LINE).status == 200

    server.stop()
    assert server.stored() == {FILE: LINE * 3}


def test_renewed_certificate_is_taken_up_by_reload(
    start: Starter, authority: trustme.CA, certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    server = start("--listen-tls", "127.0.0.1:0", "--tls-cert", str(chain), "--tls-key", str(key))
    other = trustme.CA()
    renewed = other.issue_cert("127.0.0.1")

    chain.write_bytes(renewed.cert_chain_pems[0].bytes())
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("STATUS=reload failed")
    assert over_tls(server, authority) == 200

    renewed.private_key_pem.write_to_path(key)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("READY=1")
    assert over_tls(server, other) == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(server, authority)


def test_certificate_from_credentials(start: Starter, authority: trustme.CA, tmp_path: Path) -> None:
    issued = authority.issue_cert("127.0.0.1")
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "tls-cert").write_bytes(issued.cert_chain_pems[0].bytes())
    issued.private_key_pem.write_to_path(directory / "tls-key")

    server = start("--listen-tls", "127.0.0.1:0", environment={"CREDENTIALS_DIRECTORY": str(directory)})

    assert over_tls(server, authority) == 200

"""Remote mode: what is asked of the server, and what becomes of its answers."""

import os
import re
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"


@dataclass
class Server:
    """A server that gives the same answer to everybody and keeps the requests."""

    url: str
    status: int = 200
    body: bytes = b"10\n"
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # target, authorization


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            started.requests.append((self.path, self.headers["authorization"]))
            self.send_response(started.status)
            for name, value in started.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(started.body)))
            self.end_headers()
            self.wfile.write(started.body)

        def log_message(self, *_args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    started = Server(f"http{'s' if context else ''}://127.0.0.1:{listener.server_port}")
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield started
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def sonalyze(server: Server | None, *argv: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    where = [] if server is None else [f"--remote={server.url}/api", "--cluster=fox"]
    return subprocess.run(
        [sys.executable, SONALYZE, *argv, *where],
        env={"PATH": os.environ["PATH"], "LOGNAME": "ann"} | kept | env,
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_question_is_sent_as_typed_in_the_order_of_declaration(server: Server) -> None:
    argv = ["--fmt=csv,job", "-n2", "--batch", "--zombie", "--min-runtime=1w2d", "--exclude-job=9", "-j", "7", "-j8"]
    argv += ["--command=a b", "--host=c[1-2],d*", "-t", "2024-1-5", "-f2w", "--min-cpu-avg", "5", "-u-"]

    done = sonalyze(server, "jobs", *argv)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"10\n", b"")
    [(target, authorization)] = server.requests
    assert target.split("&") == [
        "/api/jobs?cluster=fox",
        *("from=2w", "to=2024-1-5", "host=c%5B1-2%5D%2Cd%2A", "user=-", "command=a%20b", "job=7", "job=8"),
        *("exclude-job=9", "min-cpu-avg=5", "min-runtime=1w2d", "zombie=xxxxxtruexxxxx", "batch=xxxxxtruexxxxx"),
        *("numjobs=2", "fmt=csv%2Cjob"),
    ]
    assert authorization is None


def test_client_says_whose_jobs_are_meant(server: Server) -> None:
    for argv in (["jobs"], ["jobs", "--exclude-user=bob"], ["load"], ["metadata"]):
        assert sonalyze(server, *argv).returncode == 0

    assert [target for target, _ in server.requests] == [
        "/api/jobs?cluster=fox&user=ann",
        "/api/jobs?cluster=fox&exclude-user=bob",
        "/api/load?cluster=fox",
        "/api/metadata?cluster=fox",
    ]


def test_answer_is_passed_on_byte_for_byte(server: Server) -> None:
    server.body = bytes(range(256)) * 1000

    done = sonalyze(server, "load")

    assert done.stdout == server.body


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("ann:s3cret\n", "ann:s3cret"),
        ("  ann:å \n", "ann:å"),
        ("machine h login ann password s:3\n", "ann:s:3"),
    ],
)
def test_password_of_the_file_is_sent_as_basic_authentication(
    server: Server, tmp_path: Path, content: str, secret: str
) -> None:
    (tmp_path / "auth").write_text(content, encoding="utf-8")
    (tmp_path / "auth").chmod(0o600)

    done = sonalyze(server, "load", f"--auth-file={tmp_path / 'auth'}")

    assert (done.returncode, done.stderr) == (0, b"")
    assert server.requests[0][1] == "Basic " + b64encode(secret.encode()).decode()


def test_password_of_the_environment_goes_before_the_file(server: Server) -> None:
    done = sonalyze(server, "load", "--auth-file=/nonexistent", SONALYZE_AUTH="bob:pw")

    assert (done.returncode, done.stderr) == (0, b"")
    assert server.requests[0][1] == "Basic " + b64encode(b"bob:pw").decode()


def test_file_that_others_can_read_is_used_with_a_warning(server: Server, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("ann:pw")
    (tmp_path / "auth").chmod(0o644)

    done = sonalyze(server, "load", f"--auth-file={tmp_path / 'auth'}")

    assert done.returncode == 0
    assert b"can be read by others" in done.stderr


@pytest.mark.parametrize("content", [b"justtext\n", b"a:b:c", b"a b", b"", b"\xff:x"])
def test_bad_auth_file_is_told_without_its_content(server: Server, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "auth"
    path.write_bytes(content)

    done = sonalyze(server, "load", f"--auth-file={path}")

    assert (done.returncode, done.stderr.decode()) == (1, f"ERROR: Invalid auth file syntax: '{path}'\n")
    assert server.requests == []


def test_missing_auth_file_is_told_and_without_a_server_it_is_not_opened(server: Server) -> None:
    done = sonalyze(server, "load", "--auth-file=/nonexistent")
    assert (done.returncode, done.stderr) == (1, b"ERROR: No such file or directory: '/nonexistent'\n")

    done = sonalyze(None, "load", "--auth-file=/nonexistent", "--", "/dev/null")
    assert (done.returncode, done.stderr) == (0, b"")


def test_refusal_is_an_error_with_its_reason_on_one_line(server: Server) -> None:
    server.status, server.body = 403, "Not \x1b[31myours\nå".encode()

    done = sonalyze(server, "load")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == "ERROR: 403 Forbidden: Not [31myours å\n"


def test_redirect_is_followed_but_not_for_ever(server: Server) -> None:
    with serving() as other:
        server.status, server.headers = 302, {"location": f"{other.url}/there"}
        assert sonalyze(server, "load", SONALYZE_AUTH="a:b").stdout == b"10\n"
        assert other.requests == [("/there", None)]  # the password is not for others

    server.headers = {"location": f"{server.url}/round"}
    done = sonalyze(server, "load")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"redirect" in done.stderr


def test_server_that_is_not_there_is_told_with_its_address() -> None:
    with serving() as gone:
        pass

    done = sonalyze(gone, "load")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"ERROR: {gone.url}/api: Connection refused\n"


@pytest.mark.parametrize(
    "url", ["fox", "ftp://fox", "http://", "http://h:x", "http://h/?a=b", "http://h/#a", "http://[::1"]
)
def test_what_is_no_address_is_told(url: str) -> None:
    done = sonalyze(None, "load", f"--remote={url}", "--cluster=c")

    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"ERROR: --remote: not an address: {url!r}")


def test_password_in_the_address_is_refused_and_not_repeated() -> None:
    done = sonalyze(None, "load", "--remote=http://ann:s3cret@h", "--cluster=c")

    assert done.returncode == 1
    assert b"--auth-file" in done.stderr
    assert b"s3cret" not in done.stderr


def test_wrong_option_is_told_before_the_server_is_asked(server: Server) -> None:
    assert sonalyze(server, "uptime").returncode == 2
    assert sonalyze(server, "load", "--daily", "--hourly").returncode == 2
    assert server.requests == []


def test_verbose_tells_the_request_without_the_password(server: Server) -> None:
    done = sonalyze(server, "load", "-v", SONALYZE_AUTH="ann:s3cret")

    assert done.stderr.decode() == f"Request: {server.url}/api/load?cluster=fox\n"
    assert "verbose" not in server.requests[0][0]


def test_proxy_of_the_environment_is_used(server: Server) -> None:
    done = sonalyze(None, "load", "--remote=http://far.example", "--cluster=c", http_proxy=server.url)

    assert (done.returncode, done.stdout) == (0, b"10\n")
    assert server.requests[0][0] == "http://far.example/load?cluster=c"


def test_certificate_must_be_signed_by_somebody_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    with serving(context) as server:
        trusted = sonalyze(server, "load", f"--ca-file={tmp_path / 'ca.pem'}", SONALYZE_AUTH="a:b")
        unknown = sonalyze(server, "load", SONALYZE_AUTH="a:b")

    assert (trusted.returncode, trusted.stdout, trusted.stderr) == (0, b"10\n", b"")
    assert (unknown.returncode, unknown.stdout) == (1, b"")
    assert b"certificate" in unknown.stderr
    assert len(server.requests) == 1


def test_certificate_must_be_for_the_server(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)

    with serving(context) as server:
        done = sonalyze(server, "load", f"--ca-file={tmp_path / 'ca.pem'}")

    assert done.returncode == 1
    assert b"127.0.0.1" in done.stderr
    assert server.requests == []


def test_newer_interface_is_asked_where_the_address_says_so(server: Server) -> None:
    server.body = b'"10\\nbl\\u00e5\\n"'

    done = sonalyze(
        None, "jobs", "-u", "ann", "-u", "bob", "--host=a[1,2]", "--host=b", "-b", "-q", "user = ann",
        f"--remote={server.url}/api/v0/", "--cluster=fox",
    )  # fmt: skip

    assert (done.returncode, done.stdout.decode()) == (0, "10\nblå\n")
    assert server.requests[0][0] == (
        "/api/v0/jobs?cluster=fox&host=a%5B1%2C2%5D%3Bb&user=ann%2Cbob&batch=true&q=user%20%3D%20ann"
    )
    server.body = b"no text"
    done = sonalyze(None, "jobs", f"--remote={server.url}/api/v0", "--cluster=fox")
    assert done.returncode == 1
    assert b"the answer is no JSON string" in done.stderr


def test_newer_interface_is_asked_where_the_older_is_not_known(server: Server) -> None:
    server.status = 404

    done = sonalyze(server, "jobs", "-u-")

    assert done.returncode == 1
    assert done.stderr == b"ERROR: 404 Not Found: 10\n"
    assert [target for target, _ in server.requests] == [
        "/api/jobs?cluster=fox&user=-",
        "/api/api/v0/jobs?cluster=fox&user=-",
    ]


def test_password_is_that_of_the_server_in_a_netrc_file(server: Server, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine other login x password y\nmachine 127.0.0.1\n  login ann password s3:cret\n")
    netrc.chmod(0o600)
    expected = "Basic " + b64encode(b"ann:s3:cret").decode()

    assert sonalyze(server, "jobs", HOME=str(tmp_path)).returncode == 0
    assert sonalyze(server, "jobs", f"--auth-file={netrc}").returncode == 0
    assert [sent for _, sent in server.requests] == [expected] * 2
    netrc.chmod(0o644)
    done = sonalyze(server, "jobs", HOME=str(tmp_path))
    assert done.stderr.decode() == f"ERROR: '{netrc}' can be read by others: chmod 600 it, or use --auth-file\n"
    netrc.write_text("machine other login x password y machine more login x password z\n")
    assert sonalyze(server, "jobs", HOME=str(tmp_path)).returncode == 0
    assert server.requests[-1][1] is None
    done = sonalyze(server, "jobs", f"--auth-file={netrc}")
    assert done.stderr.decode() == f"ERROR: '{netrc}': nothing for machine 127.0.0.1\n"
    netrc.write_text("machine other login x password y machine bad logon\n")
    done = sonalyze(server, "jobs", f"--auth-file={netrc}")
    assert re.match(rf"ERROR: '{netrc}', line \d+: .*'logon'\n\Z", done.stderr.decode())

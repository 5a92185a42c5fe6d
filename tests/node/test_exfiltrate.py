"""exfiltrate as it is run: a process of its own, a real HTTPS server, and trouble of every kind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonar.node.spool import Spool

from tests.node.scripted_server import RESET, Certificates, Reply, ScriptedServer, scripted_server
from tests.secret_watch import MARK

ROOT = Path(__file__).resolve().parents[2]
EXFILTRATE = [sys.executable, str(ROOT / "libexec/exfiltrate")]
PASSWORD = f"s3cret-of-the-fox-{MARK}"


@dataclass
class Site:
    """A server, a spool, and how exfiltrate is run between them."""

    server: ScriptedServer
    certificates: Certificates
    directory: Path

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    def command(self, *arguments: str, url: str = "") -> list[str]:
        auth_file = self.directory / "auth"
        if not auth_file.exists():
            auth_file.write_text(f"fox.example:{PASSWORD}\n")
            auth_file.chmod(0o600)
        where = [f"--url={url or self.server.url}", "--cluster=Fox.Example", f"--ca-cert={self.certificates.ca}"]
        return [*EXFILTRATE, *where, f"--spool={self.spool}", f"--auth-file={auth_file}", *arguments]

    def run(self, *arguments: str, stdin: bytes = b"", url: str = "") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self.command(*arguments, url=url),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
            env=environment(),
        )

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(*arguments), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(**variables)
        )

    def waiting(self) -> list[bytes]:
        return [entry.path.read_bytes() for entry in Spool(self.spool).entries()]

    def bad(self) -> list[str]:
        return sorted(path.read_text() for path in (self.spool / "bad").iterdir())


def environment(**variables: str) -> dict[str, str]:
    """Return our environment without proxies and service managers."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "INVOCATION_ID", "CREDENTIALS_DIRECTORY"):
        kept.pop(name, None)
    return kept | variables


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def site(certificates: Certificates, tmp_path: Path) -> Iterator[Site]:
    with scripted_server(certificates.server_context("127.0.0.1")) as server:
        yield Site(server, certificates, tmp_path)


def put(spool: Spool, numbers: Sequence[int]) -> None:
    for number in numbers:
        spool.put("sample", f"number={number}\n".encode(), "text/csv")


def numbers(bodies: list[bytes]) -> set[int]:
    return {int(line.partition(b"=")[2]) for body in bodies for line in body.splitlines()}


def wait_for_requests(server: ScriptedServer, count: int) -> None:
    for _ in range(count):
        assert server.arrived.acquire(timeout=60), "no request"


# ---- standard input ------------------------------------------------------------------------------------------------


def test_standard_input_is_delivered(site: Site) -> None:
    done = site.run("--stdin", "--once", stdin=b"v=1,host=n1\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (request,) = site.server.requests
    assert (request.path, request.body) == ("/sonar-freecsv?cluster=fox.example", b"v=1,host=n1\n")
    assert request.headers["Content-Type"] == "text/csv"
    assert request.headers["Authorization"].startswith("Basic ")
    assert site.waiting() == []


def test_envelopes_go_to_the_endpoint_of_their_kind(site: Site) -> None:
    done = site.run("--stdin", "--once", "--format=json", "--kind=sysinfo", stdin=b'{"meta":{}}\n')

    assert done.returncode == 0
    assert [(request.path, request.body) for request in site.server.requests] == [
        ("/api/v1/insert/sysinfo", b'{"meta":{}}\n')
    ]


@pytest.mark.parametrize("nothing", [b"", b" \n\n"])
def test_nothing_is_not_sent(site: Site, nothing: bytes) -> None:
    assert site.run("--stdin", "--once", stdin=nothing).returncode == 0
    assert site.server.requests == []


def test_long_input_is_cut_between_lines(site: Site) -> None:
    lines = b"".join(b"number=%d,%s\n" % (number, b"x" * 1000) for number in range(9000))

    assert site.run("--stdin", "--once", stdin=lines).returncode == 0

    bodies = site.server.accepted()
    assert len(bodies) == 3
    assert b"".join(bodies) == lines
    assert all(body.endswith(b"\n") for body in bodies)


def test_what_could_not_be_delivered_goes_with_the_next_run(site: Site) -> None:
    site.server.always = Reply(503)
    first = site.run("--stdin", "--once", "--patience=0", stdin=b"number=1\n")
    site.server.always = Reply()
    second = site.run("--stdin", "--once", stdin=b"number=2\n")

    assert (first.returncode, second.returncode) == (1, 0)
    assert b"cannot deliver (status 503)" in first.stderr
    assert site.server.accepted() == [b"number=1\n", b"number=2\n"]


def test_refusal_is_told_by_the_exit_status(site: Site) -> None:
    site.server.script.append(Reply(400, b"all records are bad\n"))

    done = site.run("--stdin", "--once", stdin=b"number=1\n")

    assert done.returncode == 1
    assert b"status 400: all records are bad" in done.stderr
    assert site.bad() == ["number=1\n", "status 400: all records are bad\n"]


def test_input_is_kept_when_nothing_else_is_right(site: Site) -> None:
    done = site.run("--stdin", "--once", "--auth-file=/none", stdin=b"number=1\n")

    assert done.returncode == 1
    assert done.stderr == b"exfiltrate: cannot read identity file '/none': No such file or directory\n"
    assert site.waiting() == [b"number=1\n"]


# ---- trouble -------------------------------------------------------------------------------------------------------


def test_every_record_arrives_through_all_kinds_of_trouble(site: Site) -> None:
    put(Spool(site.spool), range(8))
    ok = Reply()
    site.server.script.extend(
        [ok, Reply(500), ok, RESET, ok, Reply(400, b"bad"), Reply(503, headers={"Retry-After": "1"}), ok]
    )

    with site.start() as process:
        wait_for_requests(site.server, 11)
        process.terminate()
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert numbers(site.server.accepted()) == {0, 1, 2, 4, 5, 6, 7}
    assert site.bad() == ["number=3\n", "status 400: bad\n"]
    assert site.waiting() == []
    assert b"Traceback" not in errors


def test_kill_in_the_middle_loses_nothing(site: Site) -> None:
    put(Spool(site.spool), range(20))
    hold = threading.Event()
    site.server.script.extend([Reply()] * 7 + [Reply(hold=hold)])

    with site.start() as process:
        wait_for_requests(site.server, 8)
        process.kill()
        process.communicate(timeout=60)
    hold.set()
    # The eighth was answered to nobody: it stays, and is sent twice.
    assert numbers(site.waiting()) == set(range(7, 20))
    assert site.run("--once").returncode == 0

    assert numbers(site.server.accepted()) == set(range(20))
    assert len(site.server.accepted()) == 21
    assert site.waiting() == []


def test_request_in_flight_is_finished_before_the_end(site: Site) -> None:
    put(Spool(site.spool), range(3))
    hold = threading.Event()
    site.server.script.extend([Reply(), Reply(hold=hold)])

    with site.start() as process:
        wait_for_requests(site.server, 2)
        process.send_signal(signal.SIGINT)
        hold.set()
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert numbers(site.server.accepted()) == {0, 1}
    assert numbers(site.waiting()) == {2}


def test_what_arrives_while_it_runs_is_delivered(site: Site) -> None:
    spool = Spool(site.spool)
    with site.start() as process:
        for number in range(3):
            put(spool, [number])
            wait_for_requests(site.server, 1)
        process.terminate()
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert site.server.accepted() == [b"number=0\n", b"number=1\n", b"number=2\n"]


def test_server_that_is_not_trusted_gets_nothing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Certificates(tmp_path / "other").ca

    done = site.run("--stdin", "--once", "--patience=0", f"--ca-cert={other}", stdin=b"number=1\n")

    assert done.returncode == 1
    assert b"certificate verify failed" in done.stderr
    assert site.server.requests == []
    assert site.waiting() == [b"number=1\n"]


def test_nobody_there_is_trouble(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}"
        done = site.run("--stdin", "--once", "--patience=0", stdin=b"number=1\n", url=url)

    assert done.returncode == 1
    assert b"Connection refused" in done.stderr
    assert site.waiting() == [b"number=1\n"]


def test_two_do_not_deliver_from_one_spool(site: Site) -> None:
    hold = threading.Event()
    site.server.script.append(Reply(hold=hold))
    put(Spool(site.spool), [0])

    with site.start("--once") as process:
        wait_for_requests(site.server, 1)
        second = site.run("--stdin", "--once", stdin=b"number=1\n")
        hold.set()
        process.communicate(timeout=60)

    assert second.returncode == 1
    assert b"another exfiltrate delivers from" in second.stderr
    assert process.returncode == 0
    assert site.server.accepted() == [b"number=0\n", b"number=1\n"]


# ---- the service ---------------------------------------------------------------------------------------------------


def test_credential_of_the_service_is_used(site: Site) -> None:
    credentials = site.directory / "credentials"
    credentials.mkdir()
    (credentials / "upload-auth").write_text("fox.example:from the manager")
    command = [argument for argument in site.command("--once") if not argument.startswith("--auth-file")]
    put(Spool(site.spool), [1])

    variables = environment(CREDENTIALS_DIRECTORY=str(credentials))
    subprocess.run(command, check=True, timeout=60, env=variables)

    assert site.server.requests[0].headers["Authorization"] == "Basic Zm94LmV4YW1wbGU6ZnJvbSB0aGUgbWFuYWdlcg=="


def test_systemd_is_told_how_things_stand(site: Site) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(site.directory / "notify"))
        listener.settimeout(60)
        put(Spool(site.spool), [1])
        site.server.script.append(Reply(503, b"full"))
        told: list[bytes] = []
        with site.start(NOTIFY_SOCKET=str(site.directory / "notify"), WATCHDOG_USEC="60000000") as process:
            while not told or b"1 delivered" not in told[-1]:
                told.append(listener.recv(4096))
            process.terminate()
            process.communicate(timeout=60)
        while not told[-1].startswith(b"STOPPING=1"):
            told.append(listener.recv(4096))

    assert told[0].startswith(b"READY=1")
    assert b"WATCHDOG=1" in told
    assert b"STATUS=0 delivered, 0 refused, 0 dropped, 1 waiting, failing: status 503: full" in told
    assert b"STATUS=1 delivered, 0 refused, 0 dropped, 0 waiting" in told


def test_password_is_never_shown(site: Site) -> None:
    site.server.script.extend([Reply(401), RESET])

    done = site.run("--verbose", "--stdin", "--once", "--patience=0", stdin=b"number=1\n")
    again = site.run("--verbose", "--once", "--patience=0")

    encoded = site.server.requests[0].headers["Authorization"].partition(" ")[2].encode()
    output = done.stdout + done.stderr + again.stdout + again.stderr
    assert b"status 401" in output
    assert PASSWORD.encode() not in output
    assert encoded not in output


def test_password_in_clear_is_warned_of(site: Site) -> None:
    command = site.command("--once", url="http://monitor.example:8086")
    arguments = [argument for argument in command if not argument.startswith("--ca-cert")]

    done = subprocess.run(arguments, capture_output=True, check=False, timeout=60, env=environment())

    assert done.returncode == 0
    assert b"the password goes over the network in clear" in done.stderr


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--cluster=../x"], b"bad cluster name '../x'"),
        (["--url=ftp://x"], b"--url must be http(s)://HOST[:PORT][/PATH], not 'ftp://x'"),
        (["--url=https://a:b@x"], b"--url must not hold"),
        (["--key=x"], b"--key needs --cert"),
        (["--kind=job"], b"--kind job needs --format json"),
        (["--kind=../x"], b"--kind"),
        (["--window=-1"], b"want seconds, zero or more, not '-1'"),
        (["--window=nan"], b"'nan'"),
        (["--patience=inf"], b"'inf'"),
        (["--quota=0"], b"want a size such as 64M, not '0'"),
        (["--quota=5X"], b"'5X'"),
        (["--spo=x"], b"unrecognized"),
        (["file"], b"unrecognized"),
    ],
)
def test_wrong_command_line_is_a_usage_error(site: Site, arguments: list[str], part: bytes) -> None:
    done = site.run(*arguments)

    assert done.returncode == 2
    assert part in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["--url", "--cluster", "--spool"])
def test_what_is_required_is_named(site: Site, missing: str) -> None:
    command = [argument for argument in site.command("--once") if not argument.startswith(f"{missing}=")]

    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment())

    assert done.returncode == 2
    assert f"required: {missing}" in done.stderr.decode()


def test_size_of_the_quota_is_kept_in_the_spool(site: Site) -> None:
    assert site.run("--once", "--quota=2K").returncode == 0
    assert Spool(site.spool).quota_bytes == 2048


def test_spool_that_cannot_be_used_is_an_error_of_one_line(site: Site) -> None:
    site.spool.write_text("")

    done = site.run("--once")

    assert done.returncode == 1
    assert done.stderr.decode() == f"exfiltrate: cannot use spool '{site.spool}': Not a directory ({site.spool}/tmp)\n"


def test_help_imports_no_http() -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{EXFILTRATE[1]!r}, '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*{'urllib3', 'ssl', 'http', 'email', 'sonar.node.upload'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert "--auth-file FILE" in done.stdout
    assert done.stderr == "\n"

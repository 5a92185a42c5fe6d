"""infiltrate under a service manager: start, readiness, watchdog, reload, drain, sockets that it is given."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.ingest.conftest import CLUSTER, PASSWORD, PROGRAM, Infiltrate, Starter, basic

LINE = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim,cmd=lmp,job=998,cpu%=99.8\n"
FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"
POST = (
    f"POST /sonar-freecsv?cluster={CLUSTER} HTTP/1.1\r\nHost: x\r\n"
    f"Authorization: {basic(CLUSTER, PASSWORD)}\r\nContent-Length: {len(LINE)}\r\n\r\n"
).encode()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )


def rest_of(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def test_help_costs_little_and_imports_little() -> None:
    script = (
        "import sys, runpy, resource\n"
        "program, sys.argv = sys.argv[1], ['infiltrate', '--help']\n"
        "try: runpy.run_path(program, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('asyncio', 'uvicorn', 'cryptography', 'ssl', 'orjson') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(PROGRAM)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("[]\n")


def test_nothing_that_analyses_is_imported_to_serve() -> None:
    script = (
        "import sys, sonar.ingest.app, sonar.ingest.daemon, sonar.serve.server, sonar.serve.connection\n"
        "from sonar.ingest.endpoints import find_endpoint\n"
        "assert find_endpoint('/insert/sample')\n"
        "print([m for m in ('pyarrow', 'numpy', 'jinja2', 'starlette', 'typer') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_refusals_to_start(tmp_path: Path, password_file: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    good = ["--data", str(data), "--password-file", str(password_file), "--listen", "127.0.0.1:0"]
    shared = tmp_path / "shared"
    shared.write_text("a:b\n")
    shared.chmod(0o640)
    bad_aliases = tmp_path / "aliases"
    bad_aliases.write_text('[{"alias": "x"}]')
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with closing(taken):
        for arguments, status, text in [
            ([], 2, "--data"),
            (["--data", str(data), "--listen", "127.0.0.1:0"], 2, "who may upload?"),
            ([*good[:4]], 2, "nothing to listen on"),
            ([*good, "--allow-anonymous"], 2, "exclude each other"),
            ([*good, "--listen", "127.0.0.1:x"], 2, "bad address '127.0.0.1:x'"),
            (
                [*good, "--listen", f"127.0.0.1:{port}"],
                1,
                f"cannot listen on '127.0.0.1:{port}': Address already in use",
            ),
            ([*good, "--listen-tls", "127.0.0.1:0"], 2, "needs a certificate"),
            ([*good, "--tls-cert", "x"], 2, "--tls-cert and --tls-key go together"),
            ([*good, "--tls-cert", "x", "--tls-key", "y"], 1, "cannot read 'x': No such file"),
            ([*good, "--aliases", str(bad_aliases)], 1, f"{bad_aliases}: [0]: want an object"),
            ([*good, "--max-body", "lots"], 2, "bad size 'lots'"),
            (["--data", "/nowhere", *good[2:]], 1, "cannot use data directory '/nowhere'"),
            (
                ["--data", str(data), "--password-file", str(shared), *good[4:]],
                1,
                "open to group or others (mode 0640)",
            ),
        ]:
            done = run(*arguments)
            assert (done.returncode, done.stdout) == (status, ""), arguments
            assert text in done.stderr
            assert "Traceback" not in done.stderr
            assert done.stderr.strip().splitlines()[-1].startswith("infiltrate: ")


def test_second_writer_of_a_data_root_is_refused(infiltrate: Infiltrate, password_file: Path) -> None:
    done = run("--data", str(infiltrate.data), "--password-file", str(password_file), "--listen", "127.0.0.1:0")

    assert done.returncode == 1
    assert "in use by another process" in done.stderr


def test_passwords_from_credentials_may_be_readable_by_the_group(tmp_path: Path) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "ingest-passwords").write_text(f"{CLUSTER}:{PASSWORD}\n")
    (directory / "ingest-passwords").chmod(0o440)
    server = Infiltrate(tmp_path, "--listen", "127.0.0.1:0", environment={"CREDENTIALS_DIRECTORY": str(directory)})

    assert server.post_csv(LINE).status == 200

    assert server.stop() == 0


def test_reload_takes_new_users_and_keeps_the_old_when_the_file_is_bad(
    infiltrate: Infiltrate, password_file: Path
) -> None:
    password_file.write_text("no colon here\n")
    infiltrate.process.send_signal(signal.SIGHUP)
    infiltrate.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    failed = infiltrate.wait_for("READY=1")
    assert f"STATUS=reload failed: {password_file}:1: want USER:PASSWORD" in failed
    assert infiltrate.post_csv(LINE).status == 200

    password_file.write_text("saga.example.org:new\n")
    infiltrate.process.send_signal(signal.SIGHUP)
    infiltrate.wait_for("READY=1")
    assert infiltrate.post_csv(LINE).status == 401
    assert infiltrate.post_csv(LINE, "saga.example.org", user="saga.example.org", password="new").status == 200
    assert "no colon" not in infiltrate.log.read_text()


def test_without_users_it_runs_and_refuses_all(infiltrate: Infiltrate, password_file: Path) -> None:
    password_file.write_text("# the last cluster is gone\n")
    infiltrate.process.send_signal(signal.SIGHUP)
    said = infiltrate.wait_for("READY=1")

    assert "nobody is let in: the password file has no users" in said
    assert infiltrate.post_csv(LINE).status == 401
    assert "has no users: nobody is let in with a password" in infiltrate.log.read_text()
    password_file.write_text(f"{CLUSTER}:{PASSWORD}\n")
    infiltrate.process.send_signal(signal.SIGHUP)
    assert "nobody" not in infiltrate.wait_for("READY=1")
    assert infiltrate.post_csv(LINE).status == 200


def test_a_run_that_was_cut_off_is_told_by_the_next(start: Starter, tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": str(tmp_path)}
    for end, told in ((Infiltrate.kill, 0), (Infiltrate.stop, 1), (Infiltrate.stop, 1)):
        server = start(environment=environment)
        end(server)
        assert server.log.read_text().count("the process before this one was killed, or crashed") == told


def test_watchdog_is_fed(start: Starter) -> None:
    server = start(environment={"WATCHDOG_USEC": "200000"})

    server.wait_for("WATCHDOG=1")
    server.wait_for("WATCHDOG=1")


def test_status_counts(start: Starter) -> None:
    server = start()
    assert server.post_csv(LINE + LINE + b"bad\n").status == 200
    assert server.post_csv(LINE, user=None).status == 401

    server.wait_for("STATUS=2 records stored, 1 dropped, 1 requests refused")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_finishes_what_has_arrived(infiltrate: Infiltrate, number: signal.Signals) -> None:
    with (
        closing(socket.create_connection(("127.0.0.1", infiltrate.port), timeout=60)) as busy,
        closing(socket.create_connection(("127.0.0.1", infiltrate.port), timeout=60)) as fresh,
    ):
        busy.sendall(POST + LINE[:10])
        assert infiltrate.request("GET", "/ping", user=None).status == 200  # so both connections are accepted
        infiltrate.process.send_signal(number)
        infiltrate.wait_for("STOPPING=1")
        fresh.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = rest_of(fresh)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 60" in answer
        assert answer.endswith(b"draining")
        busy.sendall(LINE[10:])
        answer = rest_of(busy)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
    assert infiltrate.process.wait(60) == 0
    assert infiltrate.stored() == {FILE: LINE}


def test_socket_of_the_service_manager_is_used_and_outlives_a_restart(tmp_path: Path, password_file: Path) -> None:
    """The way of systemd: descriptor 3 listens, LISTEN_PID is the process itself."""
    listening = socket.create_server(("127.0.0.1", 0))
    data = tmp_path / "data"
    data.mkdir()
    ports = tmp_path / "ports"
    script = (
        "import os, sys\n"
        f"os.dup2({listening.fileno()}, 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='ingest')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", script, str(PROGRAM), "--data", str(data), "--password-file", str(password_file)]

    def launch() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, "--port-file", str(ports)], pass_fds=[listening.fileno()])

    with closing(listening):
        for _ in range(2):
            with closing(socket.create_connection(listening.getsockname(), timeout=60)) as client:
                client.sendall(POST + LINE)  # nobody serves yet: it waits in the queue
                server = launch()
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert ports.read_text() == f"ingest 127.0.0.1 {listening.getsockname()[1]}\n"
            server.terminate()
            assert server.wait(60) == 0
    assert (data / FILE).read_bytes() == LINE * 2

"""The watch over secrets sees what is planted, wherever it is, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MARK = "0therMark1234"  # not that of the run which this test is a part of
CONFTEST = f"""
from tests.secret_watch import SecretWatch

WATCH = SecretWatch("{MARK}")

def pytest_configure(config):
    config.pluginmanager.register(WATCH, "secret-watch")
"""
HEAD = f"""
import base64, gzip, http.client, http.server, os, signal, subprocess, sys, threading, time, urllib3
SECRET = "xy" + "{MARK}" + "z"
NAP = "import time; time.sleep(60)"

def run_until_seen(command, environment=None):
    watch = sys.modules["conftest"].WATCH
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not watch.hits and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
"""
PLANTED = {
    "arguments of a process": ("run_until_seen([sys.executable, '-c', NAP, SECRET])", "cmdline of a process"),
    "arguments of its child": (
        "run_until_seen(['sh', '-c', '\"$@\"; :', 'sh', sys.executable, '-c', NAP, SECRET])",
        "cmdline of a process",
    ),
    "environment": ("run_until_seen([sys.executable, '-c', NAP], {'TOKEN': SECRET})", "environ of a process"),
    "output": ("print('password', SECRET)", "Captured stdout call"),
    "output of a program": (
        "subprocess.run(['cat'], input=SECRET, text=True, capture_output=True)",
        "output of cat",
    ),
    "log": ("(tmp_path / 'log').write_text(SECRET)", "file "),
    "header in a log": (
        "(tmp_path / 'log').write_bytes(base64.b64encode(b'ada:' + SECRET.encode()))",
        "file ",
    ),
    "answer": ("fetch(SECRET)", "answer of a server"),
    "answer that is compressed": ("fetch(SECRET, compressed=True)", "answer of a server"),
    "header of an answer": ("fetch('ok', header=SECRET)", "headers"),
}
FETCH = """
def fetch(text, header="", compressed=False):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("X-Header", header)
            self.send_header("Content-Encoding", "gzip" if compressed else "identity")
            self.end_headers()
            self.wfile.write(gzip.compress(text.encode()) if compressed else text.encode())
        def log_message(self, *_):
            pass
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request).start()
        if compressed:
            with urllib3.PoolManager() as pool:
                pool.request("GET", f"http://127.0.0.1:{server.server_port}/", timeout=60)
            return
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("GET", "/")
        connection.getresponse().read()
        connection.close()
"""


def run(directory: Path, statement: str) -> "subprocess.CompletedProcess[str]":
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_planted.py").write_text(f"{HEAD}{FETCH}\ndef test(tmp_path):\n    {statement}\n")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        directory,
        directory,
    ]
    command += ["--basetemp", directory / "scratch"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("place", PLANTED)
def test_planted_secret_fails_the_run(tmp_path: Path, place: str) -> None:
    statement, seen_in = PLANTED[place]
    done = run(tmp_path, statement)

    assert "1 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert f"SECRET SEEN in {seen_in}" in done.stdout


def test_secrets_in_their_places_are_no_trouble(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "[(path.touch(0o600), path.write_text(SECRET)) for path in (tmp_path / 'passwords', tmp_path / 'key')];"
        "fetch('ok'); (tmp_path / 'log').write_text('all is well');"
        "subprocess.run(['cat'], input=SECRET, text=True, stdout=subprocess.DEVNULL)",
    )

    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "SECRET SEEN" not in done.stdout

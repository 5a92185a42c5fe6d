"""Who a sender is, as the running server sees it: aliases, several clusters, wrong passwords, proxies."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sonar.serve.passwords import Hash

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, PASSWORD, PROGRAM, Infiltrate, Starter, basic

LINE = b"v=0.7.0,time=2024-02-05T10:15:01+01:00,host=ml9,user=ada,cmd=python\n"


def test_aliases_of_descriptions_count_for_uploads(start: Starter, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    (clusters / f"{CLUSTER}.conf").write_text("[Cluster]\nAliases=ml mlx\n")
    config = tmp_path / "sonar.conf"
    config.write_text(f"[Paths]\nClusters={clusters}\n")
    server = start(environment={"SONAR_CONFIG": str(config)})
    assert server.post_csv(LINE, "mlx").status == 200
    assert server.post_csv(LINE, "other").status == 403


def test_identity_with_clusters_may_write_these_and_no_others(start: Starter, password_file: Path) -> None:
    password_file.write_text(f"relay:{Hash.of('word')}:clusters=fox.example.org,saga.example.org\n")
    server = start()
    for cluster, status in (("fox.example.org", 200), ("saga.example.org", 200), (CLUSTER, 403)):
        assert server.post_csv(LINE, cluster, user="relay", password="word").status == status


def test_who_guesses_is_told_to_wait_and_others_are_not(infiltrate: Infiltrate) -> None:
    statuses = [infiltrate.post_csv(LINE, password=f"guess {n}").status for n in range(12)]
    assert statuses[:10] == [401] * 10
    assert 503 in statuses[10:]
    refused = infiltrate.post_csv(LINE)
    assert (refused.status, refused.body) == (503, b"too many wrong passwords, try again later")
    assert "retry-after" in refused.headers
    assert infiltrate.post_csv(LINE, "fox.example.org", user=FOX, password=FOX_PASSWORD).status == 200


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_file_that_others_can_read_is_refused(infiltrate: Infiltrate, password_file: Path, mode: int) -> None:
    """A start is refused; a running server keeps the users it has."""
    password_file.chmod(mode)
    infiltrate.process.send_signal(signal.SIGHUP)
    infiltrate.wait_for("reload failed")
    assert infiltrate.post_csv(LINE).status == 200

    done = subprocess.run(
        [sys.executable, PROGRAM, "--data", password_file.parent, "--password-file", password_file],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert PASSWORD not in done.stderr


def test_file_without_users_lets_nobody_in(start: Starter, password_file: Path) -> None:
    users = password_file.read_text()
    password_file.write_text("# nobody\n")
    server = start()
    assert server.post_csv(LINE).status == 401

    for text, status in ((users, 200), ("", 401)):
        password_file.write_text(text)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("READY=1")
        assert server.post_csv(LINE).status == status


def test_proxy_at_a_socket_in_the_file_system_tells_the_address(tmp_path: Path, password_file: Path) -> None:
    path = tmp_path / "socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    data = tmp_path / "data"
    data.mkdir()
    script = (
        "import os, sys\n"
        f"os.dup2({listening.fileno()}, 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='ingest-local')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", script, str(PROGRAM), "--data", str(data), "--password-file", str(password_file)]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        server = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=stderr)
    with listening, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        head = f"Authorization: {basic(CLUSTER, 'wrong')}\r\nX-Real-IP: 192.0.2.7\r\nContent-Length: {len(LINE)}\r\n"
        request = f"POST /sonar-freecsv?cluster={CLUSTER} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + LINE
        client.sendall(request)
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        server.terminate()
        assert server.wait(60) == 0
    assert "from 192.0.2.7 refused with 401" in log.read_text()

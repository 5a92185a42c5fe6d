"""exfiltrate and infiltrate together: a certificate in place of a password, and no password where it could be seen."""

import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from sonar.serve import certificates
from sonar.serve.passwords import Hash

from tests.ingest.conftest import CLUSTER, PROGRAM, Infiltrate, Starter, basic
from tests.waiting import until

SECRET = "tr0ub4dor-and-3"
WRONG = "wr0ng-but-secret-too"
LINE = b"v=0.7.0,time=2024-02-05T10:15:01+01:00,host=ml9,user=ada,cmd=python\n"
ENVELOPE = (
    b'{"meta":{"producer":"sonar","version":"0.18.0","token":"%s"},"data":{"type":"sample","attributes":'
    b'{"time":"2024-02-05T09:15:01Z","cluster":"%s","node":"ml9","jobs":[]}}}\n'
)


@pytest.fixture
def server(start: Starter, password_file: Path) -> Infiltrate:
    password_file.write_text(f"{CLUSTER}:{Hash.of(SECRET)}\nplain:{SECRET}-plain\n")
    return start("-v")


def seen_of(pid: int) -> bytes:
    """Return what anybody, or root, can see of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


def test_no_password_is_in_processes_journal_answers_metrics_and_log(server: Infiltrate, tmp_path: Path) -> None:
    auth = tmp_path / "auth"
    auth.touch(mode=0o600)
    auth.write_text(f"{CLUSTER}:{SECRET}\n")
    address = f"http://127.0.0.1:{server.port}"
    with subprocess.Popen(
        [sys.executable, PROGRAM.with_name("exfiltrate"), "--url", address, "--cluster", CLUSTER, "--auth-file", auth,
         "--spool", tmp_path / "spool", "--stdin", "--verbose"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as sender:  # fmt: skip
        assert sender.stdin is not None
        sender.stdin.write(LINE)
        sender.stdin.close()
        until(lambda: any("ml9.csv" in name for name in server.stored()))
        processes = seen_of(sender.pid) + seen_of(server.process.pid)
        sender.terminate()
        assert sender.stdout is not None
        told = sender.stdout.read()

    answers = b""
    for user, password, cluster in (
        (CLUSTER, WRONG, CLUSTER), (CLUSTER, SECRET, "other"), ("plain", f"{SECRET}-plain", CLUSTER), (WRONG, "x", "y"),
    ):  # fmt: skip
        answer = server.post_csv(LINE, cluster, user=user, password=password)
        answers += answer.body + repr(answer.headers).encode()
    server.post("/api/v1/insert/sample", ENVELOPE % (SECRET.encode(), CLUSTER.encode()), password=SECRET)
    server.post("/api/v1/insert/sample", b'{"token":"%s"' % SECRET.encode(), password=SECRET)
    server.request("GET", f"/nowhere?password={WRONG}", headers={"Authorization": basic("x", WRONG)})
    metrics = server.request("GET", "/metrics", user=CLUSTER, password=SECRET).body
    assert b"sonar" in metrics
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/sonar-freecsv", b"", {"Authorization": f"Bearer {WRONG}"})
    answers += connection.getresponse().read()
    connection.close()
    assert server.stop() == 0
    log = server.log.read_bytes()
    assert b"refused with 401" in log

    everywhere = {"processes": processes, "sender": told, "answers": answers, "metrics": metrics, "journal": log}
    everywhere |= dict(server.stored().items())
    for place, content in everywhere.items():
        for secret in (SECRET.encode(), WRONG.encode(), basic(CLUSTER, SECRET).split()[1].encode()):
            assert secret not in content, f"{secret!r} in {place}"


@pytest.mark.parametrize("by_credentials", [False, True])
def test_sender_with_a_certificate_needs_no_password(start: Starter, tmp_path: Path, *, by_credentials: bool) -> None:
    tls = tmp_path / "tls"
    certificates.make_authority(tls, "Test")
    certificates.make_server_certificate(tls, "server", ["localhost"])
    certificates.make_client_certificate(tls, "node", [CLUSTER])
    server = start(
        "--listen-tls", "127.0.0.1:0", "--tls-cert", str(tls / "server.crt"), "--tls-key", str(tls / "server.key"),
        "--tls-client-ca", str(tls / "clients.pem"),
    )  # fmt: skip
    sender: list[str | Path] = [
        sys.executable,
        PROGRAM.with_name("exfiltrate"),
        "--url",
        f"https://localhost:{server.port}",
    ]
    sender += ["--cluster", CLUSTER, "--ca-cert", tls / "ca.crt"]
    sender += ["--spool", tmp_path / "spool", "--once", "--stdin", "--patience", "5"]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if by_credentials:  # as the service manager hands them over
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        for kind, suffix in (("cert", "crt"), ("key", "key")):
            (credentials / f"upload-{kind}").write_bytes((tls / f"node.{suffix}").read_bytes())
        environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    else:
        sender += ["--cert", tls / "node.crt", "--key", tls / "node.key"]
    done = subprocess.run(sender, input=LINE, capture_output=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert server.stop() == 0
    assert server.stored()["mlx.example.org/2024/02/05/ml9.csv"] == LINE

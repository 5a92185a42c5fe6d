"""No password gets to where others can read it: process table, log, answers, metrics, ledger."""

import base64
import json
import os
import subprocess
from pathlib import Path

from tests.ingest.conftest import CLUSTER, Starter, basic
from tests.ingest.test_kprox import message
from tests.secret_watch import MARK

SECRET = f"open-4711-{MARK}"
WRONG = f"open-barley-0815-{MARK}"
TOKEN = f"token-of-the-producer-{MARK}"
LINE = b"v=1,time=2025-01-07T12:05:01+01:00,host=a,user=kim,cmd=x\n"


def test_secrets_are_nowhere_to_be_seen(start: Starter, tmp_path: Path) -> None:
    passwords = tmp_path / "secret-passwords"
    passwords.write_text(f"{CLUSTER}:{SECRET}\n")
    passwords.chmod(0o600)
    server = start("--password-file", str(passwords), "--kprox", "/kprox", "-v")
    envelope = {"meta": {"token": TOKEN}, "data": {"attributes": {"time": "2026-03-02T12:00:00Z", "node": "a"}}}
    answers = []
    for word in (SECRET, WRONG):
        answers += [server.post_csv(body, password=word) for body in (LINE, b"bad\n", b"\xff" * 9, b"")]
        answers.append(server.post_csv(LINE, "fox.example.org", password=word))
        answers.append(server.post(f"/{word}", LINE, password=word, user=word))
        answers.append(server.post("/insert/sample", json.dumps(envelope).encode(), password=word))
        answers.append(server.post("/insert/job", json.dumps(envelope | {"errors": [{}]}).encode(), password=word))
        answers.append(server.post("/kprox", message(word=word) + message(cluster="fox", word=word), user=None))
        answers.append(server.post("/kprox", message(word=word)[:-9], user=None))
        answers.append(server.post("/sysinfo", b"{}", user=None, headers={"Authorization": f"Bearer {word}"}))
    assert {answer.status for answer in answers} >= {200, 400, 401, 403, 404}
    answers += [server.request("GET", path, user=None) for path in ("/metrics", "/ready", "/ping")]
    shown = "\n".join(f"{answer.body!r} {dict(answer.headers)}" for answer in answers)
    process = Path(f"/proc/{server.process.pid}")
    shown += (process / "cmdline").read_text() + (process / "environ").read_text()
    shown += subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    server.stop()

    assert server.stored()
    shown += server.log.read_text()
    shown += "\n".join(f"{path}\n{content!r}" for path, content in server.files().items())
    assert "sonar_ingest_requests_total" in shown  # so we have looked at something
    assert "refused with 401" in shown
    assert os.environ["PATH"] in shown
    for secret in (SECRET, WRONG, TOKEN):
        for form in (secret, base64.b64encode(secret.encode()).decode(), basic(CLUSTER, secret)):
            # The path that a client asks for is its own to choose; it is not told to anybody.
            assert form not in shown


def test_metrics_name_nobody(start: Starter) -> None:
    server = start()
    assert server.post_csv(LINE + b"bad\n").status == 200
    assert server.post_csv(LINE, password="x").status == 401
    answer = server.request("GET", "/metrics", user=None)

    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    assert 'sonar_ingest_requests_total{endpoint="sonar-freecsv",status="200"} 1.0' in lines
    assert 'sonar_ingest_requests_total{endpoint="sonar-freecsv",status="401"} 1.0' in lines
    assert 'sonar_ingest_records_stored_total{endpoint="sonar-freecsv"} 1.0' in lines
    assert 'sonar_ingest_records_dropped_total{endpoint="sonar-freecsv"} 1.0' in lines
    assert "sonar_ingest_upload_seconds_count 1.0" in lines
    assert "sonar_ingest_ready 1.0" in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    for word in (CLUSTER, "kim", "c1-6", "127.0.0.1"):
        assert word not in answer.body.decode()

"""What infiltrate writes into the arrival ledger: beside the data, whatever becomes of the process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sonar.names import ClusterName
from sonar.store.ledger import read_arrivals, read_server_events, read_strangers, server_intervals
from sonar.times import iso_text

from tests.ingest.conftest import CLUSTER, Infiltrate, Starter

LINE = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim,cmd=lmp,job=998,cpu%=99.8\n"
SAMPLED = 1736247901


def test_accepted_posts(infiltrate: Infiltrate) -> None:
    later = LINE.replace(b"12:05:01", b"12:10:01")
    other = later.replace(b"c1-6", b"c1-7")
    attributes = {"time": "2026-03-02T12:00:00Z", "slurm_jobs": []}
    envelope = json.dumps({"meta": {}, "data": {"type": "job", "attributes": attributes}}).encode()

    before = int(time.time())
    assert infiltrate.post_csv(LINE).status == 200
    assert infiltrate.post_csv(LINE + b"bad\n" + later).status == 200
    assert infiltrate.post_csv(b"bad\n" + LINE + other).status == 200
    assert infiltrate.post("/insert/jobs", envelope).status == 200
    assert infiltrate.post_csv(b"").status == 200  # nothing arrived
    infiltrate.stop()

    found = infiltrate.ledger()
    assert [(a.host, a.endpoint, a.status, a.records, a.bytes, a.span, a.dropped) for a in found] == [
        ("c1-6", "sonar-freecsv", 200, 1, len(LINE), 0, 0),
        ("c1-6", "sonar-freecsv", 200, 2, 2 * len(LINE), 300, 1),
        ("", "sonar-freecsv", 200, 0, 0, 0, 1),
        ("c1-6", "sonar-freecsv", 200, 1, len(LINE), 0, 0),
        ("c1-7", "sonar-freecsv", 200, 1, len(LINE), 0, 0),
        ("", "insert/job", 200, 1, len(envelope) + 1, 0, 0),
    ]
    assert [a.newest for a in found[:2]] == [SAMPLED, SAMPLED + 300]
    assert all(before <= a.at <= time.time() for a in found)
    assert found[1].why == found[2].why == "Missing timestamp or host in Sonar sample data"


def test_refused_posts_are_counted_together(infiltrate: Infiltrate) -> None:
    assert infiltrate.post_csv(LINE).status == 200
    assert infiltrate.post_csv(LINE, password="wrong").status == 401
    assert infiltrate.post_csv(LINE, user="stranger", password="x").status == 401  # of no cluster that we know
    for _ in range(3):
        assert infiltrate.post_csv(b"bad\n" * 7).status == 400
    assert infiltrate.post_csv(LINE, "fox.example.org").status == 403
    assert infiltrate.request("GET", "/sonar-freecsv").status == 405
    infiltrate.stop()

    found = {(a.endpoint, a.status, a.why, a.posts, a.dropped, a.remote) for a in infiltrate.ledger()[1:]}
    assert found == {
        ("sonar-freecsv", 401, "Unauthorized", 1, 0, "127.0.0.1"),
        ("sonar-freecsv", 400, "Missing timestamp or host in Sonar sample data", 3, 21, "127.0.0.1"),
        ("sonar-freecsv", 403, "Upload not authorized", 1, 0, "127.0.0.1"),
    }


def test_refusals_of_clusters_without_data_are_kept_apart(start: Starter, password_file: Path) -> None:
    """They make no cluster known, and how much a stranger can have written down is bounded."""
    server = start("--password-file", str(password_file), "--known-clusters")
    assert server.post_csv(LINE).status == 403
    assert server.post_csv(LINE).status == 403
    for number in range(300):
        assert (
            server.post_csv(LINE, user=f"stranger-{number}", password="x", source=f"127.0.1.{number % 250 + 1}").status
            == 401
        )
    server.stop()

    now = int(time.time())
    found = list(read_strangers(server.data, now - 600, now + 600))
    assert len(found) == 256
    (mine,) = read_arrivals(server.data, ClusterName(CLUSTER), now - 600, now + 600)
    assert (mine.status, mine.why, mine.posts) == (403, f"unknown cluster '{CLUSTER}'", 2)
    assert [one.why for one in found[1:]] == ["Unauthorized"] * 255
    assert [path.name for path in server.data.iterdir() if not path.name.startswith(".")] == []

    shown = gaps("--data", server.data, "--json")
    assert '"host": "", ' in shown
    assert "refused with 401: Unauthorized" in shown
    assert "refused with 403" in gaps("--data", server.data, "--json", "--cluster", CLUSTER)
    # Asked within the second of the first of them, it tells of it.
    assert "refused with 403" in gaps("--data", server.data, "--json", now=iso_text(mine.at))


def gaps(*arguments: object, now: str = "") -> str:
    program = Path(__file__).resolve().parents[2] / "libexec" / "gaps"
    command = [sys.executable, str(program), *map(str, arguments)]
    environment = os.environ | ({"SONAR_NOW": now} if now else {})
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_ledger_of_a_killed_server_has_what_it_answered(start: Starter, tmp_path: Path) -> None:
    server = start()
    assert server.post_csv(LINE).status == 200
    server.kill()
    server = start()
    server.stop()

    assert [a.records for a in server.ledger()] == [1]
    now = int(time.time())
    events = list(read_server_events(server.data, now - 600, now + 600))
    assert [event.event for event in events] == ["up", "up", "down"]
    assert events[1].since == events[0].at
    assert server_intervals(server.data, now - 600, now + 10)[-1].start == events[-1].at

"""A file system without room, and one that may not be written: 503 until it is over, and then on by itself."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sonar.store.ledger import server_intervals

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, Infiltrate, Starter
from tests.waiting import until

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"
FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"


def body_of(number: int) -> bytes:
    """Return a sample of the job of that number, 20 KB."""
    head = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim"
    return head + b",cmd=x,job=%d,pid=%d,pad=%s\n" % (number, number, b"x" * 20_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 16 MiB."""
    place = tmp_path / "disk" / "data"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more goes in."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def ping(server: Infiltrate) -> int:
    return server.request("GET", "/ping", user=None).status


def ready(server: Infiltrate) -> bool:
    answer = server.request("GET", "/ready", user=None)
    said = json.loads(answer.body)
    assert said["ready"] == (answer.status == 200) == (said["why"] is None)
    return bool(said["ready"])


def jobs_seen(server: Infiltrate) -> int:
    """Return how many jobs sonalyze finds in the log."""
    question = ("jobs", "-u-", "--min-samples=1", "--from=2025-01-07", "--to=2025-01-07", "--fmt=csv,job")
    command = [sys.executable, str(SONALYZE), *question, "--data-path", str(server.data / CLUSTER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return len(done.stdout.split())


def test_full_disk_is_answered_with_503_until_there_is_room(start: Starter, small_disk: Path) -> None:
    server = start("--disk-reserve", "0", scratch=small_disk.parent)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(14 << 20))

    answered, number = [], 1
    while (answer := server.post_csv(body_of(number))).status == 200:
        answered.append(number)
        number += 1
        assert number < 1000
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert answer.body == b"cannot store: No space left on device"
    assert len(answered) > 3
    fill(small_disk / "to the brim")
    until(lambda: not ready(server))
    assert ping(server) == 200
    assert b"No space left on device" in server.request("GET", "/ready", user=None).body
    assert server.post_csv(body_of(number)).status == 503
    assert b"sonar_ingest_ready 0.0" in server.request("GET", "/metrics", user=None).body
    seen = jobs_seen(server)  # what is not there yet waits in the spool, since it needs room twice
    assert 0 < seen <= len(answered)

    full = int(time.time())
    until(lambda: time.time() >= full + 1)  # the ledger counts in seconds
    ballast.unlink()
    until(lambda: ready(server))
    assert server.post_csv(body_of(number)).status == 200
    answered.append(number)

    assert server.stop() == 0
    assert server.stored() == {
        FILE: b"".join(body_of(n) for n in answered),
        "to the brim": server.stored()["to the brim"],
    }
    assert jobs_seen(server) == len(answered)
    refused = [one for one in server.ledger() if one.status == 503]
    assert {one.why for one in refused} == {"cannot store: No space left on device"}
    assert {one.host for one in refused} == {"c1-6"}
    now = int(time.time())
    states = [one.why for one in server_intervals(server.data, now - 600, now + 1) if one.state == "refusing"]
    assert states == ["spool: No space left on device"]


def test_starts_on_a_full_disk_and_goes_on_when_there_is_room(start: Starter, small_disk: Path) -> None:
    server = start("--disk-reserve", "0", scratch=small_disk.parent)
    assert server.post_csv(body_of(1)).status == 200
    server.kill()
    ballast = small_disk / "ballast"
    fill(ballast)

    server = start("--disk-reserve", "0", scratch=small_disk.parent)
    assert server.post_csv(body_of(2)).status == 503
    until(lambda: not ready(server))
    assert ping(server) == 200
    ballast.unlink()
    until(lambda: ready(server))
    assert server.post_csv(body_of(3)).status == 200

    assert server.stop() == 0
    assert server.stored() == {FILE: body_of(1) + body_of(3)}


def test_reserve_is_kept_for_what_is_there_already(start: Starter, small_disk: Path) -> None:
    server = start("--disk-reserve", "8M", scratch=small_disk.parent)
    assert server.post_csv(body_of(1)).status == 200
    until((server.data / FILE).exists)

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(9 << 20))
    until(lambda: not ready(server))
    answer = server.post_csv(body_of(2))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (
        503,
        b"the disk is down to its reserve",
        "60",
    )
    assert jobs_seen(server) == 1
    said = json.loads(server.request("GET", "/ready", user=None).body)
    assert said["disk_free_bytes"] < said["disk_reserve_bytes"] == 8 << 20

    ballast.unlink()
    until(lambda: ready(server))
    assert server.post_csv(body_of(3)).status == 200
    assert server.stop() == 0
    assert server.stored() == {FILE: body_of(1) + body_of(3)}


def test_data_root_that_cannot_be_written_at_all(infiltrate: Infiltrate) -> None:
    def largest_file(size: str) -> None:
        subprocess.run(["prlimit", f"--pid={infiltrate.process.pid}", f"--fsize={size}:unlimited"], check=True)

    assert infiltrate.post_csv(body_of(1)).status == 200
    largest_file("0")
    answer = infiltrate.post_csv(body_of(2))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"cannot store: File too large", "60")
    assert not ready(infiltrate)
    assert ping(infiltrate) == 200
    largest_file("unlimited")
    until(lambda: ready(infiltrate))
    assert infiltrate.post_csv(body_of(3)).status == 200

    assert infiltrate.stop() == 0
    assert infiltrate.stored() == {FILE: body_of(1) + body_of(3)}


def test_what_cannot_be_distributed_waits_in_the_spool(infiltrate: Infiltrate) -> None:
    (infiltrate.data / "fox.example.org").write_text("a file where a directory must be")
    fox = {"user": FOX, "password": FOX_PASSWORD}

    assert infiltrate.post_csv(body_of(1), "fox.example.org", **fox).status == 200
    until(lambda: not ready(infiltrate))
    assert infiltrate.post_csv(body_of(2)).status == 200  # on disk, in the spool
    (infiltrate.data / "fox.example.org").unlink()
    until(lambda: ready(infiltrate))

    assert infiltrate.stop() == 0
    assert infiltrate.stored() == {FILE: body_of(2), "fox.example.org/2025/01/07/c1-6.csv": body_of(1)}

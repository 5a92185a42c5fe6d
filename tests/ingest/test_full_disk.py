"""A file system without room, and one that may not be written: 503 until it is over, and then on by itself."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ingest.conftest import CLUSTER, Infiltrate, Starter

FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"


def body_of(number: int) -> bytes:
    return b"v=1,time=2025-01-07T12:05:01+01:00,host=c1-6,n=%d,pad=%s\n" % (number, b"x" * 20_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 2 MiB."""
    place = tmp_path / "disk" / "data"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more goes in."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ping(server: Infiltrate) -> int:
    return server.request("GET", "/ping", user=None).status


def test_full_disk_is_answered_with_503_until_there_is_room(start: Starter, small_disk: Path) -> None:
    server = start(scratch=small_disk.parent)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))

    answered, number = [], 0
    while (answer := server.post_csv(body_of(number))).status == 200:
        answered.append(number)
        number += 1
        assert number < 1000
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert answer.body == b"cannot store: No space left on device"
    assert len(answered) > 3
    until(lambda: ping(server) == 503)
    assert b"No space left on device" in server.request("GET", "/ping", user=None).body

    ballast.unlink()
    until(lambda: ping(server) == 200)
    assert server.post_csv(body_of(number)).status == 200
    answered.append(number)

    assert server.stop() == 0
    assert server.stored() == {FILE: b"".join(body_of(n) for n in answered)}


def test_starts_on_a_full_disk_and_goes_on_when_there_is_room(start: Starter, small_disk: Path) -> None:
    server = start(scratch=small_disk.parent)
    assert server.post_csv(body_of(1)).status == 200
    server.kill()
    ballast = small_disk / "ballast"
    fill(ballast)

    server = start(scratch=small_disk.parent)
    assert server.post_csv(body_of(2)).status == 503
    assert ping(server) == 503
    ballast.unlink()
    until(lambda: ping(server) == 200)
    assert server.post_csv(body_of(3)).status == 200

    assert server.stop() == 0
    assert server.stored() == {FILE: body_of(1) + body_of(3)}


def test_what_cannot_be_distributed_waits_in_the_spool(infiltrate: Infiltrate) -> None:
    (infiltrate.data / "fox.example.org").write_text("a file where a directory must be")
    fox = {"user": "fox.example.org", "password": "fence"}

    assert infiltrate.post_csv(body_of(1), "fox.example.org", **fox).status == 200
    until(lambda: ping(infiltrate) == 503)
    assert infiltrate.post_csv(body_of(2)).status == 200  # on disk, in the spool
    (infiltrate.data / "fox.example.org").unlink()
    until(lambda: ping(infiltrate) == 200)

    assert infiltrate.stop() == 0
    assert infiltrate.stored() == {FILE: body_of(2), "fox.example.org/2025/01/07/c1-6.csv": body_of(1)}

"""kill -9 in the middle of uploads: what was answered is there, once, and nothing is torn."""

import http.client
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.conftest import CLUSTER, PASSWORD, Infiltrate, Starter, basic
from tests.waiting import reserved_port, until

SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"
POSTS = 200
LINES_PER_POST = 20


def body_of(number: int) -> bytes:
    head = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=h%d" % (number % 5)
    return b"".join(head + b",user=kim,job=%d,pid=%d,cmd=x\n" % (number, line) for line in range(LINES_PER_POST))


class Client(threading.Thread):
    """Posts its numbers, again and again until each is answered with 200; says how many answers it has."""

    def __init__(self, numbers: range, port: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.port = port
        self.answered: list[int] = []
        self.attempts: Counter[int] = Counter()

    def run(self) -> None:
        headers = {"Authorization": basic(CLUSTER, PASSWORD), "Content-Type": "text/csv"}
        for number in self.numbers:
            while number not in self.answered:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.attempts[number] += 1
                try:
                    connection.request("POST", f"/sonar-freecsv?cluster={CLUSTER}", body_of(number), headers)
                    response = connection.getresponse()
                    response.read()
                    if response.status == 200:
                        self.answered.append(number)
                except ConnectionRefusedError:
                    self.attempts[number] -= 1
                    time.sleep(0.01)
                except (OSError, http.client.HTTPException):
                    pass
                finally:
                    connection.close()


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as number:
        yield number


def jobs_read(tree: Path) -> Counter[int]:
    """Return how often each job number is there when sonalyze reads the log."""
    question = ("jobs", "-u-", "--min-samples=1", "--from=2025-01-07", "--to=2025-01-07", "--fmt=csv,job")
    done = subprocess.run(
        [sys.executable, SONALYZE, *question, "--data-path", tree],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return Counter(map(int, done.stdout.split()))


def test_killed_again_and_again_it_loses_nothing_that_it_answered(start: Starter, port: int) -> None:
    listen = ("--listen", f"127.0.0.1:{port}")
    server: Infiltrate = start(*listen)
    clients = [Client(range(first, POSTS, 4), port) for first in range(4)]
    for client in clients:
        client.start()

    kills = 0
    for share in (0.1, 0.25, 0.4, 0.6, 0.8):
        until(lambda share=share: sum(len(client.answered) for client in clients) >= share * POSTS)  # type: ignore[misc]
        server.kill()
        kills += 1
        server = start(*listen)
    for client in clients:
        client.join()
    server.stop()

    files = server.stored()
    assert set(files) == {f"{CLUSTER}/2025/01/07/h{host}.csv" for host in range(5)}
    found: Counter[bytes] = Counter()
    for content in files.values():
        assert content.endswith(b"\n")
        found.update(content.splitlines(keepends=True))
    expected = [line for number in range(POSTS) for line in body_of(number).splitlines(keepends=True)]
    assert set(found) == set(expected)  # each number is there, whole, and nothing else is
    attempts = sum((client.attempts for client in clients), Counter[int]())
    once = {line for n in range(POSTS) if attempts[n] == 1 for line in body_of(n).splitlines(keepends=True)}
    assert {found[line] for line in once} == {1}  # what was sent once is there once
    for number in range(POSTS):
        assert all(found[line] <= attempts[number] for line in body_of(number).splitlines(keepends=True))
    assert kills == 5
    # Number 0 is that of no job: its processes are rows of their own.
    assert jobs_read(server.data / CLUSTER) == Counter({0: LINES_PER_POST} | dict.fromkeys(range(1, POSTS), 1))


def test_drained_again_and_again_it_stores_each_post_exactly_once(start: Starter, port: int) -> None:
    listen = ("--listen", f"127.0.0.1:{port}")
    server = start(*listen)
    clients = [Client(range(first, POSTS, 4), port) for first in range(4)]
    for client in clients:
        client.start()

    for share in (0.2, 0.5, 0.8):
        until(lambda share=share: sum(len(client.answered) for client in clients) >= share * POSTS)  # type: ignore[misc]
        assert server.stop() == 0
        server = start(*listen)
    for client in clients:
        client.join()
    server.stop()

    found = Counter(line for content in server.stored().values() for line in content.splitlines(keepends=True))
    expected = {line for number in range(POSTS) for line in body_of(number).splitlines(keepends=True)}
    attempts = sum((client.attempts for client in clients), Counter[int]())
    assert set(found) == expected
    assert all(
        found[line] == 1 for n in range(POSTS) if attempts[n] == 1 for line in body_of(n).splitlines(keepends=True)
    )


def test_parallel_posts_for_one_host_leave_whole_lines(infiltrate: Infiltrate) -> None:
    lines = [b"v=1,time=2025-01-07T12:05:01Z,host=one,n=%d,pad=%s\n" % (n, b"x" * 3000) for n in range(200)]
    statuses: list[int] = []

    together = threading.Barrier(len(lines))

    def send(line: bytes) -> None:
        together.wait()
        statuses.append(infiltrate.post_csv(line).status)

    threads = [threading.Thread(target=send, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 200
    infiltrate.stop()
    stored = infiltrate.stored()[f"{CLUSTER}/2025/01/07/one.csv"]
    assert sorted(stored.splitlines(keepends=True)) == sorted(lines)


def test_spool_of_a_killed_process_is_distributed_by_the_next(start: Starter, tmp_path: Path) -> None:
    server = start()
    assert server.post_csv(body_of(1)).status == 200
    server.kill()

    server = start()
    assert server.stop() == 0

    assert server.stored() == {f"{CLUSTER}/2025/01/07/h1.csv": body_of(1)}
    assert [path.name for path in (tmp_path / "data" / ".spool").iterdir()] == ["checkpoint"]

"""Kill infiltrate at random moments under load, again and again, and count what became of numbered records.

`torture.py ROUNDS [SEED]` prints what was wrong, and last a summary as JSON. A process that has imported everything
forks each server, so that a round takes as long as its load; all servers share one listening socket, as under systemd.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sonar.ingest import app, books, counts, daemon, health
from sonar.ingest.endpoints import find_endpoint
from sonar.ingest.options import add_options
from sonar.names import ClusterName
from sonar.serve import connection, server
from sonar.store import distribute, spool
from sonar.store.ledger import read_arrivals

__all__ = ["main"]

IMPORTED = (app, books, counts, health, connection, server, find_endpoint("/insert/sample"))
SONALYZE = Path(__file__).resolve().parents[2] / "libexec" / "sonalyze"
CLUSTER = ClusterName("torture.example.org")
DAY = "2025/01/07"
CLIENTS = 8
HOSTS = 5
ROUNDS_A_CHECK = 50
KILL_AFTER_S = 0.06  # in the mean


def csv_lines(number: int) -> list[bytes]:
    """Return the lines of the post of that number: always the same."""
    head = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=h%d,user=kim,job=%d" % (number % HOSTS, number)
    return [head + b",pid=%d,cmd=x,pad=%s\n" % (line, b"y" * (number % 200)) for line in range(1 + number % 7)]


def envelope(number: int) -> bytes:
    """Return the envelope of that number."""
    job = {"job": number, "user": "kim", "processes": [{"cmd": "x", "pid": 1, "cpu_time": number}]}
    attributes = {"time": "2025-01-07T12:05:01+01:00", "cluster": CLUSTER, "node": f"n{number}", "jobs": [job]}
    return json.dumps({"meta": {}, "data": {"type": "sample", "attributes": attributes}}).encode() + b"\n"


def is_envelope(number: int) -> bool:
    """Whether a number is sent as an envelope."""
    return number % 10 == 0


def request_of(number: int) -> bytes:
    """Return the request that posts a number."""
    if is_envelope(number):
        path, body = "/api/v1/insert/sample", envelope(number)
    else:
        path, body = f"/sonar-freecsv?cluster={CLUSTER}", b"".join(csv_lines(number))
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Load:
    """Clients that post one number after the other, each until it is answered with 200."""

    port: int
    next_number: int = 1
    answered: set[int] = field(default_factory=set)
    attempts: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    stopping: bool = False

    async def client(self) -> None:
        """Post until told to stop and the number in hand is answered."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.stopping:
            number, self.next_number = self.next_number, self.next_number + 1
            while number not in self.answered:
                try:
                    streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                    self.attempts[number] += 1
                    streams[1].write(request_of(number))
                    head = await streams[0].readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    await streams[0].readexactly(length)
                except (OSError, EOFError):
                    if streams is not None:
                        streams[1].close()
                    streams = None
                    continue
                status = int(head.split(b" ")[1])
                self.statuses[status] += 1
                if status == 200:
                    self.answered.add(number)
        if streams is not None:
            streams[1].close()


class Servers:
    """Starts one server after the other on one socket and one data directory, and ends them."""

    def __init__(self, root: Path, listening: socket.socket, chance: random.Random) -> None:
        self.data = root / "data"
        self.data.mkdir()
        self._log = root / "log"
        self._listening = listening
        self._chance = chance
        self._pid = 0

    def start(self) -> None:
        """Fork a server."""
        spool.SEGMENT_BYTES = self._chance.choice([64 << 10, 1 << 20])
        distribute.CHECKPOINT_S = self._chance.choice([0.0, 0.02, 0.3])
        distribute._GATHER_S = self._chance.choice([0.0, 0.05])
        self._pid = os.fork()
        if self._pid:
            return
        try:
            os._exit(self._serve())
        except BaseException as error:
            print("server:", repr(error), flush=True)
            os._exit(1)

    def _serve(self) -> int:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        os.dup2(self._listening.fileno(), 3)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="ingest")
        parser = argparse.ArgumentParser()
        add_options(parser)
        return daemon.run(parser.parse_args(["--data", str(self.data), "--allow-anonymous", "--disk-reserve", "0"]))

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit status."""
        os.kill(self._pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def log(self) -> str:
        """Return what all of them have logged."""
        return self._log.read_text()


def complaints_about(servers: Servers, load: Load) -> list[str]:
    """Return what is wrong in the log, of which nothing waits in the spool any more."""
    found: Counter[bytes] = Counter()
    wrong = []
    for path in sorted((servers.data / CLUSTER / DAY).glob("*.csv")) + sorted(
        (servers.data / CLUSTER).rglob("0+s*.json")
    ):
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            wrong.append(f"half a line at the end of {path}")
        found.update(content.splitlines(keepends=True))
    sent = {number: [envelope(number)] if is_envelope(number) else csv_lines(number) for number in load.attempts}
    expected = {line for lines in sent.values() for line in lines}
    wrong += [f"no line that was sent, or not whole: {line!r}" for line in found.keys() - expected]
    lost = [number for number in load.answered if any(line not in found for line in sent[number])]
    wrong += [f"answered with 200 and lost: {sorted(lost)}"] if lost else []
    for number, lines in sent.items():
        times = {found[line] for line in lines}
        if len(times) != 1 or times.pop() > load.attempts[number]:
            wrong.append(
                f"{number} was sent {load.attempts[number]} times and is there {[found[line] for line in lines]}"
            )
    counted = sum(one.records for one in read_arrivals(servers.data, CLUSTER, 0, 1 << 33))
    if counted != found.total():
        wrong.append(f"the ledger counts {counted} records, there are {found.total()}")
    if rest := [path.name for path in (servers.data / ".spool").glob("*.wal")]:
        wrong.append(f"left in the spool: {rest}")
    question = ["jobs", "-u-", "--min-samples=1", "--from=2025-01-07", "--to=2025-01-07", "--fmt=csv,job"]
    command = [sys.executable, str(SONALYZE), *question, "--data-path", str(servers.data / CLUSTER)]
    read = Counter(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))
    wrong += [f"read {times} times: job {job}" for job, times in read.items() if times > 1]
    if missing := load.answered - read.keys():
        wrong.append(f"answered with 200 and not read: {sorted(missing)[:20]}")
    return wrong


async def batch(servers: Servers, load: Load, rounds: int, chance: random.Random) -> None:
    """Kill some servers under load, then let one come to its end."""
    clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
    for _ in range(rounds):
        servers.start()
        await asyncio.sleep(min(chance.expovariate(1 / KILL_AFTER_S), 0.5))
        status = servers.end(signal.SIGKILL)
        assert status == -signal.SIGKILL, f"ended by itself with {status}: {servers.log()}"
    servers.start()
    load.stopping = True
    await asyncio.gather(*clients)
    status = servers.end(signal.SIGTERM)
    assert status == 0, f"stopped with {status}: {servers.log()}"


def main(argv: list[str]) -> int:
    """Run the rounds; return 1 if anything was wrong."""
    rounds, seed = int(argv[0]), int(argv[1]) if len(argv) > 1 else random.randrange(1 << 30)
    chance = random.Random(seed)
    done = posts = attempts = failures = 0
    statuses: Counter[int] = Counter()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        while done < rounds:
            count = min(ROUNDS_A_CHECK, rounds - done)
            with tempfile.TemporaryDirectory() as folder:
                servers = Servers(Path(folder), listening, chance)
                load = Load(listening.getsockname()[1])
                asyncio.run(batch(servers, load, count, chance))
                wrong = complaints_about(servers, load)
                if "Traceback" in (log := servers.log()):
                    wrong.append(log)
            for text in wrong:
                print(f"seed {seed}, after round {done + count}: {text[:2000]}", flush=True)
            failures += len(wrong)
            done += count
            posts += len(load.answered)
            attempts += load.attempts.total()
            statuses += load.statuses
    summary = {"rounds": done, "seed": seed, "answered": posts, "attempts": attempts, "wrong": failures}
    print(json.dumps(summary | {"statuses": statuses}))
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

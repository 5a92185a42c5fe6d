"""Clients that post numbered records from inside the machine, and the count of what was kept."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.system.conftest import MACHINE, Machine

_CLIENT = r"""
import http.client, json, ssl, sys, threading, base64
first, count, clients = map(int, sys.argv[1:])
context = ssl.create_default_context(cafile="/run/sonar-ca.crt")
login = base64.b64encode(b"node.example.org:up-secret").decode()
headers = {"Content-Type": "text/csv", "Authorization": "Basic " + login}
answered, again, lock = 0, 0, threading.Lock()
started = threading.Event()

def work(client):
    global answered, again
    connection = None
    for number in range(first + client, first + count, clients):
        line = ("v=0.12.1,time=2026-01-07T10:00:00+00:00,host=c%d,user=u,cmd=numbered,job=%d,pid=1,cputime_sec=5\n"
                % (client, number))
        for attempt in range(200):
            try:
                if connection is None:
                    connection = http.client.HTTPSConnection("localhost", 8086, timeout=60, context=context)
                connection.request("POST", "/sonar-freecsv?cluster=node.example.org", line, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    with lock:
                        answered += 1
                        if answered == 200:
                            print("going", flush=True)
                    break
                with lock:
                    again += 1
                if answer.status != 503:
                    raise SystemExit("status %d" % answer.status)
            except (OSError, http.client.HTTPException):
                connection = None
                with lock:
                    again += 1
            threading.Event().wait(0.02)

threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"answered": answered, "again": again}), flush=True)
"""


@dataclass(frozen=True)
class Sent:
    """What the clients did: `again` counts attempts that had to be made once more, as real clients make them."""

    machine: Machine
    first: int
    posts: int
    answered: int
    again: int
    seconds: float

    def stored(self) -> set[int]:
        """Return the numbers that lie in the log, less the first one; raise if one lies there broken."""
        found = set()
        for path in (self.machine.root / "var/lib/sonar-server/data/node.example.org/2026/01/07").glob("c*.csv"):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    number = int(line.split("job=")[1].split(",")[0]) - self.first
                    if 0 <= number < self.posts:
                        found.add(number)
        return found


def post_numbered(
    machine: Machine, *, clients: int, posts: int, meanwhile: Sequence[Callable[[], object]], first: int = 0
) -> Sent:
    """Post that many records while, one after the other and evenly spread, something is done to the server."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [MACHINE, "exec", machine.name, "/usr/lib/sonar-server/venv/bin/python", "-I", "-c", _CLIENT,
         str(first), str(posts), str(clients)],
        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "going\n"
        # Each of the disturbances must fall into the time of the load.
        for disturb in meanwhile:
            assert process.poll() is None, "the load ended before it was disturbed"
            disturb()
            time.sleep(0.3)
        watch = threading.Timer(240, process.kill)
        watch.start()
        last = process.stdout.read()
        process.wait(20)
        watch.cancel()
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()
    counts = json.loads(last.splitlines()[-1])
    return Sent(machine, first, posts, counts["answered"], counts["again"], time.monotonic() - begun)

"""Clients that post numbered records from inside the machine, and the count of what was kept."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.system.conftest import MACHINE, Machine

_STOP = "run/sonar-load-stop"

_CLIENT = r"""
import http.client, json, os, ssl, sys, threading, time, base64
least, clients = map(int, sys.argv[1:])
context = ssl.create_default_context(cafile="/run/sonar-ca.crt")
login = base64.b64encode(b"node.example.org:up-secret").decode()
headers = {"Content-Type": "text/csv", "Authorization": "Basic " + login}
taken, answered, again, lock = 0, 0, 0, threading.Lock()
deadline = time.monotonic() + 150

def work(client):
    global taken, answered, again
    connection = None
    while taken < least or not os.path.exists("/run/sonar-load-stop"):
        if time.monotonic() > deadline:
            raise SystemExit("too long")
        with lock:
            number, taken = taken, taken + 1
        line = ("v=0.12.1,time=2026-01-07T10:00:00+00:00,host=c%d,user=u,cmd=numbered,job=%d,pid=1,cputime_sec=5\n"
                % (client, number))
        while time.monotonic() < deadline:
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
                if answer.status != 503:
                    raise SystemExit("status %d" % answer.status)
            except (OSError, http.client.HTTPException):
                connection = None
            with lock:
                again += 1
            time.sleep(0.02)

threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"posts": taken, "answered": answered, "again": again}), flush=True)
"""


@dataclass(frozen=True)
class Sent:
    """What the clients did: `again` counts attempts that had to be made once more, as real clients make them."""

    machine: Machine
    posts: int
    answered: int
    again: int
    seconds: float

    def stored(self) -> set[int]:
        """Return the numbers that lie in the log."""
        found = set()
        for path in (self.machine.root / "var/lib/sonar-server/data/node.example.org/2026/01/07").glob("c*.csv"):
            lines = path.read_text().splitlines(keepends=True)
            found |= {int(line.split("job=")[1].split(",")[0]) for line in lines if line.endswith("\n")}
        return found


def post_numbered(machine: Machine, *, clients: int, least: int, meanwhile: Sequence[Callable[[], object]]) -> Sent:
    """Post numbered records until, one after the other, something has been done to the server, and at least so many."""
    begun = time.monotonic()
    stop = machine.root / _STOP
    stop.unlink(missing_ok=True)
    process = subprocess.Popen(
        [MACHINE, "exec", machine.name, "/usr/bin/python3", "-I", "-c", _CLIENT, str(least), str(clients)],
        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    watch = threading.Timer(200, process.kill)
    watch.start()
    try:
        assert process.stdout.readline() == "going\n"
        for disturb in meanwhile:
            assert process.poll() is None, "the load ended before it was disturbed"
            disturb()
            time.sleep(0.3)
        stop.touch()
        last = process.stdout.read()
        process.wait(20)
    finally:
        watch.cancel()
        process.kill()
        process.wait(20)
        process.stdout.close()
    counts = json.loads(last.splitlines()[-1])
    return Sent(machine, counts["posts"], counts["answered"], counts["again"], time.monotonic() - begun)

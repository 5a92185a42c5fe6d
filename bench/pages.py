"""The query server under load: people watch the overview of a large cluster while questions run.

    python bench/pages.py [--nodes 1000] [--people 50] [--questions 10] [--seconds 60]

Everything on loopback, bounded in time. Prints what `/ping` and the overview took, and how memory went: that of the
server's own process, and once a minute that of all its processes together (shared pages counted once).
"""

import argparse
import contextlib
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sonar.times import iso_text

LIBEXEC = Path(__file__).resolve().parents[1] / "libexec"
CLUSTER = "bench.example.org"
STEP_S = 300
MINUTE_S = 60


def main() -> None:
    """Make the data, run the load, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--refresh", type=float, default=20, help="seconds; the page itself takes 60")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_data(root / "data" / CLUSTER, args.nodes)
        with serving(root) as (port, pid):
            load = Load(port, pid, args).run()
        with serving(root) as (port, pid):
            again_s = Load(port, pid, args).first()
        report(load, args)
        print(f"first overview after a restart: {again_s:.3f} s")


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[int, int]]:
    """Run a server; give its port and process."""
    ports = root / "ports"
    ports.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, LIBEXEC / "sonalyzed", "--data", root / "data", "--allow-anonymous", "--cache", root / "cache",
         "--listen", "127.0.0.1:0", "--port-file", ports, "--waiting", "64"],
    )  # fmt: skip
    try:
        while not ports.exists():
            time.sleep(0.05)
        yield int(ports.read_text().split()[2]), process.pid
    finally:
        process.terminate()
        process.wait(60)


def write_data(root: Path, nodes: int) -> None:
    """Write a day of samples of four processes a node."""
    now = int(time.time())
    for node in range(nodes):
        name = f"c{node // 100}-{node % 100}.{CLUSTER}"
        days: dict[str, list[str]] = {}
        for at in range(now - 86400 + node % 60, now, STEP_S):
            text = iso_text(at)
            days.setdefault(text[:10], []).extend(
                f"v=0.12.1,time={text},host={name},cores=64,user=u{(node + p) % 40},job={node * 4 + p + 1},pid={p + 9},"
                f"cmd=work{p},cpu%={(node + p) % 800},cpukib={node * 9999},rssanonkib={node * 8888},"
                f"cputime_sec={(at - now + 90000) * (node % 16)}\n"
                for p in range(4)
            )
        for day, lines in days.items():
            path = root / day.replace("-", "/") / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))


class Load:
    """The clients: each a thread that keeps its connection."""

    def __init__(self, port: int, pid: int, args: argparse.Namespace) -> None:
        self._port = port
        self._pid = pid
        self._args = args
        self._until = 0.0
        self.took: dict[str, list[float]] = {"/ping": [], "overview": [], "question": []}
        self.failed: dict[str, int] = dict.fromkeys(self.took, 0)
        self.memory: list[int] = []
        self.together: list[int] = []
        self.first_s = 0.0

    def run(self) -> "Load":
        """Run all clients for the time."""
        self.first_s = self.first()
        self.took["overview"].clear()
        self._until = time.monotonic() + self._args.seconds
        threads = [threading.Thread(target=self._repeat, args=("/ping", "/ping", 0.1, 0.0))]
        threads += [
            threading.Thread(
                target=self._repeat,
                args=("overview", f"/c/{CLUSTER}", self._args.refresh, at * self._args.refresh / self._args.people),
            )
            for at in range(self._args.people)
        ]
        questions = (f"/jobs?cluster={CLUSTER}&user=-", f"/load?cluster={CLUSTER}&hourly=true")
        threads += [
            threading.Thread(target=self._repeat, args=("question", questions[at % 2], 0.0, 0.0), daemon=True)
            for at in range(self._args.questions)
        ]
        for thread in threads:
            thread.start()
        next_minute = time.monotonic()
        while time.monotonic() < self._until:
            self.memory.append(resident_kib(self._pid))
            if time.monotonic() >= next_minute:
                next_minute += MINUTE_S
                self.together.append(proportional_kib(self._pid))
            time.sleep(1)
        for thread in threads:
            if not thread.daemon:
                thread.join()
        return self

    def first(self) -> float:
        """Ask for the overview once; return how many seconds that took."""
        self._get("overview", f"/c/{CLUSTER}", http.client.HTTPConnection("127.0.0.1", self._port, timeout=300))
        return self.took["overview"][-1]

    def _repeat(self, name: str, path: str, pause_s: float, delay_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        time.sleep(delay_s)
        while time.monotonic() < self._until:
            self._get(name, path, connection)
            time.sleep(pause_s)
        connection.close()

    def _get(self, name: str, path: str, connection: http.client.HTTPConnection) -> None:
        started = time.monotonic()
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        response.read()
        self.took[name].append(time.monotonic() - started)
        self.failed[name] += response.status != 200


def resident_kib(pid: int) -> int:
    """Return the resident memory of the server's own process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def proportional_kib(pid: int) -> int:
    """Return the memory of a process and all its descendants, what several share divided among them."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for one in family:
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def report(load: Load, args: argparse.Namespace) -> None:
    """Print the table."""
    print(f"{args.nodes} nodes, {args.people} people, every {args.refresh:g} s, {args.questions} questions at once")
    print(f"first overview: {load.first_s:.2f} s")
    for name, took in load.took.items():
        took.sort()
        if took:
            p50, p99 = took[len(took) // 2], took[min(int(len(took) * 0.99), len(took) - 1)]
            times = f"p50 {p50 * 1000:8.1f} ms  p99 {p99 * 1000:8.1f} ms"
            print(f"{name:10} {len(took):6} answers  {times}  {load.failed[name]} failed")
    quarter = max(len(load.memory) // 4, 1)
    first, last = max(load.memory[quarter : 2 * quarter] or [0]), max(load.memory[-quarter:])
    print(f"resident memory of the server: {first} KiB in the second quarter, {last} KiB in the last")
    print("of all its processes, once a minute, MiB:", " ".join(str(kib >> 10) for kib in load.together))


if __name__ == "__main__":
    main()

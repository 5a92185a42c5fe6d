"""A synthetic cluster as a log tree: tagged CSV as sonar 0.9 wrote it, about 200 bytes a record, always the same.

    python bench/synthetic.py FOLDER HOSTS DAYS

A sample every five minutes and some seconds; 40 % of the hosts have GPUs; 300 users, few of them busy; jobs of one to
three commands whose lengths are log-normal. 31 records a sample, 9,000 a host and day.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["CLUSTER", "FIRST_DAY", "host_name", "size_of", "with_columns", "write_tree", "written_days"]

CLUSTER = "bench.example.org"
FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
SIZES = {"small": (10, 7), "medium": (100, 30), "large": (1000, 30)}

_COMMANDS = [
    f"{name}{n}" for name in ("python3.", "sim", "gmx_mpi", "R-", "lmp", "vasp_std", "orca", "java") for n in range(25)
]
_DONE = "COMPLETE"


class _Process:
    """One process while it runs: the constant part of its line, and the counters that grow."""

    __slots__ = ("cpu", "cputime", "end", "gpu", "head", "kib", "start")

    def __init__(self, head: str, start: float, end: float, cpu: float, kib: int, gpu: str) -> None:
        self.head, self.start, self.end, self.cpu, self.kib, self.gpu = head, start, end, cpu, kib, gpu
        self.cputime = 0.0


def size_of(name: str) -> tuple[int, int]:
    """Return hosts and days of a size: of a name, or of a text such as `1000x3`."""
    hosts, times, days = name.partition("x")
    return (int(hosts), int(days)) if times else SIZES[name]


def host_name(number: int) -> str:
    """Return the name of a host."""
    return f"c{number // 40 + 1}-{number % 40 + 1}.bench"


def with_columns(name: str) -> tuple[Path, int, int]:
    """Return the folder of a cluster, with log and columns, which are made if it has none; its hosts and days."""
    hosts, days = size_of(name)
    here = Path(__file__).resolve().parent
    folder = here / "data" / name / CLUSTER
    if not next(folder.rglob("0+columns.parquet"), None):
        write_tree(folder, hosts, days)
        columnize = here.parent / "libexec" / "columnize"
        subprocess.run([sys.executable, columnize, "--data", folder.parent], check=True)
    return folder, hosts, days


def write_tree(folder: Path, hosts: int, days: int) -> None:
    """Write the tree of this size into a folder, unless it is there."""
    mark = folder / _DONE
    if not mark.exists():
        for _ in written_days(folder, hosts, days):
            pass
        mark.touch()


def written_days(folder: Path, hosts: int, days: int, workers: int = 2) -> Iterator[Path]:
    """Write day by day, and yield the directory of each: whoever needs no more than columns may remove its text."""
    state = [_Host(number) for number in range(hosts)]
    with ProcessPoolExecutor(workers) as pool:
        for number in range(days):
            day = FIRST_DAY + timedelta(days=number)
            directory = folder / f"{day:%Y/%m/%d}"
            directory.mkdir(parents=True, exist_ok=True)
            state = list(pool.map(_written, state, [directory] * hosts, [day] * hosts, chunksize=max(hosts // 20, 1)))
            yield directory


class _Host:
    """A host while the days go by: what runs on it, and when it is sampled next."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        self.name, self.has_gpus = host_name(number), number % 5 < 2
        self.running: list[_Process] = []
        self.ids = 1000 + self.rng.randrange(1000)
        self.start = FIRST_DAY.timestamp()
        self.time = self.start + self.rng.randrange(300)
        self.before = self.start - 300


def _written(host: _Host, directory: Path, day: datetime) -> _Host:
    """Write a day of a host, and return what it is like then."""
    rng, end = host.rng, (day + timedelta(days=1)).timestamp()
    with (directory / f"{host.name}.csv").open("w") as file:
        while host.time < end:
            host.running = [process for process in host.running if process.end > host.time]
            while len(host.running) < 31 and (len(host.running) < 28 or rng.random() < 0.5):
                host.ids += rng.randrange(1, 40)
                host.running += _job(rng, host.ids, host.time, has_gpus=host.has_gpus)
                host.ids += 3
            moment = datetime.fromtimestamp(host.time, UTC)
            prefix = f"v=0.9.0,time={moment:%Y-%m-%dT%H:%M:%S}+00:00,host={host.name},cores=64"
            elapsed, uptime = int(host.time - host.before), int(host.time - host.start)
            file.write("".join(_lines(rng, host.running, prefix, elapsed, uptime)))
            host.before, host.time = host.time, host.time + 300 + rng.randrange(1, 12)
    return host


def _job(rng: random.Random, number: int, time: float, *, has_gpus: bool) -> list[_Process]:
    """Return the processes of a new job."""
    user = f"user{int(300 * rng.random() ** 3):03}"
    length = min(rng.lognormvariate(9.0, 1.4), 12 * 86400)
    made = []
    for place in range(rng.choice((1, 1, 2, 3))):
        command = _COMMANDS[int(len(_COMMANDS) * rng.random() ** 2)]
        gpu = ""
        if has_gpus and rng.random() < 0.5:
            cards = sorted(rng.sample(range(8), rng.choice((1, 1, 2, 4))))
            text = ",".join(map(str, cards))
            gpu = f'"gpus={text}"' if len(cards) > 1 else f"gpus={text}"
        head = f",user={user},job={number},pid={number + place},cmd={command}"
        if rng.random() < 0.3:
            head += f",ppid={number - 1}"
        cpu = rng.choice((100, 100, 200, 400, 800)) * (0.5 + rng.random() / 2)
        made.append(
            _Process(head, time, time + length * (0.5 + rng.random()), cpu, rng.randrange(1 << 15, 1 << 25), gpu)
        )
    return made


def _lines(rng: random.Random, running: list[_Process], prefix: str, elapsed: int, uptime: int) -> list[str]:
    """Return the lines of a sample; the first of them has the load of the cores, too."""
    lines, load = [], f",load={'abcdefgh' * 28}{uptime:06x}"
    random_number = rng.random
    for process in running:
        noise = random_number()
        process.cputime += process.cpu / 100 * elapsed * (0.8 + 0.2 * noise)
        kib = int(process.kib * (1 + 0.05 * noise))
        line = f"{prefix}{process.head},cpu%={process.cpu * (0.9 + 0.1 * noise):.1f},cpukib={kib}"
        line += f",rssanonkib={kib * 3 // 4}"
        if process.gpu:
            line += f",{process.gpu},gpu%={int(100 * noise)},gpumem%={int(50 + 9 * noise)},gpukib={kib >> 3}"
        if noise < 0.2:
            line += f",rolledup={int(noise * 20) + 1}" if process.head.endswith("7") else ""
        lines.append(f"{line},cputime_sec={int(process.cputime)}{load}\n")
        load = ""
    return lines


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]), *map(int, sys.argv[2:]))

"""A synthetic cluster as a log tree: tagged CSV as sonar 0.9 wrote it, about 200 bytes a record, always the same.

    python bench/synthetic.py FOLDER HOSTS DAYS [WORKERS]

A sample every five minutes and some seconds; 40 % of the hosts have GPUs; 300 users, few of them busy; jobs of one to
three commands whose lengths are log-normal. 31 records a sample, 9,000 a host and day.
"""

import random
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["FIRST_DAY", "SIZES", "host_name", "write_tree"]

FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
SIZES = {"small": (10, 7), "medium": (100, 30)}

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


def host_name(number: int) -> str:
    """Return the name of a host."""
    return f"c{number // 40 + 1}-{number % 40 + 1}.bench"


def write_tree(folder: Path, hosts: int, days: int, workers: int = 2) -> None:
    """Write the tree of this size into a folder, unless it is there."""
    mark = folder / _DONE
    if mark.exists():
        return
    for day in range(days):
        _directory(folder, FIRST_DAY + timedelta(days=day)).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_write_host, [folder] * hosts, range(hosts), [days] * hosts))
    mark.touch()


def _directory(folder: Path, day: datetime) -> Path:
    return folder / f"{day:%Y/%m/%d}"


def _write_host(folder: Path, number: int, days: int) -> None:
    rng = random.Random(number)
    host, has_gpus = host_name(number), number % 5 < 2
    start = FIRST_DAY.timestamp()
    running: list[_Process] = []
    ids = 1000 + rng.randrange(1000)
    time, before = start + rng.randrange(300), start - 300
    file, day = None, None
    while True:
        moment = datetime.fromtimestamp(time, UTC)
        if moment >= FIRST_DAY + timedelta(days=days):
            break
        if moment.date() != day:
            if file is not None:
                file.close()
            day = moment.date()
            file = (_directory(folder, moment) / f"{host}.csv").open("w")
        running = [process for process in running if process.end > time]
        while len(running) < 31 and (len(running) < 28 or rng.random() < 0.5):
            ids += rng.randrange(1, 40)
            running += _job(rng, ids, time, has_gpus=has_gpus)
            ids += 3
        file.write(
            "".join(
                _lines(
                    rng,
                    running,
                    f"v=0.9.0,time={moment:%Y-%m-%dT%H:%M:%S}+00:00,host={host},cores=64",
                    int(time - before),
                    int(time - start),
                )
            )
        )
        before, time = time, time + 300 + rng.randrange(1, 12)
    if file is not None:
        file.close()


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

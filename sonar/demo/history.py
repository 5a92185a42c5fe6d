"""A generated history: two weeks of a cluster of three nodes with GPUs, written into a log tree.

It is believable rather than random: a dozen users with habits, day and night, training runs that use their GPUs, one
that holds them and does nothing, a node that was down for some hours. The same seed and end give the same bytes.
Two nodes send tagged CSV, as samplers up to 0.16 did, the third sends JSON envelopes. All describe themselves daily.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sonar.times import DAY, HOUR, MINUTE, day_of, iso_text

__all__ = ["DAYS", "NODES", "STEP_S", "write_config", "write_history"]

DAYS = 14
STEP_S = 5 * MINUTE
_MIB = 1 << 20
_MOST_BUSY = 0.6  # of a machine's cores that jobs may want when one more begins; they use more at times


@dataclass(frozen=True, slots=True)
class _Machine:
    name: str
    cores: int
    mem_gb: int
    gpus: int
    gpumem_gb: int  # of one card
    gpu_model: str
    envelopes: bool = False
    down: tuple[float, float] | None = None  # days before the end


NODES = (
    _Machine("gpu-1.demo.example.org", 64, 512, 4, 40, "A100", down=(5.3, 4.9)),
    _Machine("gpu-2.demo.example.org", 64, 512, 4, 40, "A100"),
    _Machine("gpu-3.demo.example.org", 32, 256, 2, 24, "RTX 6000", envelopes=True),
)


@dataclass(frozen=True, slots=True)
class _Work:
    """A kind of work: the commands of a job, how many it is at a time, and what they use."""

    commands: tuple[str, ...]
    hours: float  # median length
    cores: float
    mem_gb: float
    gpus: int = 0
    gpu_pct: float = 0.0  # of a card
    gpumem_share: float = 0.0
    restless: float = 0.3  # how much the use varies


_WORK = {
    "training": _Work(("python", "pt_data_worker"), 9, 5, 38, 2, 88, 0.8, 0.15),
    "tuning": _Work(("python",), 3, 3, 20, 1, 71, 0.6, 0.25),
    "notebook": _Work(("jupyter-lab", "python"), 6, 0.3, 9, 1, 4, 0.3, 0.9),
    "idle": _Work(("python",), 60, 0.02, 12, 2, 0, 0.7, 0.1),
    "molecules": _Work(("gmx",), 14, 16, 6, 1, 62, 0.1, 0.1),
    "atoms": _Work(("lmp",), 8, 12, 10, 0, 0, 0, 0.1),
    "statistics": _Work(("R",), 2, 1.6, 24, 0, 0, 0, 0.5),
    "pipeline": _Work(("snakemake", "samtools", "bwa"), 5, 9, 30, 0, 0, 0, 0.5),
    "simulation": _Work(("julia",), 11, 8, 14, 0, 0, 0, 0.2),
    "matlab": _Work(("MATLAB",), 4, 2.5, 11, 0, 0, 0, 0.4),
    "video": _Work(("ffmpeg",), 1.5, 7, 3, 0, 0, 0, 0.2),
    "build": _Work(("make", "cc1plus"), 0.6, 11, 6, 0, 0, 0, 0.4),
}

# Who does what, how many jobs a day, and whether also at night.
_USERS = (
    ("ada", "training", 1.1, True),
    ("ben", "tuning", 3.2, False),
    ("chloe", "notebook", 1.6, False),
    ("dmitri", "molecules", 1.2, True),
    ("elif", "atoms", 1.5, True),
    ("femi", "statistics", 3.5, False),
    ("grete", "pipeline", 1.8, False),
    ("hiro", "simulation", 1.3, True),
    ("ines", "matlab", 1.4, False),
    ("jonas", "video", 2.2, False),
    ("kaja", "build", 4.5, False),
    ("liam", "idle", 0.22, False),
)


@dataclass(slots=True)
class _Process:
    command: str
    pid: int
    cores: float
    used_s: float = 0.0


@dataclass(slots=True)
class _Job:
    number: int
    user: str
    work: _Work
    start: int
    end: int
    cards: tuple[int, ...]
    processes: list[_Process] = field(default_factory=list)


def write_history(root: Path, *, now: int, seed: int = 1) -> None:
    """Write the history that ends at `now` (an instant) into the log tree of one cluster at `root`."""
    end = now // STEP_S * STEP_S
    for number, machine in enumerate(NODES):
        chance = random.Random(f"{seed} {machine.name}")
        jobs = _jobs(machine, chance, end - DAYS * DAY, end, 10_000 * (number + 1))
        files: dict[Path, list[str]] = {}
        for instant in range(end - DAYS * DAY, end + 1, STEP_S):
            if machine.down and machine.down[1] * DAY <= end - instant <= machine.down[0] * DAY:
                continue
            running = [job for job in jobs if job.start <= instant <= job.end]
            lines = list(_sample(machine, instant, running, chance))
            files.setdefault(_path(root, machine, instant), []).extend(lines)
        for path, lines in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))
        _write_descriptions(root, machine, end)


def _write_descriptions(root: Path, machine: _Machine, end: int) -> None:
    """Write what a node tells of itself once a day, a little after midnight."""
    for midnight in range((end - DAYS * DAY) // DAY * DAY, end - 5 * MINUTE, DAY):
        instant = midnight + 5 * MINUTE
        if machine.down and machine.down[1] * DAY <= end - instant <= machine.down[0] * DAY:
            continue
        card = {"manufacturer": "NVIDIA", "model": machine.gpu_model, "memory": machine.gpumem_gb * _MIB}
        attributes = {
            "time": iso_text(instant),
            "cluster": "demo.example.org",
            "node": machine.name,
            "os_name": "Linux",
            "os_release": "5.14.0",
            "architecture": "x86_64",
            "sockets": 2,
            "cores_per_socket": machine.cores // 4,
            "threads_per_core": 2,
            "cpu_model": "EPYC 7543",
            "memory": machine.mem_gb * _MIB,
            "cards": [{"index": at, "uuid": f"GPU-demo-{at}", **card} for at in range(machine.gpus)],
        }
        envelope = {
            "meta": {"producer": "sonar", "version": "0.18.0"},
            "data": {"type": "sysinfo", "attributes": attributes},
        }
        day = day_of(instant)
        path = root / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}" / f"0+sysinfo-{machine.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(envelope, separators=(",", ":")) + "\n")


def write_config(path: Path) -> None:
    """Write the description of the nodes that `--config-file` takes."""
    nodes = [
        {
            "hostname": machine.name,
            "description": f"2x{machine.cores // 4} (hyperthreaded) EPYC 7543, {machine.mem_gb} GiB, "
            f"{machine.gpus}x {machine.gpu_model} @ {machine.gpumem_gb}GiB",
            "cpu_cores": machine.cores,
            "mem_gb": machine.mem_gb,
            "gpu_cards": machine.gpus,
            "gpumem_gb": machine.gpus * machine.gpumem_gb,
        }
        for machine in NODES
    ]
    path.write_text(json.dumps(nodes, indent=1) + "\n")


def _path(root: Path, machine: _Machine, instant: int) -> Path:
    day = day_of(instant)
    name = f"0+sample-{machine.name}.json" if machine.envelopes else f"{machine.name}.csv"
    return root / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}" / name


def _jobs(machine: _Machine, chance: random.Random, start: int, end: int, first_number: int) -> list[_Job]:
    """Return the machine's jobs: each user comes by chance, more by day; cards are given to one job at a time."""
    jobs: list[_Job] = []
    free_at = [start] * machine.gpus
    for hour in range(start, end, HOUR):
        of_day = hour % DAY / HOUR
        for user, kind, per_day, at_night in _USERS:
            awake = 0.6 + 0.4 * math.sin((of_day - 9) / 24 * 2 * math.pi) if at_night else float(7 <= of_day <= 18) * 2
            if chance.random() < per_day / 24 * awake:
                work = _WORK[kind]
                begin = hour + chance.randrange(HOUR)
                length = work.hours * HOUR * math.exp(chance.gauss(0, 0.6))
                stop = int(begin + max(length, 11 * MINUTE))
                cards = tuple(card for card in range(machine.gpus) if free_at[card] <= begin)[: work.gpus]
                busy_cores = sum(job.work.cores for job in jobs if job.end > begin)
                if len(cards) < work.gpus or busy_cores + work.cores > _MOST_BUSY * machine.cores:
                    continue
                for card in cards:
                    free_at[card] = stop
                number = first_number + len(jobs) * 7 + chance.randrange(7)
                jobs.append(_Job(number, user, work, begin, stop, cards, _processes(work, number, chance)))
    return jobs


def _processes(work: _Work, number: int, chance: random.Random) -> list[_Process]:
    """Return the job's processes: the first command has most of the cores."""
    shares = [0.75, *([0.25 / max(len(work.commands) - 1, 1)] * (len(work.commands) - 1))]
    scale = chance.uniform(0.6, 1.3)
    return [
        _Process(command, number * 10 + at, work.cores * share * scale)
        for at, (command, share) in enumerate(zip(work.commands, shares, strict=True))
    ]


def _sample(machine: _Machine, instant: int, jobs: list[_Job], chance: random.Random) -> Iterator[str]:
    """Yield the lines of one run of the sampler, advancing the counters of the processes."""
    records = []
    for job in jobs:
        wave = 1 + job.work.restless * math.sin(instant / 3000 + job.number)
        grown = min(1.0, 0.3 + (instant - job.start) / (2 * HOUR))
        for at, process in enumerate(job.processes):
            busy = max(process.cores * wave * chance.uniform(0.92, 1.05), 0.0)
            elapsed = min(STEP_S, instant - job.start)
            process.used_s += busy * elapsed
            age = max(instant - job.start, 1)
            record = {
                "user": job.user,
                "cmd": process.command,
                "job": job.number,
                "pid": process.pid,
                "cpu%": round(process.used_s / age * 100, 1),
                "cpukib": int(job.work.mem_gb * grown * _MIB * (1.0 if at == 0 else 0.1)),
                "rssanonkib": int(job.work.mem_gb * grown * _MIB * (0.55 if at == 0 else 0.06)),
                "cputime_sec": int(process.used_s),
            }
            if job.cards and at == 0:
                used = job.work.gpu_pct * min(max(wave * chance.uniform(0.85, 1.1), 0), 1.1)
                record |= {
                    "gpus": job.cards,
                    "gpu%": round(min(used, 100.0) * len(job.cards), 1),
                    "gpumem%": round(job.work.gpumem_share * 100 * len(job.cards), 1),
                    "gpukib": int(job.work.gpumem_share * machine.gpumem_gb * len(job.cards) * _MIB),
                }
            records.append(record)
    if machine.envelopes:
        yield _envelope(machine, instant, records)
    else:
        yield from _lines(machine, instant, records or [{"user": "_sonar_", "cmd": "_heartbeat_"}])


def _lines(machine: _Machine, instant: int, records: "list[dict[str, object]]") -> Iterator[str]:
    """Yield tagged CSV lines: fields that are zero are left out, a list of cards is quoted."""
    for record in records:
        fields = [f"v=0.12.1,time={iso_text(instant)[:-1]}+00:00,host={machine.name}"]
        for name, value in record.items():
            if isinstance(value, tuple):
                cards = ",".join(map(str, value))
                fields.append(f'"gpus={cards}"' if "," in cards else f"gpus={cards}")
            elif value:
                fields.append(f"{name}={value}")
        yield ",".join(fields) + "\n"


def _envelope(machine: _Machine, instant: int, records: "list[dict[str, object]]") -> str:
    """Return one JSON envelope."""
    jobs: dict[tuple[object, object], list[dict[str, object]]] = {}
    for record in records:
        process: dict[str, object] = {
            "cmd": record["cmd"],
            "pid": record["pid"],
            "ppid": 1,
            "cpu_avg": record["cpu%"],
            "cpu_time": record["cputime_sec"],
            "virtual_memory": record["cpukib"],
            "resident_memory": record["rssanonkib"],
        }
        cards = record.get("gpus", ())
        if isinstance(cards, tuple) and cards:
            process["gpus"] = [
                {
                    "index": card,
                    "uuid": f"GPU-demo-{card}",
                    "gpu_util": _part(record["gpu%"], cards),
                    "gpu_memory_util": _part(record["gpumem%"], cards),
                    "gpu_memory": int(_part(record["gpukib"], cards)),
                }
                for card in cards
            ]
        jobs.setdefault((record["job"], record["user"]), []).append(process)
    attributes = {
        "time": iso_text(instant),
        "cluster": "demo.example.org",
        "node": machine.name,
        "system": {"cpus": [instant % 10**6] * machine.cores},
        # The machine has been up since long before: its job numbers are its own.
        "jobs": [
            {"job": job, "user": user, "epoch": 150_000_000, "processes": processes}
            for (job, user), processes in jobs.items()
        ],
    }
    envelope = {
        "meta": {"producer": "sonar", "version": "0.18.0"},
        "data": {"type": "sample", "attributes": attributes},
    }
    return json.dumps(envelope, separators=(",", ":")) + "\n"


def _part(total: object, cards: tuple[object, ...]) -> float:
    return round(float(str(total)) / len(cards), 1)

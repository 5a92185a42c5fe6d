"""A month of a small cluster with planted offenders and near-misses: what each report should find, and nothing else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sonar.store.ledger import ARRIVALS_NAME, Arrival, arrival_line
from sonar.times import DAY, HOUR, MINUTE, day_of, iso_text, parse_instant

STEP = 5 * MINUTE
START = parse_instant("2026-03-01T00:00:00Z") or 0
END = parse_instant("2026-03-31T00:00:00Z") or 0
CLUSTER = "month.example.org"

GPU_HOSTS = ("g-1", "g-2", "g-3")
CPU_HOSTS = ("c-1", "c-2", "c-3")
CORES = {**dict.fromkeys(GPU_HOSTS, 64), **dict.fromkeys(CPU_HOSTS, 32)}
POLICIES = (
    "cpuhog", "deadweight", "gpu-idle", "gpu-low", "cpu-low", "memory-low", "too-many-cores",
    "serial-on-many-cores", "excess-time-limit", "many-small-jobs", "whale",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """One job: what it uses over time, what Slurm reserved for it, and which policies it breaks."""

    id: int
    user: str
    host: str
    start: int
    length: int
    cores: float = 1.0
    cmd: str = "work"
    gib: float = 2.0
    cards: int = 0
    gpu: float = 0.0  # percent of a card
    busy: tuple[tuple[int, int], ...] = ()  # times after the start in which the cards are used, else they are idle
    gpumem: float = 50.0
    reserved: tuple[int, int, int] | None = None  # cores, GB, time limit in hours
    breaks: frozenset[str] = frozenset()

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(slots=True)
class Month:
    """All that happens, and who should be told of."""

    jobs: list[Job] = field(default_factory=list)

    @property
    def offenders(self) -> set[tuple[str, str, int, str]]:
        """Policy, host, job and user of each offence; users who are judged by all their jobs have job 0."""
        return {(policy, job.host, job.id, job.user) for job in self.jobs for policy in job.breaks}


def at(day: int, hour: float = 0.0) -> int:
    """Return an instant of the month, on a sampling step."""
    return START + (day - 1) * DAY + int(hour * HOUR) // STEP * STEP


# g-2 was down for ten hours; c-3 died two days before the end; g-3 missed one sample and c-2 the last one, which is
# neither down time nor silence. c-4 is described, and was never heard of.
DOWN = {
    "g-2": (at(11, 4), at(11, 14)),
    "c-3": (at(29), END),
    "g-3": (at(20, 5), at(20, 5) + STEP),
    "c-2": (END - STEP, END),
}
NEVER = "c-4"


def month() -> Month:
    """Return the month: each offence beside something that is nearly one."""
    whole = Month()
    number = iter(range(1000, 10**6))

    def add(user: str, host: str, day: int, hour: float, length: float, *breaks: str, **facts: object) -> Job:
        job = Job(
            facts.pop("id", None) or next(number),  # type: ignore[arg-type]
            user, host, at(day, hour), int(length * HOUR) // STEP * STEP, breaks=frozenset(breaks), **facts,  # type: ignore[arg-type]
        )  # fmt: skip
        whole.jobs.append(job)
        return job

    # Six people who share the machines fairly, every day, and use their cards well.
    for day in range(1, 31):
        for person, name in enumerate(("ada", "ben", "cleo", "dan", "eve", "finn")):
            host = (*GPU_HOSTS, *CPU_HOSTS)[person]
            cards = 1 if host in GPU_HOSTS else 0
            add(name, host, day, 2 + person, 14, cores=5, cards=cards, gpu=80, busy=((0, 14 * HOUR),))
    # No GPU, and more than a tenth of the cores of a node that has some.
    add("hog", "g-1", 3, 1, 3, "cpuhog", cores=8)
    add("nearhog", "g-1", 3, 5, 3, cores=5.7)
    add("shorthog", "g-1", 3, 9, 0.09, cores=20)
    add("gpuhog", "g-1", 3, 12, 3, cores=20, cards=1, gpu=70, busy=((0, 3 * HOUR),))
    add("cpunode", "c-1", 3, 1, 3, cores=8)
    # A process that is dead; and the same job number a week later, of somebody else.
    add("zed", "g-2", 5, 1, 4, "deadweight", cores=0.1, cmd="python <defunct>", id=777)
    add("yan", "g-2", 12, 1, 4, "deadweight", cores=0.1, cmd="wave <defunct>", id=777)
    add("xia", "g-2", 5, 1, 4, cores=0.1, cmd="defunct-finder")
    # Cards held and not used for two hours on end.
    add("idle", "g-3", 7, 1, 3, "gpu-idle", cores=0.5, cards=2, gpumem=70, gpu=90, busy=((0, 30 * MINUTE),))
    add("shortidle", "g-3", 7, 8, 3, cores=0.5, cards=1, gpu=90, busy=((0, 70 * MINUTE),))
    pulses = tuple((minute * MINUTE, (minute + 20) * MINUTE) for minute in range(0, 300, 60))
    add("pulse", "g-3", 7, 14, 5, cores=0.5, cards=1, gpu=90, busy=pulses)
    # Cards hardly used.
    add("low", "g-1", 9, 1, 4, "gpu-low", cores=2, cards=1, gpu=10, busy=((0, 4 * HOUR),))
    add("nearlow", "g-1", 9, 8, 4, cores=2, cards=1, gpu=20, busy=((0, 4 * HOUR),))
    # What Slurm reserved.
    add("wanda", "c-1", 14, 1, 3, "cpu-low", "too-many-cores", cores=2, gib=20, reserved=(16, 30, 12))
    add("nearwanda", "c-1", 14, 6, 3, "too-many-cores", cores=4, gib=20, reserved=(16, 30, 12))
    add("fits", "c-1", 14, 11, 3, cores=9, gib=20, reserved=(16, 30, 12))
    add("roomy", "c-2", 14, 1, 3, "memory-low", cores=4, gib=5, reserved=(4, 64, 12))
    add("nearroomy", "c-2", 14, 6, 3, cores=4, gib=20, reserved=(4, 64, 12))
    add("serial", "c-2", 15, 1, 3, "serial-on-many-cores", cores=1, gib=5, reserved=(4, 10, 12))
    add("nearserial", "c-2", 15, 6, 3, cores=1, gib=5, reserved=(2, 10, 12))
    add("patient", "c-2", 16, 1, 3, "excess-time-limit", cores=4, gib=5, reserved=(4, 10, 168))
    add("nearpatient", "c-2", 16, 6, 3, cores=4, gib=5, reserved=(4, 10, 20))
    # Its node was down for most of its time: so little is known of it that it is not judged.
    add("gappy", "g-2", 11, 3.5, 11, cores=2, gib=20, reserved=(16, 30, 24))
    # Two hundred and twenty jobs of one sample or two within a day; a hundred and fifty; and as many that are longer.
    for count in range(220):
        add("ants", "c-1", 18, count * 0.1, 0.09, cores=0.5)
    for count in range(150):
        add("bees", "c-2", 18, count * 0.15, 0.09, cores=0.5)
    for count in range(220):
        add("cows", "c-3", 18, count * 0.05, 0.25, cores=0.1)
    for count in range(220):  # whom the policy leaves out
        add("root", "c-1", 19, count * 0.1, 0.09, cores=0.5)
    # The sampler sees itself.
    add("root", "c-1", 26, 0, 24, cores=0.01, cmd="sonard")
    # More than half of all CPU time of a day; and not quite as much.
    add("moby", "c-2", 21, 0, 24, cores=30)
    add("dolphin", "c-2", 24, 0, 24, cores=12)
    return whole


def offenders_by_user() -> set[tuple[str, str]]:
    """Return policy and user of those who are judged by all their jobs."""
    return {("many-small-jobs", "ants"), ("whale", "moby")}


def write_month(root: Path, whole: Month, *, late: tuple[str, int] | None = None) -> dict[Path, str]:
    """Write the log tree, but for a host's file of a day that is `late`: that is returned."""
    files: dict[Path, list[str]] = {}
    by_host: dict[str, list[Job]] = {}
    for job in whole.jobs:
        by_host.setdefault(job.host, []).append(job)
    for host in CORES:
        jobs = sorted(by_host.get(host, ()), key=lambda job: (job.start, job.id))
        for instant in range(START, END, STEP):
            down = DOWN.get(host)
            if down and down[0] <= instant < down[1]:
                continue
            path = _day(root, instant) / f"{host}.csv"
            running = [job for job in jobs if job.start <= instant <= job.end]
            files.setdefault(path, []).extend(_lines(host, instant, running))
    for job in whole.jobs:
        if job.reserved:
            files.setdefault(_day(root, job.end) / "slurm-sacct.csv", []).append(_sacct(job))
    held_back = {}
    for path, lines in files.items():
        if late is not None and path == _day(root, at(late[1])) / f"{late[0]}.csv":
            held_back[path] = "".join(lines)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    return held_back


def write_description(directory: Path) -> None:
    """Write the cluster's description."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{CLUSTER}.conf").write_text(
        "[Cluster]\nTitle=Month\nPolicies=" + " ".join(POLICIES) + "\n"
        "[Node]\nHosts=g-[1-3]\nDescription=GPU node\nCores=64\nMemory=512G\nGPUs=4\nGPUMemory=160G\n"
        "[Node]\nHosts=c-[1-4]\nDescription=CPU node\nCores=32\nMemory=128G\n"
        "[Group]\nName=gpu\nNodes=g-*\n"
        "[Recipients]\nNotices=ops@example.org\nWeekly=ops@example.org\nMonthly=boss@example.org\n"
        "Letters=%u@example.org\n"
    )


def write_ledger(root: Path) -> None:
    """Write what arrived on the 26th: two hosts well, one of them with a record dropped; and who was refused."""
    arrivals = [
        Arrival(at(26, 1) + 3, CLUSTER, "c-1", "free-csv", 200, records=9, bytes=900, late=3),
        Arrival(at(26, 2) + 90, CLUSTER, "c-1", "free-csv", 200, records=9, bytes=900, late=90),
        Arrival(at(26, 2), CLUSTER, "g-1", "free-csv", 200, records=8, bytes=800, late=2, dropped=1, why="no time"),
        Arrival(at(26, 3), CLUSTER, "", "free-csv", 400, why="not CSV"),
    ]
    path = _day(root, at(26)) / ARRIVALS_NAME
    path.write_bytes(b"".join(map(arrival_line, arrivals)))


def write_node_config(path: Path) -> None:
    """Write the description of the nodes alone, for naicreport."""
    nodes = [
        {
            "hostname": "g-[1-3]",
            "description": "GPU node",
            "cpu_cores": 64,
            "mem_gb": 512,
            "gpu_cards": 4,
            "gpumem_gb": 160,
        },
        {"hostname": "c-[1-4]", "description": "CPU node", "cpu_cores": 32, "mem_gb": 128},
    ]
    path.write_text(json.dumps(nodes))


def _day(root: Path, instant: int) -> Path:
    day = day_of(instant)
    return root / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}"


def _lines(host: str, instant: int, jobs: list[Job]) -> Iterator[str]:
    head = f"v=0.12.1,time={iso_text(instant)[:-1]}+00:00,host={host}"
    if not jobs:
        yield f"{head},user=_sonar_,cmd=_heartbeat_\n"
    for job in jobs:
        age = instant - job.start
        fields = [
            head, f"user={job.user}", f"cmd={job.cmd}", f"job={job.id}", f"pid={job.id * 10 + job.start % 7}",
            f"cpu%={job.cores * 100:g}", f"cpukib={int(job.gib * (1 << 20))}",
            f"rssanonkib={int(job.gib * (1 << 20))}", f"cputime_sec={int(job.cores * age)}",
        ]  # fmt: skip
        if job.cards:
            is_busy = any(start <= age <= end for start, end in job.busy)
            cards = ",".join(map(str, range(job.cards)))
            fields += [f'"gpus={cards}"' if job.cards > 1 else f"gpus={cards}"]
            fields += [f"gpu%={job.gpu * job.cards if is_busy else 0:g}", f"gpumem%={job.gpumem * job.cards:g}"]
            fields += [f"gpukib={int(job.gpumem / 100 * 40 * job.cards * (1 << 20))}"]
        yield ",".join(fields) + "\n"


def _sacct(job: Job) -> str:
    cores, memory, limit = job.reserved or (0, 0, 0)
    return (
        f"v=0.1.0,JobID={job.id},JobIDRaw={job.id},User={job.user},Account=proj-{job.user},Partition=normal,"
        f"State=COMPLETED,Start={iso_text(job.start)},End={iso_text(job.end)},Submit={iso_text(job.start - HOUR)},"
        f"ElapsedRaw={job.length},TimelimitRaw={limit * 60},ReqCPUS={cores},ReqNodes=1,ReqMem={memory}G,"
        f"NodeList={job.host},UserCPU=00:00:00,SystemCPU=00:00:00\n"
    )

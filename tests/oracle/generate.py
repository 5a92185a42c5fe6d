"""Random logs of a small cluster in every format that samplers have sent, with what goes wrong on the way.

Everything comes from one `random.Random`, so that a seed names a log. With `exact` all sums of the data are exact in
binary, in any order.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

from tests.oracle import generate_told

BASE = int(datetime(2024, 3, 1, 21, 30, tzinfo=UTC).timestamp())
HOSTS = ("n1.x", "n2.x", "n10.x", "gpu-07.y.org", "login")
USERS = ("ann", "bob", "root", "_zombie_77", "ec-åse")
COMMANDS = ("python", "a,b", 'say "hi"', "bash", "two\nlines", "train <defunct>", "", "x=1", "slurm_script")
GENERATIONS = ("untagged8", "untagged12", "untagged13", "0.6", "0.7", "0.9", "0.11", "0.13", "json0.15", "json0.18")


@dataclass(frozen=True)
class Process:
    """One process, or one group, and how it behaves."""

    user: str
    job: int
    epoch: int
    pid: int
    ppid: int
    cmd: str
    rolledup: int
    rate: float  # of cores
    kib: int
    gpus: Any  # "unknown" or a tuple of numbers
    runs: frozenset[int]


@dataclass
class Host:
    """One host: when its sampler ran, in which format it sent, and what was running."""

    name: str
    generation: str
    interval: int
    times: list[int]
    processes: list[Process]
    zone: timezone = UTC
    lines: list[tuple[int, str]] = field(default_factory=list)  # (time, text)


@dataclass(frozen=True)
class Log:
    """What was sent, as files by name: explicit ones, and the same records as a tree."""

    files: list[tuple[str, bytes]]
    tree: list[tuple[str, bytes]]
    told: list[tuple[str, bytes]]  # what is no sample, by its name in a tree
    hosts: list[str]
    first: int
    last: int


def log(chance: Random, *, exact: bool = True, damage: bool = True, generations: tuple[str, ...] = GENERATIONS) -> Log:
    """Return a random log of up to three hosts and two days."""
    names = chance.sample(HOSTS, chance.randint(1, 3))
    hosts = [host(chance, name, chance.choice(generations)) for name in names]
    # A host whose sampler is replaced by a newer one on the way.
    if chance.random() < 0.3:
        newer = chance.choice(generations)
        later = [time + chance.choice([0, 3600]) for time in hosts[0].times]
        hosts.append(replace(hosts[0], generation=newer, times=later, lines=[]))
    for one in hosts:
        write(chance, one, exact=exact)
        if damage:
            spoil(chance, one)
    times = [time for one in hosts for time in one.times]
    told = generate_told.log(chance, names, USERS[:3], BASE)
    return Log(explicit(chance, hosts), as_tree(hosts), told, names, min(times), max(times))


def host(chance: Random, name: str, generation: str) -> Host:
    interval = chance.choice([32, 64, 300, 300, 1024])
    time = BASE + chance.choice([0, 3, 12, 4000, 9000])
    times = []
    for _ in range(chance.randint(1, 9)):
        times.append(time)
        time += interval * chance.choice([1, 1, 1, 1, 2, 12]) + chance.choice([0, 0, 0, 4])
    processes = [process(chance, generation, len(times)) for _ in range(chance.randint(0, 5))]
    zone = timezone(timedelta(hours=chance.choice([0, 1, -3])))
    return Host(name, generation, interval, times, processes, zone)


def process(chance: Random, generation: str, runs: int) -> Process:
    job = chance.choice([0, 7, 7, 8, 500])
    grouped = chance.random() < 0.2 and not generation.startswith("untagged")
    first = chance.randrange(runs)
    last = chance.randrange(first, runs)
    missing = {chance.randrange(runs)} if chance.random() < 0.2 else set()
    return Process(
        user=chance.choice(USERS[:4] if generation.startswith("untagged") else USERS),
        job=job,
        epoch=chance.choice([0, 0, 99, 130_000_000]),
        pid=0 if grouped else job if generation.startswith("untagged") else chance.choice([11, 11, 12, 4_294_967_400]),
        ppid=chance.choice([1, 2, 300]),
        cmd=chance.choice(COMMANDS),
        rolledup=chance.choice([0, 1, 4]) if grouped else 0,
        rate=chance.choice([0, 0.25, 1, 1.75, 16]),
        kib=chance.choice([0, 1, 1 << 19, 1 << 20, 12345678]),
        gpus=chance.choice([(), (), (0,), (1, 3), "unknown"]),
        runs=frozenset(range(first, last + 1)) - missing,
    )


def write(chance: Random, one: Host, *, exact: bool) -> None:
    """Give the host its lines."""
    used = [float(chance.choice([0, 8, 1000])) for _ in one.processes]
    machine = generate_told.Machine(chance)
    for run, time in enumerate(one.times):
        alive = []
        elapsed = time - one.times[run - 1] if run else 0
        machine.advance(elapsed)
        for number, proc in enumerate(one.processes):
            used[number] += proc.rate * elapsed if exact else round(proc.rate * elapsed * chance.random(), 2)
            if chance.random() < 0.05:
                used[number] = chance.choice([0.0, max(used[number] - 50, 0.0)])
            if run in proc.runs:
                alive.append(measured(chance, proc, used[number], exact=exact))
        if one.generation.startswith("json"):
            one.lines.append((time, envelope(chance, one, time, alive, machine)))
            continue
        for number, values in enumerate(alive):
            if "untagged" in one.generation:
                one.lines.append((time, positional(chance, one, time, values)))
                continue
            of_node = {} if number or one.generation in ("0.6", "0.7") else machine.tags()
            one.lines.append((time, tagged(chance, one, time, values, of_node)))
        if not alive and chance.random() < 0.7 and not one.generation.startswith("untagged"):
            version = "0.7.0" if one.generation == "0.6" else f"{one.generation}.0"
            one.lines.append(
                (time, f"v={version},time={stamp(one, time)},host={one.name},user=_sonar_,cmd=_heartbeat_")
            )


def measured(chance: Random, proc: Process, used: float, *, exact: bool) -> dict[str, Any]:
    share = (
        chance.choice([0, 12.5, 50, 100, 175.25]) if exact else round(chance.random() * 200, chance.choice([0, 1, 3]))
    )
    cards = proc.gpus
    busy = bool(cards)
    return {
        "proc": proc, "used": used, "cpu": share, "kib": proc.kib * chance.choice([1, 1, 2]),
        "rss": proc.kib // 2, "gpu": chance.choice([0, 25, 99.5]) * busy,
        "gpumem": chance.choice([0, 10, 50.5]) * busy, "gpukib": chance.choice([0, 1 << 20, 1 << 23]) * busy,
        "gpufail": int(busy and chance.random() < 0.2), "threads": chance.choice([0, 0, 15]),
    }  # fmt: skip


def stamp(one: Host, time: int) -> str:
    return datetime.fromtimestamp(time, one.zone).isoformat().replace("+00:00", "Z")


def tagged(chance: Random, one: Host, time: int, values: dict[str, Any], of_node: dict[str, str]) -> str:
    proc = values["proc"]
    minor = int(one.generation.partition(".")[2])
    fields = {"v": f"0.{minor}.1", "time": stamp(one, time), "host": one.name, "user": proc.user, "cmd": proc.cmd}
    fields |= {"cores": 8, "job": proc.job, "pid": proc.pid, "cpu%": values["cpu"], "cpukib": values["kib"]}
    cards = values["proc"].gpus
    if cards or minor < 9:
        fields["gpus"] = cards if isinstance(cards, str) else ",".join(map(str, cards)) or "none"
    elif chance.random() < 0.3:
        fields["gpus"] = ""
    if minor > 6:
        fields["cputime_sec"] = values["used"]
    optional = {"gpu%": "gpu", "gpumem%": "gpumem", "gpukib": "gpukib", "gpufail": "gpufail"}
    fields |= {tag: values[name] for tag, name in optional.items() if values[name] or chance.random() < 0.2}
    if proc.rolledup:
        fields["rolledup"] = proc.rolledup
    if minor >= 9:
        fields["rssanonkib"] = values["rss"]
    if minor >= 11:
        fields["ppid"] = proc.ppid
    if minor >= 13:
        fields |= {"epoch": proc.epoch, "newtag": "9"}
    fields |= of_node
    pairs = [
        f"{tag}={f'{value:g}' if isinstance(value, int) and value < 1e5 else value}" for tag, value in fields.items()
    ]
    if chance.random() < 0.2:
        chance.shuffle(pairs)
    return ",".join(quoted(pair) for pair in pairs)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\n') else text


def positional(chance: Random, one: Host, time: int, values: dict[str, Any]) -> str:
    proc = values["proc"]
    fields: list[Any] = [stamp(one, time), one.name, 8, proc.user, proc.job, proc.cmd, values["cpu"], values["kib"]]
    if one.generation != "untagged8":
        bits = sum(1 << card for card in proc.gpus) if isinstance(proc.gpus, tuple) else 2**32 - 1
        fields += [f"{bits:b}", values["gpu"], values["gpumem"], values["gpukib"]]
    if one.generation == "untagged13":
        fields.append(values["used"])
    return ",".join(quoted(str(value)) for value in fields)


def envelope(chance: Random, one: Host, time: int, alive: list[dict[str, Any]], machine: generate_told.Machine) -> str:
    """Return the envelope of one run of the sampler, on one line."""
    failing = any(values["gpufail"] for values in alive)
    cards = [{"index": card, "uuid": f"GPU-{card}"} | ({"failing": 1} if failing and card else {}) for card in range(4)]
    jobs: list[dict[str, Any]] = []
    for values in alive:
        proc = values["proc"]
        on = proc.gpus if isinstance(proc.gpus, tuple) else (70,)
        gpus = [
            {"index": card, "uuid": f"GPU-{card}", "gpu_util": values["gpu"] / 2, "gpu_memory": values["gpukib"] // 2}
            | {"gpu_memory_util": values["gpumem"] / 2}
            for card in on
        ]
        record = {"pid": proc.pid, "ppid": proc.ppid, "cmd": proc.cmd, "cpu_avg": values["cpu"]}
        record |= {"cpu_time": values["used"], "virtual_memory": values["kib"], "resident_memory": values["rss"]}
        record |= {"num_threads": values["threads"], "rolledup": proc.rolledup} | ({"gpus": gpus} if gpus else {})
        counters: dict[str, Any] = {"data_read": int(values["used"]) * 300, "data_written": int(values["used"]) * 7 + 1}
        counters |= {"data_cancelled": 5, "cpu_util": 0.5, "in_container": True}
        record |= {name: value for name, value in counters.items() if chance.random() < 0.8}
        jobs.append({"job": proc.job, "user": proc.user, "epoch": proc.epoch, "processes": [record]})
    attributes: dict[str, Any] = {"time": stamp(one, time), "cluster": "x.org", "node": one.name}
    if chance.random() < 0.8:
        attributes["system"] = machine.system(cards)
    version = one.generation.removeprefix("json") + ".0"
    data = {"type": "sample", "attributes": attributes | {"jobs": jobs}}
    return json.dumps({"meta": {"producer": "sonar", "version": version}, "data": data}, ensure_ascii=False)


def spoil(chance: Random, one: Host) -> None:
    """Send some records twice, some late, tear some, and put others between that nobody can read."""
    for at in range(len(one.lines) - 1, -1, -1):
        time, line = one.lines[at]
        luck = chance.random()
        if luck < 0.08:
            one.lines.insert(chance.randrange(len(one.lines) + 1), (time, line))
        elif luck < 0.13:
            one.lines[at] = (time, line[: chance.randrange(1, len(line))].partition("\n")[0].partition('"')[0])
        elif luck < 0.17:
            one.lines.insert(0, one.lines.pop(at))
        elif luck < 0.20 and not one.generation.startswith("json"):
            bad = chance.choice(["cpu%=inf", "cores=-1", "job=x", "pid=1", "time=2024-02-30T00:00:00Z", "cmd=a,cmd=a"])
            one.lines.insert(at, (time, f"{line},{bad}" if "\n" not in line else bad))
        elif luck < 0.22:
            one.lines.insert(at, (time, chance.choice(["", "{}", "rubbish", "v=1", '{"errors":[]}', "1,2,3", "\x00"])))


def explicit(chance: Random, hosts: list[Host]) -> list[tuple[str, bytes]]:
    """Return a file a host, at times with line ends of another system or without the last one."""
    files = []
    for number, one in enumerate(hosts):
        end = "\r\n" if chance.random() < 0.1 else "\n"
        text = end.join([line for _, line in one.lines] + ([""] if chance.random() < 0.9 else []))
        suffix = "json" if one.generation.startswith("json") else "csv"
        files.append((f"{number}.{suffix}", text.encode()))
    return files


def as_tree(hosts: list[Host]) -> list[tuple[str, bytes]]:
    """Return the files of a log tree: CSV by the date in the record's own offset, envelopes by that in UTC."""
    by_name: dict[str, str] = {}
    for one in hosts:
        is_json = one.generation.startswith("json")
        for time, line in one.lines:
            day = datetime.fromtimestamp(time, UTC if is_json else one.zone).strftime("%Y/%m/%d")
            name = f"{day}/0+sample-{one.name}.json" if is_json else f"{day}/{one.name}.csv"
            by_name[name] = by_name.get(name, "") + line + "\n"
    return [(name, by_name[name].encode()) for name in sorted(by_name)]

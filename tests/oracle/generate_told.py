"""What is no sample, made up: descriptions of nodes, jobs of the batch system, and the system of a sample's node."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from random import Random
from typing import Any

Files = list[tuple[str, bytes]]
GIB = 1 << 20  # in KiB
FIRST_DIGITS = "(){}[]<>+-abcdefghijklmnopqrstuvwxyz!@#$%^&*_"
MORE_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ~|';:.?/`"
STATES = ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "COMPLETED", "FAILED", "CANCELLED by 77", "TIMEOUT")
TRES = ("", "cpu=4,mem=16G", "billing=2,cpu=40,gres/gpu=2,gres/gpu:a100=2", "gres/gpu=1", "cpu=2,gres/gpu:v100=0")


def stamp(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y/%m/%d")


def message(kind: str, attributes: dict[str, Any]) -> str:
    return json.dumps(
        {"meta": {"producer": "sonar", "version": "0.18.4"}, "data": {"type": kind, "attributes": attributes}},
        ensure_ascii=False,
    )


def some(chance: Random, values: dict[str, Any]) -> dict[str, Any]:
    """Return most of the members: what is 0 or empty is often not sent."""
    return {name: value for name, value in values.items() if chance.random() < 0.85}


def log(chance: Random, hosts: list[str], users: tuple[str, ...], base: int) -> Files:
    """Return files of a log tree, in a random order."""
    by_name: dict[str, list[str]] = {}
    for host in [*hosts, "spare.x"]:
        form = chance.choice(["0+sysinfo-", "sysinfo-"])
        for _ in range(chance.choice([0, 1, 2, 3])):
            time = base + chance.choice([-9 * 86400, -7200, 60, 3000, 9000])
            text = (node_message if chance.random() < 0.6 else old_node)(chance, host, time)
            by_name.setdefault(f"{day(time)}/{form}{host}.json", []).append(text)
    for _ in range(chance.choice([0, 2, 6, 10])):
        time = base + chance.choice([-3600, 600, 600, 3000, 14000])
        found = [slurm_job(chance, users, base, hosts) for _ in range(chance.randint(1, 3))]
        text = message("job", {"time": stamp(time), "slurm_jobs": found})
        by_name.setdefault(f"{day(time)}/0+job-slurm.json", []).append(text)
    for _ in range(chance.choice([0, 1, 4])):
        time, text = accounting_record(chance, users, base, hosts)
        by_name.setdefault(f"{day(time)}/slurm-sacct.csv", []).append(text)
    for _ in range(chance.choice([0, 1, 2])):
        time = base + chance.randrange(0, 7200, 60)
        by_name.setdefault(f"{day(time)}/0+cluzter-slurm.json", []).append(cluster(chance, time, hosts))
    files = []
    for name, lines in by_name.items():
        spoil(chance, lines, is_json=name.endswith(".json"))
        files.append((name, "".join(line + "\n" for line in lines).encode()))
    chance.shuffle(files)
    return files


def spoil(chance: Random, lines: list[str], *, is_json: bool) -> None:
    for at in range(len(lines) - 1, -1, -1):
        luck = chance.random()
        if luck < 0.1:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        elif luck < 0.15:
            lines.insert(
                at, lines[at][: len(lines[at]) // 2].partition("\n")[0].partition('"')[0] if not is_json else "{"
            )
        elif luck < 0.2:
            lines.insert(at, '{"errors":[]}' if is_json else "v=1,error=none")


# ---- nodes ---------------------------------------------------------------------------------------------------------


def node_message(chance: Random, host: str, time: int) -> str:
    cards = [
        {"index": at, "uuid": f"GPU-{at}", "model": "A100", "memory": 40 * GIB + chance.choice([0, 5])}
        | some(chance, {"address": f"00:{at}", "manufacturer": "NVIDIA", "architecture": "Ampere", "driver": "535,1",
                        "firmware": "12.2", "power_limit": 400, "max_power_limit": 400.5, "min_power_limit": 100,
                        "max_ce_clock": 1410, "max_memory_clock": 1593})
        for at in range(chance.choice([0, 0, 1, 4]))
    ]  # fmt: skip
    build = {"sockets": 2, "cores_per_socket": chance.choice([8, 24]), "threads_per_core": chance.choice([1, 2])}
    drawing = chance.choice([b64encode("<svg>ä</svg>".encode()).decode(), "not base64!"])
    optional = {
        "os_name": "Linux",
        "os_release": "6.1",
        "architecture": "x86_64",
        "cpu_model": "EPYC 7402",
        "numa_nodes": 2,
        "distances": [[10, 20], [20, 10]],
        "topo_svg": drawing,
        "topo_text": drawing,
    }
    memory = chance.choice([64 * GIB, 251 * GIB + GIB // 2, 251 * GIB + GIB // 2 - 1])
    node = {"time": stamp(time), "cluster": "x.org", "node": host, **build, "memory": memory}
    return message("sysinfo", node | some(chance, optional) | ({"cards": cards} if cards else {}))


def old_node(chance: Random, host: str, time: int) -> str:
    cards = chance.choice([0, 0, 2])
    build = f"2x{chance.choice([4, 16])}{chance.choice(['', ' (hyperthreaded)'])}"
    text = f"{build} Xeon 6130, 187 {chance.choice(['GiB', 'GB'])}"
    node: dict[str, Any] = {"timestamp": stamp(time), "hostname": host, "cpu_cores": 32, "mem_gb": 187}
    if cards and chance.random() < 0.5:
        names = {"bus_addr": "00:1", "index": 0, "uuid": "G", "manufacturer": "AMD", "model": "Vega", "arch": "gfx",
                 "driver": "5", "firmware": "", "mem_size_kib": 8 * GIB, "power_limit_watt": 250,
                 "max_power_limit_watt": 260, "min_power_limit_watt": 10, "max_ce_clock_mhz": 1630,
                 "max_mem_clock_mhz": 945}  # fmt: skip
        node["gpu_info"] = [names | {"index": at, "uuid": f"G{at}"} for at in range(cards)]
    if cards:
        text += ", 2x RTX 2080 @ 11GiB"
        node |= some(chance, {"gpu_cards": cards, "gpumem_gb": 22})
    node |= some(chance, {"version": "0.12.0"}) | {"description": chance.choice([text, text, "a machine"])}
    return json.dumps(node, indent=chance.choice([None, 2]), ensure_ascii=False)


def cluster(chance: Random, time: int, hosts: list[str]) -> str:
    partitions = [{"name": "normal", "nodes": ["c[1-3]", *hosts]}, {"name": "gpu", "nodes": ["gpu-[07-09].y.org"]}]
    nodes = [{"names": ["c[1,3]"], "states": ["IDLE"]}, {"names": hosts, "states": ["ALLOCATED", "DRAIN"]}]
    attributes = {"time": stamp(time), "cluster": "x.org", "partitions": chance.sample(partitions, 2)}
    return message("cluster", attributes | {"nodes": nodes[: chance.randint(0, 2)]})


# ---- jobs ----------------------------------------------------------------------------------------------------------


def times_of(chance: Random, base: int) -> tuple[int, int, int]:
    """Return submission, start and end."""
    start = base + chance.choice([-40_000, -600, 0, 900, 50_000])
    return start - chance.choice([0, 60, 5000]), start, start + chance.choice([60, 4000, 90_000])


def slurm_job(chance: Random, users: tuple[str, ...], base: int, hosts: list[str]) -> dict[str, Any]:
    submit, start, end = times_of(chance, base)
    job: dict[str, Any] = {"job_id": chance.choice([7, 8, 500, 9000, 0])}
    step = chance.choice(["", "", "batch", "0"])
    job |= {"job_step": step} if step else {"user_name": chance.choice(users[:2])}
    job |= chance.choice([{}, {}, {}, {"array_job_id": 8, "array_task_id": 3}, {"het_job_id": 9, "het_job_offset": 0}])
    job |= some(chance, {
        "job_state": chance.choice(STATES), "job_name": chance.choice(["fit", "a name longer than thirty characters"]),
        "account": chance.choice(["nn1", "nn2"]), "partition": chance.choice(["normal", "gpu"]),
        "reservation": chance.choice(["", "course"]), "distribution": "block",
        "requested_resources": chance.choice(TRES),
        "allocated_resources": chance.choice(TRES), "submit_time": stamp(submit), "start_time": stamp(start),
        "end_time": stamp(end), "time_limit": chance.choice([0, 1, 3602]), "priority": chance.choice([0, 1, 12]),
        "nodes": chance.choice([[], ["c[1-2]"], hosts]), "requested_cpus": chance.choice([1, 8]),
        "requested_node_count": chance.choice([1, 2]), "requested_memory_per_node": chance.choice([16 * GIB, 1000]),
        "suspend_time": chance.choice([0, 90]), "exit_code": chance.choice([0, 1]),
    })  # fmt: skip
    sacct = {"AllocTRES": chance.choice(TRES), "ElapsedRaw": chance.choice([0, 600, 7200])}
    sacct |= {name: chance.choice([0, 100, 5000]) for name in ("AveCPU", "MinCPU", "SystemCPU", "UserCPU")}
    sacct |= {name: chance.choice([0, 1000, 3 * GIB]) for name in (
        "AveDiskRead", "AveDiskWrite", "AveRSS", "AveVMSize", "MaxRSS", "MaxVMSize")}  # fmt: skip
    return job | ({"sacct": some(chance, sacct)} if chance.random() < 0.7 else {})


def accounting_record(chance: Random, users: tuple[str, ...], base: int, hosts: list[str]) -> tuple[int, str]:
    submit, start, end = times_of(chance, base)
    number = chance.choice([7, 8, 501])
    step = chance.choice(["", "", ".batch", ".0"])
    shown = chance.choice([str(number), "8_3", "8_[1-4]", "9+1"]) + step
    tags: dict[str, Any] = {"v": "0.1.0", "JobIDRaw": f"{number}{step}", "JobID": shown, "End": stamp(end)}
    tags |= {} if step else {"User": chance.choice(users)}
    tags |= some(chance, {
        "State": chance.choice(STATES), "JobName": 'say "a,b"', "Account": chance.choice(["nn1", "(null)"]),
        "Partition": "normal", "Reservation": chance.choice(["", "None"]), "Layout": "Cyclic",
        "AllocTRES": chance.choice(TRES), "Submit": stamp(submit), "Start": chance.choice([stamp(start), "Unknown"]),
        "TimelimitRaw": chance.choice(["60", "UNLIMITED", "Partition_Limit"]), "Priority": chance.choice(["12", "N/A"]),
        "NodeList": chance.choice(["c[1-2],d7", "None assigned", hosts[0]]), "ReqCPUS": chance.choice([1, 8]),
        "ReqNodes": chance.choice([1, 2]), "ReqMem": chance.choice(["16G", "4000Mc", "2Gn", "3000"]),
        "Suspended": chance.choice(["00:00:00", "00:01:30"]), "ExitCode": chance.choice(["0:0", "1:0", "0:9", "2"]),
        "ElapsedRaw": chance.choice(["600", "7200"]), "UserCPU": chance.choice(["01:02:03", "1-00:00:01", "00:10.500"]),
        "SystemCPU": "00:00:07", "AveCPU": "00:05:00", "MinCPU": "00:04:00", "AveDiskRead": "1.25M",
        "AveDiskWrite": "0", "AveRSS": "1000K", "AveVMSize": "2G", "MaxRSS": chance.choice(["3G", "512", ""]),
        "MaxVMSize": "4G",
    })  # fmt: skip
    pairs = [f"{tag}={value}" for tag, value in tags.items()]
    chance.shuffle(pairs)
    return end, ",".join('"' + pair.replace('"', '""') + '"' if set(',"') & set(pair) else pair for pair in pairs)


# ---- the system of a sample's node ---------------------------------------------------------------------------------


class Machine:
    """The counters of one node, over the runs of its sampler."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._cores = [chance.randrange(10**6) for _ in range(chance.choice([1, 3]))]
        self._disks = [[chance.randrange(10**9) for _ in range(chance.choice([11, 17]))] for _ in range(2)]

    def advance(self, elapsed: int) -> None:
        """Let time pass; now and then the node boots."""
        elapsed = max(elapsed, 0)  # of a sampler that was replaced, runs may be told in another order
        boots = self._chance.random() < 0.05
        busy = (0, 0.05, 0.1, 0.24, 0.25, 1)
        self._cores = [0 if boots else core + int(elapsed * self._chance.choice(busy)) for core in self._cores]
        self._disks = [[number + self._chance.choice([0, 5]) for number in disk] for disk in self._disks]

    def system(self, cards: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what a message tells, `cards` having number and identifier of each."""
        chance = self._chance
        told = {"boot": stamp(10**9), "used_memory": 12345, "load1": 0.25, "load5": 1.5, "load15": 2.75,
                "runnable_entities": 3, "existing_entities": 777}  # fmt: skip
        disks = [{"name": f"sd{at}", "major": 8, "minor": at, "stats": disk} for at, disk in enumerate(self._disks)]
        of_card = {"fan": 27, "compute_mode": "Default", "performance_state": 3, "memory": 1000, "ce_util": 55,
                   "memory_util": 12, "temperature": 44, "power": 220, "power_limit": 400, "ce_clock": 1410,
                   "memory_clock": 1593}  # fmt: skip
        return some(chance, told) | {
            "cpus": self._cores,
            "gpus": [card | some(chance, of_card) for card in cards],
            "disks": [some(chance, disk) | {"name": disk["name"]} for disk in disks],
        }

    def tags(self) -> dict[str, str]:
        """Return what a record in CSV tells."""
        base = min(self._cores)
        load = "".join(map(encoded, [base, *(core - base for core in self._cores)]))
        cards = {
            "fan%": "27|28",
            "mode": "Default|",
            "perf": "P8|x",
            "musekib": "1024|0",
            "cutil%": "55|0",
            "tempc": "44",
            "mutil%": "1|2",
            "poww": "220|30",
            "powlimw": "400|400",
            "cez": "1410|210",
            "memz": "1593|405",
        }
        listed = ",".join(f"{name}={value}" for name, value in some(self._chance, cards).items())
        return some(self._chance, {"load": load, "gpuinfo": listed})


def encoded(number: int) -> str:
    """Return a number to base 45, the lowest digit first, that from an alphabet of its own."""
    text = FIRST_DIGITS[number % 45]
    while number := number // 45:
        text += MORE_DIGITS[number % 45]
    return text

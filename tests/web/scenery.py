"""A generated cluster of any size that looks like one in use: loads, silent nodes, gaps, refusals, reports."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sonar.names import cluster_name
from sonar.store.ledger import Arrival, arrival_line, arrivals_path
from sonar.times import iso_text, minute_text

STEP_S = 300
USERS = ("ada", "bjarne", "cilla", "dag", "erna", "femi", "grete", "hakon", "ingrid", "jonas", "kaja", "lars")
COMMANDS = ("gmx_mpi", "python3.11", "vasp_std", "R", "lmp", "orca", "julia", "namd3", "wrf.exe", "snakemake")
CORES, MEM_GB, CARDS, CARD_GB = 64, 256, 4, 40


def host_of(cluster: str, number: int) -> str:
    """Return the name of a node; each tenth has GPUs."""
    kind = "gpu" if number % 10 == 9 else "c"
    return f"{kind}{number // 50 + 1}-{number % 50 + 1}.{cluster}"


def write_cluster(root: Path, cluster: str, nodes: int, *, now: int, hours: float = 24, jobs: int = 3) -> None:
    """Write below root/data, root and root/reports what a cluster has sent in so many hours, each five minutes."""
    chance = random.Random(nodes)
    ledger: dict[str, list[bytes]] = defaultdict(list)
    for number in range(nodes):
        host = host_of(cluster, number)
        # Of a hundred nodes one fell silent hours ago, one minutes ago, and one has a hole.
        until = now - (5 * 3600 if number % 100 == 41 else 700 if number % 100 == 63 else 0)
        hole = (now - 9 * 3600, now - 7 * 3600) if number % 100 == 17 else (0, 0)
        days: dict[str, list[str]] = defaultdict(list)
        for at in range(now - int(hours * 3600) + number % 60, until, STEP_S):
            day = iso_text(at)[:10].replace("-", "/")
            late = 1200 if number % 100 == 29 and at > now - 7200 and at < now - 1500 else 1
            if hole[0] <= at < hole[1]:
                why = "disk full" if number % 200 == 17 else ""
                refusal = Arrival(at, cluster, host, "sonar-freecsv", 503 if why else 401, why=why or "unknown user")
                ledger[day].append(arrival_line(refusal))
                continue
            lines = list(_records(chance, cluster, number, at, jobs))
            ledger[day].append(
                arrival_line(Arrival(at + late, cluster, host, "sonar-freecsv", records=jobs, late=late))
            )
            days[day] += lines
        for day, texts in days.items():
            path = root / "data" / cluster / day / f"{host}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(texts))
    for day, rows in ledger.items():
        (root / "data" / arrivals_path(cluster_name(cluster), day)).write_bytes(b"".join(sorted(rows)))
    _write_description(root / f"{cluster}-config.json", cluster, nodes)
    _write_reports(root / "reports" / cluster, cluster, nodes, now)


def _records(chance: random.Random, cluster: str, number: int, at: int, jobs: int) -> Iterator[str]:
    host, has_cards = host_of(cluster, number), number % 10 == 9
    for job in range(jobs):
        length = (4 + (number * 7 + job * 3) % 20) * 3600
        run = (at + number * 977 + job * 4001) // length
        ago = (at + number * 977 + job * 4001) % length
        of_job = random.Random(f"{number} {job} {run}")
        if of_job.random() < 0.25:
            continue  # nothing runs there
        cores = of_job.choice((1, 4, 8, 16, 20))
        wave = 0.75 + 0.2 * math.sin(at / 2400 + number) + chance.uniform(-0.05, 0.05)
        fields = {
            "v": "0.12.1", "time": iso_text(at), "host": host, "cores": CORES,
            "user": of_job.choice(USERS), "job": 400_000 + (number * 8 + job) * 40 + run % 40,
            "pid": 2000 + job, "cmd": of_job.choice(COMMANDS), "cpu%": round(100 * cores * wave, 1),
            "cpukib": int(of_job.uniform(4, 90) * 2**20), "rssanonkib": int(of_job.uniform(2, 60) * wave * 2**20),
            "cputime_sec": int(0.75 * cores * ago + 200 * math.sin(at / 2400 + number) * cores),
        }  # fmt: skip
        line = ",".join(f"{name}={value}" for name, value in fields.items())
        if has_cards and job < CARDS:
            share = max(0.0, of_job.uniform(20, 100) * wave)
            line += f",gpus={job},gpu%={share:.1f},gpumem%={of_job.uniform(10, 95):.1f},gpukib={int(share * 2**18)}"
        yield line + "\n"
    yield f"v=0.12.1,time={iso_text(at)},host={host},cores={CORES},user=_sonar_,cmd=_heartbeat_\n"


def _write_description(path: Path, cluster: str, nodes: int) -> None:
    path.write_text(
        json.dumps(
            [
                {
                    "hostname": host_of(cluster, number),
                    "description": "2x32 AMD EPYC 7543, 256 GiB" + (", 4x A100 @ 40GiB" if number % 10 == 9 else ""),
                    "cpu_cores": CORES,
                    "mem_gb": MEM_GB,
                    **({"gpu_cards": CARDS, "gpumem_gb": CARDS * CARD_GB} if number % 10 == 9 else {}),
                }
                for number in range(nodes)
            ]
        )
    )


def _write_reports(directory: Path, cluster: str, nodes: int, now: int) -> None:
    hosts = [host_of(cluster, number) for number in range(nodes)]
    glance = [
        {"hostname": host, "violators_long": int(at % 13 == 2) * (1 + at % 3), "zombies_long": int(at % 37 == 5)}
        for at, host in enumerate(hosts)
    ]
    rows = [
        {
            "hostname": host, "id": 400_000 + at, "user": USERS[at % 12], "cmd": COMMANDS[at % 10],
            "policy": "cpuhog" if at % 3 else "deadweight",
            "started-on-or-before": minute_text(now - at * 3000 - 90_000),
            "first-violation": minute_text(now - at * 3000 - 40_000), "last-seen": minute_text(now - at * 3000),
        }
        for at, host in enumerate(hosts[:: max(nodes // 24, 1)])
    ]  # fmt: skip
    policies = [
        {
            "name": "cpuhog", "title": "CPU hog",
            "trigger": "Job uses more than 10 % of the system's CPU at peak, runs for at least 10 minutes, and no GPU.",
            "problem": "GPU nodes are for jobs that use GPUs.", "remedy": "Move the work to a system without GPUs.",
        },
        {
            "name": "deadweight", "title": "Dead weight",
            "trigger": "Process is defunct, or has used nothing for days.",
            "problem": "It holds resources for nothing.", "remedy": "End it.",
        },
    ]  # fmt: skip
    letters = [
        {
            "user": row["user"], "policy": row["policy"], "jobs": [row["id"]], "sent": None,
            "text": f"Hi {row['user']},\n\nyour job {row['id']} on {row['hostname']} ({row['cmd']}) breaks a policy.\n",
        }
        for row in rows
    ]  # fmt: skip
    files = {
        "public/at-a-glance.json": glance,
        "admin/violations.json": {"policies": policies, "rows": rows},
        "admin/letters.json": letters,
        "login/top-users.json": {"rows": [{"user": "user-1", "cputime": 9}]},
        "public/hostnames.json": hosts,
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

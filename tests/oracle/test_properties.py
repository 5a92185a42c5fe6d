"""What must not matter does not: the order of files, how records fall into them, repeats, where hosts are chosen."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.oracle import batch, generate, nodes, system
from tests.oracle.records import Sample, csv, samples_of
from tests.oracle.test_verbs_by_hand import AVERAGES, JOBS, asked

SEEDS = range(8)
# Questions about everybody, with every quantity; a window of its own, where the data would otherwise give it.
WINDOW = ["--from=2024-02-29", "--to=2024-03-04"]
QUESTIONS = {
    "jobs": ["jobs", "-u-", "--min-samples=1", f"--fmt=csv,{JOBS},{AVERAGES}"],
    "jobs by host": ["jobs", "-u-", "--min-samples=1", "--merge-none", f"--fmt=csv,{JOBS},{AVERAGES}"],
    "load": ["load", "--half-hourly", "--compact", "--fmt=csv,host,datetime,cpu,mem,res,gpu,gpumem,gpus"],
    "uptime": ["uptime", "--interval=4", "--fmt=csv,host,device,state,start,end"],
    "parse": ["parse", "--clean", "--fmt=csv,host,time,job,user,cmd,pid,cpu_util_pct,mem_gb,gpus"],
    "metadata": ["metadata", "--fmt=csv,host,earliest,latest"],
    "merged": ["parse", "--merge-by-job", "--fmt=csv,host,time,job,user,cmd,cpu_util_pct,cputime_sec,threads"],
    "counters": ["jobs", "-u-", "--merge-none", "--fmt=csv,job,host,start,read,written,seen,expected,sgpu-avg"],
    "accounts": ["jobs", "-u-", "--sacct-from-sonar", "--fmt=csv,job,host,start,Account,State,UserCPU,MaxRSS,NodeList"],
    "profile": ["profile", "-j7", "--host=*", "--fmt=time,cpu,mem,res,gpu,gpumem,nproc,cmd,host"],
    "gpu": ["gpu", "--fmt=csv,Hostname,Timestamp,Index,Memory,Power,PerformanceState"],
    "nodeprof": ["nodeprof", "--fmt=csv,Hostname,Timestamp,UsedMemory,Load1,Boot"],
    "diskprof": ["diskprof", "--fmt=csv,Hostname,Timestamp,Name,MsReading,MsFlushing"],
    "top": ["top"],
    "config": ["config", "--fmt=csv,host,All"],
    "node": ["node", "--fmt=csv,host,All"],
    "card": ["card", "--fmt=csv,Node,Time,Index,UUID,Model,Memory,PowerLimit"],
    "sacct": ["sacct", "--all", "--fmt=csv,JobID,State,Time,User,NodeList,UsedCPU,RequestedCPU,MaxRSS,rcpu,rmem"],
    "snode": ["snode", "--fmt=csv,timestamp,nodes,states"],
    "spart": ["spart", "--fmt=csv,timestamp,part,nodes"],
}
# What is about the cluster as a whole, or about jobs that may be on several hosts.
OF_NO_HOST = {"jobs", "accounts", "merged", "profile", "sacct", "snode", "spart"}
NAMES_OF_HOSTS = ("host", "Hostname", "Node")
each_question = pytest.mark.parametrize("question", list(QUESTIONS))
each_seed = pytest.mark.parametrize("seed", SEEDS)
Files = list[tuple[str, bytes]]


def answer(question: str, files: Files, place: Path, *more: str) -> str:
    return asked([*QUESTIONS[question], *WINDOW, *more], files, place, generate.BASE + 86400, tree=False)


def of_kind(question: str, files: Files) -> Files:
    """Return the files that a question is about: all others are of another kind of data."""
    about = {"config": "sysinfo", "node": "sysinfo", "card": "sysinfo", "sacct": "slurm", "snode": "cluzter",
             "spart": "cluzter"}  # fmt: skip
    if question in about:
        return [file for file in files if about[question] in file[0]]
    more = "0+job-slurm slurm-sacct" if question == "accounts" else ""
    told = {name for name, _ in files if "sysinfo" in name or "slurm" in name}
    return [file for file in files if file[0] not in told or any(word in file[0] for word in more.split())]


def is_ambiguous(files: Files) -> bool:
    """Whether samples of one process at one instant differ, so that the order of reading decides which one counts."""
    seen: dict[Any, Sample] = {}
    for name, content in files:
        for sample in samples_of(name, content, tree=False)[1]:
            group = sample["rolledup"] > 0 or sample["pid"] == 0
            which = sample["ppid"] if group else sample["pid"]
            names = ("host", "job", "epoch", "user", "cmd", "time")
            if seen.setdefault((group, which, *(sample[name] for name in names)), sample) != sample:
                return True
    told: dict[Any, Any] = {}
    kinds = {"sysinfo": (nodes.NODES, nodes.CARDS), "job": (batch.JOBS,), "sacct": (batch.JOBS,),
             "cluzter": (batch.PARTITIONS, batch.STATES)}  # fmt: skip
    of_samples = (system.CARDS, system.DISKS, system.LOADS, system.CORES)
    for name, content in files:
        for kind in next((own for word, own in kinds.items() if word in name), of_samples):
            for record in kind.read(content):
                key = (id(kind), *(record[part] for part in kind.key))
                if told.setdefault(key, record) != record:
                    return True
    return False


def unambiguous(seed: int, *, damage: bool = False) -> Files:
    """Return the files of a log in which the order of reading decides nothing."""
    chance = Random(f"properties {seed}")
    while True:
        log = generate.log(chance, exact=False, damage=damage)
        files = [*log.files, *((name.replace("/", "-", 2), content) for name, content in log.told)]
        if not is_ambiguous(files):
            return files


def lines_of(name: str, content: bytes) -> list[bytes]:
    """Return the records of a file, each with its line ends; one in CSV may have some in quotes, JSON anywhere."""
    records: list[bytes] = []
    for line in content.splitlines(keepends=True):
        goes_on = bool(records) and (name.endswith(".json") or records[-1].count(b'"') % 2)
        if goes_on and not line.startswith(b"{"):
            records[-1] += line
        else:
            records.append(line)
    return records


@each_question
@each_seed
def test_order_of_files_does_not_matter(question: str, seed: int, tmp_path: Path) -> None:
    files = of_kind(question, unambiguous(seed))
    shuffled = [(f"{at}/{name}", content) for at, (name, content) in enumerate(Random(seed).sample(files, len(files)))]

    assert answer(question, shuffled, tmp_path / "b") == answer(question, files, tmp_path / "a")


@each_question
@each_seed
def test_how_records_fall_into_files_does_not_matter(question: str, seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    files = of_kind(question, unambiguous(seed))
    parts: dict[str, bytes] = {}
    for name, content in files:
        for record in lines_of(name, content):
            part = f"{chance.randrange(3)}/{name}"
            parts[part] = parts.get(part, b"") + record

    assert answer(question, list(parts.items()) or files, tmp_path / "b") == answer(question, files, tmp_path / "a")


@each_question
@each_seed
def test_records_that_come_twice_count_once(question: str, seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    files = of_kind(question, unambiguous(seed))
    doubled = []
    for name, content in files:
        records = lines_of(name, content if content.endswith(b"\n") else content + b"\n")
        doubled.append((name, b"".join(record * chance.choice([1, 2, 3]) for record in records)))
    again = [(f"again/{name}", content) for name, content in files if chance.random() < 0.5]

    assert answer(question, [*doubled, *again], tmp_path / "b") == answer(question, files, tmp_path / "a")


@pytest.mark.parametrize("question", [name for name in QUESTIONS if name not in OF_NO_HOST] + ["jobs by host"])
@each_seed
def test_hosts_may_be_chosen_before_or_after(question: str, seed: int, tmp_path: Path) -> None:
    """Each host's part is the same whether it is chosen or alone, and the whole is made of the parts."""
    log = generate.log(Random(f"hosts {seed}"), exact=False)
    told = [(name.replace("/", "-", 2), content) for name, content in log.told]
    files = of_kind(question, [*log.files, *told]) or [("none.json", b"{}\n")]
    hosts = sorted([*log.hosts, "spare.x"])
    whole = answer(question, files, tmp_path / "whole")
    parts = {}
    for host in hosts:
        parts[host] = answer(question, files, tmp_path / "part", "--host", host)
        only = [(name, host_only(name, content, host)) for name, content in files]
        assert answer(question, only, tmp_path / "only") == parts[host]

    if question == "top":
        assert whole == "".join(parts[host] for host in hosts)
        return
    # Blocks and rows may lie between those of other hosts, but their own order stays.
    names = QUESTIONS[question][-1].split(",")
    column = next(names.index(name) for name in NAMES_OF_HOSTS if name in names) - 1
    for host in hosts:
        own = [line for line in records_of(whole) if line != ["*"] and line[column] == host]
        assert own == [line for line in records_of(parts[host]) if line != ["*"]]
    assert sorted(line for part in parts.values() for line in records_of(part)) == sorted(records_of(whole))


def host_only(name: str, content: bytes, host: str) -> bytes:
    """Return the records of a file that are of one host, and those that are of none."""
    kept = []
    for record in lines_of(name, content):
        found = list(nodes.descriptions(record)) if "sysinfo" in name else samples_of(name, record, tree=False)[1]
        if not found or found[0]["host"] == host:
            kept.append(record)
    return b"".join(kept)


def records_of(text: str) -> list[list[str]]:
    import csv as reader
    import io

    return list(reader.reader(io.StringIO(text)))


@each_seed
def test_what_parse_prints_can_be_read_again(seed: int, tmp_path: Path) -> None:
    log = generate.log(Random(f"round trip {seed}"), exact=False)
    now = generate.BASE + 86400
    fields = ",".join(name for name in AVERAGES.split(",") if not name.startswith("thread"))  # CSV has no threads
    jobs = ["jobs", "-u-", "--min-samples=1", f"--fmt=csv,{JOBS},{fields}"]

    printed = asked(["parse", "--fmt=csvnamed,roundtrip"], log.files, tmp_path / "a", now, tree=False)
    again = [("again.csv", printed.encode())]

    assert len(csv(printed.encode())) == len(records_of(printed))
    for question in (jobs, [*jobs, "--batch"], [*jobs, "--merge-none"]):
        expected = asked(question, log.files, tmp_path / "a", now, tree=False)
        assert asked(question, again, tmp_path / "b", now, tree=False) == expected

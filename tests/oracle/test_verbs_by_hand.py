"""All verbs against the rules applied sample by sample: random logs of every format, equal to the last byte."""

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sonar.cli.sonalyze import main
from sonar.times import iso_text

from tests.oracle import generate
from tests.oracle.answers import Options, Question, answer, limit

NODES = (
    '[{"hostname":"n[1-2].x","cpu_cores":8,"mem_gb":64,"description":"two"},'
    '{"hostname":"gpu-07.y.org","cpu_cores":32,"mem_gb":128,"gpu_cards":4,"gpumem_gb":44,"gpumem_pct":true},'
    '{"hostname":"n10.x","cpu_cores":16,"mem_gb":0,"gpu_cards":2,"gpumem_gb":22},'
    '{"hostname":"login","cpu_cores":4,"mem_gb":16}]'
)
PLAIN: dict[str, Any] = {"cpu_cores": 8, "mem_gb": 64, "description": "two"}
CAPACITIES: dict[str, dict[str, Any]] = {
    "n1.x": PLAIN,
    "n2.x": PLAIN,
    "gpu-07.y.org": {"cpu_cores": 32, "mem_gb": 128, "gpu_cards": 4, "gpumem_gb": 44, "gpumem_pct": True},
    "n10.x": {"cpu_cores": 16, "mem_gb": 0, "gpu_cards": 2, "gpumem_gb": 22},
    "login": {"cpu_cores": 4, "mem_gb": 16},
}
JOBS = "job,jobm,user,duration/sec,start/sec,end,cputime/sec,gputime,gpus,gpufail,host,cmd,classification"
MEASURED = ("cpu", "mem", "res", "gpu", "gpumem")
AVERAGES = ",".join(f"{name}-{which}" for name in (*MEASURED, "thread") for which in ("avg", "peak"))
RELATIVE = ",".join(f"r{name}-{which}" for name in MEASURED for which in ("avg", "peak"))
FORMATS = {
    "jobs": (None, f"csv,header,{JOBS},{AVERAGES}", f"json,{JOBS}", f"awk,{JOBS}", f"csvnamed,{AVERAGES}"),
    "load": (None, "csv,header,datetime,host,cpu,mem,res,gpu,gpumem,gpus", "json,datetime,cpu,gpus", "awk,date,cpu"),
    "uptime": (None, "csv,device,host,state,start,end", "json,host,state"),
    "profile": (None, "csv,cpu", "csv,gpumem", "json,cpu", "time,cpu,mem,gpu,gpumem,nproc,cmd"),
    "parse": (
        None,
        "csvnamed,v,time,host,cores,user,job,pid,cmd,cpu%,cpukib,gpus,gpu%,gpumem%,gpukib,gpufail,cputime_sec,rolledup",
        "csv,header,localtime,host,cmd,mem_gb,res_gb,gpumem_gb,cpu_util_pct,rolledup",
        "json,time,host,cmd,cpu_util_pct,gpus",
        "fixed,host,job,cmd,cpu_util_pct",
    ),
    "metadata": (None, "json,host,earliest,latest", "fixed,host,earliest,latest"),
}  # fmt: skip


def asked(argv: list[str], log: list[tuple[str, bytes]], place: Path, now: int, *, tree: bool) -> str:
    """Return what the program prints for a log, by its own entry."""
    root = place / "data"
    names = []
    for name, content in log:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        names.append(str(root / name))
    root.mkdir(exist_ok=True)
    out, err = io.StringIO(), io.StringIO()
    source = ["--data-path", str(root)] if tree else ["--", *names]
    before = {name: os.environ.get(name) for name in ("SONAR_NOW", "LOGNAME", "HOME")}
    os.environ |= {"SONAR_NOW": iso_text(now), "LOGNAME": "ann", "HOME": str(place)}
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main([*argv, *source])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    assert (status, err.getvalue()) == (0, ""), err.getvalue()
    return out.getvalue()


def backwards(options: Options, now: int, *, tree: bool) -> bool:
    """Whether the window that is asked for begins after its end, which is an error."""
    start = limit(options.get("from", [None])[0], now, end=False)
    end = limit(options.get("to", [None])[0], now, end=True)
    if tree:
        start, end = now - 86400 if start is None else start, now if end is None else end
    return start is not None and end is not None and start > end


def without_last_digits(text: str) -> str:
    """Return a text with its long fractions cut: the last digits of a printed sum tell in which order it was added."""
    return re.sub(r"[0-9]+\.[0-9]{7,}", lambda match: f"{float(match[0]):.9g}", text)


def typed(verb: str, options: Options) -> list[str]:
    """Return a question as a command line."""
    return [verb, *(f"--{name}={value}" if value else f"--{name}" for name in options for value in options[name])]


def question(chance: Random, verb: str, log: generate.Log) -> Options:
    """Return random options."""
    options: Options = {}
    if (fmt := chance.choice(FORMATS[verb])) is not None:
        options["fmt"] = [fmt]
    if chance.random() < 0.7:
        options["user"] = ["-"] if chance.random() < 0.7 else chance.sample(["ann", "bob"], chance.randint(1, 2))
    if chance.random() < 0.2:
        options["host"] = [chance.choice(["n1", "n*", "n2.x", "gpu-07", "login"])]
    if chance.random() < 0.2:
        options["from"] = [chance.choice(["2024-03-01", "2024-3-2", "1d", "0d"])]
    if chance.random() < 0.2:
        options["to"] = [chance.choice(["2024-03-01", "2024-3-02", "0d"])]
    for name, value in (("command", "python"), ("exclude-command", "a,b"), ("exclude-user", "bob"), ("job", "7"),
                        ("exclude-job", "8")):  # fmt: skip
        if chance.random() < 0.1:
            options[name] = [value]
    if verb == "jobs":
        flags = ["batch", "no-gpu", "some-gpu", "completed", "running", "zombie"]
        numbers = {"min-samples": "1", "numjobs": "1", "min-cpu-avg": "40", "max-cpu-peak": "200", "min-mem-peak": "1",
                   "min-gpu-avg": "1", "min-runtime": "5m"}  # fmt: skip
        options |= {name: [""] for name in flags if chance.random() < 0.12}
        options |= {name: [value] for name, value in numbers.items() if chance.random() < 0.12}
        if options.get("min-samples") is None and chance.random() < 0.5:
            options["min-samples"] = ["1"]
    elif verb == "load":
        slot = chance.choice(["", "hourly", "half-hourly", "daily", "half-daily", "weekly", "none"])
        rows = chance.choice(["", "all", "last", "compact", "compact"])
        options |= {name: [""] for name in (slot, rows) if name}
        if slot != "none" and chance.random() < 0.3:
            options["group"] = [""]
    elif verb == "uptime":
        options["interval"] = [chance.choice(["1", "4", "5", "20"])]
        options |= {name: [""] for name in [chance.choice(["only-up", "only-down", "", ""])] if name}
    elif verb == "profile":
        options["job"] = [chance.choice(["7", "8", "500"])]
        options["host"] = [chance.choice(log.hosts)]
        options.pop("exclude-job", None)
        if chance.random() < 0.2:
            options["max"] = [chance.choice(["30", "60"])]
    else:
        kinds = ["", "merge-by-job"] if verb == "metadata" else ["", "clean", "merge-by-job", "merge-by-host-and-job"]
        options |= {name: [""] for name in [chance.choice(kinds)] if name}
    return options


@pytest.mark.parametrize("verb", list(FORMATS))
@pytest.mark.parametrize("seed", range(60))
def test_every_verb_is_as_by_hand(verb: str, seed: int, tmp_path: Path) -> None:
    chance = Random(f"{verb} {seed}")
    log = generate.log(chance, exact=chance.random() < 0.5)
    tree = chance.random() < 0.4
    now = log.last + chance.choice([0, 600, 40_000])
    options = question(chance, verb, log)
    if backwards(options, now, tree=tree):
        options.pop("from", None)
        options.pop("to", None)
    argv, nodes = typed(verb, options), None
    if verb in ("jobs", "load") and chance.random() < 0.3:
        (tmp_path / "nodes.json").write_text(NODES)
        argv, nodes = [*argv, f"--config-file={tmp_path / 'nodes.json'}"], CAPACITIES
        if chance.random() < 0.6:
            relative = f"csv,job,host,{RELATIVE}" if verb == "jobs" else "csv,host,rcpu,rmem,rres,rgpu,rgpumem"
            options["fmt"] = [relative]
            argv.append(f"--fmt={relative}")
            argv = [word for word in argv if not word.startswith("--fmt") or word.endswith(relative)]
    files = log.tree if tree else log.files

    expected = answer(verb, Question(options, "ann", now, nodes), files, tree=tree)
    printed = asked(argv, files, tmp_path, now, tree=tree)

    if any(name.startswith("merge") for name in options):
        expected, printed = without_last_digits(expected), without_last_digits(printed)
    assert printed == expected, argv

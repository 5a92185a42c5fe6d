"""All verbs against the rules applied sample by sample: random logs of every format, equal to the last byte."""

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sonar import verbs
from sonar.cli.sonalyze import main
from sonar.times import iso_text
from sonar.verbs.parameters import options_of

from tests.oracle import generate
from tests.oracle.answers import Options, Question, answer, limit
from tests.oracle.jobs import NoSuchJobError

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
# What has no rows of its own: a file that is passed on, and sentences about a job, which has tests of its own.
WITHOUT_ROWS = {"report", "explain"}
COMPARED = [name for name in verbs.NAMES if name not in WITHOUT_ROWS]
# Verbs that only know what is no sample, and which files these are about.
ABOUT_FILES = {"config": "sysinfo", "node": "sysinfo", "card": "sysinfo", "sacct": "slurm", "snode": "cluzter",
               "spart": "cluzter"}  # fmt: skip
TITLES = {"a.org": (["a", "first"], "The first, and the oldest"), "b.org": ([], "b.org")}


def fields_of(verb: str) -> list[str]:
    """Return every name that a field of the verb is declared with."""
    return [one.name for field in verbs.verb(verb).fields for one in field.by_each_name()]


def relative_fields_of(verb: str) -> set[str]:
    return {one.name for field in verbs.verb(verb).fields if field.relative for one in field.by_each_name()}


def asked(argv: list[str], log: list[tuple[str, bytes]], place: Path, now: int, *, tree: bool) -> str:
    """Return what the program prints for a log, by its own entry."""
    root = place / "data"
    names = []
    for name, content in log:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        names.append(str(root / name))
    root.mkdir(exist_ok=True, parents=True)
    if not tree and not names:  # without a file, the question would be about the caller's own tree
        names = [str(root / "none.csv")]
        (root / "none.csv").touch()
    out, err = io.StringIO(), io.StringIO()
    source = ["--data-path", str(root)] if tree else ["--", *names]
    if argv[0] == "cluster":
        source = ["--jobanalyzer-dir", str(place / "many")]
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


def typed(verb: str, options: Options) -> list[str]:
    """Return a question as a command line."""
    return [verb, *(f"--{name}={value}" if value else f"--{name}" for name in options for value in options[name])]


def format_of(chance: Random, verb: str, *, relative: bool) -> str | None:
    """Return a random `--fmt`: one of every style, and most of the fields in any order."""
    if verb == "top" or (chance.random() < 0.15 and verb != "job"):
        return None
    names = [name for name in fields_of(verb) if relative or name not in relative_fields_of(verb)]
    style = chance.choice(["csv", "csv,header", "csvnamed", "json", "awk", "fixed"])
    if verb == "profile" and style not in {"fixed", "awk"}:
        style = "csv" if style != "json" else "json"
        return f"{style},{chance.choice(['cpu', 'mem', 'gpu', 'gpumem', 'res', 'rss'])}"
    return ",".join([style, *chance.sample(names, min(len(names), chance.choice([3, 12, 40])))])


def question(chance: Random, verb: str, log: generate.Log) -> Options:
    """Return random options."""
    options: Options = {}
    taken = {option.name for option in options_of(verbs.verb(verb))}
    if chance.random() < 0.7 or verb in ("sacct", "job"):
        options["user"] = ["-"] if chance.random() < 0.7 else chance.sample(["ann", "bob"], chance.randint(1, 2))
    if chance.random() < 0.2:
        options["host"] = [chance.choice(["n1", "n*", "n2.x", "gpu-07", "login"])]
    if chance.random() < 0.2 and verb != "job":
        options["from"] = [chance.choice(["2024-03-01", "2024-3-2", "1d", "0d"])]
    if chance.random() < 0.2 and verb != "job":
        options["to"] = [chance.choice(["2024-03-01", "2024-3-02", "0d"])]
    for name, value in (("command", "python"), ("exclude-command", "a,b"), ("exclude-user", "bob"), ("job", "7"),
                        ("exclude-job", "8"), ("exclude-system-jobs", "")):  # fmt: skip
        if chance.random() < 0.1:
            options[name] = [value]
    given: dict[str, dict[str, str]] = {
        "jobs": {"min-samples": "1", "numjobs": "1", "min-cpu-avg": "40", "max-cpu-peak": "200", "min-mem-peak": "1",
                 "min-res-avg": "1", "min-gpu-avg": "1", "min-runtime": "5m", "batch": "", "no-gpu": "", "some-gpu": "",
                 "completed": "", "running": "", "zombie": "", "sacct-from-sonar": "", "partition": "normal",
                 "account": "nn1", "reservation": "course", "state": "failed", "gpu-type": "a1"},
        "gpu": {"gpu": chance.choice(["0", "1"])},
        "node": {"newest": ""},
        "sacct": {"state": "completed", "account": "nn1", "partition": "normal", "min-runtime": "30m",
                  "max-runtime": "1h", "min-reserved-mem": "1", "max-reserved-mem": "16", "min-reserved-cores": "4",
                  "max-reserved-cores": "8", "all": ""},
    }  # fmt: skip
    options |= {name: [value] for name, value in given.get(verb, {}).items() if chance.random() < 0.12}
    if verb == "jobs":
        if options.get("min-samples") is None and chance.random() < 0.5:
            options["min-samples"] = ["1"]
        if "batch" not in options and chance.random() < 0.2:
            options[chance.choice(["merge-all", "merge-none"])] = [""]
    elif verb == "job":
        options["job"] = [chance.choice(["7", "8", "500"])]
        options.pop("exclude-job", None)
    elif verb == "sacct":
        options |= {name: [""] for name in [chance.choice(["", "regular", "array", "het"])] if name}
        options |= {name: [""] for name in [chance.choice(["", "", "some-gpu", "no-gpu"])] if name}
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
        options["host"] = [chance.choice([*log.hosts, "*"])]
        options.pop("exclude-job", None)
        if chance.random() < 0.2:
            options["max"] = [chance.choice(["30", "60"])]
    elif verb in ("metadata", "parse"):
        kinds = ["", "merge-by-job"] if verb == "metadata" else ["", "clean", "merge-by-job", "merge-by-host-and-job"]
        kind = chance.choice(kinds)
        options |= {name: [""] for name in [kind] if name}
        if verb == "parse" and kind and chance.random() < 0.2:
            options["last"] = ["2"]
    return {name: values for name, values in options.items() if name in taken}


def files_of(verb: str, log: generate.Log, *, tree: bool) -> list[tuple[str, bytes]]:
    """Return the files that a question is about: of a tree all, else those that the verb reads."""
    if tree:
        return [*log.tree, *log.told]
    word = ABOUT_FILES.get(verb)
    told = [(name.replace("/", "-", 2), content) for name, content in log.told if word is None or word in name]
    if word is not None:
        return told
    return log.files if verb in ("gpu", "diskprof", "nodeprof", "top", "load") else [*log.files, *told]


@pytest.mark.parametrize("verb", COMPARED)
@pytest.mark.parametrize("seed", range(60))
def test_every_verb_is_as_by_hand(verb: str, seed: int, tmp_path: Path) -> None:
    chance = Random(f"{verb} {seed}")
    log = generate.log(chance, exact=chance.random() < 0.5)
    tree = chance.random() < 0.4 or (verb in ABOUT_FILES and not files_of(verb, log, tree=False))
    now = log.last + chance.choice([0, 600, 40_000])
    options = question(chance, verb, log)
    if backwards(options, now, tree=tree):
        options.pop("from", None)
        options.pop("to", None)
    argv, nodes = typed(verb, options), None
    if verbs.verb(verb).takes_config and chance.random() < 0.3:
        (tmp_path / "nodes.json").write_text(NODES)
        argv, nodes = [*argv, f"--config-file={tmp_path / 'nodes.json'}"], CAPACITIES
    if fmt := format_of(chance, verb, relative=nodes is not None):
        options["fmt"] = [fmt]
        argv.append(f"--fmt={fmt}")
    if verb == "profile" and "csv" in (fmt or "") and chance.random() < 0.5:
        options["bucket"] = ["3"]
        argv.append("--bucket=3")
    files = files_of(verb, log, tree=tree)
    if verb == "cluster":
        make_clusters(tmp_path / "many")

    try:
        expected = answer(verb, Question(options, "ann", now, nodes, TITLES), files, tree=tree)
    except NoSuchJobError:
        return
    printed = asked(argv, files, tmp_path, now, tree=tree)

    assert printed == expected, argv


def make_clusters(root: Path) -> None:
    """Make a directory of clusters."""
    for directory in ("data/a.org", "data/b.org", "cluster-config"):
        (root / directory).mkdir(parents=True)
    aliases = [{"alias": alias, "value": name} for name, (listed, _) in TITLES.items() for alias in listed]
    (root / "cluster-config" / "cluster-aliases.json").write_text(json.dumps(aliases))
    (root / "cluster-config" / "a.org.conf").write_text(f"[Cluster]\nTitle={TITLES['a.org'][1]}\n")


@pytest.mark.parametrize("verb", COMPARED)
def test_every_field_is_known_by_hand(verb: str, tmp_path: Path) -> None:
    """Ask for all fields of a verb at once, of logs that have rows."""
    names = fields_of(verb)
    if verb == "profile":
        names = [name for name in names if name != "nproc"] + ["nproc"]
    rows = 0
    for seed in range(16):
        log = generate.log(Random(f"fields {seed}"), exact=True)
        options: Options = {"from": ["2024-02-20"], "to": ["2024-03-09"]}
        own = {"jobs": {"user": "-", "min-samples": "1"}, "job": {"job": "7"}, "uptime": {"interval": "5"},
               "profile": {"job": "7", "host": "*"}, "sacct": {"all": ""}}  # fmt: skip
        options |= {name: [value] for name, value in own.get(verb, {}).items()}
        if verb == "cluster":
            options = {}
            make_clusters(tmp_path / str(seed) / "many")
        argv, place = typed(verb, options), tmp_path / str(seed)
        if verb != "top":
            options["fmt"] = [f"{'fixed' if verb == 'profile' else 'csv'},{','.join(names)}"]
            argv = typed(verb, options)
        if verbs.verb(verb).takes_config:
            place.mkdir(exist_ok=True)
            (place / "nodes.json").write_text(NODES)
            argv.append(f"--config-file={place / 'nodes.json'}")
        nodes = CAPACITIES if verbs.verb(verb).takes_config else None
        files = files_of(verb, log, tree=True)
        try:
            expected = answer(verb, Question(options, "ann", log.last, nodes, TITLES), files, tree=True)
        except NoSuchJobError:
            continue
        assert asked(argv, files, place, log.last, tree=True) == expected, argv
        rows += len(expected.splitlines())
    assert rows > 8

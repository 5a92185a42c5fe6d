"""One history as each generation of samplers would have sent it: the answers are the same, also from a mixture."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.verbs.asking import ask, put

MIB = 1 << 10
START = 10 * 3600
STEP = 300
RUNS = 24


@dataclass(frozen=True)
class Process:
    """What a run of the sampler sees of a process, or of a group of equal ones."""

    second: int  # of the day
    job: int
    user: str
    cmd: str
    pid: int
    rolledup: int
    used_s: int
    mean_pct: int
    kib: int
    gpus: tuple[int, ...]
    gpu_pct: int


def history(seed: int) -> list[list[Process]]:
    """Return the runs: jobs of some processes, of which some end early and groups lose members."""
    chance = random.Random(seed)
    kinds = [
        (job, f"user{job % 3}", chance.choice(["py", "sim"]), 0 if group else job * 10 + at, 2 if group else 0,
         chance.randrange(8), chance.randrange(10, RUNS), ((0,), (1, 2), ())[job % 3])
        for job in range(1, 7)
        for at, group in enumerate([False, False, True])
    ]  # fmt: skip
    used = dict.fromkeys(range(len(kinds)), 0)
    runs: list[list[Process]] = []
    for run in range(RUNS):
        seen = []
        for at, (job, user, cmd, pid, rolledup, first, last, gpus) in enumerate(kinds):
            if not first <= run <= last or (job == 6 and run == 12):
                continue
            used[at] += chance.randrange(0, 2 * STEP)
            if rolledup and run == 15:
                used[at] //= 3  # members of the group have ended
            kib = chance.randrange(1, 4000) * MIB
            gpu = chance.randrange(100) if gpus else 0
            second = START + run * STEP
            seen.append(Process(second, job, user, f"{cmd}{at}", pid, rolledup, used[at], 50, kib, gpus, gpu))
        runs.append(seen)
    return runs


def clock(second: int, shift: int = 0) -> str:
    second += shift * 3600
    return f"2024-03-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def untagged(runs: list[list[Process]], width: int = 13) -> str:
    """The oldest: positions, a bit vector of cards, no process numbers."""
    lines = []
    for process in (process for run in runs for process in run):
        bits = "".join("1" if card in process.gpus else "0" for card in reversed(range(8)))
        fields = [
            f"{clock(process.second)}.25+00:00", "n1", 8, process.user, process.job, process.cmd, process.mean_pct,
            process.kib, bits, process.gpu_pct, 0, 0, process.used_s,
        ]  # fmt: skip
        lines.append(",".join(map(str, fields[:width])) + "\n")
    return "".join(lines)


def tagged(version: str, *, defaults: bool, epoch: int | None = None) -> Callable[[list[list[Process]]], str]:
    """Tagged records; later versions leave out what is zero, and the latest tell the boot."""

    def lines(runs: list[list[Process]]) -> str:
        text = ""
        for run in runs:
            if not run:
                continue
            for process in run:
                values: dict[str, object] = {
                    "job": process.job, "pid": process.pid, "cpu%": process.mean_pct, "cpukib": process.kib,
                    "gpu%": process.gpu_pct, "cputime_sec": process.used_s, "rolledup": process.rolledup,
                }  # fmt: skip
                if epoch is not None:
                    values["epoch"] = epoch
                cards = ",".join(map(str, process.gpus)) or ("none" if defaults else "")
                text += f"v={version},time={clock(process.second, 1)}+01:00,host=n1,user={process.user},"
                text += f"cmd={process.cmd}" + (f',"gpus={cards}"' if cards else "")
                text += "".join(f",{tag}={value}" for tag, value in values.items() if defaults or value) + "\n"
        return text

    return lines


def messages(epoch: int | None) -> Callable[[list[list[Process]]], str]:
    def lines(runs: list[list[Process]]) -> str:
        text = ""
        for at, run in enumerate(runs):
            jobs: dict[tuple[int, str], list[dict[str, object]]] = {}
            for process in run:
                one: dict[str, object] = {
                    "cmd": process.cmd, "pid": process.pid, "cpu_avg": process.mean_pct, "cpu_time": process.used_s,
                    "virtual_memory": process.kib, "rolledup": process.rolledup,
                }  # fmt: skip
                if process.gpus:
                    share = process.gpu_pct / len(process.gpus)
                    one["gpus"] = [{"index": card, "uuid": f"U{card}", "gpu_util": share} for card in process.gpus]
                jobs.setdefault((process.job, process.user), []).append(one)
            listed = [
                {"job": job, "user": user, "processes": processes} | ({} if epoch is None else {"epoch": epoch})
                for (job, user), processes in jobs.items()
            ]
            attributes = {"time": clock(START + at * STEP) + "Z", "node": "n1", "jobs": listed}
            data = {"type": "sample", "attributes": attributes}
            text += json.dumps({"meta": {"version": "0.18.0"}, "data": data}) + "\n"
        return text

    return lines


GENERATIONS: dict[str, tuple[str, Callable[[list[list[Process]]], str]]] = {
    "0.7": ("n1.csv", tagged("0.7.0", defaults=True)),
    "0.8": ("n1.csv", tagged("0.8.0", defaults=False)),
    "0.13": ("n1.csv", tagged("0.13.200", defaults=False, epoch=131000000)),
    "messages": ("0+sample-n1.json", messages(131000000)),
    "messages of a batch system": ("0+sample-n1.json", messages(None)),
}
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("jobs", {"user": "-", "min_samples": "1", "fmt": "csv,job,user,duration,start,end,cpu,mem,gpu,gpus,cmd,host"}),
    ("load", {"fmt": "csv,date,time,cpu,mem,gpu,gpus", "half_hourly": "true"}),
    ("uptime", {"interval": "4"}),
    ("metadata", {}),
)


def answers(tree: Path) -> list[str]:
    return [ask(verb, tree, **options) for verb, options in QUESTIONS]


@pytest.mark.parametrize("seed", range(3))
def test_each_generation_tells_the_same(seed: int, tmp_path: Path) -> None:
    runs = history(seed)
    found = {}
    for name, (file, form) in GENERATIONS.items():
        put(tmp_path / name, file, form(runs))
        found[name] = answers(tmp_path / name)

    # Untagged records are not among these: their process number is the job's.
    assert len(found["0.7"][0].splitlines()) == 6
    for name, answer in found.items():
        assert answer == found["0.7"], name


@pytest.mark.parametrize("seed", range(3))
def test_a_sampler_that_is_replaced_in_the_course_of_the_day_changes_nothing(seed: int, tmp_path: Path) -> None:
    runs = history(seed)
    put(tmp_path / "one", "n1.csv", tagged("0.8.0", defaults=False)(runs))
    for at, part in ((0, runs[:7]), (1, runs[7:])):
        version = ("0.7.0", "0.8.0")[at]
        put(tmp_path / "two", "n1.csv", tagged(version, defaults=not at)(part))

    assert answers(tmp_path / "two") == answers(tmp_path / "one")


@pytest.mark.parametrize("seed", range(3))
def test_what_two_formats_tell_of_a_run_counts_once(seed: int, tmp_path: Path) -> None:
    runs = history(seed)
    whole = messages(131000000)(runs)
    put(tmp_path / "one", "0+sample-n1.json", whole)
    put(tmp_path / "both", "0+sample-n1.json", whole)
    put(tmp_path / "both", "n1.csv", tagged("0.13.200", defaults=False, epoch=131000000)(runs))
    put(tmp_path / "parts", "0+sample-n1.json", "".join(whole.splitlines(keepends=True)[:10]))
    put(tmp_path / "parts", "n1.csv", tagged("0.13.200", defaults=False, epoch=131000000)(runs[5:]))

    expected = answers(tmp_path / "one")

    assert answers(tmp_path / "both") == expected
    assert answers(tmp_path / "parts") == expected


def test_untagged_records_stand_beside_tagged_ones(tmp_path: Path) -> None:
    runs = [[process for process in run if process.pid and process.pid % 10 == 0] for run in history(1)]
    as_number = [[replace(process, pid=process.job) for process in run] for run in runs]
    put(tmp_path / "tagged", "n1.csv", tagged("0.7.0", defaults=True)(as_number))
    put(tmp_path / "mixed", "n1.csv", untagged(runs[:9]), tagged("0.7.0", defaults=True)(as_number[9:]))

    assert answers(tmp_path / "mixed") == answers(tmp_path / "tagged")


def test_untagged_records_of_the_first_width_have_no_cards_and_no_cpu_time(tmp_path: Path) -> None:
    put(tmp_path, "n1.csv", untagged(history(1), 8))

    answer = ask("jobs", tmp_path, user="-", fmt="csv,cpu-peak,gpus")

    assert {line.split(",")[1] for line in answer.splitlines()} == {"none"}
    assert all(float(line.split(",")[0]) % 50 == 0 for line in answer.splitlines())  # sums of means

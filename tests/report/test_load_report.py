"""naicreport load on the generated history: members, down time, groups, and files that appear whole."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sonar.demo.history import NODES, write_config, write_history

NAICREPORT = Path(__file__).resolve().parents[2] / "libexec" / "naicreport"
NOW = 1_770_000_000  # 2026-02-02 02:40 UTC
HOSTS = [machine.name for machine in NODES]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("history")
    write_history(root / "data", now=NOW)
    write_config(root / "config.json")
    return root


def naicreport(history: Path, *argv: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, NAICREPORT, "load", "--config-file", history / "config.json", *argv],
        env=os.environ | {"SONAR_NOW": "2026-02-02T02:40:00Z"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def report(directory: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / name).read_text())
    return content


def test_each_host_has_a_file_with_the_members_readers_know(history: Path, tmp_path: Path) -> None:
    naicreport(history, "--data-dir", str(history / "data"), "--report-dir", str(tmp_path), "--tag", "daily")

    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{host}-daily.json" for host in HOSTS]
    content = report(tmp_path, f"{HOSTS[0]}-daily.json")
    assert list(content) == [
        "date", "hostname", "tag", "bucketing", "labels", "rcpu", "rmem", "rgpu", "rgpumem", "system"
    ]  # fmt: skip
    assert (content["date"], content["bucketing"]) == ("2026-02-02 02:40", "hourly")
    assert content["labels"][0] == "2026-02-01 02:00"
    assert content["labels"][-1] == "2026-02-02 02:00"
    assert {len(content[name]) for name in ("labels", "rcpu", "rmem", "rgpu", "rgpumem")} == {25}
    assert max(content["rcpu"]) > 0
    assert content["system"]["description"].endswith("A100 @ 40GiB")


def test_down_time_is_that_of_the_host_itself(history: Path, tmp_path: Path) -> None:
    naicreport(
        history, "--data-dir", str(history / "data"), "--report-dir", str(tmp_path),
        "--tag", "w", "--from", "7d", "--with-downtime", "--interval", "5",
    )  # fmt: skip

    down = {host: report(tmp_path, f"{host}-w.json") for host in HOSTS}
    # gpu-1 was down from 5.3 to 4.9 days ago: 9.6 hours, which touch 10 or 11 hourly buckets.
    assert sum(down[HOSTS[0]]["downhost"]) in {10, 11}
    marked = [
        label for label, is_down in zip(down[HOSTS[0]]["labels"], down[HOSTS[0]]["downhost"], strict=True) if is_down
    ]
    assert marked[0][:10] == "2026-01-27"
    assert sum(down[HOSTS[1]]["downhost"]) == 0
    assert sum(down[HOSTS[2]]["downgpu"]) == 0


def test_a_group_is_one_file(history: Path, tmp_path: Path) -> None:
    naicreport(
        history, "--data-dir", str(history / "data"), "--report-dir", str(tmp_path), "--tag", "both", "--daily",
        "--from", "3d", "--group", "gpu-[1-2]",
    )  # fmt: skip

    content = report(tmp_path, "both.json")
    assert [path.name for path in tmp_path.iterdir()] == ["both.json"]
    assert content["hostname"] == "gpu-[1-2].demo.example.org"
    assert content["system"]["description"].count("|||") == 1


def test_the_same_moment_gives_the_same_bytes_and_leaves_nothing_else(history: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        naicreport(history, "--data-dir", str(history / "data"), "--report-dir", str(directory), "--none")

    assert {path.name for path in first.iterdir()} == {f"{host}.json" for host in HOSTS}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_host_that_nobody_described_does_not_stop_the_others(history: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.csv"
    log.write_text(
        "".join(
            f"v=0.12.1,time=2026-02-02T0{hour}:00:00Z,host={host},user=u,cmd=c,job=1,pid=1,cputime_sec={hour},cpu%=1\n"
            for host in ("stranger", HOSTS[1])
            for hour in (1, 2)
        )
    )
    out = tmp_path / "out"
    out.mkdir()

    stderr = naicreport(history, "--report-dir", str(out), "--", str(log))

    assert "stranger" in stderr
    assert [path.name for path in out.iterdir()] == [f"{HOSTS[1]}.json"]


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["--data-dir", "x", "--", "y"], "--data-dir"),
        ([], "--data-dir"),
        (["--data-dir", "x", "--group", "a", "--none"], "--none"),
        (["--data-dir", "x", "--tag", "../x"], "--tag"),
        (["--data-dir", "x", "--now", "noon"], "--now"),
        (["--data-dir", "x", "--from", "3y"], "--from"),
        (["--daytime"], "--daytime"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_line(history: Path, argv: list[str], culprit: str) -> None:
    stderr = naicreport(history, *argv, status=2)

    assert culprit in stderr
    assert len(stderr.splitlines()) == 1


def test_what_cannot_be_read_or_written_is_named(history: Path, tmp_path: Path) -> None:
    assert "nowhere" in naicreport(history, "--data-dir", str(tmp_path / "nowhere"), status=1)
    assert "absent" in naicreport(history, "--data-dir", "x", "--report-dir", str(tmp_path / "absent"), status=1)

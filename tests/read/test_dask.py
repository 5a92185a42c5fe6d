"""A Dask cluster of a real scheduler and two workers: the same bytes, also when a worker is killed at its work."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import pytest

from sonar.columns.refresh import days_of, refresh
from sonar.errors import SonarError
from sonar.read.scan import Pieces, Scan
from sonar.read.workers import dask_workers
from sonar.times import date_limit

from tests.oracle.generate import log

TOP = Path(__file__).resolve().parents[2]
DASK = [sys.executable, "-m", "dask"]
WINDOW = ("--from", "2024-02-28", "--to", "2024-03-05")
QUESTIONS = (
    ("jobs", "-u-", "--min-samples=1", "--fmt=csvnamed,All"),
    ("jobs", "-u-", "--batch"),
    ("load", "--hourly", "--fmt=csv,datetime,cpu,mem,res,gpu,host"),
    ("load", "--none"),
    ("uptime", "--interval", "3"),
    ("parse", "--clean", "--fmt=csvnamed,all"),
    ("metadata",),
)


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where its scheduler is, and what its processes are."""

    address: str
    workers: list["subprocess.Popen[bytes]"]


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Run a scheduler and two workers."""
    file = directory / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": str(TOP), "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "0"}
    listen = ["--host", "tcp://127.0.0.1", "--no-dashboard"]
    started = [
        subprocess.Popen(
            [*DASK, "scheduler", *listen, "--port", "0", "--scheduler-file", file],
            env=environment, cwd=directory, stderr=subprocess.DEVNULL,
        )
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        worker = [*DASK, "worker", address, *listen, "--no-nanny", "--nthreads", "2", "--local-directory", directory]
        started += [
            subprocess.Popen(worker, env=environment, cwd=directory, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        yield Cluster(address, started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as running:
        yield running


def tree(root: Path, seed: int) -> Path:
    made = log(Random(seed))
    for name, content in made.tree:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def sonalyze(*argv: str | Path) -> bytes:
    done = subprocess.run(
        [sys.executable, TOP / "libexec" / "sonalyze", *argv, "--local"],
        env=os.environ | {"SONAR_NOW": "2024-03-08T00:00:00Z"}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_same_bytes_as_here(cluster: Cluster, tmp_path: Path) -> None:
    root = tree(tmp_path / "data", 7)
    sizes = []
    for with_columns in (False, True):
        if with_columns:
            days = [day for day in days_of(root, date.min, date.max) if day.files]
            assert refresh(days[1:], 1, lambda _day, _size: None) == []
        for question in QUESTIONS:
            asked = (*question, *WINDOW, "--data-path", root, "--no-rollup")
            here = sonalyze(*asked)
            assert sonalyze(*asked, "--scheduler", cluster.address) == here, question
            sizes.append(len(here))
    assert sum(sizes) > 5000


def rows(host: str, pieces: Pieces) -> list[int]:
    """Count the rows of a host, slowly."""
    time.sleep(0.2)
    return [len(host), *map(len, pieces)]


def test_a_lost_worker_costs_time_only(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "data" / "2024" / "03" / "01"
    root.mkdir(parents=True)
    for number in range(40):
        line = f"v=0.9.0,time=2024-03-01T10:00:00Z,host=n{number},user=ann,cmd=py,job=1,pid=7\n"
        (root / f"n{number}.csv").write_text(line * (number + 1))
    now = 1_709_900_000
    window = (date_limit("2024-03-01", now, end=False), date_limit("2024-03-01", now, end=True))
    scan = Scan.of_tree(tmp_path / "data", *window)
    expected = scan.map(rows)

    with dask_workers(cluster.address) as executor:
        scan.executor = executor
        killed = []

        def kill_when_half_done() -> None:
            time.sleep(1.5)
            cluster.workers[0].kill()
            killed.append(cluster.workers[0].wait())

        from threading import Thread

        killer = Thread(target=kill_when_half_done)
        killer.start()
        found = scan.map(rows)
        killer.join()

    assert killed == [-9]
    assert found == expected
    assert len(found) == 40


def test_no_scheduler_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonar.read.workers._CONNECT_S", 1)

    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(SonarError, match="No Dask scheduler at"), dask_workers(address):
            pass

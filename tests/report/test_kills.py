"""Report jobs that are killed, at each step and at random: the next run completes; nothing is lost or told twice."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sonar.config.clusters import Clusters
from sonar.report.jobstate import read_state
from sonar.report.letters import LetterRules
from sonar.report.publish import sweep
from sonar.report.rhythms import run_rhythm
from sonar.report.site import Site
from sonar.times import iso_text

from tests.report import month as planted

REPORT = Path(__file__).resolve().parents[2] / "libexec" / "report"
NOW = planted.at(9)
POLICIES = ("cpuhog", "deadweight", "gpu-idle")


class _KilledError(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with the first nine days of the month and what scans found in them."""
    root = tmp_path_factory.mktemp("kills")
    whole = planted.month()
    whole.jobs = [job for job in whole.jobs if job.start < NOW]
    planted.write_month(root / "data" / planted.CLUSTER, whole)
    planted.write_description(root / "clusters")
    for day in (4, 6, 8):
        run_rhythm(site(root, root, planted.at(day)), "scan")
    return root


def site(tree: Path, own: Path, now: int = NOW) -> Site:
    clusters = Clusters(tree / "data", tree / "clusters")
    return Site(
        cluster=clusters.describe(clusters.find(planted.CLUSTER)),
        data=tree / "data" / planted.CLUSTER,
        reports=own / "reports" / planted.CLUSTER,
        state=own / "state" / planted.CLUSTER,
        outbox=own / "outbox",
        now=now,
    )


def copied(tree: Path, own: Path) -> None:
    """Give a directory of its own the log of scans."""
    subprocess.run(["cp", "-r", tree / "state", own], check=True)


def told(own: Path) -> Counter[tuple[str, str]]:
    """Return who the mails in the outbox tell of, with how often."""
    text = "".join(path.read_text() for path in (own / "outbox").glob("*-notice-*.eml"))
    return Counter(re.findall(r'on host "(\S+)":\n  Job#: (\d+)\n', text))


def letters(own: Path) -> Counter[str]:
    return Counter(re.findall(r"^To: (\S+)", path.read_text(), re.M)[0] for path in (own / "outbox").glob("*-letter-*"))


def test_killed_at_each_step_of_telling(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, steps = None, 0
    for number in range(1000):
        own = tmp_path / str(number)
        own.mkdir()
        copied(tree, own)
        left = [number]

        def counted(done: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def step(*args: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise _KilledError
                return done(*args, **more)

            return step

        if number:
            with monkeypatch.context() as patched:
                for name in ("replace", "unlink"):
                    patched.setattr(Path, name, counted(getattr(Path, name)))
                patched.setattr("os.fsync", counted(os.fsync))
                try:
                    run_rhythm(site(tree, own), "notices")
                except _KilledError:
                    steps += 1
                else:
                    break
        run_rhythm(site(tree, own), "notices")
        run_rhythm(site(tree, own), "notices")
        got = told(own), letters(own)
        expected = expected or got
        assert got == expected, f"killed at step {number}"
        assert set(got[0].values()) == {1}
        assert set(got[1].values()) == {1}
        for path in (own / "state" / planted.CLUSTER).glob("*-state.csv"):
            assert all(job.is_reported for job in read_state(path).jobs), f"killed at step {number}"
    assert expected is not None
    assert len(expected[0]) == 3
    assert steps > 40


@pytest.mark.parametrize(
    ("rules", "letters_sent"),
    [
        (LetterRules(), 1),
        (LetterRules(most_a_day=0), 0),
        (LetterRules(days=(1, 2, 3, 4)), 0),  # now is a Monday
        (LetterRules(quiet_dates=("03-09",)), 0),
        (LetterRules(quiet_dates=("2025-03-09",)), 1),
    ],
)
def test_letters_keep_to_their_rules(tree: Path, tmp_path: Path, rules: LetterRules, letters_sent: int) -> None:
    copied(tree, tmp_path)

    outcome = run_rhythm(replace(site(tree, tmp_path), letter_rules=rules), "notices", dry_run=True)

    assert sum(message.kind == "letter" for message in outcome.messages) == letters_sent


@pytest.mark.parametrize("rhythm", ["scan", "notices", "live", "hourly", "daily", "weekly", "monthly"])
def test_killed_at_random(tree: Path, tmp_path: Path, rhythm: str) -> None:
    copied(tree, tmp_path)
    command = [
        sys.executable, str(REPORT), rhythm, "--cluster", planted.CLUSTER, "--now", iso_text(NOW),
        "--data-dir", str(tree / "data"), "--cluster-dir", str(tree / "clusters"),
        "--report-dir", str(tmp_path / "reports"), "--state-dir", str(tmp_path / "state"),
        "--outbox-dir", str(tmp_path / "outbox"),
    ]  # fmt: skip
    begun = time.monotonic()
    whole = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=120, check=False)
    assert whole.returncode == 0, whole.stderr
    length = time.monotonic() - begun
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.2, 1.0) * length)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        for path in (tmp_path / "reports").rglob("[!.]*.json"):
            json.loads(path.read_text())  # no reader ever sees half a file
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    if rhythm not in {"scan", "notices"}:
        files = [path for path in (tmp_path / "reports").rglob("[!.]*") if path.is_file()]
        assert files
        provenances = {path.name for path in files if "provenance" in path.parts}
        published = {f"{path.name}.json" for path in files if "provenance" not in path.parts}
        assert published == provenances
    mails = Counter(path.name.split("-", 1)[1] for path in (tmp_path / "outbox").glob("*.eml"))
    assert set(mails.values()) <= {1}
    if rhythm == "notices":
        assert set(told(tmp_path).values()) == {1}
        assert len(told(tmp_path)) == 3
    if rhythm == "scan":
        for path in (tmp_path / "state").rglob("2026/03/09/*.csv"):
            lines = path.read_text().splitlines()
            assert len(lines) == len(set(lines))
            assert lines[-1].endswith("scan=done")


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".load.json.123", ".load.json.124", ".daily.lock"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))

    sweep(tmp_path)

    assert not old.exists()
    assert new.exists()
    assert other.exists()

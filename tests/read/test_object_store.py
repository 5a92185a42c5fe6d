"""A log tree in an object store: the same bytes as from a directory; what goes wrong with the store is told."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from io import StringIO
from pathlib import Path
from random import Random

import pytest

from sonar import verbs
from sonar.columns.refresh import State, days_of, refresh
from sonar.errors import SonarError, UsageError
from sonar.places import ObjectPath, place_of, publishing, text_of
from sonar.read.scan import Scan, whole
from sonar.render.formats import write_result
from sonar.verbs.parameters import query_of

from tests.object_store import CREDENTIALS, ObjectStore, object_store
from tests.oracle.generate import log
from tests.web.conftest import running

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"
NOW = 1_709_900_000
WINDOW = {"from": ["2024-02-28"], "to": ["2024-03-05"]}
QUESTIONS: list[tuple[str, dict[str, list[str]]]] = [
    ("jobs", {"user": ["-"], "min-samples": ["1"], "fmt": ["csvnamed,All"]}),
    ("load", {"hourly": ["true"], "fmt": ["csv,datetime,cpu,mem,res,gpu,gpumem,gpus,host"]}),
    ("uptime", {"interval": ["3"]}),
    ("parse", {"clean": ["true"], "fmt": ["csvnamed,all"]}),
    ("metadata", {}),
    ("node", {}),
    ("sacct", {"all": ["true"]}),
]
LINE = "v=0.9.0,time=2024-03-01T10:{:02}:00Z,host=n1,user=ann,cmd=py,job=1,pid=7,cputime_sec={}\n"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch, object_store() as started:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        started.make_bucket("bucket")
        yield started


def answers(root: Path) -> list[str]:
    return [answer(root, name, options)[0] for name, options in QUESTIONS]


def answer(root: Path, name: str, options: dict[str, list[str]]) -> tuple[str, str]:
    """Return what a verb answers, and the way that was taken."""
    verb = verbs.verb(name)
    query, fmt = query_of(verb, options | WINDOW, data=root, now=NOW)
    out = StringIO()
    write_result(verb, verb.answer(query), fmt, out)
    return out.getvalue(), query.scan.way


def columnize(root: Path) -> None:
    days = [day for day in days_of(root, date.min, date.max) if day.files and day.needs_work]
    assert refresh(days, 1, lambda _day, _size: None) == []
    assert {day.state for day in days_of(root, date.min, date.max)} <= {State.FRESH}


@pytest.mark.parametrize("seed", [5, 11])
def test_same_bytes_as_from_a_directory(store: ObjectStore, tmp_path: Path, seed: int) -> None:
    made = log(Random(seed))
    files = [*made.tree, *made.told]
    place = place_of(store.uri(f"bucket/same/{seed}/x.org"))
    for name, content in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    store.copy(tmp_path, f"bucket/same/{seed}/x.org")
    assert answers(place) == answers(tmp_path)

    columnize(place)  # by which they come from columns and roll-ups
    columnize(tmp_path)
    expected = answers(tmp_path)
    assert sum(map(len, expected)) > 500
    assert answers(place) == expected

    for name, content in files:  # what has grown since
        (tmp_path / name).write_bytes(content)
    store.copy(tmp_path, f"bucket/same/{seed}/x.org")
    assert answers(place) == answers(tmp_path)


def test_roll_ups_and_columns_are_used(store: ObjectStore, tmp_path: Path) -> None:
    day = tmp_path / "2024" / "03" / "01"
    day.mkdir(parents=True)
    (day / "n1.csv").write_text(LINE.format(0, 0) + LINE.format(5, 300))
    columnize(tmp_path)
    store.copy(tmp_path, "bucket/used")
    place = place_of(store.uri("bucket/used"))
    jobs = ("jobs", {"user": ["-"], "min-samples": ["1"]})

    samples = ("parse", {"clean": ["true"], "fmt": ["csv,time"]})

    # Columns that were copied beside their log count; its time is another one, but its ends are the same.
    assert answer(place, *samples) == answer(tmp_path, *samples)
    assert answer(place, *samples)[1] == "columns of 1 days of hosts, 0 files of the log"
    columnize(place)
    assert answer(place, *jobs)[1] == "roll-ups of 1 days of hosts, samples of 0"

    store.copy(tmp_path, "bucket/rewritten")
    store.put("bucket/rewritten/2024/03/01/n1.csv", (LINE.format(5, 0) + LINE.format(9, 300)).encode())  # as long
    text, way = answer(place_of(store.uri("bucket/rewritten")), *samples)
    assert way == "columns of 0 days of hosts, 1 files of the log"
    assert "10:09" in text


def sonalyze(*argv: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, LIBEXEC / "sonalyze", *argv],
        env=os.environ | {"SONAR_NOW": "2024-03-08T12:00:00Z"} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_by_commands_and_the_server(store: ObjectStore, tmp_path: Path) -> None:
    for number in range(30):
        path = tmp_path / "data" / "x.org" / "2024" / "03" / f"{1 + number % 3:02}" / f"n{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = LINE.format(0, 0) + LINE.format(5, 300 + number)
        path.write_text(lines.replace("n1", f"n{number}").replace("03-01", f"03-{1 + number % 3:02}"))
    store.copy(tmp_path / "data", "bucket/commands")
    local, there = tmp_path / "data" / "x.org", store.uri("bucket/commands/x.org")
    fields = "csvnamed,jobm,job,user,start,end,duration/sec,cpu-avg,cpu-peak,cputime/sec,host,samples"
    question = ("jobs", "-u-", "--from=2024-03-01", "--to=2024-03-03", f"--fmt={fields}")
    expected = sonalyze(*question, "--local", "--data-path", local).stdout
    assert expected.count("\n") == 30

    config = tmp_path / "sonar.conf"
    config.write_text(f"[Paths]\nData={store.uri('bucket/commands')}\nClusters={tmp_path}\n")
    made = subprocess.run(
        [sys.executable, LIBEXEC / "columnize", "--jobs", "2"], env=os.environ | {"SONAR_CONFIG": str(config)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "3 of 3 days" in made.stderr
    for more in ([], ["--no-rollup", "--jobs=2"], ["--no-columns"]):
        assert sonalyze(*question, *more, "--data-path", there).stdout == expected
    assert sonalyze(*question, SONAR_ROOT=there).stdout == expected

    with running(tmp_path, ["--data", store.uri("bucket/commands"), "--allow-anonymous"], tls=False) as server:
        asked = {"cluster": "x.org", "from": "2024-03-01", "to": "2024-03-03", "user": "-", "fmt": fields}
        for _ in range(2):
            assert server.ask("jobs", login=None, **asked).data.decode() == expected
        assert "x.org" in server.get("/", login=None, headers={"Accept": "text/html"}).data.decode()


def refused(place: str, **environment: str) -> str:
    """Return what sonalyze says about a place that it cannot read."""
    done = sonalyze("jobs", "-u-", "--from=2024-03-01", "--to=2024-03-03", "--data-path", place, **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_what_is_wrong_is_told_with_the_place(store: ObjectStore, tmp_path: Path) -> None:
    assert "bucket does not exist (NO_SUCH_BUCKET): 's3://nonesuch/tree'" in refused(store.uri("nonesuch/tree"))
    assert "Not a viable log directory: s3://bucket/nothing" in refused(store.uri("bucket/nothing"))
    assert "'s3://bucket'" in refused("s3://bucket/tree?no_such_option=1")
    with object_store({"INITIAL_NO_AUTH_ACTION_COUNT": "1"}) as strict:
        strict.make_bucket("bucket")
        assert "(INVALID_ACCESS_KEY_ID): 's3://bucket/tree'" in refused(strict.uri("bucket/tree"))

    upload: list[str | Path] = [
        sys.executable,
        LIBEXEC / "infiltrate",
        "--data",
        store.uri("bucket/x"),
        "--allow-anonymous",
    ]
    done = subprocess.run(upload, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "a directory of this machine" in done.stderr


def test_a_server_that_goes_away_is_no_empty_log(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, object_store() as store:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store.make_bucket("bucket")
        store.put("bucket/2024/03/01/n1.csv", LINE.format(0, 0).encode())
        place = place_of(store.uri("bucket"))
        columnize(place)
        scan = Scan.of_tree(place, NOW - 10 * 86400, NOW)
        store.process.kill()
        store.process.wait()

        with pytest.raises(SonarError, match="'s3://bucket/2024/03/01"):
            scan.map(whole)


def test_what_is_not_finished_is_not_there(store: ObjectStore) -> None:
    place = place_of(store.uri("bucket/published")) / "file"
    with publishing(place) as scratch:
        scratch.write_bytes(b"first")
    with suppress(RuntimeError), publishing(place) as scratch:
        scratch.write_bytes(b"second")
        raise RuntimeError

    assert place.read_bytes() == b"first"


def test_a_place_is_what_was_typed() -> None:
    text = "s3://bucket/a b/c?endpoint_override=https:%2F%2Fs3.example.org&region=x"
    place = place_of(text)

    assert isinstance(place, ObjectPath)
    assert place_of(text_of(place / "2024")) == place / "2024"
    assert str(place / "2024") == "s3://bucket/a b/c/2024"
    assert (place / "x.csv").name == "x.csv"
    assert type(place_of("/data/x")) is type(Path("/data/x"))
    with pytest.raises(SonarError, match="Needs a directory of this machine, not an object store: 's3://bucket/a b/c'"):
        os.scandir(place)
    for bad in ("s3://key:secret@bucket/x", "s3://bucket/x?secret_key=y", "s3:///x"):
        with pytest.raises(UsageError) as refusal:
            place_of(bad)
        assert "secret" not in str(refusal.value)

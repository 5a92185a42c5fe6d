"""verify: what it finds in a store, what it does about it, and that no byte is ever lost."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.audit.verify import Action, Summary, verify_cluster
from sonar.demo.history import write_history

from tests.ingest.conftest import Starter
from tests.waiting import until

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "verify"
CSV = b"v=0.7.0,time=2026-03-02T10:15:01+01:00,host=c1,user=ada,cmd=python,cpukib=5\n"
ENVELOPE = (
    b'{"meta":{"version":"0.18.0"},"data":{"type":"sample","attributes":'
    b'{"time":"2026-03-02T09:15:00Z","node":"c1","jobs":[]}}}\n'
)
ERRORS = b'{"meta":{},"errors":[{"detail":"x","time":"2026-03-02T09:15:00Z"}]}\n'
SYSINFO = b'{\n "timestamp": "2026-03-02T09:15:00Z",\n "hostname": "c1",\n "cpu_cores": 4\n}\n'
SACCT = b"v=0.1.0,JobID=7,JobIDRaw=7,User=ada,End=2026-03-02T09:15:00Z,State=COMPLETED\n"
ARRIVAL = b'{"at":"2026-03-02T09:15:20Z","host":"c1","endpoint":"insert/sample","status":200,"records":1,"late":20}\n'


@pytest.fixture
def day(tmp_path: Path) -> Path:
    directory = tmp_path / "fox" / "2026" / "03" / "02"
    directory.mkdir(parents=True)
    return directory


def write(path: Path, content: bytes, *, age_s: float = 3600) -> Path:
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def check(day: Path, *, repair: bool = True) -> Summary:
    return verify_cluster(day.parents[2], repair=repair)


def found(summary: Summary) -> list[tuple[str, str, int, int, Action]]:
    return [(one.path.name, one.kind, one.offset, one.size, one.action) for one in summary.findings]


def test_whole_store_is_left_as_it_is(day: Path) -> None:
    good = {
        "c1.csv": CSV * 3 + b"\n" + CSV.replace(b"cmd=python", b'"cmd=py,thon"'), "0+sample-c1.json": ENVELOPE * 2,
        "0+errors-c1.json": ERRORS, "0+sysinfo-c1.json": ENVELOPE + ERRORS, "0+job-slurm.json": ENVELOPE,
        "0+cluzter-slurm.json": ENVELOPE, "sysinfo-c1.json": SYSINFO * 2 + ENVELOPE, "slurm-sacct.csv": SACCT,
        "0+arrivals.jsonl": ARRIVAL, "old.csv": b"2022-06-01T00:00:00+00:00,c1,4,ada,1,python,1,1\n",
        "0+sample-c2.json": json.dumps(json.loads(ENVELOPE), indent=1).encode() + b"\n",
        "0+sample-c3.json": ENVELOPE.rstrip(),
    }  # fmt: skip
    for name, content in good.items():
        write(day / name, content)
    for name in ("cpuhog.csv", "README"):
        write(day / name, b"whatever")

    summary = check(day)

    assert summary.findings == []
    assert (summary.files, summary.bytes, summary.ignored) == (len(good), sum(map(len, good.values())), 2)
    assert {path.name: path.read_bytes() for path in day.iterdir() if path.name in good} == good
    assert not list(day.glob("*.bad"))


@pytest.mark.parametrize(
    ("name", "good", "bad", "reason"),
    [
        ("c1.csv", CSV, b"v=0.7.0,time=2026-03-02T10:15:01+01:00,host=c1,cmd=x\n", "missing-user"),
        ("c1.csv", CSV, b"v=0.7.0,time=noon,host=c1,user=ada,cmd=x\n", "bad-time"),
        ("c1.csv", CSV, CSV.replace(b"cpukib=5", b"cpukib=5x"), "bad-cpukib"),
        ("c1.csv", CSV, CSV.replace(b"ada", b"\xff"), "bad-utf8"),
        ("c1.csv", CSV, b"garbage\n", "missing-v"),
        ("0+sample-c1.json", ENVELOPE, ENVELOPE[:40] + b"\n", "bad-json"),
        ("0+sample-c1.json", ENVELOPE, b"[]\n", "no-envelope"),
        ("0+sample-c1.json", ENVELOPE, b'{"data":{}}\n', "no-envelope"),
        ("0+sample-c1.json", ENVELOPE, ENVELOPE.replace(b"09:15:00Z", b"09:15"), "bad-time"),
        ("0+sample-c1.json", ENVELOPE, ENVELOPE.replace(b"[]", b"NaN"), "bad-json"),
        ("0+job-slurm.json", ENVELOPE, ENVELOPE.replace(b'"c1"', b'"\xff"'), "bad-utf8"),
        ("0+sysinfo-c1.json", ENVELOPE, b'{"data":{},"errors":[]}\n', "both-data-and-errors"),
        ("sysinfo-c1.json", SYSINFO, b'{"hostname":"c1"}\n', "bad-timestamp"),
        ("sysinfo-c1.json", SYSINFO, SYSINFO[:30] + b"\n", "bad-json"),
        ("slurm-sacct.csv", SACCT, b"v=0.1.0,JobID=7\n", "bad-End"),
        ("0+arrivals.jsonl", ARRIVAL, b'{"host":"c1"}\n', "bad-at"),
    ],
)
def test_bad_record_is_copied_and_then_known(day: Path, name: str, good: bytes, bad: bytes, reason: str) -> None:
    path = write(day / name, good + bad + good)

    summary = check(day)

    assert found(summary) == [(name, "bad", len(good), len(bad), Action.COPIED)]
    assert summary.findings[0].reason == reason
    assert path.read_bytes() == good + bad + good
    assert (day / f"{name}.bad").read_bytes() == bad

    again = check(day)
    assert found(again) == [(name, "bad", len(good), len(bad), Action.KNOWN)]
    assert not again.findings[0].is_damage
    assert (day / f"{name}.bad").read_bytes() == bad


@pytest.mark.parametrize(
    ("name", "good", "torn"),
    [
        ("c1.csv", CSV, CSV[:-1]),
        ("c1.csv", CSV, CSV[:10]),
        ("c1.csv", b"", CSV[:10]),
        ("0+sample-c1.json", ENVELOPE, ENVELOPE[:-2]),
        ("0+sample-c1.json", ENVELOPE * 2, b"{"),
        ("sysinfo-c1.json", SYSINFO, SYSINFO[:-3]),
        ("0+arrivals.jsonl", ARRIVAL, ARRIVAL[:20]),
    ],
)
def test_torn_end_is_moved(day: Path, name: str, good: bytes, torn: bytes) -> None:
    path = write(day / name, good + torn)

    assert found(check(day, repair=False)) == [(name, "torn", len(good), len(torn), Action.LEFT)]
    assert path.read_bytes() == good + torn
    assert found(check(day)) == [(name, "torn", len(good), len(torn), Action.CUT)]
    assert path.read_bytes() == good
    assert (day / f"{name}.bad").read_bytes() == torn + b"\n"
    assert check(day).findings == []


def test_file_that_was_just_written_is_left_for_the_next_time(day: Path) -> None:
    path = write(day / "c1.csv", CSV + CSV[:9], age_s=5)
    assert found(check(day)) == [("c1.csv", "torn", len(CSV), 9, Action.LEFT)]
    assert path.read_bytes() == CSV + CSV[:9]


def test_file_that_somebody_has_open_is_left(day: Path) -> None:
    path = write(day / "c1.csv", CSV + CSV[:9])
    with path.open("ab"):
        assert found(check(day)) == [("c1.csv", "torn", len(CSV), 9, Action.LEFT)]
        assert path.read_bytes() == CSV + CSV[:9]
    assert found(check(day)) == [("c1.csv", "torn", len(CSV), 9, Action.CUT)]


def test_end_that_was_copied_before_a_crash_is_not_copied_twice(day: Path) -> None:
    path = write(day / "c1.csv", CSV + CSV[:9])
    (day / "c1.csv.bad").write_bytes(CSV[:9] + b"\n")
    assert found(check(day)) == [("c1.csv", "torn", len(CSV), 9, Action.CUT)]
    assert path.read_bytes() == CSV
    assert (day / "c1.csv.bad").read_bytes() == CSV[:9] + b"\n"


def test_writers_beside_it_lose_nothing(day: Path) -> None:
    """Others append whole lines, as the server does, with a torn end now and then; every line is kept somewhere.

    Most torn ends are continued at once; one in ten is left alone until a whole round has passed over it, as after a
    crash, so that it is certain to be cut.
    """
    path = write(day / "c1.csv", b"")
    stop = threading.Event()
    written: list[bytes] = []
    rounds = 0

    def append() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            line = CSV.replace(b"cmd=python", b"cmd=p%d" % number)
            line = line[:-3] if number % 5 == 0 else line
            with path.open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - 1, 0))
                repair = b"" if file.read(1) in {b"\n", b""} else b"\n"
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, repair + line)
            os.close(descriptor)
            written.append(line.rstrip(b"\n"))
            whole_round = rounds + 2 if number % 50 == 5 else rounds
            while rounds < whole_round and not stop.is_set():
                time.sleep(0.0005)
            time.sleep(0.0005)

    # A program in C is needed for a writer to be interrupted within a write; here the threads take turns between calls.
    writer = threading.Thread(target=append)
    writer.start()
    cut = 0
    try:
        while rounds < 150 or not cut:
            rounds += 1
            summary = verify_cluster(day.parents[2], repair=True, clock=lambda: time.time() + 10_000)
            cut += summary.count("torn") - sum(one.action is Action.LEFT for one in summary.findings)
            time.sleep(0.001)
    finally:
        stop.set()
        writer.join()
    assert cut > 0
    kept = path.read_bytes().split(b"\n") + (day / "c1.csv.bad").read_bytes().split(b"\n")
    assert set(written) <= set(kept)


@given(
    st.lists(
        st.one_of(
            st.just(CSV),
            st.just(ENVELOPE),
            st.binary(max_size=40),
            st.sampled_from([b"\n", b"{", b'"', b"v=1,", b"\r"]),
        ),
        max_size=8,
    ),
    st.sampled_from(["c1.csv", "0+sample-c1.json", "sysinfo-c1.json", "slurm-sacct.csv", "0+arrivals.jsonl"]),
)
@settings(max_examples=150, deadline=None)
def test_no_byte_is_lost_whatever_there_is(pieces: list[bytes], name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        day = Path(scratch, "2026", "03", "02")
        day.mkdir(parents=True)
        content = b"".join(pieces)
        path = write(day / name, content)
        first = verify_cluster(Path(scratch), repair=True)
        kept, aside = path.read_bytes(), b""
        if (day / f"{name}.bad").exists():
            aside = (day / f"{name}.bad").read_bytes()
        assert content.startswith(kept)
        assert content[len(kept) :] in aside
        for one in first.findings:
            assert content[one.offset : one.offset + one.size].rstrip(b"\n") in aside
        second = verify_cluster(Path(scratch), repair=True)
        assert [one for one in second.findings if one.is_damage] == []


def test_only_the_days_that_are_asked_for(day: Path) -> None:
    write(day / "c1.csv", b"garbage\n")
    assert verify_cluster(day.parents[2], (date(2026, 3, 3), date.max), repair=True).findings == []
    assert len(verify_cluster(day.parents[2], (date(2026, 3, 2), date(2026, 3, 2)), repair=True).findings) == 1


def test_file_that_cannot_be_read(day: Path) -> None:
    (day / "c1.csv").symlink_to(day / "c1.csv")  # a loop: also root cannot read it
    (day / "c2.csv").symlink_to("/proc/self/mem")
    findings = check(day).findings
    assert [(one.path.name, one.kind) for one in findings] == [("c2.csv", "unreadable")]


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """A cluster's tree with columns for all days of a generated history but the last two; returns its root."""
    root = tmp_path / "demo"
    write_history(root, now=int(time.time()))
    for path in root.rglob("*.csv"):
        if len({*root.rglob("*.csv")}) > 12:
            path.unlink()  # a few days are enough
    done = subprocess.run(
        [sys.executable, PROGRAM.with_name("columnize"), "--data", tmp_path, "--jobs", "1"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(root.rglob("0+columns.parquet"))
    return root


def test_columns_that_agree_with_the_log(columns: Path) -> None:
    summary = verify_cluster(columns, repair=True)
    assert summary.findings == []
    assert summary.ignored == 0
    log = next(columns.rglob("*.csv"))
    log.write_bytes(log.read_bytes() + CSV)  # they are behind, and that is no damage
    assert verify_cluster(columns, repair=True).findings == []


def test_columns_that_do_not(columns: Path) -> None:
    first, *_ = sorted(columns.rglob("0+columns.parquet"))
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    (finding,) = verify_cluster(columns, repair=True).findings
    assert (finding.path, finding.kind, finding.is_damage) == (first, "columns", True)
    assert finding.reason.startswith("cannot be read: ")

    first.write_bytes(content)
    log = next(path for path in first.parent.iterdir() if path.suffix in {".csv", ".json"})
    state = log.stat()
    lines = log.read_bytes().splitlines(keepends=True)
    spoilt = lines[0][:-2].replace(b"v=", b"x=").replace(b'"', b"'") + b" \n"
    with log.open("r+b") as file:  # the same length and the same times: only a look inside can tell
        file.write(spoilt)
    os.utime(log, ns=(state.st_atime_ns, state.st_mtime_ns))
    kinds = {one.kind: one.reason for one in verify_cluster(columns, repair=False).findings}
    assert f"records of '{log.name}'" in kinds["columns"]

    log.unlink()
    (finding,) = verify_cluster(columns, repair=True).findings
    assert "which is not in the log, and was not removed by columnize" in finding.reason


# ---- the program ----------------------------------------------------------------------------------------------------


def run(*argv: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, PROGRAM, *argv], capture_output=True, text=True, timeout=120, check=False)


def test_program(day: Path, tmp_path: Path) -> None:
    bad = write(day / "c1.csv", CSV + b"garbage\n" + CSV[:9])
    (tmp_path / "saga").mkdir()
    looked = run("--data", tmp_path, "--dry-run")
    assert (looked.returncode, looked.stderr) == (1, "")
    size = len(CSV)
    assert looked.stdout.splitlines() == [
        f"{bad}: 8 bytes at {size}: bad record (missing-v), left as it is",
        f"{bad}: 9 bytes at {size + 8}: torn end (no end of line), left as it is",
        f"fox: 1 files, {size + 17} bytes, 1 bad records, 1 torn ends",
        "saga: 0 files, 0 bytes",
    ]
    done = run("--data", tmp_path, "--cluster", "fox", "--json")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [one.get("action") for one in objects]) == (1, ["copied", "cut", None])
    assert objects[2] == {"cluster": "fox", "files": 1, "bytes": size + 17, "other_files": 0, "bad": 1, "known": 0,
                          "torn": 1, "unreadable": 0, "columns": 0}  # fmt: skip
    again = run("--data", tmp_path)
    assert (again.returncode, again.stdout.splitlines()[0]) == (
        0,
        f"fox: 1 files, {size + 8} bytes, 1 known bad records",
    )
    assert f"{bad}: 8 bytes at {size}: bad record (missing-v), known" in run("--data", tmp_path, "-v").stdout
    assert run("--data", tmp_path, "--from", "2026-03-03").stdout.splitlines()[0] == "fox: 0 files, 0 bytes"


def test_generated_history_is_whole(tmp_path: Path) -> None:
    write_history(tmp_path / "demo", now=int(time.time()))
    done = run("--data", tmp_path)
    assert done.returncode == 0, done.stdout


def test_store_of_a_running_server_is_whole(start: Starter) -> None:
    server = start()
    assert server.post_csv(CSV.replace(b"2026", b"2024")).status == 200
    assert server.post("/api/v1/insert/sample", ENVELOPE.replace(b"2026", b"2024").replace(
        b'"node"', b'"cluster":"mlx.example.org","node"')).status == 200  # fmt: skip
    until(lambda: len([path for path in server.files() if path.startswith("mlx.example.org/")]) == 3)
    done = run("--data", server.data)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mlx.example.org: 3 files, ")


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["--from", "noon"], 2, "Invalid date"),
        (["--from", "2026-03-02", "--to", "2026-03-01"], 2, "--from must not be after --to"),
        (["--cluster", "none"], 1, "no cluster 'none'"),
        (["--data", "/nowhere"], 1, "--data is no directory"),
    ],
)
def test_mistakes(tmp_path: Path, argv: list[str], status: int, text: str) -> None:
    done = run("--data", tmp_path, *argv)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert text in done.stderr

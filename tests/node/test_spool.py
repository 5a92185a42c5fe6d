"""The spool: what is put is there whole or not at all, in order, and within bounds."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.node.spool import DEFAULT_QUOTA, Spool

JSON = "application/json"
CSV = "text/csv"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_what_is_put_waits_with_its_kind_and_type(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "spool", clock=lambda: 1764000000.25)

    path = spool.put("sample", b"v=1\n", CSV)
    spool.put("sysinfo", b"{}\n", JSON)

    first, second = spool.entries()
    assert (first.path, first.kind, first.content_type, first.arrived_ms) == (path, "sample", CSV, 1764000000250)
    assert (second.kind, second.content_type) == ("sysinfo", JSON)
    assert path.read_bytes() == b"v=1\n"
    assert path.name.startswith("1764000000250.000000.")
    assert path.name.endswith("-sample.csv")
    assert contents(spool.directory / "tmp") == {}


@settings(deadline=None)
@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=20))
def test_what_one_writer_puts_keeps_its_order_whatever_the_clock_does(clock_ms: list[int]) -> None:
    readings = iter(clock_ms)
    with TemporaryDirectory() as directory:
        spool = Spool(Path(directory), clock=lambda: next(readings) / 1000)

        put = [spool.put("sample", b"x", JSON) for _ in clock_ms]

        assert [entry.path for entry in spool.entries()] == put
        assert sorted(path.name for path in put) == [path.name for path in put]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5000)), max_size=20))
def test_what_several_writers_put_is_sorted_by_time(puts: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as directory:
        now_ms = 1764000000000
        writers = [Spool(Path(directory), clock=lambda: now_ms / 1000) for _ in range(3)]
        order = []
        for writer, later_ms in puts:
            now_ms += later_ms + 2  # one more than what becomes of rounding
            order.append(writers[writer].put("sample", b"x", JSON))

        assert [entry.path for entry in Spool(Path(directory)).entries()] == order


def test_writers_in_the_same_millisecond_do_not_overwrite_each_other(tmp_path: Path) -> None:
    def write(number: int) -> None:
        spool = Spool(tmp_path, clock=lambda: 1764000000.0)
        for turn in range(20):
            spool.put("sample", f"{number} {turn}".encode(), JSON)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(contents(tmp_path / "new").values())) == 160


def test_writer_that_is_killed_leaves_only_whole_files(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sonar.node.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "while True: spool.put('sample', b'x' * 300_000 + b'end', 'text/csv'); print(flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)

    files = contents(tmp_path / "new")
    assert len(files) >= 5
    assert {len(data) for data in files.values()} == {300_003}
    assert len(Spool(tmp_path).entries()) == len(files)


def test_what_cannot_be_synced_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        spool.put("sample", b"x", JSON)

    assert contents(tmp_path / "new") == contents(tmp_path / "tmp") == {}


def test_over_the_quota_the_oldest_are_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    put = [spool.put("sample", bytes(100), JSON) for _ in range(12)]

    assert spool.enforce_quota() == 2
    assert [entry.path for entry in spool.entries()] == put[2:]
    assert spool.enforce_quota() == 0


def test_writer_is_refused_where_nobody_keeps_the_quota(tmp_path: Path) -> None:
    Spool(tmp_path, 1000)
    writer = Spool(tmp_path)
    for _ in range(12):
        writer.put("sample", bytes(100), JSON)

    with pytest.raises(OSError, match="More than 1250 bytes would wait") as refused:
        writer.put("sample", bytes(100), JSON)

    assert refused.value.errno == errno.EDQUOT
    assert len(writer.entries()) == 12


def test_quota_that_was_set_last_holds_for_all(tmp_path: Path) -> None:
    writer = Spool(tmp_path)
    assert writer.quota_bytes == DEFAULT_QUOTA

    Spool(tmp_path, 5000)
    assert writer.quota_bytes == 5000
    assert Spool(tmp_path).quota_bytes == 5000


def test_what_is_refused_is_kept_with_its_reason_within_a_quarter_of_the_quota(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    for _ in range(3):
        spool.put("sample", bytes(90), JSON)

    assert [spool.quarantine(entry, "status 400: no") for entry in spool.entries()] == [0, 0, 1]

    kept = contents(tmp_path / "bad")
    assert len(kept) == 4
    assert [data for name, data in kept.items() if name.endswith(".why")] == [b"status 400: no\n"] * 2
    assert spool.entries() == []


def test_what_was_refused_can_be_moved_back_into_its_turn(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.put("sample", b"1", JSON)
    second = spool.put("sample", b"2", JSON)
    spool.quarantine(spool.entries()[0], "status 404")

    (tmp_path / "bad" / first.name).rename(first)

    assert [entry.path for entry in spool.entries()] == [first, second]


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10)
    spool.put("sample", bytes(5), JSON)
    names = ["README", "²²²²²²²²²²²²².000000.01234567-sample.json", "1764000000000.1-x.json", ".hidden", "a.csv"]
    for name in names:
        (tmp_path / "new" / name).write_bytes(bytes(1000))

    assert spool.enforce_quota() == 0
    assert len(spool.entries()) == 1
    assert contents(tmp_path / "new").keys() > set(names)


def test_what_a_killed_writer_left_behind_is_removed_after_a_day(tmp_path: Path) -> None:
    Spool(tmp_path)
    for name, age_s in (("old", 100_000), ("fresh", 1000)):
        path = tmp_path / "tmp" / name
        path.write_text("half")
        status = path.stat()
        os.utime(path, (status.st_atime - age_s, status.st_mtime - age_s))

    Spool(tmp_path)

    assert contents(tmp_path / "tmp").keys() == {"fresh"}


def test_one_at_a_time_delivers(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with spool.delivering() as first, Spool(tmp_path).delivering() as second:
        assert (first, second) == (True, False)
    with spool.delivering() as again:
        assert again


@pytest.mark.parametrize(("kind", "content_type"), [("../x", JSON), ("", JSON), ("a b", CSV), ("sample", "text/html")])
def test_no_kind_becomes_a_path(tmp_path: Path, kind: str, content_type: str) -> None:
    with pytest.raises(ValueError, match="no name for records"):
        Spool(tmp_path).put(kind, b"x", content_type)


def test_directory_that_cannot_be_used_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SonarError, match=r"cannot use spool '.*file': Not a directory"):
        Spool(tmp_path / "file")

    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool" / "new").rmdir()
    with pytest.raises(SonarError, match=r"cannot read spool '.*spool': No such file"):
        spool.entries()

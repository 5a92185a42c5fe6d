"""The store without HTTP: order, failures of the disk, what start-up repairs."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.names import BadNameError, ClusterName, HostName
from sonar.store import distribute, spool
from sonar.store.layout import Append, Topic, envelope_path, local_day, samples_path, utc_day
from sonar.store.spool import decode, encode, entries_of
from sonar.store.store import Store, StoreUnavailableError

from tests.waiting import until

PATH = "c/2024/03/01/h.csv"


class Trouble:
    """Makes calls of `os` fail, as a full or broken disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number: int | None = None
        self.calls: tuple[str, ...] = ()
        self.happened = 0
        self._where = ""
        self._names: dict[int, str] = {}
        for name in ("write", "fsync", "fdatasync", "ftruncate", "open", "mkdir", "rename"):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def begin(self, number: int, *calls: str, where: str = "") -> None:
        """Let these calls fail for files with `where` in their path."""
        self.number, self.calls, self._where, self.happened = number, calls, where, 0

    def end(self) -> None:
        self.number = None

    def _wrapped(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            target = str(args[0]) if not isinstance(args[0], int) else self._path_of(args[0])
            if self.number is not None and name in self.calls and self._where in target:
                self.happened += 1
                if name == "write" and len(args[1]) > 10 and self.happened % 2:
                    return real(args[0], bytes(args[1])[:7])  # a little goes through before it is full
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **kwargs)

        return call

    @staticmethod
    def _path_of(descriptor: int) -> str:
        try:
            return str(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError:
            return ""


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    made = Trouble(monkeypatch)
    yield made
    made.end()


def test_files_are_written_in_order_and_the_spool_is_left_empty(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(50):
        store.append_and_wait([Append(f"c/2024/03/01/h{number % 2}.csv", b"%d\n" % number)])
    store.close()

    assert (tmp_path / "c/2024/03/01/h0.csv").read_bytes() == b"".join(b"%d\n" % n for n in range(0, 50, 2))
    assert (tmp_path / "c/2024/03/01/h1.csv").read_bytes() == b"".join(b"%d\n" % n for n in range(1, 50, 2))
    assert [path.name for path in (tmp_path / ".spool").iterdir()] == ["checkpoint"]


def test_many_wait_for_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = os.fdatasync
    gate = threading.Event()

    def slow(descriptor: int) -> None:
        gate.wait()
        syncs.append(descriptor)
        real(descriptor)

    async def post_all(store: Store) -> None:
        appends = [asyncio.ensure_future(store.append([Append(PATH, b"%d\n" % n)])) for n in range(100)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0, gate.set)
        await asyncio.gather(*appends)

    store = Store(tmp_path, sync=True)
    until(lambda: store.obstacle is None)
    monkeypatch.setattr(os, "fdatasync", slow)
    asyncio.run(post_all(store))
    spooled = len(syncs)
    store.close()

    assert spooled <= 5
    assert (tmp_path / PATH).read_bytes() == b"".join(b"%d\n" % n for n in range(100))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("calls", [("write",), ("fdatasync",), ("write", "ftruncate", "fdatasync"), ("open", "write")])
def test_failing_spool_refuses_and_recovers(
    tmp_path: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, number: int, calls: tuple[str, ...]
) -> None:
    monkeypatch.setattr(spool, "_RETRY_S", 0.01)
    store = Store(tmp_path)
    store.append_and_wait([Append(PATH, b"first record\n")])
    trouble.begin(number, *calls, where=".wal")

    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match=os.strerror(number)):
            store.append_and_wait([Append(PATH, b"refused record\n")])
    assert os.strerror(number) in str(store.obstacle)
    assert store.healthy()
    trouble.end()
    until(lambda: store.obstacle is None)
    store.append_and_wait([Append(PATH, b"last record\n")])
    store.close()

    assert (tmp_path / PATH).read_bytes() == b"first record\nlast record\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize(
    ("calls", "where"),
    [
        (("write",), ".csv"),
        (("write", "ftruncate"), ".csv"),
        (("open", "mkdir"), "/c/"),
        (("open",), ".csv"),
        (("write",), ".intent"),
        (("fdatasync",), ".intent"),
        (("fsync",), ".csv"),
        (("fsync",), "/2024/"),
        (("write",), "checkpoint"),
        (("fsync",), "checkpoint"),
        (("rename",), "checkpoint"),
        (("fsync",), ".spool"),
    ],
)
def test_failing_log_holds_records_in_the_spool_and_goes_on(
    tmp_path: Path,
    trouble: Trouble,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    calls: tuple[str, ...],
    where: str,
) -> None:
    monkeypatch.setattr(distribute, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(distribute, "_RETRY_S", 0.01)
    store = Store(tmp_path)
    store.append_and_wait([Append(PATH, b"record 0 of many\n")])
    trouble.begin(number, *calls, where=where)

    written = [b"record 0 of many\n"]
    for one in range(1, 30):
        line = b"record %d of many\n" % one
        try:
            store.append_and_wait([Append(PATH, line), Append(f"c/2024/03/02/h{one}.csv", line)])
        except StoreUnavailableError:
            assert where == ".spool"  # a new segment needs its directory
        else:
            written.append(line)
    until(lambda: trouble.happened > 3)
    assert store.healthy()
    trouble.end()
    until(lambda: store.obstacle is None)
    store.close()

    assert (tmp_path / PATH).read_bytes() == b"".join(written)
    others = {path.read_bytes() for path in (tmp_path / "c/2024/03/02").iterdir()}
    assert others == set(written[1:])
    assert [path.name for path in (tmp_path / ".spool").iterdir()] == ["checkpoint"]


def test_torn_end_of_the_spool_is_ignored(tmp_path: Path) -> None:
    directory = tmp_path / ".spool"
    directory.mkdir()
    good = encode([Append(PATH, b"good\n")])
    torn = encode([Append(PATH, b"torn\n")])
    for cut in range(1, len(torn)):
        (directory / f"{cut:010}.wal").write_bytes(good + torn[:cut])
    flipped = bytearray(torn)
    flipped[-2] ^= 1
    (directory / f"{len(torn):010}.wal").write_bytes(good + flipped)

    Store(tmp_path).close()

    assert (tmp_path / PATH).read_bytes() == b"good\n" * len(torn)


def test_damaged_checkpoint_is_not_guessed_at(tmp_path: Path) -> None:
    Store(tmp_path).close()
    (tmp_path / ".spool/checkpoint").write_bytes(b"00000000 1 2 3\n")

    with pytest.raises(SonarError, match="checkpoint is damaged"):
        Store(tmp_path)


def test_one_writer_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(SonarError, match="in use by another process"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_request_with_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribute, "_OPEN_FILES", 8)
    store = Store(tmp_path)
    for _ in range(2):
        store.append_and_wait([Append(f"c/2024/03/01/h{n}.csv", b"x\n") for n in range(40)])
    store.close()

    assert {path.read_bytes() for path in (tmp_path / "c/2024/03/01").iterdir()} == {b"x\nx\n"}


def test_without_sync_nothing_but_the_checkpoint_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "fdatasync", note)
    store = Store(tmp_path, sync=False)
    store.append_and_wait([Append(PATH, b"x\n")])
    store.close()

    assert set(synced) == {"checkpoint.new"}
    assert (tmp_path / PATH).read_bytes() == b"x\n"


@given(st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=300)), max_size=20))
def test_entries_come_back_as_they_were(pairs: list[tuple[str, bytes]]) -> None:
    appends = [Append(path, data) for path, data in pairs]
    entry = encode(appends)
    descriptor = os.memfd_create("segment")
    try:
        os.write(descriptor, entry * 3 + entry[:-1])
        found = list(entries_of(descriptor, 0, None))
        assert [decode(payload) for payload, _ in found] == [pairs] * 3
        assert [behind for _, behind in found] == [len(entry), 2 * len(entry), 3 * len(entry)]
        assert len(list(entries_of(descriptor, len(entry), 2 * len(entry)))) == 1
    finally:
        os.close(descriptor)


def test_entries_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    sizes = [10, 3 << 20, 20, (1 << 20) - 60, 30]
    path = tmp_path / "segment"
    path.write_bytes(b"".join(encode([Append("p", bytes(size))]) for size in sizes))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = [decode(payload)[0][1] for payload, _ in entries_of(descriptor, 0, None)]
    finally:
        os.close(descriptor)
    assert [len(data) for data in found] == sizes


def test_segments_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1000)
    store = Store(tmp_path)
    for number in range(100):
        store.append_and_wait([Append(PATH, b"%d\n" % number)])
    segments = len(list((tmp_path / ".spool").glob("*.wal")))
    store.close()

    assert segments >= 3
    assert (tmp_path / PATH).read_bytes() == b"".join(b"%d\n" % n for n in range(100))


def test_paths() -> None:
    cluster, host = ClusterName("fox.example.org"), HostName("gpu-1")
    assert samples_path(cluster, local_day("2024-02-05T00:00:03+01:00"), host) == "fox.example.org/2024/02/05/gpu-1.csv"
    assert utc_day(1707087603) == "2024/02/04"
    assert envelope_path(cluster, "2024/02/04", Topic.JOB, None) == "fox.example.org/2024/02/04/0+job-slurm.json"
    with pytest.raises(BadNameError, match="too long"):
        envelope_path(cluster, "2024/02/04", Topic.SYSINFO, HostName("n" * 245))

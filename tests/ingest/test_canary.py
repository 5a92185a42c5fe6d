"""The check that feeds infiltrate's watchdog: a record comes back, or it is said what keeps it."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sonar.ingest.canary import Canary
from sonar.store.canary import canary_of, canary_tree, newest_canary
from sonar.store.store import Store
from sonar.times import HOUR

NOW = 1_772_000_000
PATIENCE_S = 0.6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


class Gate:
    """Holds up a call of `os` for files with a text in their path, as a disk that hangs does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> None:
        self._open = threading.Event()
        self._open.set()
        real = getattr(os, name)

        def call(first: Any, *args: Any, **kwargs: Any) -> Any:
            path = str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else str(first)
            if where in path:
                self._open.wait(30)
            return real(first, *args, **kwargs)

        monkeypatch.setattr(os, name, call)

    def __enter__(self) -> None:
        self._open.clear()

    def __exit__(self, *_: object) -> None:
        self._open.set()


def test_a_record_comes_back_each_time(tmp_path: Path, store: Store) -> None:
    canary = Canary(tmp_path, store, 30, lambda: NOW)

    assert [asyncio.run(canary.ailment()) for _ in range(3)] == [None] * 3

    assert canary.last == NOW
    newest = newest_canary(tmp_path)
    assert newest is not None
    assert newest[0].read_bytes().count(b"\n") == 3
    assert newest[1].decode() + "\n" == canary_of(NOW + 2, NOW).data.decode()


def test_the_files_of_two_hours_are_kept(tmp_path: Path) -> None:
    now = NOW
    # Thirty hours go by between two checkpoints here, which would want to sync what was swept since.
    store = Store(tmp_path, sync=False)
    canary = Canary(tmp_path, store, 30, lambda: now)
    for _ in range(30):
        assert asyncio.run(canary.ailment()) is None
        now += HOUR
    store.close()

    left = [path for path in canary_tree(tmp_path).rglob("*") if not path.is_dir()]
    assert sorted(left) == sorted(tmp_path / canary_of(0, now - ago * HOUR).path for ago in (1, 2))
    assert len(list(canary_tree(tmp_path).glob("*/*/*"))) <= 2


@pytest.mark.parametrize(
    ("call", "where", "said"),
    [("fdatasync", ".wal", "not made durable"), ("open", "/.server/", "from the spool to the log")],
    ids=["spool", "distributor"],
)
def test_a_disk_that_hangs_is_no_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, where: str, said: str
) -> None:
    gate = Gate(monkeypatch, call, where)
    store = Store(tmp_path)
    try:
        with gate:
            assert said in str(asyncio.run(Canary(tmp_path, store, PATIENCE_S).ailment()))
        assert asyncio.run(Canary(tmp_path, store, 30).ailment()) is None
    finally:
        store.close()


def test_a_log_that_cannot_be_read_is_no_health(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object) -> bool:
        released.wait(30)
        return True

    monkeypatch.setattr("sonar.ingest.canary.is_stored", hang)
    canary = Canary(tmp_path, store, PATIENCE_S)

    async def twice() -> list[str | None]:
        said = [await canary.ailment(), await canary.ailment()]
        released.set()
        return said

    first, second = asyncio.run(twice())
    assert "to be read there" in str(first)
    assert second == "the log cannot be read: the last attempt hangs"


@pytest.mark.parametrize("where", [".wal", "/.server/"])
def test_a_full_disk_is_told_of_and_no_reason_to_start_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = Store(tmp_path)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if where in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    canary = Canary(tmp_path, store, 30)

    assert asyncio.run(canary.ailment()) is None
    assert canary.last is None
    assert store.obstacle is not None

    monkeypatch.undo()
    store.close()

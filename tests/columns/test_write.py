"""What is written is verified before it takes the place of what was there."""

from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from sonar.columns import write
from sonar.columns.refresh import days_of, refresh
from sonar.columns.write import write_columns
from sonar.errors import SonarError
from sonar.read.columns import COLUMNS_NAME, STREAMS_KEY, ColumnsFile
from sonar.read.files import SampleReader

LINE = (
    "v=0.9.0,time=2024-03-01T{:02}:{:02}:00Z,host={},user={},cmd={},job={},pid={},cpu%={:.1f},cpukib={},gpus={},"
    "cputime_sec={}\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A day of two hosts."""
    chance = Random(1)
    directory = tmp_path / "2024" / "03" / "01"
    directory.mkdir(parents=True)
    for host in ("n1", "n2"):
        lines = [
            LINE.format(
                at // 12, at % 12 * 5, host, chance.choice("abc"), chance.choice(["py", "sim"]), pid, pid,
                chance.random() * 100, chance.randrange(1 << 20), chance.choice(["none", "0"]), at * 300,
            )
            for at in range(40)
            for pid in range(7, 10)
        ]  # fmt: skip
        (directory / f"{host}.csv").write_text("".join(lines))
    return tmp_path


def test_damage_is_found_before_the_rename(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that is not as it was written: either it is found, or it is of no consequence to the rows."""
    (day,) = days_of(root, date.min, date.max)
    assert refresh([day], 1, lambda _day, _size: None) == []
    path = day.directory / COLUMNS_NAME
    good, rows = path.read_bytes(), pq.read_table(path)
    chance = Random(2)
    verify = write._verify
    damaged: dict[str, Any] = {}

    def damage_and_verify(written: Path, *facts: object) -> None:
        content = bytearray(written.read_bytes())
        content[damaged["at"]] ^= 1 << chance.randrange(8)
        damaged["content"] = bytes(content)
        written.write_bytes(content)
        verify(written, *facts)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "_verify", damage_and_verify)
    found = 0
    for damaged["at"] in chance.sample(range(len(good)), 80):
        path.write_bytes(good)
        try:
            write_columns(day.directory, list(day.files), SampleReader())
        except SonarError:
            found += 1
            assert path.read_bytes() == good
            assert [one.name for one in day.directory.iterdir() if one.name.startswith(".")] == []
        else:
            assert path.read_bytes() == damaged["content"]
            assert pq.read_table(path).equals(rows)
    assert found > 50


def test_a_damaged_table_of_streams_is_not_believed(root: Path) -> None:
    (day,) = days_of(root, date.min, date.max)
    assert refresh([day], 1, lambda _day, _size: None) == []
    path = day.directory / COLUMNS_NAME
    good = path.read_bytes()
    where, size, _checksum = map(int, (pq.read_metadata(path).metadata or {})[STREAMS_KEY].split())
    whole = ColumnsFile(path).samples(["n1", "n2"], ["job", "time"])
    assert whole.streams is not None
    for at in Random(3).sample(range(where, where + size), 40):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        damaged = ColumnsFile(path).samples(["n1", "n2"], ["job", "time"])
        assert damaged.streams is None
        assert len(damaged["job"]) == len(damaged["time"]) == len(whole)


def test_rows_that_changed_places_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = pq.ParquetWriter.write_table

    def swapped(self: pq.ParquetWriter, table: object, **options: object) -> None:
        order = list(range(len(table)))  # type: ignore[arg-type]
        order[3], order[4] = order[4], order[3]
        written(self, table.take(order), **options)  # type: ignore[attr-defined,arg-type]

    (day,) = days_of(root, date.min, date.max)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", swapped)
    with pytest.raises(SonarError, match="does not read back"):
        write_columns(day.directory, list(day.files), SampleReader())
    assert not (day.directory / COLUMNS_NAME).exists()

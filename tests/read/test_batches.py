"""Files of Arrow batches: some of them are read, and a damaged one is an error, never a crash or another answer."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.read.batches import opened_batches, write_batches

ROWS: dict[str, list[Any]] = {
    "job": list(range(100)),
    "user": [f"user{number % 7}" for number in range(100)],
    "sum": [0.5] * 100,
}
LENGTHS = (30, 1, 69)
END_OF_STREAM = 8  # bytes that say so, which nobody needs


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("batches") / "whole.arrow"
    write_batches(path, pa.table(ROWS), LENGTHS, {b"about": "what it says"})
    return path.read_bytes()


def read(content: bytes, numbers: list[int], path: Path) -> dict[str, list[Any]]:
    path.write_bytes(content)
    with opened_batches(path) as file:
        assert file.metadata[b"about"] == b"what it says"
        return file.table(numbers).to_pydict()


@given(st.sets(st.integers(0, 2)))
def test_some_batches(content: bytes, tmp_path_factory: pytest.TempPathFactory, numbers: set[int]) -> None:
    begins = (0, 30, 31)
    rows = [row for number in sorted(numbers) for row in range(begins[number], begins[number] + LENGTHS[number])]
    found = read(content, sorted(numbers), tmp_path_factory.getbasetemp() / "some.arrow")
    assert found == {name: [values[row] for row in rows] for name, values in ROWS.items()}


@given(st.data())
def test_a_changed_bit(content: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read(bytes(damaged), [0, 1, 2], tmp_path_factory.getbasetemp() / "changed.arrow")
    except (OSError, ValueError):
        return
    assert found == ROWS  # it was in bytes that mean nothing


@given(st.integers(0))
def test_a_file_that_ends_early(content: bytes, tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    short = content[: length % (len(content) - END_OF_STREAM)]
    with pytest.raises((OSError, ValueError)):
        read(short, [0, 1, 2], tmp_path_factory.getbasetemp() / "short.arrow")


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    write_batches(tmp_path / "empty.arrow", pa.table(ROWS).slice(0, 0), (), {})
    with opened_batches(tmp_path / "empty.arrow") as file:
        assert file.table([]).column_names == list(ROWS)

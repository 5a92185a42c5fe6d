"""Where samples go."""

import errno
import os
from pathlib import Path

import pytest

from sonar.node.outputs import FileOutput, SpoolOutput
from sonar.node.spool import Spool


def test_line_after_a_torn_one_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "log"
    output = FileOutput(target)
    output.put(b"first\n")
    write = os.write
    room = 3

    def small_disk(file: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", small_disk)
    with pytest.raises(OSError, match="No space left"):
        output.put(b"second\n")
    monkeypatch.undo()
    output.put(b"third\n")
    output.put(b"fourth\n")

    assert target.read_bytes() == b"first\nsec\nthird\nfourth\n"


def test_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    target = tmp_path / "log"
    output = FileOutput(target)

    output.put(b"first\n")
    target.rename(tmp_path / "log.1")
    output.put(b"second\n")

    assert [path.read_bytes() for path in (tmp_path / "log.1", target)] == [b"first\n", b"second\n"]


def test_spool_gets_each_sample_with_its_kind_and_content_type(tmp_path: Path) -> None:
    output = SpoolOutput(tmp_path, "text/csv")
    output.put(b"one\n")
    output.put(b"{}\n", "sysinfo")
    output.put(b"two\n")

    entries = Spool(tmp_path).entries()
    assert [(one.kind, one.content_type, one.path.read_bytes()) for one in entries] == [
        ("sample", "text/csv", b"one\n"), ("sysinfo", "application/json", b"{}\n"), ("sample", "text/csv", b"two\n"),
    ]  # fmt: skip

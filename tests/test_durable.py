"""Files in their place: whole, with their rights, synced before and after they are renamed."""

import os
import stat
from pathlib import Path

import pytest

from sonar import durable


def test_content_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    path = tmp_path / "file"
    real = os.fsync

    def note(descriptor: int) -> None:
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    durable.put(path, b"content")

    assert seen == [(f".file.{os.getpid()}", False), (tmp_path.name, True)]
    assert path.read_bytes() == b"content"


def test_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError), durable.replacing(path) as scratch:
        fail(scratch)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_of_this_number_has_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / f".file.{os.getpid()}").write_bytes(b"a longer text than the new one")

    durable.put(tmp_path / "file", b"new")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_file_is_never_wider_than_it_is_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    path = tmp_path / "secret"
    path.touch(0o640)
    path.chmod(0o640)
    real = os.fsync

    def note(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    durable.put(path, b"x", like=path.stat())
    durable.put(tmp_path / "other", b"x", mode=0o600)

    assert modes[0] == stat.S_IMODE(path.stat().st_mode) == 0o640
    assert modes[2] == stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o600

"""A run that was cut off is told of by the next one, and by no other."""

import logging
from pathlib import Path

import pytest

from sonar.serve.runs import marked_run


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_run_that_left_its_mark_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "running").touch()  # as after kill -9

    with marked_run("infiltrate"):
        assert (tmp_path / "running").exists()
    with marked_run("infiltrate"):
        pass

    assert told(caplog) == ["infiltrate runs again: the process before this one was killed, or crashed"]
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_mark_keeps_nobody_from_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "gone"))
    served = False

    with marked_run("infiltrate"):
        served = True

    assert served
    assert told(caplog) == []

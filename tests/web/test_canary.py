"""The question that sonalyzed asks itself, on the way of all questions."""

from pathlib import Path

import pytest

from sonar.config.clusters import Clusters
from sonar.store.canary import canary_of
from sonar.web.canary import ask_canary

NOW = 1_772_000_000


def write(data: Path, number: int, *, text: str = "") -> Path:
    canary = canary_of(number, NOW)
    path = data / canary.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text or canary.data.decode())
    return path


def test_the_newest_canary_is_found(tmp_path: Path) -> None:
    assert ask_canary(Clusters(tmp_path)) is None
    write(tmp_path, 1)
    write(tmp_path, 2)

    assert ask_canary(Clusters(tmp_path)) is None
    assert Clusters(tmp_path).names() == []


def test_what_is_in_the_log_and_not_in_the_answer_is_told(tmp_path: Path) -> None:
    write(tmp_path, 1)
    line = canary_of(2, NOW).data.decode().replace("time=2026", "time=never")
    write(tmp_path, 2, text=line)

    assert ask_canary(Clusters(tmp_path)) == "record 2 of the log is not in its answer"


def test_a_line_that_is_still_being_written_is_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, text=canary_of(2, NOW).data.decode()[:40])

    assert ask_canary(Clusters(tmp_path)) is None


def test_data_that_are_away_are_no_health(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ask_canary(Clusters(tmp_path / "none"))

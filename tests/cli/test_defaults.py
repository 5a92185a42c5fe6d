"""The file ~/.sonalyze: what it gives, what the command line overrides, and what is wrong in it, by place."""

from pathlib import Path

import pytest

from sonar.cli.defaults import read_defaults, with_defaults
from sonar.errors import SonarError

from tests.cli.test_sonalyze import answer, place, sonalyze

__all__ = ["place"]

SERVER = {"remote": "https://m", "cluster": "fox", "auth-file": "a", "config-file": "n", "data-path": "d"}


def test_values_are_read_and_expanded(tmp_path: Path) -> None:
    path = tmp_path / ".sonalyze"
    path.write_text("# mine\n[data-source]\nremote = https://m:8/x\ndata-dir=$HOME/d/${X}\nFrom = 2w\n")

    assert read_defaults(path, {"HOME": "/h", "X": "y"}) == {
        "remote": "https://m:8/x",
        "data-path": "/h/d/y",
        "from": "2w",
    }
    assert read_defaults(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("remote = x\n", ", line 1: 'remote = x' stands before a section such as [data-source]"),
        ("[data-source]\nremote\n", ", line 2: 'remote' is no line KEY = VALUE"),
        ("[data-source]\nremote = a\nremote = b\n", ", line 3: 'remote' is given twice"),
        ("[data-source]\n[data-source]\n", ", line 2: [data-source] is given twice"),
        ("[data]\n", ": no such section: [data] (want [data-source])"),
        ("[data-source]\nhost = a\n", ": no such key: 'host' (want one of remote, cluster,"),
        ("[data-source]\nremote = $NOWHERE\n", ": remote: $NOWHERE is not set"),
        ("[data-source]\nremote = \udcff\n", ": not UTF-8"),
    ],
)
def test_mistake_names_file_and_place_on_one_line(place: Path, text: str, message: str) -> None:
    path = place / ".sonalyze"
    path.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(SonarError) as caught:
        read_defaults(path, {})
    assert str(caught.value).startswith(f"'{path}'{message}")
    done = sonalyze(place, "jobs")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"ERROR: '{path}'{message}")


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [
        ({}, False, {"remote": "https://m", "cluster": "fox", "auth-file": "a"}),
        ({"cluster": "saga"}, False, {"remote": "https://m", "cluster": "saga", "auth-file": "a"}),
        ({"remote": "r"}, False, {"remote": "r", "cluster": "fox", "auth-file": "a"}),
        ({"data-path": "mine"}, False, {"data-path": "mine", "config-file": "n"}),
        ({}, True, {"config-file": "n"}),
        ({"jobanalyzer-dir": "j", "cluster": "c"}, False, {"jobanalyzer-dir": "j", "cluster": "c", "config-file": "n"}),
    ],
)
def test_defaults_complete_what_the_command_line_chose(
    source: dict[str, str], files: bool, expected: dict[str, str]
) -> None:
    assert with_defaults(source, SERVER, files=files, takes_config=True) == expected


def test_tree_and_dates_of_the_file_are_used(place: Path) -> None:
    (place / ".sonalyze").write_text("[data-source]\ndata-dir = $HOME/sonar/data\nfrom = 2024-01-10\n")

    argv = ("jobs", "--fmt=csv,job")
    assert answer(place, *argv, SONAR_NOW="2024-01-20T00:00:00Z", SONAR_ROOT="absent") == "10\n10\n"
    assert answer(place, *argv, "--from=1d", SONAR_NOW="2024-01-20T00:00:00Z") == ""
    assert answer(place, "report", "--help").startswith("Usage")

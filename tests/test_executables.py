"""What holds for every executable in libexec: thin, documented, quick to help, kind to mistakes."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
EXECUTABLES = sorted(path for path in (TOP / "libexec").iterdir() if path.is_file())
# What takes longer to import than --help may take, and what only an answer needs.
HEAVY = {"numpy", "pyarrow", "cryptography", "starlette", "uvicorn", "jinja2", "urllib3", "psutil", "orjson"}

each_executable = pytest.mark.parametrize("path", EXECUTABLES, ids=lambda path: path.name)


def run(path: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, path, *argv], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


def page_of(path: Path) -> Path:
    pages = [page for name in (path.name, f"sonarctl-{path.name}") for page in (TOP / "man").glob(f"{name}.[1-9]")]
    assert len(pages) == 1, f"{path.name} has {len(pages)} man pages"
    return pages[0]


def helps(path: Path) -> list[str]:
    """Return the help texts of a program and of its subcommands."""
    first = run(path, "--help").stdout
    commands = re.search(
        r"^(?:commands|verbs|reports|COMMAND|positional arguments):\n((?:  .*\n)+)", first, re.MULTILINE | re.I
    )
    names = re.findall(r"^ {2,4}([a-z][a-z-]+)(?=\s{2}|$)", commands.group(1), re.MULTILINE) if commands else []
    return [first, *(run(path, name, "--help").stdout for name in names)]


def test_there_are_executables() -> None:
    assert {"infiltrate", "exfiltrate", "sonalyze", "sonalyzed", "naicreport", "sonard"} <= {
        p.name for p in EXECUTABLES
    }


@each_executable
def test_is_thin_and_can_be_run(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert lines[0] == "#!/usr/bin/env python3"
    assert lines[1].startswith('"""')
    assert len(lines) <= 60
    assert path.stat().st_mode & 0o111 == 0o111


@each_executable
def test_help_is_printed_and_needs_nothing_heavy(path: Path) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{str(path)!r}, '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert path.name in done.stdout
    assert not HEAVY & set(done.stderr.split())


@each_executable
@pytest.mark.parametrize("argv", [["--no-such-option"], ["--no-such-option=3", "x"], ["\udcff"]])
def test_bad_arguments_are_a_usage_error_of_few_words(path: Path, argv: list[str]) -> None:
    done = run(path, *argv)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert len(done.stderr.splitlines()) < 40


@each_executable
def test_every_option_is_in_the_man_page_and_none_is_invented(path: Path) -> None:
    offered = {option for text in helps(path) for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)}
    page = page_of(path).read_text()
    described = {"--" + name.replace(r"\-", "-") for name in re.findall(r"\bFl (?:\\-|-)([a-z][a-z0-9\\-]+)", page)}

    assert offered
    assert offered - described == set(), "in --help but not in the man page"
    assert described - offered == set(), "in the man page but not in --help"


@each_executable
def test_importing_it_runs_nothing(path: Path) -> None:
    assert callable(runpy.run_path(str(path), run_name="imported")["main"])


def test_a_tool_of_sonarctl_says_so_and_has_a_page_that_is_no_other_programs() -> None:
    own_name = {"sonarctl", "sonalyze", "naicreport", "infiltrate", "exfiltrate", "sonalyzed", "sonard"}
    for path in EXECUTABLES:
        is_tool = path.name not in own_name
        name = f"sonarctl-{path.name}" if is_tool else path.name
        said = run(path, "--help").stdout
        assert page_of(path).stem == name
        assert re.match(rf"usage: {'sonarctl ' if is_tool else ''}{path.name}\b", said.strip(), re.I), said
        assert f"{name}({page_of(path).suffix[1:]})" in said


def test_man_pages_name_their_programs_for_apropos() -> None:
    for page in sorted((TOP / "man").glob("*.[1-9]")):
        assert re.search(rf"^\.Nm {re.escape(page.stem)}\n\.Nd \w", page.read_text(), re.MULTILINE), page.name

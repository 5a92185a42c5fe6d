"""The command sonarctl: what tools there are, with a line each; and running one, or saying which was meant."""

import ast
import difflib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sonar import __version__
from sonar.errors import SonarError, UsageError

__all__ = ["candidates", "main", "summary_of", "tools_in"]

_ITSELF = "sonarctl"
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]+)")
_COMMANDS = re.compile(
    r"^(?:commands|verbs|COMMAND|tools|reports|positional arguments):\n((?:  .*\n)+)", re.MULTILINE | re.I
)
_CHOICES = re.compile(r"^positional arguments:\n  \{([a-z,]+)\}", re.MULTILINE)
_BEFORE_A_CLUSTER = {("cluster", "remove"), ("cluster", "show"), ("cluster", "check")}
_COMMAND = re.compile(r"^ {2,4}([a-z][a-z-]+)(?=\s{2}|$)", re.MULTILINE)


def main(argv: Sequence[str], directory: Path) -> int:
    """Do what the arguments say with the tools of a directory; a tool takes the place of this process."""
    tools = tools_in(directory)
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(_help(tools))
        return 0
    if argv[0] == "--version":
        print(f"{_ITSELF} {__version__}")
        return 0
    if argv[0] == "--complete":
        print(*candidates(tools, argv[1:]), sep="\n")
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"no such option: {argv[0]}; want --help, --version or the name of a tool")
    tool = tools.get(argv[0])
    if tool is None:
        near = difflib.get_close_matches(argv[0], tools, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else "; `sonarctl` lists them"
        raise UsageError(f"no tool {argv[0][:80]!r}{hint}")
    sys.stdout.flush()
    try:
        os.execv(sys.executable, _command(tool, argv[1:]))
    except OSError as error:
        raise SonarError(f"cannot run '{tool}': {error.strerror}") from None


def tools_in(directory: Path) -> dict[str, Path]:
    """Return the executables of a directory by name, sorted, without sonarctl itself."""
    return {
        path.name: path
        for path in sorted(directory.iterdir())
        if path.is_file() and os.access(path, os.X_OK) and path.name != _ITSELF and "." not in path.name
    }


def summary_of(tool: Path) -> str:
    """Return the first line of a tool's docstring, without its name and where its manual is."""
    try:
        text = ast.get_docstring(ast.parse(tool.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""
    line = (text.splitlines() or [""])[0]
    line = re.sub(r",? [Ss]ee [\w-]+\(\d\)\.?$", "", line).removeprefix(f"{tool.name}: ").rstrip(".")
    return line[:1].lower() + line[1:] if not line[:2].isupper() else line


def candidates(tools: dict[str, Path], words: Sequence[str]) -> list[str]:
    """Return what may follow these words of a command line: tools, their commands, their options."""
    if not words:
        return []
    program, *rest = Path(words[0]).name, *words[1:]
    if program != _ITSELF:
        return _offered(tools[program], rest) if program in tools else []
    if not rest:
        return [*tools, "--help", "--version"]
    return _offered(tools[rest[0]], rest[1:]) if rest[0] in tools else []


def _offered(tool: Path, words: Sequence[str]) -> list[str]:
    text = _help_of(tool, [])
    commands = [name for block in _COMMANDS.findall(text) for name in _COMMAND.findall(block)]
    if not commands:
        commands = [name for block in _CHOICES.findall(text) for name in block.split(",")]
    if words and (words[-1] == "--cluster" or (tool.name, *words) in _BEFORE_A_CLUSTER):
        return _clusters()
    given = next((word for word in words if not word.startswith("-")), None)
    if given is not None and given in commands:
        return _options_in(_help_of(tool, [given]))
    return [*(commands if given is None else ()), *_options_in(text)]


def _clusters() -> list[str]:
    from sonar.config.settings import load_settings

    try:
        return sorted(path.stem for path in load_settings().paths.clusters.glob("*.conf"))
    except (SonarError, OSError):
        return []


def _options_in(text: str) -> list[str]:
    return sorted(set(_OPTION.findall(text)))


def _help_of(tool: Path, words: Sequence[str]) -> str:
    try:
        return subprocess.run(
            _command(tool, [*words, "--help"]),
            capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _command(tool: Path, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs a tool by our own interpreter, as isolated as this process is."""
    return [sys.executable, *(["-I"] if sys.flags.isolated else []), str(tool), *argv]


def _help(tools: dict[str, Path]) -> str:
    return "\n".join(_help_lines(tools))


def _help_lines(tools: dict[str, Path]) -> Iterator[str]:
    yield "usage: sonarctl [--help] [--version] TOOL [ARGUMENT ...]"
    yield ""
    yield "Run a tool of Sonar. `sonarctl TOOL --help` says what it takes, `man sonarctl-TOOL` more. See sonarctl(8)."
    yield ""
    yield "Tools of Sonar:"
    width = max((len(name) for name in tools), default=0)
    columns = max(60, shutil.get_terminal_size((100, 24)).columns)
    for name, path in tools.items():
        yield f"  {name:{width}}  {summary_of(path)}"[:columns].rstrip()

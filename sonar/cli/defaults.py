"""Defaults of sonalyze's options: the file ~/.sonalyze, so that nobody types the same server each time.

    [data-source]
    remote = https://monitor.example.org
    cluster = fox
    auth-file = $HOME/.sonar-auth

A value counts only where the command line does not give that option, nor another source of samples. sonalyze(1) has
the keys.
"""

import os
import re
from collections.abc import Mapping
from configparser import (
    DuplicateOptionError,
    DuplicateSectionError,
    Error,
    MissingSectionHeaderError,
    ParsingError,
    RawConfigParser,
)
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["NAME", "read_defaults", "with_defaults"]

NAME = ".sonalyze"
_SECTION = "data-source"
_KEYS = ("remote", "cluster", "auth-file", "ca-file", "data-dir", "data-path", "config-file", "from", "to")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def read_defaults(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the values of the file by option, none if it does not exist. Raise SonarError naming file and place."""
    parser = RawConfigParser(delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SonarError(f"'{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise SonarError(f"'{path}': not UTF-8") from None
    except Error as error:
        raise SonarError(f"'{path}'{_place(error)}") from None
    values = {}
    for section in parser.sections():
        if section != _SECTION:
            raise SonarError(f"'{path}': no such section: [{section}] (want [{_SECTION}])")
        for key, text in parser.items(section):
            if key not in _KEYS:
                raise SonarError(f"'{path}': no such key: {key!r} (want one of {', '.join(_KEYS)})")
            values["data-path" if key == "data-dir" else key] = _expanded(text, key, path, environment)
    return values


def with_defaults(
    source: Mapping[str, str], defaults: Mapping[str, str], *, files: bool, takes_config: bool
) -> dict[str, str]:
    """Return where samples come from: as the command line says, completed by the defaults.

    The command line's choice between a server, a tree and files stands; defaults of another source do not count.
    """
    chosen = dict(source)
    is_remote = "remote" in source or ("cluster" in source and "jobanalyzer-dir" not in source)
    is_local = files or "data-path" in source or "jobanalyzer-dir" in source
    if not is_local and (is_remote or "remote" in defaults):
        wanted = ["remote", "cluster", "auth-file", "ca-file"]
    elif files or "jobanalyzer-dir" in source:
        wanted = ["config-file"]
    else:
        wanted = ["data-path", "config-file"]
    for name in wanted:
        if name in defaults and (name != "config-file" or takes_config):
            chosen.setdefault(name, defaults[name])
    return chosen


def _expanded(text: str, key: str, path: Path, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environment:
            raise SonarError(f"'{path}': {key}: ${name} is not set")
        return environment[name]

    return _VARIABLE.sub(value, text)


def _place(error: Error) -> str:
    """Return line and what is wrong there, on one line."""
    match error:
        case DuplicateOptionError():
            return f", line {error.lineno}: {error.option!r} is given twice"
        case DuplicateSectionError():
            return f", line {error.lineno}: [{error.section}] is given twice"
        case MissingSectionHeaderError():
            return f", line {error.lineno}: {error.line.strip()!r} stands before a section such as [{_SECTION}]"
        case ParsingError() if error.errors:
            line, text = error.errors[0]
            return f", line {line}: {text.strip(chr(39) + chr(92) + 'n')!r} is no line KEY = VALUE"
        case _:
            return f": {' '.join(str(error).split())}"

"""The command sonalyze: verbs with their options from the declarations, on typer.

Only the verb that is asked for is imported and made into a typer command, so that help and errors come fast.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sonar
from sonar import verbs
from sonar.cli.answer import answer_verb, arguments_of
from sonar.cli.help_topics import TOPICS
from sonar.cli.source import SOURCE_OPTIONS
from sonar.errors import SonarError, UsageError

__all__ = ["main"]

_DOSSIER = "Write all that is known of one job into a directory or a tar file"
_HELP_WORDS = frozenset({"help", "-h", "--help"})
_VERSION_WORDS = frozenset({"-V", "--version"})


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    try:
        _check_encoding(argv)
        return _dispatch(argv)
    except UsageError as error:
        topic = f" {argv[0]}" if argv and argv[0] in (*verbs.NAMES, *verbs.ALIASES) else ""
        print(f"sonalyze: {error} (try 'sonalyze{topic} --help')", file=sys.stderr)
        return error.exit_status
    except SonarError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:  # reading has its own messages: it is the output that cannot be written
        print(f"ERROR: Standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SonarError.exit_status


def _check_encoding(argv: Sequence[str]) -> None:
    """Refuse arguments that are not UTF-8, which Python shows as lone surrogates; names of files may be anything."""
    files = list(argv).index("--") if "--" in argv else len(argv)
    for argument in argv[:files]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"Argument {argument!r} is not UTF-8") from None


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(_overview(), file=sys.stderr, end="")
        return UsageError.exit_status
    name, *rest = argv
    if name in _HELP_WORDS and rest[:1] and (rest[0] in TOPICS or rest[0] == "overview"):
        print(TOPICS[rest[0]][1] if rest[0] in TOPICS else _overview(), end="")
        sys.stdout.flush()
        return 0
    if name in _HELP_WORDS:
        name, rest = (rest[0], ["--help"]) if rest and rest[0] not in _HELP_WORDS else ("help", [])
    if name in _VERSION_WORDS:
        print(f"sonalyze {sonar.__version__}")
    elif name == "version":
        _tell_version(arguments_of(name, rest))
    elif name == "help":
        print(_overview(), end="")
    elif name == "dossier":
        from sonar.cli.dossier import make_dossier

        make_dossier(arguments_of(name, rest), _DOSSIER)
    elif name in verbs.NAMES or name in verbs.ALIASES:
        answer_verb(verbs.verb(name), arguments_of(name, rest))
    elif name.startswith("-"):
        raise UsageError(f"No such option before the verb: {name}")
    else:
        raise UsageError(f"No such verb: {name!r}")
    sys.stdout.flush()
    return 0


def _tell_version(argv: Sequence[str]) -> None:
    """Print version and features of the program, or what a server says of itself."""
    from sonar.cli import remote
    from sonar.cli.options import parse

    options = [option for option in SOURCE_OPTIONS if option.name in {"remote", "auth-file", "ca-file"}]
    given = parse("sonalyze version", "Print version and features of the program, or of a server", options, argv)
    if given is None:
        return
    if given.files:
        raise UsageError(f"version takes no file: {given.files[0]!r}")
    where = {name: texts[0] for name, texts in given.options.items()}
    if "remote" not in where:
        print(verbs.VERSION)
        return
    server = remote.Server(
        where["remote"],
        credentials=remote.credentials(Path(where["auth-file"]) if "auth-file" in where else None, where["remote"]),
        ca_file=Path(where["ca-file"]) if "ca-file" in where else None,
    )
    server.version().copy(sys.stdout.buffer)


def _overview() -> str:
    verb_lines = [f"  {name:<10}  {verbs.verb(name).summary}" for name in verbs.NAMES]
    return "\n".join(
        [
            "Usage: sonalyze VERB [OPTION ...] [-- FILE ...]",
            "",
            "Tell what jobs and hosts of a cluster did, from the samples of its nodes.",
            "",
            "Verbs:",
            *verb_lines,
            f"  dossier     {_DOSSIER}",
            "  version     Print version and features",
            "  help        Print this, the options of a verb, or about a topic: sonalyze help jobs",
            "",
            "Topics of help:",
            *(f"  {name:<12}  {what}" for name, (what, _text) in TOPICS.items()),
            "",
            "Options:",
            "  -h, --help     Print this",
            "  -V, --version  Print the version",
            "",
            "See sonalyze(1).",
            "",
        ]
    )

"""The command sonalyze: verbs with their options from the declarations, on typer.

Only the verb that is asked for is imported and made into a typer command, so that help and errors come fast.
"""

import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sonar
from sonar import verbs
from sonar.errors import SonarError, UsageError
from sonar.times import iso_text, present
from sonar.verbs.declare import Option, OptionType, Verb

if TYPE_CHECKING:
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["main"]

_SOURCE = (
    Option("data-path", "root of the log tree ($SONAR_ROOT, else ~/sonar/data)", OptionType.PATH, metavar="DIR"),
    Option("remote", "ask the server at this address", metavar="URL"),
    Option("cluster", "cluster to ask about, with --remote", metavar="NAME"),
    Option("auth-file", "file with USER:PASSWORD, with --remote", OptionType.PATH, metavar="FILE"),
    Option("ca-file", "certificates to trust, with --remote", OptionType.PATH, metavar="FILE"),
)
_CONFIG = Option("config-file", "description of the nodes, for relative values", OptionType.PATH, metavar="FILE")
_VERBOSE = Option("verbose", "tell on stderr what was read and dropped", OptionType.FLAG, "v")

_HELP_WORDS = frozenset({"help", "-h", "--help"})
_VERSION_WORDS = frozenset({"-V", "--version"})


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    try:
        _check_encoding(argv)
        return _dispatch(argv)
    except UsageError as error:
        topic = f" {argv[0]}" if argv and argv[0] in verbs.NAMES else ""
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
    files = list(argv).index("--") if "--" in argv else len(argv)
    for argument in argv[:files]:
        if not argument.isprintable() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise UsageError(f"Argument {argument!r} is not UTF-8")


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(_overview(), file=sys.stderr, end="")
        return UsageError.exit_status
    name, *rest = argv
    if name in _HELP_WORDS:
        name, rest = (rest[0], ["--help"]) if rest and rest[0] not in _HELP_WORDS else ("help", [])
    if name in _VERSION_WORDS:
        print(f"sonalyze {sonar.__version__}")
    elif name == "version" and not rest:
        print(f"sonalyze version({sonar.__version__}) features(untagged_sonar_data)")
    elif name == "version" and rest == ["--help"]:
        print("Usage: sonalyze version\n\nPrint version and features of the program.")
    elif name == "help":
        print(_overview(), end="")
    elif name in verbs.NAMES:
        _run(verbs.verb(name), ["--help"] if rest[:1] == ["help"] else rest)
    elif name.startswith("-"):
        raise UsageError(f"No such option before the verb: {name}")
    else:
        raise UsageError(f"version takes no argument: {rest[0]!r}" if name == "version" else f"No such verb: {name!r}")
    sys.stdout.flush()
    return 0


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
            "  version     Print version and features",
            "  help        Print this, or the options of a verb: sonalyze help jobs",
            "",
            "Options:",
            "  -h, --help     Print this",
            "  -V, --version  Print the version",
            "",
            "See sonalyze(1).",
            "",
        ]
    )


def _run(verb: Verb, argv: Sequence[str]) -> None:
    """Answer the question that a verb's arguments ask."""
    from sonar.cli.options import parse
    from sonar.verbs.parameters import options_of

    config = (_CONFIG,) if verb.takes_config else ()
    given = parse(f"sonalyze {verb.name}", verb.summary, (*_SOURCE, *options_of(verb), *config, _VERBOSE), argv)
    if given is None:
        return
    question = dict(given.options)
    source = {option.name: question.pop(option.name)[0] for option in (*_SOURCE, *config) if option.name in question}
    verbose = bool(question.pop("verbose", ()))
    if question.get("fmt", [""])[0].startswith("help"):
        from sonar.render.formats import format_help

        print(format_help(verb), end="")
    elif "remote" in source or "cluster" in source:
        _ask_server(verb, question, source, given.files, verbose=verbose)
    else:
        _answer(verb, question, source, given.files, verbose=verbose)


def _answer(
    verb: Verb, question: Mapping[str, list[str]], source: Mapping[str, str], files: Sequence[str], *, verbose: bool
) -> None:
    """Answer from the log tree or from files, to stdout."""
    from sonar.config.nodes import read_nodes
    from sonar.render.formats import write_result
    from sonar.verbs.parameters import asks_for_own_records, query_of

    query, fmt = query_of(
        verb,
        question,
        data=[Path(name) for name in files] if files else _data_path(source.get("data-path")),
        nodes=read_nodes(Path(source["config-file"])) if "config-file" in source else None,
        account=_account() if asks_for_own_records(verb, question) else None,
        now=present(),
    )
    for word in fmt.unknown:
        print(f"sonalyze: unknown word {word!r} in --fmt, ignoring", file=sys.stderr)
    result = verb.run(query)
    if verbose:
        _tell_what_was_read(query, fmt, result.rows.num_rows)
    _use_utf8()
    write_result(verb, result, fmt, sys.stdout)


def _ask_server(
    verb: Verb, question: Mapping[str, list[str]], source: Mapping[str, str], files: Sequence[str], *, verbose: bool
) -> None:
    """Let a server answer; its answer goes to stdout as it is."""
    from sonar.cli import remote
    from sonar.verbs.parameters import asks_for_own_records, check_options

    for name in ("data-path", "config-file"):
        if name in source:
            raise SonarError(f"--{name} may not be used with --remote or --cluster")
    if files:
        raise SonarError("-- logfile ... may not be used with --remote or --cluster")
    if not ("remote" in source and "cluster" in source):
        raise SonarError("--remote and --cluster must be used together")
    check_options(verb, question)
    if asks_for_own_records(verb, question):
        question = {**question, "user": [_account()]}  # the server would take its own
    server = remote.Server(
        source["remote"],
        credentials=remote.credentials(Path(source["auth-file"]) if "auth-file" in source else None),
        ca_file=Path(source["ca-file"]) if "ca-file" in source else None,
    )
    request = remote.request_url(server.address, verb, source["cluster"], question)
    if verbose:
        print(f"Request: {request}", file=sys.stderr)
    server.copy_answer(request, sys.stdout.buffer)


def _data_path(option: str | None) -> Path:
    """Return the root of the log tree: the option, $SONAR_ROOT, or below the home directory."""
    if option:
        return Path(option)
    if root := os.environ.get("SONAR_ROOT"):
        return Path(root)
    if home := os.environ.get("HOME"):
        return Path(home) / "sonar" / "data"
    raise SonarError("No data path: give --data-path, or set SONAR_ROOT or HOME")


def _account() -> str:
    """Return the name of the caller's account."""
    for variable in ("LOGNAME", "USER"):
        if name := os.environ.get(variable):
            return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SonarError(f"User {os.getuid()} has no name: give --user, or set LOGNAME") from None


def _tell_what_was_read(query: "Query", fmt: "Format", rows: int) -> None:
    """Tell on stderr which files were read, what of them was dropped and why, and for which time."""
    scan, window = query.scan, query.window
    lines = [f"Log files: {len(scan.files)}", *(f"  {path}" for path in scan.files)]
    lines += [f"Number of records discarded: {sum(scan.discarded.values())}"]
    lines += [f"  {path}: {number} {reason}" for (path, reason), number in sorted(scan.discarded.items())]
    for name, instant, active in (("From", window.start, window.start_active), ("To", window.end, window.end_active)):
        lines.append(f"{name}: {iso_text(instant) if active else 'as the data'}")
    lines += [f"Fields: {','.join(fmt.names)}", f"Number of rows: {rows}"]
    print(*lines, sep="\n", file=sys.stderr)


def _use_utf8() -> None:
    """Write what was read, whatever the locale says: answers go into files and other programs."""
    from io import TextIOWrapper

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")

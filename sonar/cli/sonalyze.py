"""The command sonalyze: verbs with their options from the declarations, on typer.

Only the verb that is asked for is imported and made into a typer command, so that help and errors come fast.
"""

import inspect
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import sonar
from sonar import verbs
from sonar.errors import SonarError, UsageError
from sonar.times import present
from sonar.verbs.declare import Option, OptionType, Verb

if TYPE_CHECKING:
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["main"]

_SOURCE = (
    Option("data-path", "root of the log tree ($SONAR_ROOT, else ~/sonar/data)", OptionType.PATH, metavar="DIR"),
    Option("remote", "ask the server at this address instead", metavar="URL"),
    Option("cluster", "name of the cluster, with --remote", metavar="NAME"),
    Option("auth-file", "file with USER:PASSWORD, with --remote", OptionType.PATH, metavar="FILE"),
    Option(
        "ca-file", "certificates that the server's must be signed by, with --remote", OptionType.PATH, metavar="PEM"
    ),
)
_CONFIG = Option("config-file", "description of the nodes, for relative values", OptionType.PATH, metavar="FILE")
_VERBOSE = Option("verbose", "say on stderr what was read and dropped", OptionType.FLAG, "v")

_HELP_WORDS = {"help", "-h", "--help"}


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    try:
        return _dispatch(list(argv))
    except UsageError as error:
        print(f"sonalyze: {error}\nTry 'sonalyze help'.", file=sys.stderr)
        return error.exit_status
    except SonarError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_status


def _dispatch(argv: list[str]) -> int:
    if not argv:
        print(_overview(), file=sys.stderr, end="")
        return UsageError.exit_status
    name, rest = argv[0], argv[1:]
    if name in {"-V", "--version"}:
        print(f"sonalyze {sonar.__version__}")
    elif name == "version":
        print(f"sonalyze version({sonar.__version__}) features(untagged_sonar_data)")
    elif name in _HELP_WORDS and not rest:
        print(_overview(), end="")
    elif name in _HELP_WORDS:
        _run_verb(_declared(rest[0]), ["--help"])
    elif rest == ["help"]:
        _run_verb(_declared(name), ["--help"])
    else:
        _run_verb(_declared(name), rest)
    return 0


def _declared(name: str) -> Verb:
    if name not in verbs.NAMES:
        raise UsageError(f"No such verb: {name!r}. The verbs are {', '.join(verbs.NAMES)}, version and help")
    return verbs.verb(name)


def _overview() -> str:
    lines = [
        "Usage: sonalyze VERB [OPTION ...] [-- FILE ...]",
        "",
        "Ask what jobs and hosts of a cluster did.",
        "",
        "Verbs:",
    ]
    lines += [f"  {name:<10}  {verbs.verb(name).summary}" for name in verbs.NAMES]
    lines += ["  version     print version and features", "  help        print this, or with a verb its options", ""]
    lines += ["Options:", "  -h, --help     print this", "  -V, --version  print the version", ""]
    return "\n".join([*lines, "See sonalyze(1).", ""])


def _run_verb(verb: Verb, argv: list[str]) -> None:
    """Parse a verb's options by typer, then answer."""
    import typer

    end = argv.index("--") if "--" in argv else len(argv)
    argv, files = argv[:end], argv[end + 1 :]
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"]}
    app.command(context_settings=settings)(_command(verb, files))
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        typer.main.get_command(app).main(argv, prog_name=f"sonalyze {verb.name}", standalone_mode=False)
    except usage_error as error:
        raise UsageError(error.format_message()) from None  # type: ignore[attr-defined]


def _command(verb: Verb, files: list[str]) -> Callable[..., None]:
    """Return a function with the verb's options as its signature, which is what typer makes a command of."""
    from sonar.verbs.parameters import options_of

    config = (_CONFIG,) if verb.takes_config else ()
    options = (*_SOURCE, *options_of(verb), *config, _VERBOSE)

    def command(**values: Any) -> None:
        given = {option.name: _given(option, values[_identifier(option)]) for option in options}
        _answer(verb, {name: texts for name, texts in given.items() if texts}, files)

    parameters = []
    for option in options:
        annotation, default = _annotation(option)
        command.__annotations__[_identifier(option)] = annotation
        parameters.append(
            inspect.Parameter(
                _identifier(option), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
        )
    del command.__annotations__["values"]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = verb.summary + "."
    return command


def _identifier(option: Option) -> str:
    return "option_" + option.name.replace("-", "_")


def _annotation(option: Option) -> tuple[Any, Any]:
    """Return the type and default of an option for typer: all values are texts, all are lists, flags are counted.

    So an option that may be given once only can be refused the second time, and CLI and HTTP have one parser of values.
    """
    import typer

    names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    if option.type is OptionType.FLAG:
        return Annotated[int, typer.Option(*names, count=True, help=option.help, show_default=False)], 0
    text = option.help if option.default is None else f"{option.help} [default: {option.default}]"
    metavar = option.metavar or option.type.name
    return Annotated[list[str] | None, typer.Option(*names, metavar=metavar, help=text, show_default=False)], None


def _given(option: Option, value: Any) -> list[str]:
    texts = ["true"] * value if option.type is OptionType.FLAG else list(value or ())
    if len(texts) > 1 and not option.repeat:
        raise UsageError(f"Option --{option.name} is given more than once")
    return texts


def _answer(verb: Verb, given: dict[str, list[str]], files: list[str]) -> None:
    """Answer a question whose options have been parsed."""
    if given.get("fmt", [""])[0].startswith("help"):
        from sonar.render.formats import format_help

        print(format_help(verb), end="")
        return
    source = {option.name: given.pop(option.name, [""])[0] for option in (*_SOURCE, _CONFIG, _VERBOSE)}
    if source["remote"] or source["cluster"]:
        from sonar.cli.remote import answer

        _check_remote(source, files)
        sys.stdout.write(answer(verb, given, source, account=_account(verb, given)))
        return
    query, fmt = _local_query(verb, given, source, files)
    for word in fmt.unknown:
        print(f"sonalyze: unknown word {word!r} in --fmt, ignoring", file=sys.stderr)
    from sonar.render.formats import write_result

    result = verb.run(query)
    if source["verbose"]:
        _report_reading(query)
    write_result(verb, result, fmt, sys.stdout)
    sys.stdout.flush()


def _local_query(
    verb: Verb, given: Mapping[str, list[str]], source: Mapping[str, str], files: list[str]
) -> "tuple[Query, Format]":
    from sonar.config.nodes import read_nodes
    from sonar.verbs.parameters import query_of

    return query_of(
        verb,
        given,
        data=[Path(name) for name in files] if files else _data_path(source["data-path"]),
        nodes=read_nodes(Path(source["config-file"])) if source["config-file"] else None,
        account=_account(verb, given),
        now=present(),
    )


def _data_path(option: str) -> Path:
    """Return the root of the log tree: the option, $SONAR_ROOT, or below the home directory."""
    if option:
        return Path(option)
    if root := os.environ.get("SONAR_ROOT"):
        return Path(root)
    if home := os.environ.get("HOME"):
        return Path(home) / "sonar" / "data"
    raise SonarError("No data path: give --data-path, or set SONAR_ROOT or HOME")


def _account(verb: Verb, given: Mapping[str, list[str]]) -> str | None:
    """Return whose records a question is about if it does not say: the caller's."""
    if verb.everyone or given.get("user"):
        return None
    for variable in ("LOGNAME", "USER"):
        if name := os.environ.get(variable):
            return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SonarError(f"User {os.getuid()} has no name: give --user, or set LOGNAME") from None


def _check_remote(source: Mapping[str, str], files: list[str]) -> None:
    for name in ("data-path", "config-file"):
        if source[name]:
            raise SonarError(f"--{name} may not be used with --remote or --cluster")
    if files:
        raise SonarError("-- logfile ... may not be used with --remote or --cluster")
    if not (source["remote"] and source["cluster"]):
        raise SonarError("--remote and --cluster must be used together")


def _report_reading(query: "Query") -> None:
    """Say what was read and what was dropped, by file and reason."""
    from sonar.times import iso_text

    scan, window = query.scan, query.window
    print(f"Files read: {len(scan.files)}", *(f"  {path}" for path in scan.files), sep="\n", file=sys.stderr)
    for (path, reason), number in sorted(scan.discarded.items()):
        print(f"Discarded in {path}: {number} {reason}", file=sys.stderr)
    print(f"Number of records discarded: {sum(scan.discarded.values())}", file=sys.stderr)
    print(f"From: {iso_text(window.start)}\nTo:   {iso_text(window.end)}", file=sys.stderr)

"""Declared options as a command line: typer parses and explains them, values stay texts.

All options are lists to typer and flags are counted, so that an option given twice can be refused by name, and values
are checked by the same code that serves HTTP. An ordinary command line, in which nothing is to be explained or refused,
is taken apart here: typer takes a tenth of a second to start.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from itertools import islice
from typing import Annotated, Any

from sonar.errors import UsageError
from sonar.verbs.declare import Option, OptionType

__all__ = ["Given", "parse"]


@dataclass(frozen=True, slots=True)
class Given:
    """What a command line says: the texts of each option that was given, by its long name, and the files after `--`."""

    options: dict[str, list[str]]
    files: list[str]


def parse(
    program: str, summary: str, options: Sequence[Option], argv: Sequence[str], page: str = "sonalyze(1)"
) -> Given | None:
    """Return what the arguments say, or None where help was asked for and has been printed. Raise UsageError."""
    if (ordinary := _ordinary(options, argv)) is not None:
        return ordinary
    import typer

    ours, files = _split(argv, options)
    command = _typer_command(f"{summary}. See {page}.", tuple(options))
    # typer does not name the base class of its own errors.
    usage_error: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")
    help_text = StringIO()  # caught, since typer would make an error of a reader that has gone
    try:
        with redirect_stdout(help_text):
            given = command.main(ours, prog_name=program, standalone_mode=False)
    except usage_error as error:
        raise UsageError(error.format_message().rstrip(".")) from None
    if not isinstance(given, dict):
        print(help_text.getvalue(), end="")
        return None
    for option in options:
        if len(given.get(option.name, ())) > 1 and not option.repeat:
            raise UsageError(f"Option --{option.name} is given more than once")
    return Given(given, files)


def _ordinary(options: Sequence[Option], argv: Sequence[str]) -> Given | None:
    """Return what the arguments say if each is a known option, whole and once; None where typer has to judge."""
    long = {f"--{option.name}": option for option in options}
    by_letter = {f"-{option.short}": option for option in options if option.short}
    given: dict[str, list[str]] = {}
    files: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            files = list(rest)
            break
        value: str | None
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            option, is_joined = long.get(name), bool(equals)
        else:
            option, is_joined, value = by_letter.get(argument[:2]), len(argument) > 2, argument[2:].removeprefix("=")
        if option is None or (is_joined and (option.type is OptionType.FLAG or argument[2:] == "=")):
            return None
        if option.type is OptionType.FLAG:
            value = "true"
        elif not is_joined:
            value = next(rest, None)
            if value is None or (value.startswith("-") and value != "-"):
                return None
        if option.name in given and not option.repeat:
            return None
        given.setdefault(option.name, []).append(value)
    return Given({option.name: given[option.name] for option in options if option.name in given}, files)


@lru_cache(maxsize=64)
def _typer_command(text: str, options: tuple[Option, ...]) -> Any:
    """Return what parses these options; a process that answers many questions makes it once."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        options_metavar="[OPTION ...] [-- FILE ...]",
        help=text,
    )(_command(options))
    return typer.main.get_command(app)


def _split(argv: Sequence[str], options: Sequence[Option]) -> tuple[list[str], list[str]]:
    """Return the arguments before `--`, in the forms that typer knows, and the files behind it.

    typer takes `-u=ann` for the value `=ann`, and would take files before `--` as well as behind it.
    """
    valued = {option.name for option in options if option.type is not OptionType.FLAG}
    by_letter = {option.short: option for option in options if option.short}
    ours: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            return ours, list(rest)
        if argument.startswith("--"):
            name, equals, _value = argument[2:].partition("=")
            known, needs_value = argument, name in valued and not equals
        else:
            known, needs_value = _short(argument, by_letter)
        ours.append(known)
        if needs_value:
            ours += islice(rest, 1)
    return ours, []


def _short(argument: str, by_letter: dict[str, Option]) -> tuple[str, bool]:
    """Return a group of short options without the `=` before a value, and whether the value is the next argument."""
    if not argument.startswith("-"):
        return argument, False
    for at, letter in enumerate(argument[1:], 2):
        option = by_letter.get(letter)
        if option is None:
            break
        if option.type is not OptionType.FLAG:
            value = argument[at:]
            return argument[:at] + value.removeprefix("="), not value
    return argument, False


def _command(options: Sequence[Option]) -> Callable[..., dict[str, list[str]]]:
    """Return a function whose signature is what typer makes a command of."""

    def command(**values: Any) -> dict[str, list[str]]:
        given = {}
        for option in options:
            value = values[_identifier(option)]
            texts = ["true"] * value if option.type is OptionType.FLAG else list(value or ())
            if texts:
                given[option.name] = texts
        return given

    parameters = [
        inspect.Parameter(
            _identifier(option),
            inspect.Parameter.KEYWORD_ONLY,
            default=0 if option.type is OptionType.FLAG else None,
            annotation=_annotation(option),
        )
        for option in options
    ]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _identifier(option: Option) -> str:
    return "option_" + option.name.replace("-", "_")


def _annotation(option: Option) -> Any:
    import typer

    names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    notes = [
        *(["repeatable"] if option.repeat else []),
        *(["required"] if option.required else []),
        *([f"default: {option.default}"] if option.default else []),
    ]
    text = option.help + (f" [{'; '.join(notes)}]" if notes else "")
    if option.type is OptionType.FLAG:
        return Annotated[int, typer.Option(*names, count=True, help=text, show_default=False)]
    metavar = option.metavar or option.type.name
    return Annotated[list[str] | None, typer.Option(*names, metavar=metavar, help=text, show_default=False)]

"""How the tools that people type are made and run: their typer application, and from its errors to ours."""

from collections.abc import Sequence

import typer

from sonar.errors import SonarError, UsageError

__all__ = ["new_app", "run_app"]


def new_app(text: str | None = None) -> typer.Typer:
    """Return an application without decorations; `text` is its help, where it has several commands."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_app(app: typer.Typer, argv: Sequence[str], name: str) -> int:
    """Run a command line and return its exit status. Raise UsageError for a wrong one, SonarError when given up."""
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        status = app(list(argv), prog_name=name, standalone_mode=False)
    except usage_error as error:
        raise UsageError(error.format_message()) from None  # type: ignore[attr-defined]
    except typer.Abort:
        raise SonarError("given up, nothing is changed") from None
    return status if isinstance(status, int) else 0

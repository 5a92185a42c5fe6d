"""The command naicreport: reports for web pages and for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sonar
from sonar.errors import SonarError, UsageError
from sonar.times import parse_instant, present

if TYPE_CHECKING:
    from sonar.report.answers import Answers

__all__ = ["main"]

_OLD_NAMES = {"ml-webload": "load"}
_BUCKETINGS = ("hourly", "daily", "none")

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Make the reports that web pages and people read. See naicreport(1).",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    arguments = list(argv)
    if arguments and arguments[0] in _OLD_NAMES:
        arguments[0] = _OLD_NAMES[arguments[0]]
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        app(arguments or ["--help"], prog_name="naicreport", standalone_mode=False)
    except usage_error as error:
        raise UsageError(error.format_message()) from None  # type: ignore[attr-defined]
    return 0 if arguments else UsageError.exit_status


@app.callback()
def _program(
    *,
    version: Annotated[bool, typer.Option("--version", "-V", help="print the version")] = False,
) -> None:
    if version:
        print(f"naicreport {sonar.__version__}")
        raise typer.Exit


@app.command("load")
def _load(
    *,
    config_file: Annotated[Path, typer.Option(metavar="FILE", help="description of the nodes", show_default=False)],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", "--data-path", metavar="DIR", help="root of the cluster's log tree")
    ] = None,
    report_dir: Annotated[
        Path, typer.Option("--report-dir", "--output-path", metavar="DIR", help="where the files go")
    ] = Path(),
    tag: Annotated[str, typer.Option(metavar="TEXT", help="files are HOST-TEXT.json, a group's is TEXT.json")] = "",
    group: Annotated[str, typer.Option(metavar="PATTERNS", help="one file for all hosts that match, added up")] = "",
    hourly: Annotated[bool, typer.Option("--hourly", help="means over hours (the default)")] = False,
    daily: Annotated[bool, typer.Option("--daily", help="means over days")] = False,
    none: Annotated[bool, typer.Option("--none", help="the samples themselves")] = False,
    with_downtime: Annotated[bool, typer.Option("--with-downtime", help="mark when host and GPUs were down")] = False,
    interval: Annotated[
        int, typer.Option(metavar="MINUTES", help="between samples; a gap of more than twice that is down time", min=1)
    ] = 4,
    since: Annotated[str, typer.Option("--from", "-f", metavar="DATE", help="first day, or how long ago")] = "1d",
    until: Annotated[str, typer.Option("--to", "-t", metavar="DATE", help="last day, or how long ago; now")] = "",
    now: Annotated[str, typer.Option(metavar="TIME", help="take this for the present time (RFC 3339)")] = "",
    sonalyze: Annotated[
        Path | None, typer.Option(metavar="PROGRAM", help="ask this program instead of answering in process")
    ] = None,
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="files instead of a tree")] = None,
) -> None:
    """Write the load of each host over time, for charts."""
    from sonar.report import load

    if group and none:
        raise UsageError("--group does not go with --none: adding up needs buckets")
    if group and with_downtime:
        raise UsageError("--group does not go with --with-downtime")
    if not report_dir.is_dir():
        raise SonarError(f"--report-dir is no directory: '{report_dir}'")
    source_time = _present(now)
    chosen = next((name for name in ("none", "daily") if {"none": none, "daily": daily}[name]), "hourly")
    del hourly  # it is the default, and the weakest of the three
    order = load.Order(
        directory=report_dir.absolute(),
        bucketing=chosen,
        tag=_tag(tag),
        group=group,
        downtime_interval=interval if with_downtime else None,
    )
    load.make(_answers(sonalyze, data_dir, files, config_file, since, until, source_time), order, source_time)


def _answers(
    sonalyze: Path | None,
    data_dir: Path | None,
    files: list[Path] | None,
    config_file: Path,
    since: str,
    until: str,
    now: int,
) -> "Answers":
    from sonar.report.answers import InProcess, Program, Source

    if data_dir is not None and files:
        raise UsageError("--data-dir and files do not go together")
    if data_dir is None and not files:
        raise UsageError("No data: give --data-dir, or files after --")
    data = data_dir.absolute() if data_dir is not None else tuple(path.absolute() for path in files or ())
    source = Source(data, since, until or None, config_file.absolute(), now)
    return InProcess(source) if sonalyze is None else Program(sonalyze, source)


def _present(text: str) -> int:
    if not text:
        return present()
    instant = parse_instant(text if "T" in text else text.replace(" ", "T") + ":00Z")
    if instant is None:
        raise UsageError(f"Invalid value for --now: {text!r} is no time such as 2024-01-31T12:00:00Z")
    return instant


def _tag(text: str) -> str:
    if "/" in text or text.startswith("."):
        raise UsageError(f"Invalid value for --tag: {text!r} is no part of a file name")
    return text

"""The command naicreport: reports with their options from the declarations, on typer."""

import sys
from collections.abc import Sequence
from pathlib import Path

import sonar
from sonar import report as reports
from sonar.errors import SonarError, UsageError
from sonar.report.declare import Call, Report
from sonar.times import parse_instant, present
from sonar.verbs.declare import Option, OptionType

__all__ = ["main"]

_VERBOSE = Option("verbose", "tell on stderr what was read and written", OptionType.FLAG, "v")


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    try:
        return _dispatch([argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for argument in argv])
    except UsageError as error:
        name = reports.OLD_NAMES.get(argv[0], argv[0]) if argv else ""
        topic = f" {name}" if name in reports.NAMES or name in reports.TABLES else ""
        print(f"naicreport: {error} (try 'naicreport{topic} --help')", file=sys.stderr)
        return error.exit_status


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(_overview(), file=sys.stderr, end="")
        return UsageError.exit_status
    name, *rest = argv
    if name in {"help", "-h", "--help"}:
        name, rest = (rest[0], ["--help"]) if rest and rest[0] not in {"-h", "--help"} else ("help", [])
    name = reports.OLD_NAMES.get(name, name)
    if name in {"-V", "--version", "version"}:
        print(f"naicreport {sonar.__version__}")
    elif name == "help":
        print(_overview(), end="")
    elif name in reports.NAMES or name in reports.TABLES:
        _run(reports.report(name), rest)
    else:
        kind = "No such option before the report" if name.startswith("-") else "No such report"
        raise UsageError(f"{kind}: {name!r}")
    return 0


def _overview() -> str:
    names = (*reports.NAMES, *reports.TABLES)
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {reports.report(name).summary}" for name in names]
    return "\n".join(
        [
            "Usage: naicreport REPORT [OPTION ...] [-- FILE ...]",
            "",
            "Make the reports that web pages and people read.",
            "",
            "Reports:",
            *lines,
            "",
            "Options:",
            "  -h, --help     Print this, or after a report its options",
            "  -V, --version  Print the version",
            "",
            "See naicreport(1).",
            "",
        ]
    )


def _run(declared: Report, argv: Sequence[str]) -> None:
    from sonar.cli.options import parse

    options = (*declared.options, _VERBOSE)
    given = parse(f"naicreport {declared.name}", declared.summary, options, _renamed(declared, argv), "naicreport(1)")
    if given is None:
        return
    if given.files and not declared.takes_files:
        raise UsageError(f"{declared.name} takes no files")
    call = Call(
        given=given.options,
        files=tuple(Path(name) for name in given.files),
        now=_present(given.options.get("now", [""])[0]),
        out=sys.stdout,
    )
    try:
        declared.run(call)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # reading has its own messages: it is the output that cannot be written
        raise SonarError(f"Standard output: {error.strerror}") from None


def _renamed(declared: Report, argv: Sequence[str]) -> list[str]:
    """Return the arguments with old spellings replaced, and a bare word as the option that it stands for."""
    ours, at_files, files = list(argv), "--", list[str]()
    if "--" in ours:
        place = ours.index("--")
        ours, files = ours[:place], [at_files, *ours[place + 1 :]]
    if declared.positional and ours and not ours[0].startswith("-"):
        ours = [f"--{declared.positional}", *ours]
    for at, argument in enumerate(ours):
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name[2:] in declared.old_options:
            ours[at] = f"--{declared.old_options[name[2:]]}{equals}{value}"
    return ours + files


def _present(text: str) -> int:
    if not text:
        return present()
    instant = parse_instant(text if "T" in text else text.replace(" ", "T") + ":00Z")
    if instant is None:
        raise UsageError(f"Invalid value for --now: {text!r} is no time such as 2024-01-31T12:00:00Z")
    return instant

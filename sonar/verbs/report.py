"""The verb report: one of the reports that were made of a cluster, as it is."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from sonar.errors import SonarError, UsageError
from sonar.verbs.declare import Field, Kind, Option, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB"]

_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_LARGEST = 256 << 20


def run(query: "Query") -> Result:
    """Return the text of the report as one row."""
    import pyarrow as pa

    name = query.options["report-name"]
    if not query.reports:
        raise SonarError("No reports here: give --report-dir")
    path = next((path for place in query.reports if (path := place / name).is_file() and not path.is_symlink()), None)
    if path is None:
        raise SonarError(f"No such report: {name!r}")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise SonarError(f"Report {name!r}: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise SonarError(f"Report {name!r}: larger than {_LARGEST} bytes")
    return Result(pa.table({"text": [content.decode(errors="replace")]}))


def check(options: Mapping[str, Any]) -> None:
    """Refuse a name that is none of a file in the reports' directory itself."""
    name = options["report-name"]
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(f"Invalid value for --report-name: {name!r} (want letters, digits, _ . -)")


def write(result: Result, _fmt: "Format", out: TextIO) -> None:
    """Write the report as it is."""
    out.write(result.rows.column("text")[0].as_py())


VERB = Verb(
    name="report",
    summary="Print one of the reports that were made of a cluster",
    options=(Option("report-name", "name of the report's file", required=True, metavar="NAME"),),
    fields=(Field("text", Kind.TEXT, "the report"),),
    aliases={},
    default_fields="text",
    run=run,
    privacy=Privacy.PUBLIC,  # who asks decides which directories are looked at
    shared=Shared(0),
    reads=Reads.REPORTS,
    everyone=True,
    check=check,
    write=write,
)

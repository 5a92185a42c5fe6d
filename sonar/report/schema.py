"""The JSON Schemas of report files: which file has which, and the command that prints one."""

import re
from pathlib import Path

from sonar.errors import UsageError
from sonar.report.declare import Call, Report
from sonar.verbs.declare import Option

__all__ = ["DIRECTORY", "REPORT", "schema_name"]

DIRECTORY = Path(__file__).parent / "schemas"
_LOAD = re.compile(r".+-(?:minutely|daily|weekly|monthly|quarterly)")


def schema_name(audience: str, file: str) -> str:
    """Return the name of the schema of a published JSON file; the empty text if there is none."""
    stem = file.removesuffix(".json")
    if audience == "provenance":
        return "provenance"
    if audience == "public" and stem == "violations":
        return "violations-public"
    if _LOAD.fullmatch(stem):
        return "load"
    for prefix in ("digest", "utilization"):
        if stem.startswith(f"{prefix}-"):
            return prefix
    stem = "top-users" if stem == "top-users-gpu" else stem
    return stem if (DIRECTORY / f"{stem}.json").exists() else ""


def _run(call: Call) -> None:
    names = sorted(path.stem for path in DIRECTORY.glob("*.json"))
    name = call.text("name")
    if not name:
        call.out.write("".join(f"{one}\n" for one in names))
    elif name in names:
        call.out.write((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    else:
        raise UsageError(f"there is no schema {name!r}; there are {', '.join(names)}")


REPORT = Report(
    "schema",
    "Print the JSON Schema of a report file, or the names of all",
    (Option("name", "which; also as a bare word", metavar="NAME"),),
    _run,
    takes_files=False,
    positional="name",
)

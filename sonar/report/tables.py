"""Reports that are tables: columns as data, rows as a function of a survey; written as text, CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sonar.errors import UsageError
from sonar.report.audience import Audience, Personal
from sonar.report.declare import CLUSTER, CONFIG, DATA, FROM, NOW, TO, Call, Report
from sonar.times import DAY, HOUR, MINUTE, iso_text
from sonar.verbs.declare import Option

if TYPE_CHECKING:
    from sonar.report.site import Site
    from sonar.report.survey import Survey

__all__ = [
    "FORMATS",
    "Column",
    "Table",
    "TableReport",
    "as_csv",
    "as_json",
    "as_text",
    "cell_text",
    "schema_of",
    "site_of_call",
    "survey_of",
]

FORMATS = ("text", "csv", "json")
Row = dict[str, Any]

_JSON_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": ["number", "null"]},
    "count": {"type": ["integer", "null"]},
    "id": {"type": "integer"},
    "time": {"type": ["string", "null"], "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `kind` is text, number, count, id or time (RFC 3339, UTC)."""

    name: str
    kind: str
    help: str
    unit: str = ""
    personal: Personal = Personal.NOT


@dataclass(frozen=True, slots=True)
class Table:
    """A table made: rows, and what is true of all of them."""

    rows: list[Row]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TableReport:
    """One report that is a table. `options` are its own; `make` gets their texts, defaults filled in."""

    name: str
    title: str
    summary: str
    columns: tuple[Column, ...]
    make: "Callable[[Survey, Mapping[str, str]], Table]"
    audience: Audience = Audience.PUBLIC
    options: tuple[Option, ...] = ()
    window: str = "1d"

    @property
    def personal(self) -> dict[str, Personal]:
        """What each column tells of people."""
        return {column.name: column.personal for column in self.columns}

    def given(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return the texts of all own options, defaults filled in."""
        return {option.name: texts.get(option.name, option.default or "") for option in self.options}

    def report(self) -> Report:
        """Return the report as a command."""
        formats = Option("format", f"one of {', '.join(FORMATS)}", default="text", metavar="FORMAT")
        step = Option("interval", "minutes between samples", metavar="MINUTES")
        return Report(
            self.name,
            self.summary,
            (CLUSTER, DATA, CONFIG, FROM, TO, *self.options, step, formats, NOW),
            self._run,
        )

    def _run(self, call: Call) -> None:
        form = call.text("format", "text")
        if form not in FORMATS:
            raise UsageError(f"Invalid value for --format: {form!r} is none of {', '.join(FORMATS)}")
        survey = survey_of(call, self.window)
        given = self.given({name: values[0] for name, values in call.given.items()})
        table = self.make(survey, given)
        if form == "json":
            facts = {"report": self.name, "title": self.title, "generated": iso_text(call.now), **_window(survey)}
            call.out.write(as_json(self, Table(table.rows, facts | dict(table.facts))))
        else:
            call.out.write((as_csv if form == "csv" else as_text)(self, table))


def survey_of(call: Call, window: str = "1d") -> "Survey":
    """Return the survey that a command is about: whole days if dates are given, else up to now."""
    from sonar.config.nodes import read_nodes
    from sonar.report.survey import Survey
    from sonar.times import date_limit

    site, data, config = site_of_call(call), call.path("data-dir"), call.path("config-file")
    if data is not None and call.files:
        raise UsageError("--data-dir and files do not go together")
    if data is None and not call.files and site is None:
        raise UsageError("No data: give --cluster, --data-dir, or files after --")
    start = date_limit(call.text("from", window), call.now, end=False)
    end = date_limit(call.text("to"), call.now, end=True) if call.text("to") else call.now
    if start >= end:
        raise UsageError("The --from time is greater than the --to time")
    if site is not None:
        survey = site.survey_of(start, end)
        if call.flag("interval"):
            survey.step_s = call.count("interval", 5) * MINUTE
        return survey
    nodes = read_nodes(config) if config is not None else {}
    return Survey(data or call.files, nodes, start, end, call.now, call.count("interval", 5) * MINUTE)


def site_of_call(call: Call) -> "Site | None":
    """Return the site of --cluster; None if that is not given. Raise UsageError if its data are given too."""
    from sonar.report.job import site_of

    if not call.flag("cluster"):
        return None
    others = [f"--{name}" for name in ("data-dir", "config-file") if call.flag(name)] + ["files"] * bool(call.files)
    if others:
        raise UsageError(f"--cluster and {others[0]} do not go together")
    return site_of(call.text("cluster"), call.now, policy_dir=call.path("policy-dir"))


def as_json(declared: TableReport, table: Table) -> str:
    """Return the document: facts, the columns with their units, the rows."""
    columns = [{"name": column.name, "unit": column.unit, "help": column.help} for column in declared.columns]
    document = {**table.facts, "columns": columns, "rows": table.rows}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def as_csv(declared: TableReport, table: Table) -> str:
    """Return the rows as CSV with a header (RFC 4180, but LF)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [column.name for column in declared.columns if not table.rows or column.name in table.rows[0]]
    writer.writerow(names)
    writer.writerows([["" if row[name] is None else row[name] for name in names] for row in table.rows])
    return out.getvalue()


def as_text(declared: TableReport, table: Table) -> str:
    """Return the rows in columns for people: texts to the left, numbers to the right, times to the minute."""
    columns = [column for column in declared.columns if not table.rows or column.name in table.rows[0]]
    if not table.rows:
        return f"{declared.title}: nothing.\n"
    heads = [column.name for column in columns]
    cells = [[cell_text(column, row[column.name]) for column in columns] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for line in (heads, *cells):
        parts = [
            text.ljust(width) if column.kind in {"text", "time"} else text.rjust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def schema_of(declared: TableReport) -> dict[str, Any]:
    """Return the JSON Schema of the report's file."""
    row = {
        "type": "object",
        "properties": {
            column.name: {"description": column.help + (f", {column.unit}" if column.unit else "")}
            | _JSON_TYPES[column.kind]
            for column in declared.columns
        },
        "additionalProperties": False,
        "required": [column.name for column in declared.columns if column.personal is Personal.NOT],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": declared.title,
        "type": "object",
        "properties": {
            "report": {"const": declared.name},
            "title": {"type": "string"},
            "generated": _JSON_TYPES["time"],
            "from": _JSON_TYPES["time"],
            "to": _JSON_TYPES["time"],
            "columns": {"type": "array", "items": {"type": "object", "required": ["name", "unit", "help"]}},
            "rows": {"type": "array", "items": row},
        },
        "required": ["report", "title", "generated", "from", "to", "columns", "rows"],
    }


def _window(survey: "Survey") -> dict[str, str]:
    return {"from": iso_text(survey.start), "to": iso_text(survey.end)}


def cell_text(column: Column, value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if column.kind == "time":
        return str(value)[:16].replace("T", " ")
    if column.unit == "s" and column.kind in {"number", "count"}:
        return _duration(int(value))
    return f"{value:,}" if column.kind in {"number", "count"} else str(value)


def _duration(seconds: int) -> str:
    days, rest = divmod(seconds, DAY)
    return f"{days}d{rest // HOUR:02}h{rest % HOUR // MINUTE:02}m"

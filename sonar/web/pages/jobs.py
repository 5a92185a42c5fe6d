"""The page of jobs: a form whose address is the question, a table that sorts, and the same rows as CSV or JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import urlencode

from sonar.errors import SonarError, UsageError
from sonar.times import DAY, day_of, iso_text, minute_text
from sonar.web.pages import Context, Page

__all__ = ["COLUMNS", "FIELDS", "PAGE", "Column", "job_rows", "shown_jobs", "split_names"]

ROWS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of jobs: its name in addresses, title, unit and meaning, and where its value is."""

    name: str
    title: str
    unit: str
    meaning: str
    source: str
    scale: float = 1  # what a value is divided by before it is shown
    is_number: bool = True


COLUMNS = (
    Column("job", "Job", "", "job number; < from before the data, > still there at their end, ! both", "job"),
    Column("user", "User", "", "who ran it", "user", is_number=False),
    Column("cmd", "Command", "", "the commands of its processes", "cmd", is_number=False),
    Column("host", "Node", "", "where it ran", "host", is_number=False),
    Column("start", "Start", "UTC", "first sample of the job", "start", is_number=False),
    Column("end", "End", "UTC", "last sample of the job", "end", is_number=False),
    Column("duration", "Duration", "d h m", "from the first to the last sample", "duration"),
    Column("cpu-avg", "CPU", "cores, mean", "mean over its samples of CPU time used; 1 is one core", "cpu_avg", 100),
    Column("cpu-peak", "CPU", "cores, peak", "highest CPU use between two samples; 1 is one core", "cpu_peak", 100),
    Column("res-peak", "Memory", "GB, peak", "highest resident memory of all its processes together", "res_peak"),
    Column("gpu-avg", "GPU", "cards, mean", "mean GPU utilization; 1 is one card fully used", "gpu_avg", 100),
    Column("gpumem-peak", "GPU memory", "GB, peak", "highest GPU memory in use", "gpumem_peak"),
)  # fmt: skip
FIELDS = (
    "jobm,job,user,host,start,end,duration,cpu-avg,cpu-peak,res-peak,gpu-avg,gpu-peak,gpumem-peak,cmd,classification"
)

# Fields of the form that are parameters of the verb as they are, and those that this page translates.
_PLAIN = ("from", "to", "min-runtime", "command", "min-cpu-peak", "min-mem-peak", "min-res-peak")
_FORM = (*_PLAIN, "user", "host", "job", "cores", "memory", "gpu", "at", "sort", "order", "page")


def build(context: Context) -> Mapping[str, Any]:
    """Return the jobs that the address asks for."""
    form = {name: context.get(name) for name in _FORM}
    for flag, choice in (("some-gpu", "some"), ("no-gpu", "none")):  # the address of a page of old
        if context.get(flag) and not form["gpu"]:
            form["gpu"] = choice
    for name in ("user", "host", "job"):
        form[name] = form[name] and ",".join(value for given, value in context.parameters if given == name)
    problem, rows = "", []
    given: dict[str, list[str]] = {}
    try:
        given = _question(form)
        rows = job_rows(context, given, at=_instant(form["at"]))
    except SonarError as error:
        problem = str(error)
    column = next((column for column in COLUMNS if column.name == form["sort"]), None)
    descending = form["order"] != "asc"
    rows = _sorted(rows, column or COLUMNS[5], descending=descending)
    pages = max((len(rows) - 1) // ROWS_A_PAGE + 1, 1)
    page = min(max(int(form["page"]) if form["page"].isascii() and form["page"].isdigit() else 1, 1), pages)
    first = (page - 1) * ROWS_A_PAGE
    kept = {name: value for name, value in form.items() if value and name not in ("sort", "order", "page")}
    export = [
        ("cluster", context.known_cluster),
        *((name, value) for name, values in given.items() for value in values),
    ]
    if "user" not in given:
        export.append(("user", "-"))
    return {
        "title": "Jobs",
        "form": form,
        "kept": kept,
        "problem": problem,
        "columns": COLUMNS,
        "rows": shown_jobs(rows[first : first + ROWS_A_PAGE]),
        "number": len(rows),
        "first": first + 1,
        "page": page,
        "pages": pages,
        "sort": (column or COLUMNS[5]).name,
        "order": "desc" if descending else "asc",
        "export": {
            style: urlencode([*export, ("fmt", f"{words},{FIELDS}")])
            for style, words in (("CSV", "csv,header"), ("JSON", "json"))
        },
    }


def job_rows(
    context: Context, given: Mapping[str, Sequence[str]], *, at: int | None = None, more: str = ""
) -> list[dict[str, Any]]:
    """Return the jobs, as values, with `more` fields; `at` keeps those that were there at an instant."""
    question = {"user": ["-"], **{name: list(values) for name, values in given.items()}, "fmt": [FIELDS + more]}
    if "job" in question and "user" not in given:
        del question["user"]  # a job number is about everyone who may be seen
    if at is not None:
        question.setdefault("from", [str(day_of(at - DAY))])
        question.setdefault("to", [str(day_of(at))])
    rows = context.asker.ask("jobs", context.known_cluster, question).rows
    return rows if at is None else [row for row in rows if row["start"] <= at <= row["end"]]


def shown_jobs(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column] = COLUMNS) -> list[dict[str, Any]]:
    """Return jobs as the texts of the cells of these columns, with what their links need."""
    return [
        {
            "job": row["job"],
            "hosts": row["host"],
            "user": row["user"],
            "is_running": bool(row["classification"] & 1),
            "from": str(day_of(row["start"])),
            "to": str(day_of(row["end"])),
            "cells": [(column, _text(row, column)) for column in columns],
        }
        for row in rows
    ]


def _text(row: Mapping[str, Any], column: Column) -> str:
    from sonar.hosts import compress

    value = row[column.source]
    match column.name:
        case "job":
            return str(row["jobm"])
        case "host":
            return (
                value[0].split(".")[0] if len(value) == 1 else compress(sorted({host.split(".")[0] for host in value}))
            )
        case "start":
            return minute_text(value)
        case "end":
            return minute_text(value)
        case "duration":
            return duration_text(value)
    if value is None:
        return "–"
    if column.scale != 1:
        return f"{value / column.scale:.1f}"
    return str(ceil(value)) if isinstance(value, float) else str(value)


def duration_text(seconds: int) -> str:
    """Return days, hours and minutes, without those that are 0 in front."""
    minutes = (seconds + 30) // 60
    days, hours = divmod(minutes // 60, 24)
    parts = [(days, "d"), (hours, "h"), (minutes % 60, "m")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return " ".join(f"{number}{unit}" for number, unit in parts)


def _question(form: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the options of the verb that a form means."""
    given = {name: [form[name]] for name in _PLAIN if form[name]}
    for name in ("user", "job"):
        if values := [value.strip() for value in form[name].split(",") if value.strip()]:
            given[name] = values
    if hosts := split_names(form["host"]):
        given["host"] = hosts
    if form["cores"]:
        given["min-cpu-peak"] = [str(round(_number("cores", form["cores"]) * 100))]
    if form["memory"]:
        given["min-res-peak"] = [str(round(_number("memory", form["memory"])))]
    if form["gpu"] in ("some", "none"):
        given["some-gpu" if form["gpu"] == "some" else "no-gpu"] = ["true"]
    return given


def split_names(text: str) -> list[str]:
    """Return the names of a list: commas and blanks separate, except within brackets."""
    names, depth, name = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char in ", " and depth <= 0:
            names.append(name)
            name = ""
        else:
            name += char
    return [name for name in (*names, name) if name]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{name}: {text!r} is not a number")
    return value


def _instant(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise UsageError(f"at: {text!r} is not an instant in seconds since 1970")
    return int(text)


def _sorted(rows: list[dict[str, Any]], column: Column, *, descending: bool) -> list[dict[str, Any]]:
    """Return the rows in the order of a column; of equal ones the last comes first."""
    rows = sorted(rows, key=lambda row: (row["end"], row["start"], row["job"]), reverse=True)
    return sorted(rows, key=lambda row: row[column.source], reverse=descending)


def at_text(form: Mapping[str, str]) -> str:
    """Return the instant of a form as text, if it has one."""
    instant = _instant(form["at"])
    return "" if instant is None else iso_text(instant)


PAGE = Page("/c/{cluster}/jobs", "jobs.html", build, section="jobs")

"""The page of a job: what it used of what it asked for, process by process over time, and what to make of that."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sonar import verbs
from sonar.config.clusters import UnknownClusterError
from sonar.errors import SonarError
from sonar.web.pages import Context, Page
from sonar.web.pages.jobs import COLUMNS, job_rows, shown_jobs

if TYPE_CHECKING:
    from sonar.web.questions import Answered

__all__ = ["PAGE"]

_MOST_PROCESSES = 12  # lines of a chart; the others are added up
_CHARTS = (
    ("cpu", "CPU", "cores", 100, "CPU time used between two samples; 1 is one core"),
    ("res", "Memory", "GB", 1, "resident memory"),
    ("gpu", "GPU", "cards", 100, "GPU utilization; 1 is one card fully used"),
    ("gpumem", "GPU memory", "GB", 1, "GPU memory in use"),
)
_DEFAULT_FROM = "14d"


def build(context: Context) -> Mapping[str, Any]:
    """Return the job's rows, its profile, and the notes and answers of the verbs that judge it."""
    job = context.path["job"]
    if not (job.isascii() and job.isdigit() and 0 < int(job) < 2**32):
        raise UnknownClusterError(f"no job {job[:20]!r}")
    window = {"from": [context.get("from") or _DEFAULT_FROM], "job": [job]}
    if context.get("to"):
        window["to"] = [context.get("to")]
    if context.get("host"):
        window["host"] = [context.get("host")]
    rows = job_rows(context, {**window, "min-samples": ["1"]})
    chart: dict[str, Any] = {"times": [], "charts": []}
    problem = ""
    if rows:
        try:
            chart = _profile(context, window)
        except SonarError as error:
            problem = str(error)
    kept = [("cluster", context.known_cluster), *((name, values[0]) for name, values in window.items())]
    return {
        "title": f"Job {job}",
        "job": job,
        "jobs": shown_jobs(rows),
        "columns": COLUMNS,
        "since": window["from"][0],
        "chart": chart,
        "problem": problem,
        "asked": _asked(context, window),
        "notes": _notes(context, window),
        "explained": _explained(context, window),
        "downloads": _downloads(kept, chart),
    }


def _profile(context: Context, window: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the charts: a line a process, the smaller ones of many added up."""
    answered = context.asker.ask("profile", context.known_cluster, window)
    profile = answered.result.facts["profile"]
    times = sorted(set(profile.time.tolist()))
    place = {time: at for at, time in enumerate(times)}
    names = [f"{command} ({pid})" for command, pid in zip(profile.commands, profile.pids, strict=True)]
    charts = []
    for column, title, unit, scale, meaning in _CHARTS:
        if column not in profile.values:
            continue
        values = profile.values[column]
        if column.startswith("gpu") and not values.any():
            continue
        lines: list[list[float | None]] = [[None] * len(times) for _ in names]
        for time, process, value in zip(profile.time.tolist(), profile.process.tolist(), values.tolist(), strict=True):
            lines[process][place[time]] = round(value / scale, 2)
        shown, labels = _largest(lines, names)
        charts.append(
            {"title": title, "unit": unit, "percent": False, "meaning": meaning, "names": labels, "lines": shown}
        )
    return {"times": times, "charts": charts}


def _largest(lines: list[list[float | None]], names: list[str]) -> tuple[list[list[float | None]], list[str]]:
    if len(lines) <= _MOST_PROCESSES:
        return lines, names
    order = sorted(range(len(lines)), key=lambda at: -sum(value or 0 for value in lines[at]))
    kept, rest = order[: _MOST_PROCESSES - 1], order[_MOST_PROCESSES - 1 :]
    summed: list[float | None] = []
    for at in range(len(lines[0])):
        values = [value for line in rest if (value := lines[line][at]) is not None]
        summed.append(round(sum(values), 2) if values else None)
    return [*(lines[at] for at in kept), summed], [*(names[at] for at in kept), f"{len(rest)} other processes"]


def _asked(context: Context, window: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return what the batch system says: name of the field, its text, its meaning."""
    given = {name: list(values) for name, values in window.items() if name in ("from", "to", "job")}
    fields = "State,Account,Partition,ReqNodes,ReqCPUS,ReqMem,ReqGPUS,Timelimit,Elapsed,MaxRSS,rcpu,rmem,ExitCode"
    try:
        answered = context.asker.ask("sacct", context.known_cluster, {**given, "fmt": [fields]})
        rows = answered.texts()
    except SonarError:
        return []
    if not rows:
        return []
    help_of = {field.name: field.help for field in answered.fmt.fields}
    return [(name, text, help_of.get(name, "")) for name, text in rows[0].items() if text]


def _answer(context: Context, name: str, window: Mapping[str, Sequence[str]]) -> "Answered | None":
    """Return what a verb that explains jobs answers; None where there is none, or it finds nothing."""
    from sonar.verbs.parameters import options_of

    if name not in verbs.NAMES:
        return None
    known = {option.name for option in options_of(verbs.verb(name))}
    given = {key: list(values) for key, values in window.items() if key in known}
    try:
        return context.asker.ask(name, context.known_cluster, given)
    except SonarError:
        return None


def _notes(context: Context, window: Mapping[str, Sequence[str]]) -> str:
    """Return what `sonalyze job` prints."""
    from io import StringIO

    from sonar.render.formats import write_result

    answered = _answer(context, "job", window)
    out = StringIO()
    if answered is not None:
        write_result(answered.verb, answered.result, answered.fmt, out)
    return out.getvalue()


def _explained(context: Context, window: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return the rows of `sonalyze explain`: each figure, its value, and how it comes about."""
    answered = _answer(context, "explain", window)
    return answered.texts() if answered is not None else []


def _downloads(kept: list[tuple[str, str]], chart: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, address and file name of what can be taken away."""
    found = []
    if chart["charts"]:
        for style in ("csv", "json"):
            query = urlencode([*kept, ("fmt", f"{style},cpu" if style == "csv" else style)])
            found.append((f"profile as {style.upper()}", f"/profile?{query}", f"profile.{style}"))
    if "dossier" in verbs.NAMES:
        found.append(("dossier", f"/dossier?{urlencode(kept)}", "dossier.html"))
    return found


PAGE = Page("/c/{cluster}/job/{job}", "job.html", build, section="jobs")

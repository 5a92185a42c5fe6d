"""The command verify: a check of the log, like fsck."""

import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

import sonar
from sonar.cli.commands import new_app, run_app
from sonar.cli.log_root import Data, clusters_in
from sonar.errors import UsageError
from sonar.times import date_limit, day_of, present

if TYPE_CHECKING:
    from sonar.audit.verify import Finding, Summary

__all__ = ["main"]

app = new_app()


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 1 if there is damage that was not known, 2 for a wrong one."""
    return run_app(app, argv, "sonarctl verify")


@app.command(help="Check that all that lies in the log can be read, and set aside what cannot. See sonarctl-verify(8).")
def _verify(
    *,
    data: Data = None,
    clusters: Annotated[
        list[str] | None, typer.Option("--cluster", "-c", metavar="NAME", help="this cluster only; may be repeated")
    ] = None,
    since: Annotated[str, typer.Option("--from", "-f", metavar="DATE", help="from that day on (the first)")] = "",
    until: Annotated[str, typer.Option("--to", "-t", metavar="DATE", help="up to that day (the last)")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only look, change nothing")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="tell of what is known, too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, an object a line")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="print the version")] = False,
) -> int:
    if version:
        print(f"verify {sonar.__version__}")
        return 0
    from sonar.audit.verify import verify_cluster

    known = clusters_in(data)
    days = _days(since, until)
    damage = False
    for cluster in [known.find(name) for name in clusters] if clusters else known.names():
        summary = verify_cluster(known.data / cluster, days, repair=not dry_run)
        damage = damage or any(one.is_damage for one in summary.findings)
        for finding in summary.findings:
            if finding.is_damage or verbose:
                print(_object(cluster, finding) if as_json else _line(finding))
        print(_summary_object(cluster, summary) if as_json else _summary_line(cluster, summary))
    return 1 if damage else 0


def _days(since: str, until: str) -> tuple[date, date] | None:
    now = present()
    first = day_of(date_limit(since, now, end=False)) if since else date.min
    last = day_of(date_limit(until, now, end=True)) if until else date.max
    if first > last:
        raise UsageError("--from must not be after --to")
    return (first, last) if since or until else None


_DONE = {"cut": "moved to .bad", "copied": "copied to .bad", "known": "known", "left": "left as it is"}


def _line(finding: "Finding") -> str:
    if finding.kind in {"bad", "torn"}:
        place = f"{finding.path}: {finding.size} bytes at {finding.offset}"
        what = "bad record" if finding.kind == "bad" else "torn end"
        return f"{place}: {what} ({finding.reason}), {_DONE[finding.action.value]}"
    return f"{finding.path}: {finding.kind}: {finding.reason}"


def _object(cluster: str, finding: "Finding") -> str:
    fields = {
        "cluster": cluster,
        "file": str(finding.path),
        "kind": finding.kind,
        "reason": finding.reason,
        "offset": finding.offset,
        "size": finding.size,
        "action": finding.action.value,
    }
    return json.dumps(fields, ensure_ascii=False)


def _summary_line(cluster: str, summary: "Summary") -> str:
    parts = [f"{summary.files} files", f"{summary.bytes} bytes"]
    for kind, name in (
        ("bad", "bad records"),
        ("torn", "torn ends"),
        ("unreadable", "unreadable"),
        ("columns", "bad columns"),
    ):
        if new := summary.count(kind):
            parts.append(f"{new} {name}")
    if old := summary.count("bad", known=True):
        parts.append(f"{old} known bad records")
    if summary.ignored:
        parts.append(f"{summary.ignored} other files")
    return f"{cluster}: {', '.join(parts)}"


def _summary_object(cluster: str, summary: "Summary") -> str:
    fields = {
        "cluster": cluster,
        "files": summary.files,
        "bytes": summary.bytes,
        "other_files": summary.ignored,
        "bad": summary.count("bad"),
        "known": summary.count("bad", known=True),
        "torn": summary.count("torn"),
        "unreadable": summary.count("unreadable"),
        "columns": summary.count("columns"),
    }
    return json.dumps(fields)

"""The command gaps: which samples of which hosts are missing, hour by hour, and why."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

import sonar
from sonar.cli.commands import new_app, run_app
from sonar.cli.log_root import Data, clusters_in
from sonar.errors import UsageError
from sonar.times import HOUR, date_limit, iso_text, minute_text, parse_duration, parse_instant, present

if TYPE_CHECKING:
    from sonar.audit.gaps import HostHour, Window
    from sonar.config.clusters import Clusters
    from sonar.names import ClusterName

__all__ = ["main"]

_HOURS_AGO = re.compile(r"(\d{1,6})h", re.ASCII)

app = new_app()


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    return run_app(app, argv, "sonarctl gaps")


@app.command(help="Tell for each host and hour which samples are missing, and why. See sonarctl-gaps(8).")
def _gaps(
    *,
    data: Data = None,
    clusters: Annotated[
        list[str] | None, typer.Option("--cluster", "-c", metavar="NAME", help="of this cluster only; may be repeated")
    ] = None,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", metavar="PATTERN", help="of these hosts only; may be repeated")
    ] = None,
    since: Annotated[str, typer.Option("--from", "-f", metavar="TIME", help="from then on: a date, 2d, 6h, …")] = "1d",
    until: Annotated[str, typer.Option("--to", "-t", metavar="TIME", help="up to then, as --from (now)")] = "",
    interval: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="between samples (what each host's samples tell)", min=1)
    ] = None,
    late: Annotated[
        str, typer.Option(metavar="TIME", help="later than that after it was taken, a sample is late")
    ] = "10m",
    everything: Annotated[bool, typer.Option("--all", help="hours without trouble too")] = False,
    total: Annotated[bool, typer.Option("--total", help="one line a host, for all hours together")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, an object a line")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="print the version")] = False,
) -> None:
    if version:
        print(f"gaps {sonar.__version__}")
        return
    from sonar.audit.gaps import Window
    from sonar.audit.hours import hours_of
    from sonar.hosts import HostPatterns

    now = present()
    window = Window(
        start=_instant(since, now, "--from", end=False),
        # What the ledger has of this very second counts.
        end=min(_instant(until, now, "--to", end=True) if until else now + 1, now + 1),
        now=now,
        interval_s=interval,
        late_after_s=parse_duration(late),
    )
    if window.start >= window.end:
        raise UsageError("--from must be before --to")
    known = clusters_in(data)
    patterns = HostPatterns.parse(hosts or ())
    rows = [
        _Row(cluster, one)
        for cluster in _wanted(known, window, clusters or ())
        for one in hours_of(known, cluster, window, patterns)
        if one.host or not hosts
    ]
    if total:
        rows = _totals(rows)
    shown = [row for row in rows if everything or row.has_trouble]
    if as_json:
        for row in shown:
            print(json.dumps(row.fields(), ensure_ascii=False))
    elif shown:
        _print_table(shown, with_hours=not total)
    else:
        taken, many = sum(row.of.received for row in rows), len({(row.cluster, row.of.host) for row in rows})
        print(f"gaps: nothing is missing: {taken} samples of {many} hosts", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class _Row:
    cluster: "ClusterName"
    of: "HostHour"

    @property
    def has_trouble(self) -> bool:
        return bool(self.of.missing or self.of.late or self.of.rejected or self.of.dropped)

    def fields(self) -> dict[str, object]:
        of = self.of
        return {
            "cluster": self.cluster,
            "host": of.host,
            "hour": iso_text(of.hour),
            "interval": of.interval_s,
            "expected": of.expected,
            "received": of.received,
            "late": of.late,
            "rejected": of.rejected,
            "dropped": of.dropped,
            "missing": of.missing,
            "why": [{"reason": reason, "missing": count} for reason, count in sorted(of.why.items())],
        }


def _wanted(known: "Clusters", window: "Window", names: Sequence[str]) -> "list[ClusterName]":
    """Return the clusters to tell of: those that are asked for, or all; those too that were only ever refused."""
    from sonar.names import ClusterName
    from sonar.store.ledger import read_strangers

    strangers = {ClusterName(one.cluster) for one in read_strangers(known.data, window.start, window.end)}
    if not names:
        there = known.names()
        return [*there, *sorted(strangers.difference(there))]
    return [ClusterName(name) if name in strangers else known.find(name) for name in names]


def _totals(rows: Iterable[_Row]) -> list[_Row]:
    """Return a row a host, the hour of which is the first one."""
    found: dict[tuple[str, str], _Row] = {}
    for row in rows:
        key = (row.cluster, row.of.host)
        if key not in found:
            found[key] = row
            continue
        before, of = found[key].of, row.of
        why = Counter(before.why)
        for reason, count in of.why.items():
            why[reason] += count
        numbers = {
            name: getattr(before, name) + getattr(of, name)
            for name in ("expected", "received", "late", "rejected", "dropped")
        }
        found[key] = _Row(row.cluster, replace(before, why=why, **numbers))
    return list(found.values())


def _print_table(rows: Sequence[_Row], *, with_hours: bool) -> None:
    head = ["CLUSTER", "HOST", "HOUR", "EXPECTED", "RECEIVED", "LATE", "REJECTED", "WHY"]
    table = [head]
    for row in rows:
        of = row.of
        numbers = [str(number) for number in (of.expected, of.received, of.late, of.rejected)]
        table.append([row.cluster, of.host or "-", minute_text(of.hour), *numbers, _why(of)])
    if not with_hours:
        table = [[*line[:2], *line[3:]] for line in table]
    numeric = {head.index(name) - (not with_hours) for name in ("EXPECTED", "RECEIVED", "LATE", "REJECTED")}
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            cell.rjust(width) if place in numeric else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _why(of: "HostHour") -> str:
    """Return the reasons, those that explain most first; where there is one for all that is missing, without number."""
    reasons = sorted(of.why.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(reason if count in {0, of.missing} else f"{reason} ({count})" for reason, count in reasons)


def _instant(text: str, now: int, option: str, *, end: bool) -> int:
    """Return the instant of a time with offset, of hours ago, or of what other commands take as a date."""
    instant = parse_instant(text)
    if instant is not None:
        return instant
    if match := _HOURS_AGO.fullmatch(text):
        return now - int(match[1]) * HOUR
    try:
        return date_limit(text, now, end=end) + (1 if end and not text.endswith(("d", "w")) else 0)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None

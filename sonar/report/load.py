"""The load report: one JSON file a host, or one for a group of hosts, with the load over time for charts.

naicreport(1) has the members of a file. Values are percent of all that the host, or the group, has.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sonar.errors import SonarError, UsageError
from sonar.hosts import split_list
from sonar.names import host_name
from sonar.report.answers import FLAG, NODES, WINDOW, Answers, answers_for
from sonar.report.declare import CONFIG, DATA, FROM, NOW, SONALYZE, TO, Call, Report
from sonar.report.publish import publish
from sonar.times import DAY, HOUR, MINUTE, iso_text, minute_text, parse_instant
from sonar.verbs.declare import Option, OptionType

__all__ = ["REPORT", "Order", "documents", "make", "number_of"]

_FIELDS = "json,datetime,cpu,mem,gpu,gpumem,rcpu,rmem,rgpu,rgpumem,gpus,host"


@dataclass(frozen=True, slots=True)
class Order:
    """What report is wanted: `bucketing` is none, hourly or daily; an interval in minutes asks for down time."""

    directory: Path
    bucketing: str
    tag: str = ""
    group: str = ""
    downtime_interval: int | None = None


def make(answers: Answers, order: Order, now: int) -> list[Path]:
    """Write the files and return their paths; a host whose values are damaged does not keep the others from theirs."""
    written = []
    for name, document in documents(answers, order, now):
        path = order.directory / name
        publish(path, json.dumps(document, ensure_ascii=False, separators=(",", ":")))
        written.append(path)
    return written


def documents(
    answers: Answers, order: Order, now: int, window: tuple[int, int] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Return the files' names and contents.

    With a `window` of instants, which may be the end of what the answers are about, they have what pages of now know
    too: `generated`, `from`, `to`, `group`, `rres`, and null where a host has no sample, so that a gap is seen.
    """
    fields = _FIELDS if window is None else f"{_FIELDS},rres"
    options: dict[str, Sequence[str]] = {NODES: (), "fmt": [fields], WINDOW: (), order.bucketing: [FLAG]}
    if order.group:
        options |= {"group": [FLAG], "host": split_list(order.group)}
    if window is not None and order.bucketing != "none":
        options |= {"compact": [FLAG]}
    systems = answers.ask("load", options)
    down = _down_periods(answers, order.downtime_interval) if order.downtime_interval else None
    if order.group and len(systems) > 1:
        raise SonarError(f"Expected exactly one datum for grouped run, tag={order.tag}, not {len(systems)}")
    found = []
    for system in systems:
        facts, records = system["system"], system["records"]
        if order.group:
            name = order.tag or "group"
        else:
            name = host_name(facts["hostname"]) + (f"-{order.tag}" if order.tag else "")
        if window is not None:
            records = _with_gaps(records, order, window)
        document = _document(facts, records, order, now, down, is_new=window is not None)
        if window is not None:
            start, end = (iso_text(instant) for instant in window)
            document |= {"generated": iso_text(now), "from": start, "to": end}
            document |= {"group": order.group} if order.group else {}
        found.append((f"{name}.json", document))
    return found


def _with_gaps(
    records: Sequence[Mapping[str, str]], order: Order, window: tuple[int, int]
) -> Sequence[Mapping[str, str]]:
    """Return the records with empty ones in between: for each slot without a sample; of samples, one in each gap."""
    slot = {"daily": DAY, "hourly": HOUR}.get(order.bucketing)
    if slot is not None:
        first = minute_text(window[0] // slot * slot)
        by_label = {record["datetime"]: record for record in records if record["datetime"] >= first}
        labels = [minute_text(instant) for instant in range(window[0] // slot * slot, window[1] + 1, slot)]
        return [by_label.get(label, {"datetime": label}) for label in sorted({*labels, *by_label})]
    most_s = 2 * MINUTE * (order.downtime_interval or 5)
    filled: list[Mapping[str, str]] = []
    before = None
    for record in records:
        instant = parse_instant(record["datetime"].replace(" ", "T") + ":00Z") or 0
        if before is not None and instant - before > most_s:
            filled.append({"datetime": minute_text(before + MINUTE)})
        filled.append(record)
        before = instant
    return filled


def _document(
    facts: Mapping[str, str],
    records: Sequence[Mapping[str, str]],
    order: Order,
    now: int,
    down: "Mapping[str, list[_Period]] | None",
    *,
    is_new: bool,
) -> dict[str, Any]:
    """Return the content of one file, members in the order that readers of old know."""
    labels = [record["datetime"] for record in records]
    names = ("rcpu", "rmem", "rgpu", "rgpumem", "rres") if is_new else ("rcpu", "rmem", "rgpu", "rgpumem")
    series = {name: [number_of(record.get(name, "")) for record in records] for name in names}
    has_gpus = int(facts["gpucards"]) > 0
    if not is_new:  # of old, one value that is not known takes both series away
        has_gpus = has_gpus and None not in series["rgpu"] and None not in series["rgpumem"]
    document: dict[str, Any] = {
        "date": minute_text(now),
        "hostname": facts["hostname"],
        "tag": order.tag,
        "bucketing": order.bucketing,
        "labels": labels,
        "rcpu": series["rcpu"],
        "rmem": series["rmem"],
    }
    if has_gpus:
        document |= {"rgpu": series["rgpu"], "rgpumem": series["rgpumem"]}
    if is_new:
        document["rres"] = series["rres"]
    if down is not None:
        periods = down.get(facts["hostname"], [])
        document["downhost"] = _marks(labels, [period for period in periods if period.device == "host"])
        if has_gpus:
            document["downgpu"] = _marks(labels, [period for period in periods if period.device != "host"])
    document["system"] = {"hostname": facts["hostname"], "description": facts["description"]}
    return document


def number_of(text: str) -> float | int | None:
    """Return the number behind a text, null for what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


@dataclass(frozen=True, slots=True)
class _Period:
    """A time of being down; instants are texts of one format, so their order is that of time."""

    device: str
    start: str
    end: str


def _down_periods(answers: Answers, interval: int) -> dict[str, list[_Period]]:
    """Return the down times of each host."""
    options: dict[str, Sequence[str]] = {
        "interval": [str(interval)], "only-down": [FLAG], "fmt": ["json,device,host,start,end"], WINDOW: ()
    }  # fmt: skip
    periods: dict[str, list[_Period]] = {}
    for row in answers.ask("uptime", options):
        periods.setdefault(row["host"], []).append(_Period(row["device"], row["start"], row["end"]))
    return periods


def _marks(labels: Sequence[str], periods: Sequence[_Period]) -> list[int]:
    """Return 1 for each bucket that a period overlaps, from the one that holds its start; else 0.

    The last bucket has no end. A period that ended before the first bucket marks nothing.
    """
    following = [after for _, after in pairwise(labels)] + ["~"]
    return (
        [
            int(any(period.start < after and label < period.end for period in periods))
            for label, after in zip(labels, following, strict=True)
        ]
        if labels
        else []
    )


def _run(call: Call) -> None:
    call.required("config-file")
    group, with_downtime = call.text("group"), call.flag("with-downtime")
    if group and call.flag("none"):
        raise UsageError("--group does not go with --none: adding up needs buckets")
    if group and with_downtime:
        raise UsageError("--group does not go with --with-downtime")
    directory = call.path("report-dir") or Path.cwd()
    if not directory.is_dir():
        raise SonarError(f"--report-dir is no directory: '{directory}'")
    tag = call.text("tag")
    if "/" in tag or tag.startswith("."):
        raise UsageError(f"Invalid value for --tag: {tag!r} is no part of a file name")
    order = Order(
        directory=directory,
        bucketing=next((name for name in ("none", "daily") if call.flag(name)), "hourly"),
        tag=tag,
        group=group,
        downtime_interval=call.count("interval", 4) if with_downtime else None,
    )
    written = make(answers_for(call), order, call.now)
    call.tell(f"{len(written)} files written to '{directory}'")


REPORT = Report(
    "load",
    "Write the load of each host over time, for charts",
    (
        SONALYZE,
        CONFIG,
        DATA,
        Option("report-dir", "where the files go; here unless given", OptionType.PATH, metavar="DIR"),
        Option("tag", "files are HOST-TEXT.json, a group's is TEXT.json", metavar="TEXT"),
        Option("group", "one file for all hosts that match, added up", metavar="PATTERNS"),
        Option("hourly", "means over hours (the default)", OptionType.FLAG),
        Option("daily", "means over days", OptionType.FLAG),
        Option("none", "the samples themselves", OptionType.FLAG),
        Option("with-downtime", "mark when host and GPUs were down", OptionType.FLAG),
        Option("interval", "minutes between samples; a gap of more than twice that is down time", metavar="MINUTES"),
        FROM,
        TO,
        NOW,
    ),
    _run,
    old_options={"data-path": "data-dir", "output-path": "report-dir"},
)

"""The arrival ledger: what came, when and for whom, what was refused, and when nobody was there to take anything.

    CLUSTER/YYYY/MM/DD/0+arrivals.jsonl     posts of a cluster, by the day (UTC) of their arrival
    .server/YYYY-MM.jsonl                   the server itself: up, alive, refusing, down
    .server/strangers-YYYY-MM.jsonl         refused posts of clusters that there are no data of

JSON lines, appended and never rewritten; sonar-data(5) lists their keys. A line of an accepted post is part of the same
entry of the spool as the post's records, so that one is there exactly if the other is. No reader of data takes a name
that begins with `0+arrivals` or with a dot for data.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import orjson

from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.times import DAY, day_of, iso_text, parse_instant

__all__ = [
    "ALIVE_S",
    "Arrival",
    "Interval",
    "ServerEvent",
    "arrival_line",
    "arrivals_path",
    "event_line",
    "last_event",
    "read_arrivals",
    "read_server_events",
    "read_strangers",
    "server_intervals",
    "server_path",
    "stranger_line",
    "strangers_path",
]

ALIVE_S = 60
ARRIVALS_NAME = "0+arrivals.jsonl"
SERVER_DIRECTORY = ".server"

_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one post brought of one host, or a number of like posts that were refused (`status` is not 200).

    Instants and durations are seconds. `host` is empty where the post was the whole cluster's or did not say.
    """

    at: int  # arrival; of several refused posts: of the first
    cluster: str
    host: str
    endpoint: str  # `sonar-freecsv`, `insert/sample`, …
    status: int = 200
    records: int = 0
    bytes: int = 0
    late: int = 0  # arrival less time of the newest record; negative if the node's clock is ahead
    span: int = 0  # time of the newest record less that of the oldest
    dropped: int = 0  # records
    why: str = ""  # the first reason for dropping or refusing
    posts: int = 1
    until: int = 0  # arrival of the last of several posts; else as `at`
    remote: str = ""  # address of who was refused, where only one was

    @property
    def newest(self) -> int:
        """Time of the newest record."""
        return self.at - self.late

    @property
    def oldest(self) -> int:
        """Time of the oldest record."""
        return self.at - self.late - self.span


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """A line of the server's own ledger.

    up          has started; `since` is the last sign of life of the process before (0: there was none)
    alive       still runs; once in `ALIVE_S` seconds
    refusing    could not take uploads from `since` to `at`, because of `why`
    down        was told to stop, and has
    """

    at: int
    event: str
    since: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A time from `start` up to `end` in which uploads could not be taken: `down`, or `refusing` because of `why`."""

    start: int
    end: int
    state: str
    why: str = ""


def arrivals_path(cluster: ClusterName, day: str) -> str:
    """Return the ledger of a cluster's arrivals on a day `YYYY/MM/DD`, below the data root."""
    return f"{cluster}/{day}/{ARRIVALS_NAME}"


def server_path(instant: int) -> str:
    """Return the server's own ledger at an instant, below the data root."""
    return f"{SERVER_DIRECTORY}/{day_of(instant):%Y-%m}.jsonl"


def strangers_path(instant: int) -> str:
    """Return the ledger of refused posts of clusters without data at an instant, below the data root."""
    return f"{SERVER_DIRECTORY}/strangers-{day_of(instant):%Y-%m}.jsonl"


def arrival_line(arrival: Arrival) -> bytes:
    """Return the line of an arrival; what has its usual value is left out."""
    return orjson.dumps(_fields(arrival), option=orjson.OPT_APPEND_NEWLINE)


def stranger_line(arrival: Arrival) -> bytes:
    """Return the line of refused posts of a cluster without data."""
    return orjson.dumps({"cluster": arrival.cluster, **_fields(arrival)}, option=orjson.OPT_APPEND_NEWLINE)


def _fields(arrival: Arrival) -> dict[str, str | int]:
    line: dict[str, str | int] = {"at": _at(arrival.at), "host": arrival.host, "endpoint": arrival.endpoint}
    line["status"] = arrival.status
    if arrival.records:
        line["records"], line["bytes"] = arrival.records, arrival.bytes
    if arrival.span:
        line["span"] = arrival.span
    if arrival.dropped:
        line["dropped"] = arrival.dropped
    if arrival.why:
        line["why"] = arrival.why
    if arrival.remote:
        line["remote"] = arrival.remote
    if arrival.records:
        line["late"] = arrival.late
    if arrival.posts != 1:
        line["posts"] = arrival.posts
        line["until"] = iso_text(arrival.until)
    return line


_at = lru_cache(256)(iso_text)  # many posts come in one second


def event_line(event: ServerEvent) -> bytes:
    """Return the line of an event."""
    line = {"at": iso_text(event.at), "event": event.event}
    if event.since:
        line["since"] = iso_text(event.since)
    if event.why:
        line["why"] = event.why
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def read_arrivals(root: Path, cluster: ClusterName, start: int, end: int) -> Iterator[Arrival]:
    """Iterate over what arrived from `start` up to `end`, as it came; lines that cannot be read are left out.

    Last comes what was refused before there were data of the cluster. `root` is the data root. Raise SonarError if a
    ledger is there and cannot be read.
    """
    for ordinal in range(day_of(start).toordinal(), day_of(max(start, end - 1)).toordinal() + 1):
        day = day_of((ordinal - day_of(0).toordinal()) * DAY)
        for line in _lines(root / arrivals_path(cluster, f"{day:%Y/%m/%d}")):
            arrival = _arrival(line, cluster)
            if arrival is not None and start <= arrival.at < end:
                yield arrival
    yield from (arrival for arrival in read_strangers(root, start, end) if arrival.cluster == cluster)


def read_strangers(root: Path, start: int, end: int) -> Iterator[Arrival]:
    """Iterate over refused posts of clusters without data from `start` up to `end`; raise as `read_arrivals`.

    What the name of the cluster is worth is unknown: whoever posted has said it, and has proved nothing.
    """
    first, last = (f"strangers-{day_of(instant):%Y-%m}.jsonl" for instant in (start, max(start, end - 1)))
    for path in sorted((root / SERVER_DIRECTORY).glob("strangers-[0-9][0-9][0-9][0-9]-[0-9][0-9].jsonl")):
        for line in _lines(path) if first <= path.name <= last else ():
            arrival = _arrival(line, _text(_object(line), "cluster"))
            if arrival is not None and start <= arrival.at < end:
                yield arrival


def read_server_events(root: Path, start: int, end: int) -> Iterator[ServerEvent]:
    """Iterate over what is known of the server from `start` up to `end`; raise SonarError as `read_arrivals`."""
    for event in _events_from(root, start):
        if event.at >= end:
            return
        yield event


def server_intervals(root: Path, start: int, end: int) -> list[Interval]:
    """Return when uploads could not be taken between `start` and `end`, which is not after the present; ascending.

    The server is down from its last sign of life, which may be `ALIVE_S` seconds old, to its next start. Before its
    first sign of life nothing is known, and nothing is said. Raise SonarError as `read_arrivals`.
    """
    intervals = []
    last = last_event(root)
    for event in _events_from(root, start):
        # What began before the event is told by the event: so the first one behind the end is looked at too.
        if event.event == "up" and event.since:
            intervals.append(Interval(event.since, event.at, "down"))
        elif event.event == "refusing":
            intervals.append(Interval(event.since, event.at, "refusing", event.why))
        if event.at >= end:
            break
    else:
        if last is not None and (last.event == "down" or last.at + 2 * ALIVE_S < end):
            intervals.append(Interval(last.at, end, "down"))
    return [
        Interval(max(one.start, start), min(one.end, end), one.state, one.why)
        for one in intervals
        if one.start < end and one.end > start and one.end > one.start
    ]


def last_event(root: Path) -> ServerEvent | None:
    """Return the last thing known of the server that writes `root`; None if nothing is."""
    for path in reversed(_server_files(root)):
        for line in reversed(_lines(path, _TAIL_BYTES)):
            if (event := _event(line)) is not None:
                return event
    return None


def _events_from(root: Path, start: int) -> Iterator[ServerEvent]:
    month = f"{day_of(start):%Y-%m}"
    before = 0
    for path in _server_files(root):
        for line in _lines(path) if path.stem >= month else ():
            event = _event(line)
            if event is None:
                continue
            if event.event == "up" and before > event.since:
                # The last sign of a process that was killed may still have been in the spool when the next one began.
                event = replace(event, since=before)
            before = event.at
            if event.at >= start:
                yield event


def _server_files(root: Path) -> list[Path]:
    return sorted((root / SERVER_DIRECTORY).glob("[0-9][0-9][0-9][0-9]-[0-9][0-9].jsonl"))


def _lines(path: Path, tail: int | None = None) -> Sequence[bytes]:
    """Return the lines of a ledger, or those in the last `tail` bytes; of one that is not there, none."""
    try:
        with path.open("rb") as file:
            if tail is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
            return file.read().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from error


def _arrival(line: bytes, cluster: str) -> Arrival | None:
    value = _object(line)
    at = _instant(value, "at")
    if at is None:
        return None
    numbers = {key: _number(value, key) for key in ("records", "bytes", "late", "span", "dropped")}
    return Arrival(
        at,
        cluster,
        _text(value, "host"),
        _text(value, "endpoint"),
        _number(value, "status", 200),
        why=_text(value, "why"),
        posts=_number(value, "posts", 1),
        until=_instant(value, "until") or at,
        remote=_text(value, "remote"),
        **numbers,
    )


def _event(line: bytes) -> ServerEvent | None:
    value = _object(line)
    at, event = _instant(value, "at"), _text(value, "event")
    if at is None or not event:
        return None
    return ServerEvent(at, event, _instant(value, "since") or 0, _text(value, "why"))


def _object(line: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _instant(value: dict[str, object], key: str) -> int | None:
    return parse_instant(_text(value, key))


def _text(value: dict[str, object], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""


def _number(value: dict[str, object], key: str, default: int = 0) -> int:
    number = value.get(key, default)
    return number if isinstance(number, int) else default

"""Sort posted lines of tagged CSV by the file they go to, without changing a byte of them.

A line is taken if it is a CSV record with a host name and a plausible time (of a job: with the time of its end);
whatever else it says is its reader's business. The usual post is one run of the sampler: every line begins with the
same version, time and host. That is seen by counting, without a look at each line.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sonar.ingest.post import Refusal, Share
from sonar.names import BadNameError, ClusterName, HostName, host_name
from sonar.store.layout import is_plausible, samples_path
from sonar.times import parse_instant

__all__ = ["LONGEST_LINE", "DayRule", "Sorted", "fields_of", "lines_of", "sort_jobs", "sort_samples"]

LONGEST_LINE = 4 << 20
MOST_FILES = 4096

_HEAD = re.compile(rb'(?:v=[^,"\r\n]*,)?time=([^,"\r\n]+),host=([^,"\r\n]+),')
_QUOTED = re.compile(rb',"[^"\r\n]*+(?:""[^"\r\n]*+)*+"(?=[,\r\n]|\Z)')
_FIELD = re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"(?:,|\Z)|([^,"][^,]*+|)(?:,|\Z)')

Place = tuple[str, str]  # day, host
Found = tuple[Place, int]  # with the instant
DayRule = Callable[[str, int], str]  # time and instant of a record -> day directory


@dataclass(slots=True)
class Sorted:
    """Lines by place, in the order of arrival."""

    groups: dict[Place, bytes] = field(default_factory=dict)
    shares: dict[Place, Share] = field(default_factory=dict)
    stored: int = 0
    dropped: int = 0
    complaint: str = ""


def sort_samples(body: bytes, now: int, day: DayRule) -> Sorted:
    """Sort the lines of a post of samples; raise Refusal if they would go to too many files."""
    return _sort_uniform(body, now, day) or _sort_each(body, now, day)


def sort_jobs(body: bytes, now: int, day: DayRule) -> Sorted:
    """Sort the lines of a post of finished jobs by the day of their end; raise as `sort_samples`. No host is named."""

    def place(key: tuple[bytes, bytes]) -> Found | str:
        text = key[0].decode("ascii", "replace")
        instant = parse_instant(text)
        if instant is None or not is_plausible(instant, now):
            return f"bad time {text[:40]!r}"
        return (day(text, instant), ""), instant

    return _sort(body, _end_of, place)


def lines_of(body: bytes) -> list[bytes]:
    """Return the lines of a body that are not blank, without their newline."""
    return [line for line in body.split(b"\n") if line and not line.isspace()]


def fields_of(line: bytes) -> Sequence[bytes] | None:
    """Return the fields of a CSV record, unquoted; None if its quotes do not come out even."""
    line = line.removesuffix(b"\r")
    if b'"' not in line:
        return line.split(b",")
    fields, at = [], 0
    while True:
        match = _FIELD.match(line, at)
        if match is None:
            return None
        quoted, plain = match.groups()
        fields.append(plain if quoted is None else quoted.replace(b'""', b'"'))
        at = match.end()
        if at == len(line) and not match.group().endswith(b","):
            return fields


def _sort_uniform(body: bytes, now: int, day: DayRule) -> Sorted | None:
    """Sort a body whose lines all begin with the same time and host; None if it is not one, or not a good one."""
    match = _HEAD.match(body)
    if match is None or len(body) > LONGEST_LINE:
        return None
    lines = len(body.split(b"\n")) - body.endswith(b"\n")  # a third of the time that counting takes
    if body.count(b"\n" + match.group()) + 1 != lines:
        return None
    if b'"' in body and body.count(b',"') != len(_QUOTED.findall(body)):
        return None
    found = _place(match.group(1), match.group(2), now, day)
    if isinstance(found, str):
        return None
    place, instant = found
    data = body if body.endswith(b"\n") else body + b"\n"
    return Sorted({place: data}, {place: Share(lines, len(data), instant, instant)}, stored=lines)


def _sort_each(body: bytes, now: int, day: DayRule) -> Sorted:
    return _sort(body, _key_of, lambda key: _place(*key, now, day))


def _sort(
    body: bytes,
    key_of: Callable[[bytes], tuple[bytes, bytes] | str],
    place_of: Callable[[tuple[bytes, bytes]], Found | str],
) -> Sorted:
    result = Sorted()
    groups: dict[Place, list[bytes]] = {}
    places: dict[tuple[bytes, bytes], Found | str] = {}
    for line in lines_of(body):
        key = key_of(line)
        if isinstance(key, str):
            found: Found | str = key
        elif key in places:
            found = places[key]
        else:
            found = places[key] = place_of(key)
        if isinstance(found, str):
            result.dropped += 1
            result.complaint = result.complaint or found
            continue
        place, instant = found
        groups.setdefault(place, []).append(line)
        share = result.shares.get(place)
        if share is None:
            result.shares[place] = Share(1, len(line) + 1, instant, instant)
        else:
            share.add(1, len(line) + 1, instant, instant)
        result.stored += 1
    if len(groups) > MOST_FILES:
        raise Refusal(400, f"more than {MOST_FILES} hosts and days in one post")
    result.groups = {place: b"\n".join(lines) + b"\n" for place, lines in groups.items()}
    return result


def _key_of(line: bytes) -> tuple[bytes, bytes] | str:
    """Return time and host of a line as they are in it; a text that says what is wrong if they are not."""
    if len(line) > LONGEST_LINE:
        return f"line over {LONGEST_LINE} bytes"
    fields = fields_of(line)
    if fields is None:
        return "Can't unmarshal Sonar free CSV: bad quotes"
    time = host = b""
    for one in fields:
        if one.startswith(b"time=") and not time:
            time = one[5:]
        elif one.startswith(b"host=") and not host:
            host = one[5:]
    if not time or not host:
        return "Missing timestamp or host in Sonar sample data"
    return time, host


def _end_of(line: bytes) -> tuple[bytes, bytes] | str:
    """Return the time of a job's end as it is in its line, as `_key_of`."""
    if len(line) > LONGEST_LINE:
        return f"line over {LONGEST_LINE} bytes"
    fields = fields_of(line)
    if fields is None:
        return "Can't unmarshal sacct free CSV: bad quotes"
    for one in fields:
        if one.startswith(b"End=") and len(one) > 4:
            return one[4:], b""
    return "Missing timestamp in sacct data"


def _place(time: bytes, host: bytes, now: int, day: DayRule) -> Found | str:
    """Return the place of a line and its instant; a text that says what is wrong with it."""
    text = time.decode("ascii", "replace")
    instant = _instant(text)
    if instant is None or not is_plausible(instant, now):
        return f"bad time {text[:40]!r}"
    try:
        name = _host(host)
    except BadNameError as error:
        return str(error)
    return (day(text, instant), name), instant


# All nodes of a cluster sample in the same second, and come again.
_instant = lru_cache(1024)(parse_instant)


@lru_cache(16384)
def _host(name: bytes) -> HostName:
    host = host_name(name.decode("ascii", "replace"))
    samples_path(ClusterName(""), "", host)  # the length of the file's name
    return host

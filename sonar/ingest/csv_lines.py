"""Sort posted lines of tagged CSV by the file they go to, without changing a byte of them.

A line is taken if it is a CSV record with a host name and a plausible time; whatever else it says is its reader's
business. The usual post is one run of the sampler: every line begins with the same version, time and host. That is seen
by counting, without a look at each line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sonar.ingest.post import Refusal
from sonar.names import BadNameError, ClusterName, HostName, host_name
from sonar.store.layout import is_plausible, local_day, samples_path
from sonar.times import parse_instant

__all__ = ["LONGEST_LINE", "Sorted", "fields_of", "lines_of", "sort_samples"]

LONGEST_LINE = 4 << 20
MOST_FILES = 4096

_HEAD = re.compile(rb'(?:v=[^,"\r\n]*,)?time=([^,"\r\n]+),host=([^,"\r\n]+),')
_QUOTED = re.compile(rb',"[^"\r\n]*+(?:""[^"\r\n]*+)*+"(?=[,\r\n]|\Z)')
_FIELD = re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"(?:,|\Z)|([^,"][^,]*+|)(?:,|\Z)')

Place = tuple[str, HostName]  # day, host


@dataclass(slots=True)
class Sorted:
    """Lines by place, in the order of arrival."""

    groups: dict[Place, bytes] = field(default_factory=dict)
    stored: int = 0
    dropped: int = 0
    complaint: str = ""


def sort_samples(body: bytes, now: int) -> Sorted:
    """Sort the lines of a post of samples; raise Refusal if they would go to too many files."""
    return _sort_uniform(body, now) or _sort_each(body, now)


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


def _sort_uniform(body: bytes, now: int) -> Sorted | None:
    """Sort a body whose lines all begin with the same time and host; None if it is not one, or not a good one."""
    match = _HEAD.match(body)
    if match is None or len(body) > LONGEST_LINE:
        return None
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    if body.count(b"\n" + match.group()) + 1 != lines:
        return None
    quotes = body.count(b',"')
    if quotes and quotes != len(_QUOTED.findall(body)):
        return None
    place = _place(match.group(1), match.group(2), now)
    if isinstance(place, str):
        return None
    return Sorted({place: body if body.endswith(b"\n") else body + b"\n"}, stored=lines)


def _sort_each(body: bytes, now: int) -> Sorted:
    result = Sorted()
    groups: dict[Place, list[bytes]] = {}
    places: dict[tuple[bytes, bytes], Place | str] = {}
    for line in lines_of(body):
        key = _key_of(line)
        if isinstance(key, str):
            place: Place | str = key
        elif key in places:
            place = places[key]
        else:
            place = places[key] = _place(*key, now)
        if isinstance(place, str):
            result.dropped += 1
            result.complaint = result.complaint or place
        else:
            groups.setdefault(place, []).append(line)
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


def _place(time: bytes, host: bytes, now: int) -> Place | str:
    text = time.decode("ascii", "replace")
    instant = parse_instant(text)
    if instant is None or not is_plausible(instant, now):
        return f"bad time {text[:40]!r}"
    try:
        name = host_name(host.decode("ascii", "replace"))
        samples_path(ClusterName(""), "", name)  # the length of the file's name
    except BadNameError as error:
        return str(error)
    return local_day(text), name

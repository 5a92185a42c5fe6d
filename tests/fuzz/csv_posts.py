"""Posts of CSV: the short way sorts as the long one does, no line is changed, and old senders send what is taken."""

from collections import Counter
from collections.abc import Callable

from sonar.ingest import csv_lines
from sonar.ingest.csv_lines import Sorted, lines_of, sort_jobs, sort_samples
from sonar.ingest.endpoints.readings import heartbeat_line, reading_line, take_array
from sonar.ingest.post import Post, Refusal, Rules
from sonar.node.readings import batches, parse_readings

from tests.ingest.conftest import CLUSTER

__all__ = ["check"]

NOW = 1_772_000_000
DAY = Rules().record_day


def check(data: bytes) -> None:
    """Sort a post, and send it as the oldest senders did."""
    uniform = csv_lines._sort_uniform(data, NOW, DAY)
    assert uniform is None or uniform == csv_lines._sort_each(data, NOW, DAY)
    for sort in (sort_samples, sort_jobs):
        _check_lines(data, sort)
    found = parse_readings(data.decode(errors="replace"), CLUSTER)
    for line_of, records in ((reading_line, found.readings), (heartbeat_line, found.heartbeats)):
        for body in batches(records):
            taken = take_array(Post(body, "", {}, None, Rules(), NOW), line_of)
            assert taken.stored + taken.dropped == len(records)
            assert taken.complaint.startswith(("", "bad time", "bad host name", "host name too long"))


def _check_lines(data: bytes, sort: Callable[[bytes, int, csv_lines.DayRule], Sorted]) -> None:
    try:
        done = sort(data, NOW, DAY)
    except Refusal as refusal:
        assert refusal.status == 400
        return
    given = Counter(lines_of(data))
    stored = Counter(line for group in done.groups.values() for line in group.removesuffix(b"\n").split(b"\n"))
    assert stored <= given
    assert (done.stored, done.dropped) == (stored.total(), (given - stored).total())
    assert {place: len(group) for place, group in done.groups.items()} == {
        place: share.bytes for place, share in done.shares.items()
    }

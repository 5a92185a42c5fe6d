"""The ledger's lines, and what is read out of them."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sonar.names import ClusterName
from sonar.read.scan import Scan
from sonar.store.ledger import (
    Arrival,
    Interval,
    ServerEvent,
    arrival_line,
    arrivals_path,
    event_line,
    last_event,
    read_arrivals,
    read_server_events,
    server_intervals,
    server_path,
)

CLUSTER = ClusterName("fox.example.org")
NOON = 1_772_452_800  # 2026-03-02T12:00:00Z

counts = st.integers(0, 10**9)
texts = st.text(max_size=20)
arrivals = st.builds(
    Arrival,
    at=st.integers(NOON, NOON + 1000),
    cluster=st.just(CLUSTER),
    host=texts,
    endpoint=texts,
    status=st.integers(200, 599),
    records=st.integers(1, 1000),
    bytes=counts,
    late=st.integers(-90_000, 10**6),
    span=counts,
    dropped=counts,
    why=texts,
    remote=texts,
)


def write(path: Path, *lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(lines)


@given(st.lists(arrivals, max_size=5))
def test_arrivals_come_back_as_they_were(given_arrivals: list[Arrival]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path = root / arrivals_path(CLUSTER, "2026/03/02")
        expected = [replace(one, until=one.at) for one in given_arrivals]
        write(path, *[arrival_line(one) for one in expected])

        assert list(read_arrivals(root, CLUSTER, NOON, NOON + 1001)) == expected
        assert len(path.read_bytes().splitlines()) == len(expected)


def test_of_several_refusals_first_and_last_are_known(tmp_path: Path) -> None:
    refused = Arrival(NOON, CLUSTER, "", "insert/sample", 401, why="Unauthorized", posts=3, until=NOON + 17)
    write(tmp_path / arrivals_path(CLUSTER, "2026/03/02"), arrival_line(refused), b"{torn")

    assert list(read_arrivals(tmp_path, CLUSTER, NOON, NOON + 1)) == [refused]
    assert list(read_arrivals(tmp_path, CLUSTER, NOON + 1, NOON + 9)) == []
    assert list(read_arrivals(tmp_path, ClusterName("other"), NOON, NOON + 1)) == []


def test_times_of_the_records(tmp_path: Path) -> None:
    arrival = Arrival(NOON, CLUSTER, "n1", "sonar-freecsv", records=2, late=100, span=300)
    assert (arrival.newest, arrival.oldest) == (NOON - 100, NOON - 400)


def test_intervals_without_a_server(tmp_path: Path) -> None:
    assert last_event(tmp_path) is None
    assert server_intervals(tmp_path, 0, NOON) == []
    events = [
        ServerEvent(NOON, "up"),
        ServerEvent(NOON + 60, "alive"),
        ServerEvent(NOON + 300, "up", NOON + 60),  # killed
        ServerEvent(NOON + 500, "refusing", NOON + 400, "cannot store: No space left on device"),
        ServerEvent(NOON + 600, "down"),
        ServerEvent(NOON + 610, "up", NOON + 600),
        ServerEvent(NOON + 670, "alive"),
    ]
    for event in events:
        write(tmp_path / server_path(event.at), event_line(event))

    all_of_it = [
        Interval(NOON + 60, NOON + 300, "down"),
        Interval(NOON + 400, NOON + 500, "refusing", "cannot store: No space left on device"),
        Interval(NOON + 600, NOON + 610, "down"),
    ]
    assert list(read_server_events(tmp_path, 0, NOON + 1000)) == events
    assert last_event(tmp_path) == events[-1]
    assert server_intervals(tmp_path, NOON - 5000, NOON + 700) == all_of_it
    assert server_intervals(tmp_path, NOON + 100, NOON + 450) == [
        Interval(NOON + 100, NOON + 300, "down"),
        Interval(NOON + 400, NOON + 450, "refusing", "cannot store: No space left on device"),
    ]
    assert server_intervals(tmp_path, NOON + 305, NOON + 306) == []
    assert server_intervals(tmp_path, NOON + 5000, NOON + 9000) == [Interval(NOON + 5000, NOON + 9000, "down")]


def test_stopped_server_is_down_at_once(tmp_path: Path) -> None:
    write(tmp_path / server_path(NOON), event_line(ServerEvent(NOON, "down")))
    assert server_intervals(tmp_path, NOON - 10, NOON + 10) == [Interval(NOON, NOON + 10, "down")]


def test_no_reader_of_samples_takes_the_ledger_for_data(tmp_path: Path) -> None:
    write(tmp_path / "2026/03/02/0+arrivals.jsonl", arrival_line(Arrival(NOON, CLUSTER, "n1", "x")))
    assert Scan.of_tree(tmp_path, NOON, NOON).files == ()

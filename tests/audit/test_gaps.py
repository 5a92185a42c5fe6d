"""What is missing and why: made-up ledgers of which the answer is known, and the program on a real server's ledger."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.audit.boots import Boots
from sonar.audit.gaps import HostHour, Window, gaps
from sonar.audit.states import NodeStates
from sonar.names import cluster_name
from sonar.store.ledger import Arrival, Interval, ServerEvent, arrival_line, arrivals_path, event_line, server_path
from sonar.times import DAY, HOUR, iso_text, present

from tests.ingest.conftest import CLUSTER, Starter

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "gaps"
T0 = 1772409600  # 2026-03-02 00:00 UTC, a multiple of all intervals
NOON = T0 + 12 * HOUR


def sample(at: int, host: str = "c1", *, late: int = 20, records: int = 5, span: int = 0) -> Arrival:
    """Return the arrival of a sample that was taken at an instant."""
    return Arrival(at + late, "fox", host, "insert/sample", records=records, late=late, span=span)


def steady(start: int, end: int, host: str = "c1", *, without: Iterable[int] = (), step: int = 300) -> list[Arrival]:
    return [sample(at, host) for at in range(start, end, step) if at not in set(without)]


def window(start: int = NOON, end: int = NOON + 2 * HOUR, now: int = NOON + 3 * HOUR) -> Window:
    return Window(start, end, now)


def answer(
    arrivals: Iterable[Arrival], server: Iterable[Interval] = (), asked: Window | None = None, **more: object
) -> list[HostHour]:
    return list(gaps(asked or window(), arrivals, list(server), **more))  # type: ignore[arg-type]


def test_nothing_is_missing() -> None:
    rows = answer(steady(T0, NOON + 3 * HOUR))
    assert [(row.hour, row.expected, row.received, row.late, row.rejected, row.why) for row in rows] == [
        (NOON, 12, 12, 0, 0, {}),
        (NOON + HOUR, 12, 12, 0, 0, {}),
    ]


def test_interval_is_what_most_samples_have_between_them() -> None:
    late_runs = [replace(one, at=one.at + 2) for one in steady(T0, NOON + 3 * HOUR, step=60)]
    (first, *_) = answer(late_runs)
    assert (first.interval_s, first.expected, first.received) == (60, 60, 60)
    (first, *_) = answer(steady(T0, NOON + 3 * HOUR, step=60), asked=replace(window(), interval_s=30))
    assert (first.interval_s, first.expected, first.received) == (30, 120, 60)


def test_runs_that_begin_before_and_after_the_minute_are_not_counted_twice() -> None:
    early = [replace(one, late=one.late + (2 if n % 2 else -2)) for n, one in enumerate(steady(T0, NOON + 3 * HOUR))]
    assert {(row.expected, row.received) for row in answer(early)} == {(12, 12)}


def test_server_that_was_down_or_refused_is_why() -> None:
    lost = range(NOON + 600, NOON + 1800, 300)
    (first, _) = answer(
        steady(T0, NOON + 3 * HOUR, without=lost),
        [Interval(NOON + 590, NOON + 1210, "down"), Interval(NOON + 1300, NOON + 1700, "refusing", "no room")],
    )
    assert first.missing == 4
    assert first.why == {"server down": 3, "server refusing: no room": 1}


def test_sample_that_was_delivered_later_is_late_and_not_missing() -> None:
    arrivals = steady(T0, NOON + 3 * HOUR, without=[NOON + 300])
    (first, _) = answer([*arrivals, sample(NOON + 300, late=HOUR)], [Interval(NOON + 300, NOON + 400, "down")])
    assert (first.missing, first.late, first.why) == (0, 1, {})


def test_refusals_of_the_host_and_of_the_cluster() -> None:
    arrivals = steady(T0, NOON + 3 * HOUR, without=[NOON + 300, NOON + 900])
    refused = Arrival(
        NOON + 310, "fox", "c1", "insert/sample", 400, why="bad time", posts=3, until=NOON + 315, dropped=7
    )
    nameless = Arrival(NOON + 1000, "fox", "", "insert/sample", 401, why="Unauthorized")
    first, _, of_cluster = sorted(answer([*arrivals, refused, nameless]), key=lambda row: (not row.host, row.hour))
    assert (first.rejected, first.dropped) == (3, 7)
    assert first.why == {"refused with 400: bad time": 1, "perhaps refused with 401: Unauthorized": 1}
    assert (of_cluster.host, of_cluster.hour, of_cluster.rejected, of_cluster.expected) == ("", NOON, 1, 0)


def test_boot_tells_host_down_from_sampler_silent() -> None:
    lost = range(NOON + 600, NOON + 1800, 300)
    arrivals = steady(T0, NOON + 3 * HOUR, without=lost)
    asked: list[tuple[str, int]] = []

    def boot_after(host: str, instant: int) -> int | None:
        asked.append((host, instant))
        return boot

    boots = {"host down": NOON + 1700, "sampler silent": T0 - DAY, "no sign of life": None}
    for reason, boot in boots.items():  # noqa: B007 -- `boot_after` gives it
        (first, _) = answer(arrivals, boot_after=boot_after)
        assert first.why == {reason: 4}
    assert set(asked) == {("c1", NOON + 1800)}


def test_something_else_from_the_host_means_that_its_sampler_is_silent() -> None:
    arrivals = steady(T0, NOON + 600)
    other = Arrival(NOON + 900, "fox", "c1", "insert/sysinfo", records=1)
    assert answer([*arrivals, other])[0].why == {"sampler silent": 10}
    assert answer(arrivals)[0].why == {"no sign of life": 10}
    assert answer(arrivals)[1].why == {"no sign of life": 12}


def test_host_that_is_new_is_expected_from_its_first_sample_on() -> None:
    rows = answer(steady(NOON + 1800, NOON + 3 * HOUR))
    assert [(row.expected, row.received) for row in rows] == [(6, 6), (12, 12)]


def test_host_that_is_described_is_expected_always_under_any_form_of_its_name() -> None:
    rows = answer(steady(T0, NOON + 3 * HOUR, "c1.fox"), described=["c1", "c2"])
    assert [(row.host, row.expected, row.received) for row in rows] == [
        ("c1.fox", 12, 12), ("c1.fox", 12, 12), ("c2", 12, 0), ("c2", 12, 0),
    ]  # fmt: skip


def test_samples_that_may_be_on_their_way_are_not_missed() -> None:
    now = NOON + 1800
    rows = answer(steady(T0, now - 500), asked=Window(NOON, now, now))
    assert sum(row.missing for row in rows) == 0
    assert sum(row.expected for row in rows) == 4


def test_post_with_samples_of_a_long_time_fills_all_of_them() -> None:
    arrivals = steady(T0, NOON)
    rows = answer([*arrivals, sample(NOON + 2 * HOUR - 300, records=1000, span=2 * HOUR - 300, late=0)])
    assert [(row.expected, row.received, row.late) for row in rows] == [(12, 12, 12), (12, 12, 9)]


def test_dropped_records_are_told_though_nothing_is_missing() -> None:
    arrivals = steady(T0, NOON + 3 * HOUR)
    arrivals[150] = replace(arrivals[150], dropped=2, why="no host")
    (first, _) = answer(arrivals)
    assert (first.missing, first.dropped, first.why) == (0, 2, {"records dropped: no host": 0})


@given(
    st.sets(st.integers(0, 47), max_size=40),
    st.sampled_from([30, 60, 300, 600]),
    st.integers(0, 299),
    st.integers(-3, 3),
)
@settings(max_examples=60, deadline=None)
def test_expected_is_received_and_missing_and_every_missing_one_has_a_reason(
    lost: set[int], step: int, phase: int, jitter: int
) -> None:
    begin = NOON + phase % step
    times = [begin + n * step + (jitter if n % 3 == 0 else 0) for n in range(48) if n not in lost]
    before = [NOON - DAY // 4 + phase % step + n * step for n in range(20)]
    asked = Window(NOON, NOON + 48 * step, NOON + 60 * step, interval_s=step)
    rows = answer([sample(at) for at in before + times], asked=asked)
    assert sum(row.received for row in rows) in {len(times), len(times) - 1}  # the last may fall behind the end
    assert sum(row.expected for row in rows) in {47, 48}
    for row in rows:
        assert sum(row.why.values()) == row.missing >= 0


# ---- boot times in the log ------------------------------------------------------------------------------------------


def test_boot_times_of_envelopes_and_of_csv(tmp_path: Path) -> None:
    day = tmp_path / "fox" / "2026" / "03" / "02"
    day.mkdir(parents=True)
    envelope = {"data": {"type": "sample", "attributes": {
        "time": "2026-03-02T12:00:00Z", "system": {"boot": "2026-03-01T08:00:00+01:00"}, "jobs": []}}}  # fmt: skip
    (day / "0+sample-c1.json").write_text("torn{\n[]\n" + json.dumps(envelope) + "\n" + '{"data":')
    (day / "c2.csv").write_text(
        "v=0.13.0,time=2026-03-02T13:00:00+01:00,host=c2,user=a,cmd=x,job=7\n"
        "v=0.13.0,time=2026-03-02T13:00:00+01:00,host=c2,user=a,cmd=x,epoch=194745600\n"
    )
    boots = Boots(tmp_path, cluster_name("fox"))
    assert boots.after("c1", NOON) == T0 - DAY + 7 * HOUR
    assert boots.after("c2", NOON) == 1577836800 + 194745600
    assert boots.after("c1", NOON + 1) is None
    assert boots.after("c3", NOON) is None


def test_what_slurm_takes_for_down_is_down() -> None:
    arrivals = steady(T0, NOON)
    for down, reason in ((True, "host down"), (False, "sampler silent"), (None, "no sign of life")):
        rows = answer(arrivals, was_down=lambda _host, _begin, _end, down=down: down)
        assert [row.why for row in rows] == [{reason: 12}, {reason: 12}]


def test_states_of_slurm_are_found_by_the_first_part_of_the_name(tmp_path: Path) -> None:
    day = tmp_path / "fox" / "2026" / "03" / "02"
    day.mkdir(parents=True)

    def told(at: int, down: list[str], up: list[str]) -> str:
        nodes = [{"names": down, "states": ["DOWN", "DRAIN"]}, {"names": up, "states": ["IDLE"]}]
        attributes = {"time": iso_text(at), "cluster": "fox", "slurm": True, "partitions": [], "nodes": nodes}
        return json.dumps({"meta": {}, "data": {"type": "cluster", "attributes": attributes}}) + "\n"

    (day / "0+cluzter-slurm.json").write_text(told(NOON, ["c[1-2]"], ["c3"]) + told(NOON + HOUR, ["c1"], ["c2"]))
    states = NodeStates(tmp_path, cluster_name("fox"), NOON, NOON + 2 * HOUR)
    assert states.was_down("c1.fox", NOON + 60, NOON + 2 * HOUR) is True
    assert states.was_down("c2", NOON + HOUR, NOON + 2 * HOUR) is False
    assert states.was_down("c2", NOON + 60, NOON + 600) is True  # told shortly before
    assert states.was_down("c3", NOON, NOON + 60) is False
    assert states.was_down("c3", NOON + 4 * HOUR, NOON + 5 * HOUR) is None
    assert states.was_down("c9", NOON, NOON + HOUR) is None


# ---- the program ----------------------------------------------------------------------------------------------------


def run(*argv: str | Path, now: int, config: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"SONAR_NOW": iso_text(now)}
    if config is not None:
        environment["SONAR_CONFIG"] = str(config)
    return subprocess.run(
        [sys.executable, PROGRAM, *argv], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A cluster of two hosts, one of which falls silent, and a server that was down for a while."""
    root = tmp_path / "data"
    lost = range(NOON + 600, NOON + 1200, 300)
    arrivals = steady(T0, NOON + 2 * HOUR, "c1", without=lost) + steady(T0, NOON + HOUR, "c2", without=lost)
    path = root / arrivals_path(cluster_name("fox"), "2026/03/02")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(map(arrival_line, arrivals)))
    events = [
        ServerEvent(T0, "up"),
        ServerEvent(NOON + 1150, "up", NOON + 550),
        *(ServerEvent(at, "alive") for at in range(NOON + 1200, NOON + 2 * HOUR + 60, 60)),
    ]
    server = root / server_path(NOON)
    server.parent.mkdir()
    server.write_bytes(b"".join(map(event_line, events)))
    return root


def test_table(data: Path) -> None:
    done = run("--data", data, "--from", "3h", now=NOON + 2 * HOUR)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "CLUSTER  HOST  HOUR              EXPECTED  RECEIVED  LATE  REJECTED  WHY",
        "fox      c1    2026-03-02 12:00        12        10     0         0  server down",
        "fox      c2    2026-03-02 12:00        12        10     0         0  server down",
        "fox      c2    2026-03-02 13:00        10         0     0         0  no sign of life",
    ]
    done = run("--data", data, "--from", "3h", "--total", "--host", "c2", now=NOON + 2 * HOUR)
    assert done.stdout.splitlines() == [
        "CLUSTER  HOST  EXPECTED  RECEIVED  LATE  REJECTED  WHY",
        "fox      c2          34        22     0         0  no sign of life (10); server down (2)",
    ]


def test_json(data: Path) -> None:
    done = run("--data", data, "--from", iso_text(NOON), "--cluster", "fox", "--json", "--all", now=NOON + 2 * HOUR)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["host"], row["hour"], row["missing"]) for row in rows] == [
        ("c1", "2026-03-02T12:00:00Z", 2), ("c1", "2026-03-02T13:00:00Z", 0),
        ("c2", "2026-03-02T12:00:00Z", 2), ("c2", "2026-03-02T13:00:00Z", 10),
    ]  # fmt: skip
    assert rows[0]["why"] == [{"reason": "server down", "missing": 2}]
    assert rows[1] | {"why": []} == {
        "cluster": "fox", "host": "c1", "hour": "2026-03-02T13:00:00Z", "interval": 300, "expected": 10,
        "received": 10, "late": 0, "rejected": 0, "dropped": 0, "missing": 0, "why": [],
    }  # fmt: skip


def test_nothing_missing_is_said(data: Path) -> None:
    done = run("--data", data, "--from", "2026-03-02T01:00:00Z", "--to", "2026-03-02T02:00:00Z", now=NOON)
    assert (done.stdout, done.stderr) == ("", "gaps: nothing is missing: 24 samples of 2 hosts\n")


def test_described_node_that_never_sent(data: Path, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    (clusters / "fox.conf").write_text("[Node]\nHosts=c[1-3]\nCores=4\nMemory=8G\n")
    config = tmp_path / "sonar.conf"
    config.write_text(f"[Paths]\nData={data}\nClusters={clusters}\n")
    done = run("--from", "3h", "--total", "--json", now=NOON + 2 * HOUR, config=config)
    assert [json.loads(line)["host"] for line in done.stdout.splitlines()] == ["c1", "c2", "c3"], done.stderr


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["--from", "yesterday"], 2, "--from: Invalid date syntax"),
        (["--from", "1d", "--to", "2d"], 2, "--from must be before --to"),
        (["--late", "5"], 2, "Inconsistent duration"),
        (["--interval", "0"], 2, "--interval"),
        (["--cluster", "nothing"], 1, "no cluster 'nothing'"),
        (["--host", "c[1-"], 1, "c[1-"),
    ],
)
def test_mistakes(data: Path, argv: list[str], status: int, text: str) -> None:
    done = run("--data", data, *argv, now=NOON)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert text in done.stderr


def test_ledger_of_a_real_server(start: Starter) -> None:
    server = start()
    now = present()
    line = f"v=0.7.0,time={iso_text(now)},host=ml9,user=ada,cmd=python\n".encode()
    assert server.post_csv(line).status == 200
    assert server.post_csv(line.replace(b"host", b"hast")).status == 400
    assert server.stop() == 0
    done = run("--data", server.data, "--all", "--json", "--interval", str(HOUR), now=now + 3 * HOUR)
    rows = [json.loads(one) for one in done.stdout.splitlines()]
    assert [(row["cluster"], row["host"]) for row in rows] == [(CLUSTER, "ml9"), (CLUSTER, "")]
    assert (rows[0]["expected"], rows[0]["received"]) == (1, 1)
    assert rows[1]["rejected"] == 1

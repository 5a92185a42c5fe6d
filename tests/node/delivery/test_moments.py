"""When files are sent: pauses, windows, patience, and what a full spool loses meanwhile."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.node.delivery import Delivery, Pauses
from sonar.node.spool import Spool
from sonar.node.upload import Answer, Server, Verdict

from tests.node.delivery.conftest import JSON, START, Time, deliver, messages, put
from tests.node.scripted_server import Certificates, Reply, ScriptedServer


def test_pauses_double_to_ten_minutes(
    delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    (record,) = put(spool, 1)
    server.script.extend([Reply(500)] * 12)
    caplog.set_level(logging.INFO)

    delivery.run()

    slept, total = [], 0.0
    for wait in time.waits:
        total += wait
        if wait < 30 or total in {0.75 * 600, 0.75 * 512, 0.75 * 256, 0.75 * 128, 0.75 * 64}:
            slept.append(total)
            total = 0.0
    assert slept[:10] == [0.75 * 2**n for n in range(10)]
    assert time.now - START == pytest.approx(0.75 * (1023 + 2 * 600))
    assert max(time.waits) <= 30
    assert server.accepted() == [record]
    assert len(messages(caplog, logging.WARNING)) == 1
    assert messages(caplog, logging.INFO) == ["delivering again, after 12 tries that failed"]


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 100), st.sampled_from([None, 0.0, 5.0, 3600.0]))
def test_pauses_are_spread_and_bounded(chance: float, tries: int, asked: float | None) -> None:
    pause_s = Pauses(lambda: chance, tries).after(Answer(Verdict.LATER, retry_after_s=asked))

    assert 0.5 <= pause_s <= 3961
    assert pause_s >= (asked or 0)
    if not asked:
        assert pause_s <= 600


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0"}, 0.75),
        ({"Retry-After": "999999999999"}, 3600),
        ({"Retry-After": "soon"}, 0.75),
        ({"Retry-After": "-5"}, 0.75),
        ({"Retry-After": "Mon, 24 Nov 2025 16:02:00 GMT", "Date": "Mon, 24 Nov 2025 16:00:00 GMT"}, 120),
        ({"Retry-After": "Mon, 24 Nov 2025 15:02:00 GMT", "Date": "Mon, 24 Nov 2025 16:00:00 GMT"}, 0.75),
        ({"Retry-After": "Mon, 24 Nov 9999 16:02:00 GMT"}, 3600),
    ],
    ids=str,
)
def test_retry_after_is_honoured_and_bounded(
    headers: dict[str, str], seconds: float, delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time
) -> None:
    put(spool, 1)
    server.script.append(Reply(503, headers=headers))

    delivery.run()

    assert time.now - START == pytest.approx(seconds * 1.05 if seconds > 1 else seconds)
    assert len(server.requests) == 2


def test_sample_is_sent_within_the_window_and_the_backlog_at_once(
    delivery: Delivery, spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time
) -> None:
    client = Server(server.url, "fox.example", ca_cert=certificates.ca)
    put(spool, 2)
    time.now += 1000
    deliver(spool, client, time, window_s=280, chance=0.25).run()
    assert time.now == START + 1000

    put(spool, 1)
    deliver(spool, client, time, window_s=280, chance=0.25).run()
    assert time.now == pytest.approx(START + 1000 + 70, abs=0.01)

    time.now += 100
    put(spool, 1)
    time.now -= 1_000_000  # a clock that is set back must not keep us waiting for that long
    deliver(spool, client, time, window_s=280, chance=0.25).run()
    assert time.now - START - 1170 + 1_000_000 == pytest.approx(70, abs=0.01)
    client.close()


def test_each_batch_has_its_own_moment(
    spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time
) -> None:
    client = Server(server.url, "fox.example", ca_cert=certificates.ca)
    moments: list[float] = []

    def sample_every_five_minutes() -> bool:
        if len(server.requests) > len(moments):
            moments.append(time.now - START)
        if len(puts) < 3 and time.now >= START + 300 * len(puts):
            puts.extend(put(spool, 1, first=len(puts)))
        return len(moments) == 3

    puts: list[bytes] = []
    time.until = sample_every_five_minutes
    chances = iter([0.0, 0.5, 0.9])
    delivery = Delivery(
        spool,
        client,
        wait=time.wait,
        window_s=200,
        chance=lambda: next(chances),
        clock=time.clock,
        monotonic=time.clock,
    )
    delivery.run()

    assert moments == pytest.approx([0, 400, 780], abs=25)
    client.close()


def test_stop_leaves_the_rest_in_the_spool(
    delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time
) -> None:
    records = put(spool, 5)
    time.until = lambda: len(server.requests) >= 2

    delivery.run()

    assert server.accepted() == records[:2]
    assert len(spool.entries()) == 3


def test_run_once_ends_when_its_patience_does(
    delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time
) -> None:
    put(spool, 2)
    server.always = Reply(503)
    time.until = lambda: False

    assert delivery.run_once(100) == 2

    assert time.now - START <= 100
    assert len(server.requests) == 8


def test_one_warning_tells_of_a_full_spool_and_the_count_follows(
    tmp_path: Path, server: ScriptedServer, certificates: Certificates, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spool = Spool(tmp_path / "spool", 1000, clock=time.clock)
    client = Server(server.url, "fox.example", ca_cert=certificates.ca)
    server.always = Reply(500)
    put_at: list[float] = []

    def sample_every_five_minutes() -> bool:
        if len(put_at) < 20:
            if not put_at or time.now - put_at[-1] >= 300:
                put_at.append(time.now)
                spool.put("sample", f"{len(put_at):100}".encode(), JSON)
        else:
            server.always = Reply()
        return len(put_at) == 20 and not spool.entries()

    time.until = sample_every_five_minutes
    delivery = deliver(spool, client, time)
    delivery.run()

    assert delivery.dropped == 10
    assert [int(body) for body in server.accepted()] == list(range(11, 21))
    assert len([text for text in messages(caplog, logging.WARNING) if "bytes wait" in text]) == 1
    assert "10 files have been dropped from the spool" in messages(caplog, logging.INFO)
    client.close()

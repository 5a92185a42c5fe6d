"""Delivery, in this process: a real spool, a real HTTPS server with written-down answers, and a clock of our own."""

import contextlib
import logging
import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.errors import SonarError, UsageError
from sonar.node.delivery import Delivery, Pauses
from sonar.node.spool import Entry, Spool
from sonar.node.upload import Answer, Server, Verdict

from tests.node.scripted_server import RESET, Certificates, Reply, ScriptedServer, scripted_server

CSV = "text/csv"
JSON = "application/json"
START = 1764000000.0


@dataclass
class Time:
    """A clock that only waiting moves. Waiting says stop once `until` holds; a delivery that never ends fails."""

    now: float = START
    waits: list[float] = field(default_factory=list)
    until: Callable[[], bool] = lambda: False
    turns: int = 0

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.turns += 1
        assert self.turns < 5000, "does not end"
        self.now += seconds
        if seconds:
            self.waits.append(seconds)
        return self.until()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[ScriptedServer]:
    with scripted_server(certificates.server_context("127.0.0.1")) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def spool(tmp_path: Path, time: Time) -> Spool:
    return Spool(tmp_path / "spool", clock=time.clock)


@pytest.fixture
def delivery(spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time) -> Iterator[Delivery]:
    client = Server(server.url, "fox.example", ca_cert=certificates.ca)
    time.until = lambda: not spool.entries()
    yield deliver(spool, client, time)
    client.close()


def deliver(spool: Spool, client: Server, time: Time, *, window_s: float = 0.0, chance: float = 0.5) -> Delivery:
    return Delivery(
        spool,
        client,
        wait=time.wait,
        window_s=window_s,
        chance=lambda: chance,
        clock=time.clock,
        monotonic=time.clock,
    )


def put(spool: Spool, count: int, *, first: int = 0) -> list[bytes]:
    """Put numbered records, a file each."""
    records = [f"v=1,host=n1,number={first + number}\n".encode() for number in range(count)]
    for record in records:
        spool.put("sample", record, CSV)
    return records


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# ---- what is sent --------------------------------------------------------------------------------------------------


def test_files_are_delivered_oldest_first_over_one_connection(
    delivery: Delivery, spool: Spool, server: ScriptedServer
) -> None:
    records = put(spool, 5)

    delivery.run()

    assert server.accepted() == records
    assert len({request.connection for request in server.requests}) == 1
    assert spool.entries() == []
    assert delivery.delivered == 5


def test_each_kind_has_its_endpoint(delivery: Delivery, spool: Spool, server: ScriptedServer) -> None:
    spool.put("sample", b"v=1\n", CSV)
    for kind in ("sample", "sysinfo", "job", "cluster", "test.sample"):
        spool.put(kind, b"{}\n", JSON)

    delivery.run()

    assert [(request.path, request.headers["Content-Type"]) for request in server.requests] == [
        ("/sonar-freecsv?cluster=fox.example", CSV),
        ("/api/v1/insert/sample", JSON),
        ("/api/v1/insert/sysinfo", JSON),
        ("/api/v1/insert/job", JSON),
        ("/api/v1/insert/cluster", JSON),
        ("/api/v1/insert/test.sample", JSON),
    ]
    assert all("Authorization" not in request.headers for request in server.requests)
    assert all("Transfer-Encoding" not in request.headers for request in server.requests)


def test_large_file_arrives_whole(delivery: Delivery, spool: Spool, server: ScriptedServer) -> None:
    data = os.urandom(5_000_000)
    spool.put("sysinfo", data, JSON)

    delivery.run()

    assert server.accepted() == [data]


def test_url_may_have_a_path(
    spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time, tmp_path: Path
) -> None:
    put(spool, 1)
    client = Server(f"{server.url}/in/here/", "fox.example", ca_cert=certificates.ca)

    assert deliver(spool, client, time).run_once(10) == 0

    assert server.requests[0].path == "/in/here/sonar-freecsv?cluster=fox.example"
    client.close()


def test_client_certificate_is_shown(spool: Spool, certificates: Certificates, time: Time) -> None:
    context = certificates.server_context("127.0.0.1", client_certificates=True)
    with scripted_server(context) as server:
        put(spool, 1)
        without = Server(server.url, "fox.example", ca_cert=certificates.ca)
        with_one = Server(server.url, "fox.example", ca_cert=certificates.ca, client_cert=certificates.client)

        assert deliver(spool, without, time).run_once(0) == 1
        assert deliver(spool, with_one, time).run_once(0) == 0
        without.close()
        with_one.close()


def test_proxy_of_the_environment_is_used_with_its_password(
    spool: Spool, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server(None) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://ada:s%40cret@"))
        put(spool, 1)
        client = Server("http://server.invalid", "fox.example")

        assert deliver(spool, client, time).run_once(0) == 0
        client.close()

        assert proxy.requests[0].path == "http://server.invalid/sonar-freecsv?cluster=fox.example"
        assert proxy.requests[0].headers["Proxy-Authorization"] == "Basic YWRhOnNAY3JldA=="

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        put(spool, 1)
        client = Server(proxy.url, "fox.example")
        assert deliver(spool, client, time).run_once(0) == 0
        client.close()
        assert proxy.requests[1].path == "/sonar-freecsv?cluster=fox.example"


# ---- what is done with answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        *(Reply(status) for status in (500, 502, 503, 504, 507, 408, 425, 429, 301, 302, 303, 307, 308, 304)),
        *(Reply(status) for status in (401, 403, 407)),
        RESET,
    ],
    ids=lambda reply: "reset" if reply.reset else str(reply.status),
)
def test_after_trouble_the_same_file_is_tried_again_and_nothing_overtakes_it(
    trouble: Reply, delivery: Delivery, spool: Spool, server: ScriptedServer
) -> None:
    records = put(spool, 3)
    server.script.extend([Reply(), trouble, trouble])

    delivery.run()

    assert server.accepted() == records
    tried = [request.body for request in server.requests]
    whole = [body for body in tried if body in records]
    assert whole == sorted(whole)
    assert len(tried) == 5
    assert list((spool.directory / "bad").iterdir()) == []


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 413, 415, 422, 431, 451])
def test_what_is_refused_for_good_is_put_aside_with_the_reason(
    status: int, delivery: Delivery, spool: Spool, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = put(spool, 2)
    name = spool.entries()[0].path.name
    server.script.append(Reply(status, b"no \x1b[31mgood\nsecond line\n"))

    delivery.run()

    assert server.accepted() == [second]
    assert len(server.requests) == 2
    assert (spool.directory / "bad" / name).read_bytes() == first
    assert (spool.directory / "bad" / f"{name}.why").read_text() == f"status {status}: no ?[31mgood\n"
    assert messages(caplog, logging.WARNING) == [
        f"the server refuses '{name}' for good (status {status}: no ?[31mgood), keeping it in bad/"
    ]


def test_records_that_the_server_dropped_are_told(
    delivery: Delivery, spool: Spool, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(spool, 3)
    server.script.extend([Reply(headers={"X-Sonar-Dropped": "7"}), Reply(headers={"X-Sonar-Dropped": "0"})])

    delivery.run()

    assert len(messages(caplog, logging.WARNING)) == 1
    assert "but dropped 7 of its records" in caplog.text


def test_redirect_is_not_followed(delivery: Delivery, spool: Spool, server: ScriptedServer) -> None:
    put(spool, 1)
    server.script.append(Reply(307, headers={"Location": f"{server.url}/elsewhere"}))

    delivery.run()

    assert [request.path for request in server.requests] == ["/sonar-freecsv?cluster=fox.example"] * 2


def test_long_answer_is_not_read_to_its_end(delivery: Delivery, spool: Spool, server: ScriptedServer) -> None:
    records = put(spool, 3)
    server.script.append(Reply(200, bytes(3_000_000)))

    delivery.run()

    assert server.accepted() == records
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_answer_that_makes_no_sense_is_trouble(answer: bytes, spool: Spool, time: Time) -> None:
    put(spool, 1)

    def give(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=give, args=(listener,))
        thread.start()
        client = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", "fox.example")

        assert deliver(spool, client, time).run_once(0) == 1

        client.close()
        thread.join()
    assert list((spool.directory / "bad").iterdir()) == []


def test_file_that_cannot_be_removed_is_trouble_and_no_end(
    delivery: Delivery, spool: Spool, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = put(spool, 1)
    remove = Spool.remove
    failures = [OSError(5, "Input/output error")] * 2

    def failing(self: Spool, entry: Entry) -> None:
        if failures:
            raise failures.pop()
        remove(self, entry)

    monkeypatch.setattr(Spool, "remove", failing)
    delivery.run()

    assert server.accepted() == [record] * 3


def test_file_that_is_taken_away_meanwhile_is_passed_over(
    delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time
) -> None:
    first, _, third = put(spool, 3)
    entries = spool.entries()
    until = time.until

    def take_away() -> bool:
        if len(server.requests) == 1:
            entries[1].path.unlink(missing_ok=True)
        return until()

    time.until = take_away
    delivery.run()

    assert server.accepted() == [first, third]


# ---- trust ---------------------------------------------------------------------------------------------------------


def test_server_of_another_authority_gets_nothing(
    spool: Spool, server: ScriptedServer, time: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(spool, 1)
    (tmp_path / "other").mkdir()
    client = Server(server.url, "fox.example", ca_cert=Certificates(tmp_path / "other").ca)

    assert deliver(spool, client, time).run_once(100) == 1

    assert server.requests == []
    assert "certificate verify failed" in caplog.text
    client.close()


def test_server_of_another_name_gets_nothing(
    spool: Spool, certificates: Certificates, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted_server(certificates.server_context("other.example")) as server:
        put(spool, 1)
        client = Server(server.url, "fox.example", ca_cert=certificates.ca)

        assert deliver(spool, client, time).run_once(100) == 1

        assert server.requests == []
        assert "certificate verify failed" in caplog.text
        client.close()


def test_old_tls_is_not_spoken(spool: Spool, certificates: Certificates, time: Time) -> None:
    context = certificates.server_context("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with scripted_server(context) as server:
        put(spool, 1)
        client = Server(server.url, "fox.example", ca_cert=certificates.ca)

        assert deliver(spool, client, time).run_once(0) == 1
        assert server.requests == []
        client.close()


def test_password_is_sent_in_utf_8_and_read_again_when_refused(
    spool: Spool, server: ScriptedServer, certificates: Certificates, time: Time, tmp_path: Path
) -> None:
    put(spool, 1)
    auth_file = tmp_path / "auth"
    auth_file.write_text("fox.example:old")
    auth_file.chmod(0o600)
    client = Server(server.url, "fox.example", auth_file=auth_file, ca_cert=certificates.ca)
    auth_file.write_text("fox.example:p:ä")
    server.script.extend([Reply(401, b"Unauthorized")])

    assert deliver(spool, client, time).run_once(1000) == 0

    assert [request.headers["Authorization"] for request in server.requests] == [
        "Basic Zm94LmV4YW1wbGU6b2xk",
        "Basic Zm94LmV4YW1wbGU6cDrDpA==",
    ]
    client.close()


def test_wrong_password_is_warned_of_once_an_hour_and_tried_ever_less(
    delivery: Delivery, spool: Spool, server: ScriptedServer, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    put(spool, 1)
    server.always = Reply(401, b"Unauthorized")
    time.until = lambda: time.now > START + 24 * 3600

    delivery.run()

    assert 24 <= len(server.requests) <= 45
    assert 12 <= len(messages(caplog, logging.WARNING)) <= 25
    assert "status 401: Unauthorized" in caplog.text
    assert len(spool.entries()) == 1


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("monitor.example", "must be http"),
        ("ftp://monitor.example", "must be http"),
        ("https://", "must be http"),
        ("https://mon itor", "must be http"),
        ("https://[::1", "must be http"),
        ("https://monitor:99999", "must be http"),
        ("https://monitor.example/x?y=1", "must be http"),
        ("https://ada:secret@monitor.example", "must not hold a user name"),
        ("https://:secret@monitor.example:x", "must not hold a user name"),
    ],
)
def test_bad_urls_are_usage_errors_that_show_no_password(url: str, part: str) -> None:
    with pytest.raises(UsageError, match=part) as refused:
        Server(url, "fox.example")
    assert "secret" not in str(refused.value)


def test_certificates_that_cannot_be_used_are_errors_of_one_line(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "empty").write_text("")

    with pytest.raises(SonarError, match=r"cannot use certificate '.*none.pem': No such file"):
        Server("https://x", "fox", ca_cert=tmp_path / "none.pem")
    with pytest.raises(SonarError, match=r"cannot use certificate '.*empty'"):
        Server("https://x", "fox", client_cert=tmp_path / "empty")
    with pytest.raises(UsageError, match="--ca-cert and --cert need an https --url"):
        Server("http://x", "fox", ca_cert=certificates.ca)


# ---- when ----------------------------------------------------------------------------------------------------------


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


# ---- the quota -----------------------------------------------------------------------------------------------------


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

"""What is done with the answers of a server, whatever they are."""

import contextlib
import logging
import socket
import threading

import pytest

from sonar.node.delivery import Delivery
from sonar.node.spool import Entry, Spool
from sonar.node.upload import Server

from tests.node.delivery.conftest import Time, deliver, messages, put
from tests.node.scripted_server import RESET, Reply, ScriptedServer


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

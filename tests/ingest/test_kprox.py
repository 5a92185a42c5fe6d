"""Messages in the framing of a proxy for Kafka: what is taken of them, and everything that may be wrong with them."""

import gzip
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, PASSWORD, Infiltrate, Starter

MEDIA = {"Content-Type": "application/octet-stream"}
MAX_BODY = 100_000


def message(
    kind: str = "sample",
    cluster: str = CLUSTER,
    user: str = CLUSTER,
    word: str = PASSWORD,
    key: str = "n1",
    data: bytes | None = None,
    **changes: object,
) -> bytes:
    """Return a message as the sampler frames it for a proxy; `changes` to what its envelope says, or another one."""
    attributes = {"time": "2026-03-02T12:00:00Z", "cluster": cluster, "jobs": [], "slurm_jobs": []} | changes
    if data is None:
        data = json.dumps({"meta": {}, "data": {"type": kind, "attributes": attributes}}).encode() + b"\n"
    control = (
        f'\n{{"topic":"{cluster}.{kind}","key":"{key}","client":"{cluster}/n1","sasl-user":"{user}", '
        f'"sasl-password":"{word}","data-size":{len(data)}}}\n'
    )
    return control.encode() + data


def test_messages_in_the_framing_of_a_proxy(start: Starter) -> None:
    server = start("--kprox", "/proxy")
    media = {"Content-Type": "application/octet-stream"}

    def post(body: bytes) -> tuple[int, bytes, str | None]:
        answer = server.post("/proxy", body, user=None, headers=media)
        return answer.status, answer.body, answer.headers.get("x-sonar-dropped")

    assert post(message() + message("job") + b"\n\n") == (200, b"", None)
    assert post(b"") == post(b"\n\n") == (200, b"", None)
    of_fox = message(FOX, FOX, word=FOX_PASSWORD), message(cluster=FOX, user=FOX, word=FOX_PASSWORD)
    assert post(b"".join(of_fox) + message())[::2] == (200, "1")
    # Neither a wrong password nor another's cluster costs more than its own message.
    wrong, others = message(word="wrong"), message(cluster=FOX)
    assert post(wrong + message() + others) == (200, b"", "2")
    assert post(others) == (403, b"Upload not authorized", None)
    assert post(message(user="nobody")) == (401, b"Bad credentials", None)
    assert post(message(user="", word="")) == (401, b"Bad credentials", None)
    assert post(message() + b"{}\n")[::2] == (200, "1")
    for body, reason in {
        b"{}": b"Trailing junk",
        b"[]\n": b"Malformed control object",
        b"nonsense\n": b"Malformed control object",
        b'{"data-size":9}\n12345678': b"Out of bounds data length",
        b'{"data-size":-1}\n': b"Out of bounds data length",
        b'{"topic":"x"}\n': b"Out of bounds data length",
    }.items():
        assert post(body) == (400, reason, None)
    assert server.post("/kprox", message(), user=None).status == 404
    assert server.post("/proxy", message(), user=None, headers={"Content-Type": "application/json"}).status == 415

    server.stop()
    counts = {path: content.count(b"\n") for path, content in server.stored().items()}
    assert counts == {
        f"{CLUSTER}/2026/03/02/0+sample-n1.json": 4,  # the node is the message's key
        f"{CLUSTER}/2026/03/02/0+job-slurm.json": 1,
        f"{FOX}/2026/03/02/0+sample-n1.json": 1,
    }
    assert PASSWORD not in server.log.read_text()


@pytest.mark.parametrize("path", ["kprox", "x/y"])
def test_place_of_the_framing_is_a_path(path: str, start: Starter) -> None:
    with pytest.raises(AssertionError, match="want a path that begins with /"):
        start("--kprox", path)


@pytest.fixture
def proxy(start: Starter, tmp_path: Path) -> Infiltrate:
    aliases = tmp_path / "aliases.json"
    aliases.write_text(json.dumps([{"alias": "ml", "value": CLUSTER}]))
    return start("--kprox", "/kprox", "--aliases", str(aliases), "--max-body", str(MAX_BODY))


def test_faults_of_request_and_message(proxy: Infiltrate) -> None:
    good, gzipped = message(), gzip.compress(message())
    posts = {
        "a good one": (200, good, MEDIA),
        "no type": (200, good, {}),
        "type with charset": (200, good, {"Content-Type": "Application/Octet-Stream; charset=utf-8"}),
        "curl's type": (200, good, {"Content-Type": "application/x-www-form-urlencoded"}),
        "wrong type": (415, good, {"Content-Type": "text/csv"}),
        "gzip": (200, gzipped, MEDIA | {"Content-Encoding": "gzip"}),
        "gzip cut off": (400, gzipped[:-9], MEDIA | {"Content-Encoding": "gzip"}),
        "over-size": (413, bytes(MAX_BODY + 1), MEDIA),
        "empty": (200, b"", MEDIA),
        "[]": (400, b"[]", MEDIA),
        "{}": (400, b"{}\n", MEDIA),
        "null": (400, b"null\n", MEDIA),
        "no credentials": (401, message(user="", word=""), MEDIA),
        "wrong password": (401, message(word="x"), MEDIA),
        "unknown user": (401, message(user="nobody"), MEDIA),
        "other cluster": (403, message(cluster=FOX), MEDIA),
        "cluster of the envelope": (403, message(data=message(cluster=FOX).split(b"\n", 2)[2]), MEDIA),
        "alias as cluster": (200, message(cluster="ml"), MEDIA),
        "cluster with a path": (400, message(cluster="../x"), MEDIA),
        "no such topic": (404, message("nothing"), MEDIA),
        "prefix that nobody allowed": (403, message(cluster=f"test.{CLUSTER}"), MEDIA),
        "node with a path": (400, message(key="../x"), MEDIA),
        "no node": (400, message(key=""), MEDIA),
        "bad time": (400, message(time="yesterday"), MEDIA),
        "no time": (400, message(time=None), MEDIA),
        **{
            f"envelope {data!r}": (400, message(data=data), MEDIA)
            for data in (b"", b"[]", b"{}", b"null", b"[null]", b"{")
        },
    }
    for label, (status, body, headers) in posts.items():
        assert (label, proxy.post("/kprox", body, user=None, headers=headers).status) == (label, status)
    assert proxy.request("GET", "/kprox", user=None).status == 405
    proxy.stop()

    assert set(proxy.stored()) == {f"{CLUSTER}/2026/03/02/0+sample-n1.json"}


def test_ways_of_sending(proxy: Infiltrate) -> None:
    body = message()
    size = b"Content-Length: %d\r\n\r\n" % len(body)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    for head, sent in [
        (b"Transfer-Encoding: chunked\r\n\r\n", [chunks]),
        (b"Expect: 100-continue\r\n" + size, [body]),
        (size, [body[at : at + 50] for at in range(0, len(body), 50)]),
    ]:
        with closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=60)) as connection:
            connection.sendall(b"POST /kprox HTTP/1.1\r\nHost: x\r\n" + head)
            if b"Expect" in head:
                assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            for part in sent:
                connection.sendall(part)
                assert proxy.request("GET", "/ping", user=None).status == 200
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    proxy.stop()

    assert [data.count(b"\n") for data in proxy.stored().values()] == [3]

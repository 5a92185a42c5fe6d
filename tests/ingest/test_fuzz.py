"""Whatever comes: no endpoint raises anything but a refusal, and nothing gets where it does not belong.

`make torture` runs the same with SONAR_FUZZ_EXAMPLES examples each.
"""

import json
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.hosts import HostPatterns
from sonar.ingest.endpoints import _table, find_endpoint
from sonar.ingest.inflate import inflate
from sonar.ingest.post import Endpoint, Post, Refusal, Rules
from sonar.ingest.request import parameters_of
from sonar.names import ClusterName
from sonar.serve.identities import Identities, basic_credentials
from sonar.store.ledger import read_arrivals, server_intervals
from sonar.times import DAY

from tests.fuzz.uploads import check_taken
from tests.ingest.conftest import CLUSTER, Infiltrate

NOW = 1_772_000_000
T = TypeVar("T")
EXAMPLES = int(os.environ.get("SONAR_FUZZ_EXAMPLES", "100"))

fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["2026-03-02T12:00:00Z", "../../x", CLUSTER, "n1", "sample", "", "0001-01-01T00:00:00Z", "9" * 40]),
)
KEYS = """version time cluster host node user cmd job cores cpu% gpus meta token data type attributes errors detail
timestamp hostname slurm_jobs TIME"""
keys = st.sampled_from(re.findall(r"\S+", KEYS)) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=12
)
texts = values.map(lambda value: json.dumps(value).encode())
cells = st.sampled_from(
    [b"time=2026-03-02T12:00:00Z", b"host=n1", b"host=../x", b"v=1", b"End=2026-03-02T12:00:00+01:00", b'"', b'"a=b,c"']
) | st.binary(max_size=12)
lines = st.lists(st.lists(cells, max_size=6).map(b",".join), max_size=6).map(b"\n".join)
frames = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(["topic", "key", "sasl-user", "data-size"]), scalars), texts).map(
        lambda pair: b"\n" + json.dumps(pair[0] | {"data-size": len(pair[1])}).encode() + b"\n" + pair[1]
    ),
    max_size=3,
).map(b"".join)
bodies = st.one_of(st.binary(max_size=300), lines, texts, st.lists(texts, max_size=3).map(b"\n".join), frames)
parameters = st.dictionaries(
    st.sampled_from(["cluster", "sample", "sysinfo", "slurm-sacct", "x"]),
    st.lists(
        st.sampled_from([CLUSTER, "true", "false", "xxxxxtruexxxxx", "../x", ""]) | st.text(max_size=5), max_size=2
    ),
)
endpoints = st.sampled_from([endpoint for _, endpoint in _table()])


def outcome(work: Callable[[], T]) -> T | SonarError:
    """Return what comes of some work, if only the refusal to do it."""
    try:
        return work()
    except SonarError as error:
        return error


@fuzz
@given(
    endpoints, bodies, parameters, st.sampled_from(["sample", "sysinfo", "job", "cluster", "a.b", ""]), st.booleans()
)
def test_endpoints(endpoint: Endpoint, body: bytes, given_: dict[str, list[str]], topic: str, anybody: bool) -> None:
    clusters: Any = None if anybody else frozenset({CLUSTER})
    post = Post(body, topic, given_, clusters, Rules(), NOW, senders={None: clusters})
    outcome(lambda: endpoint.media_types(given_))
    if endpoint.senders is not None:
        endpoint.senders(body)
    taken = outcome(lambda: endpoint.take(post))

    if isinstance(taken, SonarError):
        assert isinstance(taken, Refusal)
        assert 400 <= taken.status < 500
        assert taken.reason
        return
    check_taken(taken)
    assert anybody or all(append.path.startswith(f"{CLUSTER}/") for append in taken.appends)


@fuzz
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_headers_and_parameters(data: bytes) -> None:
    pair = basic_credentials(data)
    assert pair is None or len(pair) == 2
    assert isinstance(outcome(lambda: parameters_of(data)), (dict, Refusal))
    find_endpoint(data.decode("latin-1"))
    inflated = outcome(lambda: inflate(data, 1000))
    assert isinstance(inflated, SonarError) or len(inflated) <= 1000


@fuzz
@given(st.text("abc[]-,.019*", max_size=25) | st.text(max_size=25))
def test_host_patterns(text: str) -> None:
    patterns = outcome(lambda: HostPatterns.parse([text]))
    assert isinstance(patterns, SonarError) or patterns.match("a1") in {True, False}


@fuzz
@given(st.binary(max_size=200) | st.lists(st.text(max_size=30), max_size=4).map(lambda t: "\n".join(t).encode()))
def test_password_files(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        identities = outcome(lambda: Identities.load(Path(file.name)))
        if isinstance(identities, SonarError):
            assert file.name in str(identities)
        else:
            assert identities.lets_nobody_in is not bool(len(identities))


@fuzz
@given(st.lists(st.binary(max_size=60) | texts, max_size=5).map(b"\n".join))
def test_ledgers(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        for path in (f"{CLUSTER}/2026/02/25/0+arrivals.jsonl", ".server/2026-02.jsonl"):
            file = Path(name, path)
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        assert all(one.cluster == CLUSTER for one in read_arrivals(Path(name), ClusterName(CLUSTER), NOW, NOW + DAY))
        assert all(one.end > one.start for one in server_intervals(Path(name), 0, NOW))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infiltrate]:
    running = Infiltrate(tmp_path_factory.mktemp("fuzz"), "--allow-anonymous", "--listen", "127.0.0.1:0")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


requests = st.lists(
    st.sampled_from(
        [
            b"POST /sonar-freecsv?cluster=x HTTP/1.1\r\nHost: x\r\n",
            b"GET /ping HTTP/1.1\r\nHost: x\r\n",
            b"POST /insert/sample HTTP/1.0\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: -5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"Connection: upgrade\r\nUpgrade: websocket\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Authorization: Basic eDp5\r\n",
            b"\r\n",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"hello",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)


@settings(fuzz, max_examples=EXAMPLES // 2)
@given(requests)
def test_bytes_on_a_socket(server: Infiltrate, data: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.02)
        try:
            answer = connection.recv(65536)
        except (TimeoutError, ConnectionResetError):
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in answer
    assert server.request("GET", "/ping", user=None).status == 200

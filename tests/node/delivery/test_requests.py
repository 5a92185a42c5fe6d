"""What is sent, where to, and over which way."""

import os
from pathlib import Path

import pytest

from sonar.node.delivery import Delivery
from sonar.node.spool import Spool
from sonar.node.upload import Server

from tests.node.delivery.conftest import CSV, JSON, Time, deliver, put
from tests.node.scripted_server import Certificates, ScriptedServer, scripted_server


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

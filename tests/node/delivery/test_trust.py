"""Who is talked to, and with which credentials."""

import logging
import ssl
import warnings
from pathlib import Path

import pytest

from sonar.errors import SonarError, UsageError
from sonar.node.delivery import Delivery
from sonar.node.spool import Spool
from sonar.node.upload import Server

from tests.node.delivery.conftest import START, Time, deliver, messages, put
from tests.node.scripted_server import Certificates, Reply, ScriptedServer, scripted_server


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

"""The examples beside the server: nginx in front of it, Grafana beside it, a provider that knows people."""

import configparser
import csv
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
import urllib3

from sonar.web.oidc import Provider

from tests.waiting import until
from tests.web.conftest import CLUSTER, NOW, PEOPLE, Server, basic, running

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "etc" / "examples"
DAY = "%Y-%m-%d"


@pytest.fixture(scope="module")
def proxied(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, urllib3.PoolManager]]:
    """A server behind nginx with the example's configuration; its places are those of this test."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("there is no nginx")
    root = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(root / "server.crt")
    certificate.private_key_pem.write_to_path(root / "server.key")
    authority.cert_pem.write_to_path(root / "ca.crt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(site, ["--cluster-config", site, "--password-file", site / "passwords"], tls=False) as server:
        example = (EXAMPLES / "nginx-sonar.conf").read_text()
        for before, after in (
            ("unix:/run/sonar/sonalyzed.socket", server.url.removeprefix("http://")),
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/sonar/tls/", f"{root}/"),
        ):
            assert before in example
            example = example.replace(before, after)
        places = "".join(
            f"{name}_temp_path {root}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (root / "nginx.conf").write_text(
            f"daemon off;\nuser root;\npid {root}/pid;\nerror_log {root}/errors;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}{example}\n}}\n"
        )
        command: list[str | Path] = ["/usr/sbin/nginx", "-p", root, "-c", root / "nginx.conf", "-e", root / "errors"]
        verdict = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert "test is successful" in verdict.stderr, verdict.stderr
        assert "warn" not in verdict.stderr
        process = subprocess.Popen(command)
        try:
            with urllib3.PoolManager(ca_certs=str(root / "ca.crt")) as http:
                yield server, f"https://127.0.0.1:{port}", http
        finally:
            process.terminate()
            process.wait(30)


def fetch(
    http: urllib3.PoolManager, url: str, *, login: str = "", method: str = "GET", body: str | None = None,
    headers: dict[str, str] | None = None,
) -> urllib3.BaseHTTPResponse:  # fmt: skip
    fields = {**({"authorization": basic(login)} if login else {}), **(headers or {})}
    return http.request(
        method,
        url,
        headers=fields,
        body=body,
        redirect=False,
        retries=urllib3.Retry(
            connect=10, status=0, raise_on_status=False, respect_retry_after_header=False, backoff_factor=0.1
        ),
    )


def test_nginx_passes_on_questions_pages_and_sessions(proxied: tuple[Server, str, urllib3.PoolManager]) -> None:
    server, url, http = proxied
    assert fetch(http, f"{url}/ping").data == b"ok\n"
    question = f"/parse?cluster={CLUSTER}&from=9d&to=2d&fmt=csv,all"
    answer = fetch(http, url + question, login="ada")
    assert answer.data == server.get(question).data
    assert len(answer.data) > 1_000_000
    assert answer.headers.getlist("strict-transport-security") == ["max-age=31536000"]

    form = urlencode({"name": "ada", "password": PEOPLE["ada"][0], "next": f"/c/{CLUSTER}"})
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": url}
    entered = fetch(http, f"{url}/login", method="POST", body=form, headers=headers)
    assert (entered.status, entered.headers["location"]) == (303, f"/c/{CLUSTER}")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith("__Host-sonar=")
    assert "Secure" in cookie
    page = fetch(http, f"{url}/c/{CLUSTER}", headers={"cookie": cookie.split(";")[0]})
    assert page.status == 200
    assert b"Log out" in page.data
    assert page.headers["content-security-policy"].startswith("default-src 'self'")


def test_nginx_says_who_guesses(proxied: tuple[Server, str, urllib3.PoolManager]) -> None:
    """One who guesses passwords is slowed down, and nobody else that comes through the same proxy."""
    server, url, http = proxied
    statuses = [fetch(http, f"{url}/", login=f"eve:{at}").status for at in range(14)]
    assert statuses[0] == 401
    assert 429 in statuses
    elsewhere = {"x-real-ip": "192.0.2.7"}
    assert server.get("/", login="ada", headers=elsewhere).status == 200


def test_a_client_that_leaves_nginx_stops_its_question(proxied: tuple[Server, str, urllib3.PoolManager]) -> None:
    server, url, http = proxied
    host, _, port = url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=http.connection_pool_kw["ca_certs"])

    def running_questions() -> int:
        lines = server.get("/metrics").data.decode().splitlines()
        return int(
            next(float(one.split()[-1]) for one in lines if one.startswith('sonalyzed_tasks_running{lane="question"'))
        )

    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        path = f"/parse?cluster={CLUSTER}&from=14d&fmt=csv,all&clean=true"
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('ada')}\r\n\r\n".encode())
        until(lambda: running_questions() == 1)
    until(lambda: not running_questions())


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / "grafana-sonar-dashboard.json").read_text())
    return found


def test_the_dashboard_has_the_shape_that_grafana_reads() -> None:
    board = dashboard()
    assert {"title", "uid", "schemaVersion", "time", "templating", "panels"} <= set(board)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"])
    names = {one["name"] for one in board["templating"]["list"]}
    assert all({"name", "type"} <= set(one) for one in board["templating"]["list"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & covered, "panels lie on each other"
        covered |= cells
        assert panel["type"] in {"timeseries", "table", "stat"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    used = set(re.findall(r"\$\{(\w+)", json.dumps(board)))
    assert used <= names | {"__from", "__to"}


@pytest.mark.parametrize("panel", dashboard()["panels"], ids=lambda panel: panel["title"])
def test_each_address_of_the_dashboard_is_answered(server: Server, panel: dict[str, Any]) -> None:
    values = {
        "${cluster}": CLUSTER,
        "${node}": "gpu-2",
        "${__from:date:YYYY-MM-DD}": time.strftime(DAY, time.gmtime(NOW - 86400)),
        "${__to:date:YYYY-MM-DD}": time.strftime(DAY, time.gmtime(NOW)),
    }
    for target in panel["targets"]:
        # As the data source has it: its own address goes before one that begins with a slash, Grafana puts in the
        # variables, and the type of the query is what it accepts.
        assert target["url"].startswith("/")
        assert (target["type"], target["source"], target["parser"]) == ("csv", "url", "backend")
        assert target["format"] == ("timeseries" if panel["type"] == "timeseries" else "table")
        assert target["url_options"]["method"] == "GET"
        parameters = [(one["key"], one["value"]) for one in target["url_options"]["params"]]
        query = urlencode([(key, values.get(value, value)) for key, value in parameters])
        answer = server.get(f"{target['url']}?{query}", headers={"accept": "text/csv; charset=utf-8"})
        assert answer.status == 200, answer.data
        assert answer.headers["content-type"].startswith("text/csv")
        reader = csv.DictReader(answer.data.decode().splitlines())
        rows = list(reader)
        assert reader.fieldnames, "without a head it takes nothing for an error"
        assert [one["selector"] for one in target.get("columns", ())] == (
            list(reader.fieldnames) if panel["type"] == "timeseries" else []
        )
        for column in target.get("columns", ()):
            assert set(column) <= {"selector", "text", "type", "timestampFormat"}
            if column["type"] == "timestamp":
                assert column["timestampFormat"] == "2006-01-02 15:04"
                times = [time.strptime(row[column["selector"]], f"{DAY} %H:%M") for row in rows]
                assert times == sorted(set(times)), "a series goes on in time"
            if column["type"] == "number":
                assert all(float(row[column["selector"]]) >= 0 for row in rows)
        assert len(rows) > 0 or target["url"] == "/uptime"


def test_the_unit_with_a_provider_is_the_unit_and_what_the_provider_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def section(path: Path) -> list[tuple[str, str]]:
        lines = path.read_text().partition("[Service]\n")[2].partition("\n[")[0].splitlines()
        return [(key, value) for key, sign, value in (line.partition("=") for line in lines) if sign and key[0] != "#"]

    drop_in = section(EXAMPLES / "sonalyzed-oidc-unit.conf")
    unit = dict(section(ROOT / "units" / "sonar-sonalyzed.service"))
    starts = [value for key, value in drop_in if key == "ExecStart"]
    assert starts == ["", unit["ExecStart"] + " --oidc /etc/sonar/oidc.conf"]
    assert ("LoadCredential", "oidc-secret:/etc/sonar/oidc-secret") in drop_in
    assert ("PrivateNetwork", "no") in drop_in

    (tmp_path / "oidc-secret").write_text("hush\n")
    (tmp_path / "oidc-secret").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    provider = Provider.load(EXAMPLES / "sonalyzed-oidc.conf")
    parser = configparser.ConfigParser()
    parser.read(EXAMPLES / "sonalyzed-oidc.conf")
    assert (provider.secret, provider.title) == ("hush", parser["Provider"]["Title"])

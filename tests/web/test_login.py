"""The form and its cookie: logging in and out, forgery, guessing, leading astray."""

from urllib.parse import urlencode

import pytest
import urllib3

from sonar.web.login import local_path

from tests.waiting import until
from tests.web.conftest import CLUSTER, PEOPLE, Server, passwords_file, running

HTML = {"accept": "text/html"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def post(server: Server, fields: dict[str, str], headers: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
    fields_of = {**FORM, "origin": server.url, **(headers or {})}
    return server.get("/login", method="POST", login=None, headers=fields_of, body=urlencode(fields))


def cookie_of(server: Server, name: str = "ada") -> str:
    response = post(server, {"name": name, "password": PEOPLE[name][0], "next": f"/c/{CLUSTER}"})
    assert (response.status, response.headers["location"]) == (303, f"/c/{CLUSTER}")
    return response.headers["set-cookie"]


def test_a_browser_is_led_to_the_form_and_back(server: Server) -> None:
    led = server.get(f"/c/{CLUSTER}?select=gpu*", login=None, headers=HTML)
    assert led.status == 303
    assert led.headers["location"] == f"/login?next=%2Fc%2F{CLUSTER}%3Fselect%3Dgpu%2A"
    form = server.get(led.headers["location"], login=None)
    assert form.status == 200
    assert f'value="/c/{CLUSTER}?select=gpu*"' in form.data.decode()


def test_the_cookie_lets_in_and_is_safe(server: Server) -> None:
    cookie = cookie_of(server)
    assert cookie.startswith("__Host-sonar=")
    for word in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/"):
        assert word in cookie
    value = cookie.split(";")[0]
    page = server.get(f"/c/{CLUSTER}", login=None, headers={"cookie": value})
    assert page.status == 200
    assert "Log out" in page.data.decode()
    assert server.get(f"/jobs?cluster={CLUSTER}", login=None, headers={"cookie": value}).status == 200


def test_a_changed_cookie_does_not(server: Server) -> None:
    value = cookie_of(server).split(";")[0]
    name, _, content = value.partition("=")
    for forged in (content[:-3] + "abc", content.replace(".", "x", 1), "", "a.b.c", "é", content.split(".")[0]):
        headers = {"cookie": f"{name}={forged}".encode().decode("latin-1")}
        assert server.get(f"/c/{CLUSTER}", login=None, headers=headers).status == 401


def test_another_site_cannot_log_in_or_out(server: Server) -> None:
    fields = {"name": "ada", "password": PEOPLE["ada"][0]}
    for headers in ({"origin": "https://evil.example.org"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert post(server, fields, headers).status == 403
        assert server.get("/logout", method="POST", login=None, headers=headers).status == 403
    without = server.get("/login", method="POST", login=None, headers=FORM, body=urlencode(fields))
    assert without.status == 403
    assert server.get("/logout", login=None).status == 405


def test_logging_out_takes_the_cookie(server: Server) -> None:
    response = server.get("/logout", method="POST", login=None, headers={"origin": server.url})
    assert response.status == 303
    assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize(
    "target",
    ["//evil.example.org", "https://evil.example.org/", "/\\evil.example.org", "javascript:alert(1)", "/\n/x", ""],
)
def test_logging_in_leads_nowhere_else(server: Server, target: str) -> None:
    assert local_path(target) == "/"
    response = post(server, {"name": "ada", "password": PEOPLE["ada"][0], "next": target})
    assert (response.status, response.headers["location"]) == (303, "/")


def test_a_wrong_password_shows_the_form_again_and_guessing_is_slowed_down(server: Server) -> None:
    answers = [post(server, {"name": "<eve>", "password": str(number)}) for number in range(14)]
    assert answers[0].status == 403
    assert "&lt;eve&gt;" in answers[0].data.decode()
    assert "wrong" in answers[0].data.decode()
    assert answers[-1].status == 429
    assert post(server, {"name": "ada", "password": PEOPLE["ada"][0]}).status == 303


def test_a_session_ends_with_its_password(site, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import os
    import signal

    passwords = passwords_file(tmp_path / "passwords")
    key = tmp_path / "key"
    (tmp_path / "data").symlink_to(site / "data")
    options = ["--password-file", passwords, "--session-key", key]
    with running(tmp_path, options, tls=False) as server:
        value = cookie_of(server).split(";")[0]
        assert value.startswith("sonar=")
        assert server.get("/", login=None, headers={"cookie": value}).status == 200
    made = key.read_bytes()  # at the first start
    assert (key.stat().st_mode & 0o777, len(made.strip()) >= 32) == (0o600, True)
    assert [path.name for path in tmp_path.iterdir() if "key" in path.name] == ["key"]
    with running(tmp_path, options, tls=False) as server:  # the key outlives the process
        assert key.read_bytes() == made
        assert server.get("/", login=None, headers={"cookie": value}).status == 200
        lines = passwords.read_text().splitlines()
        passwords.write_text("\n".join(line for line in lines if not line.startswith("ada:")) + "\n")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: server.get("/", login=None, headers={"cookie": value}).status != 200)

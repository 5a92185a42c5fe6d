"""Logging in at an OpenID Connect provider: a small one of our own, honest and not."""

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import urllib3
from joserfc.jwk import RSAKey

from tests.secret_watch import MARK
from tests.web.conftest import CLUSTER, Server, running
from tests.web.small_provider import SmallProvider

CLIENT_SECRET = f"of the client {MARK}"


@pytest.fixture(scope="module")
def provider() -> Iterator[SmallProvider]:
    made = SmallProvider()
    made.client_secret = CLIENT_SECRET
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def place(site: Path, provider: SmallProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("oidc")
    secret = root / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    secret.chmod(0o600)
    (root / "data").symlink_to(site / "data")
    (root / "oidc.conf").write_text(
        f"[Provider]\nIssuer={provider.issuer}\nClientId=sonar\nClientSecretFile={secret}\nTitle=the university\n"
        "AdminGroups=hpc-admins\nSupportGroups=helpdesk\n"
    )
    options: list[str | Path] = ["--oidc", root / "oidc.conf", "--password-file", site / "passwords"]
    with running(root, options, tls=False) as server:
        yield server


def go(server: Server, *, tamper: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
    """Log in as a browser does."""
    begun = server.get(f"/login/oidc?next=/c/{CLUSTER}/jobs", login=None)
    assert begun.status == 303
    pending = begun.headers["set-cookie"].split(";")[0]
    back = server.http.request("GET", begun.headers["location"], redirect=False)
    parts = urlsplit(back.headers["location"])
    query = {**dict(parse_qsl(parts.query)), **(tamper or {})}
    path = f"{parts.path}?" + "&".join(f"{name}={value}" for name, value in query.items())
    return server.get(path, login=None, headers={"cookie": pending})


def test_a_person_logs_in_and_has_the_role_of_the_groups(place: Server, provider: SmallProvider) -> None:
    for groups, sees_others, sees_status in (([], False, 403), (["helpdesk"], True, 403), (["hpc-admins"], True, 200)):
        provider.person = {"preferred_username": "grete", "groups": groups}
        done = go(place)
        assert done.status == 200, done.data
        assert done.headers["refresh"] == f"0; url=/c/{CLUSTER}/jobs"
        cookie = {"cookie": done.headers["set-cookie"].split(";")[0]}
        rows = place.get(f"/jobs?cluster={CLUSTER}&user=-&from=6d&fmt=csv,user", login=None, headers=cookie)
        users = set(rows.data.decode().split())
        assert "grete" in users
        assert (len(users) > 1) is sees_others
        assert place.get("/status", login=None, headers=cookie).status == sees_status


def test_the_form_offers_it(place: Server) -> None:
    assert "Log in with the university" in place.get("/login", login=None).data.decode()


def test_what_is_not_right_lets_nobody_in(place: Server, provider: SmallProvider) -> None:
    assert go(place, tamper={"state": "another"}).status == 401
    assert go(place, tamper={"code": "another"}).status == 401
    assert place.get("/login/oidc/back?code=x&state=y", login=None).status == 401
    for lie in (
        {"nonce": "another"}, {"aud": "another"}, {"iss": "http://another"}, {"exp": 1000}, {"preferred_username": ""},
        {"preferred_username": ["grete"]},
    ):  # fmt: skip
        provider.lie = lie
        assert go(place).status == 401, lie
    provider.lie = {}
    provider.signer = RSAKey.generate_key(2048, {"kid": "1"})
    assert go(place).status == 401
    provider.signer = provider.key
    assert go(place).status == 200

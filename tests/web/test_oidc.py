"""Logging in at an OpenID Connect provider: a small one of our own, honest and not."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import urllib3
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.secret_watch import MARK
from tests.web.conftest import CLUSTER, Server, running

CLIENT_SECRET = f"of the client {MARK}"


class SmallProvider(ThreadingHTTPServer):
    """Says of whoever asks that it is `person`; `lie` changes what stands in the token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.person: dict[str, Any] = {"preferred_username": "grete", "groups": []}
        self.lie: dict[str, Any] = {}
        self.signer = self.key
        self.codes: dict[str, dict[str, str]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: SmallProvider

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        issuer, parts = self.server.issuer, urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            self._send({"issuer": issuer, **{name: f"{issuer}/{path}" for name, path in places.items()}})
        elif parts.path == "/keys":
            self._send({"keys": [self.server.key.as_dict(private=False)]})
        elif parts.path == "/authorize":
            asked = dict(parse_qsl(parts.query))
            code = secrets.token_urlsafe(8)
            self.server.codes[code] = asked
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?code={code}&state={asked['state']}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self) -> None:
        fields = {
            name: values[0]
            for name, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
        }
        asked = self.server.codes.pop(fields["code"], None)
        digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not asked or asked["code_challenge"] != challenge or fields["client_secret"] != CLIENT_SECRET:
            self.send_error(400)
            return
        now = int(time.time())
        claims = {
            "iss": self.server.issuer, "aud": "sonar", "sub": "1", "iat": now, "exp": now + 60,
            "nonce": asked["nonce"], **self.server.person, **self.server.lie,
        }  # fmt: skip
        self._send(
            {
                "access_token": "x",
                "token_type": "Bearer",
                "id_token": jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.server.signer),
            }
        )

    def _send(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def provider() -> Iterator[SmallProvider]:
    made = SmallProvider()
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

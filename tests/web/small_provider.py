"""A small OpenID Connect provider, honest and not: `small_provider.py PORT CLAIMS` serves one that is.

It stands alone: a machine of the tests runs it with Sonar's own interpreter.
"""

import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


class SmallProvider(ThreadingHTTPServer):
    """Says of whoever asks that it is `person`; `lie` changes what stands in the token."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.person: dict[str, Any] = {"preferred_username": "grete", "groups": []}
        self.lie: dict[str, Any] = {}
        self.signer = self.key
        self.client_secret = "of the client"
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
        if not asked or asked["code_challenge"] != challenge or fields["client_secret"] != self.server.client_secret:
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


if __name__ == "__main__":
    provider = SmallProvider(int(sys.argv[1]))
    provider.person = json.loads(sys.argv[2])
    provider.serve_forever()

"""Logging in at another place: an OpenID Connect provider (OpenID Connect Core 1.0, authorization code flow with PKCE).

The file of `--oidc` has one section:

    [Provider]
    Issuer=https://login.example.org/realms/hpc
    ClientId=sonar
    ClientSecretFile=/etc/sonar/oidc-secret     only its owner may read it; credential oidc-secret
    Title=the university
    NameClaim=preferred_username                which claim is the account
    GroupsClaim=groups
    AdminGroups=hpc-admins
    SupportGroups=helpdesk

Who is in no such group has the role *user*. What the provider says is kept in the signed cookie alone.
"""

import asyncio
import configparser
import json
import os
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sonar.errors import SonarError, UsageError
from sonar.serve.passwords import Identity, Role
from sonar.web.login import Sessions, UnauthorizedError, is_secure, local_path, serializer_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from urllib3 import PoolManager

    from sonar.web.endpoint import Content
    from sonar.web.site import Site

__all__ = ["Provider", "begin", "come_back"]

_CREDENTIAL = "oidc-secret"
_PATIENCE_S = 10.0
_PENDING_S = 600  # from leaving for the provider to coming back
_KEPT_S = 3600.0  # of what the provider tells of itself
_LARGEST = 1 << 20
_KEYS = frozenset(
    ("issuer", "clientid", "clientsecretfile", "title", "nameclaim", "groupsclaim", "admingroups", "supportgroups")
) | {"cafile"}
_ALGORITHMS = ["RS256", "ES256", "PS256"]


@dataclass(slots=True)
class Provider:
    """Another place that knows who somebody is."""

    issuer: str
    client_id: str
    secret: str
    title: str
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    admin_groups: frozenset[str] = frozenset()
    support_groups: frozenset[str] = frozenset()
    ca_file: Path | None = None
    _told: dict[str, tuple[float, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Provider":
        """Read the file; raise SonarError naming it and what is wrong."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
            section = parser["Provider"]
        except OSError as error:
            raise SonarError(f"cannot read '{path}': {error.strerror}") from None
        except (configparser.Error, ValueError, KeyError) as error:
            raise SonarError(f"{path}: want a section [Provider]: {error}") from None
        if unknown := set(section) - _KEYS:
            raise SonarError(f"{path}: unknown key {sorted(unknown)[0]!r}")
        for key in ("Issuer", "ClientId"):
            if not section.get(key):
                raise SonarError(f"{path}: {key}= is missing")
        issuer = section["Issuer"].rstrip("/")
        if urlsplit(issuer).scheme != "https" and urlsplit(issuer).hostname not in ("127.0.0.1", "localhost"):
            raise SonarError(f"{path}: Issuer= must begin with https://")
        return cls(
            issuer=issuer,
            client_id=section["ClientId"],
            secret=_secret(path, section.get("ClientSecretFile")),
            title=section.get("Title", urlsplit(issuer).hostname or issuer),
            name_claim=section.get("NameClaim", "preferred_username"),
            groups_claim=section.get("GroupsClaim", "groups"),
            admin_groups=frozenset(section.get("AdminGroups", "").split()),
            support_groups=frozenset(section.get("SupportGroups", "").split()),
            ca_file=Path(section["CaFile"]) if section.get("CaFile") else None,
        )

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Return who the claims of a checked token are about. Raise UnauthorizedError if they name nobody."""
        name = claims.get(self.name_claim)
        if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 128:
            raise UnauthorizedError("Unauthorized")
        groups = claims.get(self.groups_claim, [])
        found = set(groups) if isinstance(groups, list) and all(isinstance(one, str) for one in groups) else set()
        role = Role.USER
        if found & self.support_groups:
            role = Role.SUPPORT
        if found & self.admin_groups:
            role = Role.ADMIN
        return Identity(name, role)

    def configuration(self) -> dict[str, Any]:
        """Return what the provider tells of itself. Raise SonarError if it cannot be asked, or is another."""
        found: dict[str, Any] = self._kept(f"{self.issuer}/.well-known/openid-configuration")
        if found.get("issuer", "").rstrip("/") != self.issuer:
            raise SonarError(f"{self.issuer} says that it is {found.get('issuer')!r}")
        return found

    def claims(self, code: str, verifier: str, nonce: str, back: str) -> Mapping[str, Any]:
        """Return the checked claims of the identity token that a code stands for. Raise SonarError."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        fields = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier,
            "client_id": self.client_id, "client_secret": self.secret,
        }  # fmt: skip
        answer = self._http().request_encode_body(
            "POST", self.configuration()["token_endpoint"], fields=fields, encode_multipart=False
        )
        if answer.status != 200:
            raise UnauthorizedError("Unauthorized")
        try:
            token = json.loads(answer.data[:_LARGEST])["id_token"]
            keys = KeySet.import_key_set(self._kept(self.configuration()["jwks_uri"]))
            decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            checked = CodeIDToken(
                decoded.claims, decoded.header,
                {"iss": {"essential": True, "value": self.issuer}, "aud": {"essential": True, "value": self.client_id}},
                {"nonce": nonce, "client_id": self.client_id},
            )  # fmt: skip
            checked.validate(int(time.time()), 60)
        except (JoseError, ValueError, KeyError, TypeError):
            raise UnauthorizedError("Unauthorized") from None
        except Exception as error:  # authlib's own errors have no common base that it exports
            if type(error).__module__.startswith("authlib"):
                raise UnauthorizedError("Unauthorized") from None
            raise
        return dict(checked)

    def _kept(self, address: str) -> Any:
        kept = self._told.get(address)
        if kept is None or time.monotonic() - kept[0] > _KEPT_S:
            answer = self._http().request("GET", address, redirect=False)
            if answer.status != 200:
                raise SonarError(f"{address} answers {answer.status}")
            kept = self._told[address] = (time.monotonic(), json.loads(answer.data[:_LARGEST]))
        return kept[1]

    def _http(self) -> "PoolManager":
        from urllib3 import PoolManager, Retry, Timeout

        ca_file = None if self.ca_file is None else str(self.ca_file)
        return PoolManager(
            timeout=Timeout(_PATIENCE_S), retries=Retry(1, redirect=0), cert_reqs=ssl.CERT_REQUIRED, ca_certs=ca_file
        )


async def begin(site: "Site", request: "Request", _who: Identity) -> "Content":
    """Send the browser to the provider, and remember in a cookie what for."""
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    from sonar.web.endpoint import Content

    provider = _provider(site)
    configuration = await _asked(provider.configuration)
    pending = {"s": secrets.token_urlsafe(24), "n": secrets.token_urlsafe(24), "v": secrets.token_urlsafe(48)}
    location = prepare_grant_uri(
        configuration["authorization_endpoint"], provider.client_id, "code", _back(request),
        ["openid", "profile"], pending["s"], nonce=pending["n"],
        code_challenge=create_s256_code_challenge(pending["v"]), code_challenge_method="S256",
    )  # fmt: skip
    target = local_path(request.query_params.get("next", "/"))
    value = serializer_of(site.session_key, "oidc").dumps({**pending, "t": target})
    return Content(
        b"", status=303, headers={"location": str(location), "set-cookie": _cookie(request, value, _PENDING_S)}
    )


async def come_back(site: "Site", request: "Request", _who: Identity) -> "Content":
    """Take the code that the provider gave, ask whom it is about, and let that one in."""
    from itsdangerous import BadData

    from sonar.web.endpoint import Content

    provider = _provider(site)
    jar: SimpleCookie = SimpleCookie(request.headers.get("cookie", ""))
    try:
        pending = serializer_of(site.session_key, "oidc").loads(jar[_name(request)].value, max_age=_PENDING_S)
    except (BadData, KeyError):
        raise UnauthorizedError("Unauthorized") from None
    given = request.query_params
    if not secrets.compare_digest(given.get("state", "").encode(), pending["s"].encode()) or not given.get("code"):
        raise UnauthorizedError("Unauthorized")
    claims = await _asked(provider.claims, given["code"], pending["v"], pending["n"], _back(request))
    who = provider.identity(claims)
    cookie = Sessions(site).cookie(who, request, provider=provider.issuer)
    # A redirect would still count as coming from the provider's site, and SameSite=Strict keep the cookie back.
    target = local_path(pending["t"])
    refresh = {"refresh": f"0; url={target}", "set-cookie": cookie}
    return Content(b"Logged in.", headers=refresh)


async def _asked(function: Any, *arguments: Any) -> Any:
    from urllib3.exceptions import HTTPError

    try:
        return await asyncio.to_thread(function, *arguments)
    except (HTTPError, ValueError) as error:
        raise SonarError(f"the place where people log in cannot be asked: {type(error).__name__}") from None


def _provider(site: "Site") -> Provider:
    if site.provider is None:
        raise UsageError("there is no other place to log in at")
    return cast("Provider", site.provider)


def _back(request: "Request") -> str:
    scheme = "https" if is_secure(request) else "http"
    return f"{scheme}://{request.headers.get('host', '')}/login/oidc/back"


def _name(request: "Request") -> str:
    return "__Host-sonar-oidc" if is_secure(request) else "sonar-oidc"


def _cookie(request: "Request", value: str, max_age: int) -> str:
    secure = "; Secure" if is_secure(request) else ""
    return f"{_name(request)}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"


def _secret(config: Path, given: str | None) -> str:
    """Return the client's secret, from its file or systemd's credentials."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, _CREDENTIAL) if directory and not given else Path(given or "")
    if not given and not directory:
        raise SonarError(f"{config}: ClientSecretFile= is missing")
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SonarError(f"cannot read the client's secret '{path}': {error.strerror}") from None
    if given and mode & 0o077:
        raise SonarError(f"'{path}' is open to group or others: chmod 600 it")
    return text

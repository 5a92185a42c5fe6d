"""Who asks: HTTP basic authentication for programs, a form and a signed cookie for people.

The cookie holds a name, and a keyed digest of what proved it, so that it ends when the password changes or the user is
removed; it is signed, HttpOnly, SameSite=Strict, and Secure wherever the connection is. Nothing but logging in and out
is ever changed by a request, and both want to come from this site's own pages (`Origin`, `Sec-Fetch-Site`).
"""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from sonar.errors import SonarError
from sonar.serve.identities import basic_credentials
from sonar.serve.passwords import Identity, Role
from sonar.serve.sockets import address_of

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer
    from starlette.requests import Request

    from sonar.web.endpoint import Content
    from sonar.web.site import Site

__all__ = [
    "Redirect", "Sessions", "UnauthorizedError", "asker_of", "is_secure", "local_path", "log_in", "log_out",
    "login_page", "serializer_of",
]  # fmt: skip

SESSION_S = 12 * 3600
_LONGEST_FORM = 8 << 10
_TITLE = "Log in"


class UnauthorizedError(SonarError):
    """Nobody, or somebody with a wrong password."""


class Redirect(SonarError):
    """The answer is elsewhere."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class Sessions:
    """Cookies: what stands in one, and whom it proves."""

    def __init__(self, site: "Site") -> None:
        self._site = site

    def cookie(self, who: Identity, request: "Request", *, provider: str = "") -> str:
        """Return the Set-Cookie header of somebody who has proved who that is."""
        facts: dict[str, Any] = {"n": who.name, "s": self._stamp(who.name)}
        if provider:
            facts = {"n": who.name, "p": provider, "r": str(who.role)}
            facts |= {"c": sorted(who.clusters), "a": sorted(who.own_accounts)}
        return _cookie(request, serializer_of(self._site.session_key, "session").dumps(facts), SESSION_S)

    def who(self, request: "Request") -> Identity | None:
        """Return whom the request's cookie proves; None if it has none that is right."""
        from itsdangerous import BadData

        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(request.headers.get("cookie", ""))
            value = jar[cookie_name(request)].value
            facts = serializer_of(self._site.session_key, "session").loads(value, max_age=SESSION_S)
        except (BadData, CookieError, KeyError, ValueError):
            return None
        if facts.get("p"):
            provider = self._site.provider
            if provider is None or provider.issuer != facts["p"]:
                return None
            return Identity(facts["n"], Role(facts["r"]), frozenset(facts["c"]), frozenset(facts["a"]))
        identities = self._site.identities
        known = identities.known(facts["n"]) if identities is not None else None
        if known is None or not hmac.compare_digest(str(facts.get("s")), self._stamp(facts["n"])):
            return None
        return known[0]

    def _stamp(self, name: str) -> str:
        """Return a digest of what proves a user at present."""
        known = self._site.identities.known(name) if self._site.identities is not None else None
        secret = known[1] if known else b""
        return hmac.new(self._site.session_key, secret, hashlib.sha256).hexdigest()[:24]


def serializer_of(key: bytes, purpose: str) -> "URLSafeTimedSerializer":
    """Return what signs cookies of a purpose, and knows the age of a signature."""
    from itsdangerous import URLSafeTimedSerializer

    return URLSafeTimedSerializer(key, salt=f"sonar {purpose}", signer_kwargs={"digest_method": hashlib.sha256})


async def asker_of(site: "Site", request: "Request", *, needed: bool) -> Identity:
    """Return who asks. Raise UnauthorizedError or a redirection to the form if that must be known and is not."""
    from sonar.web.site import ANYBODY

    if site.identities is None and site.provider is None:
        return ANYBODY
    header = request.headers.get("authorization")
    if header is not None and site.identities is not None:
        pair = basic_credentials(header.encode("latin-1"))
        who = await site.identities.verify(*pair, source=client_of(request)) if pair else None
    else:
        who = Sessions(site).who(request)
    if who is not None or not needed:
        return who or Identity("", Role.USER)
    wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    if header is None and request.method == "GET" and wants_page:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise Redirect(f"/login?next={quote(target, '')}")
    raise UnauthorizedError("Unauthorized")


def client_of(request: "Request") -> str:
    """Return the client's address; what a proxy on this machine says of it is believed."""
    address = address_of(tuple(request.client) if request.client else None)
    if address in ("local", "127.0.0.1", "::1"):
        return request.headers.get("x-real-ip", address)[:64]
    return address


def local_path(text: str) -> str:
    """Return a path of this site if the text is one, else `/`: logging in must not lead people elsewhere."""
    parts = urlsplit(text)
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return text if is_local and text.isprintable() and "\\" not in text else "/"


async def login_page(site: "Site", request: "Request", _who: Identity) -> "Content":
    """Return the form."""
    return _form(site, local_path(request.query_params.get("next", "/")))


async def log_in(site: "Site", request: "Request", _who: Identity) -> "Content":
    """Take the form: a cookie and the page that was wanted, or the form again."""
    from sonar.serve.identities import TooBusyError

    _check_origin(request)
    fields = await _fields(request)
    target = local_path(fields.get("next", "/"))
    if site.identities is None:
        raise Redirect(target)
    try:
        who = await site.identities.verify(
            fields.get("name", ""), fields.get("password", ""), source=client_of(request)
        )
    except TooBusyError as error:
        return _form(site, target, str(error), status=429, name=fields.get("name", ""))
    if who is None:
        return _form(site, target, "Name or password is wrong.", status=403, name=fields.get("name", ""))
    return _go(target, Sessions(site).cookie(who, request))


async def log_out(_site: "Site", request: "Request", _who: Identity) -> "Content":
    """Take the cookie away."""
    _check_origin(request)
    return _go("/login", _cookie(request, "", 0))


def cookie_name(request: "Request") -> str:
    """Return the name of the cookie. With `__Host-` no other host and no unencrypted page can set it (RFC 6265bis)."""
    return "__Host-sonar" if is_secure(request) else "sonar"


def _cookie(request: "Request", value: str, max_age: int) -> str:
    secure = "; Secure" if is_secure(request) else ""
    return f"{cookie_name(request)}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"


def is_secure(request: "Request") -> bool:
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"


def _check_origin(request: "Request") -> None:
    """Raise ForbiddenError for a form that another site made the browser send."""
    from sonar.web.privacy import ForbiddenError

    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same = site == "same-origin" or (
        site is None and origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    )
    if not same:
        raise ForbiddenError("this form must be sent from this site's own page")


async def _fields(request: "Request") -> dict[str, str]:
    from sonar.errors import UsageError

    body = await request.body()
    if len(body) > _LONGEST_FORM:
        raise UsageError("form too long")
    try:
        parsed = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise UsageError("bad form") from None
    return {name: values[-1] for name, values in parsed.items()}


def _form(site: "Site", target: str, problem: str = "", *, status: int = 200, name: str = "") -> "Content":
    from sonar.web.endpoint import Content
    from sonar.web.pages import rendered

    provider = site.provider.title if site.provider is not None else ""
    html = rendered(
        "login.html", title=_TITLE, target=target, problem=problem, name=name, provider=provider,
        with_form=site.identities is not None,
    )  # fmt: skip
    return Content(html.encode(), "text/html; charset=utf-8", status)


def _go(target: str, cookie: str) -> "Content":
    from sonar.web.endpoint import Content

    return Content(b"", status=303, headers={"location": target, "set-cookie": cookie})

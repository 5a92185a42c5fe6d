"""One upload: a file of the spool posted to the server, and what the answer means for the file."""

import os
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from sonar import __version__
from sonar.errors import SonarError, UsageError
from sonar.node.identity import Identity, read_identity
from sonar.node.spool import Entry

if TYPE_CHECKING:
    import urllib3
    from urllib3.util import Url

__all__ = ["Answer", "Place", "Server", "Verdict"]

Place = Callable[[Entry], tuple[str, str]]
"""Gives what is added to the URL for an entry of the spool, and its content type."""

# The server gives itself a minute for a request.
CONNECT_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 70.0
LONGEST_RETRY_AFTER_S = 3600.0
_LARGEST_ANSWER = 16 * 1024

# Those of the 4xx that say "later", not "never": RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4.
_LATER = frozenset({408, 425, 429})
# These say nothing about the data; 407 comes from a proxy.
_NOT_LET_IN = frozenset({401, 403, 407})
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Verdict(Enum):
    """What an answer means for the data that were sent."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # for good: these data will never be taken
    NOT_LET_IN = "not let in"  # the data are good, the identity is not
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one upload: the verdict, why in a few words, how long to wait, how many records were dropped."""

    verdict: Verdict
    why: str = ""
    retry_after_s: float | None = None
    dropped: str = ""


class Server:
    """The server to deliver to.

    Its certificate and name are checked wherever the URL says https; nothing can switch that off. A redirect is never
    followed. The identity is read again each time the server does not let us in, so that a password can be changed
    under a running service. Raise UsageError for a bad URL, SonarError if a file cannot be used.

    Entries go to the endpoints of infiltrate for `cluster`, unless `place` says where they go; then the URL may have a
    query. `open_identity` lets the identity file be readable by others.
    """

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        auth_file: Path | None = None,
        ca_cert: Path | None = None,
        client_cert: Path | None = None,
        client_key: Path | None = None,
        place: Place | None = None,
        open_identity: bool = False,
    ) -> None:
        where = _parsed(url, with_query=place is not None)
        if where.scheme == "http" and (ca_cert or client_cert):
            raise UsageError("--ca-cert and --cert need an https --url")
        self._base = where.url if place else where.url.rstrip("/")
        self._place = place or _endpoints_of(cluster)
        self._auth_file = auth_file
        self._open_identity = open_identity
        self._headers = _headers(self._read_identity())
        context = _tls(ca_cert, client_cert, client_key) if where.scheme == "https" else None
        self._http = _pool(where, context)
        self.password_in_clear = bool(auth_file) and where.scheme == "http" and where.host not in _LOCAL

    def post(self, entry: Entry) -> Answer:
        """Post one file and return what came of it. Raise OSError if the file cannot be opened."""
        import urllib3

        with entry.path.open("rb") as file:
            # Given as a file the body is sent block by block, and the timeout holds for each block, not for the whole.
            path, content_type = self._place(entry)
            length = {"Content-Type": content_type, "Content-Length": str(os.fstat(file.fileno()).st_size)}
            try:
                response = self._http.request(
                    "POST",
                    self._base + path,
                    body=file,
                    headers=self._headers | length,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
                body = response.read(_LARGEST_ANSWER)
                if len(body) == _LARGEST_ANSWER:
                    response.close()  # with the rest unread the connection is of no more use
                response.release_conn()
            except urllib3.exceptions.HTTPError as error:
                return Answer(Verdict.LATER, _innermost(error))
        answer = _judged(response.status, response.headers, body)
        if answer.verdict is Verdict.NOT_LET_IN:
            self._read_identity_again()
        return answer

    def close(self) -> None:
        """Close the connections; the next post opens one."""
        self._http.clear()

    def _read_identity(self) -> Identity | None:
        return read_identity(self._auth_file, may_be_open=self._open_identity) if self._auth_file else None

    def _read_identity_again(self) -> None:
        try:
            self._headers = _headers(self._read_identity())
        except SonarError:
            return  # half way through being changed; the old one has been refused, and the next refusal looks again


def _endpoints_of(cluster: str) -> Place:
    """Return the places for a cluster: lines of CSV have their own endpoint, envelopes have one for each kind."""

    def place(entry: Entry) -> tuple[str, str]:
        if entry.content_type == "text/csv":
            return f"/sonar-freecsv?cluster={quote(cluster, safe='')}", entry.content_type
        return f"/api/v1/insert/{entry.kind}", entry.content_type

    return place


def _parsed(url: str, *, with_query: bool) -> "Url":
    import urllib3

    try:
        where = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        where = urllib3.util.Url()
    if where.auth is not None or "@" in url:  # not repeated: it may hold a password
        raise UsageError("--url must not hold a user name or a password: they belong into --auth-file")
    good_host = where.host is not None and where.host.isprintable() and not set(where.host) & set(" %\\")
    if where.scheme not in {"http", "https"} or not good_host or where.fragment or (where.query and not with_query):
        raise UsageError(f"--url must be http(s)://HOST[:PORT][/PATH], not {url!r}")
    return where


def _tls(ca_cert: Path | None, client_cert: Path | None, client_key: Path | None) -> ssl.SSLContext:
    """Return what TLS connections are made with: verified, and by `ca_cert` alone where it is given."""
    path = ca_cert
    try:
        context = ssl.create_default_context(cafile=ca_cert)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        path = client_cert
        if client_cert is not None:
            context.load_cert_chain(client_cert, client_key, password="")  # never ask for one on a terminal
    except OSError as error:  # also ssl.SSLError
        raise SonarError(f"cannot use certificate '{path}': {error.strerror or error}") from error
    return context


def _pool(where: "Url", context: ssl.SSLContext | None) -> "urllib3.PoolManager":
    """Return the pool of connections, through a proxy if the environment names one for this server."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=ANSWER_TIMEOUT_S)
    proxies = getproxies()
    proxy = proxies.get(where.scheme or "") or proxies.get("all")
    if not proxy or proxy_bypass(where.netloc or ""):
        return urllib3.PoolManager(ssl_context=context, timeout=timeout, maxsize=1)
    try:
        by = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        headers = {"Proxy-Authorization": _basic(unquote(by.auth))} if by.auth else None
        plain = by._replace(auth=None).url
        return urllib3.ProxyManager(plain, proxy_headers=headers, ssl_context=context, timeout=timeout, maxsize=1)
    except (urllib3.exceptions.HTTPError, ValueError):
        raise SonarError(f"cannot use the proxy that the environment names for {where.scheme}") from None


def _headers(identity: Identity | None) -> dict[str, str]:
    """Return what every request is sent with."""
    headers = {"User-Agent": f"sonar-exfiltrate/{__version__}"}
    if identity is not None:
        headers["Authorization"] = _basic(f"{identity.user}:{identity.password}")
    return headers


def _basic(pair: str) -> str:
    """Return the credentials of RFC 7617, in UTF-8 as its section 2.1 has it."""
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"


def _judged(status: int, headers: "urllib3.HTTPHeaderDict", body: bytes) -> Answer:
    """Return what an answer of the server means."""
    first_line = _printable(body.decode(errors="replace").strip().partition("\n")[0])
    why = f"status {status}{': ' if first_line else ''}{first_line}"
    retry_after_s = _retry_after_s(headers.get("Retry-After", ""), headers.get("Date", ""))
    if 200 <= status < 300:
        dropped = headers.get("X-Sonar-Dropped", "0")
        return Answer(Verdict.DELIVERED, why, dropped=_printable(dropped) if dropped != "0" else "")
    if 300 <= status < 400:
        return Answer(Verdict.LATER, f"status {status}: redirects are not followed", retry_after_s)
    if status in _NOT_LET_IN:
        return Answer(Verdict.NOT_LET_IN, why, retry_after_s)
    if 400 <= status < 500 and status not in _LATER:
        return Answer(Verdict.REFUSED, why)
    return Answer(Verdict.LATER, why, retry_after_s)


def _retry_after_s(text: str, date: str) -> float | None:
    """Return the seconds that Retry-After asks for, as a number or a date (RFC 9110 section 10.2.3), bounded.

    A date counts from the server's own, so that it means the same where clocks differ.
    """
    try:
        if text.isascii() and text.isdigit():
            wait_s = float(text[:9])
        else:
            now = parsedate_to_datetime(date) if date else datetime.now(UTC)
            wait_s = (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)


def _innermost(error: Exception) -> str:
    """Return the reason of a failed request; urllib3 wraps it into errors that repeat the address."""
    while isinstance(inner := getattr(error, "reason", None), Exception):
        error = inner
    return _printable(f"{type(error).__name__}: {error}")


def _printable(text: str) -> str:
    """Return a text of others so that it can be shown on a terminal: no control characters, and not long."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])

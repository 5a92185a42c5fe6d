"""One upload: a file of the spool posted to the server, and what its answer means for the file."""

import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from sonar.errors import SonarError, UsageError
from sonar.node.identity import Identity
from sonar.node.spool import Entry

if TYPE_CHECKING:
    import urllib3

__all__ = ["Answer", "Server", "Verdict"]

CONNECT_TIMEOUT_S = 30
READ_TIMEOUT_S = 120
_LARGEST_ANSWER = 64 * 1024
_LONGEST_RETRY_AFTER_S = 3600

# Statuses of 4xx that say "later", not "never": RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4.
_LATER = frozenset({408, 425, 429})
_NOT_LET_IN = frozenset({401, 403})


class Verdict(Enum):
    """What an answer means for the data that were sent."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # for good: these data will never be taken
    NOT_LET_IN = "not let in"  # the data are good, the identity is not
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one upload: the verdict, why in a few words, how long to wait, and how many records were dropped."""

    verdict: Verdict
    why: str = ""
    retry_after_s: float | None = None
    dropped: str = ""


class Server:
    """The server to deliver to. Its certificate and name are always checked; a redirect is never followed."""

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        identity: Identity | None = None,
        ca_cert: Path | None = None,
        client_cert: tuple[Path, Path] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
            raise UsageError(f"--url must be http(s)://HOST[:PORT][/PATH], not {url!r}")
        if parts.scheme == "http" and (ca_cert or client_cert):
            raise UsageError("--ca-cert and --cert go with an https --url")
        self._url = url.rstrip("/")
        self._cluster = cluster
        self._http = _pool(parts.scheme, parts.hostname, ca_cert, client_cert)
        self._headers = _basic_authorization(identity)

    def post(self, entry: Entry) -> Answer:
        """Post one file and return what came of it. Raise OSError if the file cannot be read."""
        import urllib3

        headers = self._headers | {"Content-Type": entry.content_type}
        try:
            response = self._http.request(
                "POST",
                self._url + self._path(entry),
                body=entry.path.read_bytes(),
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            body = response.read(_LARGEST_ANSWER)
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            return Answer(Verdict.LATER, _reason(error))
        return _judged(response.status, response.headers, body)

    def close(self) -> None:
        """Close all connections."""
        self._http.clear()

    def _path(self, entry: Entry) -> str:
        """Return where a file goes: CSV and envelopes have endpoints of their own."""
        if entry.content_type == "text/csv":
            return f"/sonar-freecsv?cluster={quote(self._cluster)}"
        return f"/api/v1/insert/{entry.kind}"


def _pool(scheme: str, host: str, ca_cert: Path | None, client_cert: tuple[Path, Path] | None) -> "urllib3.PoolManager":
    """Return the pool of connections, through a proxy if the environment names one for this server."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    try:
        context = ssl.create_default_context(cafile=ca_cert) if scheme == "https" else None
        if context is not None and client_cert is not None:
            context.load_cert_chain(*client_cert)
    except (OSError, ssl.SSLError) as error:
        raise SonarError(f"cannot use certificates '{ca_cert or client_cert}': {error}") from error
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, ssl_context=context, timeout=timeout, maxsize=1)
    return urllib3.PoolManager(ssl_context=context, timeout=timeout, maxsize=1)


def _basic_authorization(identity: Identity | None) -> dict[str, str]:
    import urllib3

    if identity is None:
        return {}
    return dict(urllib3.make_headers(basic_auth=f"{identity.user}:{identity.password}"))


def _judged(status: int, headers: "urllib3.HTTPHeaderDict", body: bytes) -> Answer:
    first_line = body.decode(errors="replace").strip().partition("\n")[0][:200]
    why = f"status {status}{': ' if first_line else ''}{first_line}"
    retry_after = _retry_after_s(headers.get("Retry-After", ""), headers.get("Date", ""))
    if 200 <= status < 300:
        return Answer(Verdict.DELIVERED, why, dropped=headers.get("X-Sonar-Dropped", ""))
    if status in _NOT_LET_IN:
        return Answer(Verdict.NOT_LET_IN, why, retry_after)
    if 400 <= status < 500 and status not in _LATER:
        return Answer(Verdict.REFUSED, why)
    return Answer(Verdict.LATER, why, retry_after)


def _retry_after_s(text: str, date: str) -> float | None:
    """Return the seconds that Retry-After asks for, as a number or a date (RFC 9110 10.2.3), bounded."""
    try:
        if text.isascii() and text.isdigit():
            wait = float(text[:9])
        else:
            wait = (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait, 0.0), _LONGEST_RETRY_AFTER_S)


def _reason(error: Exception) -> str:
    """Return the innermost reason of a failed request: urllib3 wraps it in others that repeat the address."""
    while (inner := getattr(error, "reason", None)) is not None and isinstance(inner, Exception):
        error = inner
    return f"{type(error).__name__}: {error}"[:300]

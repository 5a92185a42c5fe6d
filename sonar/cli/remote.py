"""Remote mode of sonalyze: the question goes to a server, whose answer is passed on as it is.

The request is `GET URL/VERB?cluster=NAME&...`, with the options by their long names as the user typed them.
"""

import os
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, quote, urlsplit

import sonar
from sonar.errors import SonarError
from sonar.verbs.declare import OptionType, Verb

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["Server", "credentials", "request_url"]

# Of time to connect, and between two pieces of an answer: an analysis of a year may think for long.
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 600.0
_PIECE = 1 << 16
_LONGEST_MESSAGE = 2000
_LARGEST_AUTH_FILE = 1 << 16


def request_url(address: str, verb: Verb, cluster: str | None, question: Mapping[str, Sequence[str]]) -> str:
    """Return the address of a question: the cluster if it is about one, then the options as they are declared."""
    from sonar.verbs.parameters import REMOTE_TRUE, options_of

    parameters = [] if cluster is None else [("cluster", cluster)]
    for option in options_of(verb):
        texts = question.get(option.name, ())
        parameters += ((option.name, REMOTE_TRUE if option.type is OptionType.FLAG else text) for text in texts)
    return f"{address.rstrip('/')}/{verb.name}?" + "&".join(f"{name}={quote(text, '')}" for name, text in parameters)


def credentials(auth_file: Path | None) -> str | None:
    """Return `user:password`: of $SONALYZE_AUTH, else of the file; None without both. Raise SonarError."""
    if secret := os.environ.get("SONALYZE_AUTH"):
        return _user_and_password(secret, "SONALYZE_AUTH")
    if auth_file is None:
        return None
    try:
        with auth_file.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_AUTH_FILE)
            readable_by_others = os.fstat(file.fileno()).st_mode & 0o077
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{auth_file}'") from None
    except UnicodeDecodeError:
        raise SonarError(f"Invalid auth file syntax: '{auth_file}'") from None
    secret = _user_and_password(text, f"'{auth_file}'")
    if readable_by_others:
        print(f"sonalyze: auth file '{auth_file}' can be read by others, going on", file=sys.stderr)
    return secret


def _user_and_password(text: str, where: str) -> str:
    """Return `user:password` of a text that is just that, or a line of netrc: `machine M login U password P`."""
    match text.split():
        case [pair] if pair.count(":") == 1:
            return pair
        case ["machine", _, "login", user, "password", password] if ":" not in user:
            return f"{user}:{password}"
    raise SonarError(f"Invalid auth file syntax: {where}")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers questions. Certificates are checked against the system's, or against those of a file."""

    address: str
    credentials: str | None = None
    ca_file: Path | None = None

    def copy_answer(self, request: str, out: BinaryIO) -> None:
        """Write the answer to a request; raise SonarError if there is none, or if it tells of an error."""
        from urllib3.exceptions import HTTPError

        parts = _checked_address(self.address)
        headers = {"user-agent": f"sonalyze/{sonar.__version__}", "accept-encoding": "gzip"}
        if self.credentials:
            secret = b64encode(self.credentials.encode(errors="surrogateescape")).decode()
            headers["authorization"] = f"Basic {secret}"
            if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
                print("sonalyze: the password is sent unencrypted, going on; better use https", file=sys.stderr)
        try:
            response = self._connections(parts).request("GET", request, headers=headers, preload_content=False)
            if not 200 <= response.status < 300:
                raise SonarError(_refusal(response))
            for piece in response.stream(_PIECE, decode_content=True):
                out.write(piece)
            out.flush()
        except HTTPError as error:
            raise SonarError(f"{self.address}: {_reason(error)}") from None

    def _connections(self, parts: SplitResult) -> "PoolManager":
        from urllib.request import getproxies, proxy_bypass

        from urllib3 import PoolManager, ProxyManager, Retry, Timeout

        if self.ca_file is not None and not self.ca_file.is_file():
            raise SonarError(f"No such file or directory: '{self.ca_file}'")
        options: dict[str, Any] = {
            "timeout": Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
            "retries": Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3),
            "cert_reqs": "CERT_REQUIRED",
            "ca_certs": None if self.ca_file is None else str(self.ca_file),
        }
        proxy = getproxies().get(parts.scheme)
        if proxy and not proxy_bypass(parts.netloc):
            return ProxyManager(proxy, **options)
        return PoolManager(**options)


def _checked_address(address: str) -> SplitResult:
    """Return the parts of a server's address if it is one, without password or query."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError if it is no number
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise SonarError(f"--remote: not an address: {address!r} (want http://HOST[:PORT] or https://...)")
    if parts.username is not None:
        raise SonarError("--remote: no password in the address please: others can see it; use --auth-file")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(response: "BaseHTTPResponse") -> str:
    """Return status, reason and body of an answer that is none, on one line."""
    body = response.read(_LONGEST_MESSAGE, decode_content=True).decode("utf-8", "replace")
    text = "".join(char if char.isprintable() else " " for char in body)
    return f"{response.status} {response.reason or ''}".strip() + (
        f": {' '.join(text.split())}" if text.strip() else ""
    )


def _reason(error: Exception) -> str:
    """Return what urllib3 found wrong, without its wrappings."""
    inner: BaseException = error
    while True:
        deeper = getattr(inner, "reason", None)
        deeper = deeper if isinstance(deeper, BaseException) else inner.__cause__
        if deeper is None:
            break
        inner = deeper
    text = getattr(inner, "verify_message", "") or getattr(inner, "strerror", "") or str(inner)
    return " ".join(text.split())

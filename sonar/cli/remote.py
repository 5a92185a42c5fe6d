"""Remote mode of sonalyze: the question goes to a server, whose answer is passed on as it is.

The request is `GET URL/VERB?cluster=NAME&...`, with the options by their long names as the user typed them. Where the
server does not know that, or if URL ends in `/api/v0`, it is that of newer servers of the family: `URL/api/v0/VERB`, a
list in one parameter, flags as `true`; the answer is one JSON string that holds the text.
"""

import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, quote, urlsplit

import sonar
from sonar.errors import SonarError
from sonar.verbs.declare import OptionType, Verb

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["Answer", "Server", "credentials", "request_url"]

# Of time to connect, and between two pieces of an answer: an analysis of a year may think for long.
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 600.0
_PIECE = 1 << 16
_LONGEST_MESSAGE = 2000
_LARGEST_AUTH_FILE = 1 << 16
_V0 = "/api/v0"
_V0_NAMES = {"query": "q"}


def request_url(address: str, verb: Verb, cluster: str | None, question: Mapping[str, Sequence[str]]) -> str:
    """Return the address of a question: the cluster if it is about one, then the options as they are declared."""
    from sonar.verbs.parameters import REMOTE_TRUE, options_of

    is_v0 = address.rstrip("/").endswith(_V0)
    parameters = [] if cluster is None else [("cluster", cluster)]
    for option in options_of(verb):
        texts = list(question.get(option.name, ()))
        if option.type is OptionType.FLAG:
            texts = ["true" if is_v0 else REMOTE_TRUE for _ in texts]
        elif is_v0 and len(texts) > 1:
            texts = [(";" if option.type is OptionType.HOSTS else ",").join(texts)]
        name = _V0_NAMES.get(option.name, option.name) if is_v0 else option.name
        parameters += ((name, text) for text in texts)
    return f"{address.rstrip('/')}/{verb.name}?" + "&".join(f"{name}={quote(text, '')}" for name, text in parameters)


def credentials(auth_file: Path | None, address: str) -> str | None:
    """Return `user:password` for a server: of $SONALYZE_AUTH, else of the file, else of ~/.netrc; None without these.

    Raise SonarError naming the one that is wrong.
    """
    if secret := os.environ.get("SONALYZE_AUTH"):
        return _user_and_password(secret, "SONALYZE_AUTH", address)
    if auth_file is None:
        home = os.environ.get("HOME")
        netrc = Path(home) / ".netrc" if home else None
        return _of_netrc(netrc, address) if netrc is not None and netrc.is_file() else None
    text, readable_by_others = _read(auth_file)
    secret = _user_and_password(text, f"'{auth_file}'", address)
    if readable_by_others:
        print(f"sonalyze: auth file '{auth_file}' can be read by others, going on", file=sys.stderr)
    return secret


def _read(path: Path) -> tuple[str, bool]:
    """Return what is in a file of secrets, and whether others can read it."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LARGEST_AUTH_FILE), bool(os.fstat(file.fileno()).st_mode & 0o077)
    except OSError as error:
        raise SonarError(f"{error.strerror}: '{path}'") from None
    except UnicodeDecodeError:
        raise SonarError(f"Invalid auth file syntax: '{path}'") from None


def _user_and_password(text: str, where: str, address: str) -> str:
    """Return `user:password` of a text that is just that, or in netrc format has the server's machine, or one only."""
    match text.split():
        case [pair] if pair.count(":") == 1:
            return pair
        case ["machine", _, "login", user, "password", password] if ":" not in user:
            return f"{user}:{password}"
        case ["machine" | "default", *_]:
            secret = _entry(text, where, address)
            if secret is None:
                raise SonarError(f"{where}: nothing for machine {urlsplit(address).hostname}")
            return secret
    raise SonarError(f"Invalid auth file syntax: {where}")


def _of_netrc(path: Path, address: str) -> str | None:
    """Return what the caller's own netrc file has for the server; it must not be readable by others for that."""
    text, readable_by_others = _read(path)
    secret = _entry(text, f"'{path}'", address)
    if secret is not None and readable_by_others:
        raise SonarError(f"'{path}' can be read by others: chmod 600 it, or use --auth-file")
    return secret


def _entry(text: str, where: str, address: str) -> str | None:
    """Return `user:password` of the entry of netrc(5) for the server's host."""
    import netrc
    import tempfile

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".netrc") as file:  # the parser wants a file
        file.write(text)
        file.flush()
        try:
            entry = netrc.netrc(file.name).authenticators(urlsplit(address).hostname or "")
        except netrc.NetrcParseError as error:
            raise SonarError(f"{where}, line {error.lineno}: {error.msg}") from None
    return f"{entry[0]}:{entry[2]}" if entry and entry[2] else None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers questions. Certificates are checked against the system's, or against those of a file."""

    address: str
    credentials: str | None = None
    ca_file: Path | None = None

    def ask(self, verb: Verb, cluster: str | None, question: Mapping[str, Sequence[str]]) -> "Answer":
        """Return the answer to a question; raise SonarError if there is none, or if it tells of an error."""
        return self._answer(lambda address: request_url(address, verb, cluster, question))

    def version(self) -> "Answer":
        """Return what the server says of itself; raise SonarError if it does not."""
        return self._answer(lambda address: f"{address.rstrip('/')}/version")

    def _answer(self, request: Callable[[str], str]) -> "Answer":
        """Return the answer to a request as it is at an address; where that is not known, to that of newer servers."""
        response = self._get(request(self.address))
        is_v0 = self.address.rstrip("/").endswith(_V0)
        if response.status == HTTPStatus.NOT_FOUND and not is_v0:
            refusal = _refusal(response)
            response = self._get(request(self.address.rstrip("/") + _V0))
            if response.status == HTTPStatus.NOT_FOUND:
                raise SonarError(refusal)
            is_v0 = True
        if not 200 <= response.status < 300:
            raise SonarError(_refusal(response))
        return Answer(self.address, response, is_json_string=is_v0)

    def _get(self, request: str) -> "BaseHTTPResponse":
        from urllib3.exceptions import HTTPError

        parts = _checked_address(self.address)
        headers = {"user-agent": f"sonalyze/{sonar.__version__}", "accept-encoding": "gzip"}
        if self.credentials:
            secret = b64encode(self.credentials.encode(errors="surrogateescape")).decode()
            headers["authorization"] = f"Basic {secret}"
            if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
                print("sonalyze: the password is sent unencrypted, going on; better use https", file=sys.stderr)
        try:
            return self._connections(parts).request("GET", request, headers=headers, preload_content=False)
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers: a text as it is, or as one JSON string."""

    address: str
    response: "BaseHTTPResponse"
    is_json_string: bool

    def copy(self, out: BinaryIO) -> None:
        """Write the text. Raise SonarError if the connection breaks, or if what should be a JSON string is none."""
        from urllib3.exceptions import HTTPError

        try:
            if self.is_json_string:
                out.write(self._text())
            else:
                for piece in self.response.stream(_PIECE, decode_content=True):
                    out.write(piece)
            out.flush()
        except HTTPError as error:
            raise SonarError(f"{self.address}: {_reason(error)}") from None

    def _text(self) -> bytes:
        try:
            text = json.loads(self.response.read(decode_content=True))
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise SonarError(f"{self.address}: the answer is no JSON string")
        return text.encode()


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

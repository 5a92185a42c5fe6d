"""Who may talk to a server: the check of what a client sends against the password file.

A check takes the same time for a user that does not exist. Credentials that were right once are remembered as a digest
under a key that lives only in this process, so that only the first request of a client pays for scrypt. Who guesses is
slowed down, see `sonar.serve.backoff`. The file is described in sonar-passwords(5).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sonar.errors import SonarError
from sonar.serve.backoff import Backoff
from sonar.serve.passwords import Entry, Hash, Identity, Role, read_entries

__all__ = ["Identities", "Identity", "Role", "TooBusyError", "TooManyFailuresError", "basic_credentials"]

_THREADS = 2
_MOST_WAITING = 256
_MOST_HEADERS = 4096


class TooBusyError(SonarError):
    """Too many credentials wait to be checked: try again later."""


class TooManyFailuresError(TooBusyError):
    """This source was wrong too often: nothing is checked for `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many wrong passwords, try again later")
        self.retry_after_s = retry_after_s


class Identities:
    """The users of one password file."""

    def __init__(self, path: Path | None, entries: Sequence[Entry], backoff: Backoff | None = None) -> None:
        self.path = path
        self._backoff = backoff or Backoff()
        self._key = secrets.token_bytes(32)
        self._who: dict[str, Identity] = {}
        self._hashed: dict[str, Hash] = {}
        self._nobody: Hash | None = None  # what is checked for a user that there is not; None: nothing is hashed
        self._known: dict[str, bytes] = {}  # user -> digest of the right password
        self._headers: dict[bytes, str] = {}  # digest of a header with the right password -> user
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrypt")
        self._checks: dict[bytes, asyncio.Future[Identity | None]] = {}
        self._adopt(entries)

    @classmethod
    def load(cls, path: Path) -> "Identities":
        """Read a password file; raise SonarError, naming file and line, if it must not or cannot be used."""
        return cls(path, read_entries(path))

    @classmethod
    def nobody(cls) -> "Identities":
        """Return what lets in no password at all: for where only certificates count."""
        return cls(None, ())

    def reload(self) -> None:
        """Read the file again; raise SonarError and keep the users as they are if it is bad."""
        if self.path is not None:
            self._adopt(read_entries(self.path))

    @property
    def lets_nobody_in(self) -> bool:
        """Whether there is a file, and no user in it."""
        return self.path is not None and not self._who

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._who)

    @property
    def in_plain_text(self) -> int:
        """How many of the passwords are not hashed."""
        return len(self._who) - len(self._hashed)

    def known(self, user: str) -> tuple[Identity, bytes] | None:
        """Return who a user is and bytes that change with the password; None if there is no such user."""
        who, hashed = self._who.get(user), self._hashed.get(user)
        if who is None:
            return None
        return who, hashed.digest if hashed is not None else self._known.get(user, b"")

    @property
    def warning(self) -> str:
        """What whoever keeps the file should be told about it; empty if nothing."""
        if self.lets_nobody_in:
            return f"'{self.path}' has no users: nobody is let in with a password"
        if not self.in_plain_text:
            return ""
        hint = "going on; sonarctl-passwd(8) hashes them"
        return f"{self.in_plain_text} passwords in '{self.path}' are in plain text, {hint}"

    def check(self, user: str, password: str) -> Identity | None:
        """Return who that is; None if the password is wrong. It may take a tenth of a second: see `verify`."""
        who, entry, nobody = self._who, self._hashed.get(user), self._nobody
        if self._remembers(user, password):
            return who.get(user)
        if nobody is None:
            return None
        right = (entry or nobody).matches(password) and entry is not None
        if right and self._hashed.get(user) is entry:
            self._known[user] = self._digest(user, password)
        return who.get(user) if right else None

    def remembered(self, header: bytes | None, source: str = "") -> Identity | None:
        """Return who an Authorization header names if `verify` would not have to work or wait to say so, else None."""
        if header is None:
            return None
        digest = hashlib.blake2b(header, digest_size=32, key=self._key).digest()
        user = self._headers.get(digest)
        if user is None:
            credentials = basic_credentials(header)
            if credentials is None or not self._remembers(*credentials):
                return None
            user = credentials[0]
            if len(self._headers) >= _MOST_HEADERS:
                self._headers.clear()
            self._headers[digest] = user
        return None if self._backoff.pause_s(source, user) else self._who.get(user)

    async def verify(self, user: str, password: str, source: str = "") -> Identity | None:
        """Return who that is, None if the password is wrong, without holding up the event loop.

        `source` is the client's address. Raise TooBusyError, or TooManyFailuresError before anything is checked.
        """
        if pause_s := self._backoff.pause_s(source, user):
            raise TooManyFailuresError(pause_s)
        found = self._who.get(user) if self._remembers(user, password) else await self._derive(user, password)
        if found is None:
            self._backoff.failed(source, user)
        else:
            self._backoff.succeeded(source, user)
        return found

    async def _derive(self, user: str, password: str) -> Identity | None:
        """Check in a thread; the nodes of a cluster that all come in one second share one check."""
        if self._nobody is None:
            return None
        digest = self._digest(user, password)
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= _MOST_WAITING:
                raise TooBusyError("too many credentials to check")
            loop = asyncio.get_running_loop()
            check = self._checks[digest] = loop.run_in_executor(self._executor, self.check, user, password)
            check.add_done_callback(lambda _: self._checks.pop(digest, None))
        return await asyncio.shield(check)  # who goes away must not take the answer from those who wait

    def _remembers(self, user: str, password: str) -> bool:
        return hmac.compare_digest(self._known.get(user, b"\0" * 32), self._digest(user, password))

    def _digest(self, user: str, password: str) -> bytes:
        message = user.encode(errors="surrogatepass") + b"\0" + password.encode(errors="surrogatepass")
        return hashlib.blake2b(message, digest_size=32, key=self._key).digest()

    def _adopt(self, entries: Sequence[Entry]) -> None:
        who = {entry.identity.name: entry.identity for entry in entries}
        hashed: dict[str, Hash] = {}
        known: dict[str, bytes] = {}
        for entry in entries:
            user, secret = entry.identity.name, entry.secret
            if isinstance(secret, str):
                known[user] = self._digest(user, secret)
            else:
                hashed[user] = secret
                if secret == self._hashed.get(user) and user in self._known:
                    known[user] = self._known[user]
        costs = Counter(secret.cost for secret in hashed.values())
        # As dear as most: files whose hashes cost differently cannot be hidden behind one of them.
        self._nobody = Hash(*costs.most_common(1)[0][0], secrets.token_bytes(16), b"\0" * 32) if costs else None
        self._who, self._hashed, self._known, self._headers = who, hashed, known, {}


def basic_credentials(header: bytes | None) -> tuple[str, str] | None:
    """Return the user and password of an Authorization header; None if it has none of kind Basic."""
    if header is None:
        return None
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    user, colon, password = text.partition(":")
    return (user, password) if colon else None

"""Who may talk to a server: a file of users and passwords, and the check of what a client sends.

The file has lines `USER:PASSWORD`; the first colon splits. Blank lines and lines that begin with `#` are skipped.
A password is plain text or `$scrypt$ln=14,r=8,p=1$SALT$HASH`, salt and hash in base64 without padding, as
`hash_password` makes it. Nobody but the file's owner may be able to read it, except below $CREDENTIALS_DIRECTORY, where
systemd has put it for this service alone.

A check takes the same time for a user that does not exist. Credentials that were right once are remembered as a digest
under a key that lives only in this process, so that only the first request of a client pays for scrypt.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["Identities", "TooBusyError", "basic_credentials", "hash_password"]

_LARGEST_FILE = 16 << 20
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})")
_THREADS = 2
_MOST_WAITING = 256


class TooBusyError(SonarError):
    """Too many credentials wait to be checked: try again later."""


@dataclass(frozen=True, slots=True)
class _Scrypt:
    """A hashed password."""

    log_n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> "_Scrypt | None":
        match = _SCRYPT.fullmatch(text)
        if not match:
            return None
        log_n, r, p = (int(number) for number in match.groups()[:3])
        # 256 MiB at most: a file with a slip in it must not take the machine's memory.
        if not (1 <= log_n <= 21 and r >= 1 and p >= 1 and (128 * r << log_n) <= 256 << 20):
            return None
        try:
            salt, digest = (
                base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in match.groups()[3:]
            )
        except binascii.Error:
            return None
        return cls(log_n, r, p, salt, digest)

    def matches(self, password: str) -> bool:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        kdf = Scrypt(salt=self.salt, length=len(self.hash), n=1 << self.log_n, r=self.r, p=self.p)
        return hmac.compare_digest(kdf.derive(password.encode()), self.hash)


_NOBODY = _Scrypt(14, 8, 1, b"\0" * 16, b"\0" * 32)


class Identities:
    """The users of one password file."""

    def __init__(self, path: Path, passwords: Mapping[str, str]) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._hashed: dict[str, _Scrypt] = {}
        self._known: dict[str, bytes] = {}  # user -> digest of the right password
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrypt")
        self._waiting = 0
        self._adopt(passwords)

    @classmethod
    def load(cls, path: Path) -> "Identities":
        """Read a password file; raise SonarError, naming file and line, if it must not or cannot be used."""
        return cls(path, _read(path))

    def reload(self) -> None:
        """Read the file again; raise SonarError and keep the users as they are if it is bad."""
        self._adopt(_read(self._path))

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._hashed.keys() | self._known.keys())

    def check(self, user: str, password: str) -> bool:
        """Return whether the password is the user's. It may take a tenth of a second: see `verify`."""
        if self._remembers(user, password):
            return True
        hashed = self._hashed
        if not hashed:
            return False
        entry = hashed.get(user)
        right = (entry or _NOBODY).matches(password) and entry is not None
        if right and self._hashed.get(user) is entry:
            self._known[user] = self._digest(user, password)
        return right

    async def verify(self, user: str, password: str) -> bool:
        """Return whether the password is the user's, without holding up the event loop; may raise TooBusyError."""
        if self._remembers(user, password):
            return True
        if not self._hashed:
            return False
        if self._waiting >= _MOST_WAITING:
            raise TooBusyError("too many credentials to check")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self.check, user, password)
        finally:
            self._waiting -= 1

    def _remembers(self, user: str, password: str) -> bool:
        return hmac.compare_digest(self._known.get(user, b"\0" * 32), self._digest(user, password))

    def _digest(self, user: str, password: str) -> bytes:
        message = user.encode(errors="surrogatepass") + b"\0" + password.encode(errors="surrogatepass")
        return hashlib.blake2b(message, digest_size=32, key=self._key).digest()

    def _adopt(self, passwords: Mapping[str, str]) -> None:
        hashed: dict[str, _Scrypt] = {}
        known: dict[str, bytes] = {}
        for user, password in passwords.items():
            entry = _Scrypt.parse(password)
            if entry is None:
                known[user] = self._digest(user, password)
            else:
                hashed[user] = entry
                if entry == self._hashed.get(user) and user in self._known:
                    known[user] = self._known[user]
        self._hashed, self._known = hashed, known


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


def hash_password(password: str) -> str:
    """Return the hashed form of a password for a password file."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    salt = os.urandom(16)
    digest = Scrypt(salt=salt, length=32, n=1 << _NOBODY.log_n, r=_NOBODY.r, p=_NOBODY.p).derive(password.encode())
    salt_text, digest_text = (base64.b64encode(part).decode().rstrip("=") for part in (salt, digest))
    return f"$scrypt$ln={_NOBODY.log_n},r={_NOBODY.r},p={_NOBODY.p}${salt_text}${digest_text}"


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SonarError(f"cannot read password file '{path}': {error.strerror}") from None
    if mode & 0o077 and not _is_credential(path):
        raise SonarError(f"password file '{path}' is open to group or others (mode {mode:04o}): chmod 600 it")
    if len(content) > _LARGEST_FILE:
        raise SonarError(f"password file '{path}' is too large")
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise SonarError(f"password file '{path}' is not UTF-8") from None
    return _parse(path, lines)


def _parse(path: Path, lines: list[str]) -> dict[str, str]:
    passwords: dict[str, str] = {}
    for number, untrimmed in enumerate(lines, start=1):
        line = untrimmed.strip()
        if not line or line.startswith("#"):
            continue
        user, _, password = line.partition(":")
        if not user or not password:
            raise SonarError(f"{path}:{number}: want USER:PASSWORD")
        if user in passwords:
            raise SonarError(f"{path}:{number}: user {user!r} is there twice")
        if password.startswith("$scrypt$") and _Scrypt.parse(password) is None:
            raise SonarError(f"{path}:{number}: bad hash of user {user!r}")
        passwords[user] = password
    if not passwords:
        raise SonarError(f"password file '{path}' has no users")
    return passwords


def _is_credential(path: Path) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.resolve().is_relative_to(Path(directory or "").resolve())

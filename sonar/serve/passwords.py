"""The file of those who may talk to a server: its lines, its hashes, and how it is read and changed.

The format is that of sonar-passwords(5): `NAME:PASSWORD`, or `NAME:$scrypt$…[:ATTRIBUTE=VALUE …]`. Nobody but the
file's owner may be able to read it, except below $CREDENTIALS_DIRECTORY, where systemd has put it for one service.
"""

import base64
import binascii
import contextlib
import fcntl
import hmac
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError
from sonar.names import ClusterName, resolve_cluster

__all__ = [
    "ANY",
    "Entry",
    "Hash",
    "Identity",
    "PasswordFile",
    "Role",
    "check_name",
    "is_credential",
    "line_of",
    "read_entries",
]

ANY = "*"
"""In a list of clusters or accounts: all of them."""

_LARGEST_FILE = 16 << 20
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})")
_SCRYPT_MARK = "$scrypt$"
_ATTRIBUTES = ("role", "clusters", "accounts")


class Role(StrEnum):
    """How much of an answer somebody may see."""

    USER = "user"  # rows of the own accounts; others' only without their names
    SUPPORT = "support"  # all rows of the clusters
    ADMIN = "admin"  # that, and what concerns the server itself


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, once the password was right."""

    name: str
    role: Role = Role.USER
    clusters: frozenset[str] = frozenset()
    """As they stand in the file, aliases among them; none: uploads go to the cluster of the name, questions to all."""
    own_accounts: frozenset[str] = frozenset()

    @property
    def accounts(self) -> frozenset[str] | None:
        """The accounts whose rows may be shown with their names, the own name unless others are given; None: all."""
        if self.role is not Role.USER or ANY in self.own_accounts:
            return None
        return self.own_accounts or frozenset({self.name})

    def may_ask(self, cluster: str, aliases: Mapping[str, str]) -> bool:
        """Return whether questions about a cluster, given by its canonical name, may be answered."""
        return not self.clusters or ANY in self.clusters or cluster in self._resolved(aliases)

    def may_write(self, aliases: Mapping[str, str]) -> frozenset[ClusterName] | None:
        """Return the canonical names of the clusters that may be written; None: any."""
        return None if ANY in self.clusters else self._resolved(aliases)

    def _resolved(self, aliases: Mapping[str, str]) -> frozenset[ClusterName]:
        found = []
        for name in self.clusters or {self.name}:
            with contextlib.suppress(SonarError):  # a person's name need not be one that a cluster can have
                found.append(resolve_cluster(name, aliases))
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Hash:
    """A password hashed with scrypt (RFC 7914)."""

    log_n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> "Hash":
        """Hash a password, with the cost that RFC 7914's author gives for logins: N=2^14, r=8, p=1 (16 MiB)."""
        unfinished = cls(14, 8, 1, os.urandom(16), b"\0" * 32)
        return cls(14, 8, 1, unfinished.salt, unfinished._derive(password))

    @classmethod
    def parse(cls, text: str) -> "Hash | None":
        """Return the hash that `text` is; None if it is none, or would take more than 256 MiB to check."""
        match = _SCRYPT.fullmatch(text)
        if not match:
            return None
        log_n, r, p = (int(number) for number in match.groups()[:3])
        if not (1 <= log_n <= 21 and r >= 1 and p >= 1 and (128 * r << log_n) <= 256 << 20):
            return None
        try:
            salt, digest = (
                base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in match.groups()[3:]
            )
        except binascii.Error:
            return None
        return cls(log_n, r, p, salt, digest)

    def __str__(self) -> str:
        """Return the form in the file."""
        salt, digest = (base64.b64encode(part).decode().rstrip("=") for part in (self.salt, self.digest))
        return f"{_SCRYPT_MARK}ln={self.log_n},r={self.r},p={self.p}${salt}${digest}"

    @property
    def cost(self) -> tuple[int, int, int]:
        """What decides how long a check takes."""
        return self.log_n, self.r, self.p

    def matches(self, password: str) -> bool:
        """Return whether it is the hash of this password; takes some 50 ms."""
        return hmac.compare_digest(self._derive(password), self.digest)

    def _derive(self, password: str) -> bytes:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        kdf = Scrypt(salt=self.salt, length=len(self.digest), n=1 << self.log_n, r=self.r, p=self.p)
        return kdf.derive(password.encode(errors="surrogatepass"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file: who, and the password in plain text or hashed."""

    identity: Identity
    secret: "str | Hash" = field(repr=False)


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Read a password file, which may have no users; raise SonarError, naming file and line, if it cannot be used."""
    return tuple(entry for entry in _parse(path, _lines(_read(path))) if entry)


def check_name(name: str) -> str:
    """Return a name that a line can begin with; raise SonarError if it is none."""
    if not name or not name.isprintable() or set(name) & set(": /") or name.startswith("#"):
        raise SonarError(f"bad name {name[:80]!r}: want no blank, colon, slash or control character")
    return name


def line_of(identity: Identity, secret: "str | Hash") -> str:
    """Return the line of the file for an identity; attributes need a hashed password."""
    attributes = [
        *([f"role={identity.role}"] if identity.role is not Role.USER else []),
        *([f"clusters={','.join(sorted(identity.clusters))}"] if identity.clusters else []),
        *([f"accounts={','.join(sorted(identity.own_accounts))}"] if identity.own_accounts else []),
    ]
    return ":".join([identity.name, str(secret), *([" ".join(attributes)] if attributes else [])])


class PasswordFile:
    """A password file that is being changed: see `PasswordFile.changing`. Comments and the order of lines stay."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self._path = path
        self._lines = lines

    @classmethod
    def read(cls, path: Path) -> "PasswordFile":
        """Return the file as it is, to look at; it may be empty."""
        return cls(path, _lines(_read(path)))

    @classmethod
    @contextlib.contextmanager
    def changing(cls, path: Path) -> Iterator["PasswordFile"]:
        """Give the file to be changed, made with mode 0600 if it is not there; write it when all is well.

        Others who change it wait. Readers see the old or the new content, whole. Mode and owner stay.
        """
        with _locked(path) as held:
            before = _read(path)
            file = cls(path, _lines(before))
            file.entries()
            yield file
            after = "".join(f"{line}\n" for line in file._lines)
            if after != before:
                _parse(path, file._lines)  # what we write must be what we read
                _replace(path, after.encode(), os.fstat(held))

    def entries(self) -> list[Entry]:
        """Return what the lines say."""
        return [entry for entry in _parse(self._path, self._lines) if entry]

    def find(self, name: str) -> Entry | None:
        """Return the entry of a name, if it has one."""
        return next((entry for entry in self.entries() if entry.identity.name == name), None)

    def put(self, identity: Identity, secret: "str | Hash") -> None:
        """Replace the line of that name, or add one."""
        line = line_of(identity, secret)
        number = self._number_of(identity.name)
        if number is None:
            self._lines.append(line)
        else:
            self._lines[number] = line

    def remove(self, name: str) -> None:
        """Remove the line of a name that has one."""
        number = self._number_of(name)
        if number is not None:
            del self._lines[number]

    def _number_of(self, name: str) -> int | None:
        parsed = _parse(self._path, self._lines)
        return next((n for n, entry in enumerate(parsed) if entry and entry.identity.name == name), None)


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _parse(path: Path, lines: Sequence[str]) -> list[Entry | None]:
    """Return the entry of each line, None for a comment or a blank line."""
    entries: list[Entry | None] = []
    names = set()
    for number, line in enumerate(lines, start=1):
        try:
            entry = _entry_of(line.strip())
        except SonarError as error:
            raise SonarError(f"{path}:{number}: {error}") from None
        if entry:
            name = entry.identity.name
            if name in names:
                raise SonarError(f"{path}:{number}: user {name!r} is there twice")
            names.add(name)
        entries.append(entry)
    return entries


def _entry_of(line: str) -> Entry | None:
    if not line or line.startswith("#"):
        return None
    # A slash was the sign between the two in the oldest files.
    name, _, rest = line.partition(":" if ":" in line else "/")
    name, rest = name.strip(), rest.strip()
    if not name or not rest:
        raise SonarError("want USER:PASSWORD")
    if not rest.startswith(_SCRYPT_MARK):
        return Entry(Identity(name), rest)
    text, _, attributes = rest.partition(":")
    hashed = Hash.parse(text)
    if hashed is None:
        raise SonarError(f"bad hash of user {name!r}")
    return Entry(_identity_of(name, attributes.split()), hashed)


def _identity_of(name: str, attributes: Sequence[str]) -> Identity:
    given: dict[str, str] = {}
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        if key not in _ATTRIBUTES or not value or key in given:
            raise SonarError(f"bad attribute {attribute!r} of user {name!r}: want {', '.join(_ATTRIBUTES)}, each once")
        given[key] = value
    try:
        role = Role(given.get("role", Role.USER))
    except ValueError:
        raise SonarError(f"bad role {given['role']!r} of user {name!r}: want {', '.join(Role)}") from None
    clusters, accounts = (frozenset(filter(None, given.get(key, "").split(","))) for key in ("clusters", "accounts"))
    return Identity(name, role, frozenset(cluster.lower() for cluster in clusters), accounts)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SonarError(f"cannot read password file '{path}': {error.strerror}") from None
    if not is_credential(path):
        if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
            raise SonarError(f"password file '{path}' is open to group or others (mode {mode:04o}): chmod 600 it")
        if status.st_uid not in {0, os.geteuid()}:
            raise SonarError(f"password file '{path}' belongs to another user ({status.st_uid}): chown it")
    if len(content) > _LARGEST_FILE:
        raise SonarError(f"password file '{path}' is too large")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SonarError(f"password file '{path}' is not UTF-8") from None


def is_credential(path: Path) -> bool:
    """Whether a file is one that systemd has put there for this service alone."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.resolve().is_relative_to(Path(directory or "").resolve())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock on the file that the path names now, made if it is not there; give its descriptor."""
    while True:
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SonarError(f"cannot change password file '{path}': {error.strerror}") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            # Whoever had the lock before us has put another file in its place.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), path.stat()):
                    yield held
                    return
        finally:
            os.close(held)


def _replace(path: Path, content: bytes, like: os.stat_result) -> None:
    try:
        durable.put(path.resolve(), content, like=like)  # a link stays a link
    except OSError as error:
        raise SonarError(f"cannot change password file '{path}': {error.strerror}") from None

"""The identity file of a node: one user name and password, kept away from everybody else."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["Identity", "parse_identity", "read_identity"]

_LARGEST_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who uploads. The password is in no text that is printed."""

    user: str
    password: str = field(repr=False)


def parse_identity(text: str) -> Identity | None:
    """Return the identity in `USER:PASSWORD`, or in the old style `USER/PASSWORD`; None if it is neither.

    The first colon splits, so a password may have more of them; a slash splits only if there is no colon. White space
    around the whole is no part of it.
    """
    text = text.strip()
    user, _, password = text.partition(":" if ":" in text else "/")
    return Identity(user, password) if user and password and text.isprintable() else None


def read_identity(path: Path, *, may_be_open: bool = False) -> Identity:
    """Return the identity in a file.

    Raise SonarError if it says something else, or, unless that is allowed, if others than its owner may read it; this
    is not asked of the credentials that the service manager hands to a service, which it guards in its own way.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LARGEST_FILE).decode()
    except OSError as error:
        raise SonarError(f"cannot read identity file '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        raise SonarError(f"identity file '{path}' is not UTF-8 text") from None
    if mode & 0o077 and not (may_be_open or _is_credential(path)):
        raise SonarError(f"identity file '{path}' may be read by others: chmod 0600 it")
    identity = parse_identity(text)
    if identity is None:
        raise SonarError(f"identity file '{path}' must hold one line USER:PASSWORD")
    return identity


def _is_credential(path: Path) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.resolve().is_relative_to(Path(directory or "/").resolve())

"""The identity file of a node: one user name and password, kept away from everybody else."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from sonar.errors import SonarError

__all__ = ["Identity", "read_identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who uploads. The password is in no text that is printed."""

    user: str
    password: str = field(repr=False)


def read_identity(path: Path) -> Identity:
    """Return the identity in a file of one line: `USER:PASSWORD`, or in the old style `USER/PASSWORD`.

    The first colon splits; a slash does so only if there is no colon. Raise SonarError if the file says something
    else, or if others than its owner may read it; the latter is not asked of a service's credentials.
    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(64 * 1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SonarError(f"cannot read identity file '{path}': {getattr(error, 'strerror', error)}") from error
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if mode & 0o077 and not (credentials and path.is_relative_to(credentials)):
        raise SonarError(f"identity file '{path}' may be read by others: chmod 0600 it")
    user, separator, password = text.partition(":" if ":" in text else "/")
    if not separator or not user or not password or len(text.splitlines()) != 1:
        raise SonarError(f"identity file '{path}' must hold one line USER:PASSWORD")
    return Identity(user.strip(), password.strip())

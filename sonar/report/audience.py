"""Who may see what of a report: the one place where names of people leave it or become pseudonyms.

public   everybody: no user, account or command
login    whoever can log in: users and accounts are pseudonyms, which stay the same from report to report
admin    administrators: everything

A report file lies in the directory of its audience, so that a server cannot confuse them.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from sonar import durable
from sonar.errors import SonarError

__all__ = ["Audience", "Personal", "for_audience", "pseudonym_key"]

_KEY_BYTES = 32


class Audience(StrEnum):
    """Who a file is for, from many to few; also the name of its directory."""

    PUBLIC = "public"
    LOGIN = "login"
    ADMIN = "admin"


class Personal(StrEnum):
    """What a column tells of people."""

    NOT = "not"
    WHO = "who"  # a user or an account
    WHAT = "what"  # a command, a job's name or number


def for_audience(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Personal], audience: Audience, key: bytes
) -> list[dict[str, Any]]:
    """Return the rows as an audience may see them. A column that is not in `columns` is dropped, whoever asks."""
    if audience is Audience.ADMIN:
        return [{name: value for name, value in row.items() if name in columns} for row in rows]
    shown = []
    for row in rows:
        kept: dict[str, Any] = {}
        for name, value in row.items():
            kind = columns.get(name, Personal.WHO)
            if kind is Personal.NOT:
                kept[name] = value
            elif audience is Audience.LOGIN and name in columns:
                kept[name] = _pseudonym(name, value, key) if kind is Personal.WHO else value
        shown.append(kept)
    return shown


def pseudonym_key(state_dir: Path) -> bytes:
    """Return the key from which a cluster's pseudonyms are made; it is made on first use. Raise SonarError."""
    path = state_dir / "pseudonyms.key"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)
            durable.create(temporary, os.urandom(_KEY_BYTES), mode=0o600)
            durable.sync(temporary)
            try:
                os.link(temporary, path)  # whoever comes first makes the key
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise SonarError(f"cannot make or read '{path}': {error.strerror}") from None
    if len(key) != _KEY_BYTES:
        raise SonarError(f"'{path}': not {_KEY_BYTES} bytes long")
    return key


def _pseudonym(kind: str, value: Any, key: bytes) -> str:
    """Return a name that says nothing but whether it is the same as another."""
    digest = hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()
    return f"{kind}-{digest[:8]}"

"""Mail and alerts that wait to be delivered: a directory of files, each whole or not there.

Whoever has something to tell puts it here and goes on; `deliver` sends it and removes it, and keeps what it could not
send. So the jobs that write need neither a network nor the rights that a mail program needs, and a mail server that is
down for an hour loses nothing.

    *.eml           a mail, with its headers
    *.json          an alert, for all ways that sonar.conf(5) has in [Alert]
    sending/*.eml   a mail that the mail program has
"""

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError

__all__ = ["SENDING", "Alert", "put_alert", "put_mail", "read_alert", "replace_alert", "waiting"]

SENDING = "sending"
_MESSAGE_ID = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What people are to know: `state` is trouble or recovered; `delivered` names the ways it has gone already."""

    title: str
    text: str
    state: str
    at: int
    host: str  # the server's own name
    unit: str = ""
    cluster: str = ""
    nodes: Sequence[str] = field(default_factory=tuple)
    delivered: Sequence[str] = field(default_factory=tuple)


def put_mail(outbox: Path, message: bytes) -> Path:
    """Leave a mail (RFC 5322, with its headers) to be sent and return its file; then it is on disk.

    It gets a Message-ID if it has none, by which whoever gets it twice knows it again.
    """
    if b":" not in message.partition(b"\n")[0]:
        raise SonarError("what is to be sent is no mail: it begins with no header")
    if not _MESSAGE_ID.search(re.split(rb"\r?\n\r?\n", message, maxsplit=1)[0]):
        message = f"Message-ID: <{uuid.uuid4()}@{socket.gethostname()}>\n".encode() + message
    return _put(outbox, ".eml", message)


def put_alert(outbox: Path, alert: Alert) -> Path:
    """Leave an alert to be sent and return its file; when it returns, the alert is on disk."""
    return _put(outbox, ".json", json.dumps(asdict(alert), ensure_ascii=False, indent=1).encode() + b"\n")


def read_alert(path: Path) -> Alert:
    """Return the alert of a file; raise SonarError if it is none."""
    try:
        content = json.loads(path.read_bytes())
        return Alert(**content)
    except (OSError, ValueError, TypeError) as error:
        raise SonarError(f"{path}: no alert: {error}") from None


def waiting(outbox: Path) -> list[Path]:
    """Return the files that wait, or that the mail program has: those first, then the oldest first."""
    found = [*outbox.glob(f"{SENDING}/[!.]*.eml"), *outbox.glob("[!.]*.eml"), *outbox.glob("[!.]*.json")]
    return sorted(found, key=lambda path: (path.parent == outbox, path.name))


def replace_alert(path: Path, alert: Alert) -> None:
    """Write an alert anew in its place."""
    _write(path, json.dumps(asdict(alert), ensure_ascii=False, indent=1).encode() + b"\n")


def _put(outbox: Path, suffix: str, content: bytes) -> Path:
    # Names sort by time; number and process make them unique.
    path = outbox / f"{time.time_ns():020d}-{os.getpid()}{suffix}"
    _write(path, content)
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        durable.put(path, content)
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from None

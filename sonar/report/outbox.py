"""The outbox: mail on disk before it is sent, so that what is told is told once, whatever is killed when.

A message is a file that goes through three names, each by rename, each synced:

    ID.pending    written whole, with what must be noted when it has been delivered; nothing has been sent
    ID.sending    handed to the deliverer
    ID.sent       taken by the mail system; what must be noted is not noted yet

The deliverer is a process of its own (`sonar.report.deliver`): it runs the mail program and gives the file its last
name. Killing a report job does not end it, and it holds the outbox's lock until it is done, so the next job waits and
then finds out what became of the message. Only if the deliverer itself dies between the two steps, or the machine does,
is it unknown whether a message in `ID.sending` was taken: it is sent again under the same Message-ID, by which mail
systems drop duplicates, because a notice that is lost is worse.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import Any

from sonar.errors import SonarError
from sonar.report.publish import publish

__all__ = ["Message", "Outbox"]

_DELIVERY_TIMEOUT_S = 120
_KEEP_SENT = 400  # of the messages that were delivered, so that one can look


@dataclass(frozen=True, slots=True)
class Message:
    """One mail: `notes` is what its writer must note once it has been delivered, in a form of its own."""

    kind: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    body: str
    notes: Mapping[str, Any]
    date: int

    @property
    def id(self) -> str:
        """Return what the message is known by: the same text for the same people about the same has the same one."""
        told = json.dumps([self.kind, self.recipients, self.subject, self.body, dict(self.notes)], sort_keys=True)
        return f"{self.kind}-{sha256(told.encode()).hexdigest()[:24]}"

    def text(self) -> str:
        """Return the mail with its headers, for `sendmail -t`."""
        mail = EmailMessage()
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Subject"] = self.subject
        mail["Date"] = formatdate(self.date)
        mail["Message-ID"] = f"<{self.id}@{self.sender.rpartition('@')[2].rstrip('>') or 'localhost'}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Sonar-Report"] = self.kind
        mail.set_content(self.body, cte="7bit" if self.body.isascii() else "8bit")
        return mail.as_string()


class Outbox:
    """The outbox of one cluster, at `directory`; `program` takes a mail with its headers on standard input."""

    def __init__(self, directory: Path, program: Sequence[str]) -> None:
        self._directory = directory
        self._program = tuple(program)
        self._lock = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the outbox, after a delivery that is under way has ended."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SonarError(f"cannot lock the outbox '{self._directory}': {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(self._lock)
            self._lock = -1

    def put(self, message: Message) -> None:
        """Put a message in, to be delivered by `deliver`; one that is in already stays as it is."""
        if not any(self._directory.glob(f"{message.id}.*")):
            content = {
                "id": message.id,
                "kind": message.kind,
                "subject": message.subject,
                "recipients": list(message.recipients),
                "notes": dict(message.notes),
                "mail": message.text(),
            }
            publish(self._directory / f"{message.id}.pending", json.dumps(content, indent=1) + "\n", mode=0o600)

    def waiting(self) -> list[Mapping[str, Any]]:
        """Return the notes of messages that are not delivered."""
        return [self._content(path)["notes"] for path in self._in("pending") + self._in("sending")]

    def deliver(self) -> list[str]:
        """Try to deliver all that waits; return what is wrong, a line a message that could not be delivered."""
        problems = []
        for path in [*self._in("sending"), *self._in("pending")]:
            if not self._program:
                problems.append(f"message {path.stem}: no mail program is set")
                continue
            sending = path.with_suffix(".sending")
            path.replace(sending)
            done = subprocess.run(
                [sys.executable, "-m", "sonar.report.deliver", sending, str(_DELIVERY_TIMEOUT_S), *self._program],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                pass_fds=(self._lock,),
                start_new_session=True,
                check=False,
            )
            if done.returncode:
                sending.replace(path.with_suffix(".pending"))
                problems.append(f"message {path.stem}: {done.stderr.strip() or f'status {done.returncode}'}")
        return problems

    def delivered(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the messages that were delivered and not noted yet: id and notes."""
        return [(path.stem, self._content(path)["notes"]) for path in self._in("sent")]

    def noted(self, identity: str) -> None:
        """Say that what a delivered message asks to note has been noted."""
        sent = self._directory / "sent"
        sent.mkdir(exist_ok=True)
        (self._directory / f"{identity}.sent").replace(sent / f"{identity}.json")
        old = sorted(sent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in old[:-_KEEP_SENT]:
            path.unlink()

    def _in(self, state: str) -> list[Path]:
        return sorted(self._directory.glob(f"*.{state}"))

    def _content(self, path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SonarError(f"'{path}': not a message of the outbox: {error}") from None
        return content

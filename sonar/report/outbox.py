"""Handing mail over, so that what is told is told once, whatever is killed when.

`deliver` sends what lies in the outbox (`sonar.outbox`) and tries again until it goes. A message goes there in steps,
each a rename and synced; OUTBOX/.CLUSTER is the hall before it:

    ID.mail    the mail, written whole
    ID.notes   what its writer must note once it is handed over; from now on the message counts
    OUTBOX/TIME-ID.eml, by renaming ID.mail: handed over

So after any crash the files say how far it came: a mail without notes never counted, notes with a mail are still to be
handed over, and notes without one are to be noted, which may be done twice.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import Any

from sonar import durable
from sonar.errors import SonarError
from sonar.report.publish import publish

__all__ = ["Message", "Outbox"]


@dataclass(frozen=True, slots=True)
class Message:
    """One mail: `notes` is what its writer must note once it is handed over, in a form of its own."""

    kind: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    body: str
    notes: Mapping[str, Any]
    date: int
    html: str = ""

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
        if self.html:
            mail.add_alternative(self.html, subtype="html")
        return mail.as_string()


class Outbox:
    """The outbox at `directory`, as one cluster uses it."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self._outbox = directory
        self._hall = directory / f".{cluster}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the hall: two runs never tell at once."""
        try:
            self._hall.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._hall / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SonarError(f"cannot lock the outbox '{self._hall}': {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def put(self, message: Message) -> None:
        """Bring a message into the hall; one that is there already stays as it is."""
        notes = self._hall / f"{message.id}.notes"
        if not notes.exists():
            publish(self._hall / f"{message.id}.mail", message.text(), mode=0o640)
            content = {"at": message.date, "notes": dict(message.notes)}
            publish(notes, json.dumps(content, indent=1) + "\n", mode=0o600)

    def hand_over(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Hand over all messages in the hall and return them: id and notes. `noted` must follow for each."""
        found = []
        try:
            for notes in sorted(self._hall.glob("*.notes")):
                content = json.loads(notes.read_text(encoding="utf-8"))
                mail = notes.with_suffix(".mail")
                if mail.exists():
                    mail.replace(self._outbox / f"{content['at'] * 10**9:020d}-{notes.stem}.eml")
                    durable.sync(self._outbox)
                    durable.sync(self._hall)
                found.append((notes.stem, content["notes"]))
            for mail in self._hall.glob("*.mail"):
                mail.unlink()  # its writer was killed before the message counted
        except (OSError, ValueError, KeyError) as error:
            raise SonarError(f"cannot hand over mail in '{self._hall}': {error}") from None
        return found

    def noted(self, identity: str) -> None:
        """Say that what a message that was handed over asks to note has been noted."""
        (self._hall / f"{identity}.notes").unlink(missing_ok=True)

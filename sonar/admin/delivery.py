"""Delivery: what waits in the outbox goes by mail, webhook and command, each once by each way; deliver(8).

A mail is in one of three places:

    OUTBOX/NAME.eml           it waits
    OUTBOX/sending/NAME.eml   the mail program has it, or had it when somebody was killed
    nowhere                   the mail program has taken it

The mail program is run by a shell that removes the file once the program has taken it. So whoever kills us loses
nothing; only if that shell is killed in between, or the machine stops, is it not known whether the mail went. Then it
goes again, with the same Message-ID, and says so.
"""

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import IO

from sonar import durable
from sonar.config.settings import Settings
from sonar.errors import SonarError
from sonar.log import Event, about
from sonar.outbox import SENDING, Alert, read_alert, replace_alert, waiting
from sonar.times import DAY, iso_text

__all__ = ["deliver"]

_log = logging.getLogger(__name__)

_GIVE_UP_S = 7 * DAY
_TIMEOUT_S = 60
_COURIER = ("/bin/sh", "-c", '"$@" || exit; rm -f -- "$0"; exit 0')
_KILLED = 128  # from here on a shell's status tells of a signal, as a negative one does
_AGAIN = b"X-Sonar-Sent-Again: it is not known whether the first try arrived\n"


def deliver(settings: Settings, now: int) -> int:
    """Send what waits in the outbox and return how much could not be sent."""
    outbox, failed = settings.paths.outbox, 0
    if not outbox.is_dir():
        return 0
    with _alone(outbox):
        for path in waiting(outbox):
            try:
                if path.suffix == ".json":
                    _deliver_alert(settings, path)
                elif mail := _taken_back(path) if path.parent.name == SENDING else path:
                    _deliver_mail(settings.alert.sendmail, mail)
            except (SonarError, OSError) as error:
                failed += 1
                _log.warning("cannot deliver '%s', keeping it: %s", path, error, extra=about(Event.DELIVERY_FAILED))
                if path.exists() and now - path.stat().st_mtime > _GIVE_UP_S:
                    path.rename(path.with_name(f"{path.name}.undeliverable"))
    return failed


@contextmanager
def _alone(outbox: Path) -> Iterator[None]:
    """Hold the outbox: two that deliver follow each other."""
    lock = os.open(outbox / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _taken_back(sending: Path) -> Path | None:
    """Let a mail wait again of which it is not known whether it went, and return it; None if it has gone.

    Raise SonarError if it is still being sent.
    """
    try:
        mail = sending.open("rb")
    except FileNotFoundError:
        return None
    with mail:
        try:
            fcntl.flock(mail, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SonarError("the mail program still has it, from a run that was killed") from None
        if not sending.exists():
            return None
        content, known = mail.read(), sending.stat()
    path = sending.parents[1] / sending.name
    _log.warning("sending '%s' again: it may have gone before, with the same Message-ID", path)
    durable.put(path, content if content.startswith(_AGAIN) else _AGAIN + content, like=known)
    os.utime(path, (known.st_atime, known.st_mtime))
    sending.unlink()
    return path


def _deliver_mail(command: Sequence[str], path: Path) -> None:
    """Hand a mail to the mail program. Raise SonarError if that does not take it: it waits as before."""
    if shutil.which(command[0]) is None:
        raise SonarError(f"no such program: '{command[0]}'")
    sending = path.parent / SENDING / path.name
    sending.parent.mkdir(exist_ok=True)
    with path.open("rb") as mail:
        # The mail program and its shell hold this lock as long as they run, also when we do not live any more.
        fcntl.flock(mail, fcntl.LOCK_EX)
        _move(path, sending)
        status, said = _ran([*_COURIER, str(sending), *command], mail)
    if status < 0 or status > _KILLED:
        raise SonarError(f"'{command[0]}' was killed, or took longer than {_TIMEOUT_S} s; it may have taken the mail")
    if status:
        _move(sending, path)
        raise SonarError(f"'{command[0]}' ended with status {status}{said}")
    durable.sync(sending.parent)


def _move(old: Path, new: Path) -> None:
    old.rename(new)
    durable.sync(new.parent)
    durable.sync(old.parent)


def _deliver_alert(settings: Settings, path: Path) -> None:
    """Send an alert by each way that has not taken it yet, and note after each that it has."""
    try:
        alert = read_alert(path)
    except SonarError as error:
        path.rename(path.with_name(f"{path.name}.undeliverable"))
        raise SonarError(f"set aside: {error}") from None
    ways: list[tuple[str, Callable[[Settings, Alert, str], None]]] = []
    if settings.alert.mail_to:
        ways.append(("mail", _mail))
    if settings.alert.webhook:
        ways.append(("webhook", _post))
    if settings.alert.command:
        ways.append(("command", _run))
    errors = []
    for name, send in ways:
        if name in alert.delivered:
            continue
        try:
            send(settings, alert, f"alert-{path.stem}")
        except (SonarError, OSError) as error:
            errors.append(f"{name}: {error}")
        else:
            alert = replace(alert, delivered=(*alert.delivered, name))
            replace_alert(path, alert)
    if errors:
        raise SonarError("; ".join(errors))
    path.unlink()


def _mail_of(settings: Settings, alert: Alert, identity: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Message-ID"] = f"<{identity}@{alert.host}>"
    mail["Subject"] = f"[Sonar] {alert.title}"
    mail["To"] = ", ".join(settings.alert.mail_to)
    mail["From"] = settings.report.mail_from or f"sonar-server@{alert.host}"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: so that nobody's absence is answered
    mail["X-Sonar-State"] = alert.state
    link = f"\n{settings.report.base_url.rstrip('/')}/c/{alert.cluster}\n" if _has_page(settings, alert) else ""
    mail.set_content(f"{alert.text}\n\n{iso_text(alert.at)}, {alert.host}\n{link}")
    return mail


def _has_page(settings: Settings, alert: Alert) -> bool:
    return bool(settings.report.base_url and alert.cluster)


def _mail(settings: Settings, alert: Alert, identity: str) -> None:
    _call(settings.alert.sendmail, _mail_of(settings, alert, identity).as_bytes())


def _run(settings: Settings, alert: Alert, identity: str) -> None:
    told = {"ID": identity, "TITLE": alert.title, "STATE": alert.state, "UNIT": alert.unit, "CLUSTER": alert.cluster,
            "NODES": " ".join(alert.nodes), "HOST": alert.host, "TIME": iso_text(alert.at)}  # fmt: skip
    _call(
        settings.alert.command, alert.text.encode() + b"\n", {f"SONAR_ALERT_{key}": text for key, text in told.items()}
    )


def _call(command: Sequence[str], text: bytes, environment: dict[str, str] | None = None) -> None:
    with tempfile.TemporaryFile() as file:
        # A file, not a pipe: if we are killed, the program must not take half a text for the whole.
        file.write(text)
        file.seek(0)
        status, said = _ran(command, file, environment)
    if status:
        raise SonarError(f"'{command[0]}' ended with status {status}{said}")


def _ran(command: Sequence[str], stdin: IO[bytes], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a program and return its status and, to be put after that, the last line it wrote to standard error."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except FileNotFoundError:
            raise SonarError(f"no such program: '{command[0]}'") from None
        try:
            status = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        errors.seek(0)
        said = errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        return status, f": {said[-1][:200]}" if said else ""


def _post(settings: Settings, alert: Alert, identity: str) -> None:
    import urllib3

    content = {
        "id": identity,
        "title": alert.title,
        "text": alert.text,
        "state": alert.state,
        "unit": alert.unit,
        "cluster": alert.cluster,
        "nodes": list(alert.nodes),
        "host": alert.host,
        "time": iso_text(alert.at),
    }
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False) as http:
            answer = http.request(
                "POST",
                settings.alert.webhook,
                body=json.dumps(content).encode(),
                headers={"Content-Type": "application/json", "User-Agent": "sonar"},
            )
    except urllib3.exceptions.HTTPError as error:
        # The address may hold a secret, and messages of the library name it.
        raise SonarError(f"the webhook cannot be reached ({type(error).__name__})") from None
    if answer.status >= 300:
        raise SonarError(f"the webhook answers {answer.status}")

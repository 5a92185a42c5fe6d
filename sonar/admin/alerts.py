"""From troubles to alerts: who is told what, in few words, and the delivery by mail, webhook and command."""

import json
import logging
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

from sonar import hosts
from sonar.admin.troubles import Trouble
from sonar.config.settings import Settings
from sonar.errors import SonarError
from sonar.log import Event, about
from sonar.outbox import Alert, read_alert, replace_alert, waiting
from sonar.times import DAY, iso_text

__all__ = ["alerts_of", "deliver", "host_name"]

_log = logging.getLogger(__name__)

_GIVE_UP_S = 7 * DAY
_TIMEOUT_S = 60


def host_name() -> str:
    """Return this machine's own name."""
    return socket.gethostname()


def alerts_of(new: Sequence[Trouble], over: Sequence[Trouble], now: int, host: str) -> Iterator[Alert]:
    """Give the alerts for troubles that are new and for those that are over; a cluster's silent nodes are one alert."""
    for state, troubles in (("trouble", new), ("recovered", over)):
        silent: dict[str, list[str]] = defaultdict(list)
        for trouble in troubles:
            if trouble.node:
                silent[trouble.cluster].append(trouble.node)
                continue
            text = trouble.text if state == "trouble" else f"Over: {trouble.text}"
            title = f"{trouble.unit or trouble.what}: {'trouble' if state == 'trouble' else 'well again'}"
            yield Alert(
                title=title, text=text, state=state, at=now, host=host, unit=trouble.unit, cluster=trouble.cluster
            )
        for cluster, nodes in sorted(silent.items()):
            listed = hosts.compress(nodes)
            verb = "silent" if state == "trouble" else "sending again"
            count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
            yield Alert(
                title=f"{cluster}: {count} {verb}",
                text=f"Nodes of {cluster} that are {verb}: {listed}",
                state=state,
                at=now,
                host=host,
                cluster=cluster,
                nodes=tuple(sorted(nodes)),
            )


def deliver(settings: Settings, now: int) -> int:
    """Send what waits in the outbox and return how much could not be sent. Nothing is sent twice by the same way."""
    failed = 0
    for path in list(waiting(settings.paths.outbox)):
        try:
            if path.suffix == ".eml":
                _sendmail(settings, path.read_bytes())
            else:
                _deliver_alert(settings, path)
        except (SonarError, OSError) as error:
            failed += 1
            _log.warning("cannot deliver '%s', keeping it: %s", path, error, extra=about(Event.DELIVERY_FAILED))
            if path.exists() and now - path.stat().st_mtime > _GIVE_UP_S:
                path.rename(path.with_name(f"{path.name}.undeliverable"))
        else:
            path.unlink()
    return failed


def _deliver_alert(settings: Settings, path: Path) -> None:
    try:
        alert = read_alert(path)
    except SonarError as error:
        path.rename(path.with_name(f"{path.name}.undeliverable"))
        raise SonarError(f"set aside: {error}") from None
    ways: list[tuple[str, Callable[[Settings, Alert], None]]] = []
    if settings.alert.mail_to:
        ways.append(("mail", lambda settings, alert: _sendmail(settings, _mail_of(settings, alert).as_bytes())))
    if settings.alert.webhook:
        ways.append(("webhook", _post))
    if settings.alert.command:
        ways.append(("command", _run))
    errors = []
    for name, send in ways:
        if name in alert.delivered:
            continue
        try:
            send(settings, alert)
        except (SonarError, OSError) as error:
            errors.append(f"{name}: {error}")
        else:
            alert = replace(alert, delivered=(*alert.delivered, name))
            replace_alert(path, alert)
    if errors:
        raise SonarError("; ".join(errors))


def _mail_of(settings: Settings, alert: Alert) -> EmailMessage:
    mail = EmailMessage()
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


def _sendmail(settings: Settings, message: bytes) -> None:
    _call(settings.alert.sendmail, message)


def _run(settings: Settings, alert: Alert) -> None:
    told = {"TITLE": alert.title, "STATE": alert.state, "UNIT": alert.unit, "CLUSTER": alert.cluster,
            "NODES": " ".join(alert.nodes), "HOST": alert.host, "TIME": iso_text(alert.at)}  # fmt: skip
    _call(
        settings.alert.command, alert.text.encode() + b"\n", {f"SONAR_ALERT_{key}": text for key, text in told.items()}
    )


def _call(command: Sequence[str], text: bytes, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise SonarError(f"no such program: '{command[0]}'") from None
    except subprocess.TimeoutExpired:
        raise SonarError(f"'{command[0]}' did not end within {_TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SonarError(f"'{command[0]}' ended with status {done.returncode}{f': {said[-1][:200]}' if said else ''}")


def _post(settings: Settings, alert: Alert) -> None:
    import urllib3

    content = {
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

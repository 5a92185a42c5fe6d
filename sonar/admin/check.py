"""What may be wrong with a running installation: one function a kind of trouble, each of facts that are handed to it.

To add a check, write a function that yields `Trouble`, and give it a line in `KINDS` and in `find`.
"""

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonar.admin import probe, units
from sonar.admin.arrivals import arrivals_of
from sonar.admin.troubles import Trouble
from sonar.config.clusters import Clusters, aliases_of, described_in
from sonar.config.settings import Check, Settings
from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.outbox import waiting
from sonar.places import ObjectPath
from sonar.times import DAY, iso_text

__all__ = ["KINDS", "Findings", "cluster_of", "find"]

KINDS = {
    "units": "units that have failed, and services that were restarted too often",
    "ready": "servers that do not answer, or answer that they cannot work",
    "nodes": "nodes that have been silent for too long",
    "disk": "file systems that are nearly full",
    "clock": "a clock that nothing keeps right",
    "configuration": "configuration files with mistakes",
    "outbox": "mail and alerts that cannot be delivered",
    "certificates": "certificates that end soon, or have ended",
}

# The servers' own sockets in the file system: which unit listens, and where.
SOCKETS = {
    "sonar-infiltrate-local.socket": Path("/run/sonar/infiltrate.socket"),
    "sonar-sonalyzed-local.socket": Path("/run/sonar/sonalyzed.socket"),
}
_LISTENERS = ("sonar-infiltrate.socket", "sonar-infiltrate-local.socket")
_STUCK_S = 1800


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found, which kinds were looked for, and how often each service has been restarted by itself."""

    troubles: list[Trouble]
    kinds: frozenset[str]
    restarts: dict[str, int]


def find(
    settings: Settings,
    now: int,
    *,
    kinds: Collection[str] = tuple(KINDS),
    restarts_before: Mapping[str, int] | None = None,
    certificates: Sequence[Path] = (),
    listed: Sequence[units.Unit] | None = None,
) -> Findings:
    """Look for trouble of these kinds. A check that cannot be made is itself trouble, and not a reason to stop."""
    troubles: list[Trouble] = []
    done = set()

    def look(kind: str, check: Callable[[], Iterator[Trouble]]) -> None:
        if kind in kinds:
            try:
                troubles.extend(check())
            except (SonarError, OSError) as error:
                troubles.append(Trouble(kind=kind, what="check", text=f"cannot look for {KINDS[kind]}: {error}"))
            else:
                done.add(kind)

    try:
        known = list(listed) if listed is not None else units.show()
    except SonarError as error:
        known = []
        if {"units", "ready"} & set(kinds):
            troubles.append(Trouble(kind="units", what="systemd", text=str(error)))
    look("units", lambda: _units(known, restarts_before or {}, settings.check))
    look("ready", lambda: _ready(known))
    look("nodes", lambda: _nodes(settings, known, now))
    look("disk", lambda: _disk(settings))
    look("clock", lambda: _clock(settings.check))
    look("configuration", lambda: _configuration(settings.paths.clusters))
    look("outbox", lambda: _outbox(settings.paths.outbox, now))
    if certificates:
        look("certificates", lambda: _certificates(certificates, settings.check, now))
    if not known:
        done -= {"units", "ready"}
    return Findings(troubles, frozenset(done), {unit.name: unit.restarts for unit in known if unit.restarts})


def cluster_of(unit: str) -> str:
    """Return the cluster of an instance such as sonar-daily@saga.example.org.service."""
    instance = unit.partition("@")[2]
    return instance.rpartition(".")[0]


def _units(known: Sequence[units.Unit], before: Mapping[str, int], limits: Check) -> Iterator[Trouble]:
    for unit in known:
        if unit.name.startswith("sonar-alert@"):
            continue
        if unit.failed:
            text = f"{unit.name} ({unit.description}) has failed: {unit.result}"
            yield Trouble(kind="units", what=unit.name, text=text, unit=unit.name, cluster=cluster_of(unit.name))
        # A counter that is lower than before began anew: the unit was stopped and started in between.
        lately = unit.restarts - before.get(unit.name, 0)
        lately = unit.restarts if lately < 0 else lately
        if lately > limits.restarts:
            text = f"{unit.name} was restarted {lately} times since the last check: see journalctl -u {unit.name}"
            yield Trouble(kind="units", what=f"{unit.name} restarts", text=text, unit=unit.name)


def _ready(known: Sequence[units.Unit]) -> Iterator[Trouble]:
    active = {unit.name for unit in known if unit.active == "active"}
    for name, path in SOCKETS.items():
        if name not in active:
            continue  # not wanted here, or stopped by hand
        service = name.replace("-local.socket", ".service")
        try:
            status, body = probe.fetch(path, "/ready")
            if status == 404:  # a server that knows no such question
                status, body = probe.fetch(path, "/ping")
        except SonarError as error:
            status, body = 0, str(error)
        if status != 200:
            reason = (body.strip().splitlines() or ["no reason given"])[0][:300]
            text = f"{service} is not ready: {f'{status} ' if status else ''}{reason}"
            yield Trouble(kind="ready", what=service, text=text, unit=service)


def _nodes(settings: Settings, known: Sequence[units.Unit], now: int) -> Iterator[Trouble]:
    clusters = Clusters(settings.paths.data, settings.paths.clusters)
    if not settings.paths.data.is_dir():
        return
    listening_s = max((unit.active_s or 0 for unit in known if unit.name in _LISTENERS), default=None)
    for name in clusters.names():
        try:
            limit = clusters.describe(name).usual_interval_s * settings.check.silent_after
        except SonarError:
            continue  # told by the check of the configuration
        if listening_s is not None and listening_s < limit:
            continue  # nobody could reach us for so long
        yield from _silent(settings.paths.data / name, name, limit, settings.check.forget_after, now)


def _silent(tree: Path, cluster: ClusterName, limit: int, forget_after: int, now: int) -> Iterator[Trouble]:
    for node, at in sorted(arrivals_of(tree, now, forget_after).last.items()):
        if limit < now - at <= forget_after:
            yield Trouble(
                kind="nodes",
                what=f"{cluster}/{node}",
                text=f"{node} of {cluster} has been silent for longer than {limit} s",
                cluster=cluster,
                node=node,
            )


def _disk(settings: Settings) -> Iterator[Trouble]:
    seen = set()
    for path in (settings.paths.data, settings.paths.reports, settings.paths.outbox):
        if isinstance(path, ObjectPath):
            continue
        existing = next(one for one in (path, *path.parents) if one.exists())
        device = existing.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        status = os.statvfs(existing)
        for what, free, total in (
            ("space", status.f_bavail, status.f_blocks),
            ("inodes", status.f_favail, status.f_files),
        ):
            if total and free * 100 < total * settings.check.free_space:
                text = f"the file system of '{existing}' has {free * 100 / total:.1f} % of its {what} free"
                yield Trouble(kind="disk", what=f"{existing} {what}", text=text)


def _clock(limits: Check) -> Iterator[Trouble]:
    if not limits.require_clock_sync:
        return
    try:
        done = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SonarError(f"timedatectl: {error}") from None
    if done.stdout.strip() == "no":
        text = "the clock is not kept right: no time synchronisation (see timedatectl status); or RequireClockSync=no"
        yield Trouble(kind="clock", what="sync", text=text)


def _configuration(directory: Path) -> Iterator[Trouble]:
    is_well = True
    for name in described_in(directory, strict=False):
        try:
            Clusters(directory, directory).describe(name)
        except SonarError as error:
            is_well = False
            yield Trouble(kind="configuration", what=name, text=str(error), cluster=name)
    try:
        described_in(directory)
        if is_well:
            aliases_of(directory)
    except SonarError as error:
        yield Trouble(kind="configuration", what="clusters", text=str(error))


def _outbox(outbox: Path, now: int) -> Iterator[Trouble]:
    stuck = [path for path in waiting(outbox) if now - path.stat().st_mtime > _STUCK_S]
    if stuck:
        text = f"{len(stuck)} mails or alerts in '{outbox}' have waited for more than {_STUCK_S // 60} min"
        yield Trouble(kind="outbox", what="stuck", text=text)


def _certificates(paths: Sequence[Path], limits: Check, now: int) -> Iterator[Trouble]:
    """Give what ends soon: within the days that are set, 7 and 1, each of which is another trouble and so told once."""
    from cryptography import x509

    for path in paths:
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise SonarError(f"cannot read '{path}': {error.strerror}") from None
        except ValueError as error:
            yield Trouble(kind="certificates", what=f"{path.name} unreadable", text=f"{path.name}: {error}")
            continue
        for one in found:
            name = f"{path.name} ({one.subject.rfc4514_string() or one.serial_number})"
            ends = int(one.not_valid_after_utc.timestamp())
            if ends <= now:
                text = f"the certificate {name} ended on {iso_text(ends)}: clients refuse the server"
                yield Trouble(kind="certificates", what=f"{name} ended", text=text)
            elif passed := [days for days in (limits.certificate_days, 7, 1) if ends - now < days * DAY]:
                text = f"the certificate {name} ends on {iso_text(ends)}, in {(ends - now) // DAY} days"
                yield Trouble(kind="certificates", what=f"{name} ends within {min(passed)} days", text=text)

"""Clusters that come and go: one call for description, identity, directory and timers, each step safe to do again."""

import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sonar import durable
from sonar.admin import units
from sonar.admin.arrivals import arrivals_of
from sonar.config import values
from sonar.config.clusters import Clusters, aliases_of
from sonar.config.description import read_description
from sonar.config.settings import Settings
from sonar.errors import SonarError
from sonar.log import Event, about
from sonar.names import ClusterName, cluster_name

__all__ = ["Finding", "Order", "Place", "add", "examine", "remove"]

_log = logging.getLogger(__name__)

_TARGET = "sonar-cluster@{}.target"
_INGEST = "sonar-infiltrate.service"
_PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The cluster that is to be added, as the command line has it; sizes and spans as they are written."""

    name: str
    title: str = ""
    aliases: Sequence[str] = ()
    interval: str = ""
    features: Sequence[str] = ()
    nodes: Sequence[str] = ()
    cores: int = 0
    memory: str = ""
    gpus: int = 0
    gpu_memory: str = ""
    recipients: Sequence[str] = ()
    password: str | None = None  # None: one is made


@dataclass(frozen=True, slots=True)
class Place:
    """Where an installation has what a cluster needs; `passwords` is None where uploads are not to be allowed."""

    settings: Settings
    passwords: Path | None
    start: bool = True  # whether the service manager is to do its part

    @property
    def clusters(self) -> Clusters:
        """The clusters of the installation."""
        return Clusters(self.settings.paths.data, self.settings.paths.clusters)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be with a cluster, and what mends it."""

    text: str
    mend: str = field(default="")


def add(place: Place, order: Order) -> str | None:
    """Add a cluster and return the password of its uploads, if one was made or given; raise SonarError.

    Nothing is left half done that a second call would stumble over: what is there already is kept.
    """
    name = cluster_name(order.name)
    path = place.settings.paths.clusters / f"{name}.conf"
    if path.exists():
        raise SonarError(f"the cluster {name} is described already: '{path}'")
    known = place.clusters.aliases()
    for alias in (name, *order.aliases):
        if known.get(cluster_name(alias), name) != name:
            raise SonarError(f"{alias!r} is an alias of {known[cluster_name(alias)]} already")
    _write_checked(path, _description(order))
    password = None
    if place.passwords is not None:
        password = order.password or secrets.token_urlsafe(_PASSWORD_BYTES)
        _put_identity(place.passwords, name, password)
    _make_directory(place.settings.paths.data, name)
    if place.start:
        units.systemctl("enable", "--now", _TARGET.format(name))
        units.take_into_use(_INGEST)
    _log.info("cluster %s added", name, extra=about(Event.CLUSTER_ADDED, SONAR_CLUSTER=name))
    return password


def remove(place: Place, text: str) -> tuple[ClusterName, list[str]]:
    """Remove a cluster and return its name and what was done. Its data stay, and its description is set aside."""
    name = place.clusters.aliases().get(cluster_name(text), cluster_name(text))
    done = []
    if place.start:
        units.systemctl("disable", "--now", _TARGET.format(name))
        done.append("its reports are not made any more")
    left = _drop_identity(place.passwords, name) if place.passwords is not None else None
    if left is not None:
        if place.start:
            units.take_into_use(_INGEST)
        done.append("its nodes cannot upload any more")
    if left == 0:
        done.append(f"nobody is left in '{place.passwords}': infiltrate runs on, and refuses all uploads")
    for path in (place.settings.paths.clusters / f"{name}.conf", place.settings.paths.clusters / f"{name}-config.json"):
        if path.exists():
            path.replace(path.with_name(f"{path.name}.removed"))
            done.append(f"its description is now '{path}.removed'")
    tree = place.settings.paths.data / name
    if tree.exists():
        done.append(f"its data stay in '{tree}'")
    if not done:
        raise SonarError(f"there is no cluster {text[:80]!r}")
    _log.info("cluster %s removed", name, extra=about(Event.CLUSTER_REMOVED, SONAR_CLUSTER=name))
    return name, done


def examine(place: Place, name: ClusterName, now: int) -> list[Finding]:
    """Return what is not as it should be with a cluster."""
    clusters, settings = place.clusters, place.settings
    try:
        described = clusters.describe(name)
        aliases_of(settings.paths.clusters)
    except SonarError as error:
        return [Finding(str(error), "mend the file; sonar-cluster(5) has the format")]
    found = []
    if described.source is None:
        found.append(Finding("it has no description", f"sonarctl cluster add {name}"))
    arrivals = arrivals_of(settings.paths.data / name, now, settings.check.forget_after)
    known = {node.partition(".")[0]: node for node in described.nodes}
    sending = {node.partition(".")[0]: node for node in arrivals.last}
    limit = described.usual_interval_s * settings.check.silent_after
    quiet = [node for node, at in arrivals.last.items() if now - at > limit]
    for nodes, text, mend in (
        ([sending[short] for short in sending if short not in known] if known else [],
         "send data and are not described", "add them to a [Node] of its description"),
        ([known[short] for short in known if short not in sending],
         "are described and have sent nothing lately", "start sonar-node.target there, or remove them"),
        (quiet, f"have been silent for more than {values.span_text(limit)}", "look at sonar-exfiltrate.service there"),
    ):  # fmt: skip
        if nodes:
            found.append(Finding(f"{len(nodes)} nodes {text}: {_listed(nodes)}", mend))
    if not arrivals.last:
        found.append(Finding("no data have arrived lately", "see what `sonarctl cluster add` said its nodes need"))
    if place.passwords is not None and not _has_identity(place.passwords, name):
        found.append(Finding("its nodes cannot upload with a password", f"sonarctl passwd add {name} --generate"))
    if place.start:
        target = {unit.name: unit for unit in units.show([_TARGET.format(name)])}.get(_TARGET.format(name))
        if target is None or target.active != "active":
            found.append(
                Finding("its reports are not made by timers", f"systemctl enable --now {_TARGET.format(name)}")
            )  # fmt: skip
    return found


def _listed(nodes: Sequence[str]) -> str:
    from sonar import hosts

    return hosts.compress(nodes)


def _description(order: Order) -> str:
    lines = [f"# {order.name}: see sonar-cluster(5). Written by `sonarctl cluster add`.", "[Cluster]"]
    texts = {
        "Title": order.title,
        "Aliases": " ".join(order.aliases),
        "SampleInterval": order.interval,
        "Features": " ".join(order.features),
    }
    lines += [f"{key}={value}" for key, value in texts.items() if value]
    if order.nodes:
        lines += ["", "[Node]", f"Hosts={' '.join(order.nodes)}", f"Cores={order.cores or ''}"]
        lines += [f"Memory={order.memory}"]
        lines += [f"GPUs={order.gpus}", f"GPUMemory={order.gpu_memory or 0}"] if order.gpus else []
    if order.recipients:
        to = " ".join(order.recipients)
        lines += ["", "[Recipients]", f"Notices={to}", f"Weekly={to}", f"Monthly={to}"]
    return "\n".join(lines) + "\n"


def _write_checked(path: Path, text: str) -> None:
    """Put a description in its place, after it has been read as such: nobody sees one that is bad or half written."""
    try:
        with durable.replacing(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
            scratch.chmod(0o644)
            problems = _problems_of(scratch, path)
            if problems:
                raise SonarError("\n".join(problems))
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from None


def _problems_of(scratch: Path, path: Path) -> list[str]:
    from sonar.errors import ConfigError

    try:
        read_description(path, [scratch])
    except ConfigError as error:
        return [problem.replace(str(scratch), path.name) for problem in error.problems]
    return []


def _put_identity(path: Path, name: ClusterName, password: str) -> None:
    from sonar.serve.passwords import Hash, Identity, PasswordFile

    with PasswordFile.changing(path) as passwords:
        passwords.put(Identity(name), Hash.of(password))


def _drop_identity(path: Path, name: ClusterName) -> int | None:
    """Remove an identity and return how many are left; None if it was not there."""
    from sonar.serve.passwords import PasswordFile

    if not path.exists():
        return None
    with PasswordFile.changing(path) as passwords:
        found = passwords.find(name) is not None
        passwords.remove(name)
        return len(passwords.entries()) if found else None


def _has_identity(path: Path, name: ClusterName) -> bool:
    from sonar.serve.passwords import PasswordFile

    if not os.access(path, os.R_OK):
        return True  # not ours to see; doctor, run as root, tells
    return any(
        name in entry.identity.clusters or entry.identity.name == name for entry in PasswordFile.read(path).entries()
    )


def _make_directory(data: Path, name: ClusterName) -> None:
    """Make the cluster's directory; it belongs to whom the root of all data belongs to."""
    path = data / name
    try:
        path.mkdir(mode=0o750, exist_ok=True)
        owner = data.stat()
        if (owner.st_uid, owner.st_gid) != (os.getuid(), os.getgid()):
            shutil.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise SonarError(f"cannot make '{path}': {error.strerror}") from None

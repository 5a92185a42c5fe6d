"""What is wrong with an installation and how to mend it, and which settings are in force.

Each examination is a function that yields what it finds; to add one, write it and add it to `EXAMINATIONS`. What needs
rights that the caller has not is said, and not guessed.
"""

import argparse
import grp
import json
import pwd
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sonar.admin import units
from sonar.admin.membership import Place, examine
from sonar.config.clusters import Clusters, aliases_of, described_in
from sonar.config.settings import Settings, files_read, load_settings, load_with_origins, table
from sonar.errors import ConfigError, SonarError
from sonar.paths import CONFIG
from sonar.places import ObjectPath
from sonar.times import DAY, iso_text, present

__all__ = ["EXAMINATIONS", "Finding", "print_doctor", "print_settings"]

_OLDEST_SYSTEMD = 252
_USER = "sonar-server"
_OLD_JOBS = re.compile(
    r"\b(sonalyze|naicreport|infiltrate|exfiltrate|start-infiltrate|start-sonalyzed|webload|cpuhog|deadweight|"
    r"sonar(?:-runner)?\.sh|sonar\s+(?:ps|sysinfo|slurm|daemon))\b"
)
_WANTED = (
    "sonar.target",
    "sonar-infiltrate.socket",
    "sonar-infiltrate.service",
    "sonar-sonalyzed.socket",
    "sonar-sonalyzed.service",
    "sonar-check.timer",
    "sonar-cert-expiry.timer",
    "sonar-deliver.path",
)
_CRONTABS = ("/etc/crontab", "/etc/cron.d/*", "/var/spool/cron/crontabs/*", "/var/spool/cron/*")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: `level` is error or warning; `mend` says how to mend it."""

    level: str
    text: str
    mend: str = ""


def print_doctor(args: argparse.Namespace) -> int:
    """Print what is wrong; return 1 if any of it is an error."""
    found = []
    try:
        settings = load_settings()
    except ConfigError as error:
        found = [Finding("error", problem, "sonar.conf(5) has the format") for problem in error.problems]
        settings = Settings()
    for examination in EXAMINATIONS:
        try:
            found += examination(settings)
        except PermissionError as error:
            text = f"cannot look at '{error.filename}': {error.strerror}"
            found.append(Finding("warning", text, "run `sonarctl doctor` as root"))
        except (SonarError, OSError) as error:
            found.append(Finding("error", str(error)))
    if args.json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=1))
    for one in () if args.json else found:
        print(f"{one.level}: {one.text}")
        if one.mend:
            print(f"    mend: {one.mend}")
    if not found and not args.json:
        print("All is well.")
    return 1 if any(one.level == "error" for one in found) else 0


def print_settings(args: argparse.Namespace) -> int:
    """Print all settings with where each comes from; return 0."""
    files = files_read()
    settings, origins = load_with_origins(files)
    rows = []
    for one in table():
        value = getattr(getattr(settings, one.section.lower()), one.name)
        entry = origins.get((one.section, one.key))
        origin = f"{entry.path}:{entry.line}" if entry else "default"
        rows.append({"section": one.section, "key": one.key, "value": one.kind.text(value), "origin": origin})
    if args.json:
        print(json.dumps({"files": list(map(str, files)), "settings": rows}, ensure_ascii=False, indent=1))
        return 0
    print(f"# read: {', '.join(map(str, files)) or 'no file'}")
    section = ""
    width = max(len(f"{row['key']}={row['value']}") for row in rows)
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            print(f"\n[{section}]")
        print(f"{row['key'] + '=' + row['value']:{width}}  # {row['origin']}")
    return 0


def _interpreter(_settings: Settings) -> Iterator[Finding]:
    if sys.base_prefix.startswith(("/root/", "/home/")):
        text = f"the interpreter lies in a home, which services cannot read: {sys.base_prefix}"
        yield Finding("error", text, "make install PYTHON=/usr/bin/python3")


def _service_manager(_settings: Settings) -> Iterator[Finding]:
    if not Path("/run/systemd/system").is_dir():
        yield Finding("error", "this machine was not booted with systemd")
        return
    match = re.search(r"systemd (\d+)", units.systemctl("--version"))
    if match and int(match[1]) < _OLDEST_SYSTEMD:
        yield Finding("error", f"systemd is version {match[1]}, {_OLDEST_SYSTEMD} is the oldest that works")
    if not Path("/var/log/journal").is_dir():
        text = "the journal is not kept over a reboot"
        yield Finding("warning", text, "mkdir /var/log/journal && systemctl restart systemd-journald")


def _accounts(settings: Settings) -> Iterator[Finding]:
    try:
        user, group = pwd.getpwnam(_USER).pw_uid, grp.getgrnam(_USER).gr_gid
    except KeyError:
        yield Finding("error", f"there is no user or group {_USER}", "systemd-sysusers")
        return
    paths = settings.paths
    for path in (paths.data, paths.reports, paths.state, paths.outbox):
        if isinstance(path, ObjectPath):
            continue
        if not path.is_dir():
            yield Finding("error", f"there is no directory '{path}'", "systemd-tmpfiles --create sonar-server.conf")
            continue
        status = path.stat()
        if status.st_uid != user:
            yield Finding("error", f"'{path}' does not belong to {_USER}", f"chown -R {_USER}:{_USER} {path}")
        elif status.st_gid != group or status.st_mode & 0o007:
            mend = f"chgrp -R {_USER} {path} && chmod o-rwx {path}"
            yield Finding("warning", f"others than {_USER} may read '{path}', which shows what users do", mend)


def _passwords(_settings: Settings) -> Iterator[Finding]:
    from sonar.serve.passwords import read_entries

    for name, mend in (
        ("ingest-passwords", "sonarctl cluster add NAME"),
        ("query-passwords", "sonarctl passwd add NAME --query"),
    ):
        path = CONFIG / name
        if not path.exists():
            yield Finding("error", f"there is no '{path}': nobody may talk to the server, which does not start", mend)
            continue
        entries = read_entries(path)
        if not entries:
            yield Finding("warning", f"'{path}' has no users: nobody is let in", mend)
        plain = [entry.identity.name for entry in entries if isinstance(entry.secret, str)]
        if plain:
            text = f"{len(plain)} passwords in '{path}' are in plain text"
            yield Finding("warning", text, f"sonarctl passwd convert --file {path}")


def _certificate(settings: Settings) -> Iterator[Finding]:
    from cryptography import x509

    directory = CONFIG / "tls"
    path, key = directory / "server.crt", directory / "server.key"
    if not directory.is_dir():
        yield Finding("error", f"there is no directory '{directory}'", "systemd-tmpfiles --create sonar-server.conf")
        return
    directory.joinpath("server.crt").exists()  # PermissionError, if it is not ours to see
    for one in (path, key):
        if not one.exists():
            mend = "sonarctl cert ca && sonarctl cert server HOST, or put your own there"
            yield Finding("error", f"there is no '{one}'", mend)
    if not (path.exists() and key.exists()):
        return
    if key.stat().st_mode & 0o077:
        yield Finding("error", f"'{key}' is open to others", f"chmod 600 {key}")
    try:
        first = x509.load_pem_x509_certificates(path.read_bytes())[0]
        _fits(path, key)
    except (ValueError, SonarError) as error:
        yield Finding("error", f"'{path}' and '{key}': {error}", "sonarctl cert server HOST")
        return
    ends = int(first.not_valid_after_utc.timestamp())
    if ends < present():
        yield Finding("error", f"'{path}' ended on {iso_text(ends)}", "sonarctl cert renew server")
    elif ends < present() + settings.check.certificate_days * DAY:
        yield Finding("warning", f"'{path}' ends on {iso_text(ends)}", "sonarctl cert renew server")


def _fits(path: Path, key: Path) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password=lambda: b"")
    except ssl.SSLError as error:
        raise SonarError(f"key and certificate do not go together ({error.reason})") from None


def _units(_settings: Settings) -> Iterator[Finding]:
    known = {unit.name: unit for unit in units.show()}
    target = known.get("sonar.target")
    if target is None:
        yield Finding("error", "the units are not installed, or not read", "make install, systemctl daemon-reload")
        return
    if target.file_state != "enabled":
        text = "sonar.target is not enabled: nothing starts at boot"
        yield Finding(
            "warning", text, "systemctl preset-all --preset-mode=enable-only, or systemctl enable sonar.target"
        )
    for name in _WANTED:
        unit = known.get(name)
        if unit is None or unit.active != "active":
            state = unit.active if unit else "not loaded"
            yield Finding("error", f"{name} is {state}", f"systemctl enable --now {name}; systemctl status {name}")
    for unit in known.values():
        if unit.failed:
            yield Finding("error", f"{unit.name} has failed: {unit.result}", f"journalctl -x -u {unit.name}")


def _clusters(settings: Settings) -> Iterator[Finding]:
    directory = settings.paths.clusters
    try:
        aliases_of(directory)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("error", problem, "sonar-cluster(5) has the format")
    clusters = Clusters(settings.paths.data, directory)
    names = {*described_in(directory, strict=False), *(clusters.names() if settings.paths.data.is_dir() else ())}
    if not names:
        yield Finding("warning", "there is no cluster yet", "sonarctl cluster add NAME")
    start = Path("/run/systemd/system").is_dir()
    for name in sorted(names):
        for one in examine(Place(settings, CONFIG / "ingest-passwords", start), name, present()):
            yield Finding("warning", f"{name}: {one.text}", one.mend)


def _mail(settings: Settings) -> Iterator[Finding]:
    alert = settings.alert
    if not (alert.mail_to or alert.webhook or alert.command):
        mend = "MailTo=, Webhook= or Command= in [Alert] of /etc/sonar/sonar.conf.d/site.conf"
        yield Finding("warning", "alerts go nowhere but to the journal", mend)
    programs = [("Sendmail", alert.sendmail)] if alert.mail_to or settings.report.recipients else []
    for key, command in [*programs, *([("Command", alert.command)] if alert.command else [])]:
        if not command or shutil.which(command[0]) is None:
            yield Finding("error", f"{key}= of [Alert]: there is no program '{command[0] if command else ''}'")
    given_up = sorted(settings.paths.outbox.glob("*.undeliverable")) if settings.paths.outbox.is_dir() else []
    if given_up:
        text = f"{len(given_up)} mails or alerts could not be delivered for a week: '{given_up[0]}'"
        yield Finding("warning", text, "read them, then remove them")


def _old_jobs(_settings: Settings) -> Iterator[Finding]:
    for pattern in _CRONTABS:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            if not path.is_file():
                continue
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if not line.lstrip().startswith("#") and _OLD_JOBS.search(line):
                    text = f"{path}:{number}: an old job runs beside the timers: {line.strip()[:80]}"
                    yield Finding("warning", text, "remove the line; sonar-migrate(7) says which timer does its work")


def _node(_settings: Settings) -> Iterator[Finding]:
    known = {unit.name: unit for unit in units.show(["sonar-node.target"])}
    target = known.get("sonar-node.target")
    if target is None or (target.active != "active" and target.file_state != "enabled"):
        return
    path, password = CONFIG / "node.env", CONFIG / "upload-auth"
    text = path.read_text() if path.exists() else ""
    for name in ("SONAR_CLUSTER", "SONAR_URL"):
        if not re.search(rf"^\s*{name}=\S", text, re.MULTILINE):
            yield Finding("error", f"'{path}' does not say {name}=", "see node.env in the examples")
    if not password.exists():
        yield Finding("error", f"there is no '{password}'", "`sonarctl cluster add` on the server said what goes there")
    elif password.stat().st_mode & 0o077:
        yield Finding("error", f"'{password}' is open to others", f"chmod 600 {password}")


EXAMINATIONS: Sequence[Callable[[Settings], Iterator[Finding]]] = (
    _interpreter,
    _service_manager,
    _accounts,
    _passwords,
    _certificate,
    _units,
    _clusters,
    _mail,
    _old_jobs,
    _node,
)

"""When certificates end: what a file holds, and who is to be told in time.

Each threshold (30, 7 and 1 days ahead) is told once for a certificate; a certificate that has ended is told each time.
What was told is kept in a small JSON file, `{"FINGERPRINT": DAYS}`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import durable
from sonar.errors import SonarError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["THRESHOLDS_DAYS", "Certificate", "Notice", "certificates_in", "due_notices", "key_fits"]

THRESHOLDS_DAYS = (30, 7, 1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is to be known about a certificate."""

    path: Path
    kind: str  # authority, server, client, or both of the latter
    subject: str  # common name
    names: tuple[str, ...]  # what it is for: hosts, addresses, clusters
    issuer: str
    ends: datetime
    serial: int
    fingerprint: str  # SHA-256, hexadecimal

    def days_left(self, now: datetime) -> int:
        """Return the whole days that are left; negative if it has ended."""
        return (self.ends - now).days


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told of a certificate now."""

    certificate: Certificate
    text: str


def certificates_in(path: Path) -> tuple[Certificate, ...]:
    """Return the certificates of a PEM file in their order; raise SonarError if it has none."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    except ValueError as error:
        raise SonarError(f"'{path}' has no certificate that can be read: {error}") from None
    return tuple(_facts(path, certificate) for certificate in found)


def key_fits(certificate: Path, key: Path) -> bool:
    """Return whether the key is the one of the first certificate; raise SonarError if one cannot be read."""
    import ssl

    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError):
        return False
    return True


def due_notices(
    certificates: Iterable[Certificate], state: Path, now: datetime, thresholds: Sequence[int] = THRESHOLDS_DAYS
) -> list[Notice]:
    """Return what is to be told, and note in `state` that it was; raise SonarError if that cannot be kept."""
    told = _read_state(state)
    keep: dict[str, int] = {}
    due = []
    for certificate in {one.fingerprint: one for one in certificates}.values():
        left = certificate.days_left(now)
        passed = min((days for days in thresholds if left < days), default=None)
        if passed is None:
            continue
        before = told.get(certificate.fingerprint)
        keep[certificate.fingerprint] = min(passed, before) if before is not None else passed
        if certificate.ends <= now:
            due.append(Notice(certificate, f"ended on {certificate.ends:%Y-%m-%d %H:%M} UTC"))
        elif before is None or passed < before:
            when = "in less than a day" if left < 1 else f"in {left} days"
            due.append(Notice(certificate, f"ends {when}, on {certificate.ends:%Y-%m-%d %H:%M} UTC"))
    if keep != told:
        _write_state(state, keep)
    return due


def _facts(path: Path, certificate: "x509.Certificate") -> Certificate:
    from cryptography.hazmat.primitives import hashes

    return Certificate(
        path=path,
        kind=_kind(certificate),
        subject=_common_name(certificate.subject),
        names=_names(certificate),
        issuer=_common_name(certificate.issuer),
        ends=certificate.not_valid_after_utc,
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _kind(certificate: "x509.Certificate") -> str:
    from cryptography import x509

    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
    except x509.ExtensionNotFound:
        pass
    try:
        uses = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return "server,client"
    known = {x509.oid.ExtendedKeyUsageOID.SERVER_AUTH: "server", x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
    return ",".join(name for use, name in known.items() if use in uses) or "other"


def _names(certificate: "x509.Certificate") -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _common_name(name: "x509.Name") -> str:
    from cryptography import x509

    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _read_state(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    except ValueError:
        return {}  # torn: to tell once more does no harm
    if not isinstance(content, dict):
        return {}
    return {str(key): days for key, days in content.items() if isinstance(days, int)}


def _write_state(path: Path, told: dict[str, int]) -> None:
    try:
        durable.put(path, json.dumps(told, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from None

"""A private certificate authority for sites without one: its own certificate, and server certificates it signs.

Keys are ECDSA on P-256 (RFC 8422; small, fast to sign, understood by every client since OpenSSL 1.0). Files are PEM:
`ca.crt`, `ca.key`, `NAME.crt` (the server's certificate, then the authority's) and `NAME.key`; keys have mode 0600.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CA_DAYS", "SERVER_DAYS", "make_authority", "make_server_certificate"]

CA_DAYS = 3650
SERVER_DAYS = 397  # what browsers accept at most of a public authority; a good habit for a private one

# Clocks of nodes run behind: a certificate is valid from an hour before it was made.
_CLOCK_SKEW = timedelta(hours=1)


def make_authority(directory: Path, name: str) -> Path:
    """Make the authority `name` in `directory` and return the path of `ca.crt`; never replace an authority."""
    from cryptography import x509

    if (directory / "ca.key").exists():
        raise SonarError(f"{directory / 'ca.key'} exists: a new authority would make every issued certificate useless")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    _write(directory / "ca.key", _key_pem(key), 0o600)
    _write(directory / "ca.crt", _pem(builder, key), 0o644)
    return directory / "ca.crt"


def make_server_certificate(directory: Path, name: str, hosts: Sequence[str]) -> tuple[Path, Path]:
    """Sign a certificate for `hosts` (names and IP addresses) by the authority in `directory`.

    Return the paths of `NAME.crt` and `NAME.key`. A certificate of this name that exists is replaced, by rename.
    """
    from cryptography import x509

    if not hosts:
        raise SonarError("a server certificate needs at least one host name or address")
    authority, authority_key = _load_authority(directory)
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    builder = (
        _builder(subject, authority.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    chain = _pem(builder, authority_key) + (directory / "ca.crt").read_bytes()
    _write(directory / f"{name}.key", _key_pem(key), 0o600)
    _write(directory / f"{name}.crt", chain, 0o644)
    return directory / f"{name}.crt", directory / f"{name}.key"


def _load_authority(directory: Path) -> "tuple[x509.Certificate, EllipticCurvePrivateKey]":
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except OSError as error:
        raise SonarError(f"no certificate authority in '{directory}': {error.strerror} ({error.filename})") from error
    except ValueError as error:
        raise SonarError(f"the certificate authority in '{directory}' cannot be read: {error}") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise SonarError(f"'{directory / 'ca.key'}' is not an elliptic-curve key")
    return authority, key


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: "x509.Name", issuer: "x509.Name", key: "EllipticCurvePrivateKey", days: int
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(builder: "x509.CertificateBuilder", signer: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put the file in place by rename; it never exists with a wider mode or half its content."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)

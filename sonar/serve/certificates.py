"""A private certificate authority for sites without one: its own certificate, and those it signs.

Keys are ECDSA on P-256 (RFC 8422; small, fast to sign, understood by every client since OpenSSL 1.0). Files are PEM:
`ca.crt`, `ca.key`, and for each certificate `NAME.crt` (the authority's behind it) and `NAME.key`; keys have mode 0600.
`ca.crl` lists what was revoked, and `clients.pem` holds the authority and that list: what a server needs to check the
certificates of clients.
"""

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import durable
from sonar.errors import SonarError
from sonar.names import cluster_name

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = [
    "CA_DAYS",
    "DAYS",
    "make_authority",
    "make_client_certificate",
    "make_server_certificate",
    "renew_authority",
    "renew_certificate",
    "revoke_certificate",
]

CA_DAYS = 3650
DAYS = 397  # what browsers accept at most of a public authority; a good habit for a private one

# Clocks of nodes run behind: a certificate is valid from an hour before it was made.
_CLOCK_SKEW = timedelta(hours=1)


def make_authority(directory: Path, name: str) -> Path:
    """Make the authority `name` in `directory` and return the path of `ca.crt`; never replace an authority."""
    from cryptography import x509

    if (directory / "ca.key").exists():
        raise SonarError(f"{directory / 'ca.key'} exists: a new authority would make every issued certificate useless")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SonarError(f"cannot make '{directory}': {error.strerror}") from None
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = _authority(subject, key)
    _write(directory / "ca.key", _key_pem(key), 0o600)
    _write(directory / "ca.crt", certificate, 0o644)
    _write_revoked(directory, ())
    return directory / "ca.crt"


def renew_authority(directory: Path) -> Path:
    """Make the authority's certificate anew for its old key and name, so that all it has signed stays good."""
    authority, key = _load_authority(directory)
    _write(directory / "ca.crt", _authority(authority.subject, key), 0o644)
    _write_revoked(directory, _revoked(directory))
    return directory / "ca.crt"


def make_server_certificate(directory: Path, name: str, hosts: Sequence[str]) -> tuple[Path, Path]:
    """Sign a certificate for a server that is called `hosts` (names and IP addresses).

    Return the paths of `NAME.crt` and `NAME.key`. A certificate of this name that exists is replaced, by rename.
    """
    from cryptography import x509

    if not hosts:
        raise SonarError("a server certificate needs at least one host name or address")
    names = x509.SubjectAlternativeName([_alternative_name(host) for host in hosts])
    return _issue(directory, name, hosts[0], names, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH)


def make_client_certificate(directory: Path, name: str, clusters: Sequence[str]) -> tuple[Path, Path]:
    """Sign a certificate for nodes that upload for `clusters`; as `make_server_certificate` otherwise."""
    from cryptography import x509

    if not clusters:
        raise SonarError("a client certificate needs at least one cluster")
    names = [cluster_name(cluster) for cluster in clusters]
    alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
    return _issue(directory, name, names[0], alternatives, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH)


def renew_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Sign a certificate with a new key, for the same names and use as `NAME.crt`; the old one stays good."""
    from cryptography import x509

    old = _load(directory / f"{name}.crt")
    authority, _ = _load_authority(directory)
    try:
        old.verify_directly_issued_by(authority)
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (use,) = old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except Exception as error:  # cryptography has no common class for what can be wrong here
        raise SonarError(f"'{directory / name}.crt' was not made by the authority in '{directory}'") from error
    (common_name,) = old.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return _issue(directory, name, str(common_name.value), names, use)


def revoke_certificate(directory: Path, name: str) -> Path:
    """Put a certificate on the list of those that are good no more; return the path of `clients.pem`."""
    serial = _load(directory / f"{name}.crt").serial_number
    listed = _revoked(directory)
    if serial not in {one.serial_number for one in listed}:
        listed = (*listed, _revocation(serial))
    return _write_revoked(directory, listed)


def _authority(subject: "x509.Name", key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography import x509

    builder = (
        _builder(subject, subject, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return _pem(builder, key)


def _issue(
    directory: Path,
    name: str,
    common_name: str,
    alternatives: "x509.SubjectAlternativeName",
    use: "x509.ObjectIdentifier",
) -> tuple[Path, Path]:
    from cryptography import x509

    if name == "ca" or Path(name).name != name:
        raise SonarError(f"a certificate cannot be called {name!r}")
    authority, authority_key = _load_authority(directory)
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name[:64])])  # RFC 5280's bound
    builder = (
        _builder(subject, authority.subject, key, DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    chain = _pem(builder, authority_key) + (directory / "ca.crt").read_bytes()
    _write(directory / f"{name}.key", _key_pem(key), 0o600)
    _write(directory / f"{name}.crt", chain, 0o644)
    return directory / f"{name}.crt", directory / f"{name}.key"


def _revoked(directory: Path) -> "tuple[x509.RevokedCertificate, ...]":
    from cryptography import x509

    with suppress(FileNotFoundError):
        return tuple(x509.load_pem_x509_crl((directory / "ca.crl").read_bytes()))
    return ()


def _revocation(serial: int) -> "x509.RevokedCertificate":
    from cryptography import x509

    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.now(UTC)).build()


def _write_revoked(directory: Path, revoked: "Sequence[x509.RevokedCertificate]") -> Path:
    """Write the list, valid for as long as the authority is, and the file for servers."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    authority, key = _load_authority(directory)
    builder = x509.CertificateRevocationListBuilder(
        authority.subject, datetime.now(UTC) - _CLOCK_SKEW, authority.not_valid_after_utc
    )
    for one in revoked:
        builder = builder.add_revoked_certificate(one)
    crl = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    _write(directory / "ca.crl", crl, 0o644)
    _write(directory / "clients.pem", (directory / "ca.crt").read_bytes() + crl, 0o644)
    return directory / "clients.pem"


def _load(path: Path) -> "x509.Certificate":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    except ValueError as error:
        raise SonarError(f"'{path}' is no certificate: {error}") from None


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
    try:
        durable.put(path, content, mode=mode)
    except OSError as error:
        raise SonarError(f"cannot write '{path}': {error.strerror}") from None

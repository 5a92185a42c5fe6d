"""The certificate and key of a server, the TLS context made of them, and what a client's certificate says.

TLS is 1.2 or newer. With `client_ca` a client may show a certificate, which must then be signed by one of the
authorities in that file, for use by clients; where the file has a revocation list too (RFC 5280), it must not be on it.
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError, UsageError

if TYPE_CHECKING:
    from asyncio import BaseTransport

__all__ = ["TlsFiles", "client_names", "tls_context"]

_CRL_MARK = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate chain, its key, and the authorities for clients lie, all PEM."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def find(cls, certificate: Path | None, key: Path | None, client_ca: Path | None = None) -> "TlsFiles | None":
        """Return the files given by options, else the credentials `tls-cert`, `tls-key`, `tls-client-ca`, else None."""
        if (certificate is None) != (key is None):
            raise UsageError("--tls-cert and --tls-key go together")
        client_ca = client_ca or _credential("tls-client-ca")
        if certificate is None:
            certificate, key = _credential("tls-cert"), _credential("tls-key")
        if certificate is not None and key is not None:
            return cls(certificate, key, client_ca)
        if client_ca is not None:
            raise UsageError("--tls-client-ca needs --tls-cert and --tls-key")
        return None


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a server's context for TLS 1.2 and newer; raise SonarError if the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # a seventh of a handshake, and clients that come once in minutes do not resume
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files)
    if files.client_ca is not None:
        _check_clients(context, files.client_ca)
    return context


def client_names(transport: "BaseTransport") -> tuple[str, ...]:
    """Return the DNS names in the certificate that the client of a connection has shown; none if it has not."""
    shown = transport.get_extra_info("peercert")
    if not shown:
        return ()
    return tuple(name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS")


def _credential(name: str) -> Path | None:
    """Return the path of what systemd has passed to the service under a name; None if it has not."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, name) if directory else None
    return path if path is not None and path.exists() else None


def _check_clients(context: ssl.SSLContext, path: Path) -> None:
    try:
        has_list = _CRL_MARK in path.read_bytes()
        context.load_verify_locations(path)
    except OSError as error:  # also ssl.SSLError
        raise SonarError(f"cannot use the authorities for clients in '{path}': {error.strerror or error}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    if has_list:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    for path in (files.certificate, files.key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SonarError(f"cannot read '{path}': {error.strerror}") from None
    try:
        # A key with a passphrase must fail, not ask on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise SonarError(f"cannot use certificate '{files.certificate}' with key '{files.key}': {error}") from None

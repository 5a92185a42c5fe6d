"""The certificate and key of a server, and the TLS context made of them."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from sonar.errors import SonarError, UsageError

__all__ = ["TlsFiles", "renew", "tls_context"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate chain and its key lie, both PEM."""

    certificate: Path
    key: Path

    @classmethod
    def find(cls, certificate: Path | None, key: Path | None) -> "TlsFiles | None":
        """Return the files given by options, else the credentials `tls-cert` and `tls-key`, else None."""
        if (certificate is None) != (key is None):
            raise UsageError("--tls-cert and --tls-key go together")
        if certificate is not None and key is not None:
            return cls(certificate, key)
        if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
            passed = cls(Path(directory, "tls-cert"), Path(directory, "tls-key"))
            if passed.certificate.exists() and passed.key.exists():
                return passed
        return None


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a server's context for TLS 1.2 and newer; raise SonarError if the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files)
    return context


def renew(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Make new connections of `context` use what the files hold now; raise SonarError and change nothing if bad."""
    tls_context(files)  # a certificate that does not fit its key would leave half of it in the context
    _load(context, files)


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

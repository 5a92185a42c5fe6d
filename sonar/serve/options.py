"""The options that both servers have: where to listen, with which certificate."""

import argparse
from pathlib import Path

from sonar.errors import UsageError

__all__ = ["add_listening_options", "address"]


def add_listening_options(parser: argparse.ArgumentParser) -> None:
    """Add --listen, --listen-tls, --tls-cert, --tls-key and --port-file."""
    group = parser.add_argument_group("listening, beside the sockets that systemd passes")
    group.add_argument(
        "--listen", type=address, action="append", default=[], metavar="HOST:PORT", help="plain HTTP; for loopback"
    )
    group.add_argument(
        "--listen-tls", type=address, action="append", default=[], metavar="HOST:PORT", help="HTTPS; port 0: any"
    )
    group.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate chain (credential tls-cert)")
    group.add_argument("--tls-key", type=Path, metavar="PEM", help="its key (credential tls-key)")
    group.add_argument("--port-file", type=Path, metavar="FILE", help="write `NAME HOST PORT` lines there when ready")


def address(text: str) -> tuple[str, int]:
    """Return host and port of an option's value."""
    from sonar.serve.sockets import parse_address

    try:
        return parse_address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

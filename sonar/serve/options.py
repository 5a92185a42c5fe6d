"""The command line of a server: options that both have, parsed without importing what serves."""

import argparse
import re
from pathlib import Path

from sonar.errors import UsageError
from sonar.serve.sockets import parse_address

__all__ = ["add_listening_options", "byte_count", "byte_count_or_none", "listen_address"]

_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.ASCII)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_listening_options(parser: argparse.ArgumentParser) -> None:
    """Add --listen, --listen-tls, --tls-cert, --tls-key and --port-file."""
    add = parser.add_argument_group("listening, beside the sockets that systemd passes").add_argument
    add("--listen", type=listen_address, metavar="HOST:PORT", action="append", default=[], help="serve HTTP there")
    add("--listen-tls", type=listen_address, metavar="HOST:PORT", action="append", default=[], help="serve HTTPS there")
    add("--tls-cert", type=Path, metavar="PEM", help="certificate chain (credential tls-cert)")
    add("--tls-key", type=Path, metavar="PEM", help="its key (credential tls-key)")
    add("--port-file", type=Path, metavar="FILE", help="write `NAME HOST PORT` lines there when ready")


def byte_count(text: str) -> int:
    """Return the bytes of a size like `65536`, `64K`, `64M` or `1G`."""
    if not (count := byte_count_or_none(text)):
        raise argparse.ArgumentTypeError(f"bad size {text!r}: want more than 0")
    return count


def byte_count_or_none(text: str) -> int:
    """Return what `byte_count` does, or 0 for `0`."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"bad size {text!r}: want a number, or one with K, M or G")
    return int(match.group(1)) * _FACTORS[match.group(2)]


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[HOST]:PORT` or `PORT`, which means loopback."""
    try:
        return parse_address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

"""Values on the command line of a server, parsed without importing what serves."""

import argparse
import re

from sonar.errors import UsageError
from sonar.serve.sockets import parse_address

__all__ = ["byte_count", "listen_address"]

_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.ASCII)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def byte_count(text: str) -> int:
    """Return the bytes of a size like `65536`, `64K`, `64M` or `1G`."""
    match = _SIZE.fullmatch(text)
    if not match or not int(match.group(1)):
        raise argparse.ArgumentTypeError(f"bad size {text!r}: want a number, or one with K, M or G")
    return int(match.group(1)) * _FACTORS[match.group(2)]


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[HOST]:PORT` or `PORT`, which means loopback."""
    try:
        return parse_address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

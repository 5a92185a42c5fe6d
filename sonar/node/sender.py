"""The program exfiltrate: its options, and which way of delivering they ask for."""

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import __version__, log
from sonar.errors import SonarError, UsageError
from sonar.names import BadNameError, cluster_name
from sonar.node import legacy
from sonar.node.spool import CONTENT_TYPES, DEFAULT_QUOTA, Spool

if TYPE_CHECKING:
    from sonar.node.upload import Server

__all__ = ["main", "parser"]

PATIENCE_S = 1800.0
"""How long --once tries before it leaves the rest for the next run."""

LARGEST_BODY = 64 << 20
"""What infiltrate takes in one post, unless it is told otherwise."""

# Standard input that is longer is cut into posts of about this size, if it consists of lines.
_PIECE = 4 << 20

_log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="exfiltrate",
        allow_abbrev=False,
        description="Deliver samples to the server, keeping them on disk until it has them. See exfiltrate(8).",
    )
    parser.add_argument("--version", action="version", version=f"exfiltrate {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log each delivery")

    group = parser.add_argument_group("where to")
    group.add_argument("--url", required=True, metavar="URL", help="the server, such as https://HOST:8086")
    group.add_argument("--cluster", required=True, metavar="NAME", help="the cluster that the samples are of")
    group.add_argument("--auth-file", type=Path, metavar="FILE", help="USER:PASSWORD, for its owner's eyes only")
    group.add_argument("--ca-cert", type=Path, metavar="PEM", help="certificates that the server's must be signed by")
    group.add_argument("--cert", type=Path, metavar="PEM", help="client certificate")
    group.add_argument("--key", type=Path, metavar="PEM", help="its key, unless it is in the same file")

    group = parser.add_argument_group("what and when")
    group.add_argument("--spool", type=Path, required=True, metavar="DIR", help="directory of what waits for delivery")
    group.add_argument("--quota", type=_size, metavar="SIZE", help="bytes that may wait, such as 64M (256M)")
    group.add_argument(
        "--window", type=_seconds, default=0.0, metavar="SECONDS", help="send at a random moment within so long (0)"
    )
    group.add_argument("--once", action="store_true", help="deliver what is there, then end")
    group.add_argument(
        "--patience", type=_seconds, default=PATIENCE_S, metavar="SECONDS", help="how long --once tries (%(default).0f)"
    )

    group = parser.add_argument_group("standard input")
    group.add_argument("--stdin", action="store_true", help="put standard input into the spool first")
    group.add_argument("--format", choices=sorted(CONTENT_TYPES), default="csv", help="its format (%(default)s)")
    group.add_argument(
        "--kind", choices=["sample", "sysinfo", "job", "cluster"], default="sample", help="its records (%(default)s)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run exfiltrate and return its exit status: 1 if --once could not deliver everything."""
    if legacy.is_of_old(argv):
        return legacy.run(argv)
    options = parser().parse_args(argv)
    log.setup("exfiltrate", verbose=options.verbose)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if options.key and not options.cert:
        raise UsageError("--key needs --cert")
    if options.format == "csv" and options.kind != "sample":
        raise UsageError(f"--kind {options.kind} needs --format json")
    try:
        cluster = cluster_name(options.cluster)
    except BadNameError as error:
        raise UsageError(f"--cluster: {error}") from error

    spool = Spool(options.spool, options.quota or DEFAULT_QUOTA)
    # Before anything else can go wrong: a password file that is missing today must not cost the sample.
    if options.stdin:
        _store_standard_input(spool, options.kind, CONTENT_TYPES[options.format])
    return _deliver(spool, _server(options, cluster), options)


def _deliver(spool: Spool, server: "Server", options: argparse.Namespace) -> int:
    from sonar.node.delivery import Delivery
    from sonar.node.schedule import wait_for_signal

    with spool.delivering() as ours:
        if not ours:
            # It looks into the spool until that is empty, so it takes what was just put there along.
            raise SonarError(f"another exfiltrate delivers from '{spool.directory}', leaving everything to it")
        wait = wait_for_signal({signal.SIGTERM, signal.SIGINT})
        delivery = Delivery(spool, server, wait=wait, window_s=options.window)
        try:
            if options.once:
                return 1 if delivery.run_once(options.patience) or delivery.refused else 0
            delivery.run()
            return 0
        finally:
            server.close()


def _server(options: argparse.Namespace, cluster: str) -> "Server":
    from sonar.node.upload import Server

    server = Server(
        options.url,
        cluster,
        auth_file=options.auth_file or _credential("upload-auth"),
        ca_cert=options.ca_cert,
        client_cert=options.cert or _credential("upload-cert"),
        client_key=options.key or (None if options.cert else _credential("upload-key")),
    )
    if server.password_in_clear:
        _log.warning("the password goes over the network in clear, going on; an https --url would hide it")
    return server


def _store_standard_input(spool: Spool, kind: str, content_type: str) -> None:
    """Put standard input into the spool; CSV in pieces of whole lines, JSON as it is. White space alone is nothing."""
    if sys.stdin is None:  # was closed by who started us
        return
    data = b""
    try:
        while chunk := sys.stdin.buffer.read(_PIECE):
            data += chunk
            end = data.rfind(b"\n") + 1 if content_type == CONTENT_TYPES["csv"] and len(chunk) == _PIECE else 0
            if end:
                spool.put(kind, data[:end], content_type)
                data = data[end:]
            elif len(data) > LARGEST_BODY:
                raise SonarError(f"standard input has more than {LARGEST_BODY} bytes in one piece")
        if data.strip():
            spool.put(kind, data, content_type)
    except OSError as error:
        raise SonarError(f"cannot store standard input in '{spool.directory}': {error.strerror}") from error


def _credential(name: str) -> Path | None:
    """Return the path of a credential that the service manager has handed to this service."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None


def _seconds(text: str) -> float:
    """Return the seconds of an option that takes a time, zero or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"want seconds, zero or more, not {text!r}")
    return seconds


def _size(text: str) -> int:
    """Return the bytes of a text like `64M`."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    digits = text if factor == 1 else text[:-1]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 16 and int(digits)):
        raise argparse.ArgumentTypeError(f"want a size such as 64M, not {text!r}")
    return int(digits) * factor

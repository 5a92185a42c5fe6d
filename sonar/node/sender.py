"""The command exfiltrate: its options, and which way of delivering they ask for."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sonar
from sonar import log
from sonar.errors import SonarError, UsageError
from sonar.names import cluster_name
from sonar.node.spool import CONTENT_TYPES, DEFAULT_QUOTA, Spool

__all__ = ["main", "parser"]

PATIENCE_S = 1800.0
"""How long --once tries before it leaves the rest for the next run."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="exfiltrate",
        description="Deliver samples to the server, keeping them on disk until it has them. See exfiltrate(8).",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"exfiltrate {sonar.__version__}")
    made.add_argument("--verbose", action="store_true", help="log each delivery")

    where = made.add_argument_group("where to")
    where.add_argument("--url", required=True, metavar="URL", help="the server, such as https://HOST:8086")
    where.add_argument("--cluster", required=True, metavar="NAME", help="the cluster that the samples are of")
    where.add_argument("--auth-file", type=Path, metavar="FILE", help="USER:PASSWORD, for its owner's eyes only")
    where.add_argument("--ca-cert", type=Path, metavar="PEM", help="certificates that the server's must be signed by")
    where.add_argument("--cert", type=Path, metavar="PEM", help="client certificate")
    where.add_argument("--key", type=Path, metavar="PEM", help="its key")

    what = made.add_argument_group("what and when")
    what.add_argument("--spool", type=Path, required=True, metavar="DIR", help="directory of what waits for delivery")
    what.add_argument("--stdin", action="store_true", help="put standard input into the spool first")
    what.add_argument(
        "--format", choices=sorted(CONTENT_TYPES), default="csv", help="format of standard input (%(default)s)"
    )
    what.add_argument("--kind", default="sample", metavar="KIND", help="kind of JSON records (%(default)s)")
    what.add_argument("--once", action="store_true", help="deliver what is there, then end")
    what.add_argument(
        "--patience", type=float, default=PATIENCE_S, metavar="SECONDS", help="how long --once tries (%(default).0f)"
    )
    what.add_argument(
        "--window", type=float, default=0.0, metavar="SECONDS", help="send at a random moment within so long (0)"
    )
    what.add_argument(
        "--quota", type=_size, default=DEFAULT_QUOTA, metavar="SIZE", help="bytes that may wait, such as 64M (256M)"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Deliver; return 0, or 1 if --once had to leave something in the spool."""
    args = parser().parse_args(argv)
    log.setup("exfiltrate", verbose=args.verbose)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if (args.cert is None) != (args.key is None):
        raise UsageError("--cert and --key go together")
    cluster = cluster_name(args.cluster)
    spool = Spool(args.spool, quota=args.quota)
    if args.stdin:
        data = sys.stdin.buffer.read()
        if data.strip():
            try:
                spool.put(args.kind, data, CONTENT_TYPES[args.format])
            except OSError as error:
                raise SonarError(f"cannot store standard input in '{args.spool}': {error.strerror}") from error

    from sonar.node.delivery import Delivery
    from sonar.node.identity import read_identity
    from sonar.node.upload import Server

    auth_file = args.auth_file or _credential("upload-auth")
    server = Server(
        args.url,
        cluster,
        identity=read_identity(auth_file) if auth_file else None,
        ca_cert=args.ca_cert,
        client_cert=(args.cert, args.key) if args.cert else None,
    )
    delivery = Delivery(spool, server, window_s=args.window)
    delivery.stop_on_signals()
    try:
        if args.once:
            return 1 if delivery.run_once(args.patience) else 0
        delivery.run()
    finally:
        server.close()
    return 0


def _credential(name: str) -> Path | None:
    """Return the path of a credential that the service manager has handed to this service."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None


def _size(text: str) -> int:
    """Return the bytes of a text like `64M`."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    digits = text if factor == 1 else text[:-1]
    if not digits.isdigit() or int(digits) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64M")
    return int(digits) * factor

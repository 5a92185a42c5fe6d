"""The command sonalyzed: its options, and the server's life."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import sonar
from sonar import log
from sonar.errors import SonarError, UsageError
from sonar.serve.options import add_listening_options

__all__ = ["main", "parser"]

_LARGEST_BODY = 64 << 10


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="sonalyzed",
        description="Answer questions about clusters over HTTPS, and show their pages. See sonalyzed(8).",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"sonalyzed {sonar.__version__}")
    made.add_argument("--verbose", action="store_true", help="log more")
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="where the clusters' log trees are")
    made.add_argument(
        "--cluster-config", type=Path, metavar="DIR", help="where CLUSTER-config.json and cluster-aliases.json are"
    )
    who = made.add_mutually_exclusive_group(required=True)
    who.add_argument("--password-file", type=Path, metavar="FILE", help="who may ask: lines USER:PASSWORD")
    who.add_argument("--allow-anonymous", action="store_true", help="let everybody ask")
    add_listening_options(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    args = parser().parse_args(argv)
    log.setup("sonalyzed", verbose=args.verbose)
    if not args.data.is_dir():
        raise UsageError(f"--data is no directory: '{args.data}'")
    if args.cluster_config is not None and not args.cluster_config.is_dir():
        raise UsageError(f"--cluster-config is no directory: '{args.cluster_config}'")

    from sonar.config.clusters import Clusters
    from sonar.serve.identities import Identities
    from sonar.serve.server import Limits, TlsFiles, listeners_of, serve
    from sonar.web.app import Site, application

    clusters = Clusters(args.data.absolute(), args.cluster_config and args.cluster_config.absolute())
    identities = None if args.allow_anonymous else Identities.load(args.password_file)
    site = Site(clusters, identities)

    async def healthy() -> bool:
        """Whether a question gets through to the data and back: the list of clusters, by the threads that answer."""
        try:
            await site.work(clusters.names)
        except (SonarError, OSError):
            return False
        return True

    return serve(
        application(site),
        listeners_of(args.listen, args.listen_tls),
        name="sonalyzed",
        status=site.status,
        healthy=healthy,
        tls=TlsFiles.find(args.tls_cert, args.tls_key),
        on_reload=identities.reload if identities is not None else None,
        limits=Limits(body_bytes=_LARGEST_BODY),
        port_file=args.port_file,
    )

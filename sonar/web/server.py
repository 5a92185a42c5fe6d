"""The command sonalyzed: its options, and the server's life."""

import argparse
import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sonar
from sonar import log
from sonar.errors import SonarError, UsageError
from sonar.places import place_of
from sonar.serve.options import add_listening_options, byte_count, byte_count_or_none

if TYPE_CHECKING:
    import socket

    from sonar.web.site import Site

__all__ = ["main", "parser"]

_LARGEST_BODY = 64 << 10
_SESSION_CREDENTIAL = "session-key"
_SHORTEST_KEY = 32
# An answer may be long, and its reader slow: what a question takes is bounded by --query-time and --query-memory.
_LONGEST_REQUEST_S = 3600.0
_MOST_REQUESTS = 1024


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="sonalyzed",
        description="Answer questions about clusters over HTTPS, and show their pages. See sonalyzed(8).",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"sonalyzed {sonar.__version__}")
    made.add_argument("--verbose", action="store_true", help="log more")
    made.add_argument("--data", type=place_of, required=True, metavar="DIR", help="where the clusters' log trees are")
    made.add_argument(
        "--cluster-config", type=Path, metavar="DIR", help="where CLUSTER-config.json and cluster-aliases.json are"
    )
    made.add_argument(
        "--reports", type=Path, metavar="DIR", help="where the clusters' reports are, see sonarctl-report(8)"
    )
    made.add_argument("--site-pages", type=Path, metavar="DIR", help="a site's own pages, served below /q/")
    who = made.add_mutually_exclusive_group()
    who.add_argument("--password-file", type=Path, metavar="FILE", help="who may ask, see sonar-passwords(5)")
    who.add_argument("--allow-anonymous", action="store_true", help="let everybody ask")
    made.add_argument("--oidc", type=Path, metavar="FILE", help="another place where people log in, see sonalyzed(8)")
    made.add_argument("--session-key", type=Path, metavar="FILE", help="what signs cookies; made there if missing")
    made.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep the last state of each cluster there over a restart"
    )
    limits = made.add_argument_group("what questions may take")
    limits.add_argument("--queries", type=_count, default=2, metavar="N", help="run so many at a time (%(default)s)")
    limits.add_argument("--waiting", type=_count, default=64, metavar="N", help="let so many wait (%(default)s)")
    limits.add_argument("--query-time", type=_count, default=120, metavar="S", help="seconds for each (%(default)s)")
    limits.add_argument(
        "--query-memory", type=byte_count, default=byte_count("2G"), metavar="SIZE", help="memory for each (2G)"
    )
    limits.add_argument(
        "--resident",
        type=byte_count_or_none,
        metavar="SIZE",
        help="memory for recent days and answers (Memory= of sonar.conf)",
    )
    add_listening_options(made)
    made.add_argument("--command-socket", type=Path, metavar="FILE", help="answer sonalyze(1) of this machine there")
    return made


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    args = parser().parse_args(argv)
    log.setup("sonalyzed", verbose=args.verbose)
    if args.oidc is not None and args.allow_anonymous:
        raise UsageError("--allow-anonymous and --oidc exclude each other")
    if args.password_file is None and args.oidc is None and not args.allow_anonymous:
        raise UsageError("who may ask? Want --password-file FILE, or --allow-anonymous")
    for option in ("data", "cluster_config", "site_pages"):  # reports may be made later
        directory = getattr(args, option)
        if directory is not None and not directory.is_dir():
            raise UsageError(f"--{option.replace('_', '-')} is no directory: '{directory}'")

    from sonar.config.settings import load_settings
    from sonar.serve.server import Limits, TlsFiles, listeners_of, serve
    from sonar.web.app import application
    from sonar.web.commands import is_for_commands, socket_for_commands

    analysis = load_settings().analysis
    site = _site(args, analysis.memory if args.resident is None else args.resident)
    listeners = listeners_of(args.listen, args.listen_tls)
    for_commands = [one.socket for one in listeners if is_for_commands(one.socket, analysis.socket)]
    if args.command_socket is not None:
        for_commands.append(socket_for_commands(args.command_socket))
    site.workers.start()
    site.restore()
    try:
        return serve(
            application(site),
            [one for one in listeners if one.socket not in for_commands],
            name="sonalyzed",
            status=site.status,
            ailment=site.ailment,
            obstacle=site.workers.obstacle,
            tls=TlsFiles.find(args.tls_cert, args.tls_key),
            on_reload=site.reload,
            on_drain=site.workers.drain,
            work=lambda: _beside(site, for_commands),
            limits=Limits(body_bytes=_LARGEST_BODY, request_s=_LONGEST_REQUEST_S, concurrent=_MOST_REQUESTS),
            port_file=args.port_file,
        )
    finally:
        site.workers.stop()
        site.snapshots.store()


async def _beside(site: "Site", for_commands: "Sequence[socket.socket]") -> None:
    """Do what is done beside the requests, until cancelled."""
    from sonar.web.commands import serve_commands

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(site.keep_warm())
        tasks.create_task(serve_commands(site, for_commands))


def _site(args: argparse.Namespace, resident_bytes: int) -> "Site":
    from sonar.config.clusters import Clusters
    from sonar.serve.identities import Identities
    from sonar.web.site import Site
    from sonar.web.snapshot_files import SnapshotFiles
    from sonar.web.workers import WorkLimits

    clusters = Clusters(
        args.data.absolute(),
        args.cluster_config and args.cluster_config.absolute(),
        args.reports and args.reports.absolute(),
    )
    identities = None if args.password_file is None else Identities.load(args.password_file)
    limits = WorkLimits(
        questions=args.queries,
        waiting=args.waiting,
        time_s=args.query_time,
        memory_bytes=args.query_memory,
        resident_bytes=resident_bytes,
    )
    files = None if args.cache is None else SnapshotFiles(args.cache.absolute())
    if files is not None:
        files.prepare()
    site = Site(clusters, identities, limits, args.site_pages and args.site_pages.absolute(), files=files)
    site.warn()
    if args.oidc is not None:
        from sonar.web.oidc import Provider

        site.provider = Provider.load(args.oidc)
    if (key := _session_key(args.session_key)) is not None:
        site.session_key = key
    return site


def _session_key(given: Path | None) -> bytes | None:
    """Return the key that signs cookies, from systemd's credentials or the option's file, which is made if it is not
    there; None: a new one at each start.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(directory, _SESSION_CREDENTIAL) if directory else None
    path = credential if credential is not None and credential.exists() else given
    if path is None:
        return None
    try:
        if path == given and not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise SonarError(f"cannot read session key '{path}': {error.strerror}") from None
    if path == given and mode & 0o077:
        raise SonarError(f"session key '{path}' is open to group or others: chmod 600 it")
    if len(key) < _SHORTEST_KEY:
        raise SonarError(f"session key '{path}' is shorter than {_SHORTEST_KEY} bytes")
    return key


def _make_key(path: Path) -> None:
    """Write a new key that only its owner may read; of two that do so at once the first wins."""
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_SHORTEST_KEY) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(whole)
    finally:
        whole.unlink()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000):
        raise argparse.ArgumentTypeError(f"bad number {text!r}: want 1 or more")
    return int(text)

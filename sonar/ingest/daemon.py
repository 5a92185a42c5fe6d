"""infiltrate as a process: from its options to a running service."""

import argparse
import asyncio
import faulthandler
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import log
from sonar.config.aliases import read_aliases
from sonar.errors import UsageError
from sonar.ingest.post import Rules

if TYPE_CHECKING:
    from sonar.serve.identities import Identities

__all__ = ["run"]

_log = logging.getLogger(__name__)

CREDENTIAL = "ingest-passwords"


def run(options: argparse.Namespace) -> int:
    """Take uploads until told to stop; return the exit status. Raise SonarError if it cannot begin."""
    from sonar.ingest.app import IngestApp
    from sonar.ingest.books import Books
    from sonar.serve.server import Limits, TlsFiles, listeners_of, serve
    from sonar.store.store import Store

    log.setup("infiltrate", verbose=options.verbose)
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process hung
    tls = TlsFiles.find(options.tls_cert, options.tls_key, options.tls_client_ca)
    identities = _identities(options, by_certificate=tls is not None and tls.client_ca is not None)
    if identities is not None and identities.in_plain_text:
        text = "%d passwords in '%s' are in plain text, going on; passwd(8) can hash them in place"
        _log.warning(text, identities.in_plain_text, identities.path)
    rules = Rules(
        aliases=read_aliases(options.aliases) if options.aliases else {},
        topic_prefixes=frozenset(options.topic_prefix),
    )
    listeners = listeners_of(options.listen, options.listen_tls)
    store = Store(options.data, sync=options.fsync == "group")
    books = Books(options.data, store)
    app = IngestApp(store, identities, rules, books, any_cluster=options.any_cluster)

    def reload() -> None:
        aliases = read_aliases(options.aliases) if options.aliases else {}
        if identities is not None:
            identities.reload()
        app.rules = replace(app.rules, aliases=aliases)

    async def healthy() -> bool:
        return store.healthy()

    is_closed = False

    async def stop() -> None:
        nonlocal is_closed
        await books.close()
        await asyncio.to_thread(store.close)
        is_closed = True

    try:
        return serve(
            app,
            listeners,
            name="infiltrate",
            status=app.status,
            healthy=healthy,
            tls=tls,
            on_reload=reload,
            on_stop=stop,
            obstacle=lambda: store.obstacle,
            limits=Limits(body_bytes=options.max_body),
            port_file=options.port_file,
            on_refused=app.note_refusal,
            work=books.keep,
        )
    finally:
        if not is_closed:
            store.close()


def _identities(options: argparse.Namespace, *, by_certificate: bool) -> "Identities | None":
    """Return the users, from the option or systemd's credentials; None if anybody may upload."""
    from sonar.serve.identities import Identities

    if options.allow_anonymous:
        if options.password_file:
            raise UsageError("--allow-anonymous and --password-file exclude each other")
        _log.warning("anybody who can connect may write any cluster (--allow-anonymous)")
        return None
    if options.password_file:
        return Identities.load(options.password_file)
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        path = Path(directory, CREDENTIAL)
        if path.exists():
            return Identities.load(path)
    if by_certificate:
        return Identities.nobody()
    raise UsageError("who may upload? Want --password-file FILE, --tls-client-ca PEM, or --allow-anonymous")

"""infiltrate as a process: from its options to a running service."""

import argparse
import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sonar import log, notify
from sonar.config.aliases import read_aliases
from sonar.config.clusters import aliases_of
from sonar.config.settings import Ingest, load_settings
from sonar.errors import UsageError
from sonar.ingest.post import Rules
from sonar.names import ClusterName

if TYPE_CHECKING:
    from sonar.serve.identities import Identities

__all__ = ["run"]

_log = logging.getLogger(__name__)

CREDENTIAL = "ingest-passwords"


def run(options: argparse.Namespace) -> int:
    """Take uploads until told to stop; return the exit status. Raise SonarError if it cannot begin."""
    from sonar.ingest.app import IngestApp
    from sonar.ingest.books import Books
    from sonar.ingest.canary import Canary
    from sonar.ingest.counts import exposition
    from sonar.ingest.health import facts_of, gauges_of
    from sonar.serve.server import Limits, TlsFiles, listeners_of, serve
    from sonar.store.store import Store

    log.setup("infiltrate", verbose=options.verbose)
    tls = TlsFiles.find(options.tls_cert, options.tls_key, options.tls_client_ca)
    identities = _identities(options, by_certificate=tls is not None and tls.client_ca is not None)
    _warn_of(identities)
    settings = _settings(options)
    listeners = listeners_of(options.listen, options.listen_tls)
    store = Store(options.data, sync=options.fsync == "group", reserve_bytes=settings.disk_reserve)
    books = Books(options.data, store)
    books.begin()
    rules = Rules(
        aliases=_aliases(options, strict=False),
        topic_prefixes=frozenset(settings.topic_prefixes),
        csv_day=settings.csv_day,
        json_day=settings.json_day,
        may_create=books.knows if settings.known_clusters else lambda _: True,
    )
    app = IngestApp(
        store,
        identities,
        rules,
        books,
        any_cluster=settings.any_cluster,
        body_bytes=settings.max_body,
        framed_path=settings.kprox,
        retry_after_s=options.retry_after,
    )

    consumer = None
    if options.kafka:
        from sonar.ingest.kafka import KafkaConsumer, read_properties

        consumer = KafkaConsumer(read_properties(options.kafka), store, books, app.counts, lambda: app.rules)
        consumer.start()

    def reload() -> None:
        """Read settings, aliases and users again; what sockets, store and limits were made from counts at a start."""
        now = _settings(options)
        aliases = _aliases(options, strict=True)
        if identities is not None:
            identities.reload()
            _warn_of(identities)
        prefixes = frozenset(now.topic_prefixes)
        app.rules = replace(
            app.rules, aliases=aliases, topic_prefixes=prefixes, csv_day=now.csv_day, json_day=now.json_day
        )

    canary = Canary(options.data, store, patience_s=0.8 * (notify.watchdog_period() or 15.0))

    async def ailment() -> str | None:
        if consumer is not None and not consumer.alive:
            return "the consumer of Kafka has died"
        return await canary.ailment()

    is_closed = False

    async def stop() -> None:
        nonlocal is_closed
        if consumer is not None:
            await asyncio.to_thread(consumer.stop)
        await books.close()
        await asyncio.to_thread(store.close)
        is_closed = True

    try:
        return serve(
            app,
            listeners,
            name="infiltrate",
            status=app.status,
            ailment=ailment,
            tls=tls,
            on_reload=reload,
            on_stop=stop,
            obstacle=lambda: store.obstacle,
            limits=Limits(body_bytes=settings.max_body, request_s=options.request_timeout),
            port_file=options.port_file,
            on_refused=app.note_refusal,
            work=books.keep,
            facts=lambda: facts_of(store, canary),
            short=app.short,
            metrics=lambda: exposition(app.counts, gauges_of(store)),
        )
    finally:
        if not is_closed:
            store.close()


def _warn_of(identities: "Identities | None") -> None:
    if identities is not None and identities.warning:
        _log.warning("%s", identities.warning)


def _aliases(options: argparse.Namespace, *, strict: bool) -> Mapping[str, ClusterName]:
    """Return the cluster of each alias: of the file that is given, else of the descriptions of clusters.

    A mistake in these is an error where `strict`, so that a reload keeps what there is; else it costs its own aliases.
    """
    if options.aliases:
        return read_aliases(options.aliases)
    described = load_settings().paths.clusters
    return aliases_of(described, strict=strict) if described.is_dir() else {}


def _settings(options: argparse.Namespace) -> Ingest:
    """Return sonar.conf(5) as the options amend it; raise SonarError or UsageError."""
    settings = load_settings().ingest
    names = {one.name for one in fields(settings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if options.topic_prefix:
        given["topic_prefixes"] = tuple(options.topic_prefix)
    settings = replace(settings, **given)
    if settings.kprox and not settings.kprox.startswith("/"):
        raise UsageError(f"--kprox {settings.kprox!r}: want a path that begins with /")
    return settings


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

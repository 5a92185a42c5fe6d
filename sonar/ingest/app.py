"""The ASGI application of infiltrate: credentials, body, endpoint, store, answer.

The answer to an upload is 200 only when all its records are durable. What the store cannot take now is 503, which
senders try again; what nobody will ever take is 4xx, which they do not.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import parse_qs

from sonar.ingest.books import Books
from sonar.ingest.endpoints import find_endpoint
from sonar.ingest.post import Endpoint, MediaTypes, Post, Refusal, Rules, Taken
from sonar.log import Throttle
from sonar.names import BadNameError, ClusterName, resolve_cluster
from sonar.serve.gate import Receive, Scope, Send, answer, read_body
from sonar.serve.identities import Identities, Identity, TooBusyError, basic_credentials
from sonar.serve.passwords import ANY
from sonar.serve.sockets import address_of
from sonar.store.store import Store, StoreUnavailableError

__all__ = ["IngestApp"]

# Parsing more than this would hold up all other requests for too long.
_LARGE_BODY = 256 << 10
_CHALLENGE = (b"www-authenticate", b'Basic realm="sonar-ingest", charset="UTF-8"')

_log = logging.getLogger(__name__)


class IngestApp:
    """Takes uploads. Without identities anybody may write any cluster, and credentials are not looked at."""

    def __init__(
        self,
        store: Store,
        identities: Identities | None,
        rules: Rules,
        books: Books,
        *,
        any_cluster: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules
        self.stored = 0
        self.dropped = 0
        self.refused = 0
        self._store = store
        self._identities = identities
        self._books = books
        self._any_cluster = any_cluster
        self._clock = clock
        # Few, since what a large body is parsed into takes many times its size.
        self._parsers = ThreadPoolExecutor(2, thread_name_prefix="parser")
        _log.addFilter(Throttle())

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        text = f"{self.stored} records stored, {self.dropped} dropped, {self.refused} requests refused"
        return f"{text}; {obstacle}" if (obstacle := self._store.obstacle) else text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = _Request(scope, "", None, None)
        try:
            endpoint, argument = _route(scope)
            request.endpoint = endpoint.name
            request.clusters = await self._clusters_of_sender(scope)
            _check_media_type(endpoint.media, _header(scope, b"content-type"))
            parameters = _parameters(scope["query_string"])
            body = await read_body(receive)
            now = int(self._clock())
            post = Post(body, argument, parameters, request.clusters, self.rules, now)
            taken = request.taken = await self._take(endpoint, post)
            if taken.dropped and not taken.stored:
                raise Refusal(taken.status, taken.complaint)
            if taken.appends:
                await self._store.append([*taken.appends, *self._books.arrivals(taken, request.place, now)])
        except Refusal as refusal:
            await self._refuse(request, send, refusal.status, refusal.reason)
        except (StoreUnavailableError, TooBusyError) as error:
            await self._refuse(request, send, 503, str(error))
        else:
            await self._accept(request, send, taken)

    def note_refusal(self, scope: Scope, status: int, reason: str) -> None:
        """Take note of a request that was answered before it came here, or broken off."""
        found = find_endpoint(scope["path"])
        self._enter(_Request(scope, found[0].name if found else "", None, None), status, reason)

    async def _clusters_of_sender(self, scope: Scope) -> frozenset[ClusterName] | None:
        """Return the clusters that the sender may write; None if any. Raise Refusal.

        Who shows a certificate, and no credentials, may write the clusters that it names.
        """
        if self._identities is None:
            return None
        header = _header(scope, b"authorization")
        if header is None and (names := scope.get("client_names")):
            return Identity(names[0], clusters=frozenset(names) - {ANY}).may_write(self.rules.aliases)
        credentials = basic_credentials(header)
        source = address_of(scope.get("client"))
        identity = await self._identities.verify(*credentials, source) if credentials else None
        if identity is None:
            raise Refusal(401, "Unauthorized")
        clusters = None if self._any_cluster else identity.may_write(self.rules.aliases)
        if clusters is not None and not clusters:
            raise Refusal(403, "Upload not authorized")
        return clusters

    async def _take(self, endpoint: Endpoint, post: Post) -> Taken:
        if len(post.body) < _LARGE_BODY:
            return endpoint.take(post)
        return await asyncio.get_running_loop().run_in_executor(self._parsers, endpoint.take, post)

    async def _accept(self, request: "_Request", send: Send, taken: Taken) -> None:
        self.stored += taken.stored
        self.dropped += taken.dropped
        for notice in taken.notices:
            _log.warning("%s", notice, extra=request.journal_fields(200))
        if taken.dropped:
            text = "%s from %s: %d of %d records dropped: %s"
            total = taken.dropped + taken.stored
            fields = request.journal_fields(200)
            _log.warning(text, request.place, request.remote, taken.dropped, total, taken.complaint, extra=fields)
        elif _log.isEnabledFor(logging.DEBUG):
            fields = request.journal_fields(200)
            _log.debug("%s from %s: %d records", request.place, request.remote, taken.stored, extra=fields)
        headers = [(b"x-sonar-dropped", b"%d" % taken.dropped)] if taken.dropped else []
        await answer(send, 200, taken.reply, headers, media_type=b"application/json")

    async def _refuse(self, request: "_Request", send: Send, status: int, reason: str) -> None:
        self.refused += 1
        if request.taken is not None and status != 503:
            self.dropped += request.taken.dropped
        text = "%s from %s refused with %d: %s"
        fields = request.journal_fields(status)
        _log.warning(text, request.place or "request", request.remote, status, reason, extra=fields)
        self._enter(request, status, reason)
        headers = {401: [_CHALLENGE], 405: [(b"allow", b"POST")]}.get(status, [])
        await answer(send, status, reason, headers)

    def _enter(self, request: "_Request", status: int, reason: str) -> None:
        """Enter a refusal into the ledger of the cluster that it is about, if that is known."""
        taken = request.taken
        cluster = (taken.cluster if taken else "") or request.account or self._claimed(request.scope)
        if cluster and request.endpoint:
            host, dropped = (taken.host, taken.dropped) if taken else ("", 0)
            self._books.refused(
                ClusterName(cluster), host, request.place, status, reason, request.remote, dropped=dropped
            )

    def _claimed(self, scope: Scope) -> str:
        """Return the cluster that an unproven sender says it is, if that is one that we have data of."""
        credentials = basic_credentials(_header(scope, b"authorization"))
        try:
            named = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get("cluster", [""])[0]
            cluster = resolve_cluster(credentials[0] if credentials else named, self.rules.aliases)
        except (ValueError, BadNameError):
            return ""
        return cluster if self._books.knows(cluster) else ""


@dataclass(slots=True)
class _Request:
    """A request, as far as it is known by now."""

    scope: Scope
    endpoint: str
    clusters: frozenset[ClusterName] | None  # that the sender may write
    taken: Taken | None

    @property
    def account(self) -> ClusterName | None:
        """The only cluster that the sender may write."""
        return next(iter(self.clusters)) if self.clusters is not None and len(self.clusters) == 1 else None

    @property
    def place(self) -> str:
        """The endpoint, with its topic where it has several."""
        return f"{self.endpoint}/{self.taken.topic}" if self.taken and self.taken.topic else self.endpoint

    @property
    def remote(self) -> str:
        return address_of(self.scope.get("client"))

    def journal_fields(self, status: int) -> dict[str, object]:
        fields: dict[str, object] = {
            "SONAR_ENDPOINT": self.endpoint,
            "SONAR_STATUS": status,
            "SONAR_REMOTE": self.remote,
        }
        if self.taken is not None and status == 200:
            fields |= {
                "SONAR_CLUSTER": self.taken.cluster,
                "SONAR_HOST": self.taken.host,
                "SONAR_RECORDS": self.taken.stored,
                "SONAR_DROPPED": self.taken.dropped,
            }
        elif self.account:
            fields["SONAR_CLUSTER"] = self.account
        return fields


def _route(scope: Scope) -> tuple[Endpoint, str]:
    found = find_endpoint(scope["path"])
    if found is None:
        raise Refusal(404, "Not found")
    if scope["method"] != "POST":
        raise Refusal(405, "Bad method")
    return found


def _parameters(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise Refusal(400, f"Bad parameters - {error}") from None


def _check_media_type(wanted: MediaTypes, header: bytes | None) -> None:
    if header is None:
        return
    given = header.partition(b";")[0].strip().lower().decode("latin-1")
    general = "application/*+json" if given.startswith("application/") and given.endswith("+json") else given
    if given and given not in wanted and general not in wanted:
        raise Refusal(415, "Bad content-type")


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None

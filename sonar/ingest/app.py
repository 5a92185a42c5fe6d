"""The ASGI application of infiltrate: credentials, body, endpoint, store, answer.

The answer to an upload is 200 only when all its records are durable. What the store cannot take now is 503, which
senders try again; what nobody will ever take is 4xx, which they do not.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar, TypeVarTuple

from sonar.ingest.books import Books
from sonar.ingest.counts import Counts
from sonar.ingest.endpoints import find_endpoint
from sonar.ingest.inflate import inflate, is_deflated
from sonar.ingest.post import Credentials, Endpoint, Parameters, Post, Refusal, Rules, Taken
from sonar.ingest.request import Request, check_media_type, header, parameters_of, route, short_route
from sonar.log import Throttle
from sonar.names import BadNameError, ClusterName, resolve_cluster
from sonar.serve.gate import Receive, Scope, Send, answer, read_body
from sonar.serve.identities import Identities, Identity, TooBusyError, basic_credentials
from sonar.serve.lane import Answer, Handler
from sonar.serve.passwords import ANY
from sonar.store.store import Store, StoreUnavailableError

__all__ = ["IngestApp"]

# Parsing more than this would hold up all other requests for too long.
_LARGE_BODY = 256 << 10
_INFLATED_AT_ONCE = 4  # bodies, each of which may come to the largest size
_CHALLENGE = (b"www-authenticate", b'Basic realm="sonar-ingest", charset="UTF-8"')

A = TypeVarTuple("A")
T = TypeVar("T")

_Clusters = frozenset[ClusterName] | None  # that a sender may write; None: any

_log = logging.getLogger(__name__)


class IngestApp:
    """Takes uploads. Without identities anybody may write any cluster, and credentials are not looked at.

    `framed_path` is where messages in the framing of a Kafka proxy are taken; if it is empty, nowhere.
    """

    def __init__(
        self,
        store: Store,
        identities: Identities | None,
        rules: Rules,
        books: Books,
        *,
        any_cluster: bool = False,
        body_bytes: int = 64 << 20,
        framed_path: str = "",
        retry_after_s: int = 60,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules
        self.counts = Counts()
        self._store = store
        self._identities = identities
        self._books = books
        self._any_cluster = any_cluster
        self._body_bytes = body_bytes
        self._framed_path = framed_path
        self._headers = {
            401: [_CHALLENGE],
            405: [(b"allow", b"POST")],
            503: [(b"retry-after", b"%d" % retry_after_s)],
        }
        self._clock = clock
        self._resolved: dict[str, tuple[Identity, _Clusters]] = {}  # by name, under the rules that are there next
        self._resolved_by = rules
        # Few, since what a large body is parsed into takes many times its size.
        self._parsers = ThreadPoolExecutor(2, thread_name_prefix="parser")
        self._inflating = asyncio.Semaphore(_INFLATED_AT_ONCE)
        _log.addFilter(Throttle())

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        said = [str(self.counts), self._store.obstacle]
        if self._identities is not None and self._identities.lets_nobody_in:
            said.append("nobody is let in: the password file has no users")
        return "; ".join(filter(None, said))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = time.perf_counter()
        request = Request(scope)
        try:
            endpoint, argument = route(scope, self._framed_path)
            request.endpoint = endpoint.name
            if endpoint.senders is None:
                request.clusters = await self._clusters_of_request(scope)
            parameters = parameters_of(scope["query_string"])
            check_media_type(endpoint, parameters, header(scope, b"content-type"))
            async with AsyncExitStack() as stack:
                body = await read_body(receive)
                if is_deflated(header(scope, b"content-encoding")):
                    await stack.enter_async_context(self._inflating)
                    body = await self._in_thread(inflate, body, self._body_bytes)
                now = int(self._clock())
                senders = await self._senders(endpoint.senders, scope, body) if endpoint.senders else {}
                post = Post(body, argument, parameters, request.clusters, self.rules, now, senders=senders)
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
            self.counts.accepted(request.endpoint, taken.stored, taken.dropped, time.perf_counter() - began)
            await self._accept(request, send, taken)

    def short(self, scope: Scope) -> Handler | None:
        """Offer the short way (`sonar.serve.lane`) to an upload whose credentials were right before."""
        media_type = header(scope, b"content-type")
        found = short_route(scope["path"], scope["query_string"], media_type, self._framed_path)
        if found is None or found[0].senders is not None:
            return None
        endpoint, argument, parameters = found
        request = Request(scope, endpoint.name)
        if self._identities is not None:
            identity = self._identities.remembered(header(scope, b"authorization"), request.remote)
            request.clusters = self._clusters_of_identity(identity) if identity is not None else frozenset()
            if request.clusters is not None and not request.clusters:
                return None
        return partial(self._serve_short, request, endpoint, argument, parameters)

    def _serve_short(
        self,
        request: Request,
        endpoint: Endpoint,
        argument: str,
        parameters: Parameters,
        body: bytes,
        send: Answer,
    ) -> None:
        began = time.perf_counter()

        def settled(error: StoreUnavailableError | None) -> None:
            if error is not None:
                send(503, str(error).encode(), self._refusal(request, 503, str(error)))
            else:
                self.counts.accepted(request.endpoint, taken.stored, taken.dropped, time.perf_counter() - began)
                media_type = [(b"content-type", b"application/json")] if taken.reply else []
                send(200, taken.reply, [*self._acceptance(request, taken), *media_type])

        try:
            now = int(self._clock())
            post = Post(body, argument, parameters, request.clusters, self.rules, now)
            taken = request.taken = endpoint.take(post)
            if taken.dropped and not taken.stored:
                raise Refusal(taken.status, taken.complaint)
            if taken.appends:
                self._store.submit([*taken.appends, *self._books.arrivals(taken, request.place, now)], settled)
            else:
                settled(None)
        except Refusal as refusal:
            headers = self._refusal(request, refusal.status, refusal.reason)
            send(refusal.status, refusal.reason.encode(), headers)
        except StoreUnavailableError as error:
            settled(error)

    def note_refusal(self, scope: Scope, status: int, reason: str) -> None:
        """Take note of a request that was answered before it came here, or broken off."""
        found = find_endpoint(scope["path"])
        request = Request(scope, found[0].name if found else "")
        self.counts.refused(request.endpoint, status)
        self._enter(request, status, reason)

    async def _clusters_of_request(self, scope: Scope) -> _Clusters:
        """Return the clusters that the sender of a request may write. Raise Refusal.

        Who shows a certificate, and no credentials, may write the clusters that it names.
        """
        authorization = header(scope, b"authorization")
        if self._identities is not None and authorization is None and (names := scope.get("client_names")):
            return Identity(names[0], clusters=frozenset(names) - {ANY}).may_write(self.rules.aliases)
        return await self._clusters_of(scope, basic_credentials(authorization))

    async def _clusters_of(self, scope: Scope, credentials: Credentials | None) -> _Clusters:
        """Return the clusters that a sender may write. Raise Refusal."""
        if self._identities is None:
            return None
        source = Request(scope).remote
        identity = await self._identities.verify(*credentials, source) if credentials else None
        if identity is None:
            raise Refusal(401, "Unauthorized")
        clusters = self._clusters_of_identity(identity)
        if clusters is not None and not clusters:
            raise Refusal(403, "Upload not authorized")
        return clusters

    def _clusters_of_identity(self, identity: Identity) -> _Clusters:
        if self._any_cluster:
            return None
        if self._resolved_by is not self.rules:
            self._resolved, self._resolved_by = {}, self.rules
        known = self._resolved.get(identity.name)
        if known is None or known[0] is not identity:
            known = self._resolved[identity.name] = identity, identity.may_write(self.rules.aliases)
        return known[1]

    async def _senders(
        self, named_in: Callable[[bytes], Sequence[Credentials]], scope: Scope, body: bytes
    ) -> Mapping[Credentials | None, _Clusters]:
        """Return what each sender that is named in a body may write; who may nothing is left out."""
        found: dict[Credentials | None, _Clusters] = {None: None} if self._identities is None else {}
        for credentials in await self._in_thread(named_in, body):
            try:
                found[credentials] = await self._clusters_of(scope, credentials)
            except Refusal:
                continue
        return found

    async def _take(self, endpoint: Endpoint, post: Post) -> Taken:
        if len(post.body) < _LARGE_BODY:
            return endpoint.take(post)
        return await self._in_thread(endpoint.take, post)

    async def _in_thread(self, work: Callable[[*A], T], *arguments: *A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._parsers, work, *arguments)

    async def _accept(self, request: Request, send: Send, taken: Taken) -> None:
        await answer(send, 200, taken.reply, self._acceptance(request, taken), media_type=b"application/json")

    def _acceptance(self, request: Request, taken: Taken) -> list[tuple[bytes, bytes]]:
        """Tell the journal about an accepted upload, as far as it is worth it; return the headers for its sender."""
        for notice in taken.notices:
            _log.warning("%s", notice, extra=request.journal_fields(200))
        if taken.dropped:
            text = "%s from %s: %d of %d records dropped: %s"
            total = taken.dropped + taken.stored
            fields = request.journal_fields(200)
            _log.warning(text, request.place, request.remote, taken.dropped, total, taken.complaint, extra=fields)
            return [(b"x-sonar-dropped", b"%d" % taken.dropped)]
        if _log.isEnabledFor(logging.DEBUG):
            fields = request.journal_fields(200)
            _log.debug("%s from %s: %d records", request.place, request.remote, taken.stored, extra=fields)
        return []

    async def _refuse(self, request: Request, send: Send, status: int, reason: str) -> None:
        await answer(send, status, reason, self._refusal(request, status, reason))

    def _refusal(self, request: Request, status: int, reason: str) -> list[tuple[bytes, bytes]]:
        """Count a refusal, tell journal and ledger about it; return the headers for the sender."""
        dropped = request.taken.dropped if request.taken is not None and status != 503 else 0
        self.counts.refused(request.endpoint, status, dropped)
        text = "%s from %s refused with %d: %s"
        fields = request.journal_fields(status)
        _log.warning(text, request.place or "request", request.remote, status, reason, extra=fields)
        self._enter(request, status, reason)
        return self._headers.get(status, [])

    def _enter(self, request: Request, status: int, reason: str) -> None:
        """Enter a refusal into the ledger, if it is known which cluster it is about."""
        cluster = request.cluster or self._claimed(request.scope)
        if cluster and request.endpoint:
            host, dropped = (request.taken.host, request.taken.dropped) if request.taken is not None else ("", 0)
            place = request.place
            self._books.refused(ClusterName(cluster), host, place, status, reason, request.remote, dropped=dropped)

    def _claimed(self, scope: Scope) -> str:
        """Return the cluster that an unproven sender says it is; none if that can be no cluster's name."""
        credentials = basic_credentials(header(scope, b"authorization"))
        try:
            named = parameters_of(scope["query_string"]).get("cluster", [""])[0]
            return resolve_cluster(credentials[0] if credentials else named, self.rules.aliases)
        except (Refusal, BadNameError):
            return ""

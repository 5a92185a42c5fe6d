"""The ASGI application of infiltrate: credentials, body, endpoint, store, answer.

The answer to an upload is 200 only when all its records are durable. What the store cannot take now is 503, which
senders try again; what nobody will ever take is 4xx, which they do not.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from sonar.ingest.endpoints import find_endpoint
from sonar.ingest.post import Endpoint, MediaTypes, Post, Refusal, Rules, Taken
from sonar.log import Throttle
from sonar.names import ClusterName
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
        name = ""
        try:
            endpoint, argument = _route(scope)
            name = endpoint.name
            clusters = await self._clusters_of_sender(scope)
            _check_media_type(endpoint.media, _header(scope, b"content-type"))
            parameters = _parameters(scope["query_string"])
            body = await read_body(receive)
            post = Post(body, argument, parameters, clusters, self.rules, int(self._clock()))
            taken = await self._take(endpoint, post)
            if taken.dropped and not taken.stored:
                self.dropped += taken.dropped
                raise Refusal(400, taken.complaint)
            if taken.appends:
                await self._store.append(taken.appends)
        except Refusal as refusal:
            await self._refuse(scope, send, name, refusal.status, refusal.reason)
        except (StoreUnavailableError, TooBusyError) as error:
            await self._refuse(scope, send, name, 503, str(error))
        else:
            await self._accept(scope, send, name, taken)

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

    async def _accept(self, scope: Scope, send: Send, name: str, taken: Taken) -> None:
        self.stored += taken.stored
        self.dropped += taken.dropped
        fields = _journal_fields(scope, name, 200) | {
            "SONAR_CLUSTER": taken.cluster,
            "SONAR_HOST": taken.host,
            "SONAR_RECORDS": taken.stored,
            "SONAR_DROPPED": taken.dropped,
        }
        for notice in taken.notices:
            _log.warning("%s", notice, extra=fields)
        if taken.dropped:
            text = "%s from %s: %d of %d records dropped: %s"
            total = taken.dropped + taken.stored
            _log.warning(text, name, fields["SONAR_REMOTE"], taken.dropped, total, taken.complaint, extra=fields)
        elif _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s from %s: %d records", name, fields["SONAR_REMOTE"], taken.stored, extra=fields)
        headers = [(b"x-sonar-dropped", b"%d" % taken.dropped)] if taken.dropped else []
        await answer(send, 200, taken.reply, headers, media_type=b"application/json")

    async def _refuse(self, scope: Scope, send: Send, name: str, status: int, reason: str) -> None:
        self.refused += 1
        fields = _journal_fields(scope, name, status)
        text = "%s from %s refused with %d: %s"
        _log.warning(text, name or "request", fields["SONAR_REMOTE"], status, reason, extra=fields)
        headers = {401: [_CHALLENGE], 405: [(b"allow", b"POST")]}.get(status, [])
        await answer(send, status, reason, headers)


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


def _journal_fields(scope: Scope, endpoint: str, status: int) -> dict[str, object]:
    return {"SONAR_ENDPOINT": endpoint, "SONAR_STATUS": status, "SONAR_REMOTE": address_of(scope.get("client"))}

"""The books of infiltrate: what it writes to the arrival ledger (`sonar.store.ledger`).

The line of an accepted post goes with the post's own records. Refused posts are counted together, by cluster, place,
status and reason, and written once in a while, as soon as the store can be written; so are signs of life and the times
in which no upload could be taken. What waits to be written is bounded, and so is what those can make us write whose
cluster we have never seen.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sonar.ingest.post import Taken
from sonar.names import ClusterName
from sonar.store.layout import Append, utc_day
from sonar.store.ledger import (
    ALIVE_S,
    Arrival,
    ServerEvent,
    arrival_line,
    arrivals_path,
    event_line,
    last_event,
    server_path,
    stranger_line,
    strangers_path,
)
from sonar.store.store import Store, StoreUnavailableError
from sonar.times import HOUR

__all__ = ["Books"]

_TICK_S = 1.0
_GATHER_S = 20.0  # like refusals within this time share a line
_MOST_KINDS = 4096  # of refusals that wait to be written
_MOST_STRANGERS = 256  # lines an hour for clusters without data
_LONGEST_WHY = 300

_Kind = tuple[ClusterName, str, str, int, str]  # cluster, host, endpoint, status, why


class Books:
    """Writes the ledger of one store. `clock` gives the present instant."""

    def __init__(self, root: Path, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._store = store
        self._clock = clock
        self._known: set[str] = set()  # clusters
        self._refused: dict[_Kind, Arrival] = {}
        self._strangers = (0, 0)  # the hour, and how many kinds of refusals of clusters without data came in it
        self._refusing_since = 0
        self._refusing_why = ""
        self._events: list[ServerEvent] = []
        self._alive_at = 0.0

    def knows(self, cluster: ClusterName) -> bool:
        """Return whether there are data of a cluster."""
        if cluster not in self._known and (self._root / cluster).is_dir():
            self._known.add(cluster)
        return cluster in self._known

    def arrivals(self, taken: Taken, endpoint: str, now: int) -> list[Append]:
        """Return the lines of a post that is accepted, to be stored with it."""
        day = utc_day(now)
        lines: dict[ClusterName, bytes] = {}
        dropped, why = taken.dropped, taken.complaint[:_LONGEST_WHY]
        if dropped and len(taken.shares) > 1:  # whose they were is not known
            cluster = next(iter(taken.shares))[0]
            lines[cluster] = arrival_line(Arrival(now, cluster, "", endpoint, dropped=dropped, why=why))
            dropped, why = 0, ""
        for (cluster, host), share in taken.shares.items():
            arrival = Arrival(
                now,
                cluster,
                host,
                endpoint,
                records=share.records,
                bytes=share.bytes,
                late=now - share.newest,
                span=share.newest - share.oldest,
                dropped=dropped,
                why=why,
            )
            lines[cluster] = lines.get(cluster, b"") + arrival_line(arrival)
        self._known.update(lines)
        return [Append(arrivals_path(cluster, day), data) for cluster, data in lines.items()]

    def rejected(self, cluster: ClusterName, endpoint: str, taken: Taken, now: int) -> Append:
        """Return the line of a message of which nothing is stored, which is not to be sent again."""
        why = taken.complaint[:_LONGEST_WHY]
        arrival = Arrival(now, cluster, taken.host, endpoint, taken.status, dropped=taken.dropped, why=why)
        return Append(arrivals_path(cluster, utc_day(now)), arrival_line(arrival))

    def refused(
        self, cluster: ClusterName, host: str, endpoint: str, status: int, why: str, remote: str, dropped: int = 0
    ) -> None:
        """Count a refused post."""
        if status == 503:
            self._watch_store()
        now = int(self._clock())
        kind = (cluster, host, endpoint, status, why[:_LONGEST_WHY])
        before = self._refused.get(kind)
        if before is not None:
            remote = remote if remote == before.remote else ""
            posts, dropped = before.posts + 1, before.dropped + dropped
            self._refused[kind] = replace(before, posts=posts, until=now, dropped=dropped, remote=remote)
        elif len(self._refused) < _MOST_KINDS and (self.knows(cluster) or self._has_room(now)):
            why = kind[-1]
            self._refused[kind] = Arrival(
                now, cluster, host, endpoint, status, dropped=dropped, why=why, until=now, remote=remote
            )

    def _has_room(self, now: int) -> bool:
        """Whether there may be one more line for a cluster without data."""
        hour, count = self._strangers
        self._strangers = (now // HOUR, count + 1 if hour == now // HOUR else 1)
        return self._strangers[1] <= _MOST_STRANGERS

    def begin(self) -> None:
        """Write that the server has started, or leave that for later where nothing can be written."""
        before = last_event(self._root)
        event = ServerEvent(int(self._clock()), "up", before.at if before else 0)
        self._alive_at = time.monotonic()
        try:
            self._store.append_and_wait([Append(server_path(event.at), event_line(event))])
        except StoreUnavailableError:
            self._events.append(event)

    async def keep(self) -> None:
        """Write what is to be written, until cancelled."""
        while True:
            self._watch_store()
            await self._write()
            await asyncio.sleep(_TICK_S)

    async def close(self) -> None:
        """Write all there is, and that the server ends."""
        self._watch_store()
        self._events.append(ServerEvent(int(self._clock()), "down"))
        await self._write(everything=True)

    def _watch_store(self) -> None:
        """Note since when uploads are refused; when that is over, that it was so."""
        why = self._store.refusal
        if why and not self._refusing_why:
            self._refusing_since, self._refusing_why = int(self._clock()), why
        elif not why and self._refusing_why:
            event = ServerEvent(int(self._clock()), "refusing", self._refusing_since, self._refusing_why[:_LONGEST_WHY])
            self._events.append(event)
            self._refusing_why = ""

    async def _write(self, *, everything: bool = False) -> None:
        if self._refusing_why and not everything:
            return
        now = int(self._clock())
        if not self._events and time.monotonic() - self._alive_at >= ALIVE_S:
            self._events.append(ServerEvent(now, "alive"))
        due = {kind: one for kind, one in self._refused.items() if everything or now - one.at >= _GATHER_S}
        if not (self._events or due):
            return
        lines: dict[str, bytes] = {}
        for event in self._events:
            path = server_path(event.at)
            lines[path] = lines.get(path, b"") + event_line(event)
        for arrival in due.values():
            cluster = ClusterName(arrival.cluster)
            if self.knows(cluster):
                path, line = arrivals_path(cluster, utc_day(arrival.at)), arrival_line(arrival)
            else:  # its directory would make the cluster a known one
                path, line = strangers_path(arrival.at), stranger_line(arrival)
            lines[path] = lines.get(path, b"") + line
        for kind in due:
            del self._refused[kind]
        events, self._events = self._events, []
        try:
            await self._store.append([Append(path, data) for path, data in lines.items()])
        except StoreUnavailableError:
            self._events = events + self._events
            for kind, one in due.items():
                self._refused.setdefault(kind, one)
        else:
            self._alive_at = time.monotonic() if events else self._alive_at

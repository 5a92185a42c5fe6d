"""What many people watch at the same time is computed once: the state of a cluster, for some seconds.

A snapshot older than `FRESH_S` is given out while a new one is made, so that nobody waits, and everybody sees its age.
Those that nobody watches are renewed in the background, seldom enough to take a small part of the machine. The last of
each is kept on disk over a restart: see `sonar.web.snapshot_files`. A page shows of a snapshot what its reader may see.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sonar.config.clusters import Clusters
from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.serve.passwords import Identity, Role
from sonar.times import present
from sonar.web.questions import Asker
from sonar.web.shared import SharedScans
from sonar.web.snapshot_files import SnapshotFiles
from sonar.web.workers import Lane, Workers

__all__ = ["FRESH_S", "Snapshots"]

FRESH_S = 30.0  # a new sample of a node comes every minute or every five
_LEAST_PAUSE = 8  # times what a snapshot took: computing them may take a small part of the machine only
_PAGE_FRESH_S = 10.0  # pages tell ages in minutes
_WARM_S = 300.0  # what nobody looks at is made again after so long
_LEAST_WARM_PAUSE = 40  # times what it took
_WATCH_S = 10.0
_STORE_S = 60.0  # what is on disk is older than what is in memory by no more
_MOST_KEPT = 200
_MOST_PAGES = 20  # of up to a megabyte

_log = logging.getLogger("sonalyzed")

Maker = Callable[[Asker, ClusterName], Any]


@dataclass(slots=True)
class _Kept:
    value: Any
    made: float  # monotonic
    fresh_s: float = FRESH_S
    took_s: float = 0.0


class Snapshots:
    """Keeps the last snapshot of each kind and cluster."""

    def __init__(self, workers: Workers, clusters: Clusters, files: SnapshotFiles | None = None) -> None:
        self._workers = workers
        self._clusters = clusters
        self._files = files
        self._stored: dict[tuple[str, ClusterName], float] = {}  # when what is on disk was made
        self._trouble = ""  # why the last storing failed
        self._kept: OrderedDict[tuple[str, ClusterName], _Kept] = OrderedDict()
        self._pages: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._rendering: dict[tuple[object, ...], asyncio.Future[bytes]] = {}
        self._making: dict[tuple[str, ClusterName], asyncio.Task[Any]] = {}

    async def get(self, maker: Maker, cluster: ClusterName) -> Any:
        """Return the snapshot that `maker` makes of a cluster, at most some seconds old if anybody watches."""
        kept = self._kept.get(_key(maker, cluster))
        if kept is not None and time.monotonic() - kept.made < kept.fresh_s:
            return kept.value
        making = self._begin(maker, cluster)
        return kept.value if kept is not None else await asyncio.shield(making)

    def peek(self, maker: Maker, cluster: ClusterName) -> Any:
        """Return the last snapshot, whatever its age; None if there is none yet. Nothing is begun."""
        kept = self._kept.get(_key(maker, cluster))
        return kept.value if kept is not None else None

    def restore(self, makers: Sequence[Maker]) -> None:
        """Take up the snapshots that were kept on disk."""
        if self._files is None:
            return
        with contextlib.suppress(OSError):
            for cluster in self._clusters.names():
                for maker in makers:
                    key = _key(maker, cluster)
                    if (found := self._files.read(*key)) is not None:
                        value, age, took = found
                        self._kept[key] = _kept(value, age, took)
                        self._stored[key] = self._kept[key].made

    def store(self) -> None:
        """Keep on disk what is not there yet."""
        if self._files is None:
            return
        trouble = ""
        for key, kept in list(self._kept.items()):
            if self._stored.get(key) != kept.made:
                try:
                    self._files.write(*key, kept.value, kept.took_s)
                    self._stored[key] = kept.made
                except (OSError, TypeError) as error:  # nobody's page depends on it
                    trouble = f"the state of {key[1]} cannot be kept on disk: {error}"
        if trouble and trouble != self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble

    async def keep_warm(self, makers: Sequence[Maker]) -> None:
        """Make the snapshots of all clusters, and make them again now and then; until cancelled."""
        due: dict[tuple[str, ClusterName], float] = {}
        to_store = 0.0
        while True:
            names: list[ClusterName] = []
            with contextlib.suppress(OSError):  # told by whoever asks
                names = await asyncio.to_thread(self._clusters.names)
            for cluster in names:
                for maker in makers:
                    key = _key(maker, cluster)
                    if time.monotonic() < due.get(key, 0.0):
                        continue
                    kept = self._kept.get(key)
                    if kept is None or time.monotonic() - kept.made >= _WARM_S:
                        await asyncio.wait({self._begin(maker, cluster)})
                        kept = self._kept.get(key)
                    took_s = kept.took_s if kept is not None else 0.0
                    due[key] = time.monotonic() + max(_WARM_S, _LEAST_WARM_PAUSE * took_s)
            if time.monotonic() >= to_store:
                to_store = time.monotonic() + _STORE_S
                await asyncio.to_thread(self.store)
            await asyncio.sleep(_WATCH_S)

    def _begin(self, maker: Maker, cluster: ClusterName) -> asyncio.Task[Any]:
        key = _key(maker, cluster)
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._make(key, maker, cluster))
            making.add_done_callback(lambda task: self._made(key, task))
        return making

    async def page(self, key: tuple[object, ...], snapshot: Any, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return a page about a snapshot, made once in some seconds for all who see the same of it."""
        kept = self._pages.get(key)
        if kept is not None and kept.value[0] is snapshot and time.monotonic() - kept.made < _PAGE_FRESH_S:
            return bytes(kept.value[1])
        rendering = self._rendering.get(key)
        if rendering is None:
            rendering = self._rendering[key] = asyncio.ensure_future(make())
            rendering.add_done_callback(lambda task: self._rendered(key, snapshot, task))
        return await asyncio.shield(rendering)

    def _rendered(self, key: tuple[object, ...], snapshot: Any, task: "asyncio.Future[bytes]") -> None:
        self._rendering.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._pages[key] = _Kept((snapshot, task.result()), time.monotonic())
            self._pages.move_to_end(key)
            while len(self._pages) > _MOST_PAGES:
                self._pages.popitem(last=False)

    async def _make(self, key: tuple[str, ClusterName], maker: Maker, cluster: ClusterName) -> Any:
        started = time.monotonic()
        value = await self._workers.value(Lane.SNAPSHOT, _made_of, maker, self._clusters, cluster, present())
        self._kept[key] = _kept(value, 0.0, time.monotonic() - started)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return value

    def _made(self, key: tuple[str, ClusterName], task: "asyncio.Task[Any]") -> None:
        self._making.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, SonarError) else logging.ERROR
            _log.log(level, "the state of %s could not be computed: %s", key[1], error)


def _kept(value: Any, age_s: float, took_s: float) -> _Kept:
    return _Kept(value, time.monotonic() - age_s, max(FRESH_S, _LEAST_PAUSE * took_s), took_s)


def _key(maker: Maker, cluster: ClusterName) -> tuple[str, ClusterName]:
    return f"{maker.__module__}.{maker.__qualname__}", cluster


def _made_of(maker: Maker, clusters: Clusters, cluster: ClusterName, now: int) -> Any:
    return maker(Asker(clusters, Identity("", Role.SUPPORT), now, SharedScans()), cluster)

"""What many people watch at the same time is computed once: the state of a cluster, for some seconds.

A snapshot older than `FRESH_S` is given out while a new one is made, so that nobody waits, and everybody sees its age.
Nothing in a snapshot is about single persons: it is the same for all.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sonar.config.clusters import Clusters
from sonar.errors import SonarError
from sonar.names import ClusterName
from sonar.serve.passwords import Identity, Role
from sonar.times import present
from sonar.web.questions import Asker
from sonar.web.workers import Lane, Workers

__all__ = ["FRESH_S", "Snapshots"]

FRESH_S = 30.0  # a new sample of a node comes every minute or every five
_OLDEST_S = 300.0  # what nobody has looked at for so long is made again before it is shown
_MOST_KEPT = 200

_log = logging.getLogger("sonalyzed")

Maker = Callable[[Asker, ClusterName], Any]


@dataclass(slots=True)
class _Kept:
    value: Any
    made: float  # monotonic


class Snapshots:
    """Keeps the last snapshot of each kind and cluster."""

    def __init__(self, workers: Workers, clusters: Clusters) -> None:
        self._workers = workers
        self._clusters = clusters
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[Any]] = {}

    async def get(self, maker: Maker, cluster: ClusterName) -> Any:
        """Return the snapshot that `maker` makes of a cluster, at most some seconds old if anybody watches."""
        key = (f"{maker.__module__}.{maker.__qualname__}", cluster)
        kept = self._kept.get(key)
        age = time.monotonic() - kept.made if kept else float("inf")
        if kept is not None and age < FRESH_S:
            return kept.value
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._make(key, maker, cluster))
            making.add_done_callback(lambda task: self._made(key, task))
        if kept is not None and age < _OLDEST_S:
            return kept.value
        return await asyncio.shield(making)

    async def _make(self, key: tuple[str, str], maker: Maker, cluster: ClusterName) -> Any:
        value = await self._workers.value(Lane.PAGE, _made_of, maker, self._clusters, cluster, present())
        self._kept[key] = _Kept(value, time.monotonic())
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return value

    def _made(self, key: tuple[str, str], task: "asyncio.Task[Any]") -> None:
        self._making.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, SonarError) else logging.ERROR
            _log.log(level, "the state of %s could not be computed: %s", key[1], error)


def _made_of(maker: Maker, clusters: Clusters, cluster: ClusterName, now: int) -> Any:
    return maker(Asker(clusters, Identity("", Role.SUPPORT), now), cluster)

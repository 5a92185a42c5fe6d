"""Slow down those who guess passwords, without slowing down those who know them.

Wrong credentials count for the source together with the user, and for the source as a whole; what was right clears the
former. After some failures nothing more is checked for a time that doubles with each further failure. The whole of a
source is judged more mildly, and not at all for a user that was right from there before: behind one address there may
be a cluster's worth of nodes, one of which has an old password.
"""

import functools
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]

FREE_FAILURES = 10  # of one user from one source
FREE_FAILURES_OF_SOURCE = 100
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
FORGET_S = 900.0
MOST_KEPT = 10_000


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class Backoff:
    """Remembers failures; bounded in memory. Not for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()  # user "": the source as a whole
        self._were_right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def pause_s(self, source: str, user: str) -> float:
        """Return how long from now nothing is to be checked for a user from a source; 0: check it."""
        if not self._records:
            return 0.0
        now = self._clock()
        source = _network(source)
        until = self._until((source, user))
        if (source, user) not in self._were_right:
            until = max(until, self._until((source, "")))
        return max(until - now, 0.0)

    def failed(self, source: str, user: str) -> None:
        """Note that credentials were wrong."""
        source = _network(source)
        self._count((source, user), FREE_FAILURES)
        self._count((source, ""), FREE_FAILURES_OF_SOURCE)

    def succeeded(self, source: str, user: str) -> None:
        """Note that credentials were right."""
        key = (_network(source), user)
        self._records.pop(key, None)
        self._were_right[key] = None
        self._were_right.move_to_end(key)
        if len(self._were_right) > MOST_KEPT:
            self._were_right.popitem(last=False)

    def _until(self, key: tuple[str, str]) -> float:
        record = self._records.get(key)
        return record.until if record else 0.0

    def _count(self, key: tuple[str, str], free: int) -> None:
        now = self._clock()
        record = self._records.pop(key, None)
        if record is None or now - record.last > FORGET_S:
            record = _Record()
        record.failures += 1
        record.last = now
        if record.failures >= free:
            doublings = min(record.failures - free, 20)
            record.until = now + min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S)
        self._records[key] = record  # at the end: the one that failed last is dropped last
        if len(self._records) > MOST_KEPT:
            self._records.popitem(last=False)


@functools.lru_cache(4096)
def _network(source: str) -> str:
    """Return what one customer of a network provider has: an IPv4 address, or an IPv6 network of /64."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if address.version == 4:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)

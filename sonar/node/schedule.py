"""When to sample: at the multiples of the interval of the wall clock, so that all nodes sample together.

The instants do not depend on how long a sample takes, so they never drift. Instants that have passed (a slow sample,
a suspended machine, a clock set forward) are made up for by one sample, not by many.
"""

import signal
import time
from collections.abc import Callable, Iterable

__all__ = ["Schedule", "Waiter", "wait_for_signal"]

Waiter = Callable[[float], bool]
"""Waits the given seconds at most; True: the program shall end."""

_LONGEST_WAIT_S = 30.0


class Schedule:
    """Wait for one instant after the other.

    No single wait is long, so that a clock that was set, and the end of a suspension, are noticed soon, and so that
    `heartbeat` is called at least each `heartbeat_s` seconds.
    """

    def __init__(
        self,
        interval_s: int,
        *,
        wait: Waiter,
        clock: Callable[[], float] = time.time,
        heartbeat: Callable[[], None] = lambda: None,
        heartbeat_s: float | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._wait = wait
        self._clock = clock
        self._heartbeat = heartbeat
        self._longest_wait_s = min(_LONGEST_WAIT_S, heartbeat_s or _LONGEST_WAIT_S)
        self._due = self.next_after(clock())

    def next_after(self, now: float) -> int:
        """Return the first multiple of the interval that is later than `now`."""
        return (int(now // self._interval_s) + 1) * self._interval_s

    def wait_for_next(self) -> bool:
        """Return True when it is time to sample, False when the program shall end."""
        while True:
            self._heartbeat()
            now = self._clock()
            if self._due - now > self._interval_s:  # the clock was set back
                self._due = self.next_after(now)
            if self._wait(min(max(self._due - now, 0.0), self._longest_wait_s)):
                return False
            if now >= self._due:
                self._due = self.next_after(now)
                return True


def wait_for_signal(signals: Iterable[signal.Signals]) -> Waiter:
    """Block `signals` from now on and return a waiter that ends early, with True, when one of them comes.

    Blocked signals interrupt nothing: a sample that has begun is finished and written.
    """
    awaited = frozenset(signals)
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    return lambda seconds: signal.sigtimedwait(awaited, max(seconds, 0.0)) is not None

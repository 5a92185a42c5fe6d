"""Delivery: the spool's files to the server, oldest first, for as long as it takes.

A file leaves the spool only when the server has said 2xx, or when it refuses it for good; then it is put aside. After
trouble the same file is tried again, with pauses that grow and are spread by chance so that a cluster's nodes do not
come back all at once. What arrives is sent at a random moment within the sending window; a backlog goes at once.
"""

import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sonar import notify
from sonar.node.spool import Entry, Spool
from sonar.node.upload import Answer, Server, Verdict

__all__ = ["Delivery", "Pauses"]

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 600.0
LONGEST_PAUSE_NOT_LET_IN_S = 3600.0
_IDLE_S = 1.0
_WARN_AGAIN_S = 3600.0

log = logging.getLogger("exfiltrate")


@dataclass(slots=True)
class Pauses:
    """The pauses between tries: doubled each time up to a limit, each cut by chance to between half and all of it."""

    chance: Callable[[], float] = random.random
    _tries: int = 0

    def next(self, answer: Answer) -> float:
        """Return how many seconds to wait after this answer; never less than the server asks for."""
        limit = LONGEST_PAUSE_NOT_LET_IN_S if answer.verdict is Verdict.NOT_LET_IN else LONGEST_PAUSE_S
        longest = min(SHORTEST_PAUSE_S * float(1 << min(self._tries, 20)), limit)
        self._tries += 1
        pause = longest * (1 + self.chance()) / 2
        return max(pause, (answer.retry_after_s or 0.0) * (1 + self.chance() / 10))

    def reset(self) -> None:
        """Begin anew: a try has succeeded."""
        self._tries = 0


@dataclass(slots=True)
class Delivery:
    """Delivers one spool to one server until it is told to stop."""

    spool: Spool
    server: Server
    window_s: float = 0.0
    pauses: Pauses = field(default_factory=Pauses)
    clock: Callable[[], float] = time.time
    stopped: threading.Event = field(default_factory=threading.Event)
    _delivered: int = 0
    _refused: int = 0
    _warned_at: float | None = None
    _due_at: float | None = None

    def stop_on_signals(self) -> None:
        """End after the request in flight on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopped.set())

    def run(self) -> None:
        """Deliver what is there and what comes, until stopped."""
        notify.ready("waiting for samples")
        while not self.stopped.is_set():
            notify.watchdog()
            self._keep_quota()
            entries = self.spool.entries()
            wait = self._until_due(entries)
            if wait > 0:
                self.stopped.wait(min(wait, _IDLE_S))
            elif (pause := self._deliver(entries)) is not None:
                self._pause(pause)
            notify.status(f"{self._delivered} delivered, {self._refused} refused, {len(entries)} were waiting")
        notify.stopping("the rest stays in the spool")

    def run_once(self, patience_s: float) -> int:
        """Deliver what is there, trying again after trouble for at most `patience_s`; return how many files remain."""
        deadline = self.clock() + patience_s
        self.stopped.wait(max(self._until_due(self.spool.entries()), 0.0))
        while not self.stopped.is_set() and (entries := self.spool.entries()):
            pause = self._deliver(entries)
            if pause is not None:
                if self.clock() + pause > deadline:
                    break
                self.stopped.wait(pause)
        return len(self.spool.entries())

    def _until_due(self, entries: list[Entry]) -> float:
        """Return the seconds until the spool is to be sent: at a random moment after the oldest file's arrival."""
        if not entries:
            self._due_at = None
            return _IDLE_S
        if self._due_at is None:
            self._due_at = entries[0].arrived_s + self.window_s * self.pauses.chance()
        return min(self._due_at - self.clock(), self.window_s)

    def _deliver(self, entries: list[Entry]) -> float | None:
        """Post the files in order; return how long to pause if one of them is to be tried again, else None."""
        for entry in entries:
            if self.stopped.is_set():
                return None
            notify.watchdog()
            try:
                answer = self.server.post(entry)
            except FileNotFoundError:
                continue  # dropped for the quota, or delivered by another exfiltrate
            if answer.verdict is Verdict.DELIVERED:
                self.spool.remove(entry)
                self._delivered += 1
                self._warned_at = None
                self.pauses.reset()
                if answer.dropped:
                    log.warning("the server dropped %s records of '%s'", answer.dropped, entry.name)
            elif answer.verdict is Verdict.REFUSED:
                self.spool.quarantine(entry, answer.why)
                self._refused += 1
                log.warning("the server refuses '%s' for good (%s), putting it into bad/", entry.name, answer.why)
            else:
                pause = self.pauses.next(answer)
                self._warn_of_trouble(answer, pause)
                return pause
        self._due_at = None
        return None

    def _warn_of_trouble(self, answer: Answer, pause: float) -> None:
        """Warn of trouble when it begins, and once an hour while it lasts."""
        now = self.clock()
        if self._warned_at is None or now - self._warned_at >= _WARN_AGAIN_S:
            self._warned_at = now
            log.warning("cannot deliver (%s), trying again, next in %.0f s", answer.why, pause)

    def _keep_quota(self) -> None:
        if dropped := self.spool.enforce_quota():
            log.warning("the spool is over its quota, dropped the oldest %d files", dropped)

    def _pause(self, seconds: float) -> None:
        """Wait, feeding the watchdog, until the time is over or we are stopped."""
        end = time.monotonic() + seconds
        while not self.stopped.is_set() and (left := end - time.monotonic()) > 0:
            notify.watchdog()
            self.stopped.wait(min(left, 30.0))
            self._keep_quota()

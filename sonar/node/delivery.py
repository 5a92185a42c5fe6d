"""Delivery: the spool's files to the server, oldest first, for as long as it takes.

A file leaves the spool only when the server has said 2xx, or when it refuses it for good; then it is put aside. After
trouble the same file is tried again, with pauses that grow and are spread by chance, so that the nodes of a cluster do
not come back all at once. What arrives is sent at a random moment within the sending window; a backlog goes at once.

An identity that is not let in (401, 403) is trouble, not a refusal: the data are good, and once the password is right
they are wanted.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sonar import notify
from sonar.node.schedule import Waiter
from sonar.node.spool import Entry, Spool
from sonar.node.upload import Answer, Verdict

__all__ = ["Delivery", "Pauses", "Recipient"]

_PAUSES_S = {Verdict.LATER: (1.0, 600.0), Verdict.NOT_LET_IN: (60.0, 3600.0)}
"""The first and the longest pause after each kind of trouble."""

_WARN_AGAIN_S = 3600.0
_LONGEST_WAIT_S = 30.0

_log = logging.getLogger(__name__)


class Recipient(Protocol):
    """Who takes the files: a server."""

    def post(self, entry: Entry) -> Answer:
        """Post one file and return what came of it. Raise OSError if the file cannot be opened."""

    def close(self) -> None:
        """Close the connections; the next post opens one."""


@dataclass(slots=True)
class Pauses:
    """The pauses between tries: doubled each time up to a limit, each cut by chance to between half and all of it."""

    chance: Callable[[], float] = random.random
    tries: int = 0

    def after(self, answer: Answer) -> float:
        """Return how many seconds to wait after this answer; never less than the server asks for."""
        first_s, limit_s = _PAUSES_S[answer.verdict]
        longest_s = min(first_s * float(1 << min(self.tries, 20)), limit_s)
        self.tries += 1
        asked_s = (answer.retry_after_s or 0.0) * (1 + self.chance() / 10)
        return max(longest_s * (1 + self.chance()) / 2, asked_s)


class Delivery:
    """Delivers one spool to one server until `wait` says to stop. The request in flight is always finished.

    `chance` gives numbers in [0, 1); `clock` is the wall clock, for the ages of files; `monotonic` measures time.
    """

    def __init__(
        self,
        spool: Spool,
        server: Recipient,
        *,
        wait: Waiter,
        window_s: float = 0.0,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.delivered = self.refused = self.dropped = 0
        self._spool = spool
        self._server = server
        self._ask_to_stop = wait
        self._window_s = window_s
        self._chance = chance
        self._clock = clock
        self._monotonic = monotonic
        self._stopping = False
        self._due_at: float | None = None
        self._pauses = Pauses(chance)
        self._trouble: Answer | None = None
        self._warned_at = 0.0
        self._dropping = 0
        self._told = ""
        self._fed_at: float | None = None

    def run(self) -> None:
        """Deliver what is there and what comes, until stopped."""
        notify.ready("waiting for samples")
        # Looking is cheap, but waking up an idle node is not: where there is a window, noticing late costs nothing.
        look_again_s = min(max(self._window_s / 20, 1.0), 10.0)
        while not self._stopping:
            self._keep_quota()
            entries = self._spool.entries()
            self._tell(len(entries))
            if not entries:
                self._due_at = None
                self._wait(look_again_s)
            elif (wait_s := self._until_due(entries)) > 0:
                self._wait(min(wait_s, look_again_s))
            else:
                self._wait(self._deliver(entries))
        notify.stopping("the rest stays in the spool")

    def run_once(self, patience_s: float) -> int:
        """Deliver what is there, trying again after trouble for at most `patience_s`; return how many files remain."""
        notify.ready("delivering what is there")
        self._keep_quota()
        if entries := self._spool.entries():
            self._wait(self._until_due(entries))
        deadline = self._monotonic() + patience_s
        while not self._stopping and (entries := self._spool.entries()):
            pause_s = self._deliver(entries)
            if pause_s > 0 and self._monotonic() + pause_s > deadline:
                break
            self._wait(pause_s)
        return len(self._spool.entries())

    def _until_due(self, entries: list[Entry]) -> float:
        """Return the seconds until the batch is to be sent: at a random moment after its oldest file's arrival."""
        now = self._clock()
        if self._due_at is None:
            self._due_at = entries[0].arrived_ms / 1000 + self._window_s * self._chance()
        if self._due_at > now + self._window_s:  # the clock was set back
            self._due_at = now + self._window_s * self._chance()
        return max(self._due_at - now, 0.0)

    def _deliver(self, entries: list[Entry]) -> float:
        """Post the files in order; return how long to pause before trying the first of the rest again."""
        for entry in entries:
            if self._wait(0.0):
                return 0.0
            try:
                answer = self._server.post(entry)
                self._settle(entry, answer)
            except FileNotFoundError:
                continue  # dropped for the quota while we waited, or taken away by somebody
            except OSError as error:
                answer = Answer(Verdict.LATER, f"'{entry.path.name}': {error.strerror}")
            if answer.verdict in _PAUSES_S:
                pause_s = self._pauses.after(answer)
                self._warn_of_trouble(answer, pause_s)
                return pause_s
        self._due_at = None
        # The next batch is minutes away: thousands of nodes need not keep a connection open for it.
        self._server.close()
        return 0.0

    def _settle(self, entry: Entry, answer: Answer) -> None:
        """Take a file out of the spool if the answer says so."""
        _log.debug("'%s': %s", entry.path.name, answer.why)
        if answer.verdict is Verdict.DELIVERED:
            self._spool.remove(entry)
            self.delivered += 1
            self._end_trouble()
            if answer.dropped:
                _log.warning("the server took '%s' but dropped %s of its records", entry.path.name, answer.dropped)
        elif answer.verdict is Verdict.REFUSED:
            gone = self._spool.quarantine(entry, answer.why)
            self.refused += 1
            self._end_trouble()
            _log.warning("the server refuses '%s' for good (%s), keeping it in bad/", entry.path.name, answer.why)
            if gone:
                _log.warning("bad/ is over its quota, dropped the oldest %d files", gone)

    def _warn_of_trouble(self, answer: Answer, pause_s: float) -> None:
        """Warn of trouble when it begins or becomes another, and once an hour while it lasts."""
        now = self._monotonic()
        known = self._trouble is not None and self._trouble.verdict is answer.verdict
        if not known or now - self._warned_at >= _WARN_AGAIN_S:
            self._warned_at = now
            _log.warning("cannot deliver (%s), keeping all and trying again in %.0f s", answer.why, pause_s)
        self._trouble = answer

    def _end_trouble(self) -> None:
        """Say that delivery works again, and what was lost in the meantime."""
        if self._trouble is not None:
            _log.info("delivering again, after %d tries that failed", self._pauses.tries)
        if self._dropping:
            _log.info("%d files have been dropped from the spool", self._dropping)
        self._trouble, self._dropping, self._pauses.tries = None, 0, 0

    def _keep_quota(self) -> None:
        """Drop what is too much; warn when that begins. How many were dropped is told when it has ended."""
        if dropped := self._spool.enforce_quota():
            if not self._dropping:
                text = "more than %d bytes wait for delivery, dropping the oldest files (%d to begin with)"
                _log.warning(text, self._spool.quota_bytes, dropped)
            self._dropping += dropped
            self.dropped += dropped

    def _wait(self, seconds: float) -> bool:
        """Wait, keeping the quota and feeding the watchdog; return True, and at once, if we are to stop."""
        slice_s = min(_LONGEST_WAIT_S, notify.watchdog_period() or _LONGEST_WAIT_S)
        end = self._monotonic() + seconds
        while not self._stopping:
            self._feed_watchdog(slice_s)
            left_s = max(end - self._monotonic(), 0.0)
            self._stopping = self._ask_to_stop(min(left_s, slice_s))
            if left_s <= slice_s:
                break
            self._keep_quota()
        return self._stopping

    def _feed_watchdog(self, every_s: float) -> None:
        now = self._monotonic()
        if self._fed_at is None or now - self._fed_at >= every_s / 2:
            self._fed_at = now
            notify.watchdog()

    def _tell(self, waiting: int) -> None:
        """Let `systemctl status` show how things stand, if that has changed."""
        text = f"{self.delivered} delivered, {self.refused} refused, {self.dropped} dropped, {waiting} waiting"
        if self._trouble is not None:
            text += f", failing: {self._trouble.why}"
        if text != self._told:
            self._told = text
            notify.status(text)

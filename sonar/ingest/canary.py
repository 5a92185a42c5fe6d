"""The check that feeds infiltrate's watchdog: a record goes through spool and distributor, and is read from the log."""

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from sonar.store.canary import canary_of, is_stored, sweep
from sonar.store.layout import Append
from sonar.store.store import Store, StoreUnavailableError
from sonar.times import HOUR

__all__ = ["Canary"]

_LOOK_S = 0.05


class Canary:
    """Sends canaries through a store. `patience_s` is how long one may take, `clock` gives the present instant."""

    def __init__(
        self, root: Path, store: Store, patience_s: float = 12.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.last: float | None = None  # when one came back
        self._root = root
        self._store = store
        self._patience_s = patience_s
        self._clock = clock
        self._numbers = count(int(clock()))
        self._hour = -1
        self._reading: asyncio.Future[bool] | None = None

    async def ailment(self) -> str | None:
        """Return what is wrong with the server: what keeps a record from coming back; None if it works.

        A store that refuses records and says why works, and so does one that is behind and catches up: a restart
        would help neither.
        """
        if not self._store.healthy():
            return "a thread of the store has died or hangs"
        if self._reading is not None and not self._reading.done():
            return "the log cannot be read: the last attempt hangs"
        now = int(self._clock())
        canary = canary_of(next(self._numbers), now)
        deadline = time.monotonic() + self._patience_s
        done_before = self._store.distributed_bytes
        try:
            async with asyncio.timeout(self._patience_s):
                await self._store.append([canary])
        except StoreUnavailableError:
            return None
        except TimeoutError:
            return f"a record was not made durable within {self._patience_s:g} s"
        while not await self._came_back(canary, deadline):
            if self._store.obstacle is not None:
                return None
            if time.monotonic() > deadline:
                if self._store.backlog_bytes and self._store.distributed_bytes > done_before:
                    return None
                return (
                    f"a record did not come from the spool to the log, to be read there, within {self._patience_s:g} s"
                )
            await asyncio.sleep(_LOOK_S)
        self.last = self._clock()
        if now // HOUR != self._hour:
            self._hour = now // HOUR
            await asyncio.to_thread(sweep, self._root, now)
        return None

    async def _came_back(self, canary: Append, deadline: float) -> bool:
        """Look for it in a thread, since a disk may hang; then it is not looked again before that thread is back."""
        self._reading = asyncio.ensure_future(asyncio.to_thread(is_stored, self._root, canary))
        done, _ = await asyncio.wait({self._reading}, timeout=max(0.1, deadline - time.monotonic()))
        try:
            return bool(done) and self._reading.result()
        except OSError:
            return False

"""The log of a data root, for the one process that writes it: durable appends, visible to readers a moment later."""

import asyncio
import concurrent.futures
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sonar import durable
from sonar.errors import SonarError
from sonar.store.distribute import Distributor
from sonar.store.layout import Append
from sonar.store.spool import Spool

__all__ = ["SPOOL_DIRECTORY", "Store", "StoreUnavailableError"]

# No cluster can have this name, and readers look at clusters only.
SPOOL_DIRECTORY = ".spool"

_MOST_WAITING_BYTES = 256 << 20
_MOST_BACKLOG_BYTES = 4 << 30
_HUNG_S = 20.0
_LOOK_S = 0.5  # how old the knowledge of free room may be

Settled = Callable[["StoreUnavailableError | None"], None]
_Waiter = asyncio.Future[None] | concurrent.futures.Future[None] | Settled


class StoreUnavailableError(SonarError):
    """Nothing was stored, and trying again later may help."""


class Store:
    """The one writer of a data root. Make it, append, close it.

    With `sync` false an append is answered when the system has taken it: it survives a crash of this process, but
    not of the machine. Appends are refused while less than `reserve_bytes` are free on the disk.
    """

    def __init__(self, root: Path, *, sync: bool = True, reserve_bytes: int = 0) -> None:
        self._root = root
        self.reserve_bytes = reserve_bytes
        self._lives_at = 0.0  # when both threads were last seen alive
        self._room: tuple[float, int] = (0.0, 0)  # when it was looked at, and what was there
        self._lock = _lock(root)
        self._loop: asyncio.AbstractEventLoop | None = None
        directory = root / SPOOL_DIRECTORY
        try:
            directory.mkdir(mode=0o750, exist_ok=True)
            if sync:
                durable.sync(root)  # at each start: who made it may not have come to this
            self._distributor = Distributor(root, directory, sync=sync)
        except OSError as error:
            os.close(self._lock)
            where = error.filename or str(directory)
            raise SonarError(f"cannot take up the spool '{where}': {error.strerror}") from None
        self._spool: Spool[_Waiter] = Spool(
            directory,
            self._distributor.first_free_segment,
            settled=self._settled,
            advanced=self._distributor.wake,
            sync=sync,
        )
        self._spool.start()
        self._distributor.start(self._spool)

    async def append(self, appends: Sequence[Append]) -> None:
        """Return when all the appends are durable; raise StoreUnavailableError if none is."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[None] = loop.create_future()
        self._submit(appends, future)
        await future

    def submit(self, appends: Sequence[Append], settled: Settled) -> None:
        """Do what `append` does, and call back in the running event loop; raise StoreUnavailableError at once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._submit(appends, settled)

    def append_and_wait(self, appends: Sequence[Append]) -> None:
        """Do what `append` does where there is no event loop."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._submit(appends, future)
        future.result()

    @property
    def obstacle(self) -> str | None:
        """Why the store cannot be written at the moment, as far as is known; None if it can."""
        if not (self._spool.alive and self._distributor.alive):
            return "a thread of the store has died"
        return self.refusal or self._distributor.obstacle

    @property
    def refusal(self) -> str | None:
        """Why an append would be refused now, as far as is known; None if it would not be."""
        now = time.monotonic()
        if now - self._lives_at > _LOOK_S:
            if not (self._spool.alive and self._distributor.alive):
                return "a thread of the store has died"
            self._lives_at = now
        if self._spool.waiting_bytes > _MOST_WAITING_BYTES or self.backlog_bytes > _MOST_BACKLOG_BYTES:
            return "too much waits to be written"
        if self.reserve_bytes and self.free_bytes() < self.reserve_bytes:
            return "the disk is down to its reserve"
        return self._spool.obstacle

    @property
    def last_durable(self) -> float | None:
        """When something was last made durable (seconds since 1970); None if nothing was yet."""
        return self._spool.last_durable

    def free_bytes(self) -> int:
        """Return how much the disk has room for, as it was at most a moment ago."""
        now = time.monotonic()
        if now - self._room[0] > _LOOK_S:
            try:
                status = os.statvfs(self._root)
            except OSError:
                self._room = (now, 0)
            else:
                self._room = (now, status.f_bavail * status.f_frsize)
        return self._room[1]

    @property
    def waiting_bytes(self) -> int:
        """How much has been given to the store and is not in the spool yet."""
        return self._spool.waiting_bytes

    @property
    def distributed_bytes(self) -> int:
        """How much has gone from the spool to the files."""
        return self._distributor.done_bytes

    @property
    def backlog_bytes(self) -> int:
        """How much lies in the spool and is not in the files yet."""
        return self._spool.total_bytes - self._distributor.done_bytes

    def healthy(self) -> bool:
        """Whether the store works, if only at telling that there is no room: its threads live and do not hang."""
        now = time.monotonic()
        busy = [since for since in (self._spool.busy_since, self._distributor.busy_since) if since is not None]
        return self._spool.alive and self._distributor.alive and all(now - since < _HUNG_S for since in busy)

    def close(self) -> None:
        """Write and distribute what has been taken, leave the spool empty if that is possible, give up the lock."""
        self._spool.close()
        self._distributor.close()
        os.close(self._lock)

    def _submit(self, appends: Sequence[Append], waiter: _Waiter) -> None:
        # A spool that has failed tries again with what comes: only that tells that there is room again at once.
        if (refusal := self.refusal) and refusal is not self._spool.obstacle:
            raise StoreUnavailableError(refusal)
        self._spool.submit(appends, waiter)

    def _settled(self, waiters: Sequence[_Waiter], error: OSError | None) -> None:
        blocked = [waiter for waiter in waiters if isinstance(waiter, concurrent.futures.Future)]
        _resolve(blocked, error)
        if len(blocked) < len(waiters) and self._loop is not None:
            self._loop.call_soon_threadsafe(_resolve, waiters, error)


def _resolve(waiters: Sequence[_Waiter], error: OSError | None) -> None:
    for waiter in waiters:
        if not isinstance(waiter, (asyncio.Future, concurrent.futures.Future)):
            waiter(None if error is None else _refusal(error))
        elif waiter.done():  # its request was given up, or it is of the other kind and has its answer
            continue
        elif error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(_refusal(error))


def _refusal(error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"cannot store: {error.strerror}")


def _lock(root: Path) -> int:
    """Take the lock that says that this process, and no other, writes below `root`."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SonarError(f"cannot use data directory '{root}': {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SonarError(f"data directory '{root}' is in use by another process that writes it") from None
    return descriptor

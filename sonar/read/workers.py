"""Where partial answers are computed: here, in processes beside this one, or by workers of a Dask cluster."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import sonar
from sonar.errors import SonarError

__all__ = ["dask_workers", "worker_processes"]

_T = TypeVar("_T")

_CONNECT_S = 20
_one_at_a_time = Lock()  # in a worker of several threads: opened columns are shared, and are not for two at once


@contextmanager
def worker_processes(jobs: int) -> Iterator[Executor | None]:
    """Give an executor of so many processes; None for one, which needs no other than this.

    They are forked, so they have what is imported; this process must not have started threads that hold locks.
    """
    if jobs <= 1:
        yield None
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        yield pool


@contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """Give the workers of the Dask scheduler at an address, which see the data under the same path.

    What a worker that is lost was doing is done by another. Raise SonarError if there is no scheduler, or no Dask.
    """
    try:
        import distributed
    except ImportError:
        raise SonarError("--scheduler needs Dask: install sonar-server[distributed]") from None
    make: Any = distributed.Client
    try:
        client = make(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SonarError(f"No Dask scheduler at '{address}': {error}") from None
    try:
        yield _Cluster(client)
    finally:
        client.close()


class _Cluster(Executor):
    """An executor whose only work is `map`, on a Dask cluster."""

    def __init__(self, client: Any) -> None:
        # Each call is a new one: what was read for an earlier question may have changed since.
        self._executor = client.get_executor(pure=False)

    def map(self, fn: Callable[..., _T], *iterables: Iterable[Any], **_options: Any) -> Iterator[_T]:
        """Yield what the function makes of each item, in their order."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        try:
            yield from self._executor.map(partial(_on_worker, sonar.__version__, fn), *iterables)
        except (KilledWorker, NoValidWorkerError, FutureCancelledError) as error:
            raise SonarError(f"The Dask workers do not last: {error}") from None


def _on_worker(version: str, function: Callable[..., _T], *arguments: Any) -> _T:
    """Do one part of the work, in the process of a worker."""
    if version != sonar.__version__:
        raise SonarError(f"A Dask worker has Sonar {sonar.__version__}, not {version}")
    with _one_at_a_time:
        return function(*arguments)

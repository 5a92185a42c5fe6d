"""Where partial answers are computed: here, in processes beside this one, or wherever an executor takes them."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

__all__ = ["worker_processes"]


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

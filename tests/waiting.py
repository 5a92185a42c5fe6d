"""What tests wait for, and ports that stay theirs: certain on any machine, however busy or quick."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LIMIT_S = 120


def until(condition: Callable[[], object], what: str = "it never came") -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port of loopback on which servers can listen and end in turn: meanwhile nobody is given it by the system.

    Where none listens connections are refused, since a socket is bound to it that does not listen.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]

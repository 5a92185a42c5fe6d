"""What sonalyze does for people at a terminal and for nobody else: the width, a pager, and a sign of life."""

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

__all__ = ["paged", "still_working", "width"]

_PATIENCE_S = 2.0
_PERIOD_S = 0.5
_PAGER = "less"
_LESS = "FRX"  # end at once if all fits on the screen, let colours through, leave the screen as it is


def width(out: IO[str]) -> int:
    """Return the number of columns of a terminal; 0 if the stream is none."""
    try:
        return os.get_terminal_size(out.fileno()).columns if out.isatty() else 0
    except (OSError, ValueError):
        return 0


@contextmanager
def paged(out: IO[str]) -> "Iterator[IO[str]]":
    """Give a stream to write an answer to: that of $PAGER, by default less, if `out` is a terminal, else `out`."""
    command = shlex.split(os.environ.get("PAGER", _PAGER))
    if not out.isatty() or command in ([], ["cat"]) or shutil.which(command[0]) is None:
        yield out
        return
    out.flush()
    environment = {"LESS": _LESS, "LESSCHARSET": "utf-8"} | os.environ
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, encoding="utf-8") as pager:
        assert pager.stdin is not None
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pager
        try:
            yield pager.stdin
            pager.stdin.close()
        except BrokenPipeError:  # left before the end
            pass
        finally:
            pager.wait()
            signal.signal(signal.SIGINT, before)


@contextmanager
def still_working(what: str, err: IO[str]) -> Iterator[None]:
    """Tell on a terminal every now and then for how long the work has been going on, once that is more than 2 s."""
    if not err.isatty():
        yield
        return
    done = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        shown = False
        wait = _PATIENCE_S
        while not done.wait(wait):
            shown, wait = True, _PERIOD_S
            err.write(f"\r{what}, {time.monotonic() - started:.0f} s\x1b[K")
            err.flush()
        if shown:
            err.write("\r\x1b[K")
            err.flush()

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()

"""Whether the run before this one was cut off: killed, or ended by a crash, and followed by another.

A mark lies in the service's runtime directory while it runs ($RUNTIME_DIRECTORY, which the units keep over a restart).
A reboot takes it away: the journal tells of that by itself.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sonar.log import Event, about

__all__ = ["marked_run"]

_MARK = "running"

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def marked_run(name: str) -> Iterator[None]:
    """Tell if the last run was cut off, and mark this one as long as it lasts; nothing without such a directory."""
    directory = os.environ.get("RUNTIME_DIRECTORY")
    if not directory:
        yield
        return
    mark = Path(directory, _MARK)
    if mark.exists():
        text = "%s runs again: the process before this one was killed, or crashed"
        _log.warning(text, name, extra=about(Event.CUT_OFF))
    with contextlib.suppress(OSError):  # a full /run keeps nobody from serving
        mark.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink()

"""Logging of the executables: to the journal with structured fields where stderr is the journal, else to stderr.

Library code does not log; it raises or returns. Executables call `setup` once and `run` around their main function.
Fields are given as `extra={"SONAR_CLUSTER": ...}`: upper-case names only, see sonar-units(7) for the list.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from sonar.errors import SonarError

__all__ = ["Throttle", "run", "setup"]

# sd-daemon(3): a line on stderr may begin with its syslog priority in angle brackets.
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def setup(identifier: str, *, verbose: bool = False) -> None:
    """Send the log of this process to where it belongs: journal, service manager or terminal."""
    handler = _journal_handler(identifier) if _stderr_is_journal() else None
    if handler is None:
        handler = logging.StreamHandler()
        under_systemd = "INVOCATION_ID" in os.environ and not sys.stderr.isatty()
        handler.setFormatter(_PriorityFormatter() if under_systemd else logging.Formatter(f"{identifier}: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)


def run(program: str, main: Callable[[Sequence[str]], int]) -> int:
    """Return the exit status of `main(argv)`: what is wrong becomes one line on stderr, never a traceback."""
    try:
        return main(sys.argv[1:])
    except SonarError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone: not an error, and nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class Throttle(logging.Filter):
    """Let pass at most `burst` records in `period_s` seconds, so that no client can flood the log with warnings."""

    def __init__(self, burst: int = 20, period_s: float = 60.0) -> None:
        super().__init__()
        self._burst = burst
        self._period_s = period_s
        self._since = time.monotonic()
        self._passed = 0
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record may pass; what is only said with `-v` always does."""
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        if now - self._since > self._period_s:
            if self._held_back:
                record.msg = f"{record.getMessage()} ({self._held_back} messages before this one were held back)"
                record.args = ()
            self._since, self._passed, self._held_back = now, 0, 0
        self._passed += 1
        self._held_back += self._passed > self._burst
        return self._passed <= self._burst


def _stderr_is_journal() -> bool:
    """Whether stderr is the very stream that systemd connected to the journal ($JOURNAL_STREAM, systemd.exec(5))."""
    try:
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(2)
    except (ValueError, OSError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def _journal_handler(identifier: str) -> logging.Handler | None:
    try:
        from systemd import journal
    except ImportError:
        return None
    handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER=identifier)
    return handler


class _PriorityFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())

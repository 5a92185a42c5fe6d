"""Logging of the executables: to the journal with structured fields where stderr is the journal, else to stderr.

Library code does not log; it raises or returns. Executables call `setup` once and `run` around their main function.
Fields are given as `extra={"SONAR_CLUSTER": ...}`: upper-case names only, see sonar-units(7) for the list.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum

from sonar.errors import ConfigError, SonarError

__all__ = ["Event", "Throttle", "about", "run", "setup"]


_JOURNAL = "/run/systemd/journal/socket"


class Event(Enum):
    """What has an entry in the journal's catalog (units/sonar-server.catalog), by its message id.

    To add one: a line here with an id from `systemd-id128 new`, its entry in the catalog, and `extra=about(Event.…)`
    where it is logged, in one place only.
    """

    RELOADED = "361531d7aaed4b8a9801e4712d3abdde"  # a service has read its configuration again
    RELOAD_FAILED = "4d41487e79954a1aa07094108a1d7fa5"  # what it read is bad; the service goes on with what it had
    SELF_CHECK_FAILED = "dff5e71deb0540979cef49d9edacc1db"  # a service's check of itself failed
    CUT_OFF = "a6c25b2f152a4092bbde0857a91b4db5"  # the run of a service before this one was killed, or crashed
    STORE_BLOCKED = "987fdc708f194b60b0650f7f8ce016e2"  # uploads are refused: there is no room, or the disk fails
    STORE_FREE = "9189e654b719444998cb6859f2e6067a"  # uploads are taken again
    UNIT_FAILED = "a866596ee51f4240bca1397b6e5112ae"  # a unit has failed, and whoever is to know is told
    TROUBLE = "d5fe1d3ab77f47fdad8808c3eda2aefd"  # a check has found new trouble
    TROUBLE_OVER = "d1703a7e467c4134aed1e0990384d657"  # trouble that was told of is over
    DELIVERY_FAILED = "b62d2bc97e2e404591e7ba242e4d3a31"  # a mail or an alert could not be delivered and is kept
    CONFIGURATION_BAD = "d9aff75c9d4d4adbaa423a2f5c800f5c"  # a program does not start: bad configuration
    CLUSTER_ADDED = "c903506ac8c34233913a26790a66b374"  # a cluster was added
    CLUSTER_REMOVED = "2d158b5329994cad8f57dc38b9435a90"  # a cluster was removed


def about(event: Event, **fields: object) -> dict[str, str]:
    """Return the `extra` of a log record: the message id, SONAR_EVENT, and further fields, upper-case names only."""
    name = event.name.lower().replace("_", "-")
    return {"MESSAGE_ID": event.value, "SONAR_EVENT": name} | {key: str(value) for key, value in fields.items()}


# sd-daemon(3): a line on stderr may begin with its syslog priority in angle brackets.
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def setup(identifier: str, *, verbose: bool = False, only_journal: bool = False) -> None:
    """Send the log of this process to where it belongs: journal, service manager or terminal.

    With `only_journal` it goes to the journal or nowhere: for commands that answer their user themselves.
    """
    to_journal = _stderr_is_journal() or (only_journal and os.path.exists(_JOURNAL))  # noqa: PTH110
    handler = _journal_handler(identifier) if to_journal else None
    if handler is None and only_journal:
        handler = logging.NullHandler()
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
        if isinstance(error, ConfigError) and _stderr_is_journal():
            setup(program)
            logging.getLogger(program).critical("%s", error, extra=about(Event.CONFIGURATION_BAD))
        else:
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
    handler.setFormatter(logging.Formatter("%(message)s"))  # priority and logger are fields of their own
    return handler


class _PriorityFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())

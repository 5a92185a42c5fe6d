"""The command lines of older versions of exfiltrate, so that a node's script goes on working as it is.

    exfiltrate -cluster C -source sonar/csvnamed -output json -target URL [-window S] [-auth-file F] [-v]
    exfiltrate [-mimetype T] [-window N] [-auth-file F] [-ca-cert PEM] [-v] URL

Both deliver standard input, the first as JSON arrays to URL/sonar-reading and URL/sonar-heartbeat, the second as it is
to URL itself. Options may be written with one dash or two, with `=` or without. What is new is the spool: what cannot
be delivered lies on the disk until the next run. As before, the exit status is 0 once the command line was right, and
messages go to the system's log, not to cron's mail.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from sonar.errors import SonarError, UsageError
from sonar.names import cluster_name
from sonar.node.spool import CONTENT_TYPES, Entry, Spool

__all__ = ["is_of_old", "run"]

PATIENCE_S = 1800.0
"""How long one run tries: as long as the older versions did. The next one takes up what is left."""

SPOOL_VARIABLE = "SONAR_SPOOL"
_ONLY_OF_OLD = frozenset({"source", "output", "target", "mimetype"})
_SYSTEM_LOG = Path("/dev/log")

_log = logging.getLogger(__name__)


class _Error(SonarError):
    """What is wrong with the command line, in the words that scripts may look for."""

    exit_status = 1


def is_of_old(argv: Sequence[str]) -> bool:
    """Return whether a command line is one of those."""
    names = {word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")}
    has_address = bool(argv) and argv[-1].startswith(("http://", "https://")) and "url" not in names
    return bool(names & _ONLY_OF_OLD) or has_address


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for. Raise SonarError only if it is wrong."""
    try:
        plan = _as_json(argv) if _names_a_target(argv) else _as_it_is(argv)
    except SonarError as error:
        raise _Error(f"FATAL: Command line: {error}") from None
    _log_to_system(verbose=plan.options.v)
    try:
        _deliver(plan)
    except (SonarError, OSError) as error:
        _log.error("%s", error)
    return 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a command line asks for."""

    options: argparse.Namespace
    url: str
    store: Callable[[Spool, bytes], None]  # puts standard input into the spool
    place: Callable[[Entry], tuple[str, str]]  # see sonar.node.upload.Place
    destination: str  # has a spool of its own


def _deliver(plan: _Plan) -> None:
    from sonar.node.delivery import Delivery
    from sonar.node.schedule import wait_for_signal
    from sonar.node.upload import Server

    spool = Spool(_spool_directory(plan.destination))
    plan.store(spool, sys.stdin.buffer.read() if sys.stdin is not None else b"")
    with spool.delivering() as ours:
        if not ours:  # another run, which looks into the spool until it is empty
            return
        server = Server(
            plan.url,
            "",
            auth_file=plan.options.auth_file,
            ca_cert=getattr(plan.options, "ca_cert", None),
            place=plan.place,
            open_identity=True,
        )
        wait = wait_for_signal({signal.SIGTERM, signal.SIGINT})
        delivery = Delivery(spool, server, wait=wait, window_s=float(plan.options.window))
        try:
            if left := delivery.run_once(PATIENCE_S):
                _log.warning("%d posts wait in '%s' for the next run", left, spool.directory)
        finally:
            server.close()


def _names_a_target(argv: Sequence[str]) -> bool:
    return any(word.lstrip("-").partition("=")[0] in {"source", "output", "target"} for word in argv)


def _as_json(argv: Sequence[str]) -> _Plan:
    parser = _parser()
    for name in ("cluster", "source", "output", "target"):
        parser.add_argument(f"-{name}", f"--{name}", default="")
    options = parser.parse_args(argv)
    for name in ("cluster", "source", "output", "target"):
        if not getattr(options, name):
            raise UsageError(f"Argument -{name} is required")
    if options.source != "sonar/csvnamed":
        raise UsageError("Unknown --source value")
    if options.output != "json":
        raise UsageError("-output must be `json`")
    options.cluster = cluster_name(options.cluster)
    where = urlsplit(options.target)
    if where.scheme not in {"http", "https"} or not where.netloc or where.path or where.query or where.fragment:
        raise UsageError(f"Failed to parse target URL {options.target!r}")

    def store(spool: Spool, data: bytes) -> None:
        from sonar.node.readings import batches, parse_readings

        found = parse_readings(data.decode(errors="replace"), options.cluster)
        if found.problems:
            _log.warning("%d fields or records could not be read and are left out", found.problems)
        for kind, records in (("reading", found.readings), ("heartbeat", found.heartbeats)):
            for batch in batches(records):
                spool.put(kind, batch, CONTENT_TYPES["json"])

    def place(entry: Entry) -> tuple[str, str]:
        return f"/sonar-{entry.kind}", entry.content_type

    return _Plan(options, options.target, store, place, f"{options.cluster} {options.target}")


def _as_it_is(argv: Sequence[str]) -> _Plan:
    parser = _parser()
    parser.add_argument("-mimetype", "--mimetype", default="text/plain")
    parser.add_argument("-ca-cert", "--ca-cert", type=Path)
    parser.add_argument("url", nargs="*")
    options = parser.parse_args(argv)
    if len(options.url) != 1:
        raise UsageError("There must be exactly one URL at the end")
    (url,) = options.url
    where = urlsplit(url)
    if where.scheme not in {"http", "https"} or not where.netloc or "@" in where.netloc:
        raise UsageError("The URL must be http(s)://HOST[:PORT]/PATH, without a user name")
    if options.ca_cert and where.scheme == "http":
        raise UsageError("-ca-cert needs an https URL")

    def store(spool: Spool, data: bytes) -> None:
        if data.strip():
            spool.put("post", data, CONTENT_TYPES["csv"])  # how it is sent says `place`

    return _Plan(options, url, store, lambda _entry: ("", options.mimetype), f"{options.mimetype} {url}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="exfiltrate", add_help=False, allow_abbrev=False)
    parser.add_argument("-window", "--window", type=_whole_seconds, default=0)
    parser.add_argument("-auth-file", "--auth-file", type=Path)
    parser.add_argument("-v", "--v", action="store_true")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _whole_seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise argparse.ArgumentTypeError(f"want a number of seconds, not {text!r}")
    return int(text)


def _spool_directory(key: str) -> Path:
    """Return a directory of our own for one destination, on a disk of this node that outlives a reboot.

    $SONAR_SPOOL names the place; without it, one below /var/tmp that nobody else can have made.
    """
    name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    if chosen := os.environ.get(SPOOL_VARIABLE):
        return Path(chosen) / name
    top = Path("/var/tmp") / f"exfiltrate-{os.getuid()}"
    try:
        top.mkdir(mode=0o700, exist_ok=True)
        status = top.lstat()
    except OSError as error:
        raise SonarError(f"cannot use spool '{top}': {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SonarError(f"cannot use spool '{top}': others can write there; set {SPOOL_VARIABLE}")
    return top / name


def _log_to_system(*, verbose: bool) -> None:
    """Send messages to the system's log; with -v to standard error too. Where there is no such log, say nothing."""
    from logging.handlers import SysLogHandler

    handlers: list[logging.Handler] = []
    if _SYSTEM_LOG.exists():
        with contextlib.suppress(OSError):
            handler = SysLogHandler(str(_SYSTEM_LOG), SysLogHandler.LOG_USER)
            handler.setFormatter(logging.Formatter("exfiltrate: %(message)s"))
            handlers.append(handler)
    logging.raiseExceptions = False  # a log that has gone away is no reason to write to cron's mail
    if verbose:
        shown = logging.StreamHandler()
        shown.setFormatter(logging.Formatter("exfiltrate: %(message)s"))
        handlers.append(shown)
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=handlers or [logging.NullHandler()], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)

"""The command line of older versions of sonard: run a sampler again and again, and keep what it prints in a file.

    sonard [-i SECONDS] [-m SECONDS] -s SONAR [-v] LOGFILE

Better than it was: runs begin at a fixed rate; a run that has begun is finished before SIGTERM or SIGINT ends sonard; a
word on standard error is no failure if the exit status is 0; and --rollup can be asked for.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from sonar.errors import SonarError, UsageError
from sonar.node.schedule import wait_for_signal

__all__ = ["is_of_old", "run"]

DEFAULT_INTERVAL_S = 60
LEAST_INTERVAL_S = 5
DEFAULT_MIN_CPU_S = 30
_ARGUMENTS = ("ps", "--exclude-system-jobs", "--exclude-commands=bash,ssh,zsh,tmux,systemd")


class _Error(SonarError):
    """Everything that is wrong ended the older versions with status 1, also a wrong command line."""

    exit_status = 1


def is_of_old(argv: Sequence[str]) -> bool:
    """Return whether a command line is one of those: it has short options, and no others but --rollup."""
    names = {word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")}
    return bool(names & {"i", "m", "s", "v"}) and names <= {"i", "m", "s", "v", "rollup"}


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks for, until a signal; raise SonarError where the older versions ended with 1."""
    try:
        return _run(_options(argv))
    except SonarError as error:
        raise _Error(f"{datetime.now().astimezone():%Y/%m/%d %H:%M:%S} {error}") from None


def _run(options: argparse.Namespace) -> int:
    if options.m >= options.i:
        options.m = options.i // 2
        _say(options, f"Adjusting -m value to {options.m} to fit value of -i (which is {options.i})")
    command = [
        options.s,
        *_ARGUMENTS,
        "--min-cpu-time",
        str(options.m),
        "--rollup" if options.rollup else "--batchless",
    ]
    wait = wait_for_signal({signal.SIGTERM, signal.SIGINT})
    try:
        log = os.open(options.logfile, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SonarError(f"Could not open {options.logfile}: {error.strerror}") from None
    due = time.monotonic()
    try:
        while not wait(max(due - time.monotonic(), 0.0)):
            _say(options, f"Running {' '.join(command)}")
            _sample(command, log)
            # A run that took too long is made up for by one, not by many.
            due = max(due + options.i, time.monotonic())
    finally:
        os.close(log)
    return 0


def _sample(command: Sequence[str], log: int) -> None:
    try:
        # Signals are blocked in this process, and must not be in that one.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE, check=False, preexec_fn=_unblock
        )
    except OSError as error:
        raise SonarError(f"Could not run {command[0]}: {error.strerror}") from None
    if done.stderr:
        sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.returncode:
        raise SonarError(f"Sonar exited with an error (status {done.returncode})")


def _unblock() -> None:
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for us, who wait for the sampler to end
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _say(options: argparse.Namespace, text: str) -> None:
    if options.v:
        print(text, file=sys.stderr, flush=True)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="sonard", add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--i", type=int, default=DEFAULT_INTERVAL_S)
    parser.add_argument("-m", "--m", type=int, default=DEFAULT_MIN_CPU_S)
    parser.add_argument("-s", "--s", default="")
    parser.add_argument("-v", "--v", action="store_true")
    parser.add_argument("-rollup", "--rollup", action="store_true")
    parser.add_argument("logfile", nargs="*")
    options = parser.parse_args(argv)
    if options.i < LEAST_INTERVAL_S:
        raise UsageError(f"Minimum -i value is {LEAST_INTERVAL_S} seconds, have {options.i}")
    if options.m < 1:
        raise UsageError(f"Minimum -m value is 1 second, have {options.m}")
    if len(options.logfile) != 1:
        raise UsageError(f"There must be exactly one logfile argument at the end, I see {options.logfile}")
    options.logfile = Path(options.logfile[0])
    if not options.s:
        raise UsageError("-s must name the sampler to run")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

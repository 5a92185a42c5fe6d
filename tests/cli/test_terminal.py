"""At a terminal: lines that fit, a pager, a sign of life; none of these where the output is no terminal."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.cli.test_sonalyze import INTERRUPTIBLE, SONALYZE, place

__all__ = ["place"]


def at_terminal(place: Path, *argv: str, columns: int = 60, **env: str) -> tuple[int, str]:
    """Run the program with a terminal as its output; return its exit status and what was shown."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {"PATH": os.environ["PATH"], "HOME": str(place), "LOGNAME": "ann", "SONAR_NOW": "2024-01-10T12:00:00Z"}
    program = subprocess.Popen(
        [sys.executable, SONALYZE, *argv], cwd=place, env=clean | env, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(master)
    return program.wait(60), shown.decode().replace("\r\n", "\n")


def test_long_texts_are_cut_to_the_width(place: Path) -> None:
    (place / "wide.csv").write_text(
        f"v=1,time=2024-01-10T10:00:00Z,host=h.x,user=ann,cmd={'python' * 20}\n"
        f"v=1,time=2024-01-10T10:00:00Z,host=h.x,user=ann,cmd=åäö\n"
    )
    argv = ("parse", "--fmt=fixed,host,cmd,user,pid", "--", "wide.csv")

    status, shown = at_terminal(place, *argv, PAGER="cat")

    assert status == 0
    assert [len(line) for line in shown.splitlines()][1] == 60 - len("  pid") + len("  0")
    assert "…  ann   0\n" in shown
    status, shown = at_terminal(place, *argv, PAGER="cat", columns=10)
    assert shown.splitlines()[0] == "host  cmd       user  pid"


def test_answer_is_paged(place: Path) -> None:
    (place / "pager").write_text('#!/bin/sh\necho "paged with $LESS"\ncat\n')
    (place / "pager").chmod(0o755)

    argv = ("jobs", "--fmt=job,user")
    assert at_terminal(place, *argv, PAGER=f"{place}/pager -x") == (
        0,
        "paged with FRX\njob  user\n10   ann\n10   ann\n",
    )
    assert at_terminal(place, *argv, PAGER="") == (0, "job  user\n10   ann\n10   ann\n")
    assert at_terminal(place, *argv, PAGER="no-such-pager") == (0, "job  user\n10   ann\n10   ann\n")
    assert at_terminal(place, "jobs", "--fmt=csv,job", PAGER=f"{place}/pager") == (0, "10\n10\n")


def test_pager_that_is_left_early_is_no_error(place: Path) -> None:
    assert at_terminal(place, "jobs", PAGER="true") == (0, "")


def test_binary_is_not_written_to_a_terminal(place: Path) -> None:
    for where in ([], ["--remote=http://127.0.0.1:1", "--cluster=c"]):
        status, shown = at_terminal(place, "jobs", "--fmt=arrow,job", *where)

        assert status == 2
        assert shown.startswith("sonalyze: --fmt: arrow is binary, and this is a terminal: give --output, or redirect")


def test_work_of_more_than_two_seconds_is_told_and_ends_at_once_on_interrupt(place: Path) -> None:
    os.mkfifo(place / "slow.csv")
    master, slave = pty.openpty()
    started = time.monotonic()
    program = subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, SONALYZE, "parse", "--", "slow.csv"],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    with (place / "slow.csv").open("w"):  # returns when the program has opened the other end
        shown = os.read(master, 100).decode()
        waited = time.monotonic() - started
        program.send_signal(signal.SIGINT)
        status = program.wait(60)
    rest = os.read(master, 10_000).decode()
    os.close(master)

    assert waited >= 2
    assert shown.startswith("\rsonalyze: reading 1 files, ")
    assert status == 130
    assert rest.endswith("\r\x1b[K")

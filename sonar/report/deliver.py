"""The deliverer: hand one message of the outbox to the mail program, then note on disk that it was taken.

    python -m sonar.report.deliver FILE.sending TIMEOUT_S PROGRAM [ARGUMENT ...]

Run by `sonar.report.outbox` in a session of its own, with the outbox's lock open. It ignores the signals that end a
report job, so that the file's name and what the mail system has agree.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Deliver; return 0 if the mail program took the message, else 1 with what is wrong on stderr."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    path, timeout_s, program = Path(argv[0]), int(argv[1]), argv[2:]
    mail = json.loads(path.read_text(encoding="utf-8"))["mail"]
    try:
        done = subprocess.run(
            program, input=mail, capture_output=True, text=True, timeout=timeout_s, encoding="utf-8", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _failed(f"{program[0]}: {error}")
    if done.returncode:
        return _failed(f"{program[0]}: status {done.returncode}: {done.stderr.strip()[:500]}")
    path.replace(path.with_suffix(".sent"))
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    return 0


def _failed(text: str) -> int:
    with contextlib.suppress(OSError):  # whoever wanted to know may have been killed
        print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

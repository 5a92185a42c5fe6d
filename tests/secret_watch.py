"""Watches over a run of the tests: no secret may be seen where others can look.

The tests' passwords contain `MARK`. While tests run, a thread looks at the arguments and environments of all processes
below ours; what servers answer and programs print is looked at as the tests read it; at the end all files that
the run has left are, except those that only their owner can read. A hit fails the run.
"""

import base64
import http.client
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

__all__ = ["MARK", "SecretWatch"]

MARK = "Sesame0penUp"
"""Part of every password that the tests use."""

_LOOK_S = 0.05
_LARGEST_FILE = 4 << 20
_HOLDS_SECRETS = re.compile(r"pass|auth|netrc|identity|secret|cred|upload", re.IGNORECASE)


class SecretWatch:
    """A plugin of pytest. `mark` is what no secret goes without."""

    def __init__(self, mark: str = MARK) -> None:
        self.hits: dict[str, None] = {}
        self.looks = 0  # at processes
        # As it is, and in base64 at each of the three offsets that it may have, without the ends that neighbours share.
        forms = [mark.encode(), *(base64.b64encode(b"-" * n + mark.encode())[4 if n else 0 : -4] for n in range(3))]
        self._forms = re.compile(b"|".join(map(re.escape, forms)))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="secret-watch", daemon=True)
        self._restore: list[Callable[[], None]] = []
        self._scratch: Callable[[], Path | None] = lambda: None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Begin to watch."""
        factory: Any = getattr(session.config, "_tmp_path_factory", None)
        self._scratch = lambda: getattr(factory, "_basetemp", None)
        self._wrap(http.client.HTTPResponse, "begin", lambda answer, _: self._note(str(answer.headers), "headers"))
        for response in (http.client.HTTPResponse, urllib3.HTTPResponse):  # the latter gives what was compressed
            self._wrap(response, "read", lambda _, body: self._note(body, "answer of a server"))
        self._wrap(subprocess.Popen, "communicate", self._note_outputs)
        self._thread.start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at what a test has printed and logged."""
        if report.when == "teardown":
            for title, text in report.sections:
                self._note(text, f"{title} of {report.nodeid}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End, and fail the run if a secret was seen."""
        self._ended.set()
        self._thread.join()
        for restore in self._restore:
            restore()
        for path in _open_files(self._scratch()):
            self._note(path.read_bytes(), f"file {path}")
        if self.hits and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell where secrets were seen."""
        for hit in self.hits:
            terminalreporter.write_line(f"SECRET SEEN in {hit}")

    def _note(self, content: object, where: str) -> None:
        data = content.encode(errors="replace") if isinstance(content, str) else content
        if isinstance(data, bytes) and self._forms.search(data):
            self.hits[where] = None

    def _note_outputs(self, process: Any, outputs: Any) -> None:
        for output in outputs:
            self._note(output, f"output of {_name_of(process.args)}")

    def _wrap(self, owner: Any, name: str, note: Callable[[Any, Any], None]) -> None:
        real = getattr(owner, name)

        def noting(this: Any, *arguments: Any, **options: Any) -> Any:
            result = real(this, *arguments, **options)
            note(this, result)
            return result

        setattr(owner, name, noting)
        self._restore.append(lambda: setattr(owner, name, real))

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            for pid in _below(os.getpid()):
                self.looks += 1
                for what in ("cmdline", "environ"):
                    try:
                        content = Path(f"/proc/{pid}/{what}").read_bytes()
                    except OSError:
                        continue  # it has ended, or is another user's
                    if self._forms.search(content):
                        name = Path(f"/proc/{pid}/comm").read_text().strip()
                        self.hits[f"{what} of a process '{name}' in {os.environ.get('PYTEST_CURRENT_TEST', '?')}"] = (
                            None
                        )


def _below(pid: int) -> Iterator[int]:
    """Yield the processes that a process has begun, and those that these have, without an end."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for task in tasks:
        try:
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _below(child)


def _open_files(root: Path | None) -> Iterator[Path]:
    """Yield the files below a directory that others could read, and that are not there to hold a secret."""
    for folder, _, names in os.walk(root) if root else ():
        for name in names:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            is_open = stat.S_ISREG(status.st_mode) and status.st_mode & 0o077
            if is_open and status.st_size <= _LARGEST_FILE and not _HOLDS_SECRETS.search(name):
                yield path


def _name_of(arguments: object) -> str:
    words = arguments if isinstance(arguments, (list, tuple)) else [arguments]
    return " ".join(Path(str(word)).name for word in words[:2])

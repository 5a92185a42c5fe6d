"""An installation in a directory: settings, data, and programs that take what is sent."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

LIBEXEC = Path(__file__).resolve().parents[2] / "libexec"
NOW = 1_768_000_000  # 2026-01-09T23:06:40Z
CLUSTER = "fox.example.org"


@dataclass(frozen=True)
class Site:
    """Where things are, and how its tools are run."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    def settings(self, text: str) -> None:
        """Set something more."""
        (self.root / "sonar.conf.d" / f"{len(list((self.root / 'sonar.conf.d').iterdir()))}.conf").write_text(text)

    def describe(self, text: str, cluster: str = CLUSTER) -> None:
        (self.root / "clusters" / f"{cluster}.conf").write_text(text)

    def sample(self, node: str, at: int, cluster: str = CLUSTER, day: str = "2026/01/09") -> None:
        """Store something of a node, as at that time."""
        path = self.data / cluster / day / f"{node}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("v=1\n")
        os.utime(path, (at, at))

    def run(self, tool: str, *argv: str, stdin: str = "", now: int = NOW) -> "subprocess.CompletedProcess[str]":
        from sonar.times import iso_text

        return subprocess.run(
            [sys.executable, LIBEXEC / tool, *argv],
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "SONAR_CONFIG": str(self.root / "sonar.conf"), "SONAR_NOW": iso_text(now)},
        )  # fmt: skip

    def outbox(self) -> list[str]:
        return [
            path.read_text() for path in sorted((self.root / "outbox").iterdir()) if path.suffix in {".json", ".eml"}
        ]

    def program(self, name: str, body: str) -> Path:
        """Make a program in the site's bin and return its path."""
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("data", "clusters", "state", "outbox", "reports", "sonar.conf.d"):
        (tmp_path / name).mkdir()
    paths = "".join(f"{key}={tmp_path / key.lower()}\n" for key in ("Data", "Clusters", "State", "Outbox", "Reports"))
    (tmp_path / "sonar.conf").write_text(f"[Paths]\n{paths}[Check]\nRequireClockSync=no\nFreeSpace=0\n")
    return Site(tmp_path)

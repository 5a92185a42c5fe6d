"""The planted month on disk, with all that its timers would have made of it: once for all tests."""

import json
import shutil
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from sonar.config.clusters import Clusters
from sonar.report.rhythms import run_rhythm
from sonar.report.site import Site
from sonar.times import DAY

from tests.report import month as planted

LATE = ("g-1", 28)


class Cluster:
    """The month on disk, and its reports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clusters = Clusters(root / "data", root / "clusters")
        self.events = planted.month()
        self.late = planted.write_month(root / "data" / planted.CLUSTER, self.events, late=LATE)
        planted.write_description(root / "clusters")
        planted.write_ledger(root / "data" / planted.CLUSTER)

    def site(self, now: int) -> Site:
        return Site(
            cluster=self.clusters.describe(self.clusters.find(planted.CLUSTER)),
            data=self.root / "data" / planted.CLUSTER,
            reports=self.root / "reports" / planted.CLUSTER,
            state=self.root / "state" / planted.CLUSTER,
            outbox=self.root / "outbox",
            now=now,
        )

    def mails(self) -> list[EmailMessage]:
        paths = sorted((self.root / "outbox").glob("*.eml"))
        return [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]

    def report(self, place: str) -> Any:
        return json.loads((self.root / "reports" / planted.CLUSTER / place).read_text())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run scans and notices twice a day for a month, then every other rhythm."""
    made = Cluster(tmp_path_factory.mktemp("month"))
    for now in range(planted.START + DAY // 2, planted.END + 1, DAY // 2):
        run_rhythm(made.site(now), "scan")
        run_rhythm(made.site(now), "notices")
    for rhythm in ("live", "hourly", "daily", "weekly"):
        assert not run_rhythm(made.site(planted.END), rhythm).problems
    assert not run_rhythm(made.site(planted.END + 2 * DAY), "monthly").problems
    yield made
    shutil.rmtree(made.root)

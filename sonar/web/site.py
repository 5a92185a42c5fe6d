"""What the query server is made of: the clusters, those who may ask, the processes that answer, and the counts."""

import logging
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sonar.config.clusters import Clusters
from sonar.serve.passwords import Identity, Role
from sonar.web.canary import ask_canary
from sonar.web.workers import Lane, Workers, WorkLimits

if TYPE_CHECKING:
    from sonar.serve.identities import Identities
    from sonar.web.metrics import Metrics
    from sonar.web.snapshot_files import SnapshotFiles
    from sonar.web.snapshots import Maker, Snapshots

__all__ = ["ANYBODY", "Site"]

_log = logging.getLogger(__name__)

ANYBODY = Identity("", Role.SUPPORT)
"""Who asks where nobody needs a password."""


class Provider(Protocol):
    """Another place that knows who somebody is."""

    @property
    def issuer(self) -> str:
        """Its address."""

    @property
    def title(self) -> str:
        """What people call it."""


@dataclass(slots=True)
class Site:
    """The state of the server."""

    clusters: Clusters
    identities: "Identities | None"
    limits: WorkLimits = field(default_factory=WorkLimits)
    site_pages: Path | None = None
    session_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    provider: Provider | None = None
    files: "SnapshotFiles | None" = None  # where snapshots are kept over a restart
    workers: Workers = field(init=False)
    metrics: "Metrics" = field(init=False)
    snapshots: "Snapshots" = field(init=False)

    def __post_init__(self) -> None:
        from sonar.web.metrics import Metrics
        from sonar.web.snapshots import Snapshots

        self.workers = Workers(self.limits)
        self.metrics = Metrics(self.workers)
        self.snapshots = Snapshots(self.workers, self.clusters, self.files)

    def restore(self) -> None:
        """Take up what many have looked at before a restart."""
        self.snapshots.restore(_makers())

    async def ailment(self) -> str | None:
        """Return what is wrong with the server: why a question gets no right answer by a process; None if it does."""
        try:
            ailment: str | None = await self.workers.value(Lane.CHECK, ask_canary, self.clusters)
        except Exception as error:  # whatever it is, it is not well
            return f"a question to itself failed: {str(error) or type(error).__name__}"
        return ailment

    async def keep_warm(self) -> None:
        """Keep what many will look at ready; until cancelled."""
        await self.snapshots.keep_warm(_makers())

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        ended, workers = self.workers.ended, self.workers
        failed = sum(number for outcome, number in ended.items() if outcome not in ("answered", "cancelled"))
        nobody = self.identities is not None and self.identities.lets_nobody_in
        return (
            f"{ended['answered']} questions answered, {failed} failed, {ended['cancelled']} given up, "
            f"{sum(workers.running.values())} in progress, {sum(workers.waiting.values())} waiting"
            f"{'; nobody is let in: the password file has no users' if nobody else ''}"
        )

    def reload(self) -> None:
        """Read again who may ask; raise SonarError and keep the users as they are if the file is bad."""
        if self.identities is not None:
            self.identities.reload()
        self.warn()

    def warn(self) -> None:
        """Log what whoever keeps the file of users should be told."""
        if self.identities is not None and self.identities.warning:
            _log.warning("%s", self.identities.warning)


def _makers() -> "list[Maker]":
    from sonar.web.pages import PAGES

    return [page.snapshot for page in PAGES if page.snapshot is not None]

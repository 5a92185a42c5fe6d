"""One run of a report job: from its arguments to the site, and the rhythm under the site's lock."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.errors import SonarError, UsageError
from sonar.report.letters import LetterRules
from sonar.report.publish import sweep
from sonar.report.site import Site

if TYPE_CHECKING:
    from sonar.report.rhythms import Outcome

__all__ = ["run_job", "site_of"]


def site_of(
    cluster: str,
    now: int,
    *,
    data_dir: Path | None = None,
    cluster_dir: Path | None = None,
    report_dir: Path | None = None,
    state_dir: Path | None = None,
    outbox_dir: Path | None = None,
    policy_dir: Path | None = None,
    letter_dir: Path | None = None,
) -> Site:
    """Return the site of a cluster, by name or alias, as sonar.conf(5) describes it; a directory goes before that."""
    from sonar.config.clusters import Clusters
    from sonar.config.settings import load_settings
    from sonar.paths import CONFIG

    settings = load_settings()
    paths = settings.paths
    clusters = Clusters((data_dir or paths.data).absolute(), cluster_dir or paths.clusters)
    name = clusters.find(cluster)
    return Site(
        cluster=clusters.describe(name),
        data=clusters.data / name,
        reports=(report_dir or paths.reports).absolute() / name,
        state=(state_dir or paths.state).absolute() / name,
        outbox=(outbox_dir or paths.outbox).absolute(),
        now=now,
        mail_from=settings.report.mail_from or f"sonar-server@{socket.getfqdn()}",
        recipients=settings.report.recipients,
        base_url=settings.report.base_url.rstrip("/"),
        policy_dir=policy_dir or CONFIG / "policies",
        letter_dir=letter_dir or CONFIG / "letters",
        letter_rules=LetterRules(
            most_a_day=settings.report.letters_a_day,
            pause_s=settings.report.letter_pause,
            days=settings.report.letter_days,
            quiet_dates=settings.report.quiet_dates,
        ),
    )


def run_job(site: Site, rhythm: str, *, dry_run: bool = False) -> "Outcome":
    """Run a rhythm; two runs of one rhythm for one cluster follow each other. A dry run prints the messages."""
    from sonar.report.rhythms import RHYTHMS, run_rhythm

    if rhythm not in RHYTHMS:
        raise UsageError(f"there is no rhythm {rhythm!r}")
    with _alone(site, rhythm):
        sweep(site.reports)
        outcome = run_rhythm(site, rhythm, dry_run=dry_run)
    if dry_run:
        for message in outcome.messages:
            print(message.text())
    return outcome


@contextmanager
def _alone(site: Site, rhythm: str) -> Iterator[None]:
    """Hold the lock of a rhythm."""
    try:
        site.state.mkdir(parents=True, exist_ok=True)
        lock = os.open(site.state / f".{rhythm}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SonarError(f"cannot lock '{site.state}': {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)

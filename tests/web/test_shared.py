"""Verbs that share what was read answer as they do alone."""

from pathlib import Path

import pytest

from sonar.config.clusters import Clusters
from sonar.names import cluster_name
from sonar.serve.passwords import Identity, Role
from sonar.times import iso_text
from sonar.web.questions import Asker
from sonar.web.shared import SharedScans

from tests.web.conftest import CLUSTER, NOW

QUESTIONS: tuple[tuple[str, dict[str, list[str]]], ...] = (
    ("metadata", {"from": ["1d"]}),
    ("load", {"from": ["1d"], "half-hourly": ["true"], "compact": ["true"], "fmt": ["host,datetime,cpu,res,gpu"]}),
    ("jobs", {"from": ["1d"], "user": ["-"], "min-samples": ["1"]}),
    ("uptime", {"from": ["1d"], "interval": ["5"]}),
)


def write_odd_cluster(root: Path, now: int) -> None:
    """One host that told nothing but that it lives, one whose samples lie just outside the window, one in between."""
    for host, age, command in (("idle", 300, "_heartbeat_"), ("old", 100_000, "sleep"), ("quiet", 3000, "bash")):
        text = iso_text(now - age)
        path = root / text[:10].replace("-", "/") / f"{host}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"v=0.12.1,time={text},host={host},cores=4,user=u,job=1,pid=1,cmd={command},cputime_sec=9\n")
    # Samples seconds apart cannot be summarized: the verbs go through them a second time.
    path = root / iso_text(now - 600)[:10].replace("-", "/") / "often.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(
            f"v=0.12.1,time={iso_text(now - 600 + at)},host=often,cores=4,user=u,job=2,pid=2,cmd=work,cputime_sec=1\n"
            for at in range(0, 60, 5)
        )
    )


@pytest.mark.parametrize("cluster", [CLUSTER, "odd.example.org"])
def test_shared_samples_change_no_answer(site: Path, cluster: str) -> None:
    write_odd_cluster(site / "data" / "odd.example.org", NOW)
    clusters, support = Clusters(site / "data", site), Identity("", Role.SUPPORT)
    shared = Asker(clusters, support, NOW, SharedScans())
    for verb, given in QUESTIONS:
        alone = Asker(clusters, support, NOW).ask(verb, cluster_name(cluster), given)
        together = shared.ask(verb, cluster_name(cluster), given)
        assert together.rows == alone.rows, verb
        assert together.rows or verb in ("load", "jobs"), verb

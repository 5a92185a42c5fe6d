"""The hours of a cluster's hosts, of what its store has: the ledger, the log, the description."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from sonar.audit.boots import Boots
from sonar.audit.gaps import HostHour, Window, gaps
from sonar.audit.states import NodeStates
from sonar.config.clusters import Clusters
from sonar.hosts import HostPatterns
from sonar.names import ClusterName
from sonar.store.ledger import read_arrivals, server_intervals
from sonar.times import DAY

__all__ = ["hours_of"]

_LOOK_BACK_S = DAY  # before the window, to know which hosts there are


def hours_of(
    clusters: Clusters, cluster: ClusterName, window: Window, patterns: HostPatterns | None = None
) -> Iterator[HostHour]:
    """Yield what `sonar.audit.gaps` finds out about the hosts that the patterns match, or about all."""
    description = clusters.describe(cluster)
    wanted = cache(patterns.match) if patterns is not None else _all
    arrivals = read_arrivals(clusters.data, cluster, window.start - _LOOK_BACK_S, window.now + 1)
    return gaps(
        replace(window, usual_interval_s=description.usual_interval_s),
        (one for one in arrivals if not one.host or wanted(one.host)),
        server_intervals(clusters.data, window.start, window.now),
        described=filter(wanted, description.nodes),
        boot_after=Boots(clusters.data, cluster).after,
        was_down=NodeStates(clusters.data, cluster, window.start, window.now).was_down,
    )


def _all(_host: str) -> bool:
    return True

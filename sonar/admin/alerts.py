"""From troubles to alerts: who is told what, in few words."""

import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sonar import hosts
from sonar.admin.troubles import Trouble
from sonar.outbox import Alert

__all__ = ["alerts_of", "host_name"]


def host_name() -> str:
    """Return this machine's own name."""
    return socket.gethostname()


def alerts_of(new: Sequence[Trouble], over: Sequence[Trouble], now: int, host: str) -> Iterator[Alert]:
    """Give the alerts for troubles that are new and for those that are over; a cluster's silent nodes are one alert."""
    for state, troubles in (("trouble", new), ("recovered", over)):
        silent: dict[str, list[str]] = defaultdict(list)
        for trouble in troubles:
            if trouble.node:
                silent[trouble.cluster].append(trouble.node)
                continue
            text = trouble.text if state == "trouble" else f"Over: {trouble.text}"
            title = f"{trouble.unit or trouble.what}: {'trouble' if state == 'trouble' else 'well again'}"
            yield Alert(
                title=title, text=text, state=state, at=now, host=host, unit=trouble.unit, cluster=trouble.cluster
            )
        for cluster, nodes in sorted(silent.items()):
            listed = hosts.compress(nodes)
            verb = "silent" if state == "trouble" else "sending again"
            count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
            yield Alert(
                title=f"{cluster}: {count} {verb}",
                text=f"Nodes of {cluster} that are {verb}: {listed}",
                state=state,
                at=now,
                host=host,
                cluster=cluster,
                nodes=tuple(sorted(nodes)),
            )

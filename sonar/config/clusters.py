"""The clusters of a server: those with data, their aliases, and the description of their nodes.

DATA/CLUSTER/            the log tree of a cluster
CONFIG/cluster-aliases.json      [{"alias": "ml", "value": "mlx.example.org"}, ...]
CONFIG/CLUSTER-config.json       the nodes, see sonar.config.nodes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sonar.config.aliases import read_aliases
from sonar.config.nodes import NodeTable, read_nodes
from sonar.errors import SonarError, UsageError
from sonar.names import BadNameError, ClusterName, cluster_name, resolve_cluster

__all__ = ["Clusters", "UnknownClusterError"]


class UnknownClusterError(SonarError):
    """There is no cluster of this name."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Where the clusters' data lie, and their descriptions if there are any."""

    data: Path
    config: Path | None = None

    def names(self) -> list[ClusterName]:
        """Return the clusters that have data, sorted."""
        found = []
        for path in self.data.iterdir():
            try:
                name = cluster_name(path.name)
            except BadNameError:
                continue
            if name == path.name and path.is_dir():
                found.append(name)
        return sorted(found)

    def find(self, text: str) -> ClusterName:
        """Return the cluster of a name or alias. Raise UnknownClusterError if there is none, UsageError for no name."""
        try:
            name = resolve_cluster(text, self._aliases())
        except BadNameError as error:
            raise UsageError(str(error)) from None
        if not (self.data / name).is_dir():
            raise UnknownClusterError(f"no cluster {text[:80]!r}")
        return name

    def nodes(self, cluster: ClusterName) -> NodeTable | None:
        """Return the description of a cluster's nodes; None if it has none."""
        path = self.config / f"{cluster}-config.json" if self.config else None
        return read_nodes(path) if path is not None and path.exists() else None

    def alias_table(self) -> Mapping[str, str]:
        """Return the canonical name of each alias."""
        return self._aliases()

    def _aliases(self) -> Mapping[str, str]:
        path = self.config / "cluster-aliases.json" if self.config else None
        return read_aliases(path) if path is not None and path.exists() else {}

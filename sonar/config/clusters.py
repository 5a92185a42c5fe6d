"""The clusters of a server: those with data, those described, and all their names.

DATA/CLUSTER/                    the log tree of a cluster
REPORTS/CLUSTER/                 its reports
CONFIG/CLUSTER.conf              its description, sonar-cluster(5); CLUSTER.conf.d/*.conf are drop-ins
CONFIG/CLUSTER-config.json       the original's description, where there is no CLUSTER.conf, or one without nodes
CONFIG/cluster-aliases.json      [{"alias": "ml", "value": "mlx.example.org"}, ...], besides the aliases described
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sonar.config.aliases import read_aliases
from sonar.config.description import Cluster, read_description, read_json
from sonar.config.files import files_of
from sonar.config.nodes import NodeTable
from sonar.errors import SonarError, UsageError
from sonar.names import BadNameError, ClusterName, cluster_name, resolve_cluster

__all__ = ["Clusters", "UnknownClusterError", "aliases_of", "described_in"]

_DESCRIPTION = re.compile(r"(.+?)(?:\.conf|-config\.json)")


class UnknownClusterError(SonarError):
    """There is no cluster of this name."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Where the clusters' data lie, and their descriptions if there are any."""

    data: Path
    config: Path | None = None
    reports: Path | None = None

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
            name = resolve_cluster(text, self.aliases())
        except BadNameError as error:
            raise UsageError(str(error)) from None
        if not (self.data / name).is_dir():
            raise UnknownClusterError(f"no cluster {text[:80]!r}")
        return name

    def stamp(self) -> tuple[object, ...]:
        """Return what changes when a description does, or a report, or when there are other clusters."""
        return tuple(_tree_stamp(root, depth) for root, depth in ((self.data, 0), (self.config, 1), (self.reports, 2)))

    def described(self) -> list[ClusterName]:
        """Return the clusters that have a description, sorted."""
        return described_in(self.config, strict=False) if self.config else []

    def describe(self, name: ClusterName) -> Cluster:
        """Return the description of a cluster, the defaults if it has none; raise SonarError if it is bad."""
        if self.config is None:
            return Cluster(name=name, title=name)
        files = tuple(files_of(f"{name}.conf", [self.config]))
        old = self.config / f"{name}-config.json"
        return _described(name, self.config, files, old, _stamps(*files, old))

    def nodes(self, cluster: ClusterName) -> NodeTable | None:
        """Return the description of a cluster's nodes; None if it has none."""
        return self.describe(cluster).nodes or None

    def aliases(self) -> Mapping[str, ClusterName]:
        """Return the cluster of each alias. A description that is bad has none; of two clusters the first has it."""
        return aliases_of(self.config, strict=False) if self.config else {}


def described_in(config: Path, *, strict: bool = True) -> list[ClusterName]:
    """Return the clusters that have a description in this directory, sorted; no directory, no clusters.

    With `strict`, raise SonarError where the name of a file is no cluster's.
    """
    found = set()
    for path in config.iterdir() if config.is_dir() else ():
        match = _DESCRIPTION.fullmatch(path.name)
        try:
            if match and not path.name.startswith(".") and path.is_file():
                found.add(cluster_name(match[1]))
        except BadNameError as error:
            if strict:
                raise SonarError(f"{path}: {error}") from None
    return sorted(found)


def aliases_of(config: Path, *, strict: bool = True) -> dict[str, ClusterName]:
    """Return the cluster of each alias in a directory of descriptions.

    With `strict`, raise SonarError for what is bad or disputed; without, leave that out.
    """
    listed = config / "cluster-aliases.json"
    found: dict[str, ClusterName] = dict(read_aliases(listed)) if listed.exists() else {}
    clusters = Clusters(config, config)
    names = described_in(config, strict=strict)
    for name in names:
        try:
            cluster = clusters.describe(name)
        except SonarError:
            if strict:
                raise
            continue
        for alias in cluster.aliases:
            problem = ""
            if found.get(alias, name) != name:
                problem = f"belongs to {found[alias]} already"
            elif alias in names and alias != name:
                problem = "is the name of another cluster"
            if problem and strict:
                raise SonarError(f"{cluster.source}: alias {alias!r} {problem}")
            if not problem:
                found[alias] = name
    return found


def _tree_stamp(root: Path | None, depth: int) -> tuple[object, ...]:
    """Return names and stamps of what is in a directory, and so many levels below."""
    if root is None or not root.is_dir():
        return ()
    paths = sorted(root.iterdir())
    below = [_tree_stamp(path, depth - 1) for path in paths if path.is_dir()] if depth else []
    return (*(path.name for path in paths), *(_stamps(*paths) if depth else ()), *below)


def _stamps(*paths: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what changes when one of the files does; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


@lru_cache(maxsize=256)
def _described(
    name: ClusterName,
    config: Path,
    files: tuple[Path, ...],
    old: Path,
    stamps: tuple[tuple[int, int, int] | None, ...],
) -> Cluster:
    """Read a description; what was read is kept as long as the files are the same, for each request asks for it."""
    has_old = stamps[-1] is not None
    if not files:
        return read_json(old, name) if has_old else Cluster(name=name, title=name)
    found = read_description(config / f"{name}.conf", files)
    return replace(found, nodes=read_json(old, name).nodes) if not found.nodes and has_old else found

"""Cluster and host names: the one place where a name from outside is checked before it becomes a path.

The rules are those of sonar-data(5). A name that passes has no slash, no blank, no control character and no `..`,
and does not begin or end with a dot, so that joining it to a directory can never leave that directory.
"""

import re
from collections.abc import Mapping
from typing import NewType

from sonar.errors import SonarError

__all__ = ["NO_SAMPLES", "BadNameError", "ClusterName", "HostName", "cluster_name", "host_name", "resolve_cluster"]

ClusterName = NewType("ClusterName", str)
HostName = NewType("HostName", str)

# Files of these names lie among the samples of very old trees and hold something else; no host may be called so.
NO_SAMPLES = frozenset({"cpuhog", "bughunt", "slurm-sacct"})

_CLUSTER = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?", re.ASCII)


class BadNameError(SonarError):
    """A cluster or host name that must not become a path."""


def cluster_name(text: str) -> ClusterName:
    """Return `text` in lower case if it is a cluster name; raise BadNameError if not."""
    name = text.lower()
    if not _CLUSTER.fullmatch(name) or ".." in name:
        raise BadNameError(f"bad cluster name {text[:80]!r}")
    return ClusterName(name)


def host_name(text: str) -> HostName:
    """Return `text` if it is a host name that samples may be stored under; raise BadNameError if not."""
    if not _HOST.fullmatch(text) or ".." in text or text in NO_SAMPLES:
        raise BadNameError(f"bad host name {text[:80]!r}")
    return HostName(text)


def resolve_cluster(text: str, aliases: Mapping[str, str]) -> ClusterName:
    """Return the canonical cluster name for a name or alias: one look-up, no chains."""
    name = cluster_name(text)
    return cluster_name(aliases.get(name, name))

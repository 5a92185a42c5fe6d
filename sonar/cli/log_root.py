"""The option that says which log a command looks at, and the clusters in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonar.errors import SonarError

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters

__all__ = ["Data", "clusters_in"]

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="root of the log (Data= of sonar.conf)")]


def clusters_in(data: Path | None) -> "Clusters":
    """Return the clusters below a data root, that of sonar.conf(5) if none is given, with their descriptions."""
    from sonar.config.clusters import Clusters
    from sonar.config.settings import load_settings

    paths = load_settings().paths
    root = data or paths.data
    if not root.is_dir():
        raise SonarError(f"--data is no directory: '{root}'")
    return Clusters(root, paths.clusters if paths.clusters.is_dir() else None)

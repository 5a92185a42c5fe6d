"""The question that feeds the watchdog of sonalyzed: what every question needs, asked about the server's own record."""

from typing import TYPE_CHECKING

from sonar.places import ObjectPath
from sonar.store.canary import canary_tree, newest_canary

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters

__all__ = ["ask_canary"]


def ask_canary(clusters: "Clusters") -> str | None:
    """Return what is wrong with the answer of a verb about the newest canary of infiltrate; None if it is right.

    Where infiltrate has written none the answer is only that the data can be looked at. To be called in a process.
    """
    from sonar.library import Log

    clusters.names()
    newest = None if isinstance(clusters.data, ObjectPath) else newest_canary(clusters.data)
    if newest is None:
        return None
    path, line = newest
    day = "-".join(path.parts[-4:-1])
    number = int(line.partition(b",job=")[2].partition(b",")[0])
    found = Log(canary_tree(clusters.data)).samples(since=day, until=day, host=path.stem, user="canary", fields="job")
    return None if number in found["job"].to_pylist() else f"record {number} of the log is not in its answer"

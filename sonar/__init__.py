"""Sonar: watches computing clusters. `sonar.open` gives the log of a cluster to ask; see sonar(3)."""

TYPE_CHECKING = False  # importing typing would cost a command milliseconds
if TYPE_CHECKING:
    from os import PathLike

    from sonar.library import Log

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(  # noqa: A001 -- sonar.open, as gzip.open
    data: "str | PathLike[str]",
    *files: "str | PathLike[str]",
    nodes: "str | PathLike[str] | None" = None,
) -> "Log":
    """Return the log of a cluster: of the tree at `data` if that is a directory, else of this and the other files.

    `nodes` is a file that describes the cluster's nodes, for values relative to what they have. Nothing is read yet.
    Raise `sonar.errors.SonarError` if `data` does not exist or the description is wrong.
    """
    from sonar.library import Log

    return Log(data, *files, nodes=nodes)

"""The verb cluster: the clusters that are known here."""

from typing import TYPE_CHECKING

from sonar.errors import SonarError
from sonar.verbs.declare import Field, Kind, Privacy, Reads, Result, Shared, Verb

if TYPE_CHECKING:
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return a row for each cluster with data, sorted by name."""
    import pyarrow as pa

    clusters = query.clusters
    if clusters is None:
        raise SonarError("Nothing is known of clusters here")
    names = clusters.names()
    aliases = clusters.aliases()
    of_cluster = [sorted(alias for alias, value in aliases.items() if value == name) for name in names]
    columns = {
        "name": pa.array(names, pa.string()),
        "aliases": pa.array(of_cluster, pa.list_(pa.string())),
        "description": pa.array([clusters.describe(name).title for name in names], pa.string()),
    }
    return Result(pa.table(columns))


VERB = Verb(
    name="cluster",
    summary="Print the clusters, of a server or of a directory of many",
    options=(),
    fields=(
        Field("Name", Kind.TEXT, "name of the cluster", "name", aliases=("cluster",)),
        Field("Aliases", Kind.WORDS, "its other names", "aliases", aliases=("aliases",)),
        Field("Description", Kind.TEXT, "what the cluster is", "description", aliases=("desc",)),
    ),
    aliases={"all": ("cluster", "aliases", "desc"), "All": ("Name", "Aliases", "Description")},
    default_fields="cluster,aliases,desc",
    run=run,
    privacy=Privacy.PUBLIC,
    shared=Shared.FORMAT,
    reads=Reads.SITE,
    everyone=True,
)

"""The verb metadata: when the samples of each host begin and end."""

from typing import TYPE_CHECKING

from sonar.verbs.declare import Field, Kind, Privacy, Result, Verb
from sonar.verbs.parse import MERGE_OPTIONS

if TYPE_CHECKING:
    from sonar.analysis.bounds import Bounds
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return the bounds of each host, or with --merge-by-job of the hosts of each job together."""
    import pyarrow as pa

    from sonar.analysis.bounds import bounds_of
    from sonar.analysis.samples import samples_of
    from sonar.analysis.streams import clean_streams, selected, with_growth

    by_job = query.options["merge-by-job"]
    bounds, streams = {}, []
    for host, table in query.scan.by_host(None if by_job else ("time",)):
        samples = samples_of(table)
        if of_host := bounds_of(samples):
            bounds[host] = of_host
        if by_job:
            streams.append(selected(with_growth(clean_streams(samples)), query.filter, query.window))
    if by_job:
        from sonar.analysis.jobs import OverHosts, combined_jobs, jobs_of_host

        parts = [jobs_of_host(of_host, OverHosts.ALL) for of_host in streams]
        jobs = combined_jobs([own for own, _ in parts], [shared for _, shared in parts])
        bounds = _of_host_sets(list(jobs.hosts), bounds, query.now)
    names = sorted(bounds)
    columns = {
        "host": pa.array(names, pa.string()),
        "earliest": pa.array([bounds[name][0] for name in names], pa.int64()),
        "latest": pa.array([bounds[name][1] for name in names], pa.int64()),
    }
    return Result(pa.table(columns))


def _of_host_sets(host_sets: list[tuple[str, ...]], bounds: "dict[str, Bounds]", now: int) -> "dict[str, Bounds]":
    """Return the joint bounds of each set of hosts, under its compressed name."""
    from sonar.analysis.bounds import joined
    from sonar.hosts import compress

    merged = {}
    for hosts in set(host_sets):
        earliest, latest = joined(bounds[host] for host in hosts)
        merged[compress(hosts)] = (min(earliest, now), latest)
    return merged


VERB = Verb(
    name="metadata",
    summary="Print when the samples of each host begin and end",
    options=MERGE_OPTIONS,
    fields=(
        Field("host", Kind.TEXT, "host, or the hosts of a job"),
        Field("earliest", Kind.MINUTE, "first sample, UTC"),
        Field("latest", Kind.MINUTE, "last sample, UTC"),
    ),
    aliases={"all": ("host", "earliest", "latest")},
    default_fields="all",
    run=run,
    privacy=Privacy.PUBLIC,
    default_format="csv",
    everyone=True,
)

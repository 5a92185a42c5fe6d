"""The verb metadata: when the samples of each host begin and end."""

from typing import TYPE_CHECKING, TextIO

from sonar.times import iso_text
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb
from sonar.verbs.parse import MERGE_OPTIONS

if TYPE_CHECKING:
    from sonar.analysis.bounds import Bounds
    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return the bounds of each host, or with --merge-by-job of the hosts of each job together.

    `facts` has the lines that --times and --files ask for.
    """
    import pyarrow as pa

    from sonar.analysis.bounds import bounds_of, inferred_window
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
    of_hosts = bounds
    if by_job:
        from sonar.analysis.jobs import OverHosts, combined_jobs, jobs_of_host

        parts = [jobs_of_host(of_host, OverHosts.ALL) for of_host in streams]
        jobs = combined_jobs([own for own, _ in parts], [shared for _, shared in parts])
        bounds = _of_host_sets(list(jobs.hosts), bounds, query.now)
    lines = []
    if query.options["times"]:
        start, end = inferred_window(query.window, list(of_hosts.values()))
        lines += [f"From: {iso_text(start)}", f"To:   {iso_text(end)}"]
    if query.options["files"]:
        lines += [str(path) for path in query.scan.files]
    names = sorted(bounds)
    columns = {
        "host": pa.array(names, pa.string()),
        "earliest": pa.array([bounds[name][0] for name in names], pa.int64()),
        "latest": pa.array([bounds[name][1] for name in names], pa.int64()),
    }
    only_lines = (query.options["times"] or query.options["files"]) and not query.options["bounds"]
    return Result(pa.table(columns), facts={"lines": lines, "only_lines": only_lines})


def write(result: Result, fmt: "Format", out: TextIO) -> None:
    """Write the lines that were asked for, then the table unless they alone were."""
    from sonar.render.formats import write_rows

    out.writelines(f"{line}\n" for line in result.facts["lines"])
    if not result.facts["only_lines"]:
        write_rows(result.rows, fmt, out)


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
    options=(
        *MERGE_OPTIONS,
        Option("times", "the first and the last instant of the time that is looked at", OptionType.FLAG),
        Option("files", "the files that are read, one a line", OptionType.FLAG, local=True),
        Option("bounds", "the hosts too, with --times or --files", OptionType.FLAG),
    ),
    fields=(
        Field("host", Kind.TEXT, "host, or the hosts of a job"),
        Field("earliest", Kind.MINUTE, "first sample, UTC"),
        Field("latest", Kind.MINUTE, "last sample, UTC"),
    ),
    aliases={"all": ("host", "earliest", "latest")},
    default_fields="all",
    run=run,
    privacy=Privacy.PUBLIC,
    counts_everything=True,
    default_format="csv",
    everyone=True,
    write=write,
)

"""The verb uptime: when hosts and their GPUs were up and down."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sonar.errors import UsageError
from sonar.times import MINUTE
from sonar.verbs.declare import Field, Kind, Option, OptionType, Privacy, Result, Verb

if TYPE_CHECKING:
    from sonar.analysis.bounds import Bounds
    from sonar.analysis.select import RecordFilter
    from sonar.analysis.uptime import Probes
    from sonar.read.scan import Tables
    from sonar.verbs.query import Query

__all__ = ["VERB"]


def run(query: "Query") -> Result:
    """Return the periods of each host, sorted by host and start."""
    import pyarrow as pa

    from sonar.analysis.bounds import inferred_window
    from sonar.analysis.uptime import Period, periods

    everything = query.filter.is_everything
    columns = ("time", "gpufail") if everything else ("time", "gpufail", "user", "cmd", "job", "pid")
    told = dict(query.scan.map(partial(_probes, None if everything else query.filter), columns))
    probes = {host: of_host for host, (of_host, _) in told.items()}
    start, end = inferred_window(query.window, [bounds for _, bounds in told.values()])
    cutoff_s = query.options["interval"] * MINUTE * 2
    wanted = {"up", "down"}
    if query.options["only-up"] or query.options["only-down"]:
        wanted = {"up"} if query.options["only-up"] else {"down"}
    of_host = {host: periods(probe, start, end, cutoff_s) for host, probe in probes.items()}
    for host in _known_hosts(query, start, end) if end - start > cutoff_s else ():
        # It should have been sampled, and was not once.
        of_host[host] = of_host.get(host) or [Period("host", "down", start, end)]
    found = [(host, *period) for host in sorted(of_host) for period in of_host[host] if period.state in wanted]
    names = ("host", "device", "state", "start", "end")
    return Result(pa.table({name: [row[at] for row in found] for at, name in enumerate(names)}))


def _probes(records: "RecordFilter | None", _host: str, tables: "Tables") -> "tuple[Probes, Bounds] | None":
    """Return when a host was sampled, by the records that count, and the bounds of all; tables follow in time."""
    import numpy as np

    from sonar.analysis.bounds import bounds_of, joined
    from sonar.analysis.samples import samples_of
    from sonar.analysis.uptime import Probes, probes_of

    parts, bounds = [], []
    for table in tables:
        samples = samples_of(table)
        if of_table := bounds_of(samples):
            bounds.append(of_table)
            parts.append(probes_of(samples if records is None else samples.take(records.mask(samples))))
    if not parts:
        return None
    return Probes(*(np.concatenate(part) for part in zip(*parts, strict=True))), joined(bounds)


def _known_hosts(query: "Query", start: int, end: int) -> list[str]:
    """Return the hosts asked for that the configuration file lists, or that described themselves before the end."""
    from sonar.read.capacities import stored_nodes

    patterns = query.filter.hosts
    known = {*(query.nodes or ()), *stored_nodes(query.topics, start, end)}
    return [host for host in known if patterns is None or patterns.match(host)]


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    if options["only-up"] and options["only-down"]:
        raise UsageError("Only one of --only-up, --only-down can be given")


VERB = Verb(
    name="uptime",
    summary="Print when hosts and their GPUs were up and down",
    options=(
        Option(
            "interval",
            "minutes between samples; a gap longer than twice that is down time",
            OptionType.UINT,
            metavar="MINUTES",
            required=True,
        ),
        Option("only-up", "only periods of being up", OptionType.FLAG),
        Option("only-down", "only periods of being down", OptionType.FLAG),
    ),
    fields=(
        Field("device", Kind.TEXT, "host or gpu"),
        Field("host", Kind.TEXT, "host"),
        Field("state", Kind.TEXT, "up or down"),
        Field("start", Kind.MINUTE, "start of the period, UTC"),
        Field("end", Kind.MINUTE, "end of the period, UTC"),
    ),
    aliases={"all": ("device", "host", "state", "start", "end")},
    default_fields="all",
    run=run,
    privacy=Privacy.PUBLIC,
    counts_everything=True,
    takes_config=True,
    everyone=True,
    check=check,
)

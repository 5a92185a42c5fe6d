"""Texts become a query: the options that all verbs share, and the checks of every value.

The same function serves the command line, HTTP requests and reports, so that all of them accept and refuse the same.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.analysis.select import SYSTEM_COMMANDS, RecordFilter
from sonar.errors import SonarError, UsageError
from sonar.hosts import HostPatterns
from sonar.read.schema import HEARTBEAT_COMMAND
from sonar.read.sources import note_window
from sonar.render.formats import Format, parse_format
from sonar.times import DAY, date_limit, parse_duration
from sonar.verbs.declare import Field, Option, OptionType, Reads, Shared, Verb
from sonar.verbs.query import Query, Window

if TYPE_CHECKING:
    from sonar.config.clusters import Clusters
    from sonar.config.description import Cluster
    from sonar.config.nodes import NodeTable
    from sonar.verbs.expression import Expression
    from sonar.verbs.rows import SortKey

__all__ = [
    "FILTER_OPTIONS",
    "FORMAT_OPTION",
    "REMOTE_TRUE",
    "ROW_OPTIONS",
    "SYSTEM_COMMANDS",
    "WINDOW_OPTIONS",
    "UndescribedNodesError",
    "asks_for_own_records",
    "check_options",
    "options_of",
    "query_of",
]

# What a remote request sends for a flag: servers of the family know this word as the value that no user types.
REMOTE_TRUE = "xxxxxtruexxxxx"
_TRUE = frozenset({"true", REMOTE_TRUE})

_UNSIGNED = re.compile(r"\+?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)

# Verbs that look at the present time only to find the window, and for the field that has it.
_OF_THEIR_WINDOW = frozenset({"jobs", "load", "parse", "profile", "uptime"})
# Accounts that a question for one job number never means.
_SYSTEM_USERS = frozenset({"root", "zabbix"})

WINDOW_OPTIONS = (
    Option("from", "first day, or how long ago: records from its start on", OptionType.DATE, "f", metavar="DATE"),
    Option("to", "last day, or how long ago: records up to its end", OptionType.DATE, "t", metavar="DATE"),
)
FILTER_OPTIONS = (
    Option("host", "hosts that match, such as c1-[5-7],gpu*", OptionType.HOSTS, repeat=True, metavar="PATTERN"),
    Option("user", "records of this user; - for everyone", short="u", repeat=True, metavar="NAME,..."),
    Option("exclude-user", "no records of this user", repeat=True, metavar="NAME,..."),
    Option("command", "records of exactly this command", repeat=True, metavar="NAME,..."),
    Option("exclude-command", "no records of this command", repeat=True, metavar="NAME,..."),
    Option("job", "records of this job number", short="j", repeat=True, metavar="N"),
    Option("exclude-job", "no records of this job number", repeat=True, metavar="N"),
    Option("exclude-system-jobs", "no records of processes with a number below 1000", OptionType.FLAG),
)
ROW_OPTIONS = (
    Option(
        "query", "only rows for which this holds, such as 'user =~ /^ec-/ and duration > 1h'", short="q", metavar="EXPR"
    ),
    Option("sort", "order of the rows: fields joined by commas, - before one for descending", metavar="FIELDS"),
)
FORMAT_OPTION = Option("fmt", "fields and format of the output; --fmt=help lists them", metavar="SPEC")


class UndescribedNodesError(SonarError):
    """Something relative to the size of nodes is asked for, and neither a description nor any node tells sizes."""


def options_of(verb: Verb) -> tuple[Option, ...]:
    """Return all options that a question to this verb can have, in the order of remote requests."""
    shared = [
        *(option for option in WINDOW_OPTIONS if Shared.WINDOW in verb.shared),
        *(o for o in FILTER_OPTIONS if (Shared.HOST if o.name == "host" else Shared.RECORDS) in verb.shared),
    ]
    rows = ROW_OPTIONS if verb.queryable and Shared.FORMAT in verb.shared else ()
    return (*shared, *verb.options, *rows, *((FORMAT_OPTION,) if Shared.FORMAT in verb.shared else ()))


def query_of(
    verb: Verb,
    given: Mapping[str, Sequence[str]],
    *,
    data: Path | Sequence[Path],
    nodes: "NodeTable | None" = None,
    described: "Cluster | None" = None,
    account: str | None = None,
    clusters: "Clusters | None" = None,
    reports: Sequence[Path] = (),
    now: int,
) -> tuple[Query, Format]:
    """Return the query and the format that these options ask for.

    `given` has the texts of each option by its long name; that of a flag is `true`. `data` is the root of one
    cluster's log tree, or explicit files; `described` is what else than `nodes` is known of it. `account` is whose
    records the answer is about where `asks_for_own_records`; None is everyone. Raise UsageError for an option that is
    not known, repeated or badly valued, SonarError for the rest.
    """
    from sonar.read.capacities import stored_nodes
    from sonar.read.scan import Scan
    from sonar.read.topics import TopicScan
    from sonar.verbs.expression import fields_in

    own = check_options(verb, given)
    fmt = parse_format(verb, next(iter(given.get("fmt", ())), None))
    window = _window(given, now, verb.window_days, active_by_default=isinstance(data, Path))
    records = _record_filter(verb, given, account)
    if described is not None and Shared.RECORDS in verb.shared and not verb.counts_everything:
        records = records.without(described.exclude_users, described.exclude_commands)
    if verb.reads is not Reads.SAMPLES:
        scan = Scan.of_files(())
    elif isinstance(data, Path):
        scan = Scan.of_tree(data, window.start, window.end, records.hosts)
    else:
        scan = Scan.of_files(data, records.hosts)
    topics = TopicScan(data, window, records.hosts)
    has_node_file = nodes is not None
    where, sort = _where(verb, given), _sort(verb, given)
    used = frozenset((*fmt.fields, *(fields_in(where) if where else ()), *(key.field for key in sort)))
    if isinstance(data, Path) and _needs_capacities(verb, own, fmt, used):
        nodes = {**stored_nodes(topics, window.start, window.end), **(nodes or {})} or None
    if nodes is None and any(field.relative for field in used):
        raise UndescribedNodesError("Relative values requested without config file")
    note_window(timeless=_is_timeless(verb, given, window, now, used))
    query = Query(
        options=own,
        scan=scan,
        topics=topics,
        filter=records,
        window=window,
        now=now,
        nodes=nodes,
        interval_s=None if described is None else described.sample_interval_s,
        has_node_file=has_node_file,
        clusters=clusters,
        reports=tuple(reports),
        where=where,
        sort=sort,
        fields=frozenset(field.name for field in used),
        sources=frozenset(field.source for field in used),
        words=fmt.words,
    )
    return query, fmt


def _is_timeless(
    verb: Verb, given: Mapping[str, Sequence[str]], window: Window, now: int, used: frozenset[Field]
) -> bool:
    """Return whether the same question finds the same in the same files at any later time."""
    dates = [text for name in ("from", "to") for text in given.get(name, ("",))]
    return (
        all("-" in text for text in dates)  # a day, not so long ago
        and window.end < now
        and verb.name in _OF_THEIR_WINDOW
        and not any(field.source == "now" for field in used)
    )


def _needs_capacities(verb: Verb, own: Mapping[str, Any], fmt: Format, used: frozenset[Field]) -> bool:
    """Return whether the answer depends on what the nodes have."""
    if not verb.takes_config or verb.reads is not Reads.SAMPLES:
        return False
    limits = any(option.relative and own[option.name] is not None for option in verb.options)
    described = verb.wants_capacities or (verb.describes_hosts and fmt.is_json)
    return limits or described or any(field.relative for field in used)


def check_options(verb: Verb, given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the parsed values of the verb's own options, defaults filled in; raise UsageError for any that is wrong.

    Dates, job numbers, hosts and the format are left to `query_of`.
    """
    options = {option.name: option for option in options_of(verb)}
    for name, values in given.items():
        if name not in options:
            raise UsageError(f"{verb.name} has no option --{name}")
        if len(values) > 1 and not options[name].repeat:
            raise UsageError(f"Option --{name} is given more than once")
    own = {option.name: _value(option, given.get(option.name, ())) for option in verb.options}
    if verb.check is not None:
        verb.check(own)
    _where(verb, given)
    _sort(verb, given)
    return own


def asks_for_own_records(verb: Verb, given: Mapping[str, Sequence[str]]) -> bool:
    """Whether a question is about the records of one account because no option says otherwise.

    With a job number, with users left out, for zombies, or with a query it is about everyone's.
    """
    return not verb.everyone and not any(given.get(name) for name in ("user", "job", "exclude-user", "zombie", "query"))


def _where(verb: Verb, given: Mapping[str, Sequence[str]]) -> "Expression | None":
    from sonar.verbs.expression import parse_expression

    if not given.get("query"):
        return None
    try:
        return parse_expression(given["query"][0], verb.fields)
    except UsageError as error:
        raise UsageError(f"Invalid value for --query: {error}") from None


def _sort(verb: Verb, given: Mapping[str, Sequence[str]]) -> "tuple[SortKey, ...]":
    from sonar.verbs.rows import parse_sort

    if not given.get("sort"):
        return ()
    try:
        return parse_sort(given["sort"][0], verb)
    except UsageError as error:
        raise UsageError(f"Invalid value for --sort: {error}") from None


def _value(option: Option, texts: Sequence[str]) -> Any:
    """Return the parsed value of one of a verb's own options."""
    if option.repeat:
        return tuple(_parsed(option, part) for text in texts for part in text.split(","))
    if texts:
        return _parsed(option, texts[0])
    if option.required:
        raise UsageError(f"Option --{option.name} is required")
    return False if option.type is OptionType.FLAG else option.default


def _parsed(option: Option, text: str) -> Any:
    try:
        match option.type:
            case OptionType.FLAG if text in _TRUE:
                return True
            case OptionType.FLAG:
                raise UsageError(f"{text!r} is not true")
            case OptionType.UINT:
                return _unsigned(text)
            case OptionType.FLOAT:
                return _number(text)
            case OptionType.DURATION:
                return parse_duration(text)
            case _:
                return text
    except UsageError as error:
        raise UsageError(f"Invalid value for --{option.name}: {error}") from None


def _unsigned(text: str) -> int:
    """Return the number of an unsigned decimal text; it fits 63 bits."""
    if not _UNSIGNED.fullmatch(text):
        raise UsageError(f"{text!r} is not a whole number")
    return int(text)


def _number(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise UsageError(f"{text!r} is not a number")
    return float(text)


def _window(given: Mapping[str, Sequence[str]], now: int, days: int, *, active_by_default: bool) -> Window:
    """Return the window; by default the last `days` times 24 hours, which explicit files override."""
    start, end = (_limit(name, given.get(name), now) for name in ("from", "to"))
    window = Window(
        start=now - days * DAY if start is None else start,
        end=now if end is None else end,
        start_active=active_by_default or start is not None,
        end_active=active_by_default or end is not None,
    )
    if window.start_active and window.end_active and window.start > window.end:
        raise SonarError("The --from time is greater than the --to time")
    return window


def _limit(name: str, texts: Sequence[str] | None, now: int) -> int | None:
    if not texts:
        return None
    try:
        return date_limit(texts[0], now, end=name == "to")
    except UsageError as error:
        raise UsageError(f"Invalid value for --{name}: {error}") from None


def _record_filter(verb: Verb, given: Mapping[str, Sequence[str]], account: str | None) -> RecordFilter:
    """Return the record filter, with what the verb leaves out and whose records it is about by default."""
    if Shared.RECORDS not in verb.shared:
        return RecordFilter(hosts=_host_patterns(given.get("host")))
    users = _listed("user", given)
    exclude_users = _listed("exclude-user", given)
    if asks_for_own_records(verb, given) and account is not None:
        users = frozenset({account})
    jobs = _job_numbers("job", given)
    if jobs and not verb.everyone:
        exclude_users |= _SYSTEM_USERS
    exclude_commands = _listed("exclude-command", given)
    if verb.excludes_system_commands:
        exclude_commands |= SYSTEM_COMMANDS
    if verb.excludes_heartbeats:
        exclude_commands |= {HEARTBEAT_COMMAND}
    return RecordFilter(
        users=None if "-" in users else users or None,
        exclude_users=exclude_users,
        commands=_listed("command", given) or None,
        exclude_commands=exclude_commands,
        jobs=jobs or None,
        exclude_jobs=_job_numbers("exclude-job", given),
        exclude_system_processes=bool(given.get("exclude-system-jobs")),
        hosts=_host_patterns(given.get("host")),
    )


def _listed(name: str, given: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return names that are given one an option or joined by commas; a name that holds a comma counts as it is too."""
    return frozenset(name for text in given.get(name, ()) for name in (text, *text.split(",")))


def _host_patterns(texts: Sequence[str] | None) -> HostPatterns | None:
    try:
        return HostPatterns.parse(part for text in texts for part in text.split(";")) if texts else None
    except SonarError as error:
        raise SonarError(f"Invalid value for --host: {error}") from None


def _job_numbers(name: str, given: Mapping[str, Sequence[str]]) -> frozenset[int]:
    """Return job numbers. A bad one has always been an error of running, not of usage, and scripts look at that."""
    try:
        return frozenset(_unsigned(text) for text in given.get(name, ()))
    except UsageError as error:
        raise SonarError(f"Invalid value for --{name}: {error}") from None

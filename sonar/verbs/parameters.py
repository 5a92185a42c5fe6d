"""Texts become a query: the options that all verbs share, and the checks of every value.

The same function serves the command line, HTTP requests and reports, so that all of them accept and refuse the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.analysis.select import RecordFilter
from sonar.errors import SonarError, UsageError
from sonar.hosts import HostPatterns
from sonar.read.schema import HEARTBEAT_COMMAND
from sonar.render.formats import Format, parse_format
from sonar.times import DAY, date_limit, parse_duration
from sonar.verbs.declare import Option, OptionType, Verb
from sonar.verbs.query import Query, Window

if TYPE_CHECKING:
    from sonar.config.nodes import NodeTable

__all__ = ["FILTER_OPTIONS", "FORMAT_OPTION", "SYSTEM_COMMANDS", "WINDOW_OPTIONS", "options_of", "query_of"]

# Shells and session keepers: `jobs` and `load` never show them.
SYSTEM_COMMANDS = frozenset({"bash", "zsh", "sshd", "tmux", "systemd"})
# Accounts that a question for one job number never means.
_SYSTEM_USERS = frozenset({"root", "zabbix"})

WINDOW_OPTIONS = (
    Option("from", "first day, or how long ago: records from its start on", OptionType.DATE, "f", metavar="DATE"),
    Option("to", "last day, or how long ago: records up to its end", OptionType.DATE, "t", metavar="DATE"),
)
FILTER_OPTIONS = (
    Option("host", "hosts that match, such as c1-[5-7],gpu*", OptionType.HOSTS, repeat=True, metavar="PATTERN"),
    Option("user", "records of this user; - for everyone", short="u", repeat=True, metavar="NAME"),
    Option("exclude-user", "no records of this user", repeat=True, metavar="NAME"),
    Option("command", "records of exactly this command", repeat=True, metavar="NAME"),
    Option("exclude-command", "no records of this command", repeat=True, metavar="NAME"),
    Option("job", "records of this job number", short="j", repeat=True, metavar="N"),
    Option("exclude-job", "no records of this job number", repeat=True, metavar="N"),
)
FORMAT_OPTION = Option("fmt", "fields and format of the output; --fmt=help lists them", metavar="SPEC")


def options_of(verb: Verb) -> tuple[Option, ...]:
    """Return all options that a question to this verb can have, in the order of remote requests."""
    return (*WINDOW_OPTIONS, *FILTER_OPTIONS, *verb.options, FORMAT_OPTION)


def query_of(
    verb: Verb,
    given: Mapping[str, Sequence[str]],
    *,
    data: Path | Sequence[Path],
    nodes: "NodeTable | None" = None,
    account: str | None = None,
    now: int,
) -> tuple[Query, Format]:
    """Return the query and the format that these options ask for.

    `given` has the texts of each option by its long name; that of a flag is `true`. `data` is the root of one
    cluster's log tree, or explicit files. `account` is whose records `jobs` is about unless it is told otherwise; None
    is everyone. Raise UsageError for an option that is not known, repeated or badly valued, SonarError for the rest.
    """
    from sonar.read.scan import Scan

    options = {option.name: option for option in options_of(verb)}
    for name, values in given.items():
        if name not in options:
            raise UsageError(f"{verb.name} has no option --{name}")
        if len(values) > 1 and not options[name].repeat:
            raise UsageError(f"Option --{name} is given more than once")
    own = {option.name: _value(option, given.get(option.name, ())) for option in verb.options}
    if verb.check is not None:
        verb.check(own)
    fmt = parse_format(verb, next(iter(given.get("fmt", ())), None))
    if nodes is None and any(field.relative for field in fmt.fields):
        raise SonarError("Relative values requested without config file")

    window = _window(given, now, active_by_default=isinstance(data, Path))
    records = _record_filter(verb, given, account)
    if isinstance(data, Path):
        scan = Scan.of_tree(data, window.start, window.end, records.hosts)
    else:
        scan = Scan.of_files(data, records.hosts)
    return Query(own, scan, records, window, now, nodes, fmt.names), fmt


def _value(option: Option, texts: Sequence[str]) -> Any:
    """Return the parsed value of one of a verb's own options."""
    values = tuple(_parsed(option, text) for text in texts)
    if option.repeat:
        return values
    if values:
        return values[0]
    if option.required:
        raise UsageError(f"Option --{option.name} is required")
    return False if option.type is OptionType.FLAG else option.default


def _parsed(option: Option, text: str) -> Any:
    if option.type is OptionType.FLAG:
        return text == "true"
    try:
        if option.type is OptionType.UINT:
            return _unsigned(text)
        if option.type is OptionType.FLOAT:
            return float(text)
        if option.type is OptionType.DURATION:
            return parse_duration(text)
    except (ValueError, UsageError) as error:
        reason = error if isinstance(error, UsageError) else f"{text!r} is not a {option.type.value}"
        raise UsageError(f"Invalid value for --{option.name}: {reason}") from None
    return text


def _unsigned(text: str) -> int:
    """Return the number of an unsigned decimal text."""
    if not (text.isascii() and text.removeprefix("+").isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)


def _window(given: Mapping[str, Sequence[str]], now: int, *, active_by_default: bool) -> Window:
    """Return the window; by default the last 24 hours, which explicit files override."""
    limits: dict[str, int | None] = {"from": None, "to": None}
    for name in limits:
        for text in given.get(name, ()):
            try:
                limits[name] = date_limit(text, now, end=name == "to")
            except UsageError as error:
                raise UsageError(f"Invalid value for --{name}: {error}") from None
    start, end = limits["from"], limits["to"]
    window = Window(
        start=now - DAY if start is None else start,
        end=now if end is None else end,
        start_active=active_by_default or start is not None,
        end_active=active_by_default or end is not None,
    )
    if window.start_active and window.end_active and window.start > window.end:
        raise SonarError("The --from time is greater than the --to time")
    return window


def _record_filter(verb: Verb, given: Mapping[str, Sequence[str]], account: str | None) -> RecordFilter:
    """Return the record filter, with what the verb leaves out and whose records it is about by default."""
    users: frozenset[str] | None = frozenset(given.get("user", ()))
    exclude_users = frozenset(given.get("exclude-user", ()))
    jobs = _job_numbers("job", given)
    everyone = verb.everyone or bool(jobs) or bool(exclude_users) or bool(given.get("zombie"))
    if not users:
        users = None if everyone or account is None else frozenset({account})
    elif "-" in users:
        users = None
    exclude_commands = frozenset(given.get("exclude-command", ()))
    if verb.excludes_system_commands:
        exclude_commands |= SYSTEM_COMMANDS
    if verb.excludes_heartbeats:
        exclude_commands |= {HEARTBEAT_COMMAND}
    return RecordFilter(
        users=users,
        exclude_users=exclude_users | (_SYSTEM_USERS if jobs else frozenset()),
        commands=frozenset(given.get("command", ())) or None,
        exclude_commands=exclude_commands,
        jobs=jobs or None,
        exclude_jobs=_job_numbers("exclude-job", given),
        hosts=HostPatterns.parse(given["host"]) if given.get("host") else None,
    )


def _job_numbers(name: str, given: Mapping[str, Sequence[str]]) -> frozenset[int]:
    try:
        return frozenset(_unsigned(text) for text in given.get(name, ()))
    except ValueError as error:
        raise SonarError(f"invalid digit found in string: --{name} {str(error)!r}") from None

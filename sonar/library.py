"""Analysis as a library: the verbs of sonalyze as methods that give Arrow tables.

    import sonar

    log = sonar.open("/var/lib/sonar-server/data/fox.example.org")
    jobs = log.jobs(since="2w", user="ann", query="gpu-avg < 10 and duration > 1h")

Each method answers one verb; its rows are those that the command prints, as values: numbers before they are rounded to
be printed, instants, lists (`sonar.render.tables` has the types). Options have the names of the command line with `_`
for `-`; a flag is True, an option that may be repeated takes a sequence. Other than on the command line everybody's
records count unless `user` says otherwise. sonar(3) is the page for users.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sonar.errors import SonarError, UsageError
from sonar.places import place_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    import pyarrow as pa

    from sonar.config.description import Cluster
    from sonar.config.nodes import NodeTable
    from sonar.verbs.declare import Result, Verb

__all__ = ["Log", "Time", "Value"]

Time: TypeAlias = "str | date | datetime"
"""A day (`2024-03-31` or a date), an age (`3d`, `2w`), or an instant with a time zone."""

Value: TypeAlias = "bool | int | float | str | Iterable[str | int]"
"""The value of an option: True for a flag, several for one that may be repeated."""


class Log:
    """The samples of one cluster, to be asked as often as you like; each answer reads what it needs."""

    def __init__(
        self,
        data: "str | os.PathLike[str]",
        *files: "str | os.PathLike[str]",
        nodes: "str | os.PathLike[str] | None" = None,
    ) -> None:
        """See `sonar.open`."""
        first = place_of(data)
        if not first.exists():
            raise SonarError(f"No such file or directory: '{first}'")
        if first.is_dir() and files:
            raise UsageError(f"A log tree and files do not go together: '{first}', '{Path(files[0])}'")
        self._data: Path | Sequence[Path] = first if first.is_dir() else [first, *map(Path, files)]
        self._nodes: NodeTable | None = None
        self._described: Cluster | None = None
        if nodes is not None:
            from sonar.config.description import read_described

            self._described = read_described(Path(nodes))
            self._nodes = self._described.nodes

    def jobs(
        self,
        *,
        since: "Time | None" = None,
        until: "Time | None" = None,
        user: "str | Iterable[str] | None" = None,
        host: "str | Iterable[str] | None" = None,
        query: str = "",
        fields: str = "All",
        **options: "Value",
    ) -> "pa.Table":
        """Return a row a job, by start, job number and hosts. Fields that are not relative to nodes by default."""
        return self._table("jobs", since, until, fields, {**options, "user": user, "host": host, "query": query})

    def load(
        self,
        *,
        since: "Time | None" = None,
        until: "Time | None" = None,
        host: "str | Iterable[str] | None" = None,
        fields: str = "All",
        **options: "Value",
    ) -> "pa.Table":
        """Return a row a host and hour, or other slot: `half_hourly=True`, `daily=True`, `none=True` and so on."""
        return self._table("load", since, until, fields, {**options, "host": host})

    def uptime(
        self,
        interval: int,
        *,
        since: "Time | None" = None,
        until: "Time | None" = None,
        host: "str | Iterable[str] | None" = None,
        **options: "Value",
    ) -> "pa.Table":
        """Return a row a period in which a host or its GPUs were up or down; `interval` is in minutes."""
        return self._table("uptime", since, until, "All", {**options, "host": host, "interval": interval})

    def profile(
        self, job: int, *, since: "Time | None" = None, until: "Time | None" = None, **options: "Value"
    ) -> "pa.Table":
        """Return a row for each process of a job at each instant."""
        return self._table("profile", since, until, "All", {**options, "job": job})

    def samples(
        self,
        *,
        since: "Time | None" = None,
        until: "Time | None" = None,
        user: "str | Iterable[str] | None" = None,
        host: "str | Iterable[str] | None" = None,
        fields: str = "All",
        **options: "Value",
    ) -> "pa.Table":
        """Return the samples themselves, as read or with `clean=True` as analysis sees them."""
        return self._table("parse", since, until, fields, {**options, "user": user, "host": host})

    def ask(
        self,
        verb: str,
        *,
        since: "Time | None" = None,
        until: "Time | None" = None,
        fields: str = "All",
        **options: "Value | None",
    ) -> "pa.Table":
        """Return the answer to any verb of sonalyze as a table of these fields, joined by commas.

        Raise `UsageError` for an option or field that does not exist or has a bad value, `SonarError` for the rest.
        """
        return self._table(verb, since, until, fields, options)

    def _table(
        self,
        verb: str,
        since: "Time | None",
        until: "Time | None",
        fields: str,
        options: "Mapping[str, Value | None]",
    ) -> "pa.Table":
        from sonar import verbs
        from sonar.render.formats import parse_format
        from sonar.render.tables import typed_table

        if verb not in verbs.NAMES:
            raise UsageError(f"No such verb: {verb!r}")
        declared = verbs.verb(verb)
        fmt = parse_format(declared, fields)
        if fmt.unknown or fmt.words:
            raise UsageError(f"{verb} has no field {', '.join(map(repr, [*fmt.unknown, *sorted(fmt.words)]))}")
        return typed_table(self._answer(declared, since, until, fields, options), fmt.fields)

    def _answer(
        self,
        verb: "Verb",
        since: "Time | None",
        until: "Time | None",
        fields: str,
        options: "Mapping[str, Value | None]",
    ) -> "Result":
        from dataclasses import replace

        from sonar.times import present
        from sonar.verbs.parameters import query_of

        given = {name.replace("_", "-"): texts for name, value in options.items() if (texts := _texts(value))}
        given["fmt"] = [fields]
        given |= {name: [_day(time)] for name, time in (("from", since), ("to", until)) if time is not None}
        query, _fmt = query_of(
            verb, given, data=self._data, nodes=self._nodes, described=self._described, now=present()
        )
        window = query.window
        if isinstance(since, datetime):
            window = replace(window, start=_instant(since))
        if isinstance(until, datetime):
            window = replace(window, end=_instant(until))
        return verb.answer(replace(query, window=window))


def _texts(value: "Value | None") -> list[str]:
    """Return the texts of an option's value; none for one that is not given."""
    if value is None or value is False or value == "":
        return []
    if value is True:
        return ["true"]
    return [str(value)] if isinstance(value, str | int | float) else [str(one) for one in value]


def _instant(time: "datetime") -> int:
    if time.tzinfo is None:
        raise UsageError(f"{time} has no time zone")
    return int(time.timestamp())


def _day(time: "Time") -> str:
    """Return a date as options have it: the day of an instant."""
    if isinstance(time, datetime):
        return datetime.fromtimestamp(_instant(time), UTC).date().isoformat()
    return time if isinstance(time, str) else time.isoformat()

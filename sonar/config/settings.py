"""What can be set in sonar.conf(5): one table, from which parser, example, manual and `doctor` come.

A class is a section of the file, a field a key: `max_body` of `Ingest` is `MaxBody=` below `[Ingest]`. To add a
setting, add a field here; its kind, its default as it is written in the file, and one sentence that explains it stand
in the same line. Programs ask `load_settings()`; an option of their command line beats what it says.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from sonar.config import values
from sonar.config.files import directories, files_of
from sonar.config.sections import Entry, nearest, read_sections
from sonar.config.values import Kind
from sonar.errors import ConfigError, SonarError
from sonar.paths import CONFIG, STATE

__all__ = [
    "SECTIONS",
    "Alert",
    "Analysis",
    "Check",
    "Ingest",
    "Paths",
    "Query",
    "Report",
    "Setting",
    "Settings",
    "files_read",
    "load_settings",
    "load_with_origins",
    "table",
]

NAME = "sonar.conf"

T = TypeVar("T")


def _is(kind: Kind[T], default: str, help_text: str) -> T:
    """Declare a setting: its kind, its default as it would be written, and what it means."""
    value: T = field(default=kind.parse(default), metadata={"kind": kind, "default": default, "help": help_text})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where things are kept."""

    data: Path = _is(
        values.PLACE, f"{STATE}/data", "Root of the log: one directory a cluster. May be read from an object store."
    )
    reports: Path = _is(values.PATH, f"{STATE}/reports", "Where reports are published: one directory a cluster.")
    state: Path = _is(values.PATH, f"{STATE}/state", "What scheduled jobs remember between their runs.")
    outbox: Path = _is(values.PATH, f"{STATE}/outbox", "Mail and alerts that wait to be delivered.")
    clusters: Path = _is(values.PATH, f"{CONFIG}/clusters", "Descriptions of the clusters, see sonar-cluster(5).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """What infiltrate(8) takes."""

    max_body: int = _is(values.SIZE, "64M", "Largest upload, also after it is unpacked.")
    topic_prefixes: tuple[str, ...] = _is(values.WORDS, "", "Prefixes of topics that are taken beside those without.")
    any_cluster: bool = _is(values.BOOLEAN, "no", "Whether each user may upload to every cluster, not only to its own.")
    known_clusters: bool = _is(values.BOOLEAN, "no", "Whether a cluster without a directory is refused, not made.")
    disk_reserve: int = _is(values.SIZE, "256M", "Uploads are refused while less room than this is free.")
    csv_day: str = _is(values.choice("local", "utc"), "local", "Day of a CSV record: in its own UTC offset, or UTC.")
    json_day: str = _is(values.choice("local", "utc"), "utc", "Day of an envelope: UTC, or in its own UTC offset.")
    kprox: str = _is(values.TEXT, "", "Path where messages in the framing of a Kafka proxy are taken; else nowhere.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """How sonalyzed(8) answers."""

    title: str = _is(values.TEXT, "Sonar", "The name of the site, on top of each page.")
    contact: str = _is(values.TEXT, "", "Whom people should ask: shown at the foot of each page.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What sonalyzed(8) and sonalyze(1) work with."""

    memory: int = _is(values.SIZE, "512M", "What sonalyzed keeps in memory of recent days, and of answers; 0: nothing.")
    socket: Path = _is(values.PATH, "/run/sonar/sonalyze.socket", "Where sonalyzed answers sonalyze of this machine.")
    scheduler: str = _is(values.TEXT, "", "Address of a Dask scheduler whose workers see the data, for sonalyze.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Reports that are made by timers, and mail."""

    base_url: str = _is(values.TEXT, "", "Address of the web pages, for links in mail and alerts.")
    mail_from: str = _is(values.TEXT, "", "Sender of mail. By default sonar-server at this host.")
    recipients: tuple[str, ...] = _is(values.WORDS, "", "Who gets reports for which a cluster names nobody.")
    letters_a_day: int = _is(values.COUNT, "20", "Most letters to users about jobs of one cluster on one day.")
    letter_pause: int = _is(values.SPAN, "7d", "Least time between two letters to one user about one policy.")
    letter_days: tuple[int, ...] = _is(values.WEEKDAYS, "Mon..Fri", "Days of the week, UTC, on which letters go out.")
    quiet_dates: tuple[str, ...] = _is(
        values.DATES, "", "Dates on which none do: of one year, 2027-03-26, or of every year, 12-25."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """How alerts reach people. Each way that is set is used; the journal has them always."""

    mail_to: tuple[str, ...] = _is(values.WORDS, "", "Addresses that get a mail.")
    webhook: str = _is(
        values.TEXT, "", "URL that gets a POST of JSON: id, title, text, state, unit, cluster, host, time."
    )
    command: tuple[str, ...] = _is(
        values.COMMAND, "", "Program and arguments that get the text on standard input, and SONAR_ALERT_* variables."
    )
    sendmail: tuple[str, ...] = _is(
        values.COMMAND, "/usr/sbin/sendmail -i -t", "Program that takes a mail with its headers on standard input."
    )
    repeat_after: int = _is(values.SPAN, "0", "Tell again of trouble that lasts, after so long; 0: only once.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What sonarctl-check(8) calls trouble."""

    silent_after: int = _is(values.COUNT, "3", "Sampling intervals without data after which a node is silent.")
    forget_after: int = _is(values.SPAN, "14d", "A node silent for so long has been taken away, and is not missed.")
    free_space: int = _is(values.PERCENT, "10%", "Free space and free inodes of the data's file system: no less.")
    certificate_days: int = _is(
        values.COUNT, "30", "Days that a certificate must still be valid; less than 7 and 1 are told again."
    )
    restarts: int = _is(values.COUNT, "2", "Restarts by itself between two checks that a service may have.")
    require_clock_sync: bool = _is(values.BOOLEAN, "yes", "Whether a clock that nothing keeps right is trouble.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of sonar.conf(5)."""

    paths: Paths = field(default_factory=Paths)
    ingest: Ingest = field(default_factory=Ingest)
    query: Query = field(default_factory=Query)
    analysis: Analysis = field(default_factory=Analysis)
    report: Report = field(default_factory=Report)
    alert: Alert = field(default_factory=Alert)
    check: Check = field(default_factory=Check)


SECTIONS = (Paths, Ingest, Query, Analysis, Report, Alert, Check)


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table: `name` is the field's, `default` is written as in the file."""

    section: str
    key: str
    name: str
    kind: Kind[Any]
    default: str
    help: str


def table() -> Iterator[Setting]:
    """Give all settings in the order of the manual."""
    for section in SECTIONS:
        for one in fields(section):
            data = one.metadata
            key = "".join(word.capitalize() for word in one.name.split("_")).replace("Url", "URL")
            yield Setting(section.__name__, key, one.name, data["kind"], data["default"], data["help"])


def load_settings() -> Settings:
    """Return the settings of this machine; raise ConfigError with all that is wrong, naming file, line and key."""
    return load_with_origins(files_read())[0]


def files_read() -> list[Path]:
    """Return the files that count, the weakest first. $SONAR_CONFIG names one to be read with its drop-ins instead."""
    if own := os.environ.get("SONAR_CONFIG"):
        path = Path(own)
        if not path.exists():
            raise SonarError(f"SONAR_CONFIG: no such file: '{path}'")
        return files_of(path.name, [path.absolute().parent])
    return files_of(NAME, directories())


def load_with_origins(files: Sequence[Path]) -> tuple[Settings, Mapping[tuple[str, str], Entry]]:
    """Return the settings in the files, and for each (section, key) that they set the assignment that counts."""
    known = {(one.section, one.key): one for one in table()}
    found: dict[tuple[str, str], Any] = {}
    origins: dict[tuple[str, str], Entry] = {}
    problems: list[str] = []
    for section, entry in _entries(files, {one.section for one in known.values()}, problems):
        setting = known.get((section, entry.key))
        if setting is None:
            problems.append(f"{entry}: unknown{nearest(entry.key, [key for name, key in known if name == section])}")
            continue
        place = section, entry.key
        try:
            if not entry.value:
                found.pop(place, None)
                origins.pop(place, None)
                if setting.kind.gathers:
                    found[place], origins[place] = (), entry
                continue
            value = setting.kind.parse(entry.value)
        except SonarError as error:
            problems.append(f"{entry}: {error}")
            continue
        found[place] = found.get(place, ()) + value if setting.kind.gathers else value
        origins[place] = entry
    if problems:
        raise ConfigError(problems)
    given: dict[str, dict[str, Any]] = {}
    for place, value in found.items():
        given.setdefault(place[0].lower(), {})[known[place].name] = value
    parts: dict[str, Any] = {one.__name__.lower(): one(**given.get(one.__name__.lower(), {})) for one in SECTIONS}
    return Settings(**parts), origins


def _entries(files: Sequence[Path], known: set[str], problems: list[str]) -> Iterator[tuple[str, Entry]]:
    """Give each assignment with its section, in order. Names that begin with `X-` are left to other programs."""
    for path in files:
        try:
            sections = read_sections(path)
        except ConfigError as error:
            problems += error.problems
            continue
        for section in sections:
            if section.name.startswith("X-"):
                continue
            if section.name not in known:
                problems.append(
                    f"{section.path}:{section.line}: unknown section [{section.name}]{nearest(section.name, known)}"
                )
                continue
            yield from ((section.name, entry) for entry in section.entries if not entry.key.startswith("X-"))

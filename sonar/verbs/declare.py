"""How a verb of sonalyze is declared: its options and fields as data, one module a verb.

From these declarations come the command line and its help, `--fmt` and `--fmt=help`, the parameters of the HTTP API
and of remote requests, and the tests that hold the man pages true. A verb's module builds one `Verb` called `VERB`;
`sonar.verbs` knows the modules by name and imports one when it is asked for. Declaring imports nothing heavy:
pyarrow and numpy are imported inside `run` and `write`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.render.formats import Format
    from sonar.verbs.query import Query

__all__ = ["Field", "Kind", "Option", "OptionType", "Privacy", "Reads", "Result", "Shared", "Verb"]


class OptionType(Enum):
    """What the value of an option is; `sonar.verbs.parameters` parses and checks it."""

    FLAG = "flag"  # no value; over HTTP `true`
    TEXT = "text"
    UINT = "count"  # unsigned whole number -> int
    FLOAT = "number"
    DATE = "date"  # YYYY-MM-DD, Nd, Nw -> the text, resolved by sonar.verbs.query
    DURATION = "duration"  # 1w2d3h4m -> seconds
    HOSTS = "hosts"  # host patterns -> the text, parsed by sonar.hosts
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a verb: `--name VALUE` on the command line, `name=VALUE` over HTTP."""

    name: str
    help: str
    type: OptionType = OptionType.TEXT
    short: str = ""
    repeat: bool = False  # may be given several times; its value is then a tuple
    default: Any = None  # value when absent; a FLAG's is False, a repeatable one's ()
    required: bool = False
    metavar: str = ""
    relative: bool = False  # a limit on a share of the host's capacity
    local: bool = False  # only on the command line of the machine that has the data, never over HTTP


class Privacy(Enum):
    """Who may see what a verb answers, where not everybody may see everything. What a verb does not say is closed."""

    PUBLIC = "public"  # about machines, or sums over everybody: names nobody
    OWNED = "owned"  # each row is somebody's: the column `owner` says whose, a text of names joined by commas
    FILTERED = "filtered"  # made of the records of the users that --user names, and of no others
    CLOSED = "closed"  # only for those who may see everybody's rows


class Kind(Enum):
    """What a field's column holds, which decides its text (`sonar.render.values`)."""

    TEXT = "text"
    INT = "whole number"
    FLOAT = "number"  # shortest decimal, no exponent
    CEIL = "number, rounded up"
    ROUND = "number, rounded"  # half away from zero
    TRUNC = "number, cut"  # toward zero
    GPUS = "set of cards"  # uint64 mask: none, unknown, 0,2,5
    WORDS = "list of words"  # list<string>; joined by commas
    HOSTS = "set of hosts"  # list<string> of full names; compressed in text
    MINUTE = "time"  # instant -> YYYY-MM-DD HH:MM
    DATE = "date"  # instant -> YYYY-MM-DD
    CLOCK = "time of day"  # instant -> HH:MM
    ISO = "ISO time"  # instant -> YYYY-MM-DDTHH:MM:SSZ
    SECONDS = "seconds"  # instant or duration, whole seconds
    DURATION = "duration"  # seconds -> 0d 0h 5m, to the minute
    HEX = "bits"  # 0x..
    BOOL = "yes or no"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a verb's rows: what `--fmt` can name."""

    name: str
    kind: Kind
    help: str
    column: str = ""  # column of the result table that holds it; by default the name, with `-`, `/` as `_`
    unit: str = ""
    default: str | None = None  # text that `nodefaults` leaves out; None: always printed
    relative: bool = False  # a share of the host's capacity
    aliases: tuple[str, ...] = ()  # other names of the field
    missing: str = ""  # text of a null
    sparse: bool = False  # its default is left out even without `nodefaults`, of named values
    longest: int = 0  # characters that fixed columns show of it; 0: all

    @property
    def source(self) -> str:
        """The column of the result table that the field prints."""
        return self.column or self.name.replace("-", "_").replace("/", "_")

    def by_each_name(self) -> "tuple[Field, ...]":
        """Return the field under its name and under each alias."""
        return (self, *(replace(self, name=alias, column=self.source) for alias in self.aliases))


class Reads(Enum):
    """What a verb answers from."""

    SAMPLES = "samples"  # `query.scan`, and `query.topics` beside it
    TOPICS = "topics"  # `query.topics` only
    REPORTS = "reports"  # the cluster's reports, `query.reports`
    SITE = "site"  # what is known of all clusters, `query.clusters`; the question names none


class Shared(Flag):
    """Options that verbs share: `sonar.verbs.parameters` has them."""

    WINDOW = auto()  # --from, --to
    HOST = auto()
    RECORDS = auto()  # --user, --command, --job and the like: which samples count
    FORMAT = auto()  # --fmt
    ALL = WINDOW | HOST | RECORDS | FORMAT


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb answers: rows, and how they fall into blocks where the verb prints several tables.

    Each block is (title, first row, number of rows); without blocks all rows are one table. `facts` holds what a
    verb's own writer needs beside the rows (load: the description and cards of each block's host). `warnings` are for
    whoever asked, a line each.
    """

    rows: "pa.Table"
    blocks: tuple[tuple[str, int, int], ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what it takes, what it gives, and the pure function from samples to rows."""

    name: str
    summary: str
    options: tuple[Option, ...]  # filter options, then print options: the order of remote requests
    fields: tuple[Field, ...]
    aliases: Mapping[str, tuple[str, ...]]
    default_fields: str  # a --fmt value
    run: Callable[["Query"], Result]
    default_format: str = "fixed"  # or csv
    shared: Shared = Shared.ALL  # options that it takes beside its own
    window_days: int = 1  # length of the window without --from
    reads: Reads = Reads.SAMPLES
    takes_config: bool = False  # capacities of nodes: from a configuration file, else from what these told
    wants_capacities: bool = False  # looks for these whatever the fields, and does without if there are none
    describes_hosts: bool = False  # its JSON tells what hosts have, whichever fields are asked for
    counts_everything: bool = False  # whoever's records: what a description leaves out is a sign of life all the same
    # Commands and users left out before anything else: see sonar.verbs.query.
    excludes_system_commands: bool = False
    excludes_heartbeats: bool = False
    everyone: bool = False  # without --user: everyone's records, not only the caller's
    queryable: bool = True  # rows may be chosen by --query and sorted by --sort
    # What is left of the rows that --query keeps, such as the last ones of each user.
    finish: "Callable[[Result, Query], Result] | None" = None
    check: Callable[[Mapping[str, Any]], None] | None = None  # raises UsageError for options that do not go together
    write: "Callable[[Result, Format, TextIO], None] | None" = None  # None: one table by sonar.render
    controls: Mapping[str, str] = field(default_factory=dict)  # control words of --fmt that only this verb has
    privacy: Privacy = Privacy.CLOSED
    owner: str = "user"  # where rows are OWNED: the column of the result that names the owners

    def answer(self, query: "Query") -> Result:
        """Return the rows that a question asks for, in the order that it asks for."""
        from sonar.verbs.rows import chosen

        return chosen(self, self.run(query), query)

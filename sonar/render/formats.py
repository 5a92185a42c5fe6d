"""The `--fmt` language, and writing rows as fixed columns, CSV, named CSV, JSON or for awk.

A format is words joined by commas, each a field of the verb, an alias for several, or a control word; the order of the
fields is the order of the columns. `default` stands for the verb's default fields, and a field that is a time may be
followed by `/sec` or `/iso`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from sonar.errors import SonarError, UsageError
from sonar.verbs.declare import Field, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.verbs.declare import Result, Verb

__all__ = [
    "MOST_COLUMNS",
    "Format",
    "Style",
    "block_texts",
    "format_help",
    "parse_format",
    "texts",
    "write_result",
    "write_rows",
]

MOST_COLUMNS = 200


class Style(Enum):
    """How rows are written."""

    FIXED = "fixed"
    CSV = "csv"
    CSVNAMED = "csvnamed"
    JSON = "json"
    NATIVE = "native"
    AWK = "awk"
    ARROW = "arrow"
    PARQUET = "parquet"


# Which wins if several are named.
_PRECEDENCE = (
    Style.PARQUET, Style.ARROW, Style.CSVNAMED, Style.CSV, Style.NATIVE, Style.JSON, Style.AWK, Style.FIXED,
)  # fmt: skip

_CONTROLS = {
    "csv": "comma-separated values, without a header unless `header` is given",
    "csvnamed": "the same, each value written as field=value",
    "json": "one array of objects, all values texts",
    "native": "the same with numbers, truths, lists and nulls as JSON has them, ending in a newline",
    "awk": "values separated by one blank; blanks within them become _, empty ones -",
    "fixed": "aligned columns with a header",
    "arrow": "an Arrow IPC stream: values with their types, neither rounded nor formatted",
    "parquet": "the same as a Parquet file",
    "header": "print the header (csv, csvnamed)",
    "noheader": "print no header (fixed)",
    "nodefaults": "leave out values that are the default of their field",
}
_TAG = "tag:"
_TIMES = (Kind.MINUTE, Kind.DATE, Kind.CLOCK, Kind.ISO)
_MODIFIERS = {"sec": (Kind.SECONDS, (*_TIMES, Kind.DURATION)), "iso": (Kind.ISO, _TIMES)}


@dataclass(frozen=True, slots=True)
class Format:
    """How to write the rows of a verb."""

    style: Style
    header: bool
    nodefaults: bool
    tag: str | None
    fields: tuple[Field, ...]
    words: frozenset[str] = frozenset()  # the control words that were given
    unknown: tuple[str, ...] = ()  # words that mean nothing, for the caller to warn of
    is_default: bool = False  # nobody asked for these fields
    aliases: frozenset[str] = frozenset()  # the aliases that were given
    width: int = 0  # of a line of fixed columns, where that can be had by cutting texts; 0: as wide as it is

    @property
    def is_json(self) -> bool:
        """Whether it is JSON of either kind."""
        return self.style in (Style.JSON, Style.NATIVE)

    @property
    def is_binary(self) -> bool:
        """Whether it is for programs only."""
        return self.style in (Style.ARROW, Style.PARQUET)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(field.name for field in self.fields)


def parse_format(verb: "Verb", spec: str | None) -> Format:
    """Return the format that a `--fmt` value means; without one the verb's default. Raise SonarError for no field."""
    fields: list[Field] = []
    words: list[str] = []
    unknown: list[str] = []
    known = {named.name: named for field in verb.fields for named in field.by_each_name()}
    for word in _words(verb, verb.default_fields if spec is None else spec):
        if field := known.get(word) or _modified(known, word):
            fields.append(field)
        elif word in _CONTROLS or word in verb.controls or word.startswith(_TAG):
            words.append(word)
        elif word:
            unknown.append(word)
    if not fields:
        raise SonarError(
            "No output fields were selected" + (f": unknown {', '.join(map(repr, unknown))}" if unknown else "")
        )
    if len(fields) > MOST_COLUMNS:
        raise UsageError(f"--fmt: more than {MOST_COLUMNS} columns")
    style = next((style for style in _PRECEDENCE if style.value in words), Style(verb.default_format))
    return Format(
        style=style,
        header="noheader" not in words
        if style is Style.FIXED
        else "header" in words and style in (Style.CSV, Style.CSVNAMED),
        nodefaults="nodefaults" in words,
        tag=next((word.removeprefix(_TAG) for word in words if word.startswith(_TAG)), None),
        fields=tuple(fields),
        words=frozenset(words),
        unknown=tuple(unknown),
        is_default=spec is None,
        aliases=frozenset((spec or "").split(",")) & frozenset(verb.aliases),
    )


def _words(verb: "Verb", spec: str) -> Iterator[str]:
    """Give the words of a format, aliases replaced by what they stand for."""
    names = {name for field in verb.fields for name in (field.name, *field.aliases)}
    for word in spec.split(","):
        if word in names:
            yield word
        elif word in verb.aliases:
            yield from _words(verb, ",".join(verb.aliases[word]))
        elif word in ("default", "Default"):
            yield from _words(verb, verb.default_fields)
        elif word == "All" or (word == "all" and "All" not in verb.aliases):
            yield from _words(verb, ",".join(_all_names(verb)))
        else:
            yield word


def _all_names(verb: "Verb") -> tuple[str, ...]:
    """Return what `all` stands for: as the verb says, else all fields that need no capacities, each in one form."""
    declared = verb.aliases.get("all")
    return declared or tuple(field.name for field in verb.fields if not field.relative and "/" not in field.name)


def _modified(known: dict[str, Field], word: str) -> Field | None:
    """Return the field for `NAME/sec` or `NAME/iso` where NAME is a time, or for /sec a duration."""
    name, _, modifier = word.partition("/")
    kind, kinds = _MODIFIERS.get(modifier, (Kind.TEXT, ()))
    field = known.get(name)
    if field is None or field.kind not in kinds:
        return None
    return replace(field, name=word, kind=kind, column=field.source)


def format_help(verb: "Verb") -> str:
    """Return what `--fmt=help` prints: syntax, fields with their meaning, aliases, defaults and control words."""

    def table(rows: Iterable[tuple[str, str]]) -> list[str]:
        listed = list(rows)
        width = max(len(name) for name, _ in listed)
        return [f"  {name:{width}}  {text}".rstrip() for name, text in listed]

    def describe(field: Field) -> str:
        also = f"; also {', '.join(field.aliases)}" if field.aliases else ""
        return f"{field.help} ({field.kind.value}{', ' + field.unit if field.unit else ''}){also}"

    lines = ["Syntax:", "  --fmt=(field|alias|control),...", "", "Fields:"]
    lines += table((field.name, describe(field)) for field in sorted(verb.fields, key=lambda field: field.name))
    if verb.aliases:
        lines += ["", "Aliases:", *(f"  {name} --> {','.join(verb.aliases[name])}" for name in sorted(verb.aliases))]
    lines += ["", "Defaults:", f"  {verb.default_fields}", "", "Control:"]
    lines += table(
        [
            *_CONTROLS.items(),
            *verb.controls.items(),
            (f"{_TAG}TEXT", "add a last column `tag` that is TEXT in each row"),
        ]
    )
    kinds = {field.kind for field in verb.fields}
    if kinds & {*_TIMES, Kind.DURATION}:
        lines += ["", "Modifiers:"]
        lines += table(
            [
                *([("TIME/sec", "the time in seconds since 1970")] if kinds & {*_TIMES} else []),
                *([("TIME/iso", "YYYY-MM-DDThh:mm:ssZ")] if kinds & {*_TIMES} else []),
                *([("DURATION/sec", "the duration in seconds")] if Kind.DURATION in kinds else []),
            ]
        )
    return "\n".join([*lines, ""])


def write_result(verb: "Verb", result: "Result", fmt: Format, out: TextIO) -> None:
    """Write what a verb answered: by the verb's own writer if it has one, else as one table.

    A binary format needs a stream that has a binary one below it (`out.buffer`).
    """
    if fmt.is_binary:
        from sonar.render.tables import typed_table, write_table

        binary = getattr(out, "buffer", None)
        if binary is None:
            raise UsageError(f"--fmt: {fmt.style.value} is binary and cannot be written here")
        out.flush()
        write_table(typed_table(result, fmt.fields), fmt.style, binary)
    elif verb.write:
        verb.write(result, fmt, out)
    else:
        write_rows(result.rows, fmt, out)


def write_rows(rows: "pa.Table", fmt: Format, out: TextIO) -> None:
    """Write rows as one table of the format; JSON ends without a newline."""
    from sonar.render import writers

    writers.write(rows, fmt, out)


def block_texts(rows: "pa.Table", spans: "Iterable[tuple[int, int]]", fmt: Format) -> Iterator[str]:
    """Give what `write_rows` would write for each span (first row, number of rows); fast for many small ones."""
    from sonar.render import writers

    return writers.block_texts(rows, spans, fmt)


def texts(rows: "pa.Table", field: Field, fmt: Format) -> list[str]:
    """Return the text of a field in each row; a value left out by `nodefaults` is empty."""
    from sonar.render import writers
    from sonar.render.columns import texts_in

    return texts_in(writers.cells(rows, field, fmt))

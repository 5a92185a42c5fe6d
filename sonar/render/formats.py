"""The `--fmt` language, and the writers of tables: fixed columns, CSV, named CSV, JSON and awk; see sonalyze(1)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from sonar.errors import SonarError
from sonar.render.values import column_texts
from sonar.verbs.declare import Field, Result, Verb

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Format", "Style", "format_help", "parse_format", "texts", "write_result", "write_rows"]

_CONTROL = ("csv", "csvnamed", "json", "awk", "fixed", "header", "noheader", "nodefaults")


class Style(Enum):
    """How a table is written."""

    FIXED = "fixed"
    CSV = "csv"
    CSVNAMED = "csvnamed"
    JSON = "json"
    AWK = "awk"


@dataclass(frozen=True, slots=True)
class Format:
    """What `--fmt` asks for: the style, the columns, and the switches."""

    style: Style
    fields: tuple[Field, ...]
    header: bool = False
    nodefaults: bool = False
    tag: str | None = None
    words: frozenset[str] = frozenset()  # the control words that were given
    unknown: tuple[str, ...] = ()  # words that mean nothing, to be warned of

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(field.name for field in self.fields)


def parse_format(verb: Verb, spec: str | None) -> Format:
    """Return the format that a `--fmt` value asks for; without one the verb's default. Raise SonarError for no field.

    Each word between commas is a field, else an alias for several, else a control word.
    """
    by_name = {field.name: field for field in verb.fields}
    fields: list[Field] = []
    words: set[str] = set()
    unknown: list[str] = []
    tag: str | None = None
    for word in (verb.default_fields if spec is None else spec).split(","):
        if word in by_name:
            fields.append(by_name[word])
        elif word in verb.aliases:
            fields += [by_name[name] for name in _expanded(verb, word)]
        elif word in _CONTROL:
            words.add(word)
        elif word.startswith("tag:"):
            tag = word.removeprefix("tag:") if tag is None else tag
        elif spec is not None:
            unknown.append(word)
    if not fields:
        raise SonarError("No output fields were selected")
    style = _style(words, verb.default_format)
    return Format(
        style=style,
        fields=tuple(fields),
        header="noheader" not in words if style is Style.FIXED else style is not Style.JSON and "header" in words,
        nodefaults="nodefaults" in words,
        tag=tag,
        words=frozenset(words),
        unknown=tuple(unknown),
    )


def _expanded(verb: Verb, alias: str) -> list[str]:
    """Return the names of the fields that an alias stands for; aliases may name aliases."""
    names: list[str] = []
    for member in verb.aliases[alias]:
        names += _expanded(verb, member) if member in verb.aliases else [member]
    return names


def _style(words: set[str], default: str) -> Style:
    for style in (Style.CSVNAMED, Style.CSV, Style.JSON, Style.AWK, Style.FIXED):
        if style.value in words:
            return style
    return Style(default)


def format_help(verb: Verb) -> str:
    """Return what `--fmt=help` prints."""
    lines = ["Syntax:", "  --fmt=(field|alias|control),...", "", "Fields:"]
    width = max(len(field.name) for field in verb.fields)
    for field in sorted(verb.fields, key=lambda field: field.name):
        unit = f", {field.unit}" if field.unit else ""
        lines.append(f"  {field.name.ljust(width)}  {field.help} ({field.kind.value}{unit})")
    lines += ["", "Aliases:", *(f"  {alias} --> {','.join(verb.aliases[alias])}" for alias in sorted(verb.aliases))]
    lines += ["", "Defaults:", f"  {verb.default_fields}"]
    lines += ["", "Control:", *(f"  {word}" for word in _CONTROL), "  tag:TEXT"]
    return "\n".join(lines) + "\n"


def texts(rows: "pa.Table", field: Field, fmt: Format) -> list[str]:
    """Return the texts of one field for all rows."""
    short_hosts = fmt.style in {Style.FIXED, Style.AWK}
    return column_texts(field.kind, rows.column(field.source).to_pylist(), short_hosts=short_hosts)


def write_result(verb: Verb, result: Result, fmt: Format, out: TextIO) -> None:
    """Write a verb's answer, by the verb's own writer if it has one."""
    if verb.write is not None:
        verb.write(result, fmt, out)
    else:
        write_rows(result.rows, fmt, out)


def write_rows(rows: "pa.Table", fmt: Format, out: TextIO) -> None:
    """Write one table."""
    columns = [texts(rows, field, fmt) for field in fmt.fields]
    if fmt.style is Style.JSON:
        out.write(_json(fmt, columns, len(rows)))
    elif fmt.style is Style.FIXED:
        out.writelines(_fixed(fmt, columns, len(rows)))
    elif fmt.style is Style.AWK:
        out.writelines(_awk(fmt, columns, len(rows)))
    else:
        out.writelines(_csv(fmt, columns, len(rows)))


def _cells(fmt: Format, columns: list[list[str]], *, blank: str | None) -> list[list[str | None]]:
    """Return the columns with `blank` in place of what `nodefaults` leaves out."""
    if not fmt.nodefaults:
        return [list(column) for column in columns]
    return [
        [blank if cell == field.default else cell for cell in column]
        for field, column in zip(fmt.fields, columns, strict=True)
    ]


def _fixed(fmt: Format, columns: list[list[str]], length: int) -> Iterator[str]:
    """Yield lines of left-aligned cells, each as wide as the widest of its column and two blanks."""
    names = list(fmt.names)
    table = [[_CONTROLS.sub(" ", cell or "") for cell in column] for column in _cells(fmt, columns, blank="")]
    if fmt.tag is not None:
        names.append("tag")
        table.append([fmt.tag] * length)
    padded = []
    for name, column in zip(names, table, strict=True):
        cells = [name, *column] if fmt.header else column
        width = max(map(len, cells), default=0)
        padded.append([cell.ljust(width) for cell in cells])
    return ("  ".join(cells).rstrip() + "\n" for cells in zip(*padded, strict=True))


def _csv(fmt: Format, columns: list[list[str]], length: int) -> Iterator[str]:
    """Yield CSV lines; with names each cell is `name=value`, and cells left out are missing."""
    named = fmt.style is Style.CSVNAMED
    table = _cells(fmt, columns, blank=None if named else "")
    names = list(fmt.names)
    if fmt.tag is not None:
        names.append("tag")
        table.append([fmt.tag] * length)
    if fmt.header:
        yield _csv_line(names)
    for row in zip(*table, strict=True):
        if named:
            yield _csv_line([f"{name}={cell}" for name, cell in zip(names, row, strict=True) if cell is not None])
        else:
            yield _csv_line([cell or "" for cell in row])


def _csv_line(cells: list[str]) -> str:
    if cells == [""]:
        return '""\n'
    line = ",".join(cells)
    if line.count(",") >= len(cells) or _QUOTING.search(line):
        line = ",".join('"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell for cell in cells)
    return line + "\n"


def _awk(fmt: Format, columns: list[list[str]], length: int) -> Iterator[str]:
    """Yield lines of cells between single blanks; blanks inside a cell become `_`, an empty cell is `-`."""
    table = [[(cell or "-").replace(" ", "_") for cell in column] for column in _cells(fmt, columns, blank="-")]
    if fmt.tag is not None:
        table.append([fmt.tag] * length)
    return (" ".join(row) + "\n" for row in zip(*table, strict=True))


def _json(fmt: Format, columns: list[list[str]], length: int) -> str:
    """Return one array without white space or final newline; all values are texts; a repeated field stands once."""
    objects: list[list[str]] = [[] for _ in range(length)]
    seen: set[str] = set()
    for field, column in zip(fmt.fields, _cells(fmt, columns, blank=None), strict=True):
        if field.name not in seen:
            seen.add(field.name)
            key = json.dumps(field.name)
            quoted = {cell: f"{key}:{_json_text(cell)}" for cell in set(column) if cell is not None}
            for members, cell in zip(objects, column, strict=True):
                if cell is not None:
                    members.append(quoted[cell])
    if fmt.tag is not None:
        for members in objects:
            members.append(f'"tag":{_json_text(fmt.tag)}')
    return "[" + ",".join("{" + ",".join(members) + "}" for members in objects) + "]"


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED = re.compile('[,"\r\n]')
_QUOTING = re.compile('["\r\n]')

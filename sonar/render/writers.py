"""Writing a table as fixed columns, CSV, named CSV, JSON or for awk: column by column, never cell by cell.

Only code that has rows to print imports this module: it needs Arrow.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import pyarrow as pa

from sonar.render.columns import (
    Column,
    choose,
    constant,
    filled,
    join,
    longest,
    map_matching,
    pad,
    replace,
    texts_in,
    trim,
)
from sonar.render.formats import Format, Style
from sonar.render.values import texts_of
from sonar.verbs.declare import Field, Kind

__all__ = ["cells", "write"]

# Kinds whose texts hold nothing that would have to be quoted or replaced.
_PLAIN = frozenset(Kind) - {Kind.TEXT, Kind.HOSTS, Kind.GPUS}
_ROWS_AT_ONCE = 1 << 16  # lines put together before they are written: bounds memory
_CONTROLS = "[\\x00-\\x1f\\x7f-\\x{9f}]"  # what a terminal may take for a command
_BLANKS = "[\\x00-\\x20\\x7f-\\x{9f}]"
_JSON_SPECIALS = '["\\\\\\x00-\\x1f]'


def write(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    """Write rows as one table of the format."""
    {
        Style.FIXED: _write_fixed,
        Style.CSV: _write_csv,
        Style.CSVNAMED: _write_csv,
        Style.JSON: _write_json,
        Style.AWK: _write_awk,
    }[fmt.style](rows, fmt, out)


def cells(rows: pa.Table, field: Field, fmt: Format) -> Column:
    """Return the field's texts; null where `nodefaults` leaves the value out."""
    short = fmt.style in (Style.FIXED, Style.AWK)
    column = texts_of(rows.column(field.source), field.kind, short_hosts=short)
    if fmt.nodefaults and field.default is not None:
        return choose(column, field.default, None)
    return column


@dataclass(frozen=True, slots=True)
class _Printed:
    """A column made into texts; `plain` if they need no care."""

    name: str
    texts: Column
    plain: bool = False


def _printed(rows: pa.Table, fmt: Format) -> list[_Printed]:
    """Return the columns, the tag last."""
    columns = [_Printed(field.name, cells(rows, field, fmt), field.kind in _PLAIN) for field in fmt.fields]
    return columns if fmt.tag is None else [*columns, _Printed("tag", constant(fmt.tag, rows.num_rows))]


def _write_fixed(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    header, columns = "", []
    for column in _printed(rows, fmt):
        texts = filled(column.texts) if column.plain else replace(filled(column.texts), _CONTROLS, " ")
        width = max(longest(texts), len(column.name) if fmt.header else 0) + 2
        header += column.name.ljust(width)
        columns.append(pad(texts, width))
    if fmt.header:
        out.write(header.rstrip() + "\n")
    for lines in _joined(columns, ""):
        _write_lines(trim(lines), out)


def _write_csv(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    columns = _printed(rows, fmt)
    if fmt.header:
        out.write(",".join(column.name for column in columns) + "\n")
    ready = []
    for column in columns:
        texts = join(f"{column.name}=", column.texts) if fmt.style is Style.CSVNAMED else filled(column.texts)
        ready.append(texts if column.plain else map_matching(_quoted, texts, '[,"\n\r]'))
    for lines in _joined(ready, ","):
        # A record of one empty cell has to be told from an empty line, which readers skip.
        _write_lines(choose(lines, "", '""'), out)


def _write_awk(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    columns = [choose(replace(filled(cells(rows, field, fmt)), _BLANKS, "_"), "", "-") for field in fmt.fields]
    if fmt.tag is not None:
        columns.append(constant(fmt.tag, rows.num_rows))
    for lines in _joined(columns, " "):
        _write_lines(lines, out)


def _write_json(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    # As a dictionary, a field that is named twice appears once, at its first place.
    members = []
    for name, column in {column.name: column for column in _printed(rows, fmt)}.items():
        texts = column.texts if column.plain else map_matching(_json_escaped, column.texts, _JSON_SPECIALS)
        members.append(join(f'"{name}":"', texts, '"'))
    out.write("[")
    separator = ""
    for joined in _joined(members, ","):
        out.write(separator + ",".join(texts_in(join("{", joined, "}"))))
        separator = ","
    out.write("]")


def _joined(columns: list[Column], between: str) -> Iterator[Column]:
    """Give the rows as texts, some thousand at a time; cells that are null are left out with their separator."""
    for start in range(0, len(columns[0]), _ROWS_AT_ONCE):
        yield join(*(column.slice(start, _ROWS_AT_ONCE) for column in columns), between=between, skip_nulls=True)


def _write_lines(lines: Column, out: TextIO) -> None:
    out.write("\n".join(texts_in(lines)) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _json_escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]

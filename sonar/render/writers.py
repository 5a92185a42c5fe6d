"""Writing a table as fixed columns, CSV, named CSV, JSON or for awk: column by column, never cell by cell.

Only code that has rows to print imports this module: it needs Arrow.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute

from sonar.render.columns import (
    Column,
    choose,
    constant,
    cut,
    filled,
    first_characters,
    join,
    map_matching,
    replace,
    texts_in,
)
from sonar.render.formats import Format, Style
from sonar.render.lines import CodedTexts, lines
from sonar.render.values import distinct, texts_of
from sonar.verbs.declare import Field, Kind

__all__ = ["block_texts", "cells", "write"]

# Kinds whose texts hold nothing that would have to be quoted or replaced.
_PLAIN = frozenset(Kind) - {Kind.TEXT, Kind.WORDS, Kind.HOSTS, Kind.GPUS}
_NARROWEST = 8  # to which a column of texts is cut for a terminal
_ROWS_AT_ONCE = 1 << 16  # lines put together before they are written: bounds memory
_ROWS_OF_BLOCKS = 1 << 12  # at least so many are made into texts at once
_CONTROLS = "[\\x00-\\x1f\\x7f-\\x{9f}]"  # what a terminal may take for a command
_BLANKS = "[\\x00-\\x20\\x7f-\\x{9f}]"
_NUMERIC = frozenset({Kind.INT, Kind.FLOAT, Kind.CEIL, Kind.ROUND, Kind.TRUNC, Kind.SECONDS})
_kernels: Any = pyarrow.compute
_JSON_SPECIALS = '["\\\\\\x00-\\x1f]'


def write(rows: pa.Table, fmt: Format, out: TextIO) -> None:
    """Write rows as one table of the format."""
    if fmt.style is Style.FIXED:
        header, parts = _fixed(rows, fmt)
        out.write(header)
        out.writelines(parts)
    elif fmt.is_json:
        out.write("[")
        for number, part in enumerate(_row_texts(rows, fmt)):
            out.write("," * bool(number) + ",".join(part))
        out.write("]\n" if fmt.style is Style.NATIVE else "]")
    else:
        out.write(_csv_header(fmt))
        out.writelines(_ended(part) for part in _row_texts(rows, fmt))


def block_texts(rows: pa.Table, spans: Iterable[tuple[int, int]], fmt: Format) -> Iterator[str]:
    """Give the text of each span (first row, number of rows) of a table as if it were written alone.

    For many small blocks this is a hundred times faster than to write each.
    """
    if fmt.style is Style.FIXED:
        yield from _fixed_blocks(rows, spans, fmt)
        return
    texts = list(chain.from_iterable(_row_texts(rows, fmt)))
    header = _csv_header(fmt)
    for start, length in spans:
        part = texts[start : start + length]
        yield f"[{','.join(part)}]" if fmt.is_json else header + _ended(part)


def cells(rows: pa.Table, field: Field, fmt: Format) -> Column:
    """Return the field's texts; null where `nodefaults` leaves the value out."""
    short = fmt.style in (Style.FIXED, Style.AWK)
    column = texts_of(rows.column(field.source), field.kind, short_hosts=short, missing=field.missing)
    if field.longest and fmt.style is Style.FIXED:
        column = first_characters(column, field.longest)
    if (fmt.nodefaults or field.sparse) and field.default is not None:
        return choose(column, field.default, None)
    return column


@dataclasses.dataclass(frozen=True, slots=True)
class _Printed:
    """A column made into texts; `plain` if they need no care."""

    name: str
    texts: Column
    plain: bool = False


def _printed(rows: pa.Table, fmt: Format) -> list[_Printed]:
    """Return the columns, the tag last."""
    columns = [_Printed(field.name, cells(rows, field, fmt), field.kind in _PLAIN) for field in fmt.fields]
    return columns if fmt.tag is None else [*columns, _Printed("tag", constant(fmt.tag, rows.num_rows))]


def _names(fmt: Format) -> tuple[str, ...]:
    return fmt.names if fmt.tag is None else (*fmt.names, "tag")


def _fixed_columns(rows: pa.Table, fmt: Format) -> list[CodedTexts]:
    columns = []
    for field in fmt.fields:
        values, codes = distinct(rows.column(field.source), field.kind)
        texts = filled(cells(pa.table({field.source: values}), field, fmt))
        texts = texts if field.kind in _PLAIN else replace(texts, _CONTROLS, " ")
        if codes is None:
            coded: Any = texts.dictionary_encode()
            texts, codes = coded.dictionary, coded.indices.to_numpy()
        columns.append(CodedTexts(texts, codes))
    if fmt.tag is not None:
        tag = replace(constant(fmt.tag, 1), _CONTROLS, " ")
        columns.append(CodedTexts(tag, np.zeros(rows.num_rows, np.int64)))
    return columns


def _fixed(rows: pa.Table, fmt: Format) -> tuple[str, Iterator[str]]:
    """Return the header line, and the lines in portions."""
    columns = _fixed_columns(rows, fmt)
    names = _names(fmt)
    widths = [max(column.width, len(name) if fmt.header else 0) for name, column in zip(names, columns, strict=True)]
    widths = _within(widths, fmt)
    header = "".join(cut(name, width).ljust(width + 2) for name, width in zip(names, widths, strict=True))
    return header.rstrip() + "\n" if fmt.header else "", lines(columns, widths)


def _within(widths: list[int], fmt: Format) -> list[int]:
    """Return the widths with columns of texts made narrower, the widest first, so that a line fits if it can."""
    flexible = [at for at, field in enumerate(fmt.fields) if field.kind not in _PLAIN]
    if fmt.tag is not None:
        flexible.append(len(fmt.fields))
    fitted = list(widths)
    while fmt.width and sum(fitted) + 2 * (len(fitted) - 1) > fmt.width:
        widest = max(flexible, key=fitted.__getitem__, default=-1)
        if widest < 0 or fitted[widest] <= _NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


def _fixed_blocks(rows: pa.Table, spans: Iterable[tuple[int, int]], fmt: Format) -> Iterator[str]:
    columns = _fixed_columns(rows, fmt)
    first, after = 0, -1  # the rows whose texts are at hand: none yet
    at_hand: list[list[str]] = []
    for start, length in spans:
        if not first <= start <= start + length <= after:
            first, after = start, start + max(length, _ROWS_OF_BLOCKS)
            at_hand = [texts_in(column.texts.take(pa.array(column.codes[first:after]))) for column in columns]
        own = [texts[start - first : start - first + length] for texts in at_hand]
        parts = [[name, *texts] if fmt.header else texts for name, texts in zip(_names(fmt), own, strict=True)]
        widths = _within([max(map(len, part), default=0) for part in parts], fmt)
        padded = [[cut(text, width).ljust(width) for text in part] for part, width in zip(parts, widths, strict=True)]
        yield _ended(["  ".join(row).rstrip() for row in zip(*padded, strict=True)])


def _csv_header(fmt: Format) -> str:
    return ",".join(_names(fmt)) + "\n" if fmt.header else ""


def _row_texts(rows: pa.Table, fmt: Format) -> Iterator[list[str]]:
    """Give the text of each row, without line end, in portions: a line of CSV or for awk, a JSON object."""
    if fmt.is_json:
        for members in _joined(_json_columns(rows, fmt), ","):
            yield texts_in(join("{", members, "}"))
    elif fmt.style is Style.AWK:
        for joined in _joined(_awk_columns(rows, fmt), " "):
            yield texts_in(joined)
    else:
        for joined in _joined(_csv_columns(rows, fmt), ","):
            # A record of one empty cell has to be told from an empty line, which readers skip.
            yield texts_in(choose(joined, "", '""'))


def _csv_columns(rows: pa.Table, fmt: Format) -> list[Column]:
    columns = []
    for column in _printed(rows, fmt):
        texts = join(f"{column.name}=", column.texts) if fmt.style is Style.CSVNAMED else filled(column.texts)
        columns.append(texts if column.plain else map_matching(_quoted, texts, '[,"\n\r]'))
    return columns


def _awk_columns(rows: pa.Table, fmt: Format) -> list[Column]:
    columns = [choose(replace(filled(cells(rows, field, fmt)), _BLANKS, "_"), "", "-") for field in fmt.fields]
    return columns if fmt.tag is None else [*columns, constant(fmt.tag, rows.num_rows)]


def _json_columns(rows: pa.Table, fmt: Format) -> list[Column]:
    """Return `"name":"text"`; a field that is named twice appears once, at its first place."""
    if fmt.style is Style.NATIVE:
        return _native_columns(rows, fmt)
    columns = []
    for name, column in {column.name: column for column in _printed(rows, fmt)}.items():
        texts = column.texts if column.plain else map_matching(_json_escaped, column.texts, _JSON_SPECIALS)
        columns.append(join(f'"{name}":"', texts, '"'))
    return columns


def _native_columns(rows: pa.Table, fmt: Format) -> list[Column]:
    """Return `"name":value` with numbers, truths and lists as such; what is missing or no number is null."""
    columns = []
    for field in {field.name: field for field in fmt.fields}.values():
        texts = cells(rows, dataclasses.replace(field, missing=""), fmt)
        array: Any = rows.column(field.source)
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if field.kind in (Kind.HOSTS, Kind.WORDS):
            listed = [None if value is None else json.dumps(value, ensure_ascii=False) for value in array.to_pylist()]
            shown: Column = pa.array(listed, pa.string())
        elif field.kind is Kind.HEX:
            shown = texts_of(array, Kind.INT)
        elif field.kind is Kind.BOOL:
            shown = choose(choose(texts, "yes", "true"), "no", "false")
        elif field.kind in _NUMERIC:
            shown = replace(filled(texts), "^(NaN|inf|-inf|)$", "null")
        else:
            shown = join('"', map_matching(_json_escaped, texts, _JSON_SPECIALS), '"')
        shown = _kernels.if_else(_kernels.is_null(array), "null", choose(filled(shown, "null"), "", "null"))
        if fmt.nodefaults and field.default is not None:  # left out, with its name
            shown = _kernels.if_else(_kernels.is_null(texts), pa.scalar(None, pa.string()), shown)
        columns.append(join(f'"{field.name}":', shown))
    return columns if fmt.tag is None else [*columns, constant(f'"tag":{json.dumps(fmt.tag)}', rows.num_rows)]


def _joined(columns: list[Column], between: str) -> Iterator[Column]:
    """Give the rows as texts, some thousand at a time; cells that are null are left out with their separator."""
    for start in range(0, len(columns[0]), _ROWS_AT_ONCE):
        yield join(*(column.slice(start, _ROWS_AT_ONCE) for column in columns), between=between, skip_nulls=True)


def _ended(texts: list[str]) -> str:
    return "\n".join(texts) + "\n" if texts else ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _json_escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]

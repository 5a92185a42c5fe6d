"""Answers as typed tables: Arrow columns of the fields asked for, and their files.

Where a text would show a rounded number or a formatted time, the table has the number and the instant. Units and
meaning of each column are in its metadata (`unit`, `description`).

| kind of field              | Arrow type                                             |
|----------------------------|--------------------------------------------------------|
| text, set of cards         | string (`none`, `unknown`, `0,2`)                      |
| set of hosts, list of words | list of string                                         |
| numbers                    | int64, double (not rounded)                            |
| time, ISO time             | timestamp[s, UTC]                                      |
| date, time of day          | date32, time32[s]                                      |
| duration                   | duration[s]                                            |
| yes or no                  | bool                                                   |
"""

from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute

from sonar.render.formats import Style
from sonar.render.values import in_one, texts_of
from sonar.times import DAY
from sonar.verbs.declare import Field, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sonar.verbs.declare import Result

__all__ = ["typed_table", "write_table"]

_kernels: Any = pyarrow.compute
_WHOLE = {Kind.INT, Kind.SECONDS, Kind.HEX}


def typed_table(result: "Result", fields: "Sequence[Field]") -> pa.Table:
    """Return the answer as a table with a column a field; where a verb prints a table a host, `host` is the first."""
    columns: dict[str, Any] = {}
    described = []
    if result.blocks is not None and not any(field.name == "host" for field in fields):
        titles = [title for title, _first, length in result.blocks for _ in range(length)]
        if any(titles):
            columns["host"] = pa.array(titles, pa.string())
            described.append(pa.field("host", pa.string()))
    for field in fields:
        if field.name not in columns:
            columns[field.name] = _typed(result.rows.column(field.source), field.kind)
            facts = {"description": field.help, "unit": field.unit}
            metadata: dict[bytes | str, bytes | str] = {name: text for name, text in facts.items() if text}
            described.append(pa.field(field.name, columns[field.name].type, metadata=metadata))
    return pa.table(list(columns.values()), schema=pa.schema(described))


def write_table(table: pa.Table, style: Style, out: BinaryIO) -> None:
    """Write a table as an Arrow IPC stream or a Parquet file."""
    if style is Style.PARQUET:
        from pyarrow import parquet

        parquet.write_table(table, out, compression="zstd")
    else:
        with pa.ipc.new_stream(cast("Any", out), table.schema) as stream:
            stream.write_table(table)


def _typed(column: Any, kind: Kind) -> Any:
    array: Any = in_one(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary.take(array.indices)
    if kind in (Kind.TEXT, Kind.GPUS):
        return texts_of(array, kind) if kind is Kind.GPUS else array.cast(pa.string())
    if kind in (Kind.HOSTS, Kind.WORDS):
        return array.cast(pa.list_(pa.string()))
    if kind in _WHOLE:
        return array.cast(pa.int64(), safe=False)
    if kind is Kind.BOOL:
        return array.cast(pa.bool_())
    if kind is Kind.DURATION:
        return array.cast(pa.int64(), safe=False).cast(pa.duration("s"))
    if kind in (Kind.MINUTE, Kind.ISO):
        return array.cast(pa.int64(), safe=False).cast(pa.timestamp("s", "UTC"))
    if kind is Kind.DATE:
        return array.cast(pa.int64(), safe=False).cast(pa.timestamp("s")).cast(pa.date32(), safe=False)
    if kind is Kind.CLOCK:
        seconds = array.cast(pa.int64(), safe=False)
        days = _kernels.floor(_kernels.divide(seconds.cast(pa.float64()), float(DAY))).cast(pa.int64())
        of_day = _kernels.subtract(seconds, _kernels.multiply(days, DAY))
        return of_day.cast(pa.int32()).cast(pa.time32("s"))
    return array.cast(pa.float64())

"""Rows of samples while a file is read: plain Python values in, one Arrow table of the schema out."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sonar.read.schema import COLUMNS, TEXT_COLUMNS, sample_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DEFAULTS", "Rows", "empty_table"]

# What a column holds where a record does not give it: schema.py.
DEFAULTS: dict[str, Any] = {
    "time": 0,
    "version": "",
    "host": "",
    "cores": 0,
    "user": "",
    "job": 0,
    "epoch": None,
    "pid": 0,
    "ppid": 0,
    "cmd": "",
    "cpu_pct": 0.0,
    "cpu_sampled_pct": 0.0,
    "cpu_kib": 0.0,
    "rss_kib": 0.0,
    "gpus": 0,
    "gpu_pct": 0.0,
    "gpumem_pct": 0.0,
    "gpu_kib": 0.0,
    "gpufail": 0,
    "cputime_s": 0.0,
    "rolledup": 0,
    "threads": 0,
    "read_kib": 0.0,
    "written_kib": 0.0,
    "cancelled_kib": 0.0,
    "in_container": False,
}


class Rows:
    """Collects the samples of one file, in order."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, values: dict[str, Any]) -> None:
        """Add one sample: values by column, defaults for those that are missing."""
        self._rows.append(tuple((DEFAULTS | values).values()))

    def table(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Return the rows as a table of the schema, with these columns only if they are named."""
        import pyarrow as pa

        schema = sample_schema()
        wanted = COLUMNS if columns is None else tuple(columns)
        by_column = dict(zip(COLUMNS, zip(*self._rows, strict=True), strict=True)) if self._rows else {}
        arrays = [
            _dictionary(by_column.get(name, ()))
            if name in TEXT_COLUMNS
            else pa.array(by_column.get(name, ()), schema.field(name).type)
            for name in wanted
        ]
        return pa.table(arrays, schema=pa.schema([schema.field(name) for name in wanted]))


def empty_table(columns: Sequence[str] | None = None) -> "pa.Table":
    """Return a table of the schema without rows."""
    return Rows().table(columns)


def _dictionary(values: Iterable[str]) -> Any:
    """Return the texts dictionary-encoded, in order of first appearance."""
    import pyarrow as pa

    codes: dict[str, int] = {}
    indices = [codes.setdefault(value, len(codes)) for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(codes), pa.string()))

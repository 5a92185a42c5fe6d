"""What becomes of the rows that a verb found: those that `--query` asks for, in the order that `--sort` asks for."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sonar.errors import UsageError
from sonar.verbs.declare import Field, Kind, Result, Verb

if TYPE_CHECKING:
    import pyarrow as pa

    from sonar.verbs.expression import Expression
    from sonar.verbs.query import Query

__all__ = ["SortKey", "chosen", "parse_sort"]


@dataclass(frozen=True, slots=True)
class SortKey:
    """A field to sort by."""

    field: Field
    descending: bool = False


def parse_sort(text: str, verb: Verb) -> tuple[SortKey, ...]:
    """Return the keys of a `--sort` value: fields joined by commas, `-` before one for descending order."""
    named = {one.name: one for field in verb.fields for one in field.by_each_name()}
    keys = []
    for word in text.split(","):
        name = word.removeprefix("-")
        if name not in named:
            raise UsageError(f"no field {name!r}")
        keys.append(SortKey(named[name], descending=word.startswith("-")))
    return tuple(keys)


def chosen(verb: Verb, result: Result, query: "Query") -> Result:
    """Return the rows that are asked for: filtered, then what the verb keeps of these, then sorted within blocks."""
    if query.where is not None:
        result = _matching(result, query.where)
    if verb.finish is not None:
        result = verb.finish(result, query)
    return _sorted(result, query.sort) if query.sort else result


def _matching(result: Result, where: "Expression") -> Result:
    """Return the rows that pass; a block without any is left out, with what `facts` tells of it."""
    import numpy as np

    keep = where.mask(result.rows)
    rows = result.rows.filter(keep)
    if result.blocks is None:
        return replace(result, rows=rows)
    before = np.append(0, np.cumsum(keep.to_numpy(zero_copy_only=False)))
    spans = [(int(before[first]), int(before[first + length])) for _title, first, length in result.blocks]
    left = [at for at, (start, end) in enumerate(spans) if end > start]
    blocks = tuple((result.blocks[at][0], spans[at][0], spans[at][1] - spans[at][0]) for at in left)
    facts = {
        name: tuple(fact[at] for at in left) if isinstance(fact, tuple) and len(fact) == len(spans) else fact
        for name, fact in result.facts.items()
    }
    return replace(result, rows=rows, blocks=blocks, facts=facts)


def _sorted(result: Result, keys: tuple[SortKey, ...]) -> Result:
    import numpy as np

    spans = [(first, length) for _title, first, length in result.blocks or [("", 0, result.rows.num_rows)]]
    parts = [_order(result.rows.slice(first, length), keys) + first for first, length in spans]
    order = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return replace(result, rows=result.rows.take(order))


def _order(rows: "pa.Table", keys: tuple[SortKey, ...]) -> Any:
    """Return the row numbers in order: stable, missing values last."""
    import numpy as np

    order: Any = np.arange(rows.num_rows)
    for key in reversed(keys):
        values = _sortable(rows, key.field)
        missing = [value is None or value != value for value in values]  # noqa: PLR0124 -- NaN
        present = sorted((at for at in order if not missing[at]), key=values.__getitem__, reverse=key.descending)
        order = np.array([*present, *(at for at in order if missing[at])], np.int64)
    return order


def _sortable(rows: "pa.Table", field: Field) -> list[Any]:
    """Return what each row is sorted by: numbers and times as such, texts by their characters, sets as lists."""
    values: list[Any] = rows.column(field.source).to_pylist()
    if field.kind in (Kind.HOSTS, Kind.WORDS):
        return [None if value is None else sorted(value) for value in values]
    return values

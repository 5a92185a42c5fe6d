"""The texts of values, each kind over a whole column."""

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.render.values import distinct, duration_text, number_text, texts_of
from sonar.verbs.declare import Kind


def printed(
    kind: Kind, values: list[Any], type_: "pa.DataType | None" = None, *, short_hosts: bool = False
) -> list[Any]:
    return texts_of(pa.array(values, type_), kind, short_hosts=short_hosts).to_pylist()


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        (Kind.TEXT, ["a", "", "blåbær"], ["a", "", "blåbær"]),
        (Kind.INT, [0, -5, 2**62], ["0", "-5", str(2**62)]),
        (Kind.CEIL, [0.0, 0.1, 1.0, -0.5, 1e300], ["0", "1", "1", "0", "1" + "0" * 300]),
        (Kind.ROUND, [0.4, 0.5, 1.5, -0.5, 0.49999999999999994], ["0", "1", "2", "-1", "0"]),
        (Kind.TRUNC, [0.9, 1.0, -1.9, math.nan], ["0", "1", "-1", "NaN"]),
        (Kind.FLOAT, [1.0, 0.1, 1e21, 1e-7, -0.0], ["1", "0.1", "1" + "0" * 21, "0.0000001", "-0"]),
        (Kind.FLOAT, [math.nan, math.inf, -math.inf], ["NaN", "inf", "-inf"]),
        (Kind.MINUTE, [1704877259, 0, -1], ["2024-01-10 09:00", "1970-01-01 00:00", "1969-12-31 23:59"]),
        (Kind.DATE, [1704877259], ["2024-01-10"]),
        (Kind.CLOCK, [1704877259], ["09:00"]),
        (Kind.ISO, [1704877259], ["2024-01-10T09:00:59Z"]),
        (Kind.SECONDS, [59, 3600], ["59", "3600"]),
        (Kind.DURATION, [0, 29, 30, 300, 147300], ["0d 0h 0m", "0d 0h 0m", "0d 0h 1m", "0d 0h 5m", "1d16h55m"]),
        (Kind.HEX, [0, 3, 255], ["0x0", "0x3", "0xff"]),
        (Kind.BOOL, [True, False], ["yes", "no"]),
    ],
)
def test_each_kind_has_its_text(kind: Kind, values: list[Any], texts: list[str]) -> None:
    assert printed(kind, values) == texts


def test_sets_of_cards_are_listed() -> None:
    assert printed(Kind.GPUS, [0, 1, 5, 1 << 63], pa.uint64()) == ["none", "0", "0,2", "unknown"]


def test_sets_of_hosts_are_compressed_and_cut_where_there_is_little_room() -> None:
    sets = [["a1.fox", "a2.fox", "b1.fum"], ["x.y"], []]

    assert printed(Kind.HOSTS, sets, pa.list_(pa.string())) == ["a[1-2].fox,b1.fum", "x.y", ""]
    assert printed(Kind.HOSTS, sets, pa.list_(pa.string()), short_hosts=True) == ["a[1-2],b1", "x", ""]


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.INT, Kind.FLOAT, Kind.ROUND, Kind.MINUTE, Kind.DURATION, Kind.BOOL])
def test_missing_value_is_empty(kind: Kind) -> None:
    types: dict[Kind, Any] = {Kind.TEXT: pa.string(), Kind.FLOAT: pa.float64(), Kind.BOOL: pa.bool_()}

    assert printed(kind, [None], types.get(kind, pa.int64())) == [""]


def test_dictionary_and_chunks_are_printed_like_plain_columns() -> None:
    column = pa.chunked_array([pa.array(["b", "a"]).dictionary_encode(), pa.array(["a", None]).dictionary_encode()])

    assert texts_of(column, Kind.TEXT).to_pylist() == ["b", "a", "a", ""]


@given(st.lists(st.floats(allow_nan=False)))
def test_number_text_reads_back_and_has_no_exponent(numbers: list[float]) -> None:
    texts = printed(Kind.FLOAT, numbers, pa.float64())

    assert [float(text) for text in texts] == numbers
    assert not any("e" in text or text.endswith(".0") for text in texts)
    assert texts == [number_text(number) for number in numbers]


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_rounding_is_exact_and_half_away_from_zero(number: float) -> None:
    exact = Decimal(number)
    whole = int(abs(exact) + Decimal("0.5"))

    assert printed(Kind.ROUND, [number]) == [str(-whole if number < 0 else whole)]


@given(st.integers(0, 10**9))
def test_duration_of_a_column_is_that_of_one(seconds: int) -> None:
    assert printed(Kind.DURATION, [seconds]) == [duration_text(seconds)]


_NUMBERS = st.lists(st.integers(-(10**6), 10**11) | st.integers(-100, 100), max_size=20)
_FLOATS = st.lists(
    st.floats(-1e4, 1e4) | st.sampled_from([0.0, -0.0, -0.5, 1e300, math.nan, 2.0**53]),
    max_size=20,
)
_PRINTED = [kind for kind in Kind if kind not in (Kind.TEXT, Kind.WORDS, Kind.HOSTS, Kind.GPUS, Kind.HEX, Kind.BOOL)]


@given(st.sampled_from(_PRINTED), st.one_of(_NUMBERS.map(pa.array), _FLOATS.map(pa.array)), st.booleans())
def test_distinct_values_are_printed_as_those_of_all_rows(kind: Kind, column: Any, is_coded: bool) -> None:
    column = column.cast(pa.int64() if column.type == pa.null() else column.type)
    if pa.types.is_floating(column.type) and kind not in (Kind.FLOAT, Kind.CEIL, Kind.ROUND, Kind.TRUNC, Kind.INT):
        column = pa.array([int(value) for value in column.to_pylist() if abs(value) < 1e11], pa.int64())
    shown = column.dictionary_encode().slice(3) if is_coded else column

    values, codes = distinct(shown, kind)

    texts = texts_of(values, kind)
    assert (texts if codes is None else texts.take(pa.array(codes))).to_pylist() == texts_of(shown, kind).to_pylist()

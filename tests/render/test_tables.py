"""Typed tables: Arrow and Parquet have the values behind the texts, native JSON has them as JSON knows them."""

import io
import json
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

from sonar.errors import UsageError
from sonar.render.formats import parse_format, write_result
from sonar.render.tables import typed_table
from sonar.verbs.declare import Field, Kind, Result, Verb

ROWS = pa.table(
    {
        "word": ["a,b", 'say "é"', None],
        "number": pa.array([1, 2, None], pa.int64()),
        "share": [0.25, float("nan"), 2.0],
        "cards": pa.array([0, 5, 1 << 63], pa.uint64()),
        "names": [["n1.x", "n2.x"], ["n1.x"], []],
        "at": pa.array([1704877259, 1704844800, None], pa.int64()),
        "long": [90, 3600, 0],
        "true": [True, False, None],
    }
)
VERB = Verb(
    name="trial",
    summary="Print rows",
    options=(),
    fields=(
        Field("word", Kind.TEXT, "a word"),
        Field("number", Kind.INT, "a number", default="2"),
        Field("share", Kind.CEIL, "a share", unit="%"),
        Field("cards", Kind.GPUS, "cards"),
        Field("names", Kind.HOSTS, "hosts"),
        Field("at", Kind.MINUTE, "when"),
        Field("day", Kind.DATE, "on which day", "at"),
        Field("clock", Kind.CLOCK, "at what time", "at"),
        Field("long", Kind.DURATION, "how long"),
        Field("true", Kind.BOOL, "whether"),
        Field("rest", Kind.INT, "a share", "number", relative=True),
        Field("long/sec", Kind.SECONDS, "the same", "long"),
    ),
    aliases={},
    default_fields="word,number",
    run=lambda _query: Result(ROWS),
)


def written(spec: str) -> bytes:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    write_result(VERB, Result(ROWS), parse_format(VERB, spec), out)
    out.flush()
    return raw.getvalue()


def test_columns_have_the_types_of_their_values() -> None:
    table = typed_table(Result(ROWS), parse_format(VERB, "arrow,all").fields)

    assert table.column_names == ["word", "number", "share", "cards", "names", "at", "day", "clock", "long", "true"]
    assert table.slice(0, 1).to_pylist() == [
        {
            "word": "a,b",
            "number": 1,
            "share": 0.25,
            "cards": "none",
            "names": ["n1.x", "n2.x"],
            "at": datetime(2024, 1, 10, 9, 0, 59, tzinfo=UTC),
            "day": date(2024, 1, 10),
            "clock": time(9, 0, 59),
            "long": timedelta(seconds=90),
            "true": True,
        }
    ]
    assert table.column("at").to_pylist()[2] is None
    assert table.schema.field("share").metadata == {b"description": b"a share", b"unit": b"%"}


@pytest.mark.parametrize("style", ["arrow", "parquet"])
def test_file_reads_back_as_the_table(style: str) -> None:
    data = written(f"{style},all,number")

    back = pa.ipc.open_stream(data).read_all() if style == "arrow" else parquet.read_table(io.BytesIO(data))
    assert repr(back.to_pylist()) == repr(typed_table(Result(ROWS), parse_format(VERB, "all").fields).to_pylist())


def test_binary_needs_a_binary_stream() -> None:
    with pytest.raises(UsageError, match="--fmt: arrow is binary"):
        write_result(VERB, Result(ROWS), parse_format(VERB, "arrow,all"), io.StringIO())


def test_tables_by_host_have_the_host_in_front() -> None:
    result = Result(ROWS, (("n1", 0, 1), ("n2", 1, 2)))

    assert typed_table(result, VERB.fields[:1]).to_pydict() == {
        "host": ["n1", "n2", "n2"],
        "word": ["a,b", 'say "é"', None],
    }


def test_native_json_has_numbers_truths_lists_and_nulls() -> None:
    text = written("native,all,long/sec,tag:x").decode()

    assert text.endswith("]\n")
    assert json.loads(text)[1] == {
        "word": 'say "é"', "number": 2, "share": None, "cards": "0,2", "names": ["n1.x"], "at": "2024-01-10 00:00",
        "day": "2024-01-10", "clock": "00:00", "long": "0d 1h 0m", "true": False, "long/sec": 3600, "tag": "x",
    }  # fmt: skip
    assert json.loads(text)[2]["at"] is None
    assert json.loads(text)[2]["word"] is None
    assert json.loads(text)[2]["share"] == 2
    assert json.loads(written("native,number,share,nodefaults"))[1] == {"share": None}

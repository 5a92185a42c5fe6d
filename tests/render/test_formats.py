"""The --fmt language, and tables in every style."""

import csv
import json
from io import StringIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.errors import SonarError, UsageError
from sonar.render.formats import Format, Style, block_texts, format_help, parse_format, texts, write_rows
from sonar.verbs.declare import Field, Kind, Result, Verb


def _no_answer(_query: object) -> Result:
    raise NotImplementedError


VERB = Verb(
    name="things",
    summary="Print things",
    options=(),
    fields=(
        Field("job", Kind.INT, "job number"),
        Field("cmd", Kind.TEXT, "command"),
        Field("gpus", Kind.GPUS, "cards", default="none"),
        Field("end", Kind.MINUTE, "last sample"),
        Field("mem", Kind.CEIL, "memory", unit="GB"),
    ),
    aliases={"std": ("job", "cmd"), "more": ("std", "mem"), "cmd2": ("cmd", "cmd")},
    default_fields="std,gpus",
    run=_no_answer,
)

ROWS = pa.table(
    {
        "job": [1, 22],
        "cmd": ['a,"b', "python x"],
        "gpus": pa.array([0, 5], pa.uint64()),
        "end": [1704877259, 0],
        "mem": [0.5, 12.0],
    }
)


def written(spec: str | None, rows: pa.Table = ROWS) -> str:
    out = StringIO()
    write_rows(rows, parse_format(VERB, spec), out)
    return out.getvalue()


def names(spec: str | None) -> list[str]:
    return list(parse_format(VERB, spec).names)


def test_fields_and_aliases_are_columns_in_the_order_named() -> None:
    assert names(None) == ["job", "cmd", "gpus"]
    assert names("mem,std") == ["mem", "job", "cmd"]
    assert names("more") == ["job", "cmd", "mem"]
    assert names("csv,default") == ["job", "cmd", "gpus"]
    assert names("job,job,cmd2") == ["job", "job", "cmd", "cmd"]


def test_time_takes_a_modifier_and_nothing_else_does() -> None:
    assert written("csv,end,end/sec,end/iso") == (
        "2024-01-10 09:00,1704877259,2024-01-10T09:00:59Z\n1970-01-01 00:00,0,1970-01-01T00:00:00Z\n"
    )
    assert parse_format(VERB, "end,job/sec,end/min").unknown == ("job/sec", "end/min")


@pytest.mark.parametrize("spec", ["", "bogus", "csv,header", "tag:x", "default2"])
def test_format_without_a_field_is_an_error(spec: str) -> None:
    with pytest.raises(SonarError, match="No output fields were selected"):
        parse_format(VERB, spec)


def test_number_of_columns_is_bounded() -> None:
    with pytest.raises(UsageError, match="--fmt: more than 200 columns"):
        parse_format(VERB, ",".join(["job"] * 201))


def test_unknown_words_are_told() -> None:
    fmt = parse_format(VERB, "job,bogus,CSV,")

    assert fmt.unknown == ("bogus", "CSV")
    assert fmt.style is Style.FIXED


@pytest.mark.parametrize(
    ("words", "style", "header"),
    [
        ("", Style.FIXED, True),
        ("noheader", Style.FIXED, False),
        ("csv", Style.CSV, False),
        ("csv,header,noheader", Style.CSV, True),
        ("fixed,awk,json,csv,csvnamed", Style.CSVNAMED, False),
        ("fixed,awk,json,csv", Style.CSV, False),
        ("fixed,awk,json,header", Style.JSON, False),
        ("fixed,awk,header", Style.AWK, False),
    ],
)
def test_one_style_wins_and_decides_on_the_header(words: str, style: Style, header: bool) -> None:
    fmt = parse_format(VERB, f"job,{words}")

    assert (fmt.style, fmt.header) == (style, header)


def test_first_tag_counts() -> None:
    fmt = parse_format(VERB, "job,tag:,tag:x")

    assert fmt.tag == ""
    assert fmt.words == {"tag:", "tag:x"}


def test_fixed_columns_are_as_wide_as_their_longest_cell() -> None:
    assert written("job,cmd,mem") == 'job  cmd       mem\n1    a,"b      1\n22   python x  12\n'
    assert written("noheader,job,mem") == "1   1\n22  12\n"


def test_fixed_is_measured_in_characters_and_shows_no_control_characters() -> None:
    rows = ROWS.set_column(1, "cmd", pa.array(["blåbær", "\x1b[1mx\n\x7f\u009b"]))

    assert written("cmd,job", rows) == "cmd       job\nblåbær    1\n [1mx     22\n"


def test_empty_table_has_a_header_in_fixed_and_nothing_else() -> None:
    none = ROWS.slice(0, 0)

    assert written("job,cmd", none) == "job  cmd\n"
    assert written("csv,job", none) == ""
    assert written("csv,header,job", none) == "job\n"
    assert written("awk,job", none) == ""
    assert written("json,job", none) == "[]"


def test_csv_quotes_what_must_be_quoted() -> None:
    rows = pa.table({"cmd": ["a,b", 'q"q', "x\ny", "x\ry", " plain ", ""]})

    assert written("csv,cmd", rows) == '"a,b"\n"q""q"\n"x\ny"\n"x\ry"\n plain \n""\n'
    assert written("csvnamed,cmd", rows.slice(0, 2)) == '"cmd=a,b"\n"cmd=q""q"\n'


def test_cards_are_quoted_in_csv() -> None:
    assert written("csv,header,gpus,tag:t") == 'gpus,tag\nnone,t\n"0,2",t\n'


def test_defaults_are_left_out_where_columns_are_named_and_empty_elsewhere() -> None:
    assert written("csv,job,gpus,nodefaults") == '1,\n22,"0,2"\n'
    assert written("csvnamed,job,gpus,nodefaults") == 'job=1\njob=22,"gpus=0,2"\n'
    assert written("json,job,gpus,nodefaults") == '[{"job":"1"},{"job":"22","gpus":"0,2"}]'
    assert written("awk,job,gpus,nodefaults") == "1 -\n22 0,2\n"
    assert written("fixed,gpus,job,nodefaults") == "gpus  job\n      1\n0,2   22\n"


def test_awk_has_one_word_a_cell_and_the_tag_as_it_is() -> None:
    rows = pa.table({"cmd": ["python x\ty", ""], "job": [1, 2]})

    assert written("awk,header,cmd,job,tag:a b", rows) == "python_x_y 1 a b\n- 2 a b\n"


def test_json_escapes_only_what_must_be_and_writes_a_repeated_field_once() -> None:
    rows = pa.table({"cmd": ['"\\/\b\f\n\r\t\x01å'], "job": [7]})

    assert written("json,job,cmd,job,tag:z", rows) == (
        '[{"job":"7","cmd":"\\"\\\\/\\b\\f\\n\\r\\t\\u0001å","tag":"z"}]'
    )


def test_texts_of_one_field_are_a_list() -> None:
    fmt = parse_format(VERB, "fixed,gpus,nodefaults")

    assert texts(ROWS, fmt.fields[0], fmt) == ["", "0,2"]


def test_format_help_lists_fields_with_meaning_and_unit() -> None:
    lines = format_help(VERB).splitlines()

    assert "  --fmt=(field|alias|control),..." in lines
    assert "  mem   memory (number, rounded up, GB)" in lines
    assert "  more --> std,mem" in lines
    assert lines[lines.index("Defaults:") + 1] == "  std,gpus"
    assert [line.split()[0] for line in lines[lines.index("Fields:") + 1 :][:5]] == ["cmd", "end", "gpus", "job", "mem"]


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_TABLE = st.lists(st.tuples(_TEXT, st.integers(0, 10**9), st.integers(0, 7)), max_size=12).map(
    lambda rows: pa.table(
        {
            "cmd": pa.array([row[0] for row in rows], pa.string()),
            "job": pa.array([row[1] for row in rows], pa.int64()),
            "gpus": pa.array([row[2] for row in rows], pa.uint64()),
        }
    )
)
_SPECS = st.sampled_from(
    [
        f"{style},cmd,job,gpus{more}"
        for style in ("fixed", "csv", "csvnamed", "json", "awk")
        for more in ("", ",header", ",noheader", ",nodefaults", ",tag:t")
    ]
)


@given(_TABLE)
def test_csv_and_json_read_back_as_what_was_written(rows: pa.Table) -> None:
    want = [[str(value) for value in (row["cmd"], row["job"])] for row in rows.to_pylist()]

    # The reader takes a lone carriage return for the end of a line only outside quotes, where we write none.
    assert list(csv.reader(StringIO(written("csv,cmd,job", rows), newline=""))) == want
    assert [list(row.values()) for row in json.loads(written("json,cmd,job", rows))] == want


@given(_TABLE, _SPECS, st.data())
def test_blocks_are_written_as_each_would_be_alone(rows: pa.Table, spec: str, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    spans = [(start, end - start) for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    fmt: Format = parse_format(VERB, spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonar.render.writers._ROWS_OF_BLOCKS", data.draw(st.integers(1, 4)))
        blocks = list(block_texts(rows, spans, fmt))

    assert blocks == [written(spec, rows.slice(start, length)) for start, length in spans]

"""Taking bodies apart: the fast way against the plain one, and JSON that keeps every byte that counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.ingest import csv_lines
from sonar.ingest.csv_lines import fields_of, sort_samples
from sonar.ingest.json_values import TooDeepError, one_line, split_values, without_member
from sonar.ingest.post import Refusal, Rules

NOW = 1_772_000_000
DAY = Rules().record_day

heads = st.sampled_from(
    [
        b"v=0.12,time=2025-01-07T12:05:01+01:00,host=c1-6,",
        b"v=0.12,time=2025-01-07T12:05:01+01:00,host=c1-7,",
        b"time=2025-01-07T23:05:01-08:00,host=c1-6,",
        b"v=0.12,time=2025-01-07T12:05:01+01:00,host=../x,",
        b"v=0.12,time=never,host=c1-6,",
        b'v=0.12,"time=2025-01-07T12:05:01+01:00",host=c1-6,',
        b"host=c1-6,",
        b"",
    ]
)
tails = st.lists(
    st.sampled_from(
        [b"user=kim", b'"gpus=0,1"', b'"cmd=say ""hi"""', b'"', b'cmd=a"b', b'"open', b'"a"b', b"", b"host=z"]
    ),
    max_size=4,
).map(b",".join)
lines = st.tuples(heads, tails).map(b"".join)
bodies = st.one_of(
    st.lists(lines, max_size=6).map(b"\n".join),
    st.tuples(heads, st.lists(tails, max_size=6)).map(lambda t: b"\n".join(t[0] + tail for tail in t[1]) + b"\n"),
)


@given(bodies)
def test_uniform_bodies_are_sorted_as_line_by_line(body: bytes) -> None:
    fast = csv_lines._sort_uniform(body, NOW, DAY)
    plain = csv_lines._sort_each(body, NOW, DAY)

    if fast is not None:
        assert fast == plain
    stored = b"".join(sort_samples(body, NOW, DAY).groups.values())
    assert sorted(stored.split()) == sorted(b"\n".join(plain.groups.values()).split())


def test_usual_body_goes_the_fast_way() -> None:
    line = b'v=1,time=2025-01-07T12:05:01Z,host=a,user=u,cmd=c,"gpus=0,1","x=""y"""\n'
    assert csv_lines._sort_uniform(line * 30, NOW, DAY) is not None


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"a=1,b=2", [b"a=1", b"b=2"]),
        (b'"a=1,2",b="3"', [b"a=1,2", b'b="3"']),
        (b'"a=""x"""\r', [b'a="x"']),
        (b'a,,"",', [b"a", b"", b"", b""]),
        (b'"a', None),
        (b'"a"b,c', None),
    ],
)
def test_fields_of_a_record(line: bytes, fields: list[bytes] | None) -> None:
    assert fields_of(line) == fields


def test_post_for_too_many_files_is_refused() -> None:
    body = b"".join(b"time=2025-01-07T12:05:01Z,host=h%d,x\n" % n for n in range(csv_lines.MOST_FILES + 1))
    with pytest.raises(Refusal, match="more than 4096 hosts"):
        sort_samples(body, NOW, DAY)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(["meta", "data", "token", 'a"b', "ü", ""]), json_values, max_size=6)
indents = st.sampled_from([None, 0, 1, 3])


@given(
    st.lists(st.tuples(objects, indents, st.booleans()), min_size=1, max_size=4), st.sampled_from([b"", b" ", b"\r\n"])
)
def test_concatenated_values_are_found_and_keep_their_meaning(given_values: list[Any], between: bytes) -> None:
    texts = [json.dumps(v, indent=i, ensure_ascii=a).encode() for v, i, a in given_values]
    found = list(split_values(between + between.join(texts) + between))

    assert [value for _, value in found] == [value for value, _, _ in given_values]
    for raw, value in found:
        line = one_line(raw)
        assert b"\n" not in line
        assert json.loads(line) == value


@given(objects, objects, indents, st.booleans())
def test_member_is_cut_out_and_nothing_else(
    outer: dict[str, Any], meta: dict[str, Any], indent: int | None, ascii_: bool
) -> None:
    value = outer | {"meta": meta}
    cut = without_member(json.dumps(value, indent=indent, ensure_ascii=ascii_).encode(), ("meta", "token"))

    assert json.loads(cut) == outer | {"meta": {key: v for key, v in meta.items() if key != "token"}}


def test_every_token_is_cut_out_however_it_is_spelt() -> None:
    text = b'{"meta":{"token":"a","x":[{"token":1}],"\\u0074oken" : {"b":"},{"} },"data":1,"meta":{ "token":2 }}'

    assert without_member(text, ("meta", "token")) == b'{"meta":{"x":[{"token":1}]},"data":1,"meta":{}}'


@pytest.mark.parametrize("text", [b"{} NaN", b'{"a":Infinity}', b'{"a":NaN}{}', b"{}}", b"{}]{}"])
def test_what_is_not_json_is_told_from_what_is(text: bytes) -> None:
    values = [value for _, value in split_values(text)]

    assert None in values
    assert values.count({}) == text.count(b"{}")


def test_depth_is_bounded_but_not_length() -> None:
    assert next(iter(split_values(b"[" * 64 + b"]" * 64)))[1] is not None
    with pytest.raises(TooDeepError):
        list(split_values(b"[" * 65 + b"]" * 65))
    wide = b'{"a":[' + b"[],{}," * 10_000 + b'"[[[[["]}'
    assert len(next(iter(split_values(wide)))[1]["a"]) == 20_001

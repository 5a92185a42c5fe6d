"""The vectorised parser gives the rows, and drops the records, that the plain parser does: whatever the bytes."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonar.analysis.samples import Samples, samples_of
from sonar.read.records import read_records
from sonar.read.rows import Rows
from sonar.read.tokens import Tokenizer

REAL = [
    b"v=0.9.0,time=2026-03-03T00:03:32+00:00,host=c1-1.bench,cores=64,user=user207,job=4772,pid=4772,cmd=R-10,cpu%=78.4",
    b"v=0.12.1,time=2026-03-03T00:03:32+02:00,host=gpu-4.a.very.long.example.org,cores=128,user=ann,pid=12345678901,cmd=train",
    b'v=0.13.0,time=2026-03-03T00:03:32Z,host=n1,user=ann,cmd=a,epoch=12345,cpukib=1,"gpus=0,2,5",gpumem%=12.125,gpufail=2',
    b"time=2024-02-29T23:59:60Z,v=0.7.0,user=_zombie_1234,cmd=a <defunct>,host=n1,gpus=none,cpu%=0.0,cores=8",
    b"v=0.8.0,time=2026-03-03T00:03:32.5+00:00,host=n1,user=_sonar_,cmd=_heartbeat_",
    b"v=0.8.0,time=2026-03-03T00:03:32+00:00,host=n1,cmd=_heartbeat_",
    b"2023-05-01T10:00:00Z,n1,64,ann,7,py,12.5,2048,101,50,10,512,90",
    b'v=0.9.0,time=2026-03-03T00:03:32+00:00,host=n1,user=ann,"cmd=a, b",cputime_sec=1',
    "v=0.9.0,time=2026-03-03T00:03:32+00:00,host=n1,user=bjørn,cmd=py".encode(),
    b"v=0.9.0,error=no nvidia,time=2026-03-03T00:03:32+00:00,host=n1",
    b"v=0.7.0,time=2026-03-03T00:03:32+00:00,host=n1,user=ann,cmd=,gpus=",
]
NUMBERS = [
    "",
    "0",
    "7",
    "007",
    "+7",
    "-7",
    "7.",
    "7.0",
    ".5",
    "0.5",
    "12.25",
    "1.125",
    "1.0625",
    "1e3",
    "nan",
    "inf",
    "7_0",
    "٣",
]
NUMBERS += [
    "99999999",
    "100000000",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9999999999999999",
    "12345678901234567",
]
NUMBERS += [
    "900719925474099.3",
    "123456789012.5",
    "1234567890123.25",
    "9223372036854775807",
    "9223372036854775808",
    "1:",
    "/1",
]
TEXTS = ["", "a", "ann", "exactly8", "exactly16-chars!", "seventeen letters", "x" * 40, "ø", "a\0", 'q"q', "=", "a=b"]
TIMES = ["2026-03-03T00:03:32+00:00", "2026-02-30T00:00:00Z", "2024-02-29T00:00:00Z", "0000-01-01T00:00:00Z"]
TIMES += [
    "2026-03-03t00:03:32z",
    "2026-03-03T00:03:60-23:59",
    "2026-03-03T00:03832Z",
    "2026-03-03T24:00:00Z",
    "2026-13-03T00:00:00Z",
    "2026-03-03",
]
TAGS = [b"cores", b"job", b"epoch", b"pid", b"ppid", b"cpu%", b"cpukib", b"rssanonkib", b"gpu%", b"gpumem%", b"gpukib"]
TAGS += [b"gpufail", b"cputime_sec", b"rolledup", b"cpu", b"rssanonkiX", b"cputime_sec2"]


SHARED = [b"v", b"time", b"host", b"cores"]
OWN = [b"user", b"cmd", b"job", b"cpu%", b"gpus", b"cputime_sec", b"x", b"cax"]
VALUES = {
    b"v": [b"0.9.0", b"0.10.1"],
    b"time": [
        b"2026-03-03T00:03:32+00:00",
        b"2026-03-03T23:59:59Z",
        b"2026-03-03T24:00:00Z",
        b"2026-03-03T01:02:60Z",
        b"2026-03-03T01203:04Z",
    ],
    b"host": [b"n1", b"a-host-of-seventeen.example.org", b""],
    b"cores": [b"8", b"128", b"x"],
    b"user": [b"ann", b"exactly8", b"exactly16-chars!", b"seventeen letters", b""],
    b"cmd": [b"py", b"", b"longer than eight", b"a=b"],
    b"job": [b"7", b"12345678", b"4294967296", b"1.0"],
    b"cpu%": [b"1", b"1.5", b"123456.7", b"1.25", b".5", b"1e2", b""],
    b"gpus": [b"1", b"0,2,5", b"none", b","],
    b"cputime_sec": [b"0", b"123456789"],
    b"x": [b"1", b"a,b"],
    b"cax": [b"", b"1"],
}


def both(data: bytes, tokenizer: Tokenizer) -> tuple[list[Any], list[Any]]:
    """Return what each parser makes of the bytes; texts that compare not-a-numbers as equal."""
    rows, dropped, fast_dropped = Rows(), Counter[str](), Counter[str]()
    read_records(data, rows, dropped)
    fast = tokenizer.table(data, fast_dropped)
    for_analysis = tokenizer.samples(data, samples_dropped := Counter[str]())
    assert told(for_analysis) == told(samples_of(fast))
    assert samples_dropped == fast_dropped
    plain = rows.table()
    assert fast.schema == plain.schema
    fast.validate(full=True)
    return [dropped, *map(repr, plain.to_pylist())], [fast_dropped, *map(repr, fast.to_pylist())]


def told(samples: Samples) -> dict[str, list[str]]:
    """Return the values by column as texts; whole numbers are the same as such, or with a point."""
    assert all(words == sorted(set(words), key=str.encode) for words in samples.words.values())
    return {
        name: list(samples.texts(name)) if name in samples.words else list(map(repr, values.astype(float).tolist()))
        for name, values in samples.columns.items()
    }


KEPT = Tokenizer()
"""Remembers texts over examples, as over files."""

fields = st.one_of(
    st.builds(lambda tag, value: tag + b"=" + value.encode(), st.sampled_from(TAGS), st.sampled_from(NUMBERS)),
    st.builds(
        lambda tag, value: tag + b"=" + value.encode(),
        st.sampled_from([b"v", b"host", b"user", b"cmd", b"gpus", b"x"]),
        st.sampled_from([*TEXTS, "none", "unknown", "0", "3", "70", "0.9.0", "_heartbeat_"]),
    ),
    st.builds(lambda value: b"time=" + value.encode(), st.sampled_from(TIMES)),
    st.sampled_from(
        [b'"gpus=0,2"', b'"gpus=1,63"', b'"cmd=a,b"', b'"cmd=a""b"', b'"cmd=a', b'x"', b"", b"v", b'""', b'"v=1"z']
    ),
)
records = st.one_of(
    st.sampled_from(REAL),
    st.lists(fields, max_size=6).map(b",".join),
    st.builds(lambda base, more: b",".join([base, *more]), st.sampled_from(REAL), st.lists(fields, max_size=3)),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Real lines, with a few bytes changed, removed or added."""
    data = bytearray(b"\n".join(draw(st.lists(st.sampled_from(REAL), min_size=1, max_size=6))) + b"\n")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(0, 3))
        data[at : at + length] = draw(
            st.sampled_from([b"", b"\n", b",", b'"', b"=", b"\r", b"\0", b"\xff", b"5", b'"\n', b'""', b'\r"'])
        )
        if not data:
            break
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(records, st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b",\n"])), max_size=12),
    st.booleans(),
)
def test_records_of_all_kinds(lines: list[tuple[bytes, bytes]], ends: bool) -> None:
    data = b"".join(line + end for line, end in lines)

    plain, fast = both(data if ends else data[:-1], KEPT)

    assert fast == plain


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_damaged_lines(data: bytes) -> None:
    plain, fast = both(data, KEPT)

    assert fast == plain


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text('v=,"\n\r 0:5T-Z.g', max_size=60).map(str.encode)))
@example(b"")
@example(b"\xef\xbb\xbf" + REAL[0])
@example(b'"a\rv=1",\r"b\nv=2\n')
def test_any_bytes(data: bytes) -> None:
    plain, fast = both(data, KEPT)

    assert fast == plain


@settings(deadline=None)
@given(st.lists(records, min_size=3, max_size=20), st.integers(1, 400))
def test_blocks_are_cut_where_it_does_not_matter(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines) + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonar.read.fields._BLOCK", size)
        plain, fast = both(data, Tokenizer())

    assert fast == plain


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_many_lines_of_a_few_layouts(data: st.DataObject) -> None:
    """As in real files: runs of the sampler, fields in a few orders, and now and then something else."""
    orders = data.draw(st.lists(st.permutations(SHARED + OWN), min_size=1, max_size=3))
    if data.draw(st.booleans()):
        orders = [[*SHARED, *order[:-1]] for order in data.draw(st.lists(st.permutations(OWN), min_size=1, max_size=3))]
    values = st.fixed_dictionaries({tag: st.sampled_from(known) for tag, known in VALUES.items()})
    lines = []
    for _ in range(data.draw(st.integers(1, 4))):
        run, order = data.draw(values), data.draw(st.sampled_from(orders))
        for _ in range(data.draw(st.integers(1, 6))):
            own = data.draw(values)
            fields = [(tag, (run if tag in SHARED else own)[tag]) for tag in order]
            lines.append(b",".join(b'"%s=%s"' % field if b"," in field[1] else b"%s=%s" % field for field in fields))
    for at in data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=2)):
        lines[at] = data.draw(records)

    plain, fast = both(b"\n".join(lines) + b"\n", data.draw(st.sampled_from([KEPT, Tokenizer()])))

    assert fast == plain


@pytest.mark.parametrize("at", range(25))
def test_a_time_with_any_other_byte_in_it(at: int) -> None:
    time = b"2026-03-03T00:03:32+00:00"
    for byte in b"\0 /0289:;<?JTZ^tz+-.\xff":
        changed = REAL[0].replace(time, time[:at] + bytes([byte]) + time[at + 1 :])
        plain, fast = both(REAL[0] + b"\n" + changed, KEPT)

        assert fast == plain


def test_a_great_many_distinct_texts() -> None:
    lines = [REAL[0].replace(b"user207", b"u%d" % n).replace(b"R-10", b"command%d" % (n % 7000)) for n in range(20000)]

    table = KEPT.table(b"\n".join(lines), Counter())

    assert table.column("user").to_pylist() == [f"u{n}" for n in range(20000)]
    assert table.column("cmd").to_pylist() == [f"command{n % 7000}" for n in range(20000)]


@pytest.mark.parametrize("tag", TAGS)
def test_every_number_in_every_field(tag: bytes) -> None:
    lines = [REAL[0].partition(b",cores")[0] + b",user=u,cmd=c," + tag + b"=" + number.encode() for number in NUMBERS]
    plain, fast = both(b"\n".join(lines), KEPT)

    assert fast == plain

"""The query language: what binds how, what compares with what, and where a mistake is; against a plain evaluator."""

import json
import re
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.errors import UsageError
from sonar.verbs.declare import Field, Kind
from sonar.verbs.expression import parse_expression

FIELDS = (
    Field("user", Kind.TEXT, "", aliases=("User",)),
    Field("cpu-avg", Kind.INT, "", aliases=("CpuAvgPct",)),
    Field("load", Kind.FLOAT, ""),
    Field("duration", Kind.DURATION, ""),
    Field("duration/sec", Kind.SECONDS, ""),
    Field("start", Kind.MINUTE, ""),
    Field("day", Kind.DATE, "", "start"),
    Field("clock", Kind.CLOCK, "", "start"),
    Field("gpus", Kind.GPUS, ""),
    Field("host", Kind.HOSTS, ""),
    Field("states", Kind.WORDS, ""),
    Field("done", Kind.BOOL, "", aliases=("Completed",)),
    Field("cpu%", Kind.FLOAT, "", "load"),
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


ROWS = pa.table(
    {
        "user": ["ann", "bob", "ec-cy", None],
        "cpu_avg": pa.array([100, 5, 0, None], pa.int64()),
        "load": [0.5, float("nan"), 12.25, None],
        "duration": pa.array([300, 3600, 100_000, 0], pa.int64()),
        "duration_sec": pa.array([300, 3600, 100_000, 0], pa.int64()),
        "start": pa.array(
            [at("2024-03-01 10:00:30"), at("2024-03-01 23:59:59"), at("2024-03-02 00:00:00"), None], pa.int64()
        ),
        "gpus": pa.array([0, 5, 1 << 63, 1], pa.uint64()),
        "host": [["n1.x", "n2.x"], ["n1.x"], ["gpu-1.x", "n1.x"], None],
        "states": [["idle", "drain"], ["idle"], [], None],
        "done": [True, False, True, None],
    }
)


def rows(text: str) -> list[int]:
    mask = parse_expression(text, FIELDS).mask(ROWS)
    return [number for number, passed in enumerate(mask.to_pylist()) if passed]


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("user = ann", [0]),
        ("User=ann", [0]),
        ("USER = ann", [0]),
        ("user > 'b'", [1, 2]),
        ("user =~ /^ec-/", [2]),
        ("user =~ `[ab]n?n`", [0]),
        ("not user = ann", [1, 2, 3]),
        ("cpu-avg >= 5", [0, 1]),
        ("cpu-avg>4.5 and cpu-avg<1e2", [1]),
        ("CpuAvgPct = -0", [2]),
        ("load > 0", [0, 2]),
        ("cpu% <= 0.5", [0]),
        ("duration > 1h", [2]),
        ("duration >= 1H and duration < 1d3h", [1]),
        ("duration = 300", [0]),
        ("duration/sec >= 1h", [1, 2]),
        ("duration =~ /^ 0d|0d 0h/", [0, 3]),
        ("start = '2024-03-01 10:00'", [0]),
        ("start = '2024-03-01 10:00:30'", [0]),
        ("start > '2024-03-01 10:00'", [1, 2]),
        ("start <= 2024-03-01", [0, 1]),
        ("start >= 2024-3-2", [2]),
        ("start < '2024-03-02T01:00:00+01:00'", [0, 1]),
        ("day = 2024-03-02", [2]),
        ("clock >= '23:00'", [1]),
        ("gpus = none", [0]),
        ("gpus = unknown", [2]),
        ("gpus >= '0'", [1, 3]),
        ("gpus > 0", [1]),
        ("gpus <= '0,2,5'", [0, 1, 3]),
        ("gpus < '0,2'", [0, 3]),
        ("host <= /n[1-2]/", [0, 1]),
        ("host = 'n[1-2].x'", [0]),
        ("host >= n1", [0, 1, 2]),
        ("host > n1", [0, 2]),
        ("host < 'n[1-2]'", [1]),
        ("host >= gpu-1.x", [2]),
        ("host <= 'n*'", [0, 1]),
        ("states = 'drain,idle'", [0]),
        ("states > idle", [0]),
        ("states <= idle", [1, 2]),
        ("done = true", [0, 2]),
        ("Completed = No", [1]),
        ("done > false", [0, 2]),
        ("user = and", []),
        ("user = not or user = 'or' or user=ann", [0]),
        ("not user = ann and cpu-avg > 1", [1]),
        ("not (user = ann and cpu-avg > 1)", [1, 2, 3]),
        ("user = ann or user = bob and cpu-avg > 50", [0]),
        ("(user = ann or user = bob) and cpu-avg < 50", [1]),
        ("not not user = ann", [0]),
        ("\n user\t= ann ", [0]),
    ],
)
def test_query_selects_rows(text: str, passing: list[int]) -> None:
    assert rows(text) == passing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a field, found the end, at column 1 of ''"),
        ("user", "expected one of = < <= > >= =~ after 'user', found the end, at column 5 of 'user'"),
        ("user ann", "expected one of = < <= > >= =~ after 'user', found 'ann', at column 6"),
        ("user == ann", "expected a value after '=', found '=', at column 7"),
        ("user != ann", "unexpected character '!', at column 6"),
        ("user = ", "expected a value after '=', found the end"),
        ("user = ann)", "unexpected ')', at column 11"),
        ("(user = ann", "this bracket is not closed, found the end, at column 1"),
        ("user = ann bob", "unexpected 'bob', at column 12"),
        ("user = ann and", "expected a field, found the end"),
        ("and = 1", "no field 'and', at column 1"),
        ("usr = ann", "no field 'usr', at column 1"),
        ("= ann", "expected a field, found '='"),
        ("user = 'ann", "the quote ' is not closed, at column 8"),
        ("user =~ /ann", "the quote / is not closed, at column 9"),
        ("user =~ /(/", "/(/ is no regular expression: missing ): (, at column 9"),
        ("cpu-avg > ten", "'ten' is no number, and 'cpu-avg' is one, at column 11"),
        ("cpu-avg > 5x", "'5x' is no number and no duration such as 1w2d3h4m, at column 11"),
        ("duration > 1h2d", "'1h2d' is no number and no duration such as 1w2d3h4m, at column 12"),
        ("duration > long", "'long' is no duration such as 1w2d3h4m, and no number of seconds, at column 12"),
        ("start > yesterday", "'yesterday' is no time such as '2024-03-31 14:30' (in quotes) or 2024-03-31"),
        ("start > 2024-02-30", "'2024-02-30' is no time"),
        ("clock > '25:00'", "'25:00' is no time of day such as 14:30"),
        ("gpus = some", "'some' is no set of cards such as none, unknown or 0,2, at column 8"),
        ("host = 'n['", "Expected number in host pattern 'n[', at column 8"),
        ("done = maybe", "'maybe' is neither yes nor no"),
        ("not " * 200 + "user = ann", "nested more than 100 deep, at column 401"),
        ("user = " + "a" * 10_000, "longer than 10000 characters"),
    ],
)
def test_mistake_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_expression(text, FIELDS)

    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


numbers = st.one_of(st.none(), st.integers(-5, 5))
words = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "é", "and"]))
comparisons = st.one_of(
    st.tuples(st.just("n"), st.sampled_from(["=", "<", "<=", ">", ">="]), st.integers(-5, 5).map(str)),
    st.tuples(st.just("w"), st.sampled_from(["=", "<", "<=", ">", ">="]), st.sampled_from(["a", "b", "ab", "é"])),
    st.tuples(st.just("w"), st.just("=~"), st.sampled_from(["a", "^a", "b$", "^$"])),
)
trees = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
    ),
    max_leaves=8,
)
SMALL = (Field("n", Kind.INT, ""), Field("w", Kind.TEXT, ""))


def written(tree: Any) -> str:
    match tree:
        case ("not", inner):
            return f"not ({written(inner)})"
        case ("and" | "or" as word, left, right):
            return f"({written(left)}) {word} ({written(right)})"
        case (name, operator, value):
            return f"{name} {operator} {json.dumps(value, ensure_ascii=False)}"
    raise AssertionError(tree)


def holds(tree: Any, row: dict[str, Any]) -> bool:
    match tree:
        case ("not", inner):
            return not holds(inner, row)
        case ("and", left, right):
            return holds(left, row) and holds(right, row)
        case ("or", left, right):
            return holds(left, row) or holds(right, row)
    name, operator, value = tree
    if operator == "=~":
        return re.search(value, row[name] or "") is not None
    if row[name] is None:
        return False
    plain = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
    return bool(plain[operator](row[name], type(row[name])(value)))


@settings(max_examples=150, deadline=None)
@given(trees, st.lists(st.fixed_dictionaries({"n": numbers, "w": words}), max_size=6))
def test_query_means_what_it_says(tree: Any, table: list[dict[str, Any]]) -> None:
    types: Any = {"n": pa.int64(), "w": pa.string()}
    columns = pa.Table.from_pylist(table, pa.schema(types))

    mask = parse_expression(written(tree), SMALL).mask(columns).to_pylist()

    assert mask == [holds(tree, row) for row in table]


@given(st.text(alphabet="user =<>~()'/\"`and orn0123456789wdhm.-%é\n", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_a_mistake_on_one_line(text: str) -> None:
    mistake = ""
    try:
        parse_expression(text, FIELDS)
    except UsageError as error:
        mistake = str(error)

    assert "\n" not in mistake

"""Which rows are printed and in which order: `--query`, then what the verb keeps of these, then `--sort`."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest

from sonar.errors import UsageError
from sonar.render.formats import write_result
from sonar.verbs import verb
from sonar.verbs.declare import Field, Kind, Result, Verb
from sonar.verbs.expression import parse_expression
from sonar.verbs.parameters import check_options, query_of
from sonar.verbs.query import Query
from sonar.verbs.rows import parse_sort

from tests.verbs.asking import NOW, put

FIELDS = (
    Field("who", Kind.TEXT, "", aliases=("Who",)),
    Field("number", Kind.INT, ""),
    Field("share", Kind.FLOAT, ""),
    Field("host", Kind.HOSTS, ""),
)
ROWS = pa.table(
    {
        "who": ["b", "a", "b", None, "a"],
        "number": [1, 2, 3, 4, 5],
        "share": [float("nan"), 2.0, 1.0, 2.0, 0.5],
        "host": [["n2"], ["n1", "n2"], ["n1"], None, ["n3"]],
    }
)
TRIAL = Verb(
    name="trial",
    summary="Print rows",
    options=(),
    fields=FIELDS,
    aliases={},
    default_fields="number",
    run=lambda _query: Result(ROWS),
)


def query(where: str = "", sort: str = "") -> Query:
    asked, _ = query_of(TRIAL, {}, data=[], now=0)
    return replace(
        asked,
        where=parse_expression(where, FIELDS) if where else None,
        sort=parse_sort(sort, TRIAL) if sort else (),
    )


def numbers(result: Result) -> list[object]:
    return result.rows.column("number").to_pylist()


@pytest.mark.parametrize(
    ("where", "sort", "expected"),
    [
        ("", "", [1, 2, 3, 4, 5]),
        ("who = a", "", [2, 5]),
        ("who = nobody", "who", []),
        ("", "who", [2, 5, 1, 3, 4]),
        ("", "-who", [1, 3, 2, 5, 4]),
        ("", "Who,-number", [5, 2, 3, 1, 4]),
        ("", "share,number", [5, 3, 2, 4, 1]),
        ("", "-share", [2, 4, 3, 5, 1]),
        ("", "host", [3, 2, 1, 5, 4]),
        ("number > 1", "-number", [5, 4, 3, 2]),
    ],
)
def test_rows_are_filtered_and_sorted(where: str, sort: str, expected: list[int]) -> None:
    assert numbers(TRIAL.answer(query(where, sort))) == expected


def test_blocks_keep_their_rows_and_empty_ones_are_left_out() -> None:
    blocks = (("x", 0, 2), ("y", 2, 1), ("z", 3, 2))
    blocked = replace(TRIAL, run=lambda _query: Result(ROWS, blocks, {"of_each": ("X", "Y", "Z"), "other": 1}))

    result = blocked.answer(query("number = 2 or number > 3", "-number"))

    assert numbers(result) == [2, 5, 4]
    assert result.blocks == (("x", 0, 1), ("z", 1, 2))
    assert result.facts == {"of_each": ("X", "Z"), "other": 1}


def test_verb_keeps_of_what_the_query_keeps() -> None:
    keeping = replace(TRIAL, finish=lambda result, _query: Result(result.rows.slice(len(result.rows) - 1)))

    assert numbers(keeping.answer(query("number < 3", "number"))) == [2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sort": ["user,bogus"]}, "Invalid value for --sort: no field 'bogus'"),
        ({"sort": [""]}, "Invalid value for --sort: no field ''"),
        ({"query": ["user = 'a"]}, "Invalid value for --query: the quote ' is not closed, at column 8"),
    ],
)
def test_mistakes_name_the_option(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(verb("jobs"), given)


def test_averages_are_compared_and_sorted_before_they_are_rounded_up(tmp_path: Path) -> None:
    """The averages of jobs 1, 2 and 3 are 10.25, 10.75 and 10.5: all print as 11."""
    for job, rates in ((1, (10, 10.5)), (2, (10.5, 11)), (3, (10.5, 10.5))):
        for at, rate in enumerate(rates):  # two processes, as the second sample of one would not be its cpu%
            record = (
                f"v=0.9.0,time=2024-03-01T10:0{5 * at}:00Z,host=n1,user=u,cmd=c,job={job},pid={job}{at},cpu%={rate}\n"
            )
            put(tmp_path, "n1.csv", record)

    assert texts(tmp_path, sort="-cpu-avg") == [("2", "11"), ("3", "11"), ("1", "11")]
    assert texts(tmp_path, query="cpu-avg > 10.5 and cpu-avg < 11", sort="job") == [("2", "11")]
    assert texts(tmp_path, query="cpu-avg = 10.5") == [("3", "11")]
    # The options limit what is printed.
    assert texts(tmp_path, min_cpu_avg="11", sort="job") == [("1", "11"), ("2", "11"), ("3", "11")]
    assert texts(tmp_path, max_cpu_avg="10") == []


def texts(tree: Path, **options: str) -> list[tuple[str, str]]:
    jobs = verb("jobs")
    given = {name.replace("_", "-"): [value] for name, value in options.items()}
    asked, fmt = query_of(jobs, given | {"user": ["-"], "fmt": ["csv,job,cpu-avg"]}, data=tree, now=NOW)
    out = StringIO()
    write_result(jobs, jobs.answer(asked), fmt, out)
    return [(job, cpu) for job, cpu in (line.split(",") for line in out.getvalue().splitlines())]

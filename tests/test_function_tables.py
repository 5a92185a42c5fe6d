"""Tables of what functions give, as they may lie beside the checkout: host patterns, host sets, durations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonar.errors import SonarError
from sonar.hosts import HostPatterns, compress, expand
from sonar.times import parse_duration

TABLES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "sonalyze"


def or_none(function: Callable[[str], Any], text: str) -> Any:
    try:
        return function(text)
    except SonarError:
        return None


def given(table: str, row: dict[str, Any]) -> tuple[Any, Any]:
    """Return what a function gives for a row of a table, and what it should."""
    match table:
        case "unit_combine_hosts":
            return compress(row["in"]), row["out"]
        case "unit_expand_element":
            return or_none(lambda text: expand(text, wildcards=True), row["in"]), row["out"]
        case "unit_host_match":
            return HostPatterns.parse(row["patterns"]).match(row["host"]), row["match"]
        case _:
            return or_none(parse_duration, row["in"]), row["out"]


def rows_hold(table: str) -> None:
    rows = json.loads((TABLES / f"{table}.json").read_text())["table"]

    assert rows
    for row in rows:
        found, expected = given(table, row)
        assert found == expected, row


if TABLES.exists():
    test_rows_hold = pytest.mark.parametrize("table", sorted(path.stem for path in TABLES.glob("unit_*.json")))(
        rows_hold
    )

"""Instants, dates and durations as texts."""

import pytest

from sonar.errors import UsageError
from sonar.times import date_limit, parse_duration, parse_instant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3m", 180), ("0m", 0), ("4h", 14400), ("4h7m", 14820), ("7m4h", 14820), ("2d", 172800),
        ("2d4h7m", 187620), ("1w", 604800), ("1h5m2d1w", 781500),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "Inconsistent"), ("", "Inconsistent"), ("3m4", "Inconsistent"), ("3y", "Bad suffix"),
        ("d", "Bad suffix"), ("3m4m", "Bad suffix"), ("3M", "Bad suffix"), ("9999999999m", "Bad number"),
    ],
)  # fmt: skip
def test_bad_durations_are_told_with_their_text(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}.*'{text}'"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-03-01T10:00:00Z", 1709287200),
        ("2024-03-01t10:00:00z", 1709287200),
        ("2024-03-01T11:00:00+01:00", 1709287200),
        ("2024-03-01T11:00:00.7+01:00", 1709287200),
        ("2024-03-01T04:30:00-05:30", 1709287200),
        ("2024-03-01T09:59:60Z", 1709287199),
        ("1969-12-31T23:59:59.5Z", -1),
        ("2024-03-01 10:00:00Z", None),
        ("2024-03-01T10:00Z", None),
        ("2024-03-01T10:00:00", None),
        ("2024-03-01T10:00:00+0100", None),
        ("2024-03-01T24:00:00Z", None),
        ("2024-02-30T10:00:00Z", None),
        ("2024-3-1T10:00:00Z", None),
        ("2024-03-01T10:00:00,7Z", None),
        ("", None),
    ],
)
def test_instants(text: str, instant: int | None) -> None:
    assert parse_instant(text) == instant


def test_a_day_has_a_first_and_a_last_second_and_an_age_is_exact() -> None:
    assert date_limit("2024-3-1", 0, end=False) == 1709251200
    assert date_limit("2024-03-01", 0, end=True) == 1709251200 + 86399
    assert date_limit("2w", 1709251234, end=True) == 1709251234 - 14 * 86400

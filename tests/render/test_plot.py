"""Charts in the terminal: lines with gaps, names, no colours where nobody sees them."""

import pytest

from sonar.render.chart import Line
from sonar.render.plot import MOST_LINES, terminal_chart

INSTANTS = [1_704_880_800 + 300 * number for number in range(12)]


def test_chart_has_title_lines_and_times() -> None:
    lines = [
        Line("up", [float(number) for number in range(12)]),
        Line("gap\x1b[31m", [4.0, 4.0, None, None, *[9.0] * 8]),
    ]

    text = terminal_chart("a title", INSTANTS, lines)

    rows = text.splitlines()
    assert len(rows) == 22
    assert {len(row) for row in rows} == {100}
    assert "a title" in rows[0]
    assert "\x1b" not in text
    assert "up" in text
    assert "gap" in text
    assert "2024-01-10 10:00" in rows[-1]
    assert "11.0┤" in text


def test_gap_is_a_gap() -> None:
    whole = terminal_chart("t", INSTANTS, [Line("a", [5.0] * 12)])
    broken = terminal_chart("t", INSTANTS, [Line("a", [5.0] * 3 + [None] * 6 + [5.0] * 3)])

    def drawn(text: str) -> int:
        return sum("\u2800" < char <= "\u28ff" for char in text)

    assert drawn(broken) < drawn(whole) * 0.7


def test_many_lines_are_cut_and_nothing_is_a_chart_too() -> None:
    many = [Line(f"line{number}", [1.0] * 12) for number in range(MOST_LINES + 3)]

    text = terminal_chart("t", INSTANTS, many)
    assert f"t, the first {MOST_LINES} of {MOST_LINES + 3}" in text
    assert "line8" not in text
    assert len(terminal_chart("t", [], []).splitlines()) == 22


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = terminal_chart("t", INSTANTS, [Line("a", [1.0] * 12)], width=60)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = terminal_chart("t", INSTANTS, [Line("a", [1.0] * 12)], width=60)

    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert {len(row) for row in plain.splitlines()} == {60}

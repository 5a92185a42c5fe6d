"""A line chart for the terminal: characters, with colours only where they will be seen."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sonar.times import minute_text

if TYPE_CHECKING:
    from sonar.render.chart import Line

__all__ = ["MOST_LINES", "terminal_chart"]

MOST_LINES = 8
_WIDTH, _HEIGHT = 100, 22  # where nobody says how wide the terminal is
_TICKS = 5
_COLOURS = ("blue", "orange", "green", "magenta", "red", "cyan", "yellow", "gray")


def terminal_chart(title: str, instants: Sequence[int], lines: "Sequence[Line]", *, width: int = 0) -> str:
    """Return a chart of lines over instants (UTC), which are broken where they have no value; in colour if `width`.

    `width` is that of the terminal; 0 if it is none. Of more than MOST_LINES lines the first are drawn.
    """
    import plotext

    drawn = lines[:MOST_LINES]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)  # noqa: FBT003 -- its parameters have no names
    plotext.plot_size(width or _WIDTH, _HEIGHT)
    plotext.title(title if len(drawn) == len(lines) else f"{title}, the first {MOST_LINES} of {len(lines)}")
    colours = bool(width) and "NO_COLOR" not in os.environ
    highest = 0.0
    for line, colour in zip(drawn, _COLOURS, strict=False):
        label: str | None = "".join(char if char.isprintable() else " " for char in line.name)
        for segment in _segments(line.values):
            values = [line.values[at] or 0.0 for at in segment]
            highest = max(highest, *values)
            places = [instants[at] for at in segment]
            options = {"color": colour} if colours else {}
            plotext.plot(places, values, label=label, marker="braille", **options)
            label = None
    plotext.ylim(0, highest or 1)
    if instants:
        every = max(-(-len(instants) // _TICKS), 1)
        ticks = list(instants[::every])
        plotext.xticks(ticks, [minute_text(tick) for tick in ticks])
    text: str = plotext.build()
    return (text if colours else plotext.uncolorize(text)).rstrip("\n") + "\n"


def _segments(values: "Sequence[float | None]") -> list[list[int]]:
    """Return the places of the values, cut where one is missing."""
    parts: list[list[int]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            parts[-1].append(at)
    return [part for part in parts if part]

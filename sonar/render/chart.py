"""A line chart as a page of its own: inline SVG, no script, no other host, light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "chart_page"]

_WIDTH, _HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 12, 48
_LABEL = 116  # width of a label
_COLOURS = ("#2878b5", "#d1731b", "#3a9a5b", "#a04bb0", "#c23b4b", "#7a6a2f", "#3aa3a3", "#8a8f98")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 64rem; margin: 1rem auto; padding: 0 1rem; }
h1 { font-size: 1.2rem; text-align: center; overflow-wrap: anywhere; }
figure { margin: 0; overflow-x: auto; }
figure > svg { width: 100%; min-width: 40rem; height: auto; }
svg text { fill: currentColor; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; vertical-align: -.05rem; }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and a value or None for each label."""

    name: str
    values: Sequence[float | None]


def chart_page(title: str, labels: Sequence[str], lines: Sequence[Line], places: Sequence[int] = ()) -> str:
    """Return an HTML page with a chart whose vertical axis begins at zero; a line is broken where it has no value.

    `places` are those of the labels on the horizontal axis, ascending, by default one beside the other.
    """
    places = places or range(len(labels))
    span = (places[-1] - places[0] if labels else 0) or 1
    highest = max((value for line in lines for value in line.values if value is not None), default=0.0) or 1.0
    step = _round_step(highest / 4)
    top = step * -(-highest // step)

    def x(at: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((places[at] - places[0]) / span)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    parts = []
    for number in range(int(top / step) + 1):
        value, level = number * step, y(number * step)
        across = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}"'
        parts.append(f'<line stroke="currentColor" opacity="0.15" {across}/>')
        parts.append(_text(_LEFT - 8, level + 4, "end", f"{value:g}"))
    reached = -1.0
    for at in range(len(labels)):
        if labels[at] and x(at) >= reached and (not at or x(at) < _WIDTH - _RIGHT - _LABEL / 2):
            parts.append(_text(x(at), _HEIGHT - 18, "middle" if at else "start", labels[at]))
            reached = x(at) + _LABEL * (1.6 if at else 2.1)
    for number, line in enumerate(lines):
        parts.append(_path(line, _COLOURS[number % len(_COLOURS)], x, y))
    keys = "".join(_key(line.name, _COLOURS[at % len(_COLOURS)]) for at, line in enumerate(lines))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        + "\n".join(parts)
        + f"\n</svg></figure>\n<ul>{keys}</ul>\n</body>\n</html>\n"
    )


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text font-size="12" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _key(name: str, colour: str) -> str:
    """Return an entry of the legend; a style attribute would not do on pages with a strict content policy."""
    square = (
        f'<svg class="key" width="12" height="12" viewBox="0 0 1 1"><rect width="1" height="1" fill="{colour}"/></svg>'
    )
    return f"<li>{square} {escape(name)}</li>"


def _path(line: Line, colour: str, x: Callable[[int], float], y: Callable[[float], float]) -> str:
    """Return a line with gaps; a value alone between gaps is a point."""
    values = list(line.values)
    commands, points = [], []
    for at, value in enumerate(values):
        if value is None:
            continue
        follows = at > 0 and values[at - 1] is not None
        leads = at + 1 < len(values) and values[at + 1] is not None
        commands.append(f"{'L' if follows else 'M'}{x(at):.1f} {y(value):.1f}")
        if not follows and not leads:
            points.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="2.5" fill="{colour}"/>')
    shape = f'fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" d="{" ".join(commands)}"'
    return f"<path {shape}><title>{escape(line.name)}</title></path>" + "".join(points)


def _round_step(least: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is not less."""
    power = 10.0 ** len(str(int(least)))
    for factor in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        if power * factor >= least:
            return power * factor
    return power

"""Tables as pages of their own: HTML for screen and print, charts as SVG, no script and nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sonar.report.tables import Row, TableReport, cell_text

__all__ = ["Chart", "Part", "page", "text_page"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 180, 44, 24
_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin-bottom: .2rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p.facts { opacity: .75; margin-top: 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem .15rem 0; text-align: left; white-space: nowrap; }
th { border-bottom: 1px solid; vertical-align: bottom; font-weight: 600; }
td.number, th.number { text-align: right; }
figure { margin: .6rem 0; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font-size: 11px; }
@page { size: A4; margin: 15mm; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 9.5pt; max-width: none; margin: 0; padding: 0; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  thead { display: table-header-group; }
  div.wide { overflow: visible; }
}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over labels, from 0 to 100 percent; None leaves a gap."""

    title: str
    labels: Sequence[str]
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document: a table with its heading, under charts; or only a sentence."""

    title: str
    table: TableReport | None = None
    rows: Sequence[Row] = ()
    charts: Sequence[Chart] = ()
    note: str = ""


def page(title: str, facts: str, parts: Sequence[Part]) -> str:
    """Return the document as HTML."""
    body = "\n".join(_part(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="facts">{escape(facts)}</p>\n{body}\n</body>\n</html>\n'
    )


def text_page(title: str, facts: str, parts: Sequence[Part]) -> str:
    """Return the document as text."""
    from sonar.report.tables import Table, as_text

    lines = [title, "=" * len(title), facts, ""]
    for part in parts:
        lines += [part.title, "-" * len(part.title)]
        lines += [part.note] if part.note else []
        if part.table is not None and part.rows:
            lines.append(as_text(part.table, Table(list(part.rows), {})).rstrip("\n"))
        elif part.table is not None and not part.note:
            lines.append("Nothing.")
        lines.append("")
    return "\n".join(lines)


def _part(part: Part) -> str:
    pieces = [f"<h2>{escape(part.title)}</h2>"]
    pieces += [f"<p>{escape(part.note)}</p>"] if part.note else []
    pieces += [_chart(chart) for chart in part.charts]
    if part.table is not None and part.rows:
        pieces.append(_table(part.table, part.rows))
    elif part.table is not None and not part.note:
        pieces.append("<p>Nothing.</p>")
    return "\n".join(pieces)


def _table(declared: TableReport, rows: Sequence[Row]) -> str:
    columns = [column for column in declared.columns if column.name in rows[0]]
    kinds = ["" if column.kind in {"text", "time"} else ' class="number"' for column in columns]
    head = "".join(
        f'<th{kind} title="{escape(column.help)}">{escape(column.name)}{_unit(column.unit)}</th>'
        for column, kind in zip(columns, kinds, strict=True)
    )
    lines = [
        "<tr>"
        + "".join(
            f"<td{kind}>{escape(cell_text(column, row[column.name]))}</td>"
            for column, kind in zip(columns, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _unit(unit: str) -> str:
    return f"<br>{escape(unit)}" if unit and unit != "s" else ""


def _chart(chart: Chart) -> str:
    number = max(len(chart.values), 1)
    step = (_WIDTH - _LEFT) / number
    height = _HEIGHT - _BOTTOM - 8
    parts = []
    for level in (0, 25, 50, 75, 100):
        y = 8 + height * (1 - level / 100)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.2"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level} %</text>'
        )
    for at, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        if value is not None:
            tall = height * min(value, 100) / 100
            parts.append(
                f'<rect x="{_LEFT + at * step + step * 0.1:.1f}" y="{8 + height - tall:.1f}" width="{step * 0.8:.1f}" '
                f'height="{tall:.1f}" fill="#2878b5"><title>{escape(label)}: {value:g} %</title></rect>'
            )
    every = max(-(-number // 8), 1)
    for at in range(0, number, every):
        x = _LEFT + at * step
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}">{escape(chart.labels[at])}</text>')
    return (
        f'<figure><figcaption>{escape(chart.title)}</figcaption>\n<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)}">{"".join(parts)}</svg></figure>'
    )

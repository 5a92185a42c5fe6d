"""Tables as pages of their own: HTML for screen and print, charts as SVG, no script and nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sonar.report.tables import Row, TableReport, cell_text

__all__ = ["Chart", "Part", "page", "text_page"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 420, 150, 40, 20
_TOPS = (4, 8, 20, 40, 60, 80, 100)  # percent; their quarters are whole
_STYLE = """
html {
  color-scheme: light dark;
  --paper: #fff; --ink: #1b2530; --faint: #5c6b7a; --line: #dde3ea; --stripe: #f3f6f9; --bar: #2f7fbf;
}
@media (prefers-color-scheme: dark) {
  html { --paper: #11161c; --ink: #e4eaf0; --faint: #9fb0c0; --line: #2f3a46; --stripe: #1a212a; --bar: #4d9bd8; }
}
body {
  font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 82rem; margin: 0 auto; padding: 1.5rem clamp(.75rem, 2.5vw, 2rem) 3rem;
}
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .3rem; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; }
p.facts, figcaption, small { color: var(--faint); }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: left; white-space: nowrap; }
th { vertical-align: bottom; font-weight: 600; border-bottom: 2px solid var(--line); }
tbody tr:nth-child(even) { background: var(--stripe); }
small { font-weight: 400; }
td.number, th.number { text-align: right; }
div.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .6rem 1.6rem; }
figure { margin: .4rem 0; max-width: 34rem; }
figcaption { font-size: .9rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--faint); font-size: 11px; }
svg line { stroke: var(--line); }
svg rect { fill: var(--bar); }
@page { size: A4; margin: 14mm 12mm; }
@media print {
  html {
    color-scheme: light;
    --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --stripe: #f3f3f3; --bar: #2f7fbf;
  }
  body { font-size: 8.5pt; max-width: none; padding: 0; print-color-adjust: exact; }
  th, td { padding: .12rem .35rem; }
  figcaption, small { font-size: 7.5pt; }
  h2 { break-after: avoid; margin-top: 1.2rem; }
  div.charts { grid-template-columns: repeat(3, 1fr); gap: .4rem .8rem; break-after: avoid; }
  figure, tr { break-inside: avoid; }
  thead { display: table-header-group; }
  div.wide { overflow: visible; }
}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over labels, from 0 percent up to as many as there is need for; None leaves a gap."""

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
            lines.append(as_text(part.table, Table(_known(part.rows), {})).rstrip("\n"))
        elif part.table is not None and not part.note:
            lines.append("Nothing.")
        lines.append("")
    return "\n".join(lines)


def _known(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without what is known of none of them."""
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in names} for row in rows]


def _part(part: Part) -> str:
    pieces = [f"<h2>{escape(part.title)}</h2>"]
    pieces += [f"<p>{escape(part.note)}</p>"] if part.note else []
    if part.charts:
        pieces.append('<div class="charts">' + "\n".join(_chart(chart) for chart in part.charts) + "</div>")
    if part.table is not None and part.rows:
        pieces.append(_table(part.table, _known(part.rows)))
    elif part.table is not None and not part.note:
        pieces.append("<p>Nothing.</p>")
    return "\n".join(pieces)


def _table(declared: TableReport, rows: Sequence[Row]) -> str:
    columns = [column for column in declared.columns if column.name in rows[0]]
    kinds = ["" if column.kind in {"text", "time"} else ' class="number"' for column in columns]
    head = "".join(
        f'<th scope="col"{kind} title="{escape(column.help)}">{escape(column.name)}{_unit(column.unit)}</th>'
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
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="wide" tabindex="0"><table>\n{inside}\n</table></div>'


def _unit(unit: str) -> str:
    return f" <small>{escape(unit)}</small>" if unit and unit != "s" else ""


def _chart(chart: Chart) -> str:
    number = max(len(chart.values), 1)
    step = (_WIDTH - _LEFT) / number
    height = _HEIGHT - _BOTTOM - 8
    parts = []
    most = max((value for value in chart.values if value is not None), default=0)
    top = next((level for level in _TOPS if most <= level), _TOPS[-1])
    for part in range(5):
        y = 8 + height * (1 - part / 4)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{top * part / 4:g} %</text>'
        )
    for at, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        if value is not None:
            tall = height * min(value, top) / top
            parts.append(
                f'<rect x="{_LEFT + at * step + step * 0.1:.1f}" y="{8 + height - tall:.1f}" width="{step * 0.8:.1f}" '
                f'height="{tall:.1f}"><title>{escape(label)}: {value:g} %</title></rect>'
            )
    every = max(-(-number // 6), 1)
    for at in range(0, number - every // 2, every):
        x = _LEFT + at * step
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 4}">{escape(chart.labels[at])}</text>')
    return (
        f'<figure><figcaption>{escape(chart.title)}</figcaption>\n<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)}">{"".join(parts)}</svg></figure>'
    )

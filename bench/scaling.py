"""How the cost of questions grows with hosts times days: a table of exponents, and a chart of CPU time and memory.

    BENCH=medium python bench/scaling.py

The data are those of bench/questions.py, with their columns. What the smallest question costs, a host and a day, is
taken off before the exponent is fitted, to what costs clearly more than that; 1 is as much as there is more of. Writes
bench/scaling.svg.
"""

import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from synthetic import FIRST_DAY, host_name, with_columns

from measure import Cost, measure

HERE = Path(__file__).resolve().parent
LIBEXEC = HERE.parent / "libexec"
PARTS = ((4, 4), (4, 2), (2, 2), (1, 2), (1, 1))  # of hosts and days one in so many
QUESTIONS = {
    "jobs, roll-ups": ("jobs", "-u-"),
    "jobs, columns": ("jobs", "-u-", "--no-rollup"),
    "load, roll-ups": ("load", "--hourly"),
    "load, columns": ("load", "--hourly", "--no-rollup"),
}
COLOURS = ("#1b7837", "#2166ac", "#b2182b", "#762a83")
MEASURES: dict[str, Callable[[Cost], float]] = {"CPU s": lambda cost: cost.cpu_s, "MB": lambda cost: cost.peak_mb}


def main() -> None:
    """Ask, print, draw."""
    root, hosts, days = with_columns(os.environ.get("BENCH") or "small")
    runs = int(os.environ.get("RUNS") or 3)
    found: dict[str, list[tuple[int, Cost]]] = {}
    for question, argv in QUESTIONS.items():
        costs = [(1, _cost(root, argv, 1, 1, runs))]
        for of_hosts, of_days in PARTS:
            size = max(hosts // of_hosts, 1), max(days // of_days, 1)
            costs.append((size[0] * size[1], _cost(root, argv, *size, runs)))
        found[question] = costs
        print(
            question, [(number, round(cost.cpu_s, 2), round(cost.peak_mb)) for number, cost in costs], file=sys.stderr
        )
    print(f"### Growth with hosts times days, up to {hosts} hosts and {days} days\n")
    print(
        "| question | a host and day: CPU s, MB | all: CPU s, MB | exponent of CPU | of memory |\n|---|---|---|---|---|"
    )
    for question, costs in found.items():
        (_, least), (_, most) = costs[0], costs[-1]
        exponents = " | ".join(_exponent(costs, of) for of in MEASURES.values())
        small, large = (f"{cost.cpu_s:.2f}, {cost.peak_mb:.0f}" for cost in (least, most))
        print(f"| {question} | {small} | {large} | {exponents} |")
    print()
    chart = HERE / "scaling.svg"
    chart.parent.mkdir(exist_ok=True)
    chart.write_text(_chart(found))


def _cost(root: Path, argv: tuple[str, ...], hosts: int, days: int, runs: int) -> Cost:
    last = FIRST_DAY + timedelta(days=days - 1)
    names = ",".join(host_name(number).partition(".")[0] for number in range(hosts))
    window = ["--from", f"{FIRST_DAY:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}", "--host", names]
    question = [sys.executable, LIBEXEC / "sonalyze", *argv, "--local", "--data-path", root, *window]
    return measure(question, runs=runs)


def _exponent(costs: list[tuple[int, Cost]], of: Callable[[Cost], float]) -> str:
    """Return the slope of the logarithm of what a question costs more than the smallest, by least squares."""
    least = of(costs[0][1])
    points = [(math.log(number), math.log(of(cost) - least)) for number, cost in costs[1:] if of(cost) > 1.2 * least]
    if len(points) < 2:
        return "too small"
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return f"{sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points):.2f}"


def _chart(found: dict[str, list[tuple[int, Cost]]]) -> str:
    """Return two panels side by side: all axes from 0, a line a question."""
    largest = max(costs[-1][0] for costs in found.values())
    drawn = []
    for panel, (unit, of) in enumerate(MEASURES.items()):
        left = 60 + 420 * panel
        most = max(of(cost) for costs in found.values() for _, cost in costs)
        drawn.append(f'<path d="M{left} 40V300H{left + 320}" fill="none" stroke="#888"/>')
        drawn.append(f'<text x="{left}" y="28">{unit}</text><text x="{left - 6}" y="304" text-anchor="end">0</text>')
        drawn.append(f'<text x="{left - 6}" y="48" text-anchor="end">{most:.3g}</text>')
        drawn.append(f'<text x="{left + 320}" y="318" text-anchor="end">{largest:,} hosts times days</text>')
        for at, ((question, costs), colour) in enumerate(zip(found.items(), COLOURS, strict=True)):
            points = " ".join(f"{left + 320 * n / largest:.0f},{300 - 256 * of(c) / most:.0f}" for n, c in costs)
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
            drawn.append(f'<text x="{left + 10}" y="{56 + 16 * at}" fill="{colour}">{question}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 340" font-family="sans-serif" font-size="12">\n'
        '<rect width="820" height="340" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()

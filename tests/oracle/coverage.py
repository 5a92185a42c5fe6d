"""Coverage: how often hosts were sampled, of the times that they should have been."""

from itertools import pairwise
from typing import Any

from tests.oracle.question import Asked

FIELDS = ("seen", "expected", "coverage", "brief")


def runs_of(log: Asked) -> dict[str, list[int]]:
    """Return the instants at which each host was sampled, by whatever record."""
    runs: dict[str, set[int]] = {}
    for sample in log.samples:
        of_host = runs.setdefault(sample["host"], set())
        if log.within(sample["time"]):
            of_host.add(sample["time"])
    return {host: sorted(times) for host, times in runs.items()}


def interval_of(times: list[int]) -> int | None:
    """Return the median of the distances, cut to seconds; with two in the middle their mean."""
    steps = sorted(after - before for before, after in pairwise(times))
    if len(times) < 3:
        return None
    half = len(steps) // 2
    return steps[half] if len(steps) % 2 else (steps[half - 1] + steps[half]) // 2


def of_span(runs: dict[str, list[int]], hosts: list[str], first: int, last: int) -> dict[str, str]:
    seen = expected = 0
    for host in hosts:
        found = sum(first <= time <= last for time in runs[host])
        interval = interval_of(runs[host])
        seen += found
        expected += max(found, round((last - first) / interval) + 1 if interval else 0)
    return row_of(seen, expected)


def of_slot(runs: dict[str, list[int]], hosts: Any, start: int, length: int, limits: tuple[int, int]) -> dict[str, str]:
    seen = expected = 0
    inside = max(min(start + length, limits[1] + 1) - max(start, limits[0]), 0)
    for host in hosts:
        found = sum(start <= time < start + length for time in runs[host])
        interval = interval_of(runs[host])
        seen += found
        expected += max(found, inside // interval if interval else 0)
    return row_of(seen, expected)


def row_of(seen: int, expected: int) -> dict[str, str]:
    return {
        "seen": str(seen),
        "expected": str(expected),
        "coverage": str(seen * 100 // expected if expected else 0),
        "brief": "yes" if seen < 3 else "no",
    }

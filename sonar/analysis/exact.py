"""Exact sums: percentages as whole parts and fractions, so that what is added up does not depend on the order."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = [
    "PEAKS",
    "SUMMED",
    "WHOLE",
    "Columns",
    "added",
    "exact",
    "floats",
    "joined_columns",
    "normalized",
    "ranges",
    "sums_of",
]

Columns = dict[str, np.ndarray]

FRACTION_BITS = 44
ONE = 1 << FRACTION_BITS
WHOLE = float(1 << 53)  # up to here whole numbers are exact as floating-point ones

# Of a step, or of many: whole parts and fractions (in units of 2**-44) of percentages, and whole numbers.
SUMMED = ("util", "util_part", "gpu_pct", "gpu_pct_part", "cpu_kib", "rss_kib", "gpu_kib", "threads")
PEAKS = ("util", "gpu_pct", "cpu_kib", "rss_kib", "gpu_kib", "threads")


def exact(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whole parts, and fractions in units of 2**-44, as numbers that are whole."""
    if values.dtype.kind != "f":
        return values, np.zeros(len(values))
    whole = np.floor(values)
    part = values - whole
    part *= float(ONE)
    return whole, np.rint(part, out=part)


def normalized(sums: np.ndarray) -> np.ndarray:
    """Return rows of SUMMED with what the fractions hold of wholes carried over, so that many can be added."""
    for part in (1, 3):
        sums[part - 1] += sums[part] >> FRACTION_BITS
        sums[part] &= ONE - 1
    return sums


def floats(sums: np.ndarray) -> np.ndarray:
    """Return rows of PEAKS from rows of SUMMED, as numbers."""
    values = np.empty((len(PEAKS), sums.shape[1]))
    values[0] = sums[0] + sums[1] / float(ONE)
    values[1] = sums[2] + sums[3] / float(ONE)
    values[2:] = sums[4:]
    return values


def sums_of(rows: Mapping[str, np.ndarray], util: np.ndarray, gpu_pct: np.ndarray) -> np.ndarray:
    """Return what samples add to a step: rows of SUMMED."""
    sums = np.empty((len(SUMMED), len(util)), np.int64)
    sums[0], sums[1] = exact(util)
    sums[2], sums[3] = exact(gpu_pct)
    for place, name in enumerate(SUMMED[4:], 4):
        sums[place] = rows[name]
    return sums


def added(cell: np.ndarray, values: np.ndarray, cells: int, widest: int) -> np.ndarray:
    """Return the sums of whole numbers by cell, as whole numbers."""
    if len(values) == 0 or float(values.max()) * max(widest, 1) < WHOLE:
        return np.bincount(cell, values, cells)
    sums = np.zeros(cells, np.int64)
    np.add.at(sums, cell, values.astype(np.int64))
    return sums


def joined_columns(parts: Sequence[Columns]) -> Columns:
    """Return the rows of all parts."""
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the numbers from each start on, so many each."""
    before = np.cumsum(lengths) - lengths
    numbers: np.ndarray = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return numbers

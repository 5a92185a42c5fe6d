"""Means and shares that do not depend on the order in which they were added up.

Floating-point sums of the same numbers differ in their last bits by the order of adding, so a mean that is exactly 100
may come out as 100.00000000000001, and rounded up as 101. Such errors are told from real differences here: whatever is
printed rounded is settled first.
"""

import numpy as np

__all__ = ["settled"]

# Of the value, but of 1 at least and of a million at most: far more than errors of adding, far less than any reading.
_NOISE = 1e-12
_LARGEST_SCALE = 1e6


def settled(values: np.ndarray) -> np.ndarray:
    """Return the values, those that lie next to a whole number or a half replaced by it."""
    with np.errstate(invalid="ignore", over="ignore"):  # a bad record may say anything
        half = np.round(values * 2) / 2
        noise = _NOISE * np.clip(np.abs(values), 1.0, _LARGEST_SCALE)
        result: np.ndarray = np.where(np.abs(values - half) <= noise, half, values)
    return result

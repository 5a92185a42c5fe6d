"""Settled means round as the exact fractions do, in whatever order the floats were added."""

import math
from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sonar.analysis.rounding import settled

# Rates such as counters and clocks give: a whole number over seconds, in percent.
rates = st.tuples(st.integers(0, 10_000), st.sampled_from([3, 7, 60, 299, 300]))


@given(st.lists(rates, min_size=1, max_size=40), st.randoms())
def test_means_round_as_exact_fractions_do(series: list[tuple[int, int]], chance: Random) -> None:
    exact = sum((Fraction(used, elapsed) * 100 for used, elapsed in series), Fraction(0)) / len(series)
    shuffled = list(series)
    chance.shuffle(shuffled)
    for order in (series, shuffled):
        mean = float(settled(np.array([sum(used / elapsed * 100 for used, elapsed in order) / len(order)]))[0])

        assert math.ceil(mean) == math.ceil(exact)
        assert math.floor(mean) == math.floor(exact)
        assert math.floor(Fraction(mean) + Fraction(1, 2)) == math.floor(exact + Fraction(1, 2))


def test_what_is_no_error_of_adding_stays() -> None:
    values = [-0.25, 0.0, 1e-9, 0.4999999, 99.999999, 1e15 + 1, 5e11 + 0.25, math.inf]

    assert settled(np.array(values)).tolist() == values
    assert settled(np.array([99.99999999999999, 100.00000000000001, 0.49999999999999994])).tolist() == [100, 100, 0.5]
    assert np.isnan(settled(np.array([math.nan]))).all()

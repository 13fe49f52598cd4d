"""How many features a score is the mean of; the rest of maps is tested with the detector."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metricad.scoring import maps


@given(size=st.integers(1, 10**7))
@example(size=500)
@example(size=1500)
@example(size=2500)
def test_a_share_is_rounded_as_python_rounds_it_and_is_one_at_least(size):
    for reduction, among in maps.REDUCTIONS.items():
        expected = 1 if among is None else max(1, round(Fraction(size, among)))
        assert maps.farthest_count(size, reduction) == expected


def test_a_half_goes_to_the_even_number():
    assert [maps.farthest_count(size, "top-10%") for size in (5, 15, 25, 35, 45)] == [1, 2, 2, 4, 4]


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match=r"must be one of max, top-0\.1%, top-1%, top-10%, received 'mean'"):
        maps.farthest_count(10, "mean")

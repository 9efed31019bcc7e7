"""Portions of one sum: they add up, none is further than a unit from its share, and the largest remainders come first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.portions import portions

signed = st.integers(-(10**15), 10**15)
denominators = st.integers(1, 10**9) | st.integers(-(10**9), -1)


@given(st.lists(signed, max_size=8), denominators)
def test_portions_add_up_and_none_is_a_unit_away(numerators, denominator):
    found = portions(numerators, denominator)
    assert sum(found) == sum(numerators) // denominator
    assert all(abs(one * denominator - whole) < abs(denominator) for one, whole in zip(found, numerators, strict=True))


@given(st.lists(signed, min_size=1, max_size=8), signed)
def test_a_sum_shared_by_weights_is_shared_out_whole(weights, total):
    if sum(weights):
        assert sum(portions([total * weight for weight in weights], sum(weights))) == total


@given(st.lists(signed, max_size=6), denominators)
def test_nothing_has_no_portion(numerators, denominator):
    whole = sum(numerators)
    *_, last = portions([*numerators, -whole, 0], denominator)
    assert last == 0


def test_the_largest_remainder_has_the_unit_and_of_equal_ones_the_first():
    assert portions([1, 2, 1], 4) == [0, 1, 0]
    assert portions([1, 1, 1], 3) == [1, 0, 0]
    assert portions([10, 10, 10], 3) == [4, 3, 3]
    assert portions([], 7) == []
    with pytest.raises(ZeroDivisionError):
        portions([1], 0)

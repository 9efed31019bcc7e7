"""Portions of one sum that add up to it, to the unit: by largest remainder. Pure."""

from collections.abc import Sequence


def portions(numerators: Sequence[int], denominator: int) -> list[int]:
    """Return `numerators[i] / denominator` as integers whose sum is that of all, rounded down once.

    Each is rounded down; the units that are left go to the largest remainders, of equal ones to the first. The order of
    the numerators is the caller's to fix. A denominator below zero negates all.

    Raises:
        ZeroDivisionError: a denominator of 0.
    """
    if denominator < 0:
        numerators, denominator = [-one for one in numerators], -denominator
    found = [one // denominator for one in numerators]
    left = sum(numerators) // denominator - sum(found)
    ranked = sorted(range(len(found)), key=lambda place: -(numerators[place] % denominator))
    for place in ranked[:left]:
        found[place] += 1
    return found

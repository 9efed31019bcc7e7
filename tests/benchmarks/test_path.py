"""Every hop of an order's way counts once; `tests/e2e/test_demo.py` measures them on real servers."""

from benchmarks.path import Passage, figures_of, quantile


def test_hops_add_up_to_the_whole_way():
    passage = Passage((0, 1_000_000, 3_000_000, 6_000_000, 6_500_000, 7_000_000, 8_000_000, 9_000_000))
    assert passage.hops_ms() == [1.0, 2.0, 3.0, 0.5, 0.5, 1.0, 1.0]
    assert sum(passage.hops_ms()) == passage.total_ms == 9.0
    figures = figures_of(1_000, [passage], "")
    assert [figure.value for figure in figures] == [9.0, 9.0, *passage.hops_ms()]


def test_a_quantile_is_a_value_that_was_measured():
    values = [float(number) for number in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.99) == 100.0
    assert quantile([3.0], 0.99) == 3.0

"""The order book against a plain dictionary."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.book import TOP_LEVELS, Book, Ladder
from core.domain.errors import NegativeLevel

PRICES = st.integers(1, 60)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "add"]), PRICES, st.integers(-4, 6)), max_size=120)


def best_first(levels: dict[int, int], sign: int) -> list[tuple[int, int]]:
    return sorted(levels.items(), key=lambda level: -sign * level[0])


@pytest.mark.parametrize("sign", [1, -1])
@settings(deadline=None)
@given(start=st.dictionaries(PRICES, st.integers(1, 9), max_size=30), steps=STEPS)
def test_ladder_equals_a_dictionary_and_says_when_its_top_ten_changed(sign, start, steps):
    ladder, truth = Ladder(sign), dict(start)
    ladder.load(list(start), list(start.values()))
    for name, price, number in steps:
        top_before = best_first(truth, sign)[:TOP_LEVELS]
        size = number if name == "put" else truth.get(price, 0) + number
        if size < 0:
            with pytest.raises(NegativeLevel):
                getattr(ladder, name)(price, number)
            touched = False
        else:
            touched = getattr(ladder, name)(price, number)
            truth[price] = size
            if not size:
                del truth[price]
        expected = best_first(truth, sign)
        assert touched == (expected[:TOP_LEVELS] != top_before)
        assert ladder.levels() == expected
        assert list(zip(*ladder.top(), strict=True)) == expected[:TOP_LEVELS]
        assert ladder.best == (expected[0][0] if expected else None)
        assert len(ladder) == len(truth)
        assert ladder.size_at(price) == truth.get(price, 0)


def test_top_that_was_handed_out_does_not_change():
    ladder = Ladder(1)
    ladder.load([5, 4], [10, 20])
    before = ladder.top()
    ladder.put(5, 11)
    assert before.sizes == [10, 20]
    assert ladder.top().sizes == [11, 20]


def test_top_is_the_same_object_while_it_stands():
    ladder = Ladder(-1)
    ladder.load(list(range(1, 30)), [1] * 29)
    top = ladder.top()
    assert ladder.put(25, 7) is False
    assert ladder.top() is top


@pytest.mark.parametrize(("prices", "sizes"), [([1, 1], [2, 3]), ([1], [0]), ([1], [-5]), ([1, 2], [3]), ([], [1])])
def test_levels_that_are_no_book_are_refused(prices, sizes):
    with pytest.raises(NegativeLevel):
        Ladder(1).load(prices, sizes)


@pytest.mark.parametrize(
    ("bids", "asks", "crossed"),
    [([5], [6], False), ([5], [5], True), ([6], [5], True), ([], [5], False), ([5], [], False), ([], [], False)],
)
def test_crossed_is_bid_at_or_above_ask(bids, asks, crossed):
    book = Book()
    book.load(bids, [1] * len(bids), asks, [1] * len(asks))
    assert book.crossed is crossed


def test_removing_what_is_not_there_changes_nothing():
    ladder = Ladder(1)
    assert ladder.put(5, 0) is False
    assert ladder.add(5, 0) is False
    assert ladder.levels() == []

"""The words for why a book is not LIVE."""

import pytest

from core.domain import trust


@pytest.mark.parametrize("word", trust.CAUSES)
def test_text_of_a_cause_starts_with_its_word_and_is_known_by_it(word):
    assert trust.because(word) == word
    assert trust.because(word, "expected 4, found 6") == f"{word}: expected 4, found 6"
    assert trust.cause_in(trust.because(word, "expected 4, found 6")) == word


def test_detail_that_starts_with_the_word_is_not_said_twice():
    assert trust.because(trust.TICK_SIZE, "tick size 100e-4 became 10e-4") == "tick size 100e-4 became 10e-4"
    assert trust.because(trust.CLOSED, "closedown") == "closed: closedown"


def test_text_that_starts_with_no_known_word_has_no_cause():
    assert trust.cause_in("reset") == ""
    assert trust.cause_in("gaping") == ""


def test_each_word_stands_once():
    assert len(set(trust.CAUSES)) == len(trust.CAUSES)

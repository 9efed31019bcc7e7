"""The judge itself: it finds what it is there to find."""

import msgspec
import pytest

from core.runtime import topics
from schemas.derived import Quote, Tick
from tests.chain.judge import Seen, Sending, unsound_intents, unsound_sendings

ONE = 1_000_000
S = 1_000_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"


@pytest.fixture
def told(new_chain):
    """A chain with one order that left, and its logs."""
    chain = new_chain()
    chain.cheapen(POLY)
    (grant,) = chain.grants()
    (sending,) = chain.sendings()
    assert sending.order == grant.id
    return chain, sending


def test_sound_order_is_found_sound(told):
    chain, sending = told
    assert unsound_intents(chain.intents(), chain.seen(topics.DECISION_INPUT)) == []
    assert unsound_sendings([sending], chain.seen(topics.DERIVED_BOOK)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda sending: [sending, sending], "left 2 times"),
        (lambda sending: [sending._replace(sent_ns=sending.send_by_ns + 1)], "1 ns after send_by"),
        (lambda sending: [sending._replace(sent_ns=sending.sent_ns + 2 * S, send_by_ns=2**62)], "no young tick"),
        (lambda sending: [sending._replace(instrument="polymarket:other")], "no young tick"),
    ],
)
def test_unsound_sending_is_found(told, change, words):
    chain, sending = told
    assert words in " ".join(unsound_sendings(change(sending), chain.seen(topics.DERIVED_BOOK)))


def altered(seen, kind, name, **changes):
    return [
        one._replace(record=msgspec.structs.replace(one.record, **changes))
        if type(one.record) is kind and getattr(one.record, "instrument", name) == name
        else one
        for one in seen
    ]


@pytest.mark.parametrize("state", ["SUSPECT", "STALE", "SYNCING", "DEGRADED", "UNKNOWN"])
def test_sending_and_intent_on_a_book_that_was_not_live_are_found(told, state):
    chain, sending = told
    books = altered(chain.seen(topics.DERIVED_BOOK), Quote, POLY, state=state)
    assert f"{POLY} was {state}" in " ".join(unsound_sendings([sending], books))
    inputs = altered(chain.seen(topics.DECISION_INPUT), Quote, POLY, state=state)
    assert f"{POLY} was {state}" in " ".join(unsound_intents(chain.intents(), inputs))


def test_intent_on_old_ticks_is_found(told):
    chain, _ = told
    inputs = altered(chain.seen(topics.DECISION_INPUT), Tick, "", ts_ns=1)
    assert "last tick" in " ".join(unsound_intents(chain.intents(), inputs))


def test_intent_on_another_depth_than_the_newest_quotes_is_found(told):
    chain, _ = told
    inputs = altered(chain.seen(topics.DECISION_INPUT), Quote, KALSHI, depth_offset=10_000)
    assert "not the one the newest quote names" in " ".join(unsound_intents(chain.intents(), inputs))


def test_intent_without_a_place_is_found(told):
    chain, _ = told
    assert "no record at its place" in " ".join(unsound_intents(chain.intents(), []))


def test_quote_the_gateway_cannot_have_missed_counts(told):
    chain, sending = told
    # A young tick stands behind the quote that says SUSPECT: who knew the tick knew the quote.
    books = chain.seen(topics.DERIVED_BOOK)
    last = max(one.offset for one in books if one.partition == 0)
    template = next(one for one in reversed(books) if type(one.record) is Quote and one.record.instrument == POLY)
    suspect = msgspec.structs.replace(
        template.record, state="SUSPECT", version_offset=10**6, trail=[sending.sent_ns - 3]
    )
    tick = Tick(partition=0, ts_ns=sending.sent_ns, trail=[sending.sent_ns - 2])
    young = [one for one in books if type(one.record) is not Tick]
    behind = [*young, Seen(0, last + 1, suspect), Seen(0, last + 2, tick)]
    assert "SUSPECT" in " ".join(unsound_sendings([sending], behind))
    before = [*young, Seen(0, last + 1, tick), Seen(0, last + 2, suspect)]
    assert unsound_sendings([Sending(*sending)], before) == []

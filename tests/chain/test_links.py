"""From a changed rule text to the wire: nothing leaves on a link that is not what was approved, whoever reads it first."""

import msgspec
import pytest

from core.runtime import topics
from decide.links import suspension_key
from schemas.decision import Link
from schemas.market import Instrument

KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"
APPROVED = "approved text"


def linked(new_chain):
    """A calm chain whose link records both rule texts."""
    chain = new_chain()
    for name in (KALSHI, POLY):
        describe(chain, name, rules_hash=APPROVED)
    approve(chain, version=2, rules_hash_a=APPROVED, rules_hash_b=APPROVED)
    chain.settle()
    return chain


def describe(chain, name, **changes):
    known = [record for record in chain.wire.all(topics.MARKET_INSTRUMENT, Instrument) if record.instrument == name]
    chain.wire.append(topics.MARKET_INSTRUMENT, name, msgspec.structs.replace(known[-1], **changes))


def approve(chain, **changes):
    known = chain.wire.all(topics.DECISION_LINK, Link)[-1]
    chain.wire.append(topics.DECISION_LINK, "L1", msgspec.structs.replace(known, status="APPROVED", **changes))


def nudge(chain, size):
    """Let the book that rose say something new, so that a strategy looks again."""
    chain.level(KALSHI, "BUY", 5_600, size * 1_000_000)
    chain.level(POLY, "SELL", 5_600, size * 1_000_000)
    chain.advance(200)


def provoked(chain, name=POLY):
    chain.provoke(name)
    chain.advance(200)
    return len(chain.left())


def test_link_whose_texts_are_the_approved_ones_trades(new_chain):
    chain = linked(new_chain)
    assert provoked(chain) == 1
    assert chain.unsound() == []


@pytest.mark.parametrize("name", [KALSHI, POLY])
@pytest.mark.parametrize(
    ("change", "word"),
    [({"rules_hash": "another text"}, "RULES"), ({"close_ts_ns": 1_900_000_000_000_000_000}, "CUTOFF")],
)
def test_nothing_leaves_once_the_text_or_the_cut_off_changed_until_it_is_approved_again(new_chain, name, change, word):
    chain = linked(new_chain)
    approve(chain, version=3, cutoffs_ns=[1_800_000_000_000_000_000] * 2)
    for each in (KALSHI, POLY):
        describe(chain, each, close_ts_ns=1_800_000_000_000_000_000)
    chain.settle()
    describe(chain, name, **change)
    chain.settle()
    assert provoked(chain) == 0
    assert chain.intents() == chain.grants() == chain.edges() == []
    written = chain.wire.all(topics.DECISION_LINK, Link)[-1]
    assert (written.status, written.version, written.reason.partition(":")[0]) == ("SUSPENDED", 3, word)

    # The text comes back: that is for a human to see.
    describe(chain, name, rules_hash=APPROVED, close_ts_ns=1_800_000_000_000_000_000)
    nudge(chain, 60)
    assert chain.grants() == []
    approve(chain, version=4)
    chain.settle()
    nudge(chain, 70)
    assert len(chain.left()) == 1
    assert chain.unsound() == []


def test_accounts_refuse_what_strategies_intend_on_a_text_they_have_not_read_yet(new_chain):
    chain = linked(new_chain)
    chain.frozen.add("strategies")
    chain.provoke(POLY)
    chain.settle()
    chain.strategies.sequence()
    describe(chain, KALSHI, rules_hash="another text")
    chain.settle()
    chain.frozen.clear()
    chain.settle()
    assert len(chain.intents()) == 1
    assert [edge.phase for edge in chain.edges()] == ["BEGIN", "END"]
    assert [(saga.state, saga.reason) for saga in chain.sagas()] == [("REFUSED", "LINK_SUSPENDED")]
    assert chain.left() == []


def test_suspension_survives_a_takeover_of_both_tasks(new_chain):
    chain = linked(new_chain)
    describe(chain, KALSHI, rules_hash="another text")
    chain.settle()
    for worker in (chain.strategies, chain.accounts):
        worker.checkpoint()
        worker.restore()
    describe(chain, KALSHI, rules_hash=APPROVED)
    chain.settle()
    assert provoked(chain) == 0
    assert chain.wire.all(topics.DECISION_LINK, Link)[-1].status == "SUSPENDED"
    assert [item.key for item, _ in chain.wire.read(topics.DECISION_LINK)][-1] == suspension_key("L1")

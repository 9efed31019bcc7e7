"""From what a venue says of its fees, its closing times and who decides, to the wire: nothing leaves on what was so before."""

import json

import msgspec
import pytest

from core.runtime import topics
from core.runtime.clock import NS_PER_S
from core.runtime.flow import Input, TaskContext
from normalize.stage import InstrumentTask
from schemas.decision import FeeTerm, Link
from schemas.market import Instrument
from schemas.raw import Description

ONE = 1_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"
CLOSES_NS = 1_900_000_000 * NS_PER_S
DOUBLE = 140_000


def describe(chain, name, **changes):
    """Let the catalogue's word of now be on the log."""
    known = [record for record in chain.wire.all(topics.MARKET_INSTRUMENT, Instrument) if record.instrument == name]
    fresh = msgspec.structs.replace(known[-1], **({"recv_ts_ns": chain.clock.now_ns()} | changes))
    chain.wire.append(topics.MARKET_INSTRUMENT, name, fresh)
    chain.settle()


def approve(chain, **changes):
    known = chain.wire.all(topics.DECISION_LINK, Link)[-1]
    chain.wire.append(topics.DECISION_LINK, "L1", msgspec.structs.replace(known, status="APPROVED", **changes))
    chain.settle()


def tempt(chain, size=50):
    """Offer four cents between the venues: a gain at the fees of every day, a loss at twice Kalshi's."""
    for price in (4_800, 4_700):
        chain.level(POLY, "BUY", price, 0)
    chain.level(POLY, "SELL", 4_400, size * ONE)
    chain.advance(200)


def test_four_cents_are_a_gain_at_the_fees_of_every_day(new_chain):
    chain = new_chain()
    tempt(chain)
    assert len(chain.left()) == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_fee_that_was_raised_reaches_edges_before_the_next_intent(new_chain, told):
    chain = new_chain()
    if told:
        # The word alone is enough: nobody knows the fee until the catalogue was read again.
        chain.notice("event_fee_update", event_group=KALSHI)
        tempt(chain)
        assert chain.intents() == chain.edges() == []
        chain.advance(100)
    describe(chain, KALSHI, taker_fee_e6=DOUBLE)
    tempt(chain, 60)
    assert chain.intents() == chain.edges() == []
    describe(chain, KALSHI, taker_fee_e6=70_000)
    tempt(chain, 70)
    assert len(chain.left()) == 1
    assert chain.unsound() == []


@pytest.mark.parametrize(("left_s", "leaves"), [(3_600, 1), (30, 0), (-1, 0)])
def test_a_fee_that_is_scheduled_counts_while_an_order_may_live_into_it(new_chain, left_s, leaves):
    chain = new_chain()
    term = FeeTerm(from_ts_ns=chain.clock.now_ns() + left_s * NS_PER_S, taker_fee_e6=DOUBLE, source="scheduled")
    describe(chain, KALSHI, fees=[term])
    tempt(chain)
    assert len(chain.intents()) == len(chain.left()) == leaves


@pytest.mark.parametrize(
    ("reason", "about"),
    [
        ("event_fee_update", {"event_group": KALSHI}),
        ("close_date_updated", {"instrument": KALSHI}),
        ("metadata_updated", {"instrument": KALSHI}),
    ],
)
def test_a_venues_word_ends_edges_at_once_until_its_catalogue_was_read_again(new_chain, reason, about):
    # Time for one intent only: the edge stands on.
    chain = new_chain(params='{"cooldown_ms": 60000}')
    tempt(chain)
    assert [edge.phase for edge in chain.edges()] == ["BEGIN"]
    chain.notice(reason, **about)
    assert [edge.phase for edge in chain.edges()] == ["BEGIN", "END"]
    # What was asked for before the word says nothing of it, however late it comes.
    describe(chain, KALSHI, recv_ts_ns=chain.clock.now_ns() - 1)
    tempt(chain, 60)
    assert [edge.phase for edge in chain.edges()] == ["BEGIN", "END"]
    describe(chain, KALSHI)
    tempt(chain, 70)
    assert [edge.phase for edge in chain.edges()] == ["BEGIN", "END", "BEGIN"]
    # Nothing that lasts was found: no human is asked.
    assert [link.status for link in chain.wire.all(topics.DECISION_LINK, Link)] == ["APPROVED"]


def test_a_closing_time_that_moved_suspends_the_link_for_good(new_chain):
    chain = new_chain()
    for name in (KALSHI, POLY):
        describe(chain, name, close_ts_ns=CLOSES_NS)
    approve(chain, version=2, cutoffs_ns=[CLOSES_NS] * 2)
    chain.advance(50)
    chain.notice("close_date_updated", instrument=KALSHI)
    tempt(chain)
    assert chain.intents() == []
    describe(chain, KALSHI, close_ts_ns=CLOSES_NS - NS_PER_S)
    written = chain.wire.all(topics.DECISION_LINK, Link)[-1]
    # It rested before the catalogue said why, and is written down as suspended all the same.
    assert (written.status, written.reason.partition(":")[0]) == ("SUSPENDED", "CUTOFF")
    describe(chain, KALSHI, close_ts_ns=CLOSES_NS)
    tempt(chain, 60)
    assert chain.intents() == []


def test_accounts_refuse_what_strategies_intend_on_a_word_they_have_not_read_yet(new_chain):
    chain = new_chain()
    chain.frozen.add("strategies")
    tempt(chain)
    chain.strategies.sequence()
    chain.notice("event_fee_update", event_group=KALSHI)
    chain.frozen.clear()
    chain.settle()
    assert len(chain.intents()) == 1
    assert [(saga.state, saga.reason) for saga in chain.sagas()] == [("REFUSED", "LINK_SUSPENDED")]
    assert chain.left() == []


def test_a_word_survives_a_takeover_of_both_tasks(new_chain):
    chain = new_chain()
    chain.notice("event_fee_update", event_group=KALSHI)
    for worker in (chain.strategies, chain.accounts):
        worker.checkpoint()
        worker.restore()
    tempt(chain)
    assert chain.intents() == []
    chain.advance(50)
    describe(chain, KALSHI)
    tempt(chain, 60)
    assert len(chain.left()) == 1


def normalized(chain, sources):
    """What normalize makes of Kalshi's market with these settlement sources of its event."""
    market = {
        "ticker": "KX-1", "event_ticker": "KX", "status": "active", "close_time": "2030-01-01T00:00:00Z",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}], "rules_primary": "If it rains.",
    }  # fmt: skip
    series = {"ticker": "KXS", "fee_type": "quadratic", "fee_multiplier": 1}
    event = {"event_ticker": "KX", "series_ticker": "KXS", "settlement_sources": sources}
    description = Description(
        venue="kalshi",
        instrument=KALSHI,
        payload=json.dumps(market).encode(),
        context=json.dumps({"series": series, "event": event}).encode(),
        recv_ts_ns=chain.clock.now_ns(),
    )
    (output,) = InstrumentTask(TaskContext()).handle(Input(description, "raw.instrument-kalshi", 0, 0, KALSHI))
    return output.record


def test_other_settlement_sources_of_its_event_suspend_a_link(new_chain):
    chain = new_chain()
    bureau, another = ([{"name": name, "url": f"https://{name}.test"}] for name in ("bureau", "another"))
    approved = normalized(chain, bureau)
    chain.wire.append(topics.MARKET_INSTRUMENT, KALSHI, approved)
    approve(chain, version=2, rules_hash_a=approved.rules_hash)
    tempt(chain)
    assert len(chain.left()) == 1
    chain.advance(500)
    chain.wire.append(topics.MARKET_INSTRUMENT, KALSHI, normalized(chain, another))
    chain.settle()
    assert chain.edges()[-1].phase == "END"
    tempt(chain, 60)
    assert len(chain.left()) == 1
    written = chain.wire.all(topics.DECISION_LINK, Link)[-1]
    assert (written.status, written.version, written.reason.partition(":")[0]) == ("SUSPENDED", 2, "RULES")

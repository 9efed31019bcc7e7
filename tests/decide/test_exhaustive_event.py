"""The strategy over the outcomes of one event: all bought, some sold, conversion reported."""

import json

import pytest

from core.domain.errors import Reject
from decide.edges import NS_PER_DAY, NS_PER_YEAR
from schemas.decision import Edge, Intent, Saga
from tests.decide.events import NAMES, ONE, A, B, C, event, markets, started

D = "polymarket:0xe4"
POLYS = ("polymarket:0xa", "polymarket:0xb", "polymarket:0xc")


def begun(make, names=NAMES, *, params="{}", market=None, **link):
    log = make.strategies().start(
        params="{}", links=[event(make, names, **link)], instruments=markets(make, names, **(market or {}))
    )
    log.feed(make.strategy(id="arb-1", status="STOPPED"))
    log.feed(make.strategy(id="ex-1", kind="exhaustive_event", params=params))
    return log


def offer(log, names, bids, asks, *, size=10 * ONE, version=10, sizes=None):
    """Feed the books of all outcomes; return what follows from the last."""
    for number, (name, bid, ask) in enumerate(zip(names, bids, asks, strict=True)):
        there = sizes[number] if sizes else size
        follows = log.book(name, version + number, bids=[(bid, there)], asks=[(ask, there)])
    return follows


def test_all_outcomes_below_a_dollar_are_bought(make):
    log = begun(make)
    edge, intent = offer(log, NAMES, (2_900, 2_900, 2_900), (3_000, 3_000, 3_000))
    assert (edge.phase, edge.tradable, edge.size) == ("BEGIN", True, 10 * ONE)
    # By hand: three at .30 cost 9.00; fees .04 x 10 x .21 with ten half units, twice .07 x 10 x .21 up to the cent.
    assert edge.fees_e6 == 84_050 + 2 * 150_000
    assert edge.profit_e6 == 1_000_000 - edge.fees_e6
    assert (edge.buy_price_e6, edge.sell_price_e6) == (900_000, ONE)
    assert (edge.buy_instrument, edge.sell_instrument) == ("", "")
    assert edge.instruments == [leg.instrument for leg in intent.legs]
    assert edge.sides == ["BUY"] * 3
    assert edge.prices_e6 == [300_000] * 3
    assert sum(edge.costs_e6) == edge.cost_e6
    assert edge.places == ["polymarket", "kalshi/0", "kalshi/0"]
    assert {leg.account for leg in intent.legs} == {"kalshi:main", "polymarket:main"}


def test_accounts_admit_what_the_strategy_intends(make):
    _, intent = offer(begun(make), NAMES, (2_900,) * 3, (3_000,) * 3)
    assert started(make).feed(intent)[0].instrument == A


def test_least_certain_leg_goes_first_by_venue_and_then_by_depth(make):
    log = begun(make)
    _, intent = offer(log, NAMES, (2_900,) * 3, (3_000,) * 3, sizes=(50 * ONE, 30 * ONE, 20 * ONE))
    assert [leg.instrument for leg in intent.legs] == [A, C, B]
    assert {leg.size for leg in intent.legs} == {20 * ONE}


@pytest.mark.parametrize(
    "link", [dict(exhaustive=False), dict(void_e6=200_000)], ids=["not held to be exhaustive", "a void that pays less"]
)
def test_outcomes_are_not_bought_by_a_table_that_may_pay_less(make, link):
    assert offer(begun(make, **link), NAMES, (2_900,) * 3, (3_000,) * 3) == []


def test_missing_or_unusable_outcome_yields_nothing_to_buy(make):
    log = begun(make)
    log.book(A, 10, asks=[(3_000, 10 * ONE)])
    assert log.book(B, 11, asks=[(3_000, 10 * ONE)]) == []
    assert log.book(C, 12, asks=[(3_000, 10 * ONE)], state="STALE") == []
    assert len(log.book(C, 13, asks=[(3_000, 10 * ONE)])) == 2


def test_exclusive_outcomes_are_sold_without_a_flag(make):
    log = begun(make, exhaustive=False)
    edge, intent = offer(log, NAMES, (4_000, 4_000, 4_000), (9_000,) * 3)
    assert [leg.side for leg in intent.legs] == ["SELL"] * 3
    # By hand: three complements of .60 cost 1.80 and pay 2.00 at the least.
    assert (edge.buy_price_e6, edge.sell_price_e6) == (1_800_000, 2 * ONE)
    assert edge.prices_e6 == [400_000] * 3
    assert edge.profit_e6 == 2_000_000 - edge.fees_e6


def test_tie_that_pays_two_dollars_makes_selling_worthless(make):
    tie = dict(states=["a", "b", "c", "a and b"], payouts_e6=[ONE, 0, 0, 0, ONE, 0, 0, 0, ONE, ONE, ONE, 0])
    assert offer(begun(make, exhaustive=False, **tie), NAMES, (4_000,) * 3, (9_000,) * 3) == []


def test_thin_outcome_is_left_out_where_the_others_bring_more(make):
    log = begun(make, exhaustive=False)
    # Without C: 1.30 of bids for 100 contracts; with it 1.40, but for one.
    assert offered_again(log, (6_500, 6_500, 1_000), (100 * ONE, 100 * ONE, 1 * ONE)) == []
    assert set(log.last(Edge).instruments) == {A, B}
    assert log.last(Edge).size == 50 * ONE  # size_max
    # As thick as the others it belongs to it.
    offered_again(log, (6_500, 6_500, 1_000), (100 * ONE,) * 3, version=40)
    log.tick()
    log.clock(250)
    offered_again(log, (6_500, 6_500, 1_000), (100 * ONE,) * 3, version=60)
    assert set(log.last(Edge).instruments) == {A, B, C}


def offered_again(log, bids, sizes, *, version=10):
    """Feed all books, and once more when a refresh may be said; return what follows from the last."""
    offer(log, NAMES, bids, (9_000,) * 3, sizes=sizes, version=version)
    log.tick()
    log.clock(250)
    return offer(log, NAMES, bids, (9_000,) * 3, sizes=sizes, version=version + 10)[-1:]


def test_outcome_whose_bid_does_not_pay_its_fee_is_left_out(make):
    log = begun(make, exhaustive=False)
    assert offered_again(log, (6_500, 6_500, 100), (10 * ONE,) * 3) == []
    assert set(log.last(Edge).instruments) == {A, B}


def test_longer_event_is_sold_in_part_and_not_bought(make):
    params = json.dumps({"legs_max": 2})
    assert offer(begun(make, params=params), NAMES, (100,) * 3, (3_000,) * 3) == []
    log = begun(make, params=params)
    offered_again(log, (6_000, 6_500, 7_000), (10 * ONE,) * 3)
    assert set(log.last(Edge).instruments) == {B, C}


def test_conversion_is_reported_and_never_intended(make):
    # A tie would pay two: held to the end it is worth nothing, converted on chain it would be.
    tie = dict(states=["a", "b", "c", "a and b"], payouts_e6=[ONE, 0, 0, 0, ONE, 0, 0, 0, ONE, ONE, ONE, 0])
    log = begun(make, POLYS, exhaustive=False, market=dict(neg_risk=True), **tie)
    (edge,) = offer(log, POLYS, (4_000,) * 3, (9_000,) * 3)
    assert (edge.phase, edge.tradable, edge.sell_price_e6) == ("BEGIN", False, 2 * ONE)
    assert not log.all(Intent)
    # Kalshi's events know no conversion.
    other = begun(make, exhaustive=False, **tie)
    assert offer(other, NAMES, (4_000,) * 3, (9_000,) * 3) == []


def test_size_stays_within_the_links_cap(make):
    log = begun(make, cap_e6=6 * ONE)
    edge, _ = offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    assert 0 < edge.cost_e6 <= 6 * ONE
    # Polymarket's minimum of five contracts cannot be bought for four dollars.
    assert offer(begun(make, cap_e6=4 * ONE), NAMES, (2_900,) * 3, (3_000,) * 3) == []


def test_return_of_a_year_follows_from_the_later_release(make):
    close_ns = make.START_NS + 3 * NS_PER_DAY
    log = begun(make, market=dict(close_ts_ns=close_ns))
    edge, _ = offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    # Polymarket's is the later: fourteen days after its close.
    assert edge.release_ts_ns == close_ns + 14 * NS_PER_DAY
    assert edge.annual_e6 == edge.profit_e6 * ONE * NS_PER_YEAR // (edge.cost_e6 * 17 * NS_PER_DAY)
    assert 1_300_000 < edge.annual_e6 < 1_500_000  # .616 of 9.384 in 17 days


@pytest.mark.parametrize(
    ("close_in_days", "least_e6", "acts"), [(3, 1_300_000, True), (3, 1_500_000, False), (0, 1, False)]
)
def test_edge_below_the_wanted_return_of_a_year_is_told_and_not_traded(make, close_in_days, least_e6, acts):
    close_ns = make.START_NS + close_in_days * NS_PER_DAY if close_in_days else 0
    log = begun(make, params=json.dumps({"min_annual_e6": least_e6}), market=dict(close_ts_ns=close_ns))
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    assert len(log.all(Edge)) == 1
    assert len(log.all(Intent)) == acts


def test_edge_ends_when_one_of_its_books_or_its_link_is_gone(make):
    log = begun(make)
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    (end,) = log.book(B, 20, asks=[(5_000, 10 * ONE)])
    assert end.phase == "END"
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3, version=30)
    (end,) = log.feed(event(make, version=2, status="SUSPENDED"))
    assert (end.phase, end.link) == ("END", "E1")


def test_new_outcome_of_the_event_ends_what_counted_on_all(make):
    log = begun(make, event_group="E")
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    follows = log.feed(make.instrument(D, event_group="E"))
    assert [record.phase for record in follows if isinstance(record, Edge)] == ["END"]
    assert offer(log, NAMES, (2_900,) * 3, (3_000,) * 3, version=30) == []


def test_event_is_busy_until_its_saga_ends(make):
    log = begun(make)
    _, intent = offer(log, NAMES, (2_900,) * 3, (3_000,) * 3)
    log.feed(saga(intent, "SECOND_LEG"))
    log.clock(900)
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3, version=30)
    assert len(log.all(Intent)) == 1
    log.feed(saga(intent, "DONE"))
    log.tick()
    log.clock(999)
    log.tick()
    log.clock(1)
    offer(log, NAMES, (2_900,) * 3, (3_000,) * 3, version=40)
    assert len(log.all(Intent)) == 2


def saga(intent, state):
    return Saga(id=intent.id, strategy=intent.strategy, link=intent.link, account_set="main", state=state, reason="",
                now_ns=intent.now_ns, log_partition=0, log_offset=0, recv_ts_ns=intent.recv_ts_ns)  # fmt: skip


def test_pairs_are_left_to_others_and_others_leave_events_alone(make):
    log = make.strategies().start(links=[make.link()], instruments=None)
    log.feed(make.strategy(kind="exhaustive_event", id="ex-1"))
    log.feed(make.strategy(status="STOPPED"))
    log.book(make.KALSHI, 10, bids=[(5_000, 10 * ONE)], asks=[(5_200, 10 * ONE)])
    assert log.book(make.POLY, 10, bids=[(3_800, 10 * ONE)], asks=[(4_000, 10 * ONE)]) == []
    pairs = make.strategies().start(links=[event(make)], instruments=markets(make))
    assert offer(pairs, NAMES, (2_900,) * 3, (3_000,) * 3) == []


@pytest.mark.parametrize("params", ['{"legs_max": 0}', '{"size_max": -1}', '{"legs": 2}', '{"min_profit_e6": 0.5}'])
def test_parameters_out_of_their_range_are_rejected(make, params):
    log = begun(make)
    with pytest.raises(Reject, match="exhaustive_event"):
        log.feed(make.strategy(id="ex-2", kind="exhaustive_event", params=params))


def test_complement_within_one_venue_is_a_pair_of_opposites(make):
    """Two markets of one venue that complement each other: both bought below a dollar, on one account."""
    other = "kalshi:KX-2"
    pair = make.link(
        polarity="OPPOSITE", instrument_b=other, states=["a", "b"], payout_a_e6=[ONE, 0], payout_b_e6=[0, ONE]
    )
    found = [make.instrument(make.KALSHI), make.instrument(other)]
    log = make.strategies().start(links=[pair], instruments=found)
    log.book(make.KALSHI, 10, bids=[(3_000, 10 * ONE)], asks=[(4_000, 10 * ONE)])
    edge, intent = log.book(other, 10, bids=[(4_000, 10 * ONE)], asks=[(5_000, 10 * ONE)])
    assert [leg.account for leg in intent.legs] == ["kalshi:main"] * 2
    accounts = make.accounts()
    for record in (*found, pair):
        accounts.feed(record)
    accounts.start(cash=edge.cost_e6 - 1)
    accounts.feed(pair)
    # Capital of both legs lies in one place: a unit less than both need is too little.
    assert accounts.feed(intent)[0].reason == "CAPITAL"

"""Whether legs leave together: asked by a strategy, honoured only where every answer is known at once and stays."""

import asyncio

import pytest

from core.domain.errors import MalformedFrame, Unavailable
from core.runtime.clock import SystemClock
from decide.conduct import CONDUCTS, RATE_KEPT_PERCENT
from decide.leg_order import choose, doubt
from decide.strategies.cross_venue import CrossVenue
from execute.limiter import CANCEL_SHARE_PERCENT, Limiter
from execute.ports import Budget, Lane
from schemas.decision import Grant, Intent, Saga
from tests.decide.events import KALSHIS, NAMES, ONE, buy_all, event, markets, started
from venues.kalshi import rules as kalshi_rules

KALSHI = CONDUCTS["kalshi"]


def chosen(make, names, **changes):
    intent = buy_all(make, (3_000,) * len(names), names=names, **{"leg_order": "TOGETHER", **changes})
    return choose(intent, markets(make, names))


def test_legs_leave_together_where_all_stand_at_kalshi(make):
    assert chosen(make, KALSHIS) == ("TOGETHER", "AS_ASKED")


@pytest.mark.parametrize("asked", ["ONE_BY_ONE", "UNKNOWN"])
def test_legs_go_one_by_one_unless_it_was_asked(make, asked):
    assert chosen(make, KALSHIS, leg_order=asked) == ("ONE_BY_ONE", "AS_ASKED")


def test_one_leg_at_a_venue_whose_settlement_may_fail_keeps_all_from_leaving_together(make):
    assert chosen(make, (*KALSHIS, NAMES[0])) == ("ONE_BY_ONE", "MAY_FAIL")


def test_one_leg_alone_has_no_order(make):
    assert chosen(make, KALSHIS[:1]) == ("ONE_BY_ONE", "ONE_LEG")


@pytest.mark.parametrize("change", [dict(reduces=True), dict(rests=True)], ids=str)
def test_only_what_opens_at_once_leaves_together(make, change):
    legs = [make.leg(name, "BUY", [(3_000, ONE)], **change) for name in KALSHIS]
    assert chosen(make, KALSHIS, legs=legs) == ("ONE_BY_ONE", "NOT_AN_ENTRY")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(), None),
        (dict(time_in_force="FOK"), None),
        (dict(settles_later=True), "MAY_FAIL"),
        (dict(delays_takers=True), "MAY_WAIT"),
        (dict(time_in_force="GTC"), "MAY_REST"),
        (dict(together_max=2), "TOO_MANY"),
    ],
    ids=str,
)
def test_each_doubt_about_a_venue_has_its_word(change, reason):
    assert doubt(KALSHI._replace(**change), 3) == reason


def test_polymarket_is_no_venue_to_leave_together(make):
    conduct = CONDUCTS["polymarket"]
    assert doubt(conduct, 1) == "MAY_FAIL"
    assert doubt(conduct._replace(settles_later=False), 1) == "MAY_WAIT"
    assert doubt(conduct._replace(settles_later=False, delays_takers=False), 1) == "MAY_REST"


def test_more_legs_than_the_least_rate_budget_lets_go_at_once_go_one_by_one(make):
    names = tuple(f"kalshi:KX-M{number}" for number in range(8))
    assert chosen(make, names[:7]) == ("TOGETHER", "AS_ASKED")
    assert chosen(make, names) == ("ONE_BY_ONE", "TOO_MANY")


def test_so_many_orders_pass_the_gateways_budget_without_a_wait_and_no_more():
    assert RATE_KEPT_PERCENT == CANCEL_SHARE_PERCENT
    least = min(kalshi_rules.TIERS.values(), key=lambda tier: tier.write.capacity).write

    async def take():
        limiter = Limiter({"write": Budget(0.001, least.capacity)}, SystemClock())
        for _ in range(KALSHI.together_max):
            await limiter.take("write", kalshi_rules.COST_CREATE, Lane.NEW, wait_s=0)
        with pytest.raises(Unavailable):
            await limiter.take("write", kalshi_rules.COST_CREATE, Lane.NEW, wait_s=0)

    asyncio.run(take())


# --- from the strategy to the record


def test_strategy_asks_for_what_its_parameters_say(make):
    for params, order in (("{}", "TOGETHER"), ('{"leg_order": "ONE_BY_ONE"}', "ONE_BY_ONE")):
        log = make.strategies().start(params="{}", links=[event(make, KALSHIS)], instruments=markets(make, KALSHIS))
        log.feed(make.strategy(id="arb-1", status="STOPPED"))
        log.feed(make.strategy(id="ex-1", kind="exhaustive_event", params=params))
        for number, name in enumerate(KALSHIS):
            log.book(name, 10 + number, bids=[(2_900, 10 * ONE)], asks=[(3_000, 10 * ONE)])
        assert log.last(Intent).leg_order == order


def test_pairs_go_one_by_one_unless_it_is_asked(make):
    assert CrossVenue.from_config(make.strategy()).params.leg_order == "ONE_BY_ONE"
    wish = make.strategy(params='{"leg_order": "TOGETHER"}')
    assert CrossVenue.from_config(wish).params.leg_order == "TOGETHER"
    with pytest.raises(MalformedFrame, match="leg_order"):
        CrossVenue.from_config(make.strategy(params='{"leg_order": "ALL_AT_ONCE"}'))


def test_pair_of_two_venues_asked_to_leave_together_goes_one_by_one_and_says_why(make):
    log = make.accounts().start()
    log.feed(make.intent(leg_order="TOGETHER"))
    assert len(log.all(Grant)) == 1
    saga = log.last(Saga)
    assert (saga.leg_order, saga.leg_order_reason) == ("ONE_BY_ONE", "MAY_FAIL")


def test_pair_at_one_venue_leaves_together(make):
    other = "kalshi:KX-2"
    log = make.accounts().start()
    log.feed(make.instrument(other))
    log.feed(make.link(id="L2", instrument_b=other))
    legs = [make.leg(make.KALSHI, "BUY", [(4_000, 10 * ONE)]), make.leg(other, "SELL", [(5_000, 10 * ONE)])]
    log.feed(make.intent(link="L2", legs=legs, leg_order="TOGETHER"))
    assert [(grant.instrument, grant.side) for grant in log.all(Grant)] == [(make.KALSHI, "BUY"), (other, "SELL")]


def test_refused_intent_took_no_order(make):
    log = started(make, KALSHIS)
    log.alive("kalshi:main", ready=False)
    log.feed(buy_all(make, names=KALSHIS, leg_order="TOGETHER"))
    saga = log.last(Saga)
    assert (saga.state, saga.reason, saga.leg_order) == ("REFUSED", "NOT_READY", "UNKNOWN")

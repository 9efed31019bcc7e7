"""Grants that decide should never have made, straight onto decision.order: not a byte of them reaches the venue."""

import dataclasses

import msgspec
import pytest

from core.runtime import topics
from core.runtime.clock import NS_PER_S
from execute.views import Mode, Purse
from schemas.decision import Jurisdiction, Profile
from schemas.market import Status

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


async def refused(bench, words, **changes):
    """Write a Grant past decide and return why the gateway refused it; the venue heard nothing."""
    before = bench.attempts
    grant = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * NS_PER_S, **changes)
    update = await bench.terminal(grant.id)
    assert update.status == "REJECTED"
    assert update.reason.startswith("gateway: ")
    assert words in update.reason
    assert bench.submittings(grant.id) == []
    assert bench.attempts == before
    return update


async def passes(bench, **changes):
    """Write a Grant that nothing speaks against: the very same order reaches the venue."""
    before = bench.attempts
    grant = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * NS_PER_S, **changes)
    await bench.until(lambda: bench.attempts == before + 1 and bench.statuses(grant.id))
    return grant


# --- book usable and age


@BOTH
@pytest.mark.parametrize("state", ["STALE", "SUSPECT", "SYNCING", "UNKNOWN"])
async def test_book_that_is_not_live_refuses(new_bench, venue, state) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        bench.quote(state=state, cause="gap")
        await bench.until(lambda: running.gateway.market.quotes[bench.instrument.instrument][1].state == state)
        for purpose in ("ENTRY", "HEDGE", "UNWIND"):
            await refused(bench, f"is {state}", purpose=purpose)


@BOTH
async def test_book_whose_ticks_are_old_refuses(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.ticks = False
        await bench.until(lambda: bench.clock.now_ns() - bench.running[0].gateway.market.ticks[0] > 1.2 * NS_PER_S)
        await refused(bench, "ms old")


@BOTH
async def test_instrument_without_a_quote_refuses(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        other = msgspec.structs.replace(bench.instrument, instrument=f"{venue}:OTHER")
        bench.log.append(topics.MARKET_INSTRUMENT, other.instrument, other)
        await bench.start()
        await refused(bench, "no quote", instrument=other.instrument)
        await refused(bench, "not a known instrument", instrument=f"{venue}:NEVER")


# --- numbers


@BOTH
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": 4_455, "size": 10 * E6}, "not on the grid"),
        ({"price": 0}, "between 0 and one dollar"),
        ({"price": 10_000}, "between 0 and one dollar"),
        ({"size": 10 * E6 + 1}, "multiple"),
        ({"price": 4_400, "size": 5_000}, "minimum"),
        ({"size": 1_010 * E6, "price": 500}, "above this gateway's 1000000000e-6"),
        ({"size": 600 * E6}, "for one order"),
        ({"price": 5_600}, "above the best ask"),
        ({"price_exp": -2}, "exponents"),
    ],
)
async def test_numbers_out_of_bounds_are_refused(new_bench, venue, changes, words) -> None:
    async with new_bench(venue) as bench:
        bench.limits = dataclasses.replace(bench.limits, order_notional_max_e6=200 * E6)
        bench.instrument = msgspec.structs.replace(bench.instrument, tick_from=[100], tick_to=[9_900], tick_step=[100])
        bench.log.append(topics.MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        await bench.start()
        await refused(bench, words, **changes)


@BOTH
async def test_sell_far_below_the_best_bid_is_refused(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        await refused(bench, "below the best bid", side="SELL", outcome="NO", price=3_300)


# --- limits of the gateway


@BOTH
async def test_money_of_one_order_holds_back_entries_and_hedges_and_no_exit(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.limits = dataclasses.replace(bench.limits, order_notional_max_e6=4 * E6, size_max=20 * E6)
        await bench.start()
        for purpose in ("ENTRY", "HEDGE"):
            await refused(bench, "for one order", purpose=purpose, price=4_400, time_in_force="GTC")
        await passes(bench, purpose="UNWIND", price=4_400, time_in_force="GTC")
        await refused(bench, "above this gateway's 20000000e-6", purpose="UNWIND", price=4_400, size=21 * E6)


@BOTH
async def test_burst_in_one_batch_is_held_to_the_day_and_to_the_orders_that_may_be_out(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        # Three of 10 x 0.44 fit into 15 dollars of a day; four orders may be out.
        bench.limits = dataclasses.replace(bench.limits, day_notional_max_e6=15 * E6, open_orders_max=4)
        await bench.start()
        grants = [bench.grant(price=4_400, time_in_force="GTC") for _ in range(8)]
        ends = [await bench.until(lambda grant=grant: bench.statuses(grant.id)) for grant in grants]
        assert sum("ACCEPTED" in statuses for statuses in ends) == 3
        assert bench.attempts == 3
        reasons = [update.reason for grant in grants for update in bench.updates(grant.id) if update.reason]
        assert all("day's notional" in reason for reason in reasons)
        assert len(reasons) == 5


@BOTH
async def test_burst_in_one_batch_is_held_to_the_open_orders(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.limits = dataclasses.replace(bench.limits, open_orders_max=2)
        await bench.start()
        grants = [bench.grant(price=4_400, time_in_force="GTC") for _ in range(6)]
        ends = [await bench.until(lambda grant=grant: bench.statuses(grant.id)) for grant in grants]
        assert sum("ACCEPTED" in statuses for statuses in ends) == 2
        assert bench.attempts == 2


# --- market and venue


@BOTH
@pytest.mark.parametrize("status", ["PENDING", "PAUSED", "CLOSED", "DETERMINED", "SETTLED"])
async def test_market_that_does_not_trade_refuses(new_bench, venue, status) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        now = bench.clock.now_ns()
        record = Status(
            instrument=bench.instrument.instrument,
            epoch=1,
            frame_no=1,
            index=0,
            status=status,
            price_exp=-4,
            venue_ts_ns=now,
            recv_ts_ns=now,
        )
        bench.log.append(topics.DERIVED_BOOK, bench.instrument.instrument, record)
        await bench.until(lambda: running.gateway.market.words)
        await refused(bench, f"is {status}")


@BOTH
async def test_market_past_its_close_refuses(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.instrument = msgspec.structs.replace(bench.instrument, close_ts_ns=bench.clock.now_ns())
        bench.log.append(topics.MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        await bench.start()
        await refused(bench, "closed at")


@BOTH
async def test_venue_that_takes_cancels_only_refuses_entries_and_lets_hedges_try(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        state = running.gateway.guards.venue_state
        state.polled(Mode.CANCEL_ONLY, "maintenance", bench.clock.now_ns())
        await refused(bench, "CANCEL_ONLY: maintenance")
        await passes(bench, purpose="HEDGE")
        state.polled(Mode.OPEN, "", bench.clock.now_ns())
        await passes(bench)


async def test_status_page_of_kalshi_is_asked_and_a_pause_for_maintenance_refuses(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.exchange.trading = False
        running = await bench.start()
        await bench.until(lambda: running.gateway.guards.venue_state.mode(bench.clock.now_ns()) is Mode.CANCEL_ONLY)
        await refused(bench, "trading is paused")


async def test_pause_that_an_answer_tells_holds_the_next_entries_back(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.exchange.trading = False
        told = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * NS_PER_S)
        assert "trading_is_paused" in (await bench.terminal(told.id)).reason
        await refused(bench, "CANCEL_ONLY")
        bench.exchange.trading = True
        # It is asked again by an order, once the first second is over.
        state = bench.running[0].gateway.guards.venue_state
        await bench.until(lambda: state.mode(bench.clock.now_ns()) is Mode.OPEN)
        await passes(bench)


# --- the law


def sign(bench, verdict, category="*", entity="Acme BV", **changes):
    fields = dict(
        id=f"{entity}/{bench.name}/{category}",
        entity=entity,
        venue=bench.name,
        category=category,
        verdict=verdict,
        signed_by="counsel",
        reason="memo 7",
        signed_ts_ns=1,
    )
    record = Jurisdiction(**(fields | changes))
    bench.log.append(topics.DECISION_JURISDICTION, record.id, record)


def profile(bench, entity="Acme BV"):
    record = Profile(id=bench.account, venue=bench.name, account_set="main", entity=entity, currency="USD")
    bench.log.append(topics.DECISION_PROFILE, record.id, record)


@BOTH
async def test_nothing_is_sent_where_nobody_signed_off(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.sign_off_required = True
        profile(bench)
        running = await bench.start(ready=False)
        await bench.until(lambda: "nobody signed off" in running.gateway.health.not_ready_reason())
        bench.quote()
        for purpose in ("ENTRY", "HEDGE"):
            await refused(bench, "nobody signed off", purpose=purpose)
        assert not any(alive.ready for alive in bench.alive())
        # Another entity's word says nothing of this one.
        sign(bench, "ALLOWED", entity="Other Inc")
        await refused(bench, "nobody signed off")
        sign(bench, "ALLOWED")
        await bench.until(lambda: not running.gateway.health.not_ready_reason())
        await passes(bench)


@BOTH
@pytest.mark.parametrize(
    ("verdict", "purpose", "is_sent"),
    [
        ("FORBIDDEN", "ENTRY", False),
        ("FORBIDDEN", "HEDGE", False),
        ("FORBIDDEN", "UNWIND", False),
        ("CLOSE_ONLY", "ENTRY", False),
        ("CLOSE_ONLY", "HEDGE", False),
        ("CLOSE_ONLY", "UNWIND", True),
        ("ALLOWED", "ENTRY", True),
    ],
)
async def test_verdict_for_the_category_is_obeyed_at_each_order(new_bench, venue, verdict, purpose, is_sent) -> None:
    async with new_bench(venue) as bench:
        bench.instrument = msgspec.structs.replace(bench.instrument, category="Elections")
        bench.log.append(topics.MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        profile(bench)
        sign(bench, "ALLOWED")
        sign(bench, verdict, category="elections")
        running = await bench.start()
        law = running.gateway.guards.jurisdiction
        await bench.until(lambda: law.signed_off("Elections", bench.clock.now_ns())[0] == verdict)
        if is_sent:
            await passes(bench, purpose=purpose)
        else:
            await refused(bench, f"is {verdict}: memo 7 (counsel)", purpose=purpose)


@BOTH
async def test_sign_off_that_ended_is_none(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.sign_off_required = True
        profile(bench)
        sign(bench, "ALLOWED", expires_ts_ns=bench.clock.now_ns() + 2 * NS_PER_S)
        await bench.start()
        await passes(bench)
        await bench.until(lambda: "nobody signed off" in bench.running[0].gateway.health.not_ready_reason())
        await refused(bench, "nobody signed off", purpose="HEDGE")


# --- the money


@BOTH
async def test_order_the_cash_does_not_cover_is_refused_and_cash_is_counted_once(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.timing = dataclasses.replace(bench.timing, report_s=60.0)
        running = await bench.start()
        now = bench.clock.now_ns()
        resting_is_out = venue == "kalshi"
        # Two of 10 x 0.44 with a dollar for fees each.
        running.gateway.guards.funds.report(
            Purse(as_of_ns=now, cash_e6={0: 11 * E6}, resting_is_out=resting_is_out, tokens={})
        )
        await passes(bench, price=4_400, time_in_force="GTC")
        await passes(bench, price=4_400, time_in_force="GTC")
        await refused(bench, "5400000e-6 are needed", price=4_400, time_in_force="GTC")
        # A hedge is the venue's to refuse.
        await passes(bench, price=4_400, time_in_force="GTC", purpose="HEDGE")


async def test_allowance_that_does_not_cover_an_order_refuses(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        bench.timing = dataclasses.replace(bench.timing, report_s=60.0)
        running = await bench.start()
        now = bench.clock.now_ns()
        running.gateway.guards.funds.report(
            Purse(as_of_ns=now, cash_e6={0: 1_000 * E6}, allowance_e6=5 * E6, resting_is_out=False, tokens={})
        )
        await refused(bench, "allowance is 5000000e-6")


async def test_token_that_is_not_confirmed_is_not_sold(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        await refused(bench, "of token", side="SELL", token_side="SELL", price=4_500)


async def test_cash_of_another_shard_covers_nothing(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.instrument = msgspec.structs.replace(bench.instrument, exchange_index=2)
        bench.log.append(topics.MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        await bench.start()
        await refused(bench, "cash on shard 2 is 0e-6")


# --- post-only


@BOTH
async def test_post_only_that_would_take_is_refused(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        await refused(bench, "crosses the book", post_only=True, time_in_force="GTC", price=4_500)
        await refused(bench, "never rest", post_only=True, time_in_force="IOC", price=4_400)

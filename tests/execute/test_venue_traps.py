"""The traps the venues' pages name, and the faults of orders, against one gateway: one order, every fill, no guess."""

import asyncio

import msgspec
import pytest

from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.topics import DERIVED_BOOK, MARKET_INSTRUMENT
from schemas.market import Status
from schemas.order import Settled
from simulate.faults import parse
from tests.leaping import leaping

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


def befall(bench, fault, **parameters):
    """Let the bench's venue do something wrong."""
    bench.world.injector.inject(parse({"venue": bench.name, "fault": fault, **parameters}))


def filled(bench, grant):
    return sum(fill.size for fill in bench.fills(grant.id))


async def ends(bench, grant, status, size, timeout_s=10.0):
    """Wait for a terminal word and all fills, and check that the venue has one order."""
    ended = await bench.terminal(grant.id, timeout_s)
    assert (ended.status, ended.filled) == (status, size)
    await bench.until(lambda: filled(bench, grant) == size, f"fills of {size}", timeout_s)
    assert len(bench.submittings(grant.id)) == 1
    return ended


# --- answers


@BOTH
@pytest.mark.parametrize("how", ["swallow", "reset", "504", "500"])
@leaping
async def test_accepted_order_whose_answer_is_lost_is_one_order_and_its_fills_are_found(new_bench, venue, how) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        # Nothing private tells: only asking does.
        befall(bench, "private_silent", seconds=5.0)
        befall(bench, "accept_then_timeout", how=how, count=3)
        grant = bench.grant(purpose="HEDGE")
        await ends(bench, grant, "FILLED", 10 * E6)
        assert "OUTCOME_UNKNOWN" in bench.statuses(grant.id)
        assert len(bench.venue_orders) == 1


@BOTH
@leaping
async def test_order_withdrawn_after_its_acceptance_ends_unfilled(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "reject_after_accept", delay_ms=150)
        grant = bench.grant(time_in_force="GTC")
        ended = await ends(bench, grant, "CANCELLED", 0)
        assert ended.filled == 0
        assert bench.statuses(grant.id)[0] == "ACCEPTED"


@BOTH
@leaping
async def test_part_that_others_left_is_what_is_said(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "partial_fill", share=0.3)
        grant = bench.grant(time_in_force="IOC" if venue == "kalshi" else "GTC")
        await bench.until(lambda: filled(bench, grant) == 3 * E6)
        bench.cancel(grant.id)
        await ends(bench, grant, "CANCELLED", 3 * E6)


@BOTH
@leaping
async def test_fill_before_the_acknowledgement_is_the_acknowledgement(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "fill_before_acknowledgement", delay_ms=400)
        grant = bench.grant()
        await bench.until(lambda: filled(bench, grant) == 10 * E6)
        assert bench.clock.now_ns() < grant.now_ns + 350 * NS_PER_MS
        await ends(bench, grant, "FILLED", 10 * E6)
        await asyncio.sleep(0.5)
        assert bench.attempts == 1
        # The late answer says what is known: no second word of the same.
        assert [update.status for update in bench.updates(grant.id) if update.terminal] == ["FILLED"]


@BOTH
@pytest.mark.parametrize("takes_effect", [False, True])
@leaping
async def test_server_error_is_unknown_until_the_venue_was_asked(new_bench, venue, takes_effect) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        running.gateway._venue.acceptance_window_s = 1.0
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "private_silent", seconds=1.5)
        befall(bench, "order_5xx", seconds=0.8, statuses=[500, 503], takes_effect=takes_effect)
        grant = bench.grant(purpose="HEDGE")
        await bench.until(lambda: "OUTCOME_UNKNOWN" in bench.statuses(grant.id))
        if takes_effect:
            await ends(bench, grant, "FILLED", 10 * E6)
        else:
            ended = await ends(bench, grant, "REJECTED", 0)
            assert ended.reason.startswith("not found at the venue")
        assert len(bench.venue_orders) == takes_effect


@BOTH
@leaping
async def test_throttled_order_is_repeated_until_send_by_and_never_beyond(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 500
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "order_429", seconds=3.0)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status in {"EXPIRED_UNSENT", "REJECTED"}
        assert ended.filled == 0
        assert bench.venue_orders == []
        await asyncio.sleep(0.6)
        assert bench.venue_orders == []


# --- private streams and reads


@BOTH
@leaping
async def test_silent_private_stream_loses_nothing(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 4)
        befall(bench, "private_silent", seconds=3.0)
        grant = bench.grant(time_in_force="GTC")
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.stranger("SELL", 4_500, 6)
        await ends(bench, grant, "FILLED", 10 * E6)


@BOTH
@leaping
async def test_fills_that_come_late_are_waited_for(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "late_fills", delay_ms=900, seconds=2.0)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert bench.fills(grant.id) == []
        await ends(bench, grant, "FILLED", 10 * E6)


@BOTH
@leaping
async def test_fills_that_come_twice_and_in_any_order_are_said_once(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        for price in (4_400, 4_500):
            bench.stranger("SELL", price, 5)
        befall(bench, "double_fills", delay_ms=50)
        befall(bench, "private_reordered", window_ms=80)
        grant = bench.grant()
        await ends(bench, grant, "FILLED", 10 * E6)
        await asyncio.sleep(0.3)
        records = [fill.fill for fill in bench.fills(grant.id)]
        assert len(records) == len(set(records)) == 2


@leaping
async def test_rest_says_resting_after_the_stream_said_filled(new_bench) -> None:
    """Kalshi's read model lags its acknowledgements: what was filled is not taken back by it."""
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        befall(bench, "lagging_reads", lag_ms=1_500, seconds=3.0)
        bench.stranger("SELL", 4_400, 10)
        # A cancel of what is executed is a 404, and the look-up behind it still says resting.
        bench.cancel(grant.id)
        await ends(bench, grant, "FILLED", 10 * E6)
        await asyncio.sleep(1.0)
        assert bench.statuses(grant.id)[-1] == "FILLED"


@leaping
async def test_not_found_in_a_read_that_lags_proves_nothing(new_bench) -> None:
    """The read is as old as the venue says: an order of after that may be there."""
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        running.gateway._venue.acceptance_window_s = 0.2
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "private_silent", seconds=4.0)
        befall(bench, "lagging_reads", lag_ms=2_000, seconds=4.0)
        befall(bench, "accept_then_timeout", how="504", count=9)
        grant = bench.grant(purpose="HEDGE")
        ended = await ends(bench, grant, "FILLED", 10 * E6)
        assert ended.ts_ns > grant.now_ns + NS_PER_S
        assert "REJECTED" not in bench.statuses(grant.id)


# --- cancels


@BOTH
@leaping
async def test_cancel_that_finds_nothing_may_mean_executed(new_bench, venue) -> None:
    """404 on Kalshi, `not_canceled` on Polymarket: fills are read before anybody believes it was cancelled."""
    async with new_bench(venue) as bench:
        await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        befall(bench, "private_silent", seconds=3.0)
        bench.stranger("SELL", 4_400, 10)
        bench.cancel(grant.id)
        await ends(bench, grant, "FILLED", 10 * E6)
        assert "CANCELLED" not in bench.statuses(grant.id)


@BOTH
@leaping
async def test_cancel_whose_answer_is_lost_is_asked_for_and_repeated(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant(time_in_force="GTC")
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        befall(bench, "private_silent", seconds=3.0)
        befall(bench, "accept_then_timeout", what="cancel", how="504")
        bench.cancel(grant.id)
        await ends(bench, grant, "CANCELLED", 3 * E6)


@leaping
async def test_delayed_order_cannot_be_cancelled_and_is_not_taken_for_gone(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "taker_delay", delay_ms=900)
        grant = bench.grant()
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.cancel(grant.id)
        await ends(bench, grant, "FILLED", 10 * E6)
        assert bench.updates(grant.id)[0].reason == "delayed"


@leaping
async def test_cancel_names_its_market_so_that_it_reaches_the_right_shard(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.place.exchange_index = bench.exchange.accounts["main"].exchange_index = 2
        bench.instrument = msgspec.structs.replace(bench.instrument, exchange_index=2)
        bench.log.append(MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant(time_in_force="GTC")
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        assert bench.venue_orders[0].body["exchange_index"] == 2
        bench.cancel(grant.id)
        await ends(bench, grant, "CANCELLED", 3 * E6)


# --- what a venue does for a while


@leaping
async def test_restart_of_the_matching_engine_takes_no_orders_and_still_cancels(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        rests = bench.grant(time_in_force="GTC")
        await bench.until(lambda: "ACCEPTED" in bench.statuses(rests.id))
        befall(bench, "order_425", seconds=1.5, post_only_s=0.5)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) in {("REJECTED", 0), ("EXPIRED_UNSENT", 0)}
        bench.cancel(rests.id)
        await ends(bench, rests, "CANCELLED", 3 * E6)
        assert len(bench.venue_orders) == 1


@leaping
async def test_paused_trading_is_a_refusal_and_cancels_go_on(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        rests = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(rests.id))
        befall(bench, "trading_paused", seconds=1.5)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        bench.cancel(rests.id)
        await ends(bench, rests, "CANCELLED", 0)


# --- settlement


@leaping
async def test_failed_settlement_is_said_and_takes_the_fill_back(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "settlement_failed", how="failed")
        grant = bench.grant()
        await ends(bench, grant, "FILLED", 10 * E6)
        (settled,) = await bench.until(lambda: bench.events(grant.id, Settled))
        assert (settled.settlement, settled.fill) == ("FAILED", bench.fills(grant.id)[0].fill)
        account = bench.exchange.accounts["main"]
        assert account.collateral_e6 == account.collateral_start_e6


@leaping
async def test_retried_settlement_ends_confirmed_once(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "settlement_failed", how="retrying")
        grant = bench.grant()
        await ends(bench, grant, "FILLED", 10 * E6)
        await bench.until(lambda: bench.events(grant.id, Settled))
        await asyncio.sleep(0.3)
        assert [settled.settlement for settled in bench.events(grant.id, Settled)] == ["CONFIRMED"]


@leaping
async def test_ghost_fill_is_found_by_asking(new_bench) -> None:
    """Matched, never settled, and the stream says no more of it."""
    async with new_bench("polymarket") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        befall(bench, "settlement_failed", how="ghost")
        grant = bench.grant()
        await ends(bench, grant, "FILLED", 10 * E6)
        await asyncio.sleep(0.3)
        assert bench.events(grant.id, Settled) == []
        # As the upkeep does when a settlement is overdue.
        (tracked,) = running.gateway.orders.unsettled()
        found = await running.gateway._venue.look_up(running.gateway._http, tracked.subject())
        running.gateway.journal.views(found.views, bench.clock.now_ns(), order=tracked)
        (settled,) = await bench.until(lambda: bench.events(grant.id, Settled))
        assert settled.settlement == "FAILED"


@leaping
async def test_dust_below_a_hundredth_of_a_share_is_not_signed(new_bench) -> None:
    """The venue signs hundredths of a share: an order of more would be one of less than was granted."""
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant(size=10 * E6 + 4_321)
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        assert ended.reason == "gateway: size 10004321 is not a multiple of 10000"
        assert (bench.submittings(grant.id), bench.venue_orders) == ([], [])


@leaping
@pytest.mark.parametrize(("was", "becomes", "price"), [(100, 10, 4_450), (10, 100, 4_500)])
async def test_order_is_signed_for_the_tick_that_holds_now(new_bench, was: int, becomes: int, price: int) -> None:
    """A tick changes mid-life, in band: what is signed by the description's would be off the grid, or be refused."""
    async with new_bench("polymarket") as bench:
        name = bench.instrument.instrument
        bench.exchange.set_tick(name.removeprefix("polymarket:"), was)
        bench.instrument = msgspec.structs.replace(
            bench.instrument, tick_from=[was], tick_to=[10_000 - was], tick_step=[was]
        )
        bench.log.append(MARKET_INSTRUMENT, name, bench.instrument)
        running = await bench.start()
        bench.exchange.set_tick(name.removeprefix("polymarket:"), becomes)
        word = Status(
            instrument=name,
            epoch=1,
            frame_no=1,
            index=0,
            status="UNKNOWN",
            price_exp=-4,
            tick_from=[becomes],
            tick_to=[10_000 - becomes],
            tick_step=[becomes],
            recv_ts_ns=bench.clock.now_ns(),
        )
        bench.log.append(DERIVED_BOOK, name, word)
        await bench.until(lambda: running.gateway.market.instruments[name].tick_step == [becomes], "the grid is known")
        bench.stranger("SELL", price, 20)
        grant = bench.grant(price=price, size=10_330_000)
        await ends(bench, grant, "FILLED", 10_330_000)

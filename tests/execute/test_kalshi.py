"""The Kalshi gateway against the simulated venue: real signatures, real sockets, a log in memory."""

import asyncio
import json
from types import SimpleNamespace

import msgspec
import pytest

from core.domain.errors import Unavailable
from core.runtime import topics
from execute import upkeep
from execute.ports import Reply
from schemas.order import PrivateFrame, VenueCall, VenueReport
from tests.execute.test_kill import refusing
from tests.execute.unreached import kalshi_venue
from tests.leaping import leaping

E6 = 1_000_000


async def test_order_is_filled_and_every_fill_is_said_once(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_400, 4)
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        fills = await bench.until(lambda: len(bench.fills(grant.id)) == 2 and bench.fills(grant.id))
        assert [(f.price_e6, f.size, f.token_side, f.outcome) for f in fills] == [
            (440_000, 4 * E6, "BUY", "YES"),
            (450_000, 6 * E6, "BUY", "YES"),
        ]
        assert all(f.settlement == "CONFIRMED" and f.asset == "USD" and f.liquidity == "TAKER" for f in fills)
        account = bench.exchange.accounts["main"]
        assert sum(f.notional_e6 + f.fee_e6 for f in fills) == 100_000 * E6 - account.cash_e6
        assert bench.attempts == 1


async def test_submitting_holds_the_exact_body_and_stands_first(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.terminal(grant.id)
        first = bench.events(grant.id)[0]
        assert first.path == "/trade-api/v2/portfolio/events/orders"
        assert msgspec.json.decode(first.body) == {
            "ticker": bench.place.ticker,
            "client_order_id": grant.client_id,
            "side": "bid",
            "count": "10.00",
            "price": "0.4500",
            "time_in_force": "immediate_or_cancel",
            "self_trade_prevention_type": "taker_at_cross",
            "exchange_index": 0,
        }
        assert bench.venue_orders[0].body == msgspec.json.decode(first.body)
        # The trail carries on from the grant: one stamp of accounts, one of this gateway.
        assert len(first.trail) == len(grant.trail) + 2


async def test_ioc_that_fills_in_part_ends_cancelled_with_the_venues_figure(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("CANCELLED", 3 * E6)
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 3 * E6)


async def test_ask_sells_yes_and_its_fill_says_so(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("BUY", 4_400, 20)
        grant = bench.grant(side="SELL", outcome="NO", price=4_400)
        await bench.terminal(grant.id)
        fill = (await bench.until(lambda: bench.fills(grant.id)))[0]
        assert (fill.outcome, fill.token_side, fill.price_e6, fill.notional_e6) == ("YES", "SELL", 440_000, 4_400_000)


async def test_venue_refusal_is_a_terminal_record_in_the_venues_words(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        bench.exchange.trading = False
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        assert "trading is paused" in ended.reason
        assert bench.venue_orders == []


async def test_cancel_takes_back_what_rests(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant(time_in_force="GTC")
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.cancel(grant.id)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("CANCELLED", 3 * E6)
        assert not bench.exchange.accounts["main"].resting


async def test_cancel_of_an_executed_order_ends_it_filled(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.stranger("SELL", 4_400, 10)
        bench.cancel(grant.id)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        fill = (await bench.until(lambda: bench.fills(grant.id)))[0]
        assert fill.liquidity == "MAKER"


async def test_report_states_cash_positions_and_open_orders_by_our_id(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant(time_in_force="GTC")
        report = await bench.until(
            lambda: next(
                (r for r in bench.log.read(topics.ORDER_EVENT) if isinstance(r, VenueReport) and r.open_orders), None
            )
        )
        assert report.open_orders == [grant.id]
        assert [(h.instrument, h.outcome, h.size) for h in report.holdings] == [
            (bench.instrument.instrument, "YES", 3 * E6)
        ]
        assert report.as_of_ns > 0


async def test_raw_calls_and_frames_are_kept_without_secrets(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.terminal(grant.id)
        await bench.until(lambda: bench.fills(grant.id))
        frames = bench.log.read(topics.ORDER_FRAME)
        call = next(f for f in frames if isinstance(f, VenueCall) and f.order == grant.id)
        assert (call.method, call.status) == ("POST", 201)
        assert call.request == bench.submittings(grant.id)[0].body
        assert 0 < call.sent_ts_ns <= call.recv_ts_ns <= grant.send_by_ns + 10**9
        assert any(isinstance(f, PrivateFrame) and b'"fill"' in f.payload for f in frames)
        key = bench.world.credentials.kalshi[0]
        everything = b"".join(data for log in bench.log.records.values() for _, data in log)
        assert key.key_id.encode() not in everything
        assert b"PRIVATE KEY" not in everything


async def test_live_rate_limits_of_the_account_are_used(new_bench) -> None:
    async with new_bench("kalshi", kalshi_tier="expert") as bench:
        running = await bench.start()
        await bench.until(lambda: running.gateway._limiter._buckets["write"].budget.refill_per_s == 600)


async def test_report_states_on_which_shard_the_cash_lies(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.exchange.accounts["main"].exchange_index = 3
        await bench.start()
        report = await bench.until(
            lambda: next((r for r in bench.log.read(topics.ORDER_EVENT) if isinstance(r, VenueReport)), None)
        )
        assert (report.cash_shards, report.shard_cash_e6) == ([3], [report.cash_e6])
        assert report.cash_e6 > 0


async def test_report_of_a_venue_without_shards_states_none(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        report = await bench.until(
            lambda: next((r for r in bench.log.read(topics.ORDER_EVENT) if isinstance(r, VenueReport)), None)
        )
        assert (report.cash_shards, report.shard_cash_e6) == ([], [])


# --- the account's own settings


async def test_account_whose_collateral_is_returned_across_events_takes_no_entry_until_it_is_off(
    new_bench, monkeypatch
) -> None:
    monkeypatch.setattr(upkeep, "ACCOUNT_POLL_S", 0.05)
    async with new_bench("kalshi") as bench:
        bench.exchange.accounts["main"].nets_events = True
        running = await bench.start(ready=False)
        health = running.gateway.health
        await bench.until(lambda: health.not_ready_reason().startswith("account: collateral return across events"))
        bench.exchange.accounts["main"].nets_events = False
        await bench.until(lambda: not health.not_ready_reason())


NETTING = "/trade-api/v2/portfolio/subaccounts/netting"


@pytest.mark.parametrize("status", [500, 502, 401])
@leaping
async def test_no_entry_is_taken_before_the_venue_said_how_the_account_is_set(new_bench, status) -> None:
    async with new_bench("kalshi") as bench:
        bench.exchange.accounts["main"].nets_events = True
        async with (door := refusing(bench, {NETTING}, status=status)) as base:
            bench.front = base
            running = await bench.start(ready=False)
            health = running.gateway.health
            await asyncio.sleep(30.0)
            assert health.not_ready_reason() == "account: how it is set is not known yet: the venue was not heard on it"
            bench.quote()
            await bench.until(lambda: running.gateway.market.quotes)
            bench.stranger("SELL", 4_500, 20)
            entry = bench.grant()
            assert "account: " in (await bench.terminal(entry.id)).reason
            assert bench.attempts == 0
            # What closes is not held back.
            hedge = bench.grant(purpose="HEDGE")
            assert (await bench.terminal(hedge.id)).status == "FILLED"
            assert not any(alive.ready for alive in bench.alive())
            # The first answer is waited for in seconds; it may be a bad one.
            door.paths = set()
            await bench.until(lambda: health.not_ready_reason().startswith("account: collateral return across events"))


@leaping
async def test_account_that_was_found_well_set_stays_so_while_the_venue_does_not_say(new_bench, monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "ACCOUNT_POLL_S", 1.0)
    monkeypatch.setattr(upkeep, "ACCOUNT_AGAIN_S", 1.0)
    async with new_bench("kalshi") as bench, (door := refusing(bench, set())) as base:
        bench.front = base
        health = (await bench.start()).gateway.health
        door.paths = {NETTING}
        await asyncio.sleep(5.0)
        assert health.not_ready_reason() == ""
        bench.exchange.accounts["main"].nets_events = True
        door.paths = set()
        await bench.until(lambda: health.not_ready_reason().startswith("account: collateral return across events"))
        door.paths = {NETTING}
        bench.exchange.accounts["main"].nets_events = False
        await asyncio.sleep(5.0)
        assert health.not_ready_reason().startswith("account: collateral return across events")


@pytest.mark.parametrize("status", [403, 404])
async def test_venue_that_does_not_answer_the_question_holds_nothing_back(new_bench, status) -> None:
    async with new_bench("kalshi") as bench, refusing(bench, {NETTING}, status=status) as base:
        bench.front = base
        running = await bench.start()
        assert running.gateway.health.not_ready_reason() == ""


async def test_venue_without_such_a_setting_holds_nothing_back(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        running = await bench.start()
        assert running.gateway.health.not_ready_reason() == ""


@pytest.mark.parametrize(
    ("status", "configs", "fault"),
    [
        (200, [(0, True), (3, False)], "collateral return"),
        # Our orders go to the primary account.
        (200, [(0, False), (3, True)], ""),
        (200, [], ""),
        # Not every account may ask.
        (403, [], ""),
        (404, [], ""),
    ],
)
async def test_setting_of_the_primary_account_counts(status, configs, fault) -> None:
    venue = kalshi_venue()
    rows = [{"subaccount_number": number, "enabled": on, "exchange_index": 0} for number, on in configs]

    async def call(request, *, lane) -> Reply:
        assert request.path == "/trade-api/v2/portfolio/subaccounts/netting"
        return Reply(status, json.dumps({"netting_configs": rows}).encode(), 0, 0)

    found = await venue.account_fault(SimpleNamespace(call=call))
    assert found.startswith(fault)
    assert bool(found) is bool(fault)


async def test_venue_that_does_not_say_how_the_account_is_set_is_asked_again() -> None:
    venue = kalshi_venue()

    async def call(request, *, lane) -> Reply:
        return Reply(502, b"", 0, 0)

    with pytest.raises(Unavailable, match="502"):
        await venue.account_fault(SimpleNamespace(call=call))

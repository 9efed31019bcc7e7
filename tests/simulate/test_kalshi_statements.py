"""What simulated Kalshi states of events and series and changes while it runs: listed, told and charged as documented."""

import time

from simulate.universe import make_universe

MARKET = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)[0]
TICKER, EVENT, SERIES = MARKET.kalshi_ticker, MARKET.kalshi_event, MARKET.kalshi_series
LIFECYCLE = {"id": 1, "cmd": "subscribe", "params": {"channels": ["market_lifecycle_v2"]}}


async def stated(venues, path):
    status, body = await venues.get(venues.kalshi.rest + path)
    assert status == 200
    return body


async def fee_of_one(venues):
    """Trade one contract at 0.50 between two accounts; return the taker's fee."""
    await venues.kalshi.order(TICKER, "ask", "0.5000", "1.00")
    _, body = await venues.kalshi_second.order(TICKER, "bid", "0.5000", "1.00", time_in_force="immediate_or_cancel")
    return body["average_fee_paid"]


def test_an_override_is_told_stated_and_charged(run):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            await stream.send(LIFECYCLE)
            assert await fee_of_one(venues) == "0.0175"
            await venues.sim("/sim/event", {"event": EVENT, "fee_type": "quadratic", "multiplier": "2"})
            told = await stream.until("event_fee_update")
            expected = {"event_ticker": EVENT, "fee_type_override": "quadratic", "fee_multiplier_override": 2}
            assert told["msg"] == expected
            event = (await stated(venues, f"/events/{EVENT}"))["event"]
            assert {name: event[name] for name in expected} == expected
            assert await fee_of_one(venues) == "0.0350"
            await venues.sim("/sim/event", {"event": EVENT})
            assert (await stream.until("event_fee_update"))["msg"]["fee_type_override"] is None
            assert await fee_of_one(venues) == "0.0175"

    run(scenario)


def test_a_scheduled_change_is_listed_until_its_time_and_charged_from_then_on(run):
    async def scenario(venues):
        at_s = time.time() + 3_600
        await venues.sim("/sim/event", {"series": SERIES, "fee_type": "quadratic", "multiplier": "0.5", "at_s": at_s})
        (change,) = (await stated(venues, "/series/fee_changes"))["series_fee_change_arr"]
        assert (change["series_ticker"], change["fee_multiplier"]) == (SERIES, 0.5)
        assert (await stated(venues, "/series/fee_changes?series_ticker=OTHER"))["series_fee_change_arr"] == []
        await venues.sim("/sim/event", {"event": EVENT, "multiplier": "3", "at_s": time.time() - 1})
        await venues.sim("/sim/event", {"event": EVENT, "multiplier": "4", "at_s": at_s})
        (change,) = (await stated(venues, "/events/fee_changes"))["event_fee_changes"]
        assert (change["fee_type_override"], change["fee_multiplier_override"]) == (None, 4)
        # The one whose time had come holds, and is upcoming no longer.
        assert await fee_of_one(venues) == "0.0525"
        assert (await stated(venues, f"/series/{SERIES}"))["series"]["fee_multiplier"] == 1

    run(scenario)


def test_a_closing_time_is_told_and_stated_and_sources_are_only_stated(run):
    async def scenario(venues):
        async with venues.kalshi.stream() as stream:
            await stream.send(LIFECYCLE)
            await stream.until("subscribed")
            sources = [{"name": "Another bureau", "url": "https://bureau.test"}]
            await venues.sim("/sim/event", {"event": EVENT, "sources": sources})
            await venues.sim("/sim/market", {"ticker": TICKER, "close_s": 1_900_000_000})
            told = await stream.next()
            assert told["msg"] == {
                "market_ticker": TICKER,
                "event_type": "close_date_updated",
                "close_ts": 1_900_000_000,
            }
        assert (await stated(venues, f"/markets/{TICKER}"))["market"]["close_time"] == "2030-03-17T17:46:40Z"
        (event,) = (await stated(venues, f"/events?tickers={EVENT},NONE&limit=100"))["events"]
        assert (event["event_ticker"], event["settlement_sources"]) == (EVENT, sources)

    run(scenario)

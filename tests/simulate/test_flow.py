"""The flow: linked books that agree, edges that come and go, a pace that is kept, a recording that is followed."""

import asyncio
import gzip
import random
import time

import pytest

from core.domain.errors import Misconfigured
from simulate.drive import Drive
from simulate.flow import Latent
from simulate.universe import events, links, make_universe
from venues.kalshi.rules import coefficient_e6, trade_fee
from venues.polymarket.rules import taker_fee


def tops(venues, place: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (bid, ask) of a linked market on Kalshi and on Polymarket, both in Kalshi's YES."""
    kalshi = venues.world.kalshi.exchange.markets[place].matcher
    polymarket = venues.world.clob.exchange.markets[place]
    bid, ask = polymarket.matcher.best_bid(), polymarket.matcher.best_ask()
    if polymarket.linked.inverted:
        bid, ask = 10_000 - ask, 10_000 - bid
    return (kalshi.best_bid(), kalshi.best_ask()), (bid, ask)


def edge_e6(venues, place: int) -> int:
    """Return what one contract pair earns at the best prices after both fees, the better way round."""
    kalshi, polymarket = tops(venues, place)

    def net(ask: int, bid: int, fee_buy: int, fee_sell: int) -> int:
        return (bid - ask) * 100 - fee_buy - fee_sell

    def kalshi_fee(price: int) -> int:
        taker = coefficient_e6(fee_type="quadratic", multiplier_e6=1_000_000, is_taker=True)
        return trade_fee(price=price, size=1_000_000, coefficient_e6=taker)

    def polymarket_fee(price: int) -> int:
        return taker_fee(price=price, size=1_000_000, rate_e6=70_000)

    return max(
        net(kalshi[1], polymarket[0], kalshi_fee(kalshi[1]), polymarket_fee(polymarket[0])),
        net(polymarket[1], kalshi[0], polymarket_fee(polymarket[1]), kalshi_fee(kalshi[0])),
    )


def test_quiet_books_agree_and_hold_no_edge(run):
    async def scenario(venues):
        for place, linked in enumerate(venues.world.universe):
            kalshi, polymarket = tops(venues, place)
            assert kalshi[0] < kalshi[1]
            assert polymarket[0] < polymarket[1]
            assert abs(sum(kalshi) - sum(polymarket)) < 600, linked.key
            assert edge_e6(venues, place) < 0, linked.key

    run(scenario, markets=50, inverted_share=0.5, quote_at_start=True)


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
@pytest.mark.parametrize("cents", [8, -8])
def test_edge_appears_above_both_fees_and_vanishes(run, venue, cents):
    async def scenario(venues):
        await venues.sim("/sim/flow", {"running": True})
        await venues.sim("/sim/edge", {"index": 0, "venue": venue, "cents": cents, "seconds": 0.2})
        assert edge_e6(venues, 0) > 5_000
        await asyncio.sleep(0.6)
        assert edge_e6(venues, 0) < 0
        stats = await venues.sim("/sim/stats")
        assert stats["flow"]["edges_begun"] == 1

    run(
        scenario, quote_at_start=True, messages_per_s=50, noise=0, volatility_per_s=0, inverted_share=0.5, taker_share=0
    )


@pytest.mark.parametrize("cents", [4, -4])
def test_all_outcomes_of_an_event_are_cheap_or_dear_together_while_each_pair_agrees(run, cents):
    async def scenario(venues):
        flow = venues.world.flow
        event = events(venues.world.universe, 1)[0]
        places = [market.place for market in event]

        def sums():
            found = [tops(venues, place)[0] for place in places]
            return sum(bid for bid, _ in found), sum(ask for _, ask in found)

        calm = sums()
        assert calm[0] < 10_000 < calm[1]
        flow.push_event(places, cents / 100, 30)
        bids, asks = sums()
        # By four cents for each outcome, as far as the grid allows.
        assert (bids > 10_000) == (cents > 0)
        assert (asks < 10_000) == (cents < 0)
        assert abs(bids - calm[0]) >= 300 * len(places)
        assert all(edge_e6(venues, place) < 0 for place in places)
        assert (await venues.sim("/sim/stats"))["flow"]["event_edges_begun"] == 1
        flow.push_event(places, 0.0, 0)
        await venues.sim("/sim/flow", {"running": True})
        await asyncio.sleep(0.3)
        assert sums()[0] < 10_000 < sums()[1]

    run(scenario, markets=40, events=1, quote_at_start=True, noise=0, volatility_per_s=0, edges_per_s=0)


def test_a_share_of_the_edges_is_within_events(run):
    async def scenario(venues):
        await venues.sim("/sim/flow", {"running": True})
        await asyncio.sleep(1.0)
        stats = (await venues.sim("/sim/stats"))["flow"]
        assert stats["event_edges_begun"] == stats["edges_begun"] > 0

    run(scenario, markets=40, events=2, quote_at_start=True, edges_per_s=20, event_edges=1.0)


def test_flow_keeps_its_pace_and_stops_when_told(run):
    async def scenario(venues):
        flow = venues.world.flow
        flow.running = True
        start, before = time.monotonic(), flow.messages
        await asyncio.sleep(1.5)
        rate = (flow.messages - before) / (time.monotonic() - start)
        assert 500 < rate < 2_400
        await venues.sim("/sim/flow", {"running": False})
        before = flow.messages
        await asyncio.sleep(0.1)
        assert flow.messages == before

    run(scenario, quote_at_start=True, messages_per_s=2_000)


def test_user_order_in_the_way_of_the_flow_is_filled_as_a_maker(run):
    async def scenario(venues):
        market = venues.world.kalshi.exchange.markets[0]
        bid = market.matcher.best_bid()
        # The best bid by one tick: the flow's next seller meets it first.
        status, created = await venues.kalshi.order(
            market.ticker,
            "bid",
            f"0.{bid + 100:04d}" if bid + 100 < market.matcher.best_ask() else f"0.{bid:04d}",
            "1.00",
        )
        assert status == 201
        await venues.sim("/sim/flow", {"running": True})
        await venues.sim("/sim/edge", {"index": 0, "venue": "kalshi", "cents": -20, "seconds": 5})
        _, body = await venues.kalshi.call("GET", f"/portfolio/orders/{created['order_id']}")
        assert body["order"]["status"] == "executed"
        assert body["order"]["maker_fill_cost_dollars"] != "0.000000"

    run(scenario, markets=1, quote_at_start=True, messages_per_s=100)


def test_outcomes_of_an_exclusive_event_cost_a_dollar_together_less_no_edge(run):
    async def scenario(venues):
        markets = events(venues.world.universe, 2)
        assert [len(members) for members in markets] == [5, 5]
        for members in markets:
            middles = [sum(tops(venues, market.place)[0]) / 2 for market in members]
            assert abs(sum(middles) - 10_000) < 500, middles
            asks = sum(tops(venues, market.place)[0][1] for market in members)
            bids = sum(tops(venues, market.place)[0][0] for market in members)
            assert bids < 10_000 < asks
        listed = links(venues.world.universe, 2)["events"]
        assert listed[0] == {
            "key": markets[0][0].kalshi_event, "tickers": [market.kalshi_ticker for market in markets[0]],
        }  # fmt: skip

    run(scenario, markets=40, events=2, quote_at_start=True)


def test_same_seed_lists_the_same_markets_and_another_seed_others():
    shares = {"inverted_share": 0.1, "neg_risk_share": 0.1, "delayed_share": 0}
    first = make_universe(1, 200, **shares)
    assert first == make_universe(1, 200, **shares)
    assert not {m.condition_id for m in first} & {m.condition_id for m in make_universe(2, 200, **shares)}
    assert sum(market.inverted for market in first) == 20
    for name in ("kalshi_ticker", "condition_id", "yes_token", "no_token", "kalshi_market_id"):
        assert len({getattr(market, name) for market in first}) == 200
    pairs = links(first)["links"]
    assert [pair["polarity"] for pair in pairs].count("OPPOSITE") == 20
    assert pairs[7]["kalshi"]["ticker"] == first[7].kalshi_ticker
    assert pairs[7]["polymarket"]["yes_token_id"] == first[7].yes_token


def test_probability_stays_within_its_band_and_lags():
    latent = Latent(random.Random(1), 0.5, 0.0)
    seen = {}
    for step in range(1, 400):
        now = step * 0.1
        seen[step] = latent.view(now, 0)
        assert 0.08 <= seen[step] <= 0.92
        if step > 10:
            assert latent.view(now, 0.2) in (seen[step - 2], seen[step - 3])
    assert len(set(seen.values())) > 300


RECORDING = """timestamp,market_ticker,best_yes_bid,best_no_bid,implied_no_ask,implied_yes_ask
2025-12-19T07:00:00.000000,A,30,60,70,40
2025-12-19T07:00:10.000000,A,40,50,60,50
2025-12-19T07:00:20.000000,A,45,0,55,100
2025-12-19T07:00:30.000000,A,50,40,50,60
"""


def test_recording_is_followed_at_its_speed_and_wraps(tmp_path):
    path = tmp_path / "recording.csv"
    path.write_text(RECORDING)
    drive = Drive(path, 10.0, 100.0)
    assert drive.top(0, 100.0) == (3_000, 4_000)
    assert drive.top(0, 100.95) == (3_000, 4_000)
    assert drive.top(0, 101.05) == (4_000, 5_000)
    # The row without a NO bid quotes nothing and is left out; the last row only marks the end.
    assert drive.top(0, 102.5) == (4_000, 5_000)
    assert drive.top(0, 103.05) == (3_000, 4_000)


def test_recording_that_is_none_is_refused_by_name(tmp_path):
    path = tmp_path / "recording.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(Misconfigured, match="expected the columns"):
        Drive(path, 1.0, 0.0)
    with pytest.raises(Misconfigured, match="does not exist"):
        Drive(tmp_path / "missing.csv", 1.0, 0.0)


def test_production_recording_drives_kalshis_best_prices(run, captures):
    path = captures / "replay" / "kalshi_top_of_book__KXHIGHNY-25DEC20.csv.gz"

    async def scenario(venues):
        with gzip.open(path, "rt") as file:
            recorded = {tuple(line.split(",")[2:4]) for line in file}
        for market in venues.world.kalshi.exchange.markets:
            top = market.matcher.best_bid() // 100, 100 - market.matcher.best_ask() // 100
            assert tuple(str(cents) for cents in top) in recorded

    run(scenario, markets=12, quote_at_start=True, drive=path)

"""Paper venues over real sockets: records of a live run in, signed orders of two accounts, fills, refusals and money by hand."""

import asyncio
import time

import aiohttp
import pytest

from core.runtime.flow import Input
from core.runtime.topics import DERIVED_BOOK
from schemas.derived import Depth, Quote, Tick
from schemas.market import Status, Trade
from simulate.matching import Side
from tests.records import sides
from tests.simulate.conftest import Venues
from tests.simulate.paper_books import E6, KALSHI, NO, POLYMARKET, TICKER, YES, instrument, paper_venues

CASH = 10_000_000_000
BIDS = [(4_800, 100 * E6), (4_700, 50 * E6)]
ASKS = [(5_000, 40 * E6), (5_100, 60 * E6 + 12_345)]


class Live:
    """The live run as the feed hears it, and the paper venues' clients."""

    def __init__(self, feed, venues):
        self.feed = feed
        self.venues = venues
        self.version = 0
        self.frame = 0

    def hear(self, record):
        self.feed.take(Input(record, DERIVED_BOOK.noun, 0, self.version))

    def tick(self, ago_ns=0):
        self.hear(Tick(partition=0, ts_ns=time.time_ns() - ago_ns))

    def book(self, name, bids=BIDS, asks=ASKS, state="LIVE", quote_state=""):
        """Say a depth and the quote that belongs to it."""
        self.version += 1
        common = {
            "instrument": name,
            "version_offset": self.version,
            "price_exp": -4,
            "size_exp": -6,
            "epoch": 1,
            "recv_ts_ns": time.time_ns(),
        }
        depth = Depth(
            version_index=0,
            state=state,
            **sides(bids, asks),
            **common,
        )
        quote = Quote(
            version_index=1,
            depth_offset=self.version,
            depth_index=0,
            state=quote_state or state,
            bid_price=bids[0][0] if bids else 0,
            bid_size=bids[0][1] if bids else 0,
            ask_price=asks[0][0] if asks else 0,
            ask_size=asks[0][1] if asks else 0,
            **common,
        )
        self.hear(depth)
        self.hear(quote)
        return depth

    def trade(self, name, price, size, aggressor, frame=0):
        self.frame = frame or self.frame + 1
        trade = Trade(
            instrument=name,
            epoch=1,
            frame_no=self.frame,
            index=0,
            price_exp=-4,
            size_exp=-6,
            price=price,
            size=size,
            aggressor=aggressor,
            recv_ts_ns=time.time_ns(),
        )
        self.hear(trade)
        return trade

    async def account(self, venue):
        return (await self.venues.sim("/sim/accounts"))[venue][0]


@pytest.fixture
def run(tmp_path, credentials_file):
    """Run a scenario on paper venues that follow one market of each venue, whose books are LIVE at the start."""

    def runner(scenario, **settings):
        async def play():
            world, feed = paper_venues(
                tmp_path,
                credentials_file,
                time.time_ns,
                CASH // E6,
                mined_after_ms=30,
                confirmed_after_ms=60,
                **settings,
            )
            world.control.paper = feed.figures
            ready = await world.start()
            try:
                async with aiohttp.ClientSession() as session:
                    live = Live(feed, Venues(world, ready, session))
                    feed.describe(instrument(KALSHI))
                    feed.describe(instrument(POLYMARKET))
                    live.tick()
                    live.book(KALSHI)
                    live.book(POLYMARKET)
                    await scenario(live)
            finally:
                await world.stop()

        asyncio.run(play())

    return runner


def test_a_taker_pays_live_prices_and_fees_and_eats_a_level_once(run):
    async def scenario(live):
        kalshi = live.venues.kalshi
        status, body = await kalshi.order(TICKER, "bid", "0.5000", "100.00", time_in_force="immediate_or_cancel")
        assert (status, body["fill_count"], body["remaining_count"]) == (201, "40.00", "0.00")
        # 40 x 0.50, and 0.07 x 40 x 0.25 = 0.70.
        assert (await live.account("kalshi"))["cash_e6"] == CASH - 20_700_000
        live.book(KALSHI)
        status, body = await kalshi.order(TICKER, "bid", "0.5000", "100.00", time_in_force="immediate_or_cancel")
        assert (status, body["fill_count"]) == (201, "0.00")
        live.book(KALSHI, asks=[(5_000, 47 * E6)])
        _, body = await kalshi.order(TICKER, "bid", "0.5000", "100.00", time_in_force="immediate_or_cancel")
        assert body["fill_count"] == "7.00"

    run(scenario)


def test_polymarket_takes_live_levels_through_signed_orders_and_settles(run):
    async def scenario(live):
        client = live.venues.polymarket
        # A marketable limit for 60 at 0.51: forty at 0.50, twenty at 0.51.
        status, body = await client.call("POST", "/order", client.body(YES, "BUY", 30_600_000, 60_000_000))
        assert (status, body["status"], body["takingAmount"]) == (200, "matched", "60")
        await asyncio.sleep(0.15)
        account = await live.account("polymarket")
        assert account["tokens"] == {YES: 60 * E6}
        # 0.04 x (40 x 0.25 + 20 x 0.2499), each match to five decimals.
        assert account["cash_e6"] == CASH - 30_200_000 - 400_000 - 199_920

    run(scenario)


def test_a_no_token_meets_the_other_side_of_the_same_book(run):
    async def scenario(live):
        client = live.venues.polymarket
        # Buying NO at 0.52 is selling YES at 0.48, where 100 are bid.
        status, body = await client.call("POST", "/order", client.body(NO, "BUY", 5_200_000, 10_000_000))
        assert (status, body["status"]) == (200, "matched")
        assert live.feed.seats[POLYMARKET].book.room(Side.BID, 4_800) == 90 * E6

    run(scenario)


def test_a_maker_waits_for_the_live_queue_and_is_told_on_its_private_stream(run):
    async def scenario(live):
        kalshi = live.venues.kalshi
        async with kalshi.stream() as stream:
            await stream.send({"id": 1, "cmd": "subscribe", "params": {"channels": ["fill"]}})
            await stream.until("subscribed")
            status, _ = await kalshi.order(TICKER, "bid", "0.4800", "10.00", post_only=True)
            assert status == 201
            live.trade(KALSHI, 4_800, 100 * E6, "SELL")
            assert (await live.account("kalshi"))["fills"] == 0
            first = live.trade(KALSHI, 4_800, 4 * E6, "SELL")
            live.hear(first)  # said twice, by a worker that was started again
            message = (await stream.until("fill"))["msg"]
            assert (message["count_fp"], message["is_taker"]) == ("4.00", False)
            account = await live.account("kalshi")
            # 4 x 0.48, and a maker's quarter of 0.07 x 4 x 0.2496.
            assert (account["fills"], account["cash_e6"]) == (1, CASH - 1_920_000 - 17_500)
            assert account["open_orders"][0]["remaining_e6"] == 6 * E6

    run(scenario)


@pytest.mark.parametrize(
    ("fall", "rests"),
    [
        (lambda live, name: live.book(name, state="SUSPECT"), True),
        (lambda live, name: live.book(name, quote_state="STALE"), True),
        (lambda live, name: (live.feed._ticks.clear(), live.tick(ago_ns=1_500_000_000), live.feed.check()), True),
        # Kalshi itself cancels what rested through a pause.
        (
            lambda live, name: live.hear(
                Status(instrument=name, epoch=1, frame_no=9, index=0, status="PAUSED", price_exp=-4, recv_ts_ns=1)
            ),
            False,
        ),
        (lambda live, name: live.book(name, bids=[(5_200, E6)]), True),
    ],
    ids=["book not LIVE", "quote not LIVE", "ticks stale", "market paused", "book crosses itself"],
)
def test_a_book_not_to_be_trusted_refuses_as_a_paused_venue_does_and_keeps_what_rests(run, fall, rests):
    async def scenario(live):
        kalshi, polymarket = live.venues.kalshi, live.venues.polymarket
        assert (await kalshi.order(TICKER, "bid", "0.4800", "10.00"))[0] == 201
        for name in (KALSHI, POLYMARKET):
            fall(live, name)
            live.trade(name, 4_000, 500 * E6, "SELL")
        status, body = await kalshi.order(TICKER, "bid", "0.5000", "10.00")
        assert (status, body["error"]["code"]) == (400, "MARKET_INACTIVE")
        status, body = await polymarket.call("POST", "/order", polymarket.body(YES, "BUY", 5_000_000, 10_000_000))
        assert (status, body["error"]) == (400, "the market is not yet ready to process new orders")
        account = await live.account("kalshi")
        assert (account["fills"], len(account["open_orders"])) == (0, 1)
        live.hear(Status(instrument=KALSHI, epoch=1, frame_no=10, index=0, status="OPEN", price_exp=-4, recv_ts_ns=1))
        live.tick()
        live.book(KALSHI)
        account = await live.account("kalshi")
        assert (account["fills"], len(account["open_orders"])) == (0, 1 if rests else 0)
        _, body = await kalshi.order(TICKER, "bid", "0.5000", "10.00", time_in_force="immediate_or_cancel")
        assert body["fill_count"] == "10.00"

    run(scenario)


@pytest.mark.parametrize("told", ["by the stream", "by a catalogue"])
def test_kalshi_cancels_what_rests_when_a_paused_market_trades_again_and_polymarket_does_not(run, told):
    async def scenario(live):
        kalshi, client = live.venues.kalshi, live.venues.polymarket
        assert (await kalshi.order(TICKER, "bid", "0.4800", "10.00"))[0] == 201
        assert (await client.call("POST", "/order", client.body(YES, "BUY", 4_800_000, 10_000_000)))[0] == 200

        async def resting():
            return [len((await live.account(venue))["open_orders"]) for venue in ("kalshi", "polymarket")]

        def say(status, recv_ts_ns):
            for name in (KALSHI, POLYMARKET):
                if told == "by a catalogue":
                    live.feed.describe(instrument(name, status=status, recv_ts_ns=recv_ts_ns))
                    continue
                place = {"instrument": name, "epoch": 1, "frame_no": recv_ts_ns, "index": 0, "price_exp": -4}
                live.hear(Status(status=status, recv_ts_ns=recv_ts_ns, **place))

        say("OPEN", 2)
        say("PAUSED", 3)
        assert await resting() == [1, 1]
        say("OPEN", 4)
        assert await resting() == [0, 1]
        # The first depth afterwards crosses what rested, and finds it on Polymarket alone.
        for name in (KALSHI, POLYMARKET):
            live.book(name, bids=[(4_600, E6)], asks=[(4_700, 4 * E6)])
        assert [(await live.account("kalshi"))["fills"], (await live.account("polymarket"))["trades"]] == [0, 1]

    run(scenario)


def test_a_book_that_crosses_an_order_on_its_way_is_taken_or_refused_as_by_a_real_venue(run):
    async def scenario(live):
        kalshi, client = live.venues.kalshi, live.venues.polymarket
        for name in (KALSHI, POLYMARKET):
            live.feed.seats[name].book._latency_ns = 60_000_000_000
        status, refused = await kalshi.order(TICKER, "ask", "0.4900", "3.00", post_only=True)
        assert status == 201
        assert (await kalshi.order(TICKER, "ask", "0.4900", "10.00"))[0] == 201
        # Buying NO at 0.51 is selling YES at 0.49.
        assert (await client.call("POST", "/order", client.body(NO, "BUY", 5_100_000, 10_000_000)))[0] == 200
        for name in (KALSHI, POLYMARKET):
            live.book(name, bids=[(5_000, 4 * E6), *BIDS], asks=[(5_100, 60 * E6)])
        account = await live.account("kalshi")
        (left,) = account["open_orders"]
        assert (left["remaining_e6"], left["order_id"] == refused["order_id"]) == (6 * E6, False)
        # Sold at 0.50: 2.00 of collateral for four, and a taker's 0.07 x 4 x 0.25.
        assert (account["fills"], account["cash_e6"]) == (1, CASH - 2_000_000 - 70_000)
        await asyncio.sleep(0.15)
        account = await live.account("polymarket")
        # Four NO at 0.50, and a taker's 0.04 x 4 x 0.25.
        assert (account["tokens"], account["cash_e6"]) == ({NO: 4 * E6}, CASH - 2_000_000 - 40_000)
        assert [order["remaining_e6"] for order in account["open_orders"]] == [6 * E6]

    run(scenario)


def test_what_is_kept_of_instruments_without_a_market_is_bounded(run, monkeypatch):
    async def scenario(live):
        monkeypatch.setattr("simulate.paper_feed.REFUSED_MAX", 2)
        for number in range(4):
            live.feed.describe(instrument(f"kalshi:FLAT{number}", fee_model="UNKNOWN"))
            live.book(f"kalshi:FLAT{number}")
        figures = await live.venues.sim("/sim/paper")
        assert list(figures["refused"]) == ["kalshi:FLAT2", "kalshi:FLAT3"]
        assert figures["counts"]["refused"] == 4

    run(scenario)


def test_all_books_of_a_partition_open_again_with_its_ticks_though_nothing_is_said_of_them(run):
    async def scenario(live):
        live.feed._ticks.clear()
        live.tick(ago_ns=1_500_000_000)
        live.feed.check()
        assert (await live.venues.sim("/sim/paper"))["open"] == 0
        live.tick()
        live.book(POLYMARKET)
        live.feed.check()
        assert (await live.venues.sim("/sim/paper"))["open"] == 2

    run(scenario)


def test_a_catalogue_older_than_the_stream_opens_no_market(run):
    async def scenario(live):
        paused = {"instrument": KALSHI, "epoch": 1, "frame_no": 9, "index": 0, "price_exp": -4}
        live.hear(Status(status="PAUSED", recv_ts_ns=1_000, **paused))
        live.feed.describe(instrument(KALSHI, recv_ts_ns=999))
        assert (await live.venues.sim("/sim/paper"))["open"] == 1
        live.hear(Status(status="OPEN", recv_ts_ns=998, **paused))
        assert (await live.venues.sim("/sim/paper"))["open"] == 1
        live.feed.describe(instrument(KALSHI, recv_ts_ns=1_001))
        assert (await live.venues.sim("/sim/paper"))["open"] == 2

    run(scenario)


def test_a_held_taker_meets_the_book_as_it_is_when_it_is_let_go(run):
    async def scenario(live):
        client = live.venues.polymarket
        live.feed.describe(instrument("polymarket:0xheld", taker_delay_ms=3_000, tokens=["31", "32"]))
        live.book("polymarket:0xheld")
        body = client.body("31", "BUY", 5_000_000, 10_000_000, "FAK")
        assert (await client.call("POST", "/order", body))[1]["status"] == "delayed"
        live.book("polymarket:0xheld", asks=[(5_000, 4 * E6)])
        await asyncio.sleep(0.3)
        assert (await live.account("polymarket"))["tokens"] == {"31": 4 * E6}

    run(scenario, taker_delay_ms=100)


def test_a_held_taker_gets_nothing_when_the_book_is_not_to_be_trusted_by_then(run):
    async def scenario(live):
        client = live.venues.polymarket
        live.feed.describe(instrument("polymarket:0xheld", taker_delay_ms=3_000, tokens=["31", "32"]))
        live.book("polymarket:0xheld")
        body = client.body("31", "BUY", 5_000_000, 10_000_000, "FAK")
        assert (await client.call("POST", "/order", body))[1]["status"] == "delayed"
        live.book("polymarket:0xheld", state="SUSPECT")
        await asyncio.sleep(0.3)
        account = await live.account("polymarket")
        assert (account["tokens"], account["open_orders"], account["cash_e6"]) == ({}, [], CASH)

    run(scenario, taker_delay_ms=100)


def test_settlement_can_fail_on_paper_too(run):
    async def scenario(live):
        client = live.venues.polymarket
        fault = {"venue": "polymarket", "fault": "settlement_failed", "seconds": 5, "count": 1}
        answer = await live.venues.sim("/sim/faults", fault)
        assert "error" not in answer, answer
        await client.call("POST", "/order", client.body(YES, "BUY", 5_000_000, 10_000_000))
        await asyncio.sleep(0.3)
        account = await live.account("polymarket")
        assert (account["cash_e6"], account["tokens"].get(YES, 0)) == (CASH, 0)

    run(scenario)


def test_repeats_and_older_versions_change_nothing(run):
    async def scenario(live):
        old = live.book(KALSHI, asks=[(5_000, 30 * E6)])
        live.book(KALSHI, asks=[(5_100, 60 * E6)])
        live.hear(old)
        _, body = await live.venues.kalshi.order(TICKER, "bid", "0.5000", "10.00", time_in_force="immediate_or_cancel")
        assert body["fill_count"] == "0.00"
        assert live.feed.counts["old_depths"] == 1

    run(scenario)


def test_what_cannot_be_listed_is_named_and_its_orders_are_not_found(run):
    async def scenario(live):
        live.feed.describe(instrument("kalshi:FLAT", fee_model="UNKNOWN"))
        live.book("kalshi:FLAT")
        figures = await live.venues.sim("/sim/paper")
        assert "FLAT" in figures["refused"]["kalshi:FLAT"]
        assert (figures["markets"], figures["open"]) == (2, 2)
        assert (await live.venues.kalshi.order("FLAT", "bid", "0.5000", "10.00"))[0] == 404

    run(scenario)


def test_grids_minimums_and_collateral_are_those_of_the_instrument(run):
    async def scenario(live):
        kalshi, client = live.venues.kalshi, live.venues.polymarket
        assert (await kalshi.order(TICKER, "bid", "0.4850", "10.00"))[1]["error"]["code"] == "invalid_price"
        live.feed.describe(instrument(KALSHI, tick_step=[50]))
        assert (await kalshi.order(TICKER, "bid", "0.4850", "10.00"))[0] == 201
        body = client.body(YES, "BUY", 1_920_000, 4_000_000)
        assert "lower than the minimum: 5" in (await client.call("POST", "/order", body))[1]["error"]
        _, answer = await kalshi.order(TICKER, "bid", "0.4800", "20900.00")
        assert answer["error"]["code"] == "insufficient_balance"

    run(scenario)


def test_each_fill_is_written_down_with_the_live_record_that_made_it(run, tmp_path):
    async def scenario(live):
        await live.venues.kalshi.order(TICKER, "bid", "0.5000", "10.00", time_in_force="immediate_or_cancel")
        live.feed.check()
        live.venues.world.truth.flush()
        (line,) = (tmp_path / "truth" / "paper.jsonl").read_text().splitlines()
        assert f'"instrument":"{KALSHI}"' in line
        assert '"how":"took","live":40000000,"taken":10000000,"cause":"depth:1:0"' in line

    run(scenario)


def test_gateways_cannot_be_pointed_at_production_and_paper_writes_no_live_run():
    from core.domain.errors import Misconfigured
    from simulate.paper import run as serve
    from simulate.paper_settings import PaperSettings

    with pytest.raises(Misconfigured, match="reads one run and writes another"):
        serve(PaperSettings(run="paper", _env_file=None))
    with pytest.raises(ValueError, match="only the run live writes live topics"):
        PaperSettings(run="live", read_run="demo", _env_file=None)


@pytest.mark.parametrize("told", ["by the stream", "by a catalogue"])
def test_a_market_that_settles_live_pays_on_kalshi_and_leaves_tokens_to_be_redeemed(run, told):
    async def scenario(live):
        kalshi, client = live.venues.kalshi, live.venues.polymarket
        await kalshi.order(TICKER, "bid", "0.5000", "40.00", time_in_force="immediate_or_cancel")
        assert (await kalshi.order(TICKER, "bid", "0.4500", "5.00"))[0] == 201
        await client.call("POST", "/order", client.body(YES, "BUY", 5_000_000, 10_000_000))
        await asyncio.sleep(0.15)
        before = [(await live.account(venue))["cash_e6"] for venue in ("kalshi", "polymarket")]

        def say(payout_e6, recv_ts_ns, status="SETTLED"):
            for name in (KALSHI, POLYMARKET):
                if told == "by a catalogue":
                    live.feed.describe(instrument(name, status=status, payout_e6=payout_e6, recv_ts_ns=recv_ts_ns))
                else:
                    place = {"instrument": name, "epoch": 1, "frame_no": recv_ts_ns, "index": 0, "price_exp": -4}
                    live.hear(Status(status=status, payout_e6=payout_e6, recv_ts_ns=recv_ts_ns, **place))

        # What is only determined live pays nothing, here neither.
        say(370_000, 2, "DETERMINED")
        assert (await live.account("kalshi"))["cash_e6"] == before[0]
        for _ in range(2):
            say(370_000, 3)
            live.tick()
            live.book(KALSHI)
        account = await live.account("kalshi")
        assert account["cash_e6"] == before[0] + 14_800_000
        assert (account["open_orders"], account["positions"][TICKER]["size_e6"]) == ([], 0)
        assert (await kalshi.order(TICKER, "bid", "0.5000", "1.00"))[0] == 400
        (row,) = (await kalshi.call("GET", "/portfolio/settlements?min_ts=0"))[1]["settlements"]
        assert (row["revenue"], row["market_result"], row["yes_count_fp"]) == (1_480, "scalar", "40.00")
        account = await live.account("polymarket")
        assert (account["cash_e6"], account["tokens"]) == (before[1], {YES: 10 * E6})
        # It is corrected live, and so it is here.
        say(0, 4)
        assert (await live.account("kalshi"))["cash_e6"] == before[0]

    run(scenario)

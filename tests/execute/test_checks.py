"""Every check of the gateway refuses on its own; nothing else about the order is wrong."""

import dataclasses

import msgspec
import pytest

from core.runtime.flow import Input
from execute.checks import Limits, Market, refuse
from execute.orders import Orders, notional_e6
from schemas.derived import Quote, Tick
from schemas.market import Status
from schemas.order import Submitting
from tests.records import binary, granted

E6 = 1_000_000
S = 1_000_000_000
NOW = 1_000_000 * S
LIMITS = Limits(
    size_max=100 * E6,
    order_notional_max_e6=50 * E6,
    day_notional_max_e6=60 * E6,
    open_orders_max=2,
    collar_e4=300,
    quote_age_max_ns=S,
)
GRANT = granted(now_ns=NOW, send_by_ns=NOW + S)
INSTRUMENT = binary(
    "kalshi:T",
    tick_from=[0, 1_000],
    tick_to=[1_000, 10_000],
    tick_step=[10, 100],
    size_min=2 * E6,
    notional_min_e6=E6,
    close_ts_ns=NOW + 60 * S,
    recv_ts_ns=NOW - 60 * S,
)
QUOTE = Quote(
    instrument="kalshi:T",
    version_offset=5,
    version_index=0,
    depth_offset=5,
    depth_index=0,
    state="LIVE",
    price_exp=-4,
    size_exp=-6,
    bid_price=4_400,
    bid_size=E6,
    ask_price=4_500,
    ask_size=E6,
    epoch=1,
    recv_ts_ns=NOW,
)


def change(record, **changes):
    return msgspec.structs.replace(record, **changes)


def market_of(
    *, quote=QUOTE, instrument=INSTRUMENT, tick_ns=NOW - S // 2, quote_partition=3, tick_partition=3, more=()
):
    market = Market("kalshi")
    offset = 0
    for partition, record in (
        (0, instrument),
        (quote_partition, quote),
        (tick_partition, Tick(partition=tick_partition, ts_ns=tick_ns) if tick_ns else None),
        *((quote_partition, record) for record in more),
    ):
        if record is not None:
            market.apply(Input(record, "derived.book", partition, offset))
            offset += 1
    return market


def why(grant=GRANT, *, market=None, orders=None, limits=LIMITS, now_ns=NOW):
    return refuse(
        grant, market=market or market_of(), orders=orders or Orders("kalshi:main"), limits=limits, now_ns=now_ns
    )


def test_order_that_nothing_speaks_against_passes():
    assert why() == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quote": None}, "no quote"),
        ({"quote": change(QUOTE, state="STALE", cause="silent")}, "STALE: silent"),
        ({"quote": change(QUOTE, state="SUSPECT", cause="gap")}, "SUSPECT"),
        ({"quote": change(QUOTE, state="SYNCING", cause="")}, "SYNCING"),
        ({"quote": change(QUOTE, state="DEGRADED", cause="polled")}, "DEGRADED: polled"),
        ({"quote": change(QUOTE, state="UNKNOWN")}, "UNKNOWN"),
        ({"tick_ns": NOW - 2 * S}, "2000 ms old"),
        ({"tick_ns": NOW + 2 * S}, "2000 ms ahead"),
        ({"tick_ns": 0}, "no tick"),
        # A tick of another partition says nothing about this one.
        ({"tick_partition": 2}, "no tick of derived.book partition 3"),
        ({"quote": change(QUOTE, ask_size=0, ask_price=0)}, "nothing is offered"),
        ({"quote": change(QUOTE, ask_price=4_100, bid_price=4_000)}, "above the best ask"),
        ({"instrument": change(INSTRUMENT, status="PAUSED")}, "is PAUSED"),
        ({"instrument": change(INSTRUMENT, close_ts_ns=NOW)}, "closed at"),
        ({"instrument": None}, "not a known instrument"),
        ({"instrument": change(INSTRUMENT, price_exp=-6)}, "exponents"),
    ],
)
def test_market_that_cannot_be_trusted_or_traded_refuses(changes, words):
    assert words in why(market=market_of(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": 4_550}, "not on the grid"),
        ({"price": 0}, "between 0 and one dollar"),
        ({"price": 10_000}, "between 0 and one dollar"),
        ({"size": E6, "price": 4_400}, "below the minimum"),
        ({"size": 10 * E6 + 1}, "not a multiple"),
        ({"size": 2 * E6}, "notional"),
        ({"size": 101 * E6, "price": 1_500}, "above this gateway's 100000000e-6"),
        ({"size": 99 * E6, "price": 6_000}, "for one order"),
        ({"price": 5_000}, "more than 300 above the best ask"),
        ({"side": "SELL", "price": 4_000}, "more than 300 below the best bid"),
    ],
)
def test_order_that_is_out_of_bounds_is_refused(changes, words):
    assert words in why(change(GRANT, **changes))


def test_fine_band_of_the_grid_is_used_below_ten_cents():
    low = market_of(quote=change(QUOTE, bid_price=40, ask_price=50))
    assert why(change(GRANT, price=50, size=100 * E6), market=low) == "notional 500000 is below the minimum 1000000"
    assert "grid" in why(change(GRANT, price=45, size=100 * E6), market=low)


def test_minimum_size_is_not_asked_of_what_trades_at_once():
    small = market_of(instrument=change(INSTRUMENT, size_min=5 * E6))
    assert why(change(GRANT, size=4 * E6), market=small) == ""
    assert "below the minimum" in why(change(GRANT, size=4 * E6, price=4_400), market=small)


def test_older_version_of_a_quote_does_not_replace_a_newer_one():
    market = market_of(more=[change(QUOTE, version_offset=4, state="LIVE", ask_price=9_900)])
    assert market.quotes["kalshi:T"][1] == QUOTE
    market = market_of(more=[change(QUOTE, version_offset=6, state="SUSPECT", cause="gap")])
    assert "SUSPECT" in why(market=market)


def status(**changes):
    fields = dict(
        instrument="kalshi:T",
        epoch=1,
        frame_no=1,
        index=0,
        status="UNKNOWN",
        price_exp=-4,
        recv_ts_ns=NOW,
        venue_ts_ns=1,
    )
    return Status(**(fields | changes))


def test_status_in_band_closes_a_market_and_opens_it_again():
    paused = status(status="PAUSED")
    assert "is PAUSED" in why(market=market_of(more=[paused]))
    assert why(market=market_of(more=[paused, status(status="OPEN", venue_ts_ns=2)])) == ""
    # The newest venue time counts, from whichever feed.
    assert "is PAUSED" in why(market=market_of(more=[status(status="PAUSED", venue_ts_ns=3), status(status="OPEN")]))


def test_new_grid_in_band_counts_and_outlives_a_status_without_one():
    market = market_of(
        more=[status(tick_from=[0], tick_to=[10_000], tick_step=[50]), status(status="OPEN", venue_ts_ns=2)]
    )
    assert why(change(GRANT, price=4_550), market=market) == ""


def test_tick_change_makes_no_old_state_newer_than_the_description_that_paused_it():
    said, paused = status(status="OPEN", recv_ts_ns=100), change(INSTRUMENT, status="PAUSED", recv_ts_ns=200)
    tick_change = status(tick_from=[0], tick_to=[10_000], tick_step=[50], recv_ts_ns=300, venue_ts_ns=3)
    assert "is PAUSED" in why(market=market_of(more=[said, paused]))
    assert "is PAUSED" in why(market=market_of(more=[said, paused, tick_change]))


def test_state_makes_no_old_grid_newer_than_the_description_that_changed_it():
    fine = status(tick_from=[0], tick_to=[10_000], tick_step=[50], recv_ts_ns=100)
    coarse = change(INSTRUMENT, recv_ts_ns=200)
    opened = status(status="OPEN", recv_ts_ns=300, venue_ts_ns=3)
    assert "not on the grid" in why(change(GRANT, price=4_550), market=market_of(more=[fine, coarse, opened]))


def test_word_of_a_market_counts_whichever_of_it_and_the_description_is_read_first():
    market = Market("kalshi")
    market.apply(Input(status(status="PAUSED"), "derived.book", 0, 0))
    assert market.instruments == {}
    market.apply(Input(INSTRUMENT, "market.instrument", 0, 0))
    assert market.instruments["kalshi:T"].status == "PAUSED"


def submitted(orders, grant, at_ns=NOW):
    orders.grant(grant)
    orders.apply(
        Submitting(
            event_id=f"s{grant.id}",
            order=grant.id,
            account="kalshi:main",
            instrument=grant.instrument,
            writer="w",
            method="POST",
            path="/",
            body=b"",
            send_by_ns=at_ns,
            ts_ns=at_ns,
            recv_ts_ns=at_ns,
        )
    )


def test_number_of_orders_that_are_out_is_bounded_but_hedges_pass():
    orders = Orders("kalshi:main")
    for number in range(2):
        submitted(orders, change(GRANT, id=f"o{number}"), NOW - 86_400 * S)
    assert "2 orders are out" in why(orders=orders)
    assert why(change(GRANT, purpose="HEDGE"), orders=orders) == ""


def test_exit_is_not_held_back_by_what_opening_its_side_would_cost():
    limits = dataclasses.replace(LIMITS, order_notional_max_e6=5 * E6)
    low = market_of(quote=change(QUOTE, bid_price=1_500, ask_price=1_600))
    stop = change(GRANT, purpose="UNWIND", side="SELL", outcome="NONE", token_side="SELL", price=1_500)
    assert notional_e6(stop) == 8_500_000
    assert why(stop, market=low, limits=limits) == ""
    # Nor by what the price of what is held rose to.
    high = market_of(quote=change(QUOTE, bid_price=9_000, ask_price=9_100))
    assert why(change(stop, outcome="YES", price=9_000), market=high, limits=limits) == ""
    for purpose in ("ENTRY", "HEDGE"):
        assert "for one order" in why(change(stop, purpose=purpose), market=low, limits=limits)
    # Its contracts are bounded all the same.
    assert "above this gateway's" in why(change(stop, size=101 * E6), market=low, limits=limits)


def test_money_of_the_day_is_bounded_and_starts_anew_at_midnight_utc():
    orders = Orders("kalshi:main")
    day = 86_400 * S
    midnight = NOW // day * day
    submitted(orders, change(GRANT, id="a", size=100 * E6), midnight + 1)
    assert orders.day_notional_e6(midnight + 2) == 45 * E6
    assert "day's notional" in why(change(GRANT, size=40 * E6), orders=orders)
    assert orders.day_notional_e6(midnight - 1) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"outcome": "YES", "side": "BUY"}, 4_500_000),
        ({"outcome": "NO", "side": "SELL"}, 5_500_000),
        ({"outcome": "NONE", "side": "SELL"}, 5_500_000),
        ({"outcome": "YES", "side": "SELL", "token_side": "SELL"}, 4_500_000),
        ({"outcome": "NO", "side": "BUY", "token_side": "SELL"}, 5_500_000),
    ],
)
def test_notional_is_priced_by_the_token_that_moves(changes, expected):
    assert notional_e6(change(GRANT, **changes)) == expected

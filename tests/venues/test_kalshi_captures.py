"""Every recorded Kalshi message goes through the parsers; what a dozen of them say was written down by hand.

Recorded 2026-06-11 (demo). The folder is read where it stands.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from venues.kalshi import account, control, orders, rest, rules, wire
from venues.kalshi.wire import PriceRange
from venues.refusal import Outcome

MATCH = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"


def status_of(path: Path) -> int:
    return json.loads(path.with_suffix(".meta.json").read_text())["status"]


def request_of(path: Path) -> dict[str, object]:
    return json.loads(path.with_suffix(".meta.json").read_text())["request_body"]


def check_markets(path: Path) -> None:
    descriptions, _ = rest.split_markets(path.read_bytes())
    assert descriptions
    for description in descriptions:
        market = rest.decode_market(description)
        source = json.loads(description)
        assert market.ticker == source["ticker"]
        assert market.price_ranges
        assert 0 <= market.yes_bid <= market.yes_ask <= 10_000
        assert market.open_ns < market.close_ns


def check_refusal(path: Path) -> None:
    seen = orders.decode_refusal(status_of(path), path.read_bytes())
    assert seen.message
    assert seen.outcome is not Outcome.UNKNOWN


def check_created(path: Path) -> None:
    seen = account.decode_created(path.read_bytes())
    asked = request_of(path)
    assert seen.client_order_id == asked["client_order_id"]
    assert seen.filled + seen.remaining == wire.size(str(asked["count"]), "request")


def check_one_market(path: Path) -> None:
    assert rest.decode_market(rest.split_market(path.read_bytes())).ticker == MATCH


def check_frames(path: Path) -> None:
    known: dict[str, Callable[[wire.Envelope], object]] = {
        "subscribed": control.decode_subscribed,
        "orderbook_snapshot": wire.decode_snapshot,
        "orderbook_delta": wire.decode_delta,
    }
    frames = [wire.peek(line) for line in path.read_bytes().splitlines() if line.strip()]
    assert [known[frame.type](frame) is not None for frame in frames] == [True] * 5


# The first prefix that fits names the check; None: the file carries neither market data nor orders.
CHECKS: list[tuple[str, Callable[[Path], object] | None]] = [
    ("account__", None),
    ("auth__balance", lambda path: account.decode_balance(path.read_bytes())),
    ("auth__", check_refusal),
    ("cleanup__", check_refusal),
    ("exchange__status", lambda path: rest.decode_exchange_status(path.read_bytes())),
    ("fills__", lambda path: account.decode_fills(path.read_bytes())),
    ("markets__limit_over_max", check_refusal),
    ("markets__single.", check_one_market),
    ("markets__unauth_single", check_one_market),
    ("markets__", check_markets),
    ("orderbook__", lambda path: rest.decode_rest_book(path.read_bytes(), MATCH)),
    ("orders__cancel_v2", lambda path: account.decode_cancelled(path.read_bytes())),
    ("orders__create_v2", check_created),
    ("orders__settlement_seed", check_created),
    ("orders__get_", lambda path: account.decode_order(path.read_bytes())),
    ("orders__legacy_", lambda path: account.decode_order(path.read_bytes())),
    ("orders__", check_refusal),
    ("portfolio__orders", lambda path: account.decode_orders(path.read_bytes())),
    ("portfolio__positions", lambda path: account.decode_positions(path.read_bytes())),
    ("series__fee_changes", None),
    ("settlements__", lambda path: account.decode_settlements(path.read_bytes())),
    ("trades__", lambda path: rest.decode_trades(path.read_bytes())),
    ("ws__", check_frames),
]


def test_every_recorded_file_is_read(kalshi_capture: Path) -> None:
    check = next(check for prefix, check in CHECKS if kalshi_capture.name.startswith(prefix))
    if check is not None:
        check(kalshi_capture)


# --- by hand


def lines(folder: Path) -> list[wire.Envelope]:
    text = (folder / "kalshi" / "ws__orderbook_trade_yes.jsonl").read_bytes()
    return [wire.peek(line) for line in text.splitlines() if line.strip()]


def body(folder: Path, name: str) -> bytes:
    return (folder / "kalshi" / f"{name}.json").read_bytes()


def test_recorded_subscriptions(captures_dir: Path) -> None:
    first, second = lines(captures_dir)[:2]
    assert (first.id, first.sid, first.seq) == (1, None, None)
    assert control.decode_subscribed(first) == control.Subscribed("orderbook_delta", 1)
    assert control.decode_subscribed(second) == control.Subscribed("trade", 2)


def test_recorded_snapshot_is_on_the_yes_scale(captures_dir: Path) -> None:
    frame = lines(captures_dir)[2]
    assert (frame.sid, frame.seq) == (1, 1)
    assert wire.decode_snapshot(frame) == wire.OrderbookSnapshot(
        MATCH, "f5ed38e2-0991-4c8f-817e-08c4fd9cbfdb", [(4_700, 3_000_000)], [(5_200, 1_000_000)]
    )


def test_recorded_deltas_are_signed(captures_dir: Path) -> None:
    removed, added = lines(captures_dir)[3:]
    assert (removed.seq, added.seq) == (2, 3)
    assert wire.decode_delta(removed) == wire.OrderbookDelta(
        MATCH, "no", 5_200, -1_000_000, 1_781_159_387_354_000_000, ""
    )
    assert wire.decode_delta(added) == wire.OrderbookDelta(MATCH, "no", 5_200, 2_000_000, 1_781_159_387_427_000_000, "")


def test_recorded_rest_book_is_on_the_no_scale_and_mirrored(captures_dir: Path) -> None:
    seen = rest.decode_rest_book(body(captures_dir, "orderbook__base"), MATCH)
    assert (seen.yes, seen.no) == ([(4_700, 3_000_000)], [(5_200, 3_000_000)])


def test_recorded_market(captures_dir: Path) -> None:
    market = rest.decode_market(rest.split_market(body(captures_dir, "markets__single")))
    assert (market.ticker, market.event_ticker) == (MATCH, "KXWTACHALLENGERMATCH-26JUN11JIMLEP")
    assert (market.status, market.result, market.market_type, market.is_combo) == ("active", "", "binary", False)
    assert market.price_ranges == [PriceRange(0, 10_000, 100)]
    assert (market.yes_bid, market.yes_ask, market.last_price) == (4_700, 5_200, 9_900)
    assert (market.open_interest, market.notional_e6) == (2_000_000, 1_000_000)
    # 2026-06-11T05:39:29Z, 2026-06-25T16:00:00Z
    assert (market.open_ns, market.close_ns) == (1_781_156_369_000_000_000, 1_782_403_200_000_000_000)
    assert (market.yes_sub_title, market.exchange_index) == ("Varvara Lepchenko", 0)


def test_recorded_weather_markets(captures_dir: Path) -> None:
    descriptions, cursor = rest.split_markets(body(captures_dir, "markets__high_temp"))
    markets = {market.ticker: market for market in map(rest.decode_market, descriptions)}
    assert len(markets) == 18
    assert json.loads(body(captures_dir, "markets__high_temp"))["cursor"] == cursor
    top = markets["KXHIGHNY-26JUN15-T85"]
    assert (top.strike_type, top.floor_strike, top.cap_strike) == ("greater", "85", "")
    assert (top.yes_bid, top.yes_ask) == (0, 5_000)
    ended = markets["KXHIGHNY-26JUN13-T87"]
    assert (ended.status, ended.result, ended.settlement_value) == ("determined", "yes", 10_000)
    assert markets["KXHIGHNY-26JUN13-T94"].settlement_value == 0


def test_recorded_deci_cent_combo(captures_dir: Path) -> None:
    descriptions, _ = rest.split_markets(body(captures_dir, "markets__status_open"))
    markets = {market.ticker: market for market in map(rest.decode_market, descriptions)}
    assert len(markets) == 200
    combo = markets["KXMVESPORTSMULTIGAMEEXTENDED-S202667DDE5A948C-EAAA448B85D"]
    assert combo.price_ranges == [PriceRange(0, 10_000, 10)]
    assert (combo.is_combo, combo.yes_bid, combo.yes_ask) == (True, 5_100, 10_000)


def test_recorded_fills(captures_dir: Path) -> None:
    fills, cursor = account.decode_fills(body(captures_dir, "fills__after_taker"))
    assert (len(fills), cursor) == (3, "")
    assert fills[0] == account.Fill(
        trade_id="f4a42159-b500-57c6-efa2-c31d94d916c1",
        order_id="97ec18b7-10d3-4557-9de0-8598aad625f0",
        client_order_id="",
        ticker=MATCH,
        side="bid",
        price=5_200,
        size=1_000_000,
        fee=17_500,
        is_taker=True,
        position_after=None,
        time_ns=1_781_159_370_164_956_000,
        exchange_index=0,
    )
    assert [(fill.price, fill.fee) for fill in fills[1:]] == [(9_900, 700), (9_900, 700)]


def test_recorded_positions_balance_and_orders(captures_dir: Path) -> None:
    (position,), _ = account.decode_positions(body(captures_dir, "portfolio__positions"))
    assert position == account.Position(MATCH, 3_000_000, 18_900, 0, 1_781_159_370_165_032_000)
    balance = account.decode_balance(body(captures_dir, "auth__balance_ok"))
    assert balance == account.Balance(98_018_600, {0: 98_018_600}, 1_781_159_348 * 10**9)
    listed, _ = account.decode_orders(body(captures_dir, "portfolio__orders_list"))
    taken, cancelled = listed[:2]
    assert (taken.status, taken.price, taken.filled, taken.cost, taken.fees) == (
        "executed",
        9_900,
        1_000_000,
        520_000,
        17_500,
    )
    assert (cancelled.status, cancelled.initial, cancelled.remaining, cancelled.filled) == ("canceled", 1_000_000, 0, 0)
    # Its REST read 0.4 s after the cancel was still the old one.
    stale = account.decode_order(body(captures_dir, "orders__get_after_cancel"))
    assert (stale.order_id, stale.status, stale.remaining) == (cancelled.order_id, "resting", 1_000_000)


def test_recorded_create_and_cancel(captures_dir: Path) -> None:
    taken = account.decode_created(body(captures_dir, "orders__create_v2_taker_ioc"))
    assert taken == account.Created(
        "97ec18b7-10d3-4557-9de0-8598aad625f0",
        "2b8394e0-515e-4b89-b624-f34067756855",
        1_000_000,
        0,
        "0.5200",
        "0.0175",
        1_781_159_370_164_000_000,
    )
    resting = account.decode_created(body(captures_dir, "orders__create_v2_maker"))
    assert (resting.filled, resting.remaining, resting.average_price) == (0, 1_000_000, "")
    assert account.decode_cancelled(body(captures_dir, "orders__cancel_v2")) == account.Cancelled(
        "2597b999-f887-4195-8bac-c3f97a1f2021", "", 1_000_000, 1_781_159_364_112_000_000
    )


def test_our_create_body_is_the_recorded_one(captures_dir: Path) -> None:
    recorded = request_of(captures_dir / "kalshi" / "orders__create_v2_taker_ioc.json")
    built = orders.create_order_body(
        ticker=MATCH,
        client_order_id="2b8394e0-515e-4b89-b624-f34067756855",
        side="bid",
        price=9_900,
        size=1_000_000,
        time_in_force="immediate_or_cancel",
    )
    assert json.loads(built) == recorded


@pytest.mark.parametrize(
    ("name", "code", "outcome"),
    [
        ("auth__bad_signature", "authentication_error", Outcome.UNAUTHORIZED),
        ("auth__missing_signature_header", "signature_is_missing_from_headers", Outcome.UNAUTHORIZED),
        ("auth__unknown_key_id", "authentication_error", Outcome.UNAUTHORIZED),
        ("orders__cancel_executed", "not_found", Outcome.NOT_FOUND),
        ("orders__cancel_unknown_id", "not_found", Outcome.NOT_FOUND),
        ("orders__duplicate_client_order_id", "order_already_exists", Outcome.DUPLICATE),
        ("orders__reuse_canceled_client_id", "order_already_exists", Outcome.DUPLICATE),
        ("orders__insufficient_balance", "insufficient_balance", Outcome.REJECTED),
        ("orders__invalid_price_structure", "invalid_price", Outcome.REJECTED),
        ("orders__numeric_field_types", "bad_request", Outcome.REJECTED),
        ("markets__limit_over_max", "http_400", Outcome.REJECTED),
    ],
)
def test_recorded_refusals(captures_dir: Path, name: str, code: str, outcome: Outcome) -> None:
    path = captures_dir / "kalshi" / f"{name}.json"
    seen = orders.decode_refusal(status_of(path), path.read_bytes())
    assert (seen.code, seen.outcome) == (code, outcome)


def test_recorded_refusal_keeps_its_details(captures_dir: Path) -> None:
    seen = orders.decode_refusal(401, body(captures_dir, "auth__bad_signature"))
    assert (seen.message, seen.details) == ("authentication_error", "INCORRECT_API_KEY_SIGNATURE")
    flat = orders.decode_refusal(400, body(captures_dir, "orders__numeric_field_types"))
    assert flat.details.startswith("json: cannot unmarshal number into Go struct field")


def test_recorded_trades(captures_dir: Path) -> None:
    trades, cursor = rest.decode_trades(body(captures_dir, "trades__public_recorded"))
    assert (len(trades), cursor) == (12, "EhIKEC4Yf1dC7Fly-I7MaD55Y-MaDAjavcDRBhDwop6bAg")
    assert trades[0] == wire.Trade(
        "56932642-f55c-41a6-1cad-35b95c27373b",
        "KXPGATOUR-USO26-JDAY",
        300,
        7_770_000,
        "bid",
        False,
        1_781_538_522_609_997_000,
    )


def test_recorded_costs_and_limits_are_ours(captures_dir: Path) -> None:
    costs = json.loads(body(captures_dir, "account__endpoint_costs"))
    assert costs["default_cost"] == rules.COST_DEFAULT
    for entry in costs["endpoint_costs"]:
        if "/portfolio/events/orders" in entry["path"] or (
            entry["path"].endswith("orders/:order_id") and (entry["method"] == "GET")
        ):
            assert rules.request_cost(entry["method"], entry["path"]) == entry["cost"]
    limits = json.loads(body(captures_dir, "account__limits"))
    basic = rules.TIERS[limits["usage_tier"]]
    assert limits["write"] == {"bucket_capacity": basic.write.capacity, "refill_rate": basic.write.refill_per_s}
    assert limits["read"]["refill_rate"] == basic.read.refill_per_s

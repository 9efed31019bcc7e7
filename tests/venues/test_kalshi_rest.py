"""Kalshi's REST bodies, private frames, order bodies and refusals."""

import json

import pytest

from core.domain.errors import MalformedFrame, Misconfigured, NotExact, OffGrid
from venues.environment import Environment
from venues.kalshi import account, hosts, orders, rest, wire
from venues.refusal import Outcome

FILL = {
    "trade_id": "d91bc706",
    "order_id": "ee587a1c",
    "client_order_id": "my-order-1",
    "market_ticker": "KXBTC15M-26NOV201200-00",
    "exchange_index": 2,
    "is_taker": True,
    "side": "yes",
    "action": "buy",
    "outcome_side": "yes",
    "book_side": "bid",
    "yes_price_dollars": "0.7500",
    "count_fp": "278.00",
    "fee_cost": "3.648750",
    "post_position_fp": "-500.00",
    "ts": 1793000000,
    "ts_ms": 1793000000123,
    "subaccount": 0,
}


def frame(kind: str, body: object) -> wire.Envelope:
    return wire.peek(json.dumps({"type": kind, "sid": 1, "msg": body}).encode())


def test_a_fill_of_the_private_channel() -> None:
    seen = account.decode_fill(frame("fill", FILL))
    assert seen == account.Fill(
        trade_id="d91bc706",
        order_id="ee587a1c",
        client_order_id="my-order-1",
        ticker="KXBTC15M-26NOV201200-00",
        side="bid",
        price=7_500,
        size=278_000_000,
        fee=3_648_750,
        is_taker=True,
        position_after=-500_000_000,
        time_ns=1_793_000_000_123_000_000,
        exchange_index=2,
    )


def test_a_fill_without_book_side_takes_the_outcome_and_without_either_is_malformed() -> None:
    body = {**FILL, "outcome_side": "no"}
    del body["book_side"]
    assert account.decode_fill(frame("fill", body)).side == "ask"
    del body["outcome_side"]
    with pytest.raises(MalformedFrame, match="fill d91bc706"):
        account.decode_fill(frame("fill", body))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"count_fp": "0.00"}, MalformedFrame),
        ({"count_fp": "-1.00"}, NotExact),
        ({"fee_cost": "0.0000001"}, NotExact),
        ({"market_ticker": ""}, MalformedFrame),
        ({"is_taker": "yes"}, MalformedFrame),
    ],
    ids=["no-size", "negative", "fee-too-fine", "no-ticker", "text-for-bool"],
)
def test_a_bad_fill_is_refused(changed: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="kalshi fill"):
        account.decode_fill(frame("fill", {**FILL, **changed}))


def test_an_order_of_the_private_channel_and_what_it_lacks() -> None:
    body = {
        "order_id": "o",
        "ticker": "A",
        "status": "canceled",
        "side": "yes",
        "outcome_side": "no",
        "book_side": "ask",
        "yes_price_dollars": "0.3500",
        "initial_count_fp": "10.00",
        "remaining_count_fp": "0.00",
        "fill_count_fp": "4.00",
        "taker_fill_cost_dollars": "1.000000",
        "maker_fill_cost_dollars": "0.400000",
        "taker_fees_dollars": "0.010000",
        "maker_fees_dollars": "0.002500",
        "client_order_id": "mine",
        "created_time": None,
        "created_ts_ms": None,
        "last_updated_ts_ms": 1795168800000,
        "expiration_ts_ms": 1795172400000,
        "last_update_reason": "ExpiryCancel",
    }
    seen = account.decode_user_order(frame("user_order", body))
    assert (seen.side, seen.status, seen.reason, seen.filled, seen.remaining) == (
        "ask",
        "canceled",
        "ExpiryCancel",
        4_000_000,
        0,
    )
    assert (seen.cost, seen.fees) == (1_400_000, 12_500)
    assert (seen.time_ns, seen.expiration_ns) == (1_795_168_800 * 10**9, 1_795_172_400 * 10**9)
    assert account.decode_user_order(frame("user_order", {**body, "status": "frozen"})).status == "frozen"


def test_a_position_of_the_private_channel() -> None:
    body = {
        "market_ticker": "FED-23DEC-T3.00",
        "position_fp": "-100.00",
        "fees_paid_dollars": "1.0000",
        "subaccount": 0,
    }
    assert account.decode_market_position(frame("market_position", body)) == account.Position(
        "FED-23DEC-T3.00", -100_000_000, 1_000_000, 0, 0
    )


def test_cash_by_shard() -> None:
    body = b"""{"balance":150,"balance_dollars":"1.5001","updated_ts":7,"balance_breakdown":[
        {"exchange_index":0,"balance":"1.0000"},{"exchange_index":2,"balance":"0.5001"}]}"""
    seen = account.decode_balance(body)
    assert (seen.total, seen.by_shard, seen.time_ns) == (1_500_100, {0: 1_000_000, 2: 500_100}, 7 * 10**9)


def test_settlements_count_cents() -> None:
    body = b"""{"cursor":"","settlements":[{"ticker":"A","market_result":"yes","yes_count_fp":"3.00","no_count_fp":"0.00",
        "revenue":300,"settled_time":"2026-06-12T00:00:00Z","fee_cost":"0.3400","value":100}]}"""
    (seen,), cursor = account.decode_settlements(body)
    assert (seen.revenue, seen.fee, seen.value, seen.yes_size, cursor) == (3_000_000, 340_000, 10_000, 3_000_000, "")


def test_series_and_events_state_fees() -> None:
    series = rest.decode_series(
        b'{"series":{"ticker":"KXINX","title":"S&P","category":"Financials","fee_type":"quadratic","fee_multiplier":0.5}}'
    )
    assert (series.fee_type, series.multiplier_e6) == ("quadratic", 500_000)
    (event, plain), cursor = rest.decode_events(
        b"""{"cursor":"c","events":[{"event_ticker":"E","series_ticker":"S","title":"t","mutually_exclusive":true,
        "collateral_return_type":"MECNET","fee_type_override":"quadratic_with_maker_fees","fee_multiplier_override":1},
        {"event_ticker":"F","series_ticker":"S","fee_type_override":null,"fee_multiplier_override":null}]}"""
    )
    assert (event.mutually_exclusive, event.collateral_return) == (True, "MECNET")
    assert (event.fee_type, event.multiplier_e6) == ("quadratic_with_maker_fees", 1_000_000)
    assert (plain.fee_type, plain.multiplier_e6, plain.markets) == ("", None, [])
    assert cursor == "c"
    with pytest.raises(MalformedFrame, match="fee_multiplier"):
        rest.decode_series(b'{"series":{"ticker":"A","fee_type":"flat","fee_multiplier":null}}')


def test_exchange_status_may_name_a_time() -> None:
    body = b'{"exchange_active":true,"trading_active":false,"exchange_estimated_resume_time":"2026-11-19T10:00:00Z"}'
    assert rest.decode_exchange_status(body) == rest.ExchangeStatus(True, False, 1_795_082_400 * 10**9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-11T06:29:30.164956Z", 1_781_159_370_164_956_000),
        ("2026-06-11T06:29:47.42784Z", 1_781_159_387_427_840_000),
        ("2026-06-11T08:29:30+02:00", 1_781_159_370_000_000_000),
        ("1970-01-01 00:00:00", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert rest.instant_ns(text, "here") == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30T00:00:00Z", "2026-06-11", "2026-06-11T06:29:30.1234567891Z"])
def test_what_is_no_time_is_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame, match="here"):
        rest.instant_ns(text, "here")


# --- orders


def test_numbers_of_an_order_are_text_with_fixed_decimals() -> None:
    body = orders.create_order_body(
        ticker="A",
        client_order_id="c",
        side="ask",
        price=5,
        size=12_340_000,
        time_in_force="good_till_canceled",
        post_only=True,
        expiration_s=1_800_000_000,
        exchange_index=2,
    )
    assert json.loads(body) == {
        "ticker": "A",
        "client_order_id": "c",
        "side": "ask",
        "count": "12.34",
        "price": "0.0005",
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
        "post_only": True,
        "expiration_time": 1_800_000_000,
        "exchange_index": 2,
    }


@pytest.mark.parametrize(("price", "size"), [(0, 10_000), (10_000, 10_000), (100, 0), (100, 5_000), (100, -10_000)])
def test_an_order_that_has_no_body_is_refused(price: int, size: int) -> None:
    with pytest.raises(OffGrid):
        orders.create_order_body(
            ticker="A", client_order_id="c", side="bid", price=price, size=size, time_in_force="fill_or_kill"
        )


def test_amend_and_cancel() -> None:
    body = json.loads(orders.amend_order_body(ticker="A", side="bid", price=100, total=2_000_000, expiration_s=0))
    assert body == {"ticker": "A", "side": "bid", "price": "0.0100", "count": "2.00", "expiration_time": 0}
    assert orders.cancel_query(ticker="A.B", exchange_index=0) == "?market_ticker=A.B&exchange_index=0"
    assert orders.cancel_query(ticker="A") == "?market_ticker=A"


@pytest.mark.parametrize(
    ("status", "body", "code", "message", "outcome"),
    [
        (429, b'{"error":"too many requests"}', "http_429", "too many requests", Outcome.THROTTLED),
        (401, b'{"error":{"code":"header_timestamp_expired","message":"header timestamp expired"}}',
         "header_timestamp_expired", "header timestamp expired", Outcome.UNAUTHORIZED),
        (409, b'{"error":{"code":"trading_is_paused","message":"trading is paused"}}',
         "trading_is_paused", "trading is paused", Outcome.PAUSED),
        (410, b'{"error":{"code":"deprecated_v1_order_endpoint"}}', "deprecated_v1_order_endpoint", "", Outcome.REJECTED),
        (400, b'{"msg":"Parameter validation failed"}', "http_400", "Parameter validation failed", Outcome.REJECTED),
        (408, b"", "http_408", "", Outcome.UNKNOWN),
        (500, b"", "http_500", "", Outcome.UNKNOWN),
        (503, b"<html>down</html>", "http_503", "<html>down</html>", Outcome.UNKNOWN),
        (504, b'{"code":"EXCHANGE_UNAVAILABLE","message":"m","details":"d"}', "EXCHANGE_UNAVAILABLE", "m", Outcome.UNKNOWN),
        (400, b'{"code":7}', "http_400", '{"code":7}', Outcome.REJECTED),
    ],
    ids=["429", "401", "409", "410", "msg", "timeout", "empty-500", "html", "504", "odd"],
)  # fmt: skip
def test_every_shape_of_refusal(status: int, body: bytes, code: str, message: str, outcome: Outcome) -> None:
    seen = orders.decode_refusal(status, body)
    assert (seen.status, seen.code, seen.message, seen.outcome) == (status, code, message, outcome)


# --- hosts


def test_production_is_recognised_under_any_name_of_the_venue() -> None:
    production = hosts.endpoints(Environment.PRODUCTION)
    demo = hosts.endpoints(Environment.DEMO)
    simulated = hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:8801")
    assert hosts.takes_production_orders(production.order_rest)
    assert hosts.takes_production_orders("https://api.elections.kalshi.com/trade-api/v2")
    assert hosts.takes_production_orders("HTTPS://Trading-API.Kalshi.com./x")
    assert not hosts.takes_production_orders(demo.order_rest)
    assert not hosts.takes_production_orders("https://kalshi.com.example.org")
    assert not hosts.takes_production_orders(simulated.order_rest)
    assert (simulated.order_rest, simulated.market_ws) == ("http://127.0.0.1:8801", "ws://127.0.0.1:8801")


@pytest.mark.parametrize("address", ["", "example.org:80", "127.0.0.1", "10.0.0.1:80", "127.0.0.1:x"])
def test_a_simulated_venue_stands_on_this_machine(address: str) -> None:
    with pytest.raises(Misconfigured):
        hosts.endpoints(Environment.SIMULATED, simulated=address)

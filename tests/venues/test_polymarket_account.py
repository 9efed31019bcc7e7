"""Polymarket's user channel, order bodies, answers, refusals, catalogue and hosts."""

import json
from typing import Any

import pytest

from core.domain.errors import MalformedFrame, Misconfigured, NotExact
from venues.environment import Environment
from venues.polymarket import account, control, hosts, orders, rest
from venues.polymarket.account import MakerOrder, TradeFill
from venues.polymarket.auth import Credentials, Order, SignedOrder
from venues.polymarket.events import Pong, Unknown
from venues.refusal import Outcome

ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
ORDER = {
    "event_type": "order",
    "id": "0x0f",
    "market": "0xdd",
    "asset_id": "21",
    "side": "BUY",
    "price": "0.513",
    "original_size": "5",
    "size_matched": "0",
    "status": "LIVE",
    "type": "PLACEMENT",
    "order_type": "GTC",
    "created_at": "1725842520",
    "expiration": "0",
    "timestamp": "1725842520990",
    "associate_trades": None,
    "owner": "me",
}
TRADE = {
    "event_type": "trade",
    "type": "TRADE",
    "id": "t1",
    "market": "0xdd",
    "asset_id": "yes",
    "side": "BUY",
    "price": "0.52",
    "size": "5",
    "status": "MATCHED",
    "taker_order_id": "0x5b",
    "trader_side": "TAKER",
    "owner": "me",
    "match_time": "1725958681",
    "timestamp": "1725958682125",
    "maker_orders": [
        {
            "order_id": "0xa3",
            "asset_id": "yes",
            "price": "0.52",
            "matched_amount": "5",
            "side": "SELL",
            "owner": "other",
        }
    ],
}


def one(message: object) -> Any:
    (event,) = account.decode_user_frame(json.dumps(message).encode())
    return event


# --- user channel


@pytest.mark.parametrize("form", ["text", "number"])
def test_an_order_in_text_and_in_numbers_is_the_same(form: str) -> None:
    changed: dict[str, object] = {}
    if form == "number":
        changed = {"price": 0.513, "original_size": 5, "size_matched": 0, "created_at": 1725842520, "expiration": 0}
        changed |= {"timestamp": 1725842520990}
    seen = one({**ORDER, **changed})
    assert (seen.price, seen.original, seen.matched, seen.status) == (5_130, 5_000_000, 0, "LIVE")
    assert (seen.created_ns, seen.expiration_ns) == (1_725_842_520 * 10**9, 0)
    assert seen.time_ns == 1_725_842_520_990_000_000


def test_empty_texts_are_zero() -> None:
    seen = one({**ORDER, "size_matched": "", "created_at": "", "expiration": None, "timestamp": ""})
    assert (seen.matched, seen.created_ns, seen.expiration_ns, seen.time_ns) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("status", "plain", "reason"),
    [
        ("LIVE", "LIVE", ""),
        ("ORDER_STATUS_LIVE", "LIVE", ""),
        ("CANCELED_MARKET_RESOLVED", "CANCELED", "MARKET_RESOLVED"),
        ("ORDER_STATUS_CANCELED_MARKET_RESOLVED", "CANCELED", "MARKET_RESOLVED"),
        ("CANCELED_order couldn't be fully filled.", "CANCELED", "order couldn't be fully filled."),
        ("UNMATCHED_not_now", "UNMATCHED", "not_now"),
        ("INVALID", "INVALID", ""),
    ],
)
def test_statuses_lose_prefix_and_reason(status: str, plain: str, reason: str) -> None:
    seen = one({**ORDER, "status": status})
    assert (seen.status, seen.reason) == (plain, reason)


def test_what_lacks_a_type_is_told_by_its_kind() -> None:
    order = {key: value for key, value in ORDER.items() if key != "event_type"}
    trade = {key: value for key, value in TRADE.items() if key != "event_type"}
    events = account.decode_user_frame(json.dumps([order, trade, {"type": "GREETING"}, {"event_type": "x"}]).encode())
    assert [type(event) for event in events] == [account.OrderUpdate, account.UserTrade, Unknown, Unknown]
    assert account.decode_user_frame(b"PONG") == [Pong()]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"price": True}, MalformedFrame),
        ({"price": {"x": 1}}, MalformedFrame),
        ({"price": "-0.5"}, NotExact),
        ({"price": 1e-05}, NotExact),
        ({"original_size": "1" * 30}, NotExact),
        ({"side": "LONG"}, MalformedFrame),
        ({"id": None}, MalformedFrame),
    ],
)
def test_a_bad_order_is_refused(changed: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        one({**ORDER, **changed})


def test_rest_statuses_lose_their_prefix() -> None:
    seen = one({**TRADE, "status": "TRADE_STATUS_CONFIRMED"})
    assert seen.status == "CONFIRMED"
    assert seen.status in account.TRADE_TERMINAL
    assert one({**TRADE, "status": "MATCHED_NOT_BROADCASTED"}).status == "MATCHED_NOT_BROADCASTED"


def test_match_time_has_two_spellings() -> None:
    other = {**TRADE, "matchtime": 1725958681}
    del other["match_time"]
    assert one(TRADE).match_ns == one(other).match_ns == 1_725_958_681 * 10**9


# --- fills


def test_a_taker_is_filled_at_each_makers_price() -> None:
    makers = [
        {"order_id": "a", "asset_id": "no", "price": "0.99", "matched_amount": "5", "side": "BUY", "owner": "x"},
        {"order_id": "b", "asset_id": "yes", "price": "0.02", "matched_amount": "2", "side": "SELL", "owner": "y"},
    ]
    seen = one({**TRADE, "price": "0.013", "size": "7", "maker_orders": makers})
    assert account.trade_fills(seen, owner="me") == [
        TradeFill("t1:a", "0x5b", "yes", "BUY", 100, 5_000_000, True),
        TradeFill("t1:b", "0x5b", "yes", "BUY", 200, 2_000_000, True),
    ]


def test_a_makers_fills_are_its_own_entries() -> None:
    makers = [
        {"order_id": "a", "asset_id": "no", "price": "0.48", "matched_amount": "5", "owner": "me"},
        {"order_id": "b", "asset_id": "yes", "price": "0.52", "matched_amount": "2", "owner": "me"},
        {"order_id": "c", "asset_id": "yes", "price": "0.52", "matched_amount": "9", "owner": "other"},
    ]
    seen = one({**TRADE, "trader_side": "MAKER", "owner": "other", "size": "16", "maker_orders": makers})
    # The other token was minted with ours on the taker's side; the same token was sold to it.
    assert account.trade_fills(seen, owner="me") == [
        TradeFill("t1:a", "a", "no", "BUY", 4_800, 5_000_000, False),
        TradeFill("t1:b", "b", "yes", "SELL", 5_200, 2_000_000, False),
    ]


def test_a_trade_that_does_not_add_up_is_malformed() -> None:
    with pytest.raises(MalformedFrame, match="found 5000000e-6"):
        account.trade_fills(one({**TRADE, "size": "6"}), owner="me")
    with pytest.raises(MalformedFrame, match="order of ours"):
        account.trade_fills(one({**TRADE, "trader_side": "MAKER"}), owner="me")


def test_a_trade_without_makers_is_one_fill() -> None:
    seen = one({**TRADE, "maker_orders": None})
    assert account.trade_fills(seen, owner="me") == [TradeFill("t1", "0x5b", "yes", "BUY", 5_200, 5_000_000, True)]
    assert one(TRADE).maker_orders == [MakerOrder("0xa3", "yes", "SELL", 5_200, 5_000_000, "other", "")]


def test_balances_are_whole_millionths_or_dollars() -> None:
    unlimited = str(2**256 - 1)
    body = {"balance": "1234567", "allowances": {"0xa": unlimited, "0xb": "5"}}
    assert account.decode_balance_allowance(json.dumps(body).encode()) == account.BalanceAllowance(1_234_567, 5)
    body = {"balance": "0", "allowance": unlimited}
    assert account.decode_balance_allowance(json.dumps(body).encode()).allowance == 2**256 - 1
    for text in ("-1", "1e6", "", "9" * 79):
        with pytest.raises((MalformedFrame, NotExact)):
            account.decode_balance_allowance(json.dumps({"balance": text}).encode())


# --- orders


def signed(**changed: Any) -> SignedOrder:
    fields: dict[str, Any] = {
        "salt": 1,
        "maker": ADDRESS,
        "signer": ADDRESS,
        "token_id": 2,
        "maker_amount": 3,
        "taker_amount": 4,
        "side": 0,
        "timestamp_ms": 5,
    }
    return SignedOrder(Order(**{**fields, **changed}), "0xid", "0xsig")


@pytest.mark.parametrize(
    ("expiration", "order_type", "post_only"),
    [(0, "GTD", False), (7, "GTC", False), (7, "FOK", False), (0, "FAK", True), (0, "FOK", True)],
)
def test_contradictions_are_refused_before_they_are_sent(expiration: int, order_type: Any, post_only: bool) -> None:
    with pytest.raises(MalformedFrame, match="cannot"):
        orders.order_body(signed(expiration=expiration), owner="k", order_type=order_type, post_only=post_only)


def test_a_batch_is_an_array_of_requests() -> None:
    requests = [orders.order_request(signed(side=side), owner="k", order_type="GTC") for side in (0, 1)]
    body = orders.orders_body(requests)
    assert orders.decode_order_requests(body) == requests
    assert [item["order"]["side"] for item in json.loads(body)] == ["BUY", "SELL"]


@pytest.mark.parametrize(
    "changed",
    [{"tokenId": "-1"}, {"makerAmount": "1.5"}, {"takerAmount": ""}, {"side": "LONG"}, {"salt": 2**53}, {"tokenId": str(2**256)}],
)  # fmt: skip
def test_a_request_that_signs_nothing_sensible_is_malformed(changed: dict[str, object]) -> None:
    request = json.loads(orders.order_body(signed(), owner="k", order_type="GTC"))
    request["order"] |= changed
    with pytest.raises(MalformedFrame):
        orders.signed_fields(orders.decode_order_request(json.dumps(request).encode()).order)


def test_bodies_of_cancels_and_heartbeats_are_those_the_client_signs() -> None:
    assert orders.cancel_body("0xff") == b'{"orderID":"0xff"}'
    assert orders.cancels_body(["0xff"]) == b'["0xff"]'
    assert orders.cancel_market_body(market="0xbd", asset_id="7") == b'{"market":"0xbd","asset_id":"7"}'
    assert orders.heartbeat_body("") == b'{"heartbeat_id":""}'
    assert orders.decode_heartbeat(b'{"error_msg":"Invalid Heartbeat ID","heartbeat_id":"h"}') == "h"


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"success": True, "errorMsg": "", "orderID": "0x7", "status": "live"}, True),
        ({"success": True, "errorMsg": "", "orderID": "0x7", "status": "matched"}, True),
        ({"success": True, "errorMsg": "", "orderID": "0x7", "status": "delayed"}, True),
        ({"success": True, "errorMsg": "", "orderID": "0x7", "status": "unmatched"}, False),
        ({"success": True, "errorMsg": "not enough balance / allowance", "orderID": "", "status": ""}, False),
        ({"success": True, "errorMsg": "", "orderID": "", "status": "live"}, False),
        ({"success": False, "errorMsg": "x", "orderID": "0x7", "status": "live"}, False),
    ],
)
def test_success_is_not_acceptance(body: dict[str, object], accepted: bool) -> None:
    assert orders.decode_order_answer(json.dumps(body).encode()).accepted is accepted


def test_amounts_of_an_answer_are_decimal_units() -> None:
    body = {"success": True, "orderID": "0x7", "status": "matched", "takingAmount": "21.04", "makingAmount": "11.7824"}
    first, second = orders.decode_order_answers(
        json.dumps([{**body, "tradeIDs": ["t"]}, {**body, "takingAmount": ""}]).encode()
    )
    assert (first.making, first.taking, first.trade_ids) == (11_782_400, 21_040_000, ["t"])
    assert (second.taking, second.trade_ids) == (0, [])


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (401, b'{"error":"Unauthorized/Invalid api key"}', Outcome.UNAUTHORIZED),
        (400, b'{"error":"order 0x1 is invalid. Duplicated."}', Outcome.DUPLICATE),
        (400, b'{"error":"not enough balance / allowance: x"}', Outcome.REJECTED),
        (400, b'{"error":"order_version_mismatch"}', Outcome.REJECTED),
        (400, b'{"error":"order match delayed due to market conditions"}', Outcome.UNKNOWN),
        (400, b'{"error":"the market is not yet ready to process new orders"}', Outcome.PAUSED),
        (404, b'{"error":"No orderbook exists for the requested token id"}', Outcome.NOT_FOUND),
        (425, b"", Outcome.PAUSED),
        (429, b'{"error":"slow down"}', Outcome.THROTTLED),
        (403, b"<!DOCTYPE html><html>blocked</html>", Outcome.UNAUTHORIZED),
        (500, b'{"error":"there are no matching orders"}', Outcome.REJECTED),
        (500, b'{"error":"order timed out"}', Outcome.UNKNOWN),
        (500, b'{"error":"could not insert order"}', Outcome.UNKNOWN),
        (502, b"", Outcome.UNKNOWN),
        (503, b'{"error":"Trading is currently cancel-only. New orders are not accepted, but cancels are allowed."}', Outcome.PAUSED),
        (200, b"", Outcome.UNKNOWN),
    ],
)  # fmt: skip
def test_refusals(status: int, body: bytes, outcome: Outcome) -> None:
    assert orders.decode_refusal(status, body).outcome is outcome


def test_a_refusal_says_how_long_to_wait() -> None:
    body = b'{"error":"post-only mode: only post-only orders and cancels are allowed","code":"post_only_mode","retry_after_seconds":79}'
    seen = orders.decode_refusal(503, body)
    assert (seen.code, seen.retry_after_s, seen.outcome) == ("post_only_mode", 79, Outcome.PAUSED)


# --- catalogue and hosts


def gamma(**changed: object) -> dict[str, object]:
    body = {
        "id": "1",
        "conditionId": "0xc",
        "question": "q",
        "slug": "s",
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": '["1", "2"]',
        "active": True,
        "closed": False,
        "acceptingOrders": True,
        "enableOrderBook": True,
        "orderPriceMinTickSize": 0.0025,
        "orderMinSize": 5,
        "negRisk": True,
        "negRiskMarketID": "0xn",
        "feesEnabled": True,
        "feeSchedule": {"exponent": 1, "rate": 0.07, "takerOnly": True, "rebateRate": 0.2},
        "events": [{"id": "9", "slug": "e", "title": "t", "negRiskAugmented": True}],
    }
    return {**body, **changed}


def test_lists_come_as_arrays_or_as_text_that_holds_one() -> None:
    plain = rest.decode_gamma_market(json.dumps(gamma()).encode())
    real = rest.decode_gamma_market(json.dumps(gamma(outcomes=["Yes", "No"], clobTokenIds=["1", "2"])).encode())
    assert plain == real
    assert plain.is_binary
    assert (plain.tick, plain.size_min, plain.fee_rate_e6, plain.neg_risk_market_id) == (25, 5_000_000, 70_000, "0xn")
    assert plain.event_neg_risk_augmented
    bare = rest.decode_gamma_market(json.dumps(gamma(outcomes=None, clobTokenIds="")).encode())
    assert (bare.token_ids, bare.outcomes, bare.is_binary) == ([], [], False)
    with pytest.raises(MalformedFrame, match="market 1"):
        rest.decode_gamma_market(json.dumps(gamma(outcomes='["Yes"')).encode())


def test_a_fee_that_is_charged_but_not_stated_is_unknown() -> None:
    assert rest.decode_gamma_market(json.dumps(gamma(feeSchedule=None)).encode()).fee_rate_e6 is None
    assert rest.decode_gamma_market(json.dumps(gamma(feesEnabled=False)).encode()).fee_rate_e6 == 0


def test_pages_are_wrapped_or_bare() -> None:
    wrapped = rest.split_markets(b'{"markets":[{"id": "1"},{"id":"2"}],"next_cursor":"c"}')
    assert wrapped == ([b'{"id": "1"}', b'{"id":"2"}'], "c")
    assert rest.split_markets(b'{"markets":[]}') == ([], "")
    assert rest.split_markets(b' [{"id":"1"}]') == ([b'{"id":"1"}'], "")


def test_rules_in_short() -> None:
    body = {
        "t": [{"t": "1", "o": "Yes"}, {"t": "2", "o": "No"}],
        "mos": 5,
        "mts": 0.01,
        "nr": True,
        "fd": {"r": 0.07, "e": 1, "to": True},
        "sd": 1,
        "itode": True,
    }
    seen = rest.decode_clob_rules(json.dumps(body).encode())
    assert (seen.tick, seen.size_min, seen.neg_risk, seen.fee_rate_e6) == (100, 5_000_000, True, 70_000)
    assert (seen.token_ids, seen.taker_delay_s, seen.taker_delay_enabled) == (["1", "2"], 1, True)


def test_rest_books_are_books_and_nothing_else() -> None:
    with pytest.raises(MalformedFrame, match="expected a book"):
        rest.decode_books(b'{"error":"No orderbook exists for the requested token id"}')
    assert rest.decode_books(b"[]") == []


def test_the_user_channel_opens_with_the_secret_in_the_clear() -> None:
    credentials = Credentials(api_key="k", secret="c2VjcmV0", passphrase="p")
    assert json.loads(control.subscribe_user(credentials, ["0x1"])) == {
        "auth": {"apiKey": "k", "secret": "c2VjcmV0", "passphrase": "p"},
        "type": "user",
        "markets": ["0x1"],
    }


def test_production_is_recognised_and_there_is_no_demo() -> None:
    production = hosts.endpoints(Environment.PRODUCTION)
    assert all(
        map(hosts.takes_production_orders, (production.order_rest, production.market_ws, "https://api.polymarket.us"))
    )
    simulated = hosts.endpoints(Environment.SIMULATED, simulated="http://localhost:9001")
    assert simulated.private_ws == "ws://localhost:9001"
    assert not hosts.takes_production_orders(simulated.order_rest)
    assert not hosts.takes_production_orders("https://polymarket.com.example.org")
    with pytest.raises(Misconfigured, match="no demo"):
        hosts.endpoints(Environment.DEMO)

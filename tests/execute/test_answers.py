"""What each answer of a venue is taken to mean; recorded bodies where they exist."""

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from core.domain.errors import MalformedFrame
from execute.kalshi import KalshiVenue
from execute.polymarket import PolymarketVenue
from execute.ports import Lane, Reply, Request
from execute.views import Subject
from tests.execute.unreached import kalshi_venue, polymarket_venue
from tests.records import binary, granted
from venues.refusal import Outcome

E6 = 1_000_000
YES, NO = "111", "222"
GRANT = granted(token=YES, price=5_200, size=E6, time_in_force="GTC", send_by_ns=2)
SUBJECT = Subject(
    order="g",
    instrument="kalshi:T",
    client_id="c",
    venue_order="v",
    side="BUY",
    price=5_200,
    size=3 * E6,
    submitted_ns=1,
    answered=True,
)
SUBMITTED_S = 1_780_000_000
TAKER = dataclasses.replace(
    SUBJECT,
    instrument="polymarket:0xm",
    client_id="",
    venue_order="0xtaker",
    size=20 * E6,
    submitted_ns=SUBMITTED_S * 10**9,
)
CREATE = Request("POST", "/order")


def grant(**changes):
    return msgspec.structs.replace(GRANT, **changes)


def reply(body, status=200):
    return Reply(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 1, 2)


@pytest.fixture(scope="module")
def kalshi() -> KalshiVenue:
    return kalshi_venue()


@pytest.fixture
def polymarket() -> PolymarketVenue:
    instrument = binary("polymarket:0xm", tick_from=[100], tick_to=[9_900], taker_fee_e6=70_000, tokens=[YES, NO])
    return polymarket_venue(instruments={instrument.instrument: instrument})


# --- Kalshi


def recorded(captures: Path, name: str, status: int) -> Reply:
    return Reply(status, (captures / "kalshi" / f"{name}.json").read_bytes(), 1, 2)


def test_recorded_creates_of_kalshi(captures, kalshi) -> None:
    answer = kalshi.read_answer(
        grant(time_in_force="IOC"), CREATE, recorded(captures, "orders__create_v2_taker_ioc", 201)
    )
    (view,) = answer.views
    assert (view.status, view.filled) == ("FILLED", E6)
    assert view.client_id == "2b8394e0-515e-4b89-b624-f34067756855"
    (view,) = kalshi.read_answer(grant(), CREATE, recorded(captures, "orders__create_v2_maker", 201)).views
    assert (view.status, view.filled) == ("ACCEPTED", 0)


@pytest.mark.parametrize(
    ("name", "status", "outcome"),
    [
        ("orders__duplicate_client_order_id", 409, Outcome.DUPLICATE),
        ("orders__insufficient_balance", 400, Outcome.REJECTED),
        ("orders__invalid_price_structure", 400, Outcome.REJECTED),
        ("auth__bad_signature", 401, Outcome.UNAUTHORIZED),
    ],
)
def test_recorded_refusals_of_kalshi(captures, kalshi, name, status, outcome) -> None:
    answer = kalshi.read_answer(grant(), CREATE, recorded(captures, name, status))
    assert answer.refusal is outcome
    assert answer.views == ()


def test_recorded_cancels_of_kalshi(captures, kalshi) -> None:
    (view,) = kalshi.read_cancel(SUBJECT, recorded(captures, "orders__cancel_v2", 200)).views
    # Three were ordered and one was left: two had been filled.
    assert (view.status, view.filled) == ("CANCELLED", 2 * E6)
    assert kalshi.read_cancel(SUBJECT, recorded(captures, "orders__cancel_executed", 404)).refusal is Outcome.NOT_FOUND


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_error_of_kalshi_says_nothing_about_the_order(kalshi, status) -> None:
    assert kalshi.read_answer(grant(), CREATE, reply(b"<html>", status)).refusal is Outcome.UNKNOWN


def test_success_that_cannot_be_read_is_looked_up(kalshi, polymarket) -> None:
    assert kalshi.read_answer(grant(), CREATE, reply({"order": 5}, 201)).refusal is Outcome.UNKNOWN
    assert polymarket.read_answer(grant(), CREATE, reply(b"ok")).refusal is Outcome.UNKNOWN


def test_self_trade_prevention_leaves_nothing_resting_and_nothing_filled(kalshi) -> None:
    body = {"order_id": "v", "fill_count": "0.00", "remaining_count": "0.00"}
    (view,) = kalshi.read_answer(grant(), CREATE, reply(body, 201)).views
    assert (view.status, view.filled) == ("CANCELLED", 0)


@pytest.mark.parametrize(
    ("status", "filled", "reason", "expected"),
    [
        ("resting", "1.00", "", ("ACCEPTED", E6)),
        ("executed", "3.00", "Trade", ("FILLED", 3 * E6)),
        ("executed", "1.00", "Trade", ("CANCELLED", E6)),
        ("canceled", "1.00", "SelfTradeCancel", ("CANCELLED", E6)),
        ("canceled", "0.00", "ExpiryCancel", ("EXPIRED", 0)),
        ("unknown", "0.00", "", None),
    ],
)
def test_order_frames_of_kalshi(kalshi, status, filled, reason, expected) -> None:
    message = {
        "order_id": "v",
        "ticker": "T",
        "status": status,
        "book_side": "bid",
        "yes_price_dollars": "0.5200",
        "initial_count_fp": "3.00",
        "remaining_count_fp": "0.00",
        "fill_count_fp": filled,
        "last_update_reason": reason,
    }
    views = kalshi.parse(json.dumps({"type": "user_order", "sid": 1, "msg": message}).encode())
    assert [(view.status, view.filled) for view in views] == ([expected] if expected else [])


def test_control_frames_of_kalshi_say_nothing_and_an_error_is_named(kalshi) -> None:
    assert kalshi.parse(b'{"type":"subscribed","id":1,"msg":{"channel":"fill","sid":1}}') == ()
    assert kalshi.parse(b'{"type":"something_new","msg":{}}') == ()
    with pytest.raises(MalformedFrame, match="8 Unknown channel name"):
        kalshi.parse(b'{"type":"error","id":1,"msg":{"code":8,"msg":"Unknown channel name"}}')


# --- Polymarket


def test_recorded_answers_of_polymarket(captures, polymarket) -> None:
    def recorded_answer(name: str, status: int = 200):
        body = (captures / "polymarket" / f"{name}.json").read_bytes()
        return polymarket.read_answer(grant(), CREATE, Reply(status, body, 1, 2))

    failed = recorded_answer("clob_post_order__failed")
    assert failed.refusal is Outcome.REJECTED
    assert failed.error.message == "Insufficient balance"
    assert recorded_answer("clob_post_order__error_500", 500).refusal is Outcome.UNKNOWN
    # Success without a status is no acceptance: it is looked up.
    assert recorded_answer("clob_post_order__ok").refusal is Outcome.UNKNOWN


def answered(status, *, taking="", making="", error="", order_id="0xv", success=True):
    return reply(
        {
            "errorMsg": error,
            "orderID": order_id,
            "takingAmount": taking,
            "makingAmount": making,
            "status": status,
            "success": success,
        }
    )


@pytest.mark.parametrize(
    ("changes", "body", "expected"),
    [
        ({}, answered("live"), ("ACCEPTED", 0)),
        ({}, answered("matched", taking="1", making="0.52"), ("FILLED", E6)),
        ({}, answered("matched", taking="0.4", making="0.208"), ("ACCEPTED", 400_000)),
        ({"time_in_force": "IOC"}, answered("matched", taking="0.4", making="0.208"), ("CANCELLED", 400_000)),
        ({"token_side": "SELL"}, answered("matched", taking="0.52", making="1"), ("FILLED", E6)),
        ({}, answered("delayed"), ("ACCEPTED", 0)),
        # What was signed is cut down to hundredths of a share.
        ({"size": E6 + 9_999}, answered("matched", taking="1", making="0.52"), ("FILLED", E6)),
    ],
)
def test_accepted_orders_of_polymarket(polymarket, changes, body, expected) -> None:
    (view,) = polymarket.read_answer(grant(**changes), CREATE, body).views
    assert (view.status, view.filled) == expected


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (answered("", error="not enough balance / allowance", order_id="", success=True), Outcome.REJECTED),
        (answered("", error="order 0xv is invalid. Duplicated.", order_id="", success=False), Outcome.DUPLICATE),
        (answered("unmatched"), Outcome.UNKNOWN),
        (reply({"error": "order 0xv is invalid. Duplicated."}, 400), Outcome.DUPLICATE),
        (reply({"error": "Unauthorized/Invalid api key"}, 401), Outcome.UNAUTHORIZED),
        (reply({"error": "restarting"}, 425), Outcome.PAUSED),
        (reply(b"<html>blocked</html>", 403), Outcome.UNAUTHORIZED),
        (reply({"error": "could not insert order"}, 500), Outcome.UNKNOWN),
    ],
)
def test_refused_orders_of_polymarket(polymarket, body, outcome) -> None:
    answer = polymarket.read_answer(grant(), CREATE, body)
    assert answer.refusal is outcome
    assert answer.views == ()


def test_match_without_amounts_is_looked_up(polymarket) -> None:
    answer = polymarket.read_answer(grant(), CREATE, answered("matched"))
    assert answer.refusal is None
    assert answer.views == ()


def test_recorded_order_frames_of_polymarket(captures, polymarket) -> None:
    expected = {
        "maker_buy_placement_live": [("ACCEPTED", 0)],
        "matched": [("FILLED", 100 * E6)],
        "cancellation": [("CANCELLED", 0)],
        "venue_cancel": [("CANCELLED", 0)],
        "fok_killed": [("CANCELLED", 0)],
        # It may rest: asked for.
        "maker_buy_unmatched": [],
    }
    for name, wanted in expected.items():
        payload = (captures / "polymarket" / f"ws_user_order__{name}.json").read_bytes()
        assert [(view.status, view.filled) for view in polymarket.parse(payload)] == wanted, name


def trade(*, status="MATCHED", makers=(("0xa", YES, "0.52", "4"), ("0xb", NO, "0.48", "6")), size="10"):
    return json.dumps(
        {
            "event_type": "trade",
            "type": "TRADE",
            "id": "t1",
            "market": "0xm",
            "asset_id": YES,
            "side": "BUY",
            "price": "0.52",
            "size": size,
            "status": status,
            "taker_order_id": "0xtaker",
            "trader_side": "TAKER",
            "owner": "me",
            "transaction_hash": "0xhash",
            "match_time": "1780000000",
            "maker_orders": [
                {"order_id": o, "asset_id": a, "price": p, "matched_amount": m, "owner": "other"}
                for o, a, p, m in makers
            ],
        }
    ).encode()


def test_taker_fee_of_one_trade_is_shared_by_its_fills_to_the_unit(polymarket) -> None:
    first, second = polymarket.parse(trade())
    assert (first.size, second.size) == (4 * E6, 6 * E6)
    # A NO bid at 0.48 is a YES ask at 0.52: both fills are at the taker's own price.
    assert first.price_e6 == second.price_e6 == 520_000
    # 10 x 0.07 x 0.52 x 0.48 = 0.17472, as one.
    assert first.fee_e6 + second.fee_e6 == 174_720
    assert (first.notional_e6, second.notional_e6) == (2_080_000, 3_120_000)


def test_fills_have_the_same_ids_and_figures_at_every_status(polymarket) -> None:
    matched = polymarket.parse(trade())
    confirmed = polymarket.parse(trade(status="CONFIRMED"))
    assert [confirmed[0], confirmed[2]] == list(matched)
    assert [(v.fill, v.settlement, v.reference) for v in (confirmed[1], confirmed[3])] == [
        ("t1:0xa", "CONFIRMED", "0xhash"),
        ("t1:0xb", "CONFIRMED", "0xhash"),
    ]
    assert {v.settlement for v in polymarket.parse(trade(status="FAILED"))} == {"MATCHED", "FAILED"}
    assert len(polymarket.parse(trade(status="MINED"))) == len(polymarket.parse(trade(status="RETRYING"))) == 2


class Desk:
    """Answers of one venue by path, and what was asked."""

    def __init__(self, answers) -> None:
        self.answers = answers
        self.asked = []

    async def call(self, request, *, lane, order="", send_by_ns=0, headers=None):
        self.asked.append((request.path, lane))
        for start, (status, body) in self.answers.items():
            if request.path.startswith(start):
                return reply(body, status)
        return reply({"error": "not found"}, 404)


EMPTY_PAGE = {"data": [], "next_cursor": "LTE="}


async def test_order_the_venue_lists_no_more_ends_with_what_its_trades_sum_to(polymarket) -> None:
    desk = Desk(
        {
            "/time": (200, b"1780000100"),
            "/data/trades": (200, {"data": [json.loads(trade())], "next_cursor": "LTE="}),
        }
    )
    found = await polymarket.look_up(desk, TAKER)
    assert found.found
    assert found.as_of_ns == 1_780_000_100 * 10**9
    assert (found.views[-1].status, found.views[-1].filled) == ("CANCELLED", 10 * E6)
    assert {lane for _, lane in desk.asked} == {Lane.HEDGE}


@pytest.mark.parametrize(
    ("after_s", "statuses"),
    [(1, []), (5, []), (6, ["CANCELLED"])],
    ids=["held back", "to the end of the window", "past it"],
)
async def test_order_that_is_not_listed_yet_is_not_ended_before_the_window_is_past(
    polymarket, after_s, statuses
) -> None:
    desk = Desk(
        {"/time": (200, str(SUBMITTED_S + after_s).encode()), "/data/trades": (200, EMPTY_PAGE)},
    )
    # Answered with `delayed`: the venue knows it, and lists it only when the delay is over.
    assert TAKER.answered
    found = await polymarket.look_up(desk, TAKER)
    assert [view.status for view in found.views] == statuses
    assert found.found == bool(statuses)


async def test_order_nobody_knows_is_not_found(polymarket) -> None:
    desk = Desk({"/time": (200, b"1780000100"), "/data/trades": (200, EMPTY_PAGE)})
    subject = dataclasses.replace(TAKER, price=1, size=1, submitted_ns=1, answered=False)
    found = await polymarket.look_up(desk, subject)
    assert not found.found
    assert found.views == ()

"""Kalshi's messages become exact values, or a named error that says what and where."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import MalformedFrame, NotExact, Reject
from core.domain.units import from_fixed
from venues.kalshi import control, wire
from venues.kalshi.wire import PriceRange

TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"


def frame(kind: str, body: object, **envelope: object) -> wire.Envelope:
    return wire.peek(json.dumps({"type": kind, **envelope, "msg": body}).encode())


def delta(**changed: object) -> dict[str, object]:
    body = {"market_ticker": TICKER, "price_dollars": "0.4700", "delta_fp": "-3.00", "side": "yes", "ts_ms": 1}
    return {**body, **changed}


def test_peek_gives_the_place_in_the_sequence_without_reading_the_body() -> None:
    seen = wire.peek(b'{"msg":{"x":[1,2]},"type":"orderbook_delta","sid":3,"seq":7,"sending_ts_ms":5,"new":{"a":1}}')
    assert (seen.type, seen.sid, seen.seq, seen.id, seen.sending_ts_ms) == ("orderbook_delta", 3, 7, None, 5)
    assert bytes(seen.msg) == b'{"x":[1,2]}'


def test_an_unknown_type_is_passed_on_not_refused() -> None:
    assert wire.peek(b'{"type":"weather","sid":1,"seq":2,"msg":[1]}').type == "weather"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"heartbeat",
        b"[]",
        b"{}",
        b'{"type":1}',
        b'{"type":"x","sid":"1"}',
        b'{"type":"x"',
        b"\xff\xfe",
        b"[" * 5000,
    ],
    ids=["empty", "text", "array", "no-type", "number-type", "text-sid", "cut-off", "not-utf8", "deep"],
)
def test_what_is_no_frame_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedFrame, match="kalshi frame"):
        wire.peek(payload)


def test_snapshot_sides_come_out_best_first_on_the_yes_scale() -> None:
    body = {
        "market_ticker": "A",
        "market_id": "m",
        "yes_dollars_fp": [["0.0100", "5.00"], ["0.960", "0.01"]],
        "no_dollars_fp": [["0.9700", "1.50"], ["0.9900", "2.00"]],
    }
    snapshot = wire.decode_snapshot(frame("orderbook_snapshot", body))
    assert snapshot.yes == [(9600, 10_000), (100, 5_000_000)]
    assert snapshot.no == [(9700, 1_500_000), (9900, 2_000_000)]


def test_a_no_bid_is_mirrored_only_when_it_is_on_the_no_scale() -> None:
    body = {"market_ticker": "A", "no_dollars_fp": [["0.4800", "2.00"], ["0.4700", "1.00"]]}
    seen = wire.decode_snapshot(frame("orderbook_snapshot", body), yes_price=False)
    assert seen.no == [(5200, 2_000_000), (5300, 1_000_000)]
    change = frame("orderbook_delta", delta(side="no", price_dollars="0.4800"))
    assert wire.decode_delta(change, yes_price=False).price == 5200
    assert wire.decode_delta(change).price == 4800


def test_a_yes_level_is_never_mirrored() -> None:
    assert wire.decode_delta(frame("orderbook_delta", delta()), yes_price=False).price == 4700


def test_absent_sides_are_an_empty_book() -> None:
    unknown = frame("orderbook_snapshot", {"market_ticker": "KXBTCD-25AUG2617-T112999.99", "market_id": ""})
    seen = wire.decode_snapshot(unknown)
    assert (seen.ticker, seen.market_id, seen.yes, seen.no) == ("KXBTCD-25AUG2617-T112999.99", "", [], [])


def test_two_levels_with_one_price_are_malformed() -> None:
    body = {"market_ticker": "A", "yes_dollars_fp": [["0.10", "1"], ["0.1000", "2"]]}
    with pytest.raises(MalformedFrame, match="two levels"):
        wire.decode_snapshot(frame("orderbook_snapshot", body))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"price_dollars": "0.47005"}, NotExact),
        ({"price_dollars": "-0.4700"}, NotExact),
        ({"price_dollars": "NaN"}, NotExact),
        ({"price_dollars": "4e-1"}, NotExact),
        ({"price_dollars": ""}, NotExact),
        ({"price_dollars": "0." + "1" * 40}, NotExact),
        ({"price_dollars": "1.0001"}, MalformedFrame),
        ({"price_dollars": "0.0000"}, MalformedFrame),
        ({"price_dollars": "1.0000"}, MalformedFrame),
        ({"price_dollars": 0.47}, MalformedFrame),
        ({"delta_fp": "1.0000001"}, NotExact),
        ({"delta_fp": "1" * 30}, NotExact),
        ({"delta_fp": "--1"}, NotExact),
        ({"delta_fp": "Infinity"}, NotExact),
        ({"delta_fp": "٣"}, NotExact),
        ({"delta_fp": None}, MalformedFrame),
        ({"side": "maybe"}, MalformedFrame),
        ({"ts_ms": -1}, MalformedFrame),
        ({"ts_ms": 10**18}, MalformedFrame),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else value.__name__,
)
def test_a_bad_delta_is_refused_by_name(changed: dict[str, object], error: type[Reject]) -> None:
    with pytest.raises(error, match="orderbook_delta"):
        wire.decode_delta(frame("orderbook_delta", delta(**changed)))


@pytest.mark.parametrize("field", ["market_ticker", "price_dollars", "delta_fp", "side"])
def test_a_missing_field_is_named(field: str) -> None:
    body = delta()
    del body[field]
    with pytest.raises(MalformedFrame, match=field):
        wire.decode_delta(frame("orderbook_delta", body))


def test_unknown_fields_are_tolerated() -> None:
    seen = wire.decode_delta(frame("orderbook_delta", delta(novelty={"a": [1]}, client_order_id="mine")))
    assert (seen.size_delta, seen.client_order_id) == (-3_000_000, "mine")


@given(price=st.integers(1, 9999), size=st.integers(-(10**15), 10**15), places=st.integers(4, 6))
def test_delta_numbers_survive_the_wire(price: int, size: int, places: int) -> None:
    text = from_fixed(price, -4, places_min=places)
    seen = wire.decode_delta(
        frame("orderbook_delta", delta(price_dollars=text, delta_fp=from_fixed(size, -6, places_min=2)))
    )
    assert (seen.price, seen.size_delta) == (price, size)


@given(st.text(max_size=40))
def test_any_text_is_a_price_exactly_or_refused(text: str) -> None:
    try:
        value = wire.price(text, "here")
    except (NotExact, MalformedFrame):
        return
    assert 0 <= value <= 10_000
    assert wire.price(from_fixed(value, -4), "here") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_named_error(payload: bytes) -> None:
    try:
        seen = wire.peek(payload)
    except MalformedFrame:
        return
    assert isinstance(seen.type, str)


@given(st.integers(0, 10_000))
def test_mirroring_twice_changes_nothing(price: int) -> None:
    assert wire.mirror(wire.mirror(price)) == price


def test_trade_names_the_taker_by_book_side_and_else_by_outcome() -> None:
    body = {
        "trade_id": "t",
        "market_ticker": "A",
        "yes_price_dollars": "0.4400",
        "no_price_dollars": "0.5600",
        "count_fp": "43.98",
        "taker_book_side": "bid",
        "taker_outcome_side": "yes",
        "taker_side": "yes",
        "is_block_trade": False,
        "ts": 1790363780,
        "ts_ms": 1790363780921,
    }
    seen = wire.decode_trade(frame("trade", body))
    assert seen == wire.Trade("t", "A", 4400, 43_980_000, "bid", False, 1_790_363_780_921_000_000)
    old = {**body, "taker_side": "no"}
    del old["taker_book_side"], old["taker_outcome_side"], old["ts_ms"]
    assert wire.decode_trade(frame("trade", old)).taker == "ask"
    assert wire.decode_trade(frame("trade", old)).time_ns == 1_790_363_780_000_000_000


@pytest.mark.parametrize(
    "changed",
    [{"no_price_dollars": "0.5500"}, {"count_fp": "0.00"}, {"taker_side": None}],
    ids=["yes-and-no-not-one-dollar", "no-size", "no-side"],
)
def test_an_inconsistent_trade_is_malformed(changed: dict[str, object]) -> None:
    body = {"trade_id": "t", "market_ticker": "A", "yes_price_dollars": "0.44", "count_fp": "1", "taker_side": "yes"}
    with pytest.raises(MalformedFrame, match="trade of A"):
        wire.decode_trade(frame("trade", {**body, **changed}))


def test_ticker_is_read_without_the_fields_it_should_have() -> None:
    body = {
        "market_ticker": "KXGOLDH-26AUG2711-T4615.99",
        "price_dollars": "0.0000",
        "yes_bid_dollars": "0.0100",
        "yes_ask_dollars": "0.9800",
        "yes_bid_size_fp": "1410.00",
        "yes_ask_size_fp": "2500.00",
        "ts": 1787838990,
        "ts_ms": 1787838990880,
    }
    seen = wire.decode_ticker(frame("ticker", body))
    assert (seen.bid, seen.ask, seen.bid_size, seen.ask_size, seen.last) == (100, 9800, 1_410_000_000, 2_500_000_000, 0)


def test_lifecycle_of_each_kind_is_read() -> None:
    created = {
        "market_ticker": "INXD-23SEP14-B4487",
        "event_type": "created",
        "exchange_index": 2,
        "open_ts": 1694635200,
        "close_ts": 1694721600,
        "price_level_structure": "linear_cent",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
        "additional_metadata": {"event_ticker": "INXD-23SEP14", "floor_strike": 4487},
    }
    seen = wire.decode_lifecycle(frame("market_lifecycle_v2", created))
    assert (seen.event_type, seen.exchange_index, seen.event_ticker) == ("created", 2, "INXD-23SEP14")
    assert (seen.open_ns, seen.close_ns) == (1_694_635_200 * 10**9, 1_694_721_600 * 10**9)
    assert seen.price_ranges == [PriceRange(0, 10_000, 100)]
    ended = {
        "market_ticker": "A",
        "event_type": "determined",
        "result": "scalar",
        "determination_ts": 7,
        "settlement_value": "0.5000",
    }
    seen = wire.decode_lifecycle(frame("market_lifecycle_v2", ended))
    assert (seen.result, seen.settlement_value, seen.determined_ns) == ("scalar", 5000, 7 * 10**9)


@pytest.mark.parametrize(
    "band", [("0", "1", "0"), ("0.5", "0.5", "0.01"), ("0.9", "0.1", "0.01"), ("0", "0.105", "0.01")]
)
def test_a_price_grid_that_is_none_is_malformed(band: tuple[str, str, str]) -> None:
    with pytest.raises(MalformedFrame, match="no price grid"):
        wire.price_ranges([band], "market A")


def test_fee_update_keeps_null_apart_from_a_number() -> None:
    def seen(value: object) -> int | None:
        body = {"event_ticker": "E", "fee_type_override": "quadratic", "fee_multiplier_override": value}
        return wire.decode_event_fee_update(frame("event_fee_update", body)).multiplier_e6

    assert [seen(1), seen(0.5), seen(0), seen(None)] == [1_000_000, 500_000, 0, None]


def test_control_replies_are_read() -> None:
    granted = control.decode_subscribed(frame("subscribed", {"channel": "trade", "sid": 2}, id=1))
    assert (granted.channel, granted.sid) == ("trade", 2)
    error = control.decode_error(
        frame("error", {"code": 25, "msg": "Subscription buffer overflow"}, id=3, sid=1, seq=9)
    )
    assert (error.code, error.command_id, error.sid, error.ends_subscription) == (25, 3, 1, True)
    assert not control.decode_error(frame("error", {"code": 8, "msg": "Unknown channel name"})).ends_subscription
    assert control.decode_ok(frame("ok", {"market_tickers": ["A", "B"]}, sid=1, seq=2)) == ["A", "B"]
    assert control.decode_ok(frame("ok", [{"channel": "ticker", "sid": 2}], id=3)) == []
    assert control.decode_ok(wire.peek(b'{"type":"ok","id":2,"sid":1,"seq":3}')) == []


def test_commands_are_what_the_venue_documents() -> None:
    assert json.loads(control.subscribe_command(1, ["orderbook_delta", "trade"], ["A"])) == {
        "id": 1,
        "cmd": "subscribe",
        "params": {
            "channels": ["orderbook_delta", "trade"],
            "market_tickers": ["A"],
            "use_yes_price": True,
            "skip_ticker_ack": True,
        },
    }
    assert "use_yes_price" not in json.loads(control.subscribe_command(2, ["fill"]))["params"]
    assert json.loads(control.get_snapshot_command(6, 1, ["A", "B"])) == {
        "id": 6,
        "cmd": "update_subscription",
        "params": {"sids": [1], "action": "get_snapshot", "market_tickers": ["A", "B"]},
    }
    assert json.loads(control.unsubscribe_command(2, [1, 2])) == {
        "id": 2,
        "cmd": "unsubscribe",
        "params": {"sids": [1, 2]},
    }

"""Polymarket's market channel becomes exact values, or a named error that says what and where."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import MalformedFrame, NotExact
from core.domain.units import from_fixed, to_fixed
from venues.polymarket import wire
from venues.polymarket.book_hash import book_hash, hash_in_order
from venues.polymarket.control import subscribe_market
from venues.polymarket.events import (
    BestBidAsk,
    Book,
    LastTrade,
    LevelChange,
    NewMarket,
    Pong,
    PriceChange,
    TickSizeChange,
    Unknown,
)

CHANGE = {
    "asset_id": "11",
    "price": "0.06",
    "size": "10.11",
    "side": "BUY",
    "hash": "b93c",
    "best_bid": "0.33",
    "best_ask": "0.34",
}
BOOK = {
    "market": "0x5d",
    "asset_id": "63",
    "timestamp": "1786728432337",
    "hash": "924e",
    "bids": [{"price": "0.001", "size": "2200.8"}, {"price": ".004", "size": "100"}],
    "asks": [{"price": "0.999", "size": "50"}, {"price": "0.009", "size": "25"}],
    "tick_size": "0.001",
    "last_trade_price": "0.004",
    "event_type": "book",
}


def one(message: object) -> Any:
    (event,) = wire.decode_frame(json.dumps(message).encode())
    return event


def price_change(**changed: object) -> dict[str, object]:
    item = {**CHANGE, **changed}
    return {"market": "0x2f", "price_changes": [item], "timestamp": "1761179967114", "event_type": "price_change"}


def test_pong_is_recognised_before_json() -> None:
    assert wire.decode_frame(b"PONG") == [Pong()]
    assert wire.decode_frame(b"PONG\n") == [Pong()]


def test_an_empty_array_is_no_event() -> None:
    assert wire.decode_frame(b" [] ") == []


def test_a_book_comes_out_best_first() -> None:
    seen = one(BOOK)
    assert seen == Book(
        asset_id="63",
        market="0x5d",
        bids=[(40, 100_000_000), (10, 2_200_800_000)],
        asks=[(90, 25_000_000), (9_990, 50_000_000)],
        time_ms=1786728432337,
        hash="924e",
        tick=10,
        last_trade_price="0.004",
        size_min=None,
        neg_risk=None,
    )
    assert seen.time_ns == 1_786_728_432_337_000_000


def test_a_refresh_states_neither_tick_nor_last_price() -> None:
    body = {key: value for key, value in BOOK.items() if key not in {"tick_size", "last_trade_price"}}
    seen = one(body)
    assert (seen.tick, seen.last_trade_price) == (0, None)
    assert one({**body, "last_trade_price": ""}).last_trade_price == ""


def test_order_on_the_wire_does_not_matter() -> None:
    turned = {**BOOK, "bids": BOOK["bids"][::-1], "asks": BOOK["asks"][::-1]}  # type: ignore[index]
    assert one(turned) == one(BOOK)


def test_a_frame_may_be_an_array_with_several_events() -> None:
    trade = {"event_type": "last_trade_price", "asset_id": "1", "market": "m", "price": "0.5", "size": "1"}
    frame = [BOOK, price_change(), {**trade, "side": "SELL", "timestamp": "1"}, {"event_type": "weather"}]
    events = wire.decode_frame(json.dumps(frame).encode())
    assert [type(event) for event in events] == [Book, PriceChange, LastTrade, Unknown]
    assert events[3] == Unknown("weather")


def test_a_price_change_is_absolute_and_names_its_own_token() -> None:
    seen = one(price_change(size="0"))
    assert seen == PriceChange("0x2f", 1761179967114, [LevelChange("11", "BUY", 600, 0, "b93c", 3_300, 3_400)])


@pytest.mark.parametrize(
    ("best", "expected"), [(None, None), ("", None), ("0", None), ("1", None), ("0.33", 3_300)], ids=repr
)
def test_no_quote_has_many_spellings(best: str | None, expected: int | None) -> None:
    seen = one(price_change(best_bid=best, best_ask=best)).changes[0]
    assert (seen.best_bid, seen.best_ask) == (expected, expected)


@pytest.mark.parametrize("stamp", ["1757908892351", 1757908892351, "1757908892", 1757908892])
def test_times_are_text_or_number_seconds_or_milliseconds(stamp: object) -> None:
    seen = one({**price_change(), "timestamp": stamp})
    assert seen.time_ms // 1000 == 1757908892


@pytest.mark.parametrize("stamp", [-5, 1.5, "now", True, "17579088923510000", [], "1e9"], ids=repr)
def test_what_is_no_time_is_malformed(stamp: object) -> None:
    with pytest.raises(MalformedFrame):
        one({**price_change(), "timestamp": stamp})


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"price": "0.00001"}, NotExact),
        ({"price": "-0.5"}, NotExact),
        ({"price": "nan"}, NotExact),
        ({"price": "5e-1"}, NotExact),
        ({"price": ""}, NotExact),
        ({"price": "."}, NotExact),
        ({"price": "1_0"}, NotExact),
        ({"price": "0"}, MalformedFrame),
        ({"price": "1"}, MalformedFrame),
        ({"price": "1.5"}, MalformedFrame),
        ({"price": 0.5}, MalformedFrame),
        ({"size": "-1"}, NotExact),
        ({"size": "1" * 30}, NotExact),
        ({"size": "0.0000001"}, NotExact),
        ({"size": "inf"}, NotExact),
        ({"side": "buy"}, MalformedFrame),
        ({"asset_id": None}, MalformedFrame),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else value.__name__,
)
def test_a_bad_change_is_refused_by_name(changed: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="price_change"):
        one(price_change(**changed))


@pytest.mark.parametrize("field", ["asset_id", "price", "size", "side"])
def test_a_missing_field_is_named(field: str) -> None:
    item = {key: value for key, value in CHANGE.items() if key != field}
    with pytest.raises(MalformedFrame, match=field):
        one({"market": "m", "timestamp": "1", "event_type": "price_change", "price_changes": [item]})


@pytest.mark.parametrize(
    "message",
    [
        {"asset_id": "1", "market": "m", "timestamp": "1", "hash": "h", "changes": [{"price": "0.4", "side": "SELL", "size": "3"}]},
        {"asset_id": "1", "market": "m", "timestamp": "1", "price": "0.4", "side": "SELL", "size": "3"},
    ],
    ids=["changes", "one-bare-price"],
)  # fmt: skip
def test_an_obsolete_change_is_malformed_since_it_changed_a_book(message: dict[str, object]) -> None:
    with pytest.raises(MalformedFrame, match="price_changes"):
        one({**message, "event_type": "price_change"})
    assert one(message) == Unknown("")


@pytest.mark.parametrize(
    "payload",
    [b"", b"pong", b"{", b'"book"', b"7", b"null", b'{"event_type":5}', b"\xff", b"[1]", b"[" * 5000, b'{"event_type":"book"}'],
    ids=["empty", "text", "cut-off", "string", "number", "null", "number-type", "not-utf8", "array-of-numbers", "deep", "bare"],
)  # fmt: skip
def test_what_is_no_frame_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedFrame, match="polymarket"):
        wire.decode_frame(payload)


def test_two_levels_with_one_price_are_malformed() -> None:
    body = {**BOOK, "bids": [{"price": "0.1", "size": "1"}, {"price": "0.10", "size": "2"}]}
    with pytest.raises(MalformedFrame, match="two levels at"):
        one(body)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({key: value for key, value in BOOK.items() if key != "event_type"}, Book),
        ({key: value for key, value in price_change().items() if key != "event_type"}, PriceChange),
        ({"market": "m", "asset_id": "1", "old_tick_size": "0.1", "new_tick_size": "0.01", "timestamp": "1"}, TickSizeChange),
        ({"market": "m", "asset_id": "1", "fee_rate_bps": "", "price": ".5", "side": "BUY", "size": "2", "timestamp": "1"}, LastTrade),
        ({"market": "m", "best_bid": "0.1", "best_ask": "0.2"}, Unknown),
        ({}, Unknown),
    ],
    ids=["book", "price_change", "tick_size_change", "last_trade_price", "ambiguous", "empty"],
)  # fmt: skip
def test_a_missing_type_is_inferred_only_where_the_shape_is_unambiguous(message: object, kind: type) -> None:
    assert type(one(message)) is kind


def test_the_rarer_events() -> None:
    assert one(
        {"event_type": "tick_size_change", "asset_id": "1", "market": "m", "old_tick_size": "0.01", "new_tick_size": "0.0025", "timestamp": "2"}
    ) == TickSizeChange("1", "m", 100, 25, 2 * 10**9)  # fmt: skip
    assert one(
        {"event_type": "best_bid_ask", "asset_id": "1", "market": "m", "best_bid": "0.585", "best_ask": "", "spread": "0.002", "timestamp": "1786728467006"}
    ) == BestBidAsk("1", "m", 5_850, None, 1_786_728_467_006_000_000)  # fmt: skip
    market = {
        "event_type": "new_market",
        "id": "5196322",
        "market": "0x1",
        "slug": "btc-updown-5m-1790994600",
        "question": "q",
        "assets_ids": ["1", "2"],
        "outcomes": ["Up", "Down"],
        "event_message": {"id": "e", "title": "t"},
        "timestamp": "1790908200000",
        "order_price_min_tick_size": "0.01",
        "active": False,
        "fees_enabled": True,
        "fee_schedule": {"exponent": "1", "rate": "0.07", "taker_only": True, "rebate_rate": "0.2"},
    }
    seen = one(market)
    assert isinstance(seen, NewMarket)
    assert (seen.fee_rate_e6, seen.fee_exponent, seen.tick, seen.event_id) == (70_000, 1, 100, "e")
    assert one({**market, "fees_enabled": False}).fee_rate_e6 == 0
    assert one({**market, "fee_schedule": None}).fee_rate_e6 is None
    with pytest.raises(MalformedFrame, match="fee exponent"):
        one({**market, "fee_schedule": {"exponent": "1.5", "rate": "0.07"}})


@given(
    st.dictionaries(st.integers(1, 9_999), st.integers(1, 10**15), max_size=12),
    st.dictionaries(st.integers(1, 9_999), st.integers(1, 10**15), max_size=12),
)
def test_levels_survive_the_wire_and_their_hash_is_that_of_the_text(bids: dict[int, int], asks: dict[int, int]) -> None:
    def texts(levels: dict[int, int], *, down: bool) -> list[dict[str, str]]:
        return [{"price": from_fixed(p, -4), "size": from_fixed(levels[p], -6)} for p in sorted(levels, reverse=down)]

    body = {**BOOK, "bids": texts(bids, down=False), "asks": texts(asks, down=True)}
    seen = one(body)
    assert seen.bids == sorted(bids.items(), reverse=True)
    assert seen.asks == sorted(asks.items())
    fields = ["market", "asset_id", "timestamp", "hash", "bids", "asks"]
    text = {key: body[key] for key in fields} | {
        "hash": "",
        "min_order_size": "5",
        "tick_size": "0.001",
        "neg_risk": True,
        "last_trade_price": "0.004",
    }
    expected = hashlib.sha1(json.dumps(text, separators=(",", ":")).encode()).hexdigest()
    assert hash_of(seen, neg_risk=True) == expected


def hash_of(book: Book, *, neg_risk: bool) -> str:
    return book_hash(
        market=book.market,
        asset_id=book.asset_id,
        time_ms=book.time_ms,
        bids=book.bids,
        asks=book.asks,
        size_min=5_000_000,
        tick=book.tick,
        neg_risk=neg_risk,
        last_trade_price=book.last_trade_price,
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_named_error(payload: bytes) -> None:
    try:
        events = wire.decode_frame(payload)
    except (MalformedFrame, NotExact):
        return
    assert all(isinstance(event, Pong | Unknown) for event in events)


@given(st.text(max_size=30))
def test_any_text_is_a_price_exactly_or_refused(text: str) -> None:
    try:
        value = wire.price(text, "here")
    except (NotExact, MalformedFrame):
        return
    assert wire.price(from_fixed(value, -4), "here") == value


def test_the_clients_own_hash_example() -> None:
    assert (
        hash_in_order(
            market="0xaabbcc",
            asset_id="100",
            time_ms=123456789,
            bids=[(3_000, 100_000_000), (4_000, 100_000_000)],
            asks=[(6_000, 100_000_000), (7_000, 100_000_000)],
            size_min=100_000_000,
            tick=100,
            neg_risk=False,
            last_trade_price="0.5",
        )
        == "0458ea5755c9f73d64a14636fa5c36ed460ec394"
    )


def test_every_hash_vector_from_our_integers(vectors: dict[str, Any]) -> None:
    checked = 0
    for vector in vectors["orderbook_hash"]["vectors"]:
        text = json.loads(vector["hash_input"])
        sides = {
            side: [(to_fixed(level["price"], -4), to_fixed(level["size"], -6)) for level in text[side]]
            for side in ("bids", "asks")
        }
        rest: dict[str, Any] = {
            "market": text["market"],
            "asset_id": text["asset_id"],
            "time_ms": int(text["timestamp"]),
            "size_min": to_fixed(text["min_order_size"], -6),
            "tick": to_fixed(text["tick_size"], -4),
            "neg_risk": text["neg_risk"],
            "last_trade_price": text.get("last_trade_price"),
        }
        assert hash_in_order(bids=sides["bids"], asks=sides["asks"], **rest) == vector["expected"], vector["name"]
        if vector["name"].startswith("real_"):
            mixed = {side: levels[1:] + levels[:1] for side, levels in sides.items()}
            assert book_hash(bids=mixed["bids"], asks=mixed["asks"], **rest) == vector["expected"], vector["name"]
        checked += 1
    assert checked == 8


def test_the_opening_message() -> None:
    assert json.loads(subscribe_market(["1", "2"])) == {
        "assets_ids": ["1", "2"],
        "type": "market",
        "custom_feature_enabled": True,
    }

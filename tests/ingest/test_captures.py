"""Recorded sessions of the venues through the conversations."""

import json
from pathlib import Path

from core.runtime.clock import NS_PER_S
from ingest.conversation import PUBLISH_ONLY, Complete, Gap, Publish, Send
from ingest.kalshi import KalshiConversation
from ingest.kalshi_listing import KalshiListing
from ingest.listing import Listed, essence
from ingest.polymarket import PolymarketConversation
from ingest.polymarket_listing import PolymarketListing
from venues.kalshi.rest import split_markets

T0 = 1_790_000_000 * NS_PER_S
TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"


def test_the_recorded_kalshi_session_goes_through_without_a_gap(captures: Path) -> None:
    lines = (captures / "kalshi" / "ws__orderbook_trade_yes.jsonl").read_bytes().splitlines()
    frames = [line for line in lines if line.strip()]
    conversation = KalshiConversation({TICKER: f"kalshi:{TICKER}"}, venue_wide=False)
    conversation.opened(T0)
    answers = [conversation.received(frame, T0) for frame in frames]
    # subscribed twice, the snapshot with seq 1, deltas with seq 2 and 3.
    assert answers == [PUBLISH_ONLY, PUBLISH_ONLY, (Publish(), Complete()), PUBLISH_ONLY, PUBLISH_ONLY]
    assert conversation.odd == 0


def test_our_subscription_says_what_the_recorded_one_said(captures: Path) -> None:
    meta = json.loads((captures / "kalshi" / "ws__orderbook_trade_yes.meta.json").read_bytes())
    opening = KalshiConversation({TICKER: f"kalshi:{TICKER}"}, venue_wide=False).opened(T0)[0]
    assert isinstance(opening, Send)
    ours = json.loads(opening.payload)
    assert ours["params"].pop("skip_ticker_ack") is True
    assert ours == meta["subscribe_cmd"]


def test_the_recorded_kalshi_session_without_its_second_delta_is_a_gap(captures: Path) -> None:
    lines = (captures / "kalshi" / "ws__orderbook_trade_yes.jsonl").read_bytes().splitlines()
    frames = [line for line in lines if line.strip()]
    conversation = KalshiConversation({TICKER: f"kalshi:{TICKER}"}, venue_wide=False)
    conversation.opened(T0)
    for frame in frames[:3]:
        conversation.received(frame, T0)
    actions = conversation.received(frames[4], T0)
    assert actions[:2] == [Gap("sid 1: expected seq 2, found 3"), Publish()]


def test_recorded_polymarket_books_complete_a_feed(captures: Path) -> None:
    frames = (captures / "polymarket" / "ws_market_book__ten_markets.jsonl").read_bytes().splitlines()
    tokens = [json.loads(frame)["asset_id"] for frame in frames]
    conversation = PolymarketConversation({token: f"polymarket:{token}" for token in tokens}, venue_wide=False)
    conversation.opened(T0)
    answers = [conversation.received(frame, T0) for frame in frames]
    assert answers == [PUBLISH_ONLY] * (len(frames) - 1) + [(Publish(), Complete())]
    array = b"[" + b",".join(frames) + b"]"
    again = PolymarketConversation({token: f"polymarket:{token}" for token in tokens}, venue_wide=False)
    again.opened(T0)
    assert again.received(array, T0) == (Publish(), Complete())


def test_a_recorded_book_without_event_type_counts(captures: Path) -> None:
    frame = (captures / "polymarket" / "ws_market_book__no_event_type.json").read_bytes()
    body = json.loads(frame)
    token = (body[0] if isinstance(body, list) else body)["asset_id"]
    conversation = PolymarketConversation({token: "polymarket:0x"}, venue_wide=False)
    conversation.opened(T0)
    assert conversation.received(frame, T0) == (Publish(), Complete())


def what_counts(market: dict, changing: frozenset[str]) -> bytes:
    return essence(Listed("venue:X", json.dumps(market, separators=(",", ":")).encode(), b""), changing)


def test_prices_and_volumes_of_a_recorded_market_are_no_news_but_its_status_is(captures: Path) -> None:
    markets, cursor = split_markets((captures / "kalshi" / "markets__page1.json").read_bytes())
    assert cursor
    market = json.loads(markets[0])
    before = what_counts(market, KalshiListing.changing)
    traded = market | {"yes_bid_dollars": "0.0100", "volume_fp": "9.00", "last_price_dollars": "0.9900"}
    assert what_counts(traded, KalshiListing.changing) == before
    assert what_counts(traded | {"status": "closed"}, KalshiListing.changing) != before


def test_prices_of_a_recorded_gamma_market_are_no_news_but_its_tick_is(captures: Path) -> None:
    market = json.loads((captures / "polymarket" / "gamma_market__full.json").read_bytes())
    before = what_counts(market, PolymarketListing.changing)
    traded = market | {"bestBid": 0.01, "lastTradePrice": 0.02, "volume": "123", "outcomePrices": "[]"}
    assert what_counts(traded, PolymarketListing.changing) == before
    assert what_counts(traded | {"orderPriceMinTickSize": 0.5}, PolymarketListing.changing) != before

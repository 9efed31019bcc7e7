"""Every recorded Polymarket message goes through the parsers; what a dozen of them say was written down by hand.

Recorded, anonymised and synthetic messages are mixed: SOURCES.md beside them tells which is which.
"""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.domain.errors import MalformedFrame
from venues.polymarket import account, orders, rest, wire
from venues.polymarket.account import TradeFill
from venues.polymarket.book_hash import book_hash
from venues.polymarket.events import (
    BestBidAsk,
    Book,
    Event,
    LastTrade,
    LevelChange,
    MarketResolved,
    PriceChange,
    TickSizeChange,
    Unknown,
)
from venues.refusal import Outcome

TOKEN = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
MARKET = "0xdd22472e552920b8438158ea7238bfadfa4f736aa4cee91a6b86c39ead110917"


def frames_of(path: Path) -> list[bytes]:
    """The frames of a file: one, one a line, or one a line as Python literals."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return [data]
    lines = [line for line in data.splitlines() if line.strip()]
    if path.suffix == ".jsonl":
        return lines
    if "hash_sequence" in path.name:
        return [line for line in lines if line.startswith(b"{")]
    return [json.dumps(ast.literal_eval(line.decode())).encode() for line in lines]


def events_of(path: Path) -> list[Event]:
    return [event for frame in frames_of(path) for event in wire.decode_frame(frame)]


def check_market_frames(path: Path) -> None:
    events = events_of(path)
    assert events
    unknown = [event for event in events if isinstance(event, Unknown)]
    assert unknown == ([Unknown("test")] if "unknown_event_type" in path.name else [])
    for event in events:
        if isinstance(event, Book):
            assert event.bids == sorted(event.bids, reverse=True)
            assert event.asks == sorted(event.asks)
            assert not event.bids or not event.asks or event.bids[0][0] < event.asks[0][0]


def check_user_frame(path: Path) -> None:
    (event,) = account.decode_user_frame(path.read_bytes())
    if "_order__" in path.name:
        assert isinstance(event, account.OrderUpdate)
        assert 0 < event.price < 10_000
        assert event.matched <= event.original
    else:
        assert isinstance(event, account.UserTrade)
        owner = event.maker_orders[0].owner if event.trader_side == "MAKER" else event.owner
        assert sum(fill.size for fill in account.trade_fills(event, owner=owner)) == event.size


def check_rest_book(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".txt":
        data = json.dumps(json.loads(data)["book"]).encode()
    (book,) = rest.decode_books(data)
    assert book.bids[0][0] < book.asks[0][0]


def read(decode: Callable[[bytes], object]) -> Callable[[Path], object]:
    return lambda path: decode(path.read_bytes())


# The first prefix that fits names the check; None: the file carries neither market data nor orders.
CHECKS: list[tuple[str, Callable[[Path], object] | None]] = [
    ("clob_balance_allowance__", read(account.decode_balance_allowance)),
    ("clob_book__", check_rest_book),
    ("clob_cancel_order", read(orders.decode_cancel_answer)),
    ("clob_fee_rate__", None),
    ("clob_market__", read(rest.decode_clob_market)),
    ("clob_order__", read(account.decode_order)),
    ("clob_orders__", read(account.decode_orders)),
    ("clob_post_order__error_500", read(lambda body: orders.decode_refusal(500, body))),
    ("clob_post_order__signed_order_body", read(lambda body: orders.signed_fields(orders.decode_order_body(body)))),
    ("clob_post_order__", read(orders.decode_order_answer)),
    ("clob_trade__", read(account.decode_trade)),
    ("clob_trades__", read(account.decode_trades)),
    ("data_", None),
    ("gamma_market__", read(rest.decode_gamma_market)),
    ("gamma_", None),
    ("rtds_", None),
    ("ws_market_", check_market_frames),
    ("ws_user_", check_user_frame),
]


def test_every_recorded_file_is_read(polymarket_capture: Path) -> None:
    check = next(check for prefix, check in CHECKS if polymarket_capture.name.startswith(prefix))
    if check is not None:
        check(polymarket_capture)


# --- by hand


def folder(captures_dir: Path) -> Path:
    return captures_dir / "polymarket"


def body(captures_dir: Path, name: str) -> bytes:
    return (folder(captures_dir) / f"{name}.json").read_bytes()


def user_event(captures_dir: Path, name: str) -> object:
    (event,) = account.decode_user_frame(body(captures_dir, name))
    return event


def hash_of(book: Book, *, last: str | None, tick: int) -> str:
    return book_hash(
        market=book.market,
        asset_id=book.asset_id,
        time_ms=book.time_ms,
        bids=book.bids,
        asks=book.asks,
        size_min=5_000_000,
        tick=tick,
        neg_risk=False,
        last_trade_price=last,
    )


def test_recorded_book_with_its_hash(captures_dir: Path) -> None:
    (book,) = events_of(folder(captures_dir) / "ws_market_book__captured_with_hash.json")
    assert isinstance(book, Book)
    assert book.asset_id == "350977769852917329387037893294763093471844346281449484439085576212613048126"
    assert (len(book.bids), book.bids[0], book.bids[-1]) == (7, (700, 182_528_550_000), (100, 3_149_725_720_000))
    assert (book.asks[0], book.asks[-1]) == ((800, 228_198_280_000), (9_900, 156_606_140_000))
    assert (book.time_ms, book.tick, book.last_trade_price) == (1786604072222, 100, "0.920")
    assert book.hash == "ed47eb91f3c7985fac1cb18cb7c19535eddd3c0a"
    assert hash_of(book, last=book.last_trade_price, tick=book.tick) == book.hash
    # One hundredth of a share off is another book.
    book.bids[0] = (700, 182_528_560_000)
    assert hash_of(book, last=book.last_trade_price, tick=book.tick) != book.hash


def test_ten_recorded_books_have_the_venues_hash(captures_dir: Path) -> None:
    books = events_of(folder(captures_dir) / "ws_market_book__ten_markets.jsonl")
    assert len(books) == 10
    for book in books:
        assert isinstance(book, Book)
        assert hash_of(book, last=book.last_trade_price, tick=book.tick) == book.hash
    empty = books[1]
    assert isinstance(empty, Book)
    assert (empty.asks, empty.bids[-1], empty.tick) == ([], (10, 7_449_910_000), 10)


def test_recorded_changes_lead_from_book_to_book_by_their_hashes(captures_dir: Path) -> None:
    start, first, after_first, second, after_second = events_of(
        folder(captures_dir) / "ws_market_book__hash_sequence.txt"
    )
    assert isinstance(start, Book)
    token = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
    assert start.asset_id == token
    assert (start.bids[0], start.asks[0]) == ((3_300, 152_170_000), (3_400, 914_140_000))
    bids, asks = dict(start.bids), dict(start.asks)
    for change, after in ((first, after_first), (second, after_second)):
        assert isinstance(change, PriceChange)
        assert isinstance(after, Book)
        (level,) = [level for level in change.changes if level.asset_id == token]
        side = bids if level.side == "BUY" else asks
        side[level.price] = level.size
        if not level.size:
            del side[level.price]
        assert (sorted(bids.items(), reverse=True), sorted(asks.items())) == (after.bids, after.asks)
        assert hash_of(after, last=None, tick=100) == level.hash == after.hash
        assert (level.best_bid, level.best_ask) == (3_300, 3_400)
    assert isinstance(first, PriceChange)
    assert first.changes[0] == LevelChange(
        "3329029450753225654467003002742946394863848082479209219558348197750220015613",
        "BUY",
        800,
        0,
        "eb10ffd5c6ab383af860ca60a1ceb6e59b7a53ef",
        6_600,
        6_700,
    )
    assert (first.changes[1].side, first.changes[1].price, first.changes[1].size) == ("SELL", 9_200, 0)


def test_recorded_trade(captures_dir: Path) -> None:
    trades = events_of(folder(captures_dir) / "ws_market_last_trade_price__ten_markets.jsonl")
    assert len(trades) == 10
    assert trades[0] == LastTrade(
        "1627500284739545390204314775735988068784669364445492030335161034375823784781",
        "0x14002070e74acaf96f70c8dfb881586b156c814fac0c1ac417b84c6c76687d00",
        4_600,
        200_000,
        "SELL",
        1_770_921_571_394_000_000,
        "0xdfcc917bc39862f94f76f4d17224f87026c4d2c1b1b211a1e6e479059c59a5e9",
    )


def test_recorded_session_in_order(captures_dir: Path) -> None:
    events = events_of(folder(captures_dir) / "ws_market_mixed__server_messages.txt")
    assert [type(event).__name__ for event in events] == [
        "Book",
        "PriceChange",
        "PriceChange",
        "PriceChange",
        "PriceChange",
        "LastTrade",
        "PriceChange",
        "PriceChange",
        "Book",
        "TickSizeChange",
    ]
    book, change = events[:2]
    assert isinstance(book, Book)
    assert isinstance(change, PriceChange)
    assert (len(book.bids), len(book.asks), book.asks[-1]) == (74, 74, (9_990, 20_000_170_000))
    level = change.changes[0]
    # The repository that recorded it added the best prices later, as "0": no quote.
    assert (level.side, level.price, level.size, level.best_bid) == ("BUY", 5_300, 1_608_180_000, None)
    assert events[-1] == TickSizeChange(book.asset_id, book.market, 10, 100, 1_733_411_501_345_000_000)


def test_equal_prints_within_a_millisecond_are_all_kept(captures_dir: Path) -> None:
    events = events_of(folder(captures_dir) / "ws_market_last_trade_price__multiple.txt")
    trades = [event for event in events if isinstance(event, LastTrade)]
    assert [(trade.price, trade.size, trade.time_ns % 10**9) for trade in trades] == [
        (5_200, 25_000_000, 827_000_000),
        (5_200, 50_000_000, 827_000_000),
        (5_200, 50_000_000, 828_000_000),
    ]


def test_recorded_rest_book(captures_dir: Path) -> None:
    (book,) = rest.decode_books(body(captures_dir, "clob_book__example"))
    assert book.bids == [(5_000, 150_000_000), (4_900, 200_000_000), (4_800, 100_000_000)]
    assert book.asks == [(5_100, 120_000_000), (5_200, 180_000_000), (5_300, 90_000_000)]


def test_documented_small_events(captures_dir: Path) -> None:
    assert events_of(folder(captures_dir) / "ws_market_best_bid_ask__tagged.json") == [
        BestBidAsk(
            "85354956062430465315924116860125388538595433819574542752031640332592237464430",
            "0x0005c0d312de0be897668695bae9f32b624b4a1ae8b140c49f08447fcc74f442",
            7_300,
            7_700,
            1_766_789_469_958_000_000,
        )
    ]
    assert events_of(folder(captures_dir) / "ws_market_market_resolved__tagged.json") == [
        MarketResolved(
            "0x311d0c4b6671ab54af4970c06fcf58662516f5168997bdda209ec3db5aa6b0c1",
            [
                "76043073756653678226373981964075571318267289248134717369284518995922789326425",
                "31690934263385727664202099278545688007799199447969475608906331829650099442770",
            ],
            "76043073756653678226373981964075571318267289248134717369284518995922789326425",
            "Yes",
            1_766_790_415_550_000_000,
        )
    ]
    for name in ("tagged", "no_event_type"):
        assert events_of(folder(captures_dir) / f"ws_market_tick_size_change__{name}.json") == [
            TickSizeChange(TOKEN, MARKET, 1_000, 100, 1_703_875_210_000_000_000)
        ]
        assert events_of(folder(captures_dir) / f"ws_market_last_trade_price__{name}.json") == [
            LastTrade(TOKEN, MARKET, 5_100, 25_000_000, "BUY", 1_703_875_202_000_000_000, "")
        ]


def test_documented_change_of_two_tokens_without_a_type(captures_dir: Path) -> None:
    (event,) = events_of(folder(captures_dir) / "ws_market_price_change__two_assets_no_event_type.json")
    assert isinstance(event, PriceChange)
    assert [(c.side, c.price, c.size, c.best_bid, c.best_ask) for c in event.changes] == [
        ("BUY", 5_100, 150_000_000, 5_100, 5_200),
        ("SELL", 4_900, 100_000_000, 4_800, 4_900),
    ]


def test_recorded_gamma_market(captures_dir: Path) -> None:
    market = rest.decode_gamma_market(body(captures_dir, "gamma_market__full"))
    assert (market.id, market.outcomes, market.is_binary) == ("1557558", ["Up", "Down"], True)
    assert market.condition_id == "0x78443f961b9a65869dcb39359de9960165c7e5cbad0904eac7f29cd77872a63b"
    assert market.token_ids == [
        "104239898038807136052399800151408521467737075933964991162589336683346093173875",
        "71183960810705820955071415844881728181970340514894896943812046065452395013351",
    ]
    assert (market.tick, market.size_min, market.neg_risk, market.accepting_orders) == (100, 5_000_000, False, True)
    # It charges crypto fees and does not state them: nothing to trade on.
    assert (market.fee_rate_e6, market.fee_type) == (None, "crypto_fees")
    # 2026-03-12T09:25:00Z
    assert (market.end_ns, market.event_id) == (1_773_307_500_000_000_000, "260654")


def test_recorded_sports_market_states_its_fee_and_delay(captures_dir: Path) -> None:
    market = rest.decode_gamma_market(body(captures_dir, "gamma_market__sports_money_line"))
    assert (market.fee_rate_e6, market.fee_exponent, market.taker_delay_s, market.tick) == (30_000, 1, 3, 10)
    # 2026-04-05 15:10:00+00
    assert market.game_start_ns == 1_775_401_800_000_000_000


def test_recorded_legacy_market_has_no_book(captures_dir: Path) -> None:
    market = rest.decode_gamma_market(body(captures_dir, "gamma_market__closed_nonbinary_legacy"))
    assert (market.closed, market.tick, market.size_min, market.outcomes) == (True, 0, 0, ["Long", "Short"])


def test_recorded_clob_market(captures_dir: Path) -> None:
    market = rest.decode_clob_market(body(captures_dir, "clob_market__closed_binary_accepting_true"))
    assert (market.tick, market.size_min, market.closed, market.accepting_orders) == (100, 5_000_000, True, True)
    assert [(token.outcome, token.winner) for token in market.tokens] == [("Yes", True), ("No", False)]


def test_killed_order_with_empty_numbers(captures_dir: Path) -> None:
    event = user_event(captures_dir, "ws_user_order__fok_killed")
    assert isinstance(event, account.OrderUpdate)
    assert (event.kind, event.status, event.order_type) == ("CANCELLATION", "CANCELED", "FOK")
    assert event.reason == "order couldn't be fully filled. FOK orders are fully filled or killed."
    assert (event.price, event.original, event.matched, event.created_ns) == (6_000, 12_000_000, 0, 0)
    assert event.time_ns == 1_777_824_065_000_000_000


def test_cancel_by_the_venue_and_matched_order(captures_dir: Path) -> None:
    cancelled = user_event(captures_dir, "ws_user_order__venue_cancel")
    assert isinstance(cancelled, account.OrderUpdate)
    assert (cancelled.kind, cancelled.status, cancelled.matched) == ("CANCELLATION", "INVALID", 0)
    matched = user_event(captures_dir, "ws_user_order__maker_buy_update")
    assert isinstance(matched, account.OrderUpdate)
    assert (matched.status, matched.original, matched.matched) == ("MATCHED", 5_000_000, 5_000_000)
    assert (matched.created_ns, matched.time_ns) == (1_737_678_469_000_000_000, 1_737_678_469_623_000_000)


def test_maker_fill_is_reported_under_the_takers_token(captures_dir: Path) -> None:
    trade = user_event(captures_dir, "ws_user_trade__maker_buy_confirmed")
    assert isinstance(trade, account.UserTrade)
    assert (trade.status, trade.trader_side, trade.outcome, trade.price) == ("CONFIRMED", "MAKER", "No", 4_000)
    order = "0xc512c86c90ce3b4f657808cb6000000000000000000000000000000000000000"
    assert account.trade_fills(trade, owner="000000000-0000-0000-0000-000000000000") == [
        TradeFill(
            f"6de3b6ca-f8a9-0000-0000-000000000000:{order}",
            order,
            "95786924372760057572092804419385993470890190892343223404877167501659835222533",
            "BUY",
            6_000,
            5_000_000,
            False,
        )
    ]


def test_taker_fill_in_two_parts_costs_what_the_makers_asked(captures_dir: Path) -> None:
    trade = user_event(captures_dir, "ws_user_trade__partitioned_maker_fill")
    assert isinstance(trade, account.UserTrade)
    fills = account.trade_fills(trade, owner="me")
    assert [(fill.side, fill.price, fill.size) for fill in fills] == [("BUY", 100, 5_000_000), ("BUY", 200, 2_000_000)]
    # The trade's own price is the average, rounded: 7 shares at 0.013 would be 0.091.
    assert trade.price == 130
    assert sum(fill.price * fill.size // 10_000 for fill in fills) == 90_000


def test_open_orders_and_trades_over_rest(captures_dir: Path) -> None:
    listed, cursor = account.decode_orders(body(captures_dir, "clob_orders__page"))
    assert cursor == account.END_CURSOR
    assert [(o.side, o.price, o.original, o.matched, o.order_type) for o in listed] == [
        ("BUY", 6_000, 200_000_000, 0, "GTC"),
        ("SELL", 4_000, 150_000_000, 50_000_000, "GTD"),
    ]
    killed = account.decode_order(body(captures_dir, "clob_order__sell_fok"))
    assert (killed.status, killed.expiration_ns) == ("MATCHED", 1_735_689_600 * 10**9)
    (trade,), _ = account.decode_trades(body(captures_dir, "clob_trades__page"))
    assert (trade.status, trade.size, trade.match_ns) == ("MINED", 10_000_000, 1_704_067_200 * 10**9)
    # This example's makers do not add up to the trade: no fill may be taken from it.
    report = account.decode_trade(body(captures_dir, "clob_trade__report"))
    with pytest.raises(MalformedFrame, match="found 30000000e-6"):
        account.trade_fills(report, owner="me")


def test_answers_to_orders_and_cancels(captures_dir: Path) -> None:
    bare = orders.decode_order_answer(body(captures_dir, "clob_post_order__ok"))
    # Success and an id, but no status: that is no acceptance.
    assert (bare.success, bare.order_id[:6], bare.status, bare.accepted) == (True, "0x1234", "", False)
    failed = orders.decode_order_answer(body(captures_dir, "clob_post_order__failed"))
    assert (failed.accepted, failed.error, failed.order_id) == (False, "Insufficient balance", "")
    refused = orders.decode_refusal(500, body(captures_dir, "clob_post_order__error_500"))
    assert (refused.outcome, refused.message) == (Outcome.UNKNOWN, "Internal server error")
    partial = orders.decode_cancel_answer(body(captures_dir, "clob_cancel_orders__batch_partial"))
    assert [order[:4] for order in partial.canceled] == ["0x11", "0x22"]
    assert partial.not_canceled == {"0x" + "3" * 64: "already canceled or matched"}


def test_signed_order_body_is_read_back(captures_dir: Path) -> None:
    order = orders.signed_fields(orders.decode_order_body(body(captures_dir, "clob_post_order__signed_order_body")))
    assert (order.salt, order.token_id, order.maker_amount, order.taker_amount) == (
        123456789,
        int(TOKEN),
        100_000_000,
        50_000_000,
    )
    assert (order.side, order.timestamp_ms, order.expiration) == (0, 1713398400000, 0)


def test_balances(captures_dir: Path) -> None:
    assert account.decode_balance_allowance(
        body(captures_dir, "clob_balance_allowance__collateral")
    ) == account.BalanceAllowance(1_000_000_000, 999_999_999_000_000)
    bare = account.decode_balance_allowance(body(captures_dir, "clob_balance_allowance__no_allowance"))
    assert bare == account.BalanceAllowance(250_500_000, None)

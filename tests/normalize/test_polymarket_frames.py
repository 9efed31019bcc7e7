"""Polymarket frames to market records: recorded ones where there are any, else the shapes of the venue page."""

import ast
import json
from pathlib import Path

import pytest

from core.domain.errors import MalformedFrame, NotExact, Retry
from schemas import market

CONDITION = "0x2f1ab0ffaf465c4acd76b9a4a1f8980db26bfae7d248a6bb289350586028307e"
ID = f"polymarket:{CONDITION}"
YES = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
NO = "3329029450753225654467003002742946394863848082479209219558348197750220015613"


def sequence(captures: Path) -> list[dict]:
    """Return the messages of the recorded chain: a book, then twice a change and the book after it."""
    lines = (captures / "polymarket" / "ws_market_book__hash_sequence.txt").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def change(token=YES, **fields):
    element = {"asset_id": token, "price": "0.33", "size": "5", "side": "BUY", "hash": "h"} | fields
    return {"event_type": "price_change", "market": CONDITION, "price_changes": [element], "timestamp": "1761179967114"}


def book(token=YES, market=CONDITION, **fields):
    message = {"event_type": "book", "market": market, "asset_id": token, "timestamp": "1761179883493", "hash": "h"}
    return message | {"bids": [{"price": "0.32", "size": "7"}], "asks": [{"price": "0.34", "size": "8"}]} | fields


def test_recorded_book_has_its_best_level_first(polymarket, captures):
    (snapshot,) = polymarket.say(sequence(captures)[0])
    assert (snapshot.instrument, snapshot.epoch, snapshot.frame_no, snapshot.index) == (ID, 7, 1, 0)
    assert snapshot.bid_prices[:3] == [3_300, 3_200, 3_000]
    assert snapshot.bid_sizes[:3] == [152_170_000, 448_560_000, 209_990_000]
    assert snapshot.ask_prices[:3] == [3_400, 3_700, 3_800]
    assert snapshot.ask_sizes[:3] == [914_140_000, 100_000_000, 250_910_000]
    assert (len(snapshot.bid_prices), len(snapshot.ask_prices)) == (18, 17)
    assert snapshot.hash == "f2bdf6bab7473bb8b9925aae72cee9242400db0a"
    assert snapshot.venue_ts_ns == 1_761_179_883_493_000_000


def test_recorded_change_of_both_tokens_is_one_change_of_the_yes_book(polymarket, captures):
    (delta,) = polymarket.say(sequence(captures)[1])
    # The message says "NO bid at 0.08 is gone" and "YES ask at 0.92 is gone": the same thing twice.
    assert (delta.instrument, delta.side, delta.kind) == (ID, "SELL", "ABSOLUTE")
    assert (delta.price, delta.size) == (9_200, 0)
    assert delta.hash == "b9ee8c0d2cc9a436dc6e70692b6882b881434d7b"
    assert polymarket.task.counters == {"polymarket.ignored.second_token": 1}


def test_recorded_change_with_yes_first_is_the_same_rule(polymarket, captures):
    (delta,) = polymarket.say(sequence(captures)[3])
    assert (delta.side, delta.price, delta.size) == ("BUY", 600, 10_110_000)
    assert delta.venue_ts_ns == 1_761_179_967_114_000_000


def test_second_tokens_own_book_is_dropped_never_summed(polymarket):
    assert polymarket.say([book(NO), change(NO)]) == []
    yes, no = polymarket.say([book(YES), book(NO)]), polymarket.say(book(NO))
    assert [type(record) for record in yes] == [market.BookSnapshot]
    assert no == []


def test_array_of_messages_numbers_its_records(polymarket):
    records = polymarket.say([book(), change(size="1"), change(size="2")])
    assert [record.index for record in records] == [0, 1, 2]
    assert {record.frame_no for record in records} == {1}


def test_recorded_books_of_ten_markets_are_taken_for_their_own_markets_alone(feed_of, describing, captures):
    lines = (captures / "polymarket" / "ws_market_book__ten_markets.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    known = [describing(f"polymarket:{one['market']}", tick=100, tokens=[one["asset_id"], "other"]) for one in messages]
    feed = feed_of("polymarket", known)
    records = feed.say(messages)
    assert [record.instrument for record in records] == [one.instrument for one in known]
    for record, message in zip(records, messages, strict=True):
        assert len(record.bid_prices) == len(message["bids"])
        assert len(record.ask_prices) == len(message["asks"])
        assert record.bid_prices == sorted(record.bid_prices, reverse=True)
        assert record.ask_prices == sorted(record.ask_prices)
    first = records[0]
    assert first.ask_prices[-3:] == [9_700, 9_800, 9_900]
    assert first.ask_sizes[-3:] == [12_000_000_000, 1_000_000_000, 37_776_000_000]


def test_recorded_trades_are_told_once_and_those_of_the_second_token_are_mirrored(feed_of, describing, captures):
    lines = (captures / "polymarket" / "ws_market_last_trade_price__ten_markets.jsonl").read_bytes().splitlines()
    first, second = [json.loads(lines[n])["market"] for n in (0, 1)]
    yes, no = [json.loads(lines[n])["asset_id"] for n in (0, 2)]
    feed = feed_of(
        "polymarket",
        [
            describing(f"polymarket:{first}", tokens=[yes, no]),
            describing(f"polymarket:{second}", tokens=[json.loads(lines[1])["asset_id"], "other"]),
        ],
    )
    trades = [record for line in lines for record in feed.say(line)]
    assert [(trade.price, trade.size, trade.aggressor) for trade in trades] == [
        (4_600, 200_000, "SELL"),
        (4_900, 5_000_000, "BUY"),
        (4_700, 1_000_000, "BUY"),  # NO sold at 0.53
        (4_600, 37_930_000, "SELL"),  # NO bought at 0.54
        (4_500, 60_000_000, "SELL"),
        (4_500, 26_000_000, "SELL"),
        (4_500, 9_000_000, "SELL"),
        (4_600, 18_860_000, "BUY"),
        (4_700, 11_276_594, "BUY"),
        (4_600, 2_648_147, "SELL"),
    ]
    assert trades[0].venue_ts_ns == 1_770_921_571_394_000_000
    assert {trade.trade_id for trade in trades} == {""}


def python_lines(path: Path) -> list[object]:
    """Return messages that were recorded as Python literals, one a line."""
    return [ast.literal_eval(line) for line in path.read_text().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ws_market_mixed__server_messages.txt",
            {"BookSnapshot": 2, "BookDelta": 7, "Trade": 1, "Status": 1, "FeedReset": 1},
        ),
        ("ws_market_book__multi_book.txt", {"BookSnapshot": 4, "BookDelta": 7, "Trade": 1}),
    ],
)
def test_recorded_streams_of_messages_become_this_many_records(feed_of, describing, captures, name, expected):
    tokens = {
        "0x84c0ffe3f56cb357ff5ff8bc5d2182ae90be4dd6718e8403a6af472b452dbfa8": "72936048731589292555781174533757608024"
        "096898681344338816447372274344589246891",
    }
    messages = python_lines(captures / "polymarket" / name)
    for frame in messages:
        for one in frame if isinstance(frame, list) else [frame]:
            if one["market"].startswith("0x9d1f02") and one["event_type"] == "book":
                tokens[one["market"]] = one["asset_id"]
    feed = feed_of(
        "polymarket", [describing(f"polymarket:{m}", tick=10, tokens=[t, "other"]) for m, t in tokens.items()]
    )
    records = [record for message in messages for record in feed.say(message)]
    counts: dict[str, int] = {}
    for record in records:
        counts[type(record).__name__] = counts.get(type(record).__name__, 0) + 1
    assert counts == expected


def test_recorded_message_of_an_unknown_type_is_counted(feed_of, describing, captures):
    messages = python_lines(captures / "polymarket" / "ws_market_mixed__unknown_event_type.txt")
    feed = feed_of("polymarket", [])
    assert [feed.say(message) for message in messages] == [[] for _ in messages]
    assert any(name.startswith("polymarket.unknown.") for name in feed.task.counters)


def test_tick_change_is_said_and_resets_the_book(polymarket):
    message = {
        "event_type": "tick_size_change",
        "asset_id": YES,
        "market": CONDITION,
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
        "timestamp": "1757908892351",
    }
    status, reset = polymarket.say(message)
    assert (status.status, status.tick_from, status.tick_to, status.tick_step) == ("UNKNOWN", [10], [9_990], [10])
    assert (type(reset), reset.instruments, reset.index) == (market.FeedReset, [ID], 1)
    assert polymarket.say(message | {"asset_id": NO}) == []


def test_levels_rest_on_the_finest_grid_but_not_at_a_dollar(polymarket):
    (delta,) = polymarket.say(change(price="0.335"))
    assert delta.price == 3_350
    error, outputs = polymarket.refused(change(price="1.0000"))
    assert type(error) is MalformedFrame
    assert outputs[0].record.instruments == [ID]


def test_resolution_names_the_winner_in_our_words(polymarket):
    message = {
        "event_type": "market_resolved",
        "market": CONDITION,
        "assets_ids": [YES, NO],
        "winning_asset_id": NO,
        "winning_outcome": "Down",
        "timestamp": "1766790415550",
    }
    (status,) = polymarket.say(message)
    assert (status.status, status.result, status.payout_e6) == ("SETTLED", "no", 0)
    won = polymarket.say(message | {"winning_asset_id": YES})[0]
    assert (won.result, won.payout_e6) == ("yes", 1_000_000)
    # Without a winner it does not say what is paid: the catalogue will.
    assert polymarket.say(message | {"winning_asset_id": "", "winning_outcome": ""})[0].payout_e6 == -1


def test_what_changes_nothing_is_counted(polymarket):
    best = {"event_type": "best_bid_ask", "market": CONDITION, "asset_id": YES, "timestamp": "1", "best_bid": "0.3"}
    assert polymarket.say(b"PONG") == []
    assert polymarket.say(b"[]") == []
    assert polymarket.say(best) == []
    assert polymarket.say(book(market="0xelse")) == []
    assert polymarket.say(book("777")) == []
    assert polymarket.task.counters == {
        "polymarket.ignored.Pong": 1,
        "polymarket.ignored.BestBidAsk": 1,
        "polymarket.ignored.unlisted": 1,
        "polymarket.ignored.foreign_token": 1,
    }


def test_one_broken_message_does_not_cost_the_others_of_its_frame(feed_of, describing):
    names = ["0xa", "0xb", "0xc"]
    feed = feed_of("polymarket", [describing(f"polymarket:{name}", tokens=[YES, NO]) for name in names])
    broken = book(market="0xb", bids=[{"price": "0.3", "size": "-1"}])
    error, outputs = feed.refused([book(market="0xa"), broken, book(market="0xc")])
    assert type(error) is NotExact
    kinds = [(type(output.record).__name__, output.key) for output in outputs]
    assert kinds == [
        ("BookSnapshot", "polymarket:0xa"),
        ("FeedReset", "polymarket:0xb"),
        ("BookSnapshot", "polymarket:0xc"),
    ]
    assert [output.record.index for output in outputs] == [0, 1, 2]


def test_obsolete_change_shape_resets_its_book(polymarket):
    error, outputs = polymarket.refused(
        {"event_type": "price_change", "market": CONDITION, "asset_id": YES, "changes": [], "timestamp": "1"}
    )
    assert type(error) is MalformedFrame
    assert outputs[0].record.instruments == [ID]


def test_frame_that_is_not_json_resets_the_whole_feed(polymarket):
    error, outputs = polymarket.refused(b"<html>502</html>")
    assert type(error) is MalformedFrame
    assert outputs[0].record.instruments == []


def test_listed_market_is_waited_for_until_it_is_described(feed_of, describing):
    feed = feed_of("polymarket", [], listed=[ID])
    with pytest.raises(Retry):
        feed.give(feed.frame(book()))
    feed.tables.learn_instrument(describing(ID, tokens=[YES, NO]))
    assert len(feed.say(book())) == 1


def test_market_without_tokens_yields_nothing_until_it_is_described_better(feed_of, describing):
    feed = feed_of("polymarket", [describing(ID)])
    assert feed.say(book()) == []
    feed.tables.learn_instrument(describing(ID, tokens=[YES, NO]))
    assert len(feed.say(book())) == 1

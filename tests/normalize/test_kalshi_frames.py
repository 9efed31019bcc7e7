"""Kalshi frames to market records: recorded ones where there are any, else the shapes of the venue page."""

import json
from pathlib import Path

import pytest

from core.domain.errors import MalformedFrame, NotExact, Retry, UnknownInstrument
from core.runtime import topics
from core.runtime.flow import ALL_PARTITIONS, BY_KEY
from schemas import market

TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"
ID = f"kalshi:{TICKER}"


def delta(**changes):
    message = {"market_ticker": TICKER, "price_dollars": "0.4800", "delta_fp": "1.00", "side": "no", "ts_ms": 5}
    return {"type": "orderbook_delta", "sid": 1, "seq": 2, "msg": message | changes}


def recorded(captures: Path) -> list[bytes]:
    lines = (captures / "kalshi" / "ws__orderbook_trade_yes.jsonl").read_bytes().splitlines()
    return [line for line in lines if line.strip()]


def test_recorded_acknowledgements_say_nothing_about_a_market(kalshi, captures):
    first, second = recorded(captures)[:2]
    assert kalshi.say(first) == []
    assert kalshi.say(second) == []
    assert kalshi.task.counters == {"kalshi.ignored.subscribed": 2}


def test_recorded_snapshot_has_its_no_bid_as_yes_ask(kalshi, captures):
    (book,) = kalshi.say(recorded(captures)[2])
    assert (book.instrument, book.epoch, book.frame_no, book.index) == (ID, 7, 1, 0)
    assert (book.price_exp, book.size_exp) == (-4, -6)
    assert (book.bid_prices, book.bid_sizes) == ([4_700], [3_000_000])
    # Subscribed with use_yes_price: the NO bid of 0.48 stands there as 0.5200 already, and is mirrored no second time.
    assert (book.ask_prices, book.ask_sizes) == ([5_200], [1_000_000])
    assert book.venue_ts_ns == 0
    assert book.trail == [1_790_000_000_000_000_001]


def test_recorded_deltas_are_signed_changes_of_the_ask_side(kalshi, captures):
    gone, came = (kalshi.say(frame)[0] for frame in recorded(captures)[3:5])
    assert (gone.side, gone.kind, gone.price, gone.size) == ("SELL", "SIGNED", 5_200, -1_000_000)
    assert gone.venue_ts_ns == 1_781_159_387_354_000_000
    assert (came.side, came.kind, came.price, came.size) == ("SELL", "SIGNED", 5_200, 2_000_000)
    assert came.venue_ts_ns == 1_781_159_387_427_000_000
    assert (gone.frame_no, came.frame_no) == (1, 2)


def test_yes_side_is_the_bid(kalshi):
    # Verbatim from the wire of 2026-06-11, with use_yes_price false; the YES side reads the same either way.
    frame = (
        b'{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP",'
        b'"market_id":"f5ed38e2-0991-4c8f-817e-08c4fd9cbfdb","price_dollars":"0.4700","delta_fp":"-3.00","side":"yes",'
        b'"ts":"2026-06-11T06:31:29.957081Z","ts_ms":1781159489957}}\n'
    )
    (change,) = kalshi.say(frame)
    assert (change.side, change.price, change.size) == ("BUY", 4_700, -3_000_000)
    assert change.venue_ts_ns == 1_781_159_489_957_000_000


def test_events_of_a_book_are_keyed_by_instrument(kalshi):
    (output,) = kalshi.give(kalshi.frame(delta()))
    assert (output.topic, output.key, output.partition) == (topics.MARKET_EVENT, ID, BY_KEY)


def test_trade_keeps_the_yes_price_and_the_takers_side(kalshi):
    message = {
        "trade_id": "5f0c2a91-7d3e-4b8a-a6f2-1c9e0b7d4a63",
        "market_ticker": TICKER,
        "yes_price_dollars": "0.4400",
        "no_price_dollars": "0.5600",
        "count_fp": "43.98",
        "taker_book_side": "ask",
        "ts": 1_790_363_780,
        "ts_ms": 1_790_363_780_921,
    }
    (trade,) = kalshi.say({"type": "trade", "sid": 2, "seq": 1, "msg": message})
    assert type(trade) is market.Trade
    assert (trade.price, trade.size, trade.aggressor) == (4_400, 43_980_000, "SELL")
    assert trade.trade_id == "5f0c2a91-7d3e-4b8a-a6f2-1c9e0b7d4a63"
    assert trade.venue_ts_ns == 1_790_363_780_921_000_000


def test_empty_snapshot_of_a_live_market_is_an_empty_book(kalshi):
    (book,) = kalshi.say(
        {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": TICKER, "market_id": "f5ed38e2"}}
    )
    assert type(book) is market.BookSnapshot
    assert (book.bid_prices, book.ask_prices) == ([], [])


def test_empty_snapshot_without_market_id_is_no_book(kalshi):
    outputs = kalshi.give(
        kalshi.frame(
            {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": TICKER, "market_id": ""}}
        )
    )
    status, reset = (output.record for output in outputs)
    assert (status.status, status.reason) == ("UNKNOWN", "the venue has no open market of this name")
    assert (type(reset), reset.instruments) == (market.FeedReset, [ID])
    assert [(output.key, output.partition) for output in outputs] == [(ID, BY_KEY), (ID, BY_KEY)]


@pytest.mark.parametrize(
    ("event", "fields", "status", "result"),
    [
        ("activated", {}, "OPEN", ""),
        ("deactivated", {"is_deactivated": True}, "PAUSED", ""),
        ("determined", {"result": "yes", "determination_ts": 1_790_000_000}, "DETERMINED", "yes"),
        ("settled", {"settled_ts": 1_790_000_100}, "SETTLED", ""),
        ("close_date_updated", {"close_ts": 1_790_000_200}, "UNKNOWN", ""),
    ],
)
def test_lifecycle_becomes_status(kalshi, event, fields, status, result):
    message = {"market_ticker": "KXANY-26-T1", "event_type": event} | fields
    *_, record = kalshi.say({"type": "market_lifecycle_v2", "sid": 13, "seq": 41, "sending_ts_ms": 9, "msg": message})
    # One feed speaks of every market of the exchange, also of those it was not opened for.
    assert record.instrument == "kalshi:KXANY-26-T1"
    assert (record.status, record.result) == (status, result)
    assert record.venue_ts_ns == 9_000_000


def test_new_tick_table_is_passed_on_in_band(kalshi):
    message = {
        "market_ticker": TICKER,
        "event_type": "price_level_structure_updated",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}],
    }
    (status,) = kalshi.say({"type": "market_lifecycle_v2", "sid": 13, "seq": 42, "msg": message})
    assert (status.tick_from, status.tick_to, status.tick_step) == ([0], [10_000], [10])


def test_no_record_depends_on_the_tick_table_of_the_moment(kalshi, describing):
    # Chaos, seed 2: what was refused on an old table was accepted when the log was read again, and nothing agreed.
    fine = delta(price_dollars="0.4750")
    (before,) = kalshi.say(fine)
    kalshi.tables.learn_instrument(describing(ID, tick=10))
    (after,) = kalshi.say(fine)
    assert before.price == after.price == 4_750


def test_unknown_and_new_words_are_counted_and_harmless(kalshi):
    assert kalshi.say({"type": "weather_report", "msg": {}}) == []
    assert kalshi.say({"type": "market_lifecycle_v2", "msg": {"market_ticker": "A", "event_type": "painted"}}) == []
    assert kalshi.say(delta(colour="blue"))[0].price == 4_800
    assert kalshi.task.counters == {"kalshi.unknown.weather_report": 1, "kalshi.lifecycle.painted": 1}


def test_names_a_venue_invents_are_counted_within_a_bound(kalshi):
    for number in range(1_000):
        kalshi.say({"type": f"t{number}", "msg": {}})
    assert len(kalshi.task.counters) <= 257
    assert sum(kalshi.task.counters.values()) == 1_000


def test_frame_that_is_not_json_resets_the_whole_feed_on_every_partition(kalshi):
    error, outputs = kalshi.refused(b"<html>502</html>")
    assert type(error) is MalformedFrame
    (output,) = outputs
    assert output.partition == ALL_PARTITIONS
    assert (output.record.feed, output.record.epoch, output.record.instruments) == ("kalshi-0", 7, [])


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (delta(price_dollars="0.47555"), NotExact),
        (delta(price_dollars="NaN"), NotExact),
        (delta(price_dollars="-0.48"), NotExact),
        (delta(price_dollars="4e-1"), NotExact),
        (delta(price_dollars="1.0000"), MalformedFrame),
        (delta(delta_fp="123456789012345678901234567890"), NotExact),
        (delta(delta_fp="1e2"), NotExact),
        (delta(delta_fp=1), MalformedFrame),
        (delta(side="maybe"), MalformedFrame),
        ({"type": "orderbook_delta", "msg": {"market_ticker": TICKER}}, MalformedFrame),
    ],
)
def test_wrong_message_of_a_book_resets_that_book_alone(kalshi, broken, kind):
    error, outputs = kalshi.refused(broken)
    assert type(error) is kind
    (output,) = outputs
    assert (output.key, output.partition) == (ID, BY_KEY)
    assert output.record.instruments == [ID]
    assert str(error) in output.record.reason


def test_book_message_that_names_no_market_resets_the_feed(kalshi):
    error, outputs = kalshi.refused({"type": "orderbook_delta", "msg": {"price_dollars": "0.5"}})
    assert type(error) is MalformedFrame
    assert outputs[0].record.instruments == []


def test_broken_trade_is_rejected_and_resets_nothing(kalshi):
    error, outputs = kalshi.refused({"type": "trade", "msg": {"market_ticker": TICKER}})
    assert type(error) is MalformedFrame
    assert outputs == []


def test_market_that_nobody_listed_is_rejected(kalshi):
    error, _ = kalshi.refused(delta(market_ticker="KXOTHER"))
    assert type(error) is UnknownInstrument
    assert "kalshi:KXOTHER" in str(error)


def test_listed_market_is_waited_for_until_it_is_described(feed_of, describing):
    feed = feed_of("kalshi", [], listed=[ID])
    for _ in range(3):
        with pytest.raises(Retry):
            feed.give(feed.frame(delta()))
    feed.tables.learn_instrument(describing(ID))
    assert feed.say(delta())[0].instrument == ID


def test_frame_waits_until_raw_feed_is_read_past_its_epoch(kalshi):
    frame = kalshi.frame(delta())
    kalshi.epoch = 8
    late = kalshi.frame(delta())
    assert kalshi.give(frame)
    with pytest.raises(Retry):
        kalshi.give(late)


def test_frame_of_an_epoch_that_never_was_is_rejected(kalshi):
    kalshi.epoch = 3
    error, outputs = kalshi.refused(delta())
    assert type(error) is UnknownInstrument
    assert outputs[0].record.epoch == 3


def test_public_rest_trades_of_the_capture_are_no_frames(kalshi, captures):
    body = (captures / "kalshi" / "trades__public_recorded.json").read_bytes()
    error, outputs = kalshi.refused(body)
    assert type(error) is MalformedFrame
    assert json.loads(body)
    assert outputs[0].record.instruments == []


@pytest.mark.parametrize(
    ("event", "fields", "payout_e6"),
    [
        ("determined", {"result": "yes"}, 1_000_000),
        ("determined", {"result": "no", "settlement_value": "0.0000"}, 0),
        ("determined", {"result": "scalar", "settlement_value": "0.3725"}, 372_500),
        ("determined", {"result": "void", "settlement_value": "0.5000"}, 500_000),
        ("determined", {"result": "void"}, -1),
        ("determined", {"result": "scalar"}, -1),
        ("determined", {"result": "yes", "settlement_value": "0.5000"}, -1),
        ("settled", {"settled_ts": 1}, -1),
        ("activated", {"result": "yes"}, -1),
    ],
)
def test_what_a_market_pays_is_said_as_the_venue_states_it_and_never_guessed(kalshi, event, fields, payout_e6):
    message = {"market_ticker": TICKER, "event_type": event} | fields
    (status,) = kalshi.say({"type": "market_lifecycle_v2", "sid": 13, "seq": 41, "sending_ts_ms": 9, "msg": message})
    assert status.payout_e6 == payout_e6


def lifecycle(event, ticker="KXANY-26-T1", **fields):
    message = {"market_ticker": ticker, "event_type": event} | fields
    return {"type": "market_lifecycle_v2", "sid": 13, "seq": 43, "sending_ts_ms": 9, "msg": message}


@pytest.mark.parametrize(
    ("event", "fields"),
    [("close_date_updated", {"close_ts": 1_790_000_200}), ("metadata_updated", {"floor_strike": 95_000})],
)
def test_new_words_for_a_market_are_a_notice_for_its_catalogue(kalshi, event, fields):
    notice, *statuses = kalshi.say(lifecycle(event, **fields))
    assert isinstance(notice, market.Notice)
    assert (notice.venue, notice.instrument, notice.event_group) == ("kalshi", "kalshi:KXANY-26-T1", "")
    assert (notice.reason, notice.venue_ts_ns) == (event, 9_000_000)
    # Both are one frame's, and that it was said stays in band.
    assert [(one.status, one.reason, one.frame_no) for one in statuses] == [
        ("UNKNOWN", event, notice.frame_no) for _ in statuses
    ]
    assert len(statuses) == (event == "close_date_updated")


@pytest.mark.parametrize("override", [{"fee_type_override": "quadratic", "fee_multiplier_override": 1}, {}])
def test_a_change_of_an_events_fees_is_a_notice_for_all_its_markets(kalshi, override):
    said = {"type": "event_fee_update", "sid": 5, "seq": 45, "msg": {"event_ticker": "KXBTCD-26MAY2018"} | override}
    (output,) = kalshi.give(kalshi.frame(said))
    notice = output.record
    assert (output.topic, output.key) == (topics.MARKET_NOTICE, "kalshi:KXBTCD-26MAY2018")
    assert (notice.event_group, notice.instrument, notice.reason) == (output.key, "", "event_fee_update")


def test_a_change_of_fees_that_names_no_event_is_rejected_and_resets_no_book(kalshi):
    with pytest.raises(MalformedFrame, match="event_ticker") as caught:
        kalshi.say({"type": "event_fee_update", "sid": 5, "seq": 45, "msg": {"fee_type_override": "quadratic"}})
    assert caught.value.outputs == ()

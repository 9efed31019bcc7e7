"""Books by REST: evidence to compare, or the polled book of a degraded feed; and the words resets begin with."""

import json
from pathlib import Path

import pytest

from core.domain import trust
from core.domain.errors import MalformedFrame, UnknownInstrument, UnknownSchema
from core.runtime.flow import BY_KEY
from schemas import market, raw

TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"
CONDITION = "0x2f1ab0ffaf465c4acd76b9a4a1f8980db26bfae7d248a6bb289350586028307e"
YES = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
NO = "3329029450753225654467003002742946394863848082479209219558348197750220015613"
KALSHI_ID, POLYMARKET_ID = f"kalshi:{TICKER}", f"polymarket:{CONDITION}"


def answer(feed, instrument: str, payload: object, purpose: str = "AUDIT") -> raw.RestBook:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return raw.RestBook(
        feed=feed.name,
        venue=feed.venue,
        epoch=feed.epoch,
        frame_no=41,
        instrument=instrument,
        purpose=purpose,  # type: ignore[arg-type]
        asked_ts_ns=100,
        recv_ts_ns=200,
        payload=body,
        trail=[201],
    )


def recorded_kalshi(captures: Path) -> bytes:
    return (captures / "kalshi" / "orderbook__base.json").read_bytes()


def recorded_polymarket(captures: Path) -> dict:
    """Return the first REST book of the recorded chain."""
    lines = (captures / "polymarket" / "ws_market_book__hash_sequence.txt").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")][2]


def refused(feed, record: raw.RestBook, kind: type[Exception]):
    with pytest.raises(kind) as caught:
        feed.give(record)
    return [output.record for output in caught.value.outputs]


def test_kalshi_answer_is_evidence_on_the_yes_scale(kalshi, captures):
    (output,) = kalshi.give(answer(kalshi, KALSHI_ID, recorded_kalshi(captures)))
    audit = output.record
    assert (type(audit), output.key, output.partition) == (market.AuditSnapshot, KALSHI_ID, BY_KEY)
    # A NO bid at 0.48 is a YES ask at 0.52.
    assert (audit.bid_prices, audit.bid_sizes) == ([4_700], [3_000_000])
    assert (audit.ask_prices, audit.ask_sizes) == ([5_200], [3_000_000])
    assert (audit.epoch, audit.frame_no, audit.index) == (7, 41, 0)
    assert (audit.asked_ts_ns, audit.recv_ts_ns, audit.trail) == (100, 200, [201])


def test_kalshi_poll_is_a_book_marked_as_polled(kalshi, captures):
    (output,) = kalshi.give(answer(kalshi, KALSHI_ID, recorded_kalshi(captures), "POLL"))
    book = output.record
    assert (type(book), book.degraded) == (market.BookSnapshot, True)
    assert (book.bid_prices, book.ask_prices, book.frame_no) == ([4_700], [5_200], 41)


def test_polymarket_answer_is_evidence_with_the_venues_hash_and_time(polymarket, captures):
    recorded = recorded_polymarket(captures)
    (output,) = polymarket.give(answer(polymarket, POLYMARKET_ID, recorded))
    audit = output.record
    assert type(audit) is market.AuditSnapshot
    assert (audit.bid_prices[0], audit.ask_prices[0]) == (3_300, 3_400)
    assert audit.hash == recorded["hash"]
    assert audit.venue_ts_ns == int(recorded["timestamp"]) * 1_000_000


def test_polymarket_poll_may_come_as_an_array_of_one(polymarket, captures):
    (output,) = polymarket.give(answer(polymarket, POLYMARKET_ID, [recorded_polymarket(captures)], "POLL"))
    assert (type(output.record), output.record.degraded) == (market.BookSnapshot, True)


def test_streamed_book_is_not_degraded(polymarket, captures):
    recorded = recorded_polymarket(captures) | {"event_type": "book"}
    (book,) = polymarket.say(recorded)
    assert book.degraded is False


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"<html>502</html>", MalformedFrame),
        ({"error": "not found"}, MalformedFrame),
    ],
)
def test_evidence_that_cannot_be_read_costs_no_book_its_trust_and_a_poll_does(kalshi, payload, kind):
    assert refused(kalshi, answer(kalshi, KALSHI_ID, payload), kind) == []
    (reset,) = refused(kalshi, answer(kalshi, KALSHI_ID, payload, "POLL"), kind)
    assert (reset.instruments, reset.frame_no) == ([KALSHI_ID], 41)
    assert trust.cause_in(reset.reason) == trust.UNPARSEABLE


def test_book_of_the_second_token_is_no_evidence(polymarket, captures):
    other = recorded_polymarket(captures) | {"asset_id": NO}
    assert refused(polymarket, answer(polymarket, POLYMARKET_ID, other), MalformedFrame) == []


@pytest.mark.parametrize(("venue", "instrument"), [("kalshi", "kalshi:OTHER"), ("polymarket", "polymarket:0xother")])
def test_book_of_an_instrument_the_feed_does_not_list_is_rejected(kalshi, polymarket, venue, instrument):
    feed = {"kalshi": kalshi, "polymarket": polymarket}[venue]
    refused(feed, answer(feed, instrument, b"{}"), UnknownInstrument)


def test_book_asked_for_an_unknown_purpose_is_rejected_never_applied(kalshi, captures):
    refused(kalshi, answer(kalshi, KALSHI_ID, recorded_kalshi(captures), "UNKNOWN"), UnknownSchema)


def test_rest_book_of_a_venue_without_normaliser_is_rejected(kalshi):
    kalshi.venue = "nowhere"
    assert refused(kalshi, answer(kalshi, KALSHI_ID, b"{}"), UnknownSchema) == []


# --- why a book is not believed


def test_gap_close_and_garbage_begin_with_their_words(kalshi):
    ends = {"feed": "kalshi-0", "venue": "kalshi", "epoch": 7, "frame_no": 9, "recv_ts_ns": 11}
    (gap,) = kalshi.give(raw.Gap(**ends, instruments=[], reason="sid 1: expected seq 4, found 6"))
    (closed,) = kalshi.give(raw.Closed(**ends, reason="closed"))
    _, (garbage,) = kalshi.refused(b"{")
    _, (no_price,) = kalshi.refused(
        {
            "type": "orderbook_delta",
            "msg": {"market_ticker": TICKER, "price_dollars": "0.0000", "delta_fp": "1.00", "side": "yes", "ts_ms": 5},
        }
    )
    (_, empty) = kalshi.say({"type": "orderbook_snapshot", "msg": {"market_ticker": TICKER, "market_id": ""}})
    words = [trust.cause_in(one.reason) for one in (gap.record, closed.record, garbage.record, no_price.record, empty)]
    assert words == [trust.GAP, trust.CLOSED, trust.UNPARSEABLE, trust.UNPARSEABLE, trust.CLOSED]
    assert gap.record.reason == "gap: sid 1: expected seq 4, found 6"


def test_polymarket_words(polymarket):
    tick = {
        "event_type": "tick_size_change",
        "asset_id": YES,
        "market": CONDITION,
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
        "timestamp": "1761179883493",
    }
    _, changed = polymarket.say(tick)
    assert changed.reason == "tick size 100e-4 became 10e-4"
    assert trust.cause_in(changed.reason) == trust.TICK_SIZE
    _, (garbage,) = polymarket.refused(b"nonsense")
    assert trust.cause_in(garbage.record.reason) == trust.UNPARSEABLE
    _, (broken,) = polymarket.refused({"event_type": "book", "market": CONDITION, "asset_id": YES})
    assert trust.cause_in(broken.record.reason) == trust.UNPARSEABLE


# --- what a hash covers


def test_book_carries_what_its_hash_covers(feed_of, describing, captures):
    line = (captures / "polymarket" / "ws_market_book__ten_markets.jsonl").read_text().splitlines()[0]
    message = json.loads(line)
    instrument = describing(f"polymarket:{message['market']}", tokens=[message["asset_id"], "other"])
    (book,) = feed_of("polymarket", [instrument]).say(message)
    assert (book.token, book.tick, book.last_price) == (message["asset_id"], 100, message["last_trade_price"])
    assert (book.size_min, book.neg_risk, book.hash) == (instrument.size_min, False, message["hash"])


def test_last_price_of_a_book_that_states_none_is_told_from_one_that_never_traded(polymarket, captures):
    recorded = recorded_polymarket(captures) | {"event_type": "book"}
    recorded.pop("last_trade_price", None)
    (silent,) = polymarket.say(recorded)
    (never,) = polymarket.say(recorded | {"last_trade_price": ""})
    assert (silent.last_price, never.last_price) == ("", "none")


def test_all_but_the_last_change_of_a_token_in_a_message_say_that_more_follows(polymarket):
    one = {"asset_id": YES, "price": "0.33", "size": "5", "side": "BUY", "hash": "a"}
    changes = [one, one | {"asset_id": NO, "hash": "n"}, one | {"size": "6", "hash": "b"}, one | {"asset_id": NO}]
    deltas = polymarket.say(
        {"event_type": "price_change", "market": CONDITION, "price_changes": changes, "timestamp": "1761179967114"}
    )
    assert [(delta.size, delta.hash, delta.more) for delta in deltas] == [
        (5_000_000, "a", True),
        (6_000_000, "b", False),
    ]

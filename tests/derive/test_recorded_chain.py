"""Recorded frames through normalise and derive, against the books the venue itself stated after them."""

import json

from core.runtime.flow import Input, TaskContext
from core.runtime.tables import MemoryTables
from derive.stage import BookTask
from normalize.stage import FrameTask
from schemas import raw
from tests.records import binary

T0 = 1_790_000_000_000_000_000
MARKET = "0x2f1ab0ffaf465c4acd76b9a4a1f8980db26bfae7d248a6bb289350586028307e"
YES = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
NO = "3329029450753225654467003002742946394863848082479209219558348197750220015613"
TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"


def pipeline(venue: str, instrument: str, tokens: list[str]):
    """Return a function that hands a frame to both stages and returns the quotes that follow, and the book task."""
    tables = MemoryTables()
    tables.learn_feed(
        0, raw.Opened(feed=f"{venue}-0", venue=venue, worker="w", slot=0, instruments=[instrument], recv_ts_ns=T0)
    )
    tables.learn_instrument(binary(instrument, tokens=tokens))
    # The recordings are of another year than the receive times.
    books = BookTask(TaskContext(options={"behind_venue_max_ms": "0"}))
    frames = FrameTask(TaskContext(tables=tables))
    offsets = {"frame": 0, "event": 0}

    def give(payload: bytes):
        offsets["frame"] += 1
        frame = raw.Frame(
            feed=f"{venue}-0",
            venue=venue,
            epoch=0,
            frame_no=offsets["frame"],
            recv_ts_ns=T0 + offsets["frame"],
            payload=payload,
        )
        shown = []
        for output in frames.handle(Input(frame, "raw.frame", 0, offsets["frame"])):
            shown += books.handle(Input(output.record, "market.event", 0, offsets["event"]))
            offsets["event"] += 1
        return [output.record for output in shown]

    return give, books


def stated(levels: list[dict[str, str]], *, ascending: bool) -> list[tuple[int, int]]:
    """Return a venue's levels as integers, best first, by a reading of our own."""
    return sorted(
        ((round(float(one["price"]) * 10_000), round(float(one["size"]) * 1_000_000)) for one in levels),
        reverse=not ascending,
    )


def test_polymarket_book_rebuilt_from_changes_equals_the_venues_own_book_after_each(captures):
    lines = (captures / "polymarket" / "ws_market_book__hash_sequence.txt").read_text().splitlines()
    first, change_0, book_0, change_1, book_1 = [line for line in lines if line.startswith("{")]
    instrument = f"polymarket:{MARKET}"
    give, books = pipeline("polymarket", instrument, [YES, NO])
    give(first.encode())
    for change, after in ((change_0, book_0), (change_1, book_1)):
        give(change.encode())
        truth = json.loads(after)
        state = books.book(instrument)
        assert state.state == "LIVE"
        assert state.book.bids.levels() == stated(truth["bids"], ascending=False)
        assert state.book.asks.levels() == stated(truth["asks"], ascending=True)
    assert state.quote.bid_price == 3_300
    assert state.quote.ask_price == 3_400


def test_kalshi_session_as_it_was_recorded(captures):
    lines = (captures / "kalshi" / "ws__orderbook_trade_yes.jsonl").read_bytes().splitlines()
    instrument = f"kalshi:{TICKER}"
    give, _ = pipeline("kalshi", instrument, [])
    shown = [give(line) for line in lines if line.strip()]
    assert shown[:2] == [[], []]
    quotes = [records[-1] for records in shown[2:]]
    sides = [(q.bid_price, q.bid_size, q.ask_price, q.ask_size) for q in quotes]
    assert sides == [
        (4_700, 3_000_000, 5_200, 1_000_000),
        (4_700, 3_000_000, 0, 0),
        (4_700, 3_000_000, 5_200, 2_000_000),
    ]
    assert [q.state for q in quotes] == ["LIVE"] * 3
    assert quotes[0].imbalance_e6 == 500_000
    # (0.47 x 2 + 0.52 x 3) / 5
    assert quotes[2].microprice_e6 == 500_000
    assert quotes[2].venue_ts_ns == 1_781_159_387_427_000_000

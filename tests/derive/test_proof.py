"""Polymarket's hash: which messages prove a book, and what a mismatch costs."""

import hashlib
import json

import pytest

from core.domain import trust
from core.domain.units import from_fixed
from derive.proof import HashProof, is_sampled

CONDITION = "0x" + "ab" * 32
P = f"polymarket:{CONDITION}"
TOKEN = "7" * 77
T0 = 1_790_000_000_000_000_000
MS = 1_000_000

BIDS = {4_700: 3_000_000, 4_600: 5_500_000}
ASKS = {5_200: 4_000_000, 5_300: 6_000_000}


def venue_hash(bids, asks, ms, last="0.500", *, tick="0.01", minimum="5", neg_risk=False):
    """Return the hash as the venue page says it, by means of our own."""
    text = {
        "market": CONDITION,
        "asset_id": TOKEN,
        "timestamp": str(T0 // MS + ms),
        "hash": "",
        "bids": [{"price": from_fixed(p, -4), "size": from_fixed(s, -6)} for p, s in sorted(bids.items())],
        "asks": [
            {"price": from_fixed(p, -4), "size": from_fixed(s, -6)} for p, s in sorted(asks.items(), reverse=True)
        ],
        "min_order_size": minimum,
        "tick_size": tick,
        "neg_risk": neg_risk,
    }
    if last is not None:
        text["last_trade_price"] = last
    return hashlib.sha1(json.dumps(text, separators=(",", ":")).encode()).hexdigest()


class Market:
    """A market of the venue and the log that hears of it; `lost` changes are not heard."""

    def __init__(self, log):
        self.log = log
        self.bids, self.asks = dict(BIDS), dict(ASKS)
        self.last = "0.500"
        self.ms = 0

    def book(self, *, last="0.500", **facts):
        """Write a whole book; `last` as the record states it, "" for a refresh."""
        self.ms += 1
        facts = {"token": TOKEN, "tick": 100 if last else 0, "size_min": 5_000_000, "last_price": last} | facts
        return self.log.write(
            self.log.snapshot(
                sorted(self.bids.items(), reverse=True),
                sorted(self.asks.items()),
                ms=self.ms,
                instrument=P,
                venue_ts_ns=T0 + self.ms * MS,
                hash=venue_hash(self.bids, self.asks, self.ms, self.last),
                **facts,
            )
        )

    def change(self, price, size, *, lost=False, stated=None):
        self.ms += 1
        self.bids[price] = size
        if not size:
            del self.bids[price]
        if lost:
            return []
        stated = venue_hash(self.bids, self.asks, self.ms, self.last) if stated is None else stated
        delta = self.log.delta(
            price, size, kind="ABSOLUTE", ms=self.ms, instrument=P, venue_ts_ns=T0 + self.ms * MS, venue_hash=stated
        )
        return self.log.write(delta)

    def trade(self, price):
        self.ms += 1
        trade = self.log.trade(ms=self.ms, instrument=P)
        return self.log.write(
            type(trade)(**{**{f: getattr(trade, f) for f in trade.__struct_fields__}, "price": price})
        )


@pytest.fixture
def venue(new_log):
    return Market(new_log(hash_sample=1))


def counted(venue):
    return {name: n for name, n in venue.log.task.counters.items() if name.startswith("hash.")}


def test_book_and_changes_with_the_venues_hash_are_proven(venue):
    venue.book()
    venue.change(4_800, 1_000_000)
    venue.change(4_800, 0)
    assert counted(venue) == {"hash.proven": 3}
    assert venue.log.said(P) == ("LIVE", "")


def test_change_after_a_lost_one_is_a_mismatch_and_shows_no_wrong_book(venue):
    venue.book()
    venue.change(4_650, 9_000_000, lost=True)
    (quote,) = venue.change(4_800, 1_000_000)
    assert (quote.state, trust.cause_in(quote.cause)) == ("SUSPECT", trust.HASH)
    assert (quote.bid_size, quote.depth_offset) == (0, -1)
    # The venue's next book heals; ingest is asked only when a second has passed without one.
    assert venue.log.resyncs() == []
    venue.book()
    assert venue.log.said(P) == ("LIVE", "")


def test_mismatch_that_no_book_heals_asks_for_one(venue):
    venue.book()
    venue.change(4_800, 1_000_000, stated="0" * 40)
    venue.log.beat(1_250)
    (asked,) = venue.log.resyncs()
    assert trust.cause_in(asked.cause) == trust.HASH


def test_old_change_that_comes_again_late_does_not_undo_the_newer_one(venue):
    venue.book()
    first = venue_hash(BIDS | {4_800: 1_000_000}, ASKS, 2)
    venue.change(4_800, 1_000_000)
    venue.change(4_800, 2_000_000)
    # The same words as before, on a place of their own in the feed.
    late = venue.log.delta(
        4_800, 1_000_000, kind="ABSOLUTE", ms=4, instrument=P, venue_ts_ns=T0 + 2 * MS, venue_hash=first
    )
    venue.log.write(late)
    # By itself it would be proven: it is the book of that moment, again. It is known, and dropped.
    assert venue.log.task.book(P).book.bids.size_at(4_800) == 2_000_000
    venue.change(4_600, 1_000_000)
    assert (venue.log.said(P), counted(venue)) == (("LIVE", ""), {"hash.proven": 4})


@pytest.mark.parametrize(("traded", "text"), [(5_200, "0.520"), (4_800, "0.520"), (5_255, "0.5255")])
def test_last_price_of_a_trade_seen_is_tried_of_either_token(venue, traded, text):
    venue.book()
    venue.trade(traded)
    venue.last = text
    venue.book(last="")
    venue.change(4_800, 1_000_000)
    assert counted(venue) == {"hash.proven": 3}


def test_book_whose_trade_is_told_later_is_proven_by_it(venue):
    venue.book()
    venue.last = "0.530"
    venue.book(last="")
    assert counted(venue) == {"hash.proven": 1, "hash.unproven": 1}
    venue.trade(5_300)
    assert counted(venue)["hash.proven"] == 2
    venue.change(4_650, 9_000_000, lost=True)
    venue.change(4_800, 1_000_000)
    assert trust.cause_in(venue.log.said(P)[1]) == trust.HASH


def test_book_whose_trade_is_never_told_is_proven_by_a_search_before_a_mismatch_is_believed(venue):
    venue.book()
    venue.last = "0.310"
    venue.book(last="")
    venue.change(4_800, 1_000_000)
    assert (venue.log.said(P), counted(venue)) == (("LIVE", ""), {"hash.proven": 2, "hash.unproven": 1})
    venue.last = "0.320"
    venue.book(last="")
    venue.change(4_650, 9_000_000, lost=True)
    venue.change(4_800, 2_000_000)
    assert trust.cause_in(venue.log.said(P)[1]) == trust.HASH


def test_book_after_a_tick_change_that_was_not_heard_of_is_proven(venue):
    venue.book()
    venue.ms += 1
    book = venue.log.snapshot(
        sorted(BIDS.items(), reverse=True),
        sorted(ASKS.items()),
        ms=venue.ms,
        instrument=P,
        venue_ts_ns=T0 + venue.ms * MS,
        token=TOKEN,
        size_min=5_000_000,
        hash=venue_hash(BIDS, ASKS, venue.ms, tick="0.001"),
    )
    venue.log.write(book)
    assert counted(venue) == {"hash.proven": 2}


def test_change_at_the_price_of_an_untold_trade_is_proven(venue):
    venue.book()
    venue.last = "0.470"
    venue.change(4_700, 1_000_000)
    assert counted(venue) == {"hash.proven": 2}


def test_after_a_book_that_proves_nothing_a_mismatch_says_nothing(venue):
    venue.book(size_min=1)
    venue.change(4_800, 1_000_000, stated="0" * 40)
    venue.change(4_800, 2_000_000, stated="1" * 40)
    assert counted(venue) == {"hash.unproven": 3}
    assert venue.log.said(P) == ("LIVE", "")


def test_mismatch_costs_trust_once_until_a_book_is_proven_again(venue):
    venue.book()
    venue.change(4_800, 1_000_000, stated="0" * 40)
    venue.last = "0.123"
    venue.book(last="")
    venue.change(4_800, 3_000_000, stated="1" * 40)
    assert venue.log.states(P) == ["LIVE", "SUSPECT", "LIVE", "LIVE"]


def test_newest_message_may_come_again_at_once(venue):
    venue.book()
    venue.change(4_800, 1_000_000)
    stated = venue_hash(venue.bids, venue.asks, venue.ms)
    again = {"kind": "ABSOLUTE", "ms": 9, "instrument": P, "venue_ts_ns": T0 + venue.ms * MS, "venue_hash": stated}
    assert venue.log.write(venue.log.delta(4_800, 1_000_000, **again)) == []
    assert counted(venue) == {"hash.proven": 3}


def resent(venue, ms, *, epoch=1, bids=BIDS):
    """Return a book as it was at `ms`."""
    return venue.log.snapshot(
        sorted(bids.items(), reverse=True),
        sorted(ASKS.items()),
        ms=venue.ms + 1,
        instrument=P,
        venue_ts_ns=T0 + ms * MS,
        epoch=epoch,
        hash=venue_hash(bids, ASKS, ms),
        token=TOKEN,
        size_min=5_000_000,
    )


def test_old_book_that_comes_again_does_not_undo_what_came_after_it(venue):
    venue.book()
    venue.change(4_800, 1_000_000)
    assert venue.log.write(resent(venue, 1)) == []
    assert venue.log.task.book(P).book.bids.best == 4_800


def test_book_older_than_a_proven_change_is_known_already(venue):
    venue.book()
    ms = venue.ms = 5
    venue.change(4_800, 1_000_000)
    assert venue.log.write(resent(venue, ms - 1)) == []
    assert venue.log.said(P) == ("LIVE", "")
    # It heals nothing either.
    venue.log.write(venue.log.reset(ms=7))
    venue.log.write(resent(venue, ms - 2))
    assert venue.log.said(P)[0] == "SUSPECT"
    # Another connection has an order of its own.
    venue.log.write(resent(venue, ms - 1, epoch=2))
    assert venue.log.said(P) == ("LIVE", "")


def test_book_or_change_that_was_overtaken_by_one_that_was_not_checked_costs_trust(new_log):
    for late in ("book", "change"):
        venue = Market(new_log(hash_sample=0))
        venue.book()
        venue.ms = 5
        venue.change(4_800, 1_000_000)
        if late == "book":
            venue.log.write(resent(venue, 4))
        else:
            facts = {"kind": "ABSOLUTE", "ms": 9, "instrument": P, "venue_ts_ns": T0 + 4 * MS, "venue_hash": "d" * 40}
            venue.log.write(venue.log.delta(4_600, 1, **facts))
        expected = f"gap: expected a {late} no older than what came before it"
        assert venue.log.said(P) == ("SUSPECT", expected)


def test_change_that_was_overtaken_by_a_proven_one_is_known_already(venue):
    venue.book()
    overtaken = venue.log.delta(
        4_800,
        0,
        kind="ABSOLUTE",
        ms=9,
        instrument=P,
        venue_ts_ns=T0 + 2 * MS,
        venue_hash=venue_hash(BIDS, ASKS, 2),
        frame_no=99,
    )
    venue.ms = 2
    venue.change(4_800, 1_000_000)
    assert venue.log.write(overtaken) == []
    assert (venue.log.task.book(P).book.bids.best, venue.log.said(P)) == (4_800, ("LIVE", ""))


def test_book_that_its_own_feed_has_overtaken_does_not_take_over(venue):
    venue.book()
    # The next feed sends a change first, then the book from before it.
    venue.log.write(
        venue.log.delta(
            4_800, 1, kind="ABSOLUTE", ms=9, instrument=P, epoch=2, venue_ts_ns=T0 + 9 * MS, venue_hash="c" * 40
        )
    )
    assert venue.log.write(resent(venue, 8, epoch=2)) == []
    assert (venue.log.said(P), venue.log.task.book(P).epoch) == (("LIVE", ""), 1)
    venue.log.write(resent(venue, 10, epoch=2))
    assert venue.log.task.book(P).epoch == 2


def test_only_the_last_change_of_a_message_is_checked(venue):
    venue.book()
    stated = venue_hash(BIDS | {4_800: 1_000_000, 4_810: 2_000_000}, ASKS, 2)
    facts = {"kind": "ABSOLUTE", "ms": 2, "instrument": P, "venue_ts_ns": T0 + 2 * MS, "venue_hash": stated}
    first = venue.log.delta(4_800, 1_000_000, **facts)
    venue.log.write(type(first)(**{f: getattr(first, f) for f in first.__struct_fields__} | {"more": True}))
    venue.log.write(venue.log.delta(4_810, 2_000_000, **facts))
    assert (counted(venue), venue.log.said(P)) == ({"hash.proven": 2}, ("LIVE", ""))


def test_book_of_a_venue_that_states_no_token_is_not_checked(venue):
    venue.book(token="")
    venue.change(4_800, 1_000_000, stated="0" * 40)
    assert counted(venue) == {}
    assert venue.log.said(P) == ("LIVE", "")


def test_book_before_last_prices_were_hashed_is_proven_without_one(venue):
    venue.last = None
    venue.book(last="", tick=100)
    venue.change(4_800, 1_000_000)
    assert counted(venue) == {"hash.proven": 2}


def test_book_that_never_traded_is_proven(venue):
    venue.last = ""
    venue.book(last="none")
    assert counted(venue) == {"hash.proven": 1}


def test_new_tick_is_learnt_from_the_status_since_books_do_not_repeat_it(venue):
    venue.book()
    status = venue.log.status("UNKNOWN", venue_ts_ns=T0, ms=5, instrument=P, reason="tick size 100e-4 became 10e-4")
    tick = {"tick_from": [10], "tick_to": [9_990], "tick_step": [10]}
    venue.log.write(type(status)(**{f: getattr(status, f) for f in status.__struct_fields__} | tick))
    proof = venue.log.task.book(P).proof
    book = venue.log.task.book(P).book
    snapshot = venue.log.snapshot(
        book.bids.levels(),
        book.asks.levels(),
        instrument=P,
        venue_ts_ns=T0 + 9 * MS,
        token=TOKEN,
        size_min=5_000_000,
        hash=venue_hash(BIDS, ASKS, 9, "0.500", tick="0.001"),
    )
    assert proof.take(snapshot, book)


def test_one_in_so_many_changes_is_checked_always_the_same_ones(log):
    deltas = [log.delta(4_700, 1) for _ in range(4_000)]
    chosen = [is_sampled(one, 16) for one in deltas]
    assert chosen == [is_sampled(one, 16) for one in deltas]
    assert 150 < sum(chosen) < 350
    assert all(is_sampled(one, 1) for one in deltas)
    assert not any(is_sampled(one, 0) for one in deltas)


def test_sampling_leaves_the_other_changes_alone(new_log):
    venue = Market(new_log(hash_sample=0))
    venue.book()
    venue.change(4_800, 1_000_000, stated="0" * 40)
    assert venue.log.said(P) == ("LIVE", "")


def test_restored_proof_knows_what_it_knew(venue):
    venue.book()
    venue.trade(5_200)
    venue.last = "0.111"
    venue.book(last="")
    proof = venue.log.task.book(P).proof
    again = HashProof.restored(P, proof.state())
    assert again.state() == proof.state()
    assert again.trade(1_110) is True

"""Any interleaving of faults leaves a book that equals the truth, or is not LIVE.

A venue keeps the true books and says each change in its own words, numbered or hashed as it does. Its frames are lost,
repeated, held back and overtaken; feeds end and overlap; normalise restarts, derive is restored from what it wrote down,
old records come again; books are polled and audited, rightly and wrongly. In between stand the real parts: ingest's
conversation (which sees Kalshi's gaps), `FrameTask`, `BookTask`.

Three things must hold. Whatever is said LIVE is, level by level, the true book at the newest that its feed had said by the
frame it names. After each step a book that is LIVE is the true book as of the newest frame that reached its feed. And
the task that is restored says what one says that never died.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.domain.errors import Reject
from core.domain.units import from_fixed
from core.runtime.flow import Input, TaskContext
from core.runtime.tables import MemoryTables
from derive.stage import BookTask
from ingest.conversation import Actions, Gap, Publish, Reconnect, Send
from ingest.kalshi import KalshiConversation
from normalize.stage import FrameTask
from schemas import derived, market, raw
from schemas.record import Record
from tests.checkpoints import keep
from tests.records import binary

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
MODEST = settings(max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FATES = st.sampled_from(["now"] * 8 + ["lost", "twice", "held", "again later"])
MARKETS = st.integers(0, 1)
SIZES = st.integers(0, 4)
STEPS = st.integers(1, 8)

Sides = dict[str, dict[int, int]]
Said = list[tuple[str, int]]
"""Instrument and version of each book record of a frame, in order."""


def frozen(sides: Sides) -> Sides:
    return {side: dict(levels) for side, levels in sides.items()}


@dataclass
class Frame:
    """One message on its way to one feed."""

    payload: bytes
    said: Said


@dataclass
class Feed:
    """One connection: what the venue counts for it, and what ingest keeps of it."""

    epoch: int
    conversation: KalshiConversation | None = None
    frame_no: int = 0
    seq: int = 0
    held: list[Frame] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)


class BookMachine(RuleBasedStateMachine):
    """What both venues share: the truth, the feeds, the way to derive, and what must hold."""

    venue = ""
    instruments: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.books: dict[str, Sides] = {name: {"BUY": {}, "SELL": {}} for name in self.instruments}
        self.versions: dict[str, list[Sides]] = {name: [frozen(self.books[name])] for name in self.instruments}
        self.tables = MemoryTables()
        for name in self.instruments:
            self.tables.learn_instrument(self.described(name))
        self.context = TaskContext(tables=self.tables, options={"hash_sample": "1"})
        self.frames, self.task = FrameTask(self.context), BookTask(self.context)
        self.undying = BookTask(self.context)
        self.kept: dict[str, bytes] = {}
        self.log: list[Record] = []
        self.offset = 0
        self.epochs = 0
        self.feeds: list[Feed] = []
        self.polling: Feed | None = None
        self.said_by: dict[tuple[int, int], Said] = {}
        self.newest: dict[tuple[int, str], int] = defaultdict(lambda: -1)

    def described(self, name: str) -> market.Instrument:
        tokens = [self.token(name), self.token(name) + "0"] if self.venue == "polymarket" else []
        return binary(name, tokens=tokens, recv_ts_ns=T0)

    def token(self, name: str) -> str:
        return str(10**20 + self.instruments.index(name))

    # The venue

    def set_level(self, name: str, side: str, price: int, size: int) -> int:
        """Change the truth; return the size before."""
        levels = self.books[name][side]
        before = levels.pop(price, 0)
        if size:
            levels[price] = size
        self.versions[name].append(frozen(self.books[name]))
        return before

    def version(self, name: str) -> int:
        return len(self.versions[name]) - 1

    def reach(self, feed: Feed, frame: Frame, fate: str) -> None:
        """Let a frame meet its fate."""
        if fate in ("now", "twice", "again later"):
            self.deliver(feed, frame)
        if fate == "twice" and feed in self.feeds:
            self.deliver(feed, frame)
        if fate in ("held", "again later"):
            feed.held.append(frame)

    def deliver(self, feed: Feed, frame: Frame) -> None:
        raise AssertionError("each venue has its own")

    # Ingest, as far as it writes

    def opened(self, *, degraded: bool = False) -> Feed:
        epoch = self.epochs
        self.epochs += 1
        self.tables.learn_feed(
            epoch,
            raw.Opened(
                feed=f"{self.venue}-0",
                venue=self.venue,
                worker="w",
                slot=0,
                instruments=list(self.instruments),
                recv_ts_ns=self.recv_ns,
                degraded=degraded,
            ),
        )
        return Feed(epoch)

    @property
    def recv_ns(self) -> int:
        return T0 + self.now_ms * MS

    def place(self, feed: Feed) -> dict[str, object]:
        feed.frame_no += 1
        return {
            "feed": f"{self.venue}-0",
            "venue": self.venue,
            "epoch": feed.epoch,
            "frame_no": feed.frame_no,
            "recv_ts_ns": self.recv_ns,
        }

    def publish(self, feed: Feed, frame: Frame, *, overtaken: bool = False) -> None:
        record = raw.Frame(**self.place(feed), payload=frame.payload, overtaken=overtaken)
        said = self.said_by[feed.epoch, feed.frame_no] = []
        for name, version in frame.said:
            # What comes late is no news: its reader has seen better.
            self.newest[feed.epoch, name] = max(self.newest[feed.epoch, name], version)
            said.append((name, self.newest[feed.epoch, name]))
        self.write(record)

    def write(self, record: Record) -> None:
        """Take a raw record through normalise and derive."""
        try:
            outputs = list(self.frames.handle(Input(record, "raw.frame", 0, 0)))
        except Reject as e:
            outputs = list(e.outputs)
        for output in outputs:
            self.log.append(output.record)
            self.handle(output.record)

    def handle(self, record: Record) -> list[Record]:
        item = Input(record, "market.event", 0, self.offset)
        told = list(self.task.handle(item))
        assert told == list(self.undying.handle(item))
        outputs = [output.record for output in told]
        self.offset += 1
        depth: derived.Depth | None = None
        for one in outputs:
            if isinstance(one, derived.Depth) and not one.repeat:
                depth = one
                if one.state == "LIVE":
                    self.check_depth(one)
            elif isinstance(one, derived.Quote) and not one.repeat:
                assert (one.state == "LIVE") == (one.cause == "")
                if one.state not in ("LIVE", "DEGRADED"):
                    assert (one.bid_price, one.bid_size, one.ask_price, one.ask_size) == (0, 0, 0, 0)
                else:
                    assert depth is not None
                    assert (one.depth_offset, one.depth_index) == (depth.version_offset, depth.version_index)
            elif isinstance(one, derived.Resync):
                self.wanted(one)
        return outputs

    def wanted(self, resync: derived.Resync) -> None:
        """Hear that derive wants a snapshot."""

    # What must hold

    def check_depth(self, depth: derived.Depth) -> None:
        version = self.said_by[depth.epoch, depth.book_frame_no][depth.book_index][1]
        truth = self.versions[depth.instrument][version]
        assert (
            list(zip(depth.bid_prices, depth.bid_sizes, strict=True)) == sorted(truth["BUY"].items(), reverse=True)[:10]
        )
        assert list(zip(depth.ask_prices, depth.ask_sizes, strict=True)) == sorted(truth["SELL"].items())[:10]

    @invariant()
    def live_books_are_the_true_ones(self) -> None:
        for name in self.instruments:
            state = self.task.book(name)
            if state is None or state.state != "LIVE":
                continue
            truth = self.versions[name][self.newest[state.epoch, name]]
            assert dict(state.book.bids.levels()) == truth["BUY"]
            assert dict(state.book.asks.levels()) == truth["SELL"]

    # Steps

    @initialize()
    def begin(self) -> None:
        for name in self.instruments:
            for step in (1, 2, 3):
                self.set_level(name, "BUY", 5_000 - 100 * step, 10_000_000)
                self.set_level(name, "SELL", 5_000 + 100 * step, 10_000_000)
        self.open_feed()

    @precondition(lambda self: len(self.feeds) < 2)
    @rule()
    def open_feed(self) -> None:
        raise AssertionError("each venue has its own")

    @precondition(lambda self: self.feeds)
    @rule(which=st.integers(0, 1))
    def end_feed(self, which: int) -> None:
        feed = self.feeds.pop(which % len(self.feeds))
        self.write(raw.Closed(**self.place(feed), reason="socket closed"))

    @precondition(lambda self: any(feed.held for feed in self.feeds))
    @rule(which=st.integers(0, 7))
    def release(self, which: int) -> None:
        held = [(feed, frame) for feed in self.feeds for frame in feed.held]
        feed, frame = held[which % len(held)]
        feed.held.remove(frame)
        self.now_ms += 1
        self.deliver(feed, frame)

    @rule(ms=st.sampled_from([10, 250, 250, 400, 1_200, 3_000]))
    def tick(self, ms: int) -> None:
        self.now_ms += ms
        for feed in [*self.feeds, *([self.polling] if self.polling else [])]:
            self.write(raw.FeedTick(**self.place(feed)))
        for feed in list(self.feeds):
            self.beat(feed)

    def beat(self, feed: Feed) -> None:
        """Let a feed's conversation do what is due."""

    @precondition(lambda self: self.feeds)
    @rule(payload=st.sampled_from([b"{", b"\xff", b"null", b"<html>", b'{"type":"orderbook_delta"}', b"[]"]))
    def garbage(self, payload: bytes) -> None:
        self.deliver(self.feeds[-1], Frame(payload, []))

    @rule(book=MARKETS, behind=st.integers(0, 3))
    def poll(self, book: int, behind: int) -> None:
        self.polling = self.polling or self.opened(degraded=True)
        name = self.instruments[book]
        body = self.rest_body(name, self.versions[name][-1 - behind])
        place = self.place(self.polling)
        self.write(raw.RestBook(**place, instrument=name, purpose="POLL", asked_ts_ns=self.recv_ns, payload=body))

    @precondition(lambda self: self.polling)
    @rule()
    def end_polling(self) -> None:
        self.write(raw.Closed(**self.place(self.polling), reason="answers again"))
        self.polling = None

    @precondition(lambda self: self.feeds)
    @rule(book=MARKETS, behind=st.integers(0, 2), wrong=st.booleans())
    def audit(self, book: int, behind: int, wrong: bool) -> None:
        name = self.instruments[book]
        stated = frozen(self.versions[name][-1 - behind])
        if wrong:
            stated["BUY"][100] = 77_000_000
        feed = self.feeds[-1]
        asked_ns = self.recv_ns - 20 * MS
        place = self.place(feed)
        before = len(self.log)
        self.write(
            raw.RestBook(
                **place, instrument=name, purpose="AUDIT", asked_ts_ns=asked_ns, payload=self.rest_body(name, stated)
            )
        )
        assert isinstance(self.log[before], market.AuditSnapshot)

    @rule()
    def restart_normalize(self) -> None:
        self.frames = FrameTask(self.context)

    @rule()
    def restore_derive(self) -> None:
        keep(self.task.changed(), self.kept)
        self.task = BookTask(self.context)
        self.task.restore(list(self.kept.items()))

    @precondition(lambda self: self.log)
    @rule(back=st.integers(1, 12))
    def say_again(self, back: int) -> None:
        """A thawed twin of normalise writes what was written before."""
        for record in self.log[-back:]:
            assert self.handle(record) == []

    def rest_body(self, name: str, sides: Sides) -> bytes:
        raise AssertionError("each venue has its own")


class KalshiMachine(BookMachine):
    """Numbered changes, signed sizes, snapshots in the same sequence."""

    venue = "kalshi"
    instruments = ("kalshi:A", "kalshi:B")

    def deliver(self, feed: Feed, frame: Frame) -> None:
        assert feed.conversation is not None
        self.perform(feed, feed.conversation.received(frame.payload, self.recv_ns), frame)

    def beat(self, feed: Feed) -> None:
        assert feed.conversation is not None
        self.perform(feed, feed.conversation.beat(self.recv_ns), None)

    def perform(self, feed: Feed, actions: Actions, frame: Frame | None) -> None:
        for action in actions:
            if feed not in self.feeds:
                return
            match action:
                case Publish(overtaken):
                    assert frame is not None
                    self.publish(feed, frame, overtaken=overtaken)
                case Gap(reason, instruments):
                    self.write(raw.Gap(**self.place(feed), instruments=list(instruments), reason=reason))
                case Send(payload):
                    self.hear(feed, payload)
                case Reconnect(reason):
                    self.feeds.remove(feed)
                    self.write(raw.Closed(**self.place(feed), reason=reason))

    def hear(self, feed: Feed, payload: bytes) -> None:
        command = json.loads(payload)
        if command["cmd"] == "update_subscription":
            feed.asked.append(command["params"]["market_tickers"])

    def wanted(self, resync: derived.Resync) -> None:
        for feed in self.feeds:
            assert feed.conversation is not None
            for action in feed.conversation.resync({resync.instrument: resync.ts_ns}, self.recv_ns):
                if isinstance(action, Send):
                    self.hear(feed, action.payload)

    @precondition(lambda self: len(self.feeds) < 2)
    @rule(fates=st.tuples(FATES, FATES))
    def open_feed(self, fates: tuple[str, str] = ("now", "now")) -> None:
        feed = self.opened()
        subjects = {name.partition(":")[2]: name for name in self.instruments}
        feed.conversation = KalshiConversation(subjects, venue_wide=False)
        feed.conversation.opened(self.recv_ns)
        self.feeds.append(feed)
        granted = {"type": "subscribed", "id": 1, "msg": {"channel": "orderbook_delta", "sid": 1}}
        self.deliver(feed, Frame(json.dumps(granted).encode(), []))
        for name, fate in zip(self.instruments, fates, strict=True):
            if feed in self.feeds:
                self.reach(feed, self.snapshot(feed, name), fate)

    @precondition(lambda self: self.feeds)
    @rule(book=MARKETS, side=st.sampled_from(["BUY", "SELL"]), step=STEPS, size=SIZES, fate=FATES, at=st.integers(0, 1))
    def change(self, book: int, side: str, step: int, size: int, fate: str, at: int) -> None:
        name = self.instruments[book]
        price = 5_000 + (-100 if side == "BUY" else 100) * step
        self.now_ms += 1
        before = self.set_level(name, side, price, size * 1_000_000)
        feeds = list(self.feeds)
        for feed in feeds:
            frame = self.frame(
                feed,
                "orderbook_delta",
                {
                    "market_ticker": name.partition(":")[2],
                    "price_dollars": from_fixed(price, -4, places_min=4),
                    "delta_fp": from_fixed(size * 1_000_000 - before, -6, places_min=2),
                    "side": "yes" if side == "BUY" else "no",
                    "ts_ms": T0 // MS + self.now_ms,
                },
                [(name, self.version(name))],
            )
            self.reach(feed, frame, fate if feed is feeds[at % len(feeds)] else "now")

    @precondition(lambda self: any(feed.asked for feed in self.feeds))
    @rule(fate=FATES)
    def answer(self, fate: str) -> None:
        feed = next(feed for feed in self.feeds if feed.asked)
        for ticker in feed.asked.pop(0):
            if feed in self.feeds:
                self.reach(feed, self.snapshot(feed, f"kalshi:{ticker}"), fate)

    def snapshot(self, feed: Feed, name: str) -> Frame:
        sides = self.books[name]
        body = {
            "market_ticker": name.partition(":")[2],
            "market_id": "id",
            "yes_dollars_fp": self.levels(sides["BUY"]),
            "no_dollars_fp": self.levels(sides["SELL"]),
        }
        return self.frame(feed, "orderbook_snapshot", body, [(name, self.version(name))])

    def frame(self, feed: Feed, kind: str, body: dict[str, object], said: Said) -> Frame:
        feed.seq += 1
        message = {"type": kind, "sid": 1, "seq": feed.seq, "sending_ts_ms": T0 // MS + self.now_ms, "msg": body}
        return Frame(json.dumps(message).encode(), said)

    def rest_body(self, name: str, sides: Sides) -> bytes:
        no = {10_000 - price: size for price, size in sides["SELL"].items()}
        body = {"orderbook_fp": {"yes_dollars": self.levels(sides["BUY"]), "no_dollars": self.levels(no)}}
        return json.dumps(body).encode()

    @staticmethod
    def levels(levels: dict[int, int]) -> list[list[str]]:
        return [[from_fixed(p, -4, places_min=4), from_fixed(s, -6, places_min=2)] for p, s in sorted(levels.items())]


class PolymarketMachine(BookMachine):
    """Absolute sizes, no numbers, a hash with each change; what a trade takes is told by a whole book only."""

    venue = "polymarket"
    instruments = ("polymarket:0x" + "a" * 64, "polymarket:0x" + "b" * 64)

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, str] = dict.fromkeys(self.instruments, "")

    def deliver(self, feed: Feed, frame: Frame) -> None:
        self.publish(feed, frame)

    @precondition(lambda self: len(self.feeds) < 2)
    @rule()
    def open_feed(self) -> None:
        feed = self.opened()
        self.feeds.append(feed)
        books = [self.book(name, first=True) for name in self.instruments]
        said = [(name, self.version(name)) for name in self.instruments]
        self.deliver(feed, Frame(json.dumps(books).encode(), said))

    @precondition(lambda self: self.feeds)
    @rule(
        book=MARKETS,
        side=st.sampled_from(["BUY", "SELL"]),
        steps=st.lists(st.tuples(STEPS, SIZES), min_size=1, max_size=3),
        fate=FATES,
        at=st.integers(0, 1),
    )
    def change(self, book: int, side: str, steps: list[tuple[int, int]], fate: str, at: int) -> None:
        name = self.instruments[book]
        self.now_ms += 1
        said: Said = []
        changes = []
        for step, size in steps:
            price = 5_000 + (-100 if side == "BUY" else 100) * step
            self.set_level(name, side, price, size * 1_000_000)
            said.append((name, self.version(name)))
            mirrored = {"BUY": "SELL", "SELL": "BUY"}[side]
            for token, one_side, at_price in (
                (self.token(name), side, price),
                (self.token(name) + "0", mirrored, 10_000 - price),
            ):
                told = {"price": from_fixed(at_price, -4), "size": from_fixed(size * 1_000_000, -6)}
                changes.append({"asset_id": token, "side": one_side, "hash": self.hash(name)} | told)
        message = {"event_type": "price_change", "market": self.condition(name), "price_changes": changes}
        self.send(message, said, fate, at)

    @precondition(lambda self: self.feeds)
    @rule(
        book=MARKETS,
        side=st.sampled_from(["BUY", "SELL"]),
        fates=st.tuples(FATES, FATES),
        first=st.sampled_from(["book", "print"]),
        of_no=st.booleans(),
        at=st.integers(0, 1),
    )
    def trade(self, book: int, side: str, fates: tuple[str, str], first: str, of_no: bool, at: int) -> None:
        name = self.instruments[book]
        levels = self.books[name][side]
        if not levels:
            return
        self.now_ms += 1
        price = max(levels) if side == "BUY" else min(levels)
        self.set_level(name, side, price, max(levels[price] - 1_500_000, 0))
        told = 10_000 - price if of_no else price
        self.last[name] = from_fixed(told, -4, places_min=3)
        told_print = {
            "event_type": "last_trade_price",
            "asset_id": self.token(name) + ("0" if of_no else ""),
            "market": self.condition(name),
            "price": from_fixed(told, -4),
            "size": "1.5",
            "side": "BUY",
        }
        told_book = self.book(name)
        messages = [(told_book, [(name, self.version(name))], fates[0]), (told_print, [], fates[1])]
        for message, said, fate in messages if first == "book" else reversed(messages):
            self.send(message, said, fate, at)

    @precondition(lambda self: self.feeds)
    @rule(book=MARKETS, fate=FATES, at=st.integers(0, 1))
    def refresh(self, book: int, fate: str, at: int) -> None:
        name = self.instruments[book]
        self.now_ms += 1
        self.send(self.book(name), [(name, self.version(name))], fate, at)

    def send(self, message: dict[str, object], said: Said, fate: str, at: int) -> None:
        frame = Frame(json.dumps(message | {"timestamp": self.stamp}).encode(), said)
        feeds = list(self.feeds)
        for feed in feeds:
            self.reach(feed, frame, fate if feed is feeds[at % len(feeds)] else "now")

    @property
    def stamp(self) -> str:
        return str(T0 // MS + self.now_ms)

    def condition(self, name: str) -> str:
        return name.partition(":")[2]

    def levels(self, name: str) -> dict[str, list[dict[str, str]]]:
        """Return the levels as the venue writes them: the best is the last."""
        sides = self.books[name]
        return {
            "bids": [{"price": from_fixed(p, -4), "size": from_fixed(s, -6)} for p, s in sorted(sides["BUY"].items())],
            "asks": [
                {"price": from_fixed(p, -4), "size": from_fixed(s, -6)}
                for p, s in sorted(sides["SELL"].items(), reverse=True)
            ],
        }

    def hash(self, name: str) -> str:
        body = {"market": self.condition(name), "asset_id": self.token(name), "timestamp": self.stamp, "hash": ""}
        body |= self.levels(name)
        body |= {"min_order_size": "5", "tick_size": "0.01", "neg_risk": False, "last_trade_price": self.last[name]}
        return hashlib.sha1(json.dumps(body, separators=(",", ":")).encode()).hexdigest()

    def book(self, name: str, *, first: bool = False) -> dict[str, object]:
        message = {
            "event_type": "book",
            "market": self.condition(name),
            "asset_id": self.token(name),
            "timestamp": self.stamp,
            "hash": self.hash(name),
        }
        stated = {"tick_size": "0.01", "last_trade_price": self.last[name]} if first else {}
        return message | self.levels(name) | stated

    def rest_body(self, name: str, sides: Sides) -> bytes:
        held = self.books[name]
        self.books[name] = sides
        message = self.book(name, first=True)
        self.books[name] = held
        return json.dumps(message).encode()


TestKalshiMachine = KalshiMachine.TestCase
TestKalshiMachine.settings = MODEST
TestPolymarketMachine = PolymarketMachine.TestCase
TestPolymarketMachine.settings = MODEST


# What chaos and the machine found, said once more without chance.


def test_an_answer_that_a_change_overtook_heals_no_book():
    machine = KalshiMachine()
    machine.begin()
    machine.change(at=0, book=0, fate="lost", side="BUY", size=0, step=1)
    machine.change(at=0, book=0, fate="now", side="BUY", size=0, step=1)
    machine.answer(fate="held")
    machine.change(at=0, book=0, fate="now", side="BUY", size=0, step=2)
    machine.release(which=0)
    assert machine.task.book("kalshi:A").state != "LIVE"
    # Both answers may still come for all the conversation knows; a second later it asks again.
    machine.tick(ms=1_200)
    machine.answer(fate="now")
    machine.live_books_are_the_true_ones()
    assert machine.task.book("kalshi:A").state == "LIVE"


def test_a_first_snapshot_that_a_change_overtook_takes_no_book_over():
    machine = KalshiMachine()
    machine.begin()
    machine.open_feed(("now", "held"))
    machine.change(at=0, book=1, fate="now", side="BUY", size=0, step=1)
    machine.release(which=0)
    machine.live_books_are_the_true_ones()
    state = machine.task.book("kalshi:B")
    assert (state.epoch, state.state) == (0, "LIVE")
    machine.answer(fate="now")
    machine.live_books_are_the_true_ones()
    assert state.epoch == 1

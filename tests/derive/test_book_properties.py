"""Any history of feeds, seen any number of times, gives the outputs of one clean pass; a LIVE book equals the truth.

A made-up venue holds the true books as dictionaries. Feeds open, take snapshots, tick, lose messages, cross, fall silent
and close; what they say is one partition of market.event. Then that log is disturbed the way restarts and thawed twins
disturb it: any record may come again at any later time, and records of feeds that lost their books may come late.
"""

from dataclasses import dataclass, field
from random import Random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.runtime.flow import Input, TaskContext
from derive.stage import BookTask
from schemas import derived, market
from schemas.record import Record
from tests.checkpoints import keep
from tests.records import sides

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
NAMES = ("kalshi:A", "kalshi:B")
FEEDS = 3

RELAXED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

Sides = dict[str, dict[int, int]]


@dataclass
class Feed:
    """One connection: it says every change of the books it has taken a snapshot of."""

    epoch: int
    frame_no: int = 0
    carries: set[str] = field(default_factory=set)


@dataclass
class Venue:
    """The truth, and the log that its feeds write."""

    books: dict[str, Sides] = field(default_factory=lambda: {name: {"BUY": {}, "SELL": {}} for name in NAMES})
    feeds: list[Feed] = field(default_factory=lambda: [Feed(epoch) for epoch in range(1, FEEDS + 1)])
    log: list[Record] = field(default_factory=list)
    auditor: Feed = field(default_factory=lambda: Feed(1_000))
    """Asks for books by REST."""
    marks: list[int] = field(default_factory=list)
    """Length of the log after each step: between steps a change may be half said."""
    truths: list[dict[str, Sides]] = field(default_factory=list)
    now_ms: int = 0
    trades: int = 0

    def step(self, name: str, feed_no: int, book_no: int, side: str, price: int, size: int) -> None:
        feed, book = self.feeds[feed_no], NAMES[book_no]
        self.now_ms += size * 7
        getattr(self, f"_{name}")(feed, book, side, price, size)
        self.marks.append(len(self.log))
        self.truths.append({n: {s: dict(levels) for s, levels in sides.items()} for n, sides in self.books.items()})

    def _say(self, by: Feed, kind: type[Record], /, **fields: object) -> None:
        by.frame_no += 1
        place = {"epoch": by.epoch, "frame_no": by.frame_no, "recv_ts_ns": T0 + self.now_ms * MS}
        if kind is not market.Tick:
            place["index"] = 0
        self.log.append(kind(**place, **fields))

    def _change(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        price = self._kept_apart(book, side, price)
        before = self.books[book][side].get(price, 0)
        self._set(book, side, price, size)
        for one in self.feeds:
            if book in one.carries:
                self._delta(one, book, side, price, size, size - before)

    def _cross(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        """Two orders meet, and the first half of the news comes alone; a tick stands between the halves."""
        other, best = ("SELL", max) if side == "BUY" else ("BUY", min)
        meeting = best([*self.books[book][other], 5_000])
        for level, number in ((meeting, size + 1), (meeting, 0)):
            before = self.books[book][side].get(level, 0)
            self._set(book, side, level, number)
            for one in self.feeds:
                if book in one.carries:
                    self._delta(one, book, side, level, number, number - before)
            self.now_ms += 300 * (size % 4)
            self._tick(feed, book, side, price, size)

    def _snapshot(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        feed.carries.add(book)
        bids = sorted(self.books[book]["BUY"].items(), reverse=True)
        asks = sorted(self.books[book]["SELL"].items())
        self._say(
            feed,
            market.BookSnapshot,
            instrument=book,
            price_exp=-4,
            size_exp=-6,
            **sides(bids, asks),
        )

    def _tick(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        self._say(feed, market.Tick, feed=f"kalshi-{feed.epoch}", venue="kalshi")

    def _wait(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        """Time passes; one feed keeps ticking, the others are silent."""
        for _ in range(size):
            self.now_ms += 250
            self._tick(feed, book, side, price, size)

    def _lose(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        """A change that one feed does not hear of: it sees the gap, says so, and carries no book it has not asked anew."""
        price = self._kept_apart(book, side, price)
        before = self.books[book][side].get(price, 0)
        self._set(book, side, price, size)
        for one in self.feeds:
            if book in one.carries and one is not feed:
                self._delta(one, book, side, price, size, size - before)
        self._reset(feed, [] if size % 2 else [book])

    def _close(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        self._reset(feed, [], closed=True)
        self.feeds[self.feeds.index(feed)] = Feed(max(one.epoch for one in self.feeds) + 1)

    def _trade(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        self.trades += 1
        for one in self.feeds:
            if book in one.carries:
                self._say(
                    one,
                    market.Trade,
                    instrument=book,
                    price_exp=-4,
                    size_exp=-6,
                    price=price,
                    size=size + 1,
                    aggressor=side,
                    trade_id=f"t{self.trades}" if size % 2 else "",
                )

    def _status(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        self._say(
            feed,
            market.Status,
            instrument=book,
            status="PAUSED" if size % 3 == 0 else "OPEN",
            price_exp=-4,
            venue_ts_ns=T0 + self.now_ms * MS + len(self.log),
        )

    def _audit(self, feed: Feed, book: str, side: str, price: int, size: int) -> None:
        """A REST answer that is a few steps old, and wrong each third time."""
        stated = self.truths[max(len(self.truths) - 1 - size // 2, 0)][book]
        levels = {one: dict(held) for one, held in stated.items()}
        if size % 3 == 0:
            price = self._kept_apart(book, side, price)
            levels[side][price] = levels[side].get(price, 0) + 1
        self._say(
            self.auditor,
            market.AuditSnapshot,
            instrument=book,
            price_exp=-4,
            size_exp=-6,
            asked_ts_ns=T0 + (self.now_ms - 300 * size) * MS,
            **sides(sorted(levels["BUY"].items(), reverse=True), sorted(levels["SELL"].items())),
        )

    def _delta(self, feed: Feed, book: str, side: str, price: int, size: int, change: int) -> None:
        absolute = feed.epoch % 2 == 0
        self._say(
            feed,
            market.BookDelta,
            instrument=book,
            price_exp=-4,
            size_exp=-6,
            side=side,
            kind="ABSOLUTE" if absolute else "SIGNED",
            price=price,
            size=size if absolute else change,
        )

    def _reset(self, feed: Feed, books: list[str], *, closed: bool = False) -> None:
        feed.carries -= set(books or NAMES)
        self._say(
            feed,
            market.FeedReset,
            feed=f"kalshi-{feed.epoch}",
            venue="kalshi",
            instruments=books,
            closed=closed,
            reason="closed" if closed else "gap",
        )

    def _set(self, book: str, side: str, price: int, size: int) -> None:
        levels = self.books[book][side]
        levels[price] = size
        if not size:
            del levels[price]

    @staticmethod
    def _kept_apart(book: str, side: str, price: int) -> int:
        return price if side == "BUY" else 10_000 - price


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["change"] * 5
            + ["snapshot"] * 3
            + ["status", "audit", "wait"] * 2
            + ["tick", "lose", "close", "cross", "trade"]
        ),
        st.integers(0, FEEDS - 1),
        st.integers(0, len(NAMES) - 1),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(4_980, 4_999),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=60,
)


PRELUDE = [
    *[("change", 0, book, side, 4_980 + 2 * n, 3) for book in (0, 1) for side in ("BUY", "SELL") for n in range(9)],
    *[("snapshot", feed, book, "BUY", 0, 0) for feed in (0, 1) for book in (0, 1)],
    ("tick", 0, 0, "BUY", 0, 0),
    *[("wait", 1, 0, "BUY", 0, 8)] * 2,
]
"""Books of nine levels on two feeds, old enough for an auditor: what is drawn begins with something to lose."""


def history(steps) -> Venue:
    venue = Venue()
    for step in [*PRELUDE, *steps]:
        venue.step(*step)
    return venue


def new_task() -> BookTask:
    return BookTask(TaskContext(partition=1, partitions=4))


def feed_in(task: BookTask, records: list[Record]) -> list[list]:
    return [list(task.handle(Input(record, "market.event", 1, offset, ""))) for offset, record in enumerate(records)]


def shown(task: BookTask) -> dict[str, tuple]:
    """Return all that is visible of each book."""
    states = {name: task.book(name) for name in NAMES}
    return {
        name: (state.state, state.cause, state.epoch, state.book.bids.levels(), state.book.asks.levels())
        for name, state in states.items()
        if state is not None
    }


@RELAXED
@given(steps=STEPS)
def test_live_book_equals_the_truth_and_what_was_said_last_is_what_stands(steps):
    venue = history(steps)
    task = new_task()
    said: dict[str, derived.Quote] = {}
    depths: dict[tuple[str, int, int], derived.Depth] = {}
    offset = 0
    for mark, truth in zip(venue.marks, venue.truths, strict=True):
        while offset < mark:
            for output in task.handle(Input(venue.log[offset], "market.event", 1, offset, "")):
                record = output.record
                if isinstance(record, derived.Depth):
                    depths[record.instrument, record.version_offset, record.version_index] = record
                elif isinstance(record, derived.Quote):
                    said[record.instrument] = record
            offset += 1
        for name, quote in said.items():
            if quote.state != "LIVE":
                assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (0, 0, 0, 0)
                continue
            depth = depths[name, quote.depth_offset, quote.depth_index]
            bids = sorted(truth[name]["BUY"].items(), reverse=True)[:10]
            asks = sorted(truth[name]["SELL"].items())[:10]
            assert list(zip(depth.bid_prices, depth.bid_sizes, strict=True)) == bids
            assert list(zip(depth.ask_prices, depth.ask_sizes, strict=True)) == asks
            assert (quote.bid_price, quote.bid_size) == (bids[0] if bids else (0, 0))
            assert (quote.ask_price, quote.ask_size) == (asks[0] if asks else (0, 0))
            if bids and asks:
                assert bids[0][0] < asks[0][0]
    for name, state in shown(task).items():
        if name in said:
            assert (said[name].state, said[name].cause) == state[:2]


def at_clean_offsets(record: Record, clean: dict[int, int]) -> Record:
    """Return a record whose versions are places in the undisturbed log."""
    changes = {
        name: clean[offset] for name in ("version_offset", "depth_offset") if (offset := getattr(record, name, -1)) >= 0
    }
    return msgspec.structs.replace(record, **changes) if changes else record


def late(records: list[Record], owners: dict[str, int]) -> list[Record]:
    """Return records that a feed could still say of books it has lost: same times, places never seen."""
    made = []
    for record in records:
        owner = owners.get(getattr(record, "instrument", ""), -1)
        if isinstance(record, (market.BookDelta, market.BookSnapshot)) and record.epoch < owner:
            made.append(msgspec.structs.replace(record, frame_no=record.frame_no + 1_000))
    return made


@RELAXED
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_repeats_twins_and_late_records_of_lost_feeds_change_nothing(steps, seed):
    venue = history(steps)
    expected = feed_in(new_task(), venue.log)
    rng = Random(seed)
    task = new_task()
    clean: dict[int, int] = {}
    offset = position = 0
    while position < len(venue.log) or offset < len(venue.log) + 10:
        before = venue.log[:position]
        roll = rng.random() if position < len(venue.log) else 0
        if position and roll < 0.5:
            # A thawed twin, or a producer that starts again from an earlier place.
            rare = [one for one in before if not isinstance(one, (market.BookDelta, market.Tick))]
            record, is_new = rng.choice(rare if rare and rng.random() < 0.5 else before), False
        elif roll < 0.6:
            owners = {name: task.book(name).epoch for name in NAMES if task.book(name) is not None}
            choices = late(before, owners)
            if not choices:
                continue
            record, is_new = rng.choice(choices), False
        else:
            record, is_new = venue.log[position], True
        outputs = list(task.handle(Input(record, "market.event", 1, offset, "")))
        if is_new:
            clean[offset] = position
            found = [output._replace(record=at_clean_offsets(output.record, clean)) for output in outputs]
            assert found == expected[position]
            position += 1
        else:
            assert outputs == []
        offset += 1
    undisturbed = new_task()
    feed_in(undisturbed, venue.log)
    assert shown(task) == shown(undisturbed)
    assert task.log_ns == undisturbed.log_ns


@RELAXED
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_restart_from_the_start_of_the_log_gives_what_was_not_published_yet(steps, seed):
    log, rng = history(steps).log, Random(seed)
    whole = feed_in(new_task(), log)
    published: list = []
    committed = 0
    while committed < len(log):
        # Handles up to some place, publishes up to some other, commits up to a third, and dies.
        died = rng.randint(committed + 1, len(log))
        outputs = feed_in(new_task(), log[:died])
        published += [one for outs in outputs[committed:] for one in outs]
        committed = rng.randint(committed, died) if died < len(log) else died
    distinct = {(repr(one.record), one.key): one for one in published}
    assert list(distinct) == list({(repr(one.record), one.key): one for outs in whole for one in outs})


@RELAXED
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_task_restored_at_random_cuts_says_what_one_that_never_died_says(steps, seed):
    log, rng = history(steps).log, Random(seed)
    expected = feed_in(new_task(), log)
    cuts = {rng.randrange(len(log) + 1) for _ in range(rng.randint(1, 6))}
    task, kept = new_task(), {}
    for offset, record in enumerate(log):
        if offset in cuts:
            keep(task.changed(), kept)
            items = list(kept.items())
            rng.shuffle(items)
            task = new_task()
            task.restore(items)
        assert list(task.handle(Input(record, "market.event", 1, offset, ""))) == expected[offset]
    undisturbed = new_task()
    feed_in(undisturbed, log)
    assert shown(task) == shown(undisturbed)
    assert dict(task.changed()).keys() >= {""}

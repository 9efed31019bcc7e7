"""Oracle (a): each book marked LIVE equals the venue's own book at that point of the feed, level by level.

The way back: a Depth names the record its book was last changed by (epoch, frame number, index); that record is the n-th
book record which the pure normaliser makes of the frame; the frame is a line of what the venue sent on that feed's
connection, and the line says which version of the market's book a reader holds after the n-th of what it states. The book
at that version is made from the venue's log of levels. A line that a fault changed, held back or dropped states something
else than the book: what counts is the highest version of all that was stated on the connection up to there, sent or not.
A Quote marked LIVE must say what the Depth it names says.

Where no client could know at once, the fault names the first frame that gives it away. From the fault up to there a
difference is *unknowable* and counted apart, under the fault's name. Everything else is a difference.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infra.chaos.matching import Match, Sent
from schemas.derived import Depth, Quote
from schemas.market import BookDelta, BookSnapshot
from schemas.record import Record

TOP = 10
TRUTH_EXPONENTS = (-4, -6)
EXAMPLES_MAX = 20
Levels = tuple[tuple[int, int], ...]


class Shown(NamedTuple):
    """A Depth marked LIVE.

    Attributes:
        bids: (price at -4, size at -6), best first; asks likewise.
        where: partition and offset on `derived.book`.
    """

    instrument: str
    epoch: int
    frame_no: int
    place: int
    bids: Levels
    asks: Levels
    where: tuple[int, int]
    version: tuple[int, int]


class Quoted(NamedTuple):
    """A Quote marked LIVE."""

    instrument: str
    depth: tuple[int, int]
    bid: tuple[int, int]
    ask: tuple[int, int]
    where: tuple[int, int]


class Blind(NamedTuple):
    """A span of one connection in which a market's reader cannot know that its book is wrong.

    Attributes:
        first, last: places among the connection's lines, both included.
    """

    connection: int
    market: str
    first: int
    last: int
    fault: str


@dataclass
class Outcome:
    """What the comparison found."""

    checked: int = 0
    differences: int = 0
    unknowable: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    """differences by what was wrong"""

    def differs(self, kind: str, text: str) -> None:
        """Note a difference."""
        self.differences += 1
        self.kinds[kind] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {text}")


class Venue:
    """One venue's truth, ready to be asked."""

    def __init__(
        self,
        name: str,
        sent: Mapping[int, Sequence[Sent]],
        matches: Mapping[int, Match],
        levels: Iterable[Sequence[Any]],
        blind: Iterable[Blind] = (),
    ) -> None:
        """Prepare.

        Args:
            levels: lines `[market, version, side, price_e4, size_e6]` of `books-<venue>.jsonl`.
        """
        self.name = name
        self._sent = sent
        self._matches = matches
        self.levels: dict[str, list[tuple[int, str, int, int]]] = {}
        for market, version, side, price, size in levels:
            self.levels.setdefault(market, []).append((version, side, price, size))
        self._highest: dict[int, dict[str, tuple[list[int], list[int]]]] = {}
        self._blind: dict[tuple[int, str], list[Blind]] = {}
        for span in blind:
            self._blind.setdefault((span.connection, span.market), []).append(span)

    def place(self, epoch: int, frame_no: int) -> tuple[int, int] | None:
        """Return (connection, place among its lines) of a frame, None if the venue did not send it."""
        found = self._matches.get(epoch)
        if found is None or found.connection is None or frame_no not in found.places:
            return None
        return found.connection, found.places[frame_no]

    def epochs(self, connection: int) -> list[int]:
        """Return the feeds that read a connection: one, or none."""
        return [epoch for epoch, found in self._matches.items() if found.connection == connection]

    def version(self, connection: int, place: int, nth: int, market: str) -> int | None:
        """Return the version a reader should hold after the n-th book record of a line; None if it states no such book."""
        said = self._sent[connection][place].versions
        if nth >= len(said) or said[nth][0] != market:
            return None
        return max(self._before(connection, place, market), said[nth][1])

    def blind(self, connection: int, place: int, market: str) -> str:
        """Return the fault that no reader could know of at this place, empty if there is none."""
        for span in self._blind.get((connection, market), ()):
            if span.first <= place <= span.last:
                return span.fault
        return ""

    def _before(self, connection: int, place: int, market: str) -> int:
        """Return the highest version of a market stated on the connection before a line."""
        found = self._highest.get(connection)
        if found is None:
            found = self._highest[connection] = _rising(self._sent[connection])
        places, versions = found.get(market, ((), ()))
        before = bisect_left(places, place)
        return versions[before - 1] if before else 0


def _rising(frames: Sequence[Sent]) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each market the places of lines that state it and the highest version up to each."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for place, frame in enumerate(frames):
        for market, version in frame.versions:
            places, versions = found.setdefault(market, ([], []))
            places.append(place)
            versions.append(max(version, versions[-1] if versions else 0))
    return found


class Truth:
    """Gathers what was shown and compares it."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.quoted: list[Quoted] = []
        self.records: dict[tuple[int, int], list[int]] = {}
        """(epoch, frame number) -> indices of its book records"""

    def add(self, record: Record, partition: int, offset: int) -> None:
        """Take in one record of `derived.book`."""
        if isinstance(record, Depth) and record.state == "LIVE":
            self.shown.append(
                Shown(
                    record.instrument,
                    record.epoch,
                    record.book_frame_no,
                    record.book_index,
                    _scaled(record, record.bid_prices, record.bid_sizes),
                    _scaled(record, record.ask_prices, record.ask_sizes),
                    (partition, offset),
                    (record.version_offset, record.version_index),
                )
            )
        elif isinstance(record, Quote) and record.state == "LIVE":
            ((bid,), (ask,)) = (
                _scaled(record, [record.bid_price], [record.bid_size]),
                _scaled(record, [record.ask_price], [record.ask_size]),
            )
            depth = (record.depth_offset, record.depth_index)
            self.quoted.append(Quoted(record.instrument, depth, bid, ask, (partition, offset)))

    def add_event(self, record: Record) -> None:
        """Take in one market event as the pure normaliser makes it of the raw frames."""
        if isinstance(record, BookSnapshot | BookDelta):
            found = self.records.setdefault((record.epoch, record.frame_no), [])
            if record.index not in found:
                found.append(record.index)

    def compare(self, venues: Mapping[str, Venue]) -> Outcome:
        """Compare everything that was shown with what the venues say."""
        outcome = Outcome()
        asked: dict[tuple[str, str], list[tuple[int, Shown, str]]] = {}
        for shown in self.shown:
            outcome.checked += 1
            name, _, market = shown.instrument.partition(":")
            found = self._trace(venues[name], market, shown) if name in venues else f"no venue {name}"
            if isinstance(found, str):
                outcome.differs("untraceable", f"{_named(shown)}: {found}")
            else:
                asked.setdefault((name, market), []).append((found[0], shown, found[1]))
        for (name, market), wanted in asked.items():
            _compare_market(venues[name].levels.get(market, []), wanted, outcome)
        self._compare_quotes(outcome)
        return outcome

    def _trace(self, venue: Venue, market: str, shown: Shown) -> tuple[int, str] | str:
        """Return the version the Depth should show and the fault that hides a difference, or why it has no way back."""
        place = venue.place(shown.epoch, shown.frame_no)
        if place is None:
            return "it names a frame the venue did not send"
        indices = self.records.get((shown.epoch, shown.frame_no), [])
        if shown.place not in indices:
            return f"it names record {shown.place}, the frame has book records {indices}"
        version = venue.version(*place, indices.index(shown.place), market)
        if version is None:
            return "it names a frame that says nothing of this book"
        return version, venue.blind(*place, market)

    def _compare_quotes(self, outcome: Outcome) -> None:
        tops: dict[tuple[str, tuple[int, int]], tuple[Levels, Levels]] = {}
        for shown in self.shown:
            tops[shown.instrument, shown.version] = (shown.bids[:1], shown.asks[:1])
        for quoted in self.quoted:
            outcome.checked += 1
            top = tops.get((quoted.instrument, quoted.depth))
            said = tuple((level,) if level[1] else () for level in (quoted.bid, quoted.ask))
            if top is None:
                outcome.differs("quote without depth", f"{quoted.instrument} at {quoted.where} names {quoted.depth}")
            elif top != said:
                outcome.differs("quote", f"{quoted.instrument} at {quoted.where}: {said}, its depth {top}")


def _compare_market(
    levels: Sequence[tuple[int, str, int, int]], wanted: Sequence[tuple[int, Shown, str]], outcome: Outcome
) -> None:
    book: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
    done = 0
    tops: tuple[Levels, Levels] = ((), ())
    made = -1
    for version, shown, fault in sorted(wanted, key=lambda item: item[0]):
        while done < len(levels) and levels[done][0] <= version:
            _, side, price, size = levels[done]
            if size:
                book[side][price] = size
            else:
                book[side].pop(price, None)
            done += 1
        if made != done:
            tops = (
                tuple(sorted(book["bid"].items(), reverse=True)[:TOP]),
                tuple(sorted(book["ask"].items())[:TOP]),
            )
            made = done
        if tops == (shown.bids, shown.asks):
            continue
        if fault:
            outcome.unknowable[fault] += 1
        else:
            outcome.differs("levels", f"{_named(shown)}, version {version}: {_first_difference(shown, tops)}")


def _first_difference(shown: Shown, tops: tuple[Levels, Levels]) -> str:
    for side, ours, theirs in (("bid", shown.bids, tops[0]), ("ask", shown.asks, tops[1])):
        for level in range(max(len(ours), len(theirs))):
            here = ours[level] if level < len(ours) else None
            there = theirs[level] if level < len(theirs) else None
            if here != there:
                return f"{side} {level + 1} is {here}, the venue's {there}"
    return "equal"


def _named(shown: Shown) -> str:
    return (
        f"{shown.instrument} at derived.book {shown.where[0]}/{shown.where[1]}, "
        f"epoch {shown.epoch} frame {shown.frame_no}/{shown.place}"
    )


def _scaled(record: Depth | Quote, prices: Sequence[int], sizes: Sequence[int]) -> Levels:
    """Return levels at the truth's exponents; others than those make the numbers differ."""
    if (record.price_exp, record.size_exp) == TRUTH_EXPONENTS:
        return tuple(zip(prices, sizes, strict=True))
    return tuple((-price, -size) for price, size in zip(prices, sizes, strict=True))

"""Judges, from the logs alone, whether an order should have been decided on and whether its bytes should have left.

Written against what the architecture promises, not against the code that keeps it: a quote is usable while LIVE and while
the last Tick of its partition is less than a second old, and an order walks the Depth its Quote names.
"""

from collections.abc import Iterable
from typing import NamedTuple

from core.runtime.sequenced import Inbox, Stamp
from schemas.decision import Intent
from schemas.derived import Depth, Quote, Tick
from schemas.record import Record

AGE_NS_MAX = 1_000_000_000


class Seen(NamedTuple):
    """One record of a log. `stamp` is what a sequencer added, None elsewhere."""

    partition: int
    offset: int
    record: Record
    stamp: Stamp | None = None


class Sending(NamedTuple):
    """One order whose bytes left, and when."""

    order: str
    instrument: str
    sent_ns: int
    send_by_ns: int


def unsound_intents(intents: Iterable[Intent], inputs: Iterable[Seen]) -> list[str]:
    """Return what was decided on a quote that was not usable, by `decision.input` up to the record that triggered it."""
    waiting: dict[tuple[int, int], list[Intent]] = {}
    for intent in intents:
        waiting.setdefault((intent.input_partition, intent.input_offset), []).append(intent)
    inboxes: dict[int, Inbox] = {}
    books: dict[int, _Books] = {}
    found = []
    for seen in inputs:
        inbox = inboxes.setdefault(seen.partition, Inbox())
        known = books.setdefault(seen.partition, _Books())
        if inbox.admit(seen.record, seen.stamp):
            known.take(seen.record, seen.stamp.source.partition if seen.stamp else -1)
        for intent in waiting.pop((seen.partition, seen.offset), ()):
            found += [f"intent {intent.id}: {why}" for why in known.speaks_against(intent, inbox.log_ns)]
    return found + [f"intent {intent.id}: no record at its place" for left in waiting.values() for intent in left]


class _Books:
    """The newest quotes, all depths and the ticks of one log so far."""

    def __init__(self) -> None:
        self.quotes: dict[str, tuple[Quote, int]] = {}
        self.depths: dict[tuple[str, int, int], Depth] = {}
        self.ticks: dict[int, int] = {}

    def take(self, record: Record, partition: int) -> None:
        if isinstance(record, Tick):
            self.ticks[record.partition] = max(self.ticks.get(record.partition, 0), record.ts_ns)
        elif isinstance(record, Depth):
            self.depths[record.instrument, record.version_offset, record.version_index] = record
        elif isinstance(record, Quote):
            last = self.quotes.get(record.instrument)
            if last is None or _version(record) >= _version(last[0]):
                self.quotes[record.instrument] = (record, partition)

    def speaks_against(self, intent: Intent, now_ns: int) -> list[str]:
        found = []
        for leg in intent.legs:
            quote, partition = self.quotes.get(leg.instrument, (None, -1))
            if quote is None or quote.state != "LIVE":
                found.append(f"{leg.instrument} was {quote.state if quote else 'not seen'}")
                continue
            if now_ns - self.ticks.get(partition, 0) >= AGE_NS_MAX:
                found.append(f"{leg.instrument}: the last tick was {now_ns - self.ticks.get(partition, 0)} ns old")
            if (leg.version_offset, leg.version_index) != (quote.depth_offset, quote.depth_index):
                found.append(f"{leg.instrument}: its depth is not the one the newest quote names")
            depth = self.depths.get((leg.instrument, leg.version_offset, leg.version_index))
            if depth is None:
                found.append(f"{leg.instrument}: nobody saw the depth it names")
                continue
            prices, sizes = (
                (depth.ask_prices, depth.ask_sizes) if leg.side == "BUY" else (depth.bid_prices, depth.bid_sizes)
            )
            offered = dict(zip(prices, sizes, strict=True))
            # What rests takes nothing.
            if not leg.rests and any(
                offered.get(price, 0) < size for price, size in zip(leg.level_prices, leg.level_sizes, strict=True)
            ):
                found.append(f"{leg.instrument}: it takes more than its depth holds")
        return found


def unsound_sendings(sendings: Iterable[Sending], books: Iterable[Seen], *, read_all: bool = False) -> list[str]:
    """Return whose bytes left after `send_by`, twice, or on a book that was not usable, by `derived.book`.

    A gateway had read at least up to the first Tick that was young enough then; what stands behind it, it may have read.
    With `read_all` it is known to have read all of `books`.
    """
    partition_of: dict[str, int] = {}
    logs: dict[int, list[Seen]] = {}
    for seen in books:
        logs.setdefault(seen.partition, []).append(seen)
        if isinstance(seen.record, Quote):
            partition_of[seen.record.instrument] = seen.partition
    found: list[str] = []
    counted: dict[str, int] = {}
    for sending in sendings:
        counted[sending.order] = counted.get(sending.order, 0) + 1
        if sending.sent_ns > sending.send_by_ns:
            found.append(f"order {sending.order}: left {sending.sent_ns - sending.send_by_ns} ns after send_by")
        why = _untrusted(sending, logs.get(partition_of.get(sending.instrument, -1), []), read_all=read_all)
        found += [f"order {sending.order}: {why}"] if why else []
    return found + [f"order {name}: left {count} times" for name, count in counted.items() if count > 1]


def _untrusted(sending: Sending, log: list[Seen], *, read_all: bool) -> str:
    written = [seen for seen in log if read_all or _written_ns(seen.record) <= sending.sent_ns]
    vouching = [
        seen.offset
        for seen in written
        if isinstance(seen.record, Tick) and sending.sent_ns - seen.record.ts_ns <= AGE_NS_MAX
    ]
    if not vouching:
        return f"no young tick of the partition of {sending.instrument}"
    known: Quote | None = None
    after: list[Quote] = []
    for seen in written:
        if not isinstance(seen.record, Quote) or seen.record.instrument != sending.instrument:
            continue
        if seen.offset > vouching[0] and not read_all:
            after.append(seen.record)
        elif known is None or _version(seen.record) >= _version(known):
            known = seen.record
    if any(quote.state == "LIVE" for quote in [*([known] if known else []), *after]):
        return ""
    return f"{sending.instrument} was {known.state if known else 'not seen'}: {known.cause if known else ''}"


def _version(quote: Quote) -> tuple[int, int]:
    return quote.version_offset, quote.version_index


def _written_ns(record: Record) -> int:
    """Return when the stage that wrote it published it: the last of its trail."""
    trail: list[int] = getattr(record, "trail", [])
    return trail[-1] if trail else 0

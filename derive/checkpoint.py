"""A task's state as it is written down and taken up again: one item for each instrument, one for the rest."""

from __future__ import annotations

import msgspec

from core.runtime.flow import StateCodec
from derive.audits import AuditorState
from derive.feeds import ClockState, Feed, FeedState
from derive.memories import StatusMemory, StatusState, Strikes, StrikesState, TradeMemory, TradesState
from derive.proof import HashProof, ProofState
from derive.rhythm import Rhythm, RhythmState
from derive.state import InstrumentState
from schemas import derived
from schemas.enums import BookState

TASK_ITEM = ""
"""Name of the item that is the task's own."""


class TaskState(msgspec.Struct, frozen=True):
    """What a task remembers beside its instruments.

    Attributes:
        audits: up to 700 KB of changes; None in states of older programs, which did not write it.
    """

    log_ns: int
    check_ns: int
    checked_ns: int
    survey_ns: int
    tick_ns: int
    feeds: list[FeedState]
    clocks: dict[str, ClockState]
    audits: AuditorState | None = None


class BookItem(msgspec.Struct, frozen=True):
    """The book of an instrument, who owns it and how far it is trusted."""

    levels: tuple[list[int], list[int], list[int], list[int]]
    """Prices and sizes of the bids, then of the asks."""
    exponents: tuple[int, int]
    applied: tuple[int, int]
    epoch: int
    at: tuple[int, int]
    other: tuple[int, int, int]
    degraded: bool
    synced: bool
    suspect: str
    crossed_ns: int
    unfinished: bool
    loaded_ns: int
    rhythm: RhythmState
    proof: ProofState | None
    strikes: StrikesState
    state: BookState
    cause: str
    quote: derived.Quote | None
    depth: derived.Depth | None
    repeat_ns: int
    resync_asked: int
    resync_due_ns: int
    trades: TradesState


class InstrumentItem(msgspec.Struct, frozen=True):
    """What is known of an instrument; one whose book was never named has a status alone.

    Attributes:
        birth: offset of the record that named it first: books are told of things in this order.
    """

    birth: int
    status: StatusState
    book: BookItem | None = None


TASK_CODEC: StateCodec[TaskState] = StateCodec(TaskState, 1)
ITEM_CODEC: StateCodec[InstrumentItem] = StateCodec(InstrumentItem, 1)


def item_of(state: InstrumentState) -> InstrumentItem:
    """Return all that is known of an instrument."""
    bids, asks = state.book.bids.levels(), state.book.asks.levels()
    book = BookItem(
        levels=([p for p, _ in bids], [s for _, s in bids], [p for p, _ in asks], [s for _, s in asks]),
        exponents=state.exponents,
        applied=state.applied,
        epoch=state.epoch,
        at=state.at,
        other=state.other,
        degraded=state.degraded,
        synced=state.synced,
        suspect=state.suspect,
        crossed_ns=state.crossed_ns,
        unfinished=state.unfinished,
        loaded_ns=state.loaded_ns,
        rhythm=state.rhythm.state(),
        proof=state.proof.state() if state.proof is not None else None,
        strikes=state.strikes.state(),
        state=state.state,
        cause=state.cause,
        quote=state.quote,
        depth=state.depth,
        repeat_ns=state.repeat_ns,
        resync_asked=state.resync_asked,
        resync_due_ns=state.resync_due_ns,
        trades=state.trades.state(),
    )
    return InstrumentItem(state.birth, state.status.state(), book)


def restore_book(state: InstrumentState, item: InstrumentItem, book: BookItem, feeds: dict[int, Feed]) -> None:
    """Make `state`, which is new, what `item` says."""
    state.status = StatusMemory.restored(item.status)
    bid_prices, bid_sizes, ask_prices, ask_sizes = book.levels
    state.book.load(bid_prices, bid_sizes, ask_prices, ask_sizes)
    state.exponents, state.applied = book.exponents, book.applied
    state.epoch, state.at = book.epoch, book.at
    state.other = book.other
    state.degraded = book.degraded
    state.feed = feeds.get(state.epoch, state.feed)
    state.synced, state.suspect = book.synced, book.suspect
    state.crossed_ns, state.unfinished, state.loaded_ns = book.crossed_ns, book.unfinished, book.loaded_ns
    state.rhythm = Rhythm.restored(book.rhythm)
    if book.proof is not None:
        state.proof = HashProof.restored(state.instrument, book.proof)
    state.strikes = Strikes.restored(book.strikes)
    state.state, state.cause = book.state, book.cause
    state.quote, state.depth = book.quote, book.depth
    state.repeat_ns = book.repeat_ns
    state.resync_asked, state.resync_due_ns = book.resync_asked, book.resync_due_ns
    state.trades = TradeMemory.restored(book.trades)

"""The two tasks: frames to market events, descriptions to instruments.

`FrameTask` remembers only the parts of a frame that came in chunks; the loop commits no offset past the first of them
(`hold_offset`), so a restart sees them again. What cannot be read resets the books it could have changed, then is
rejected: the resets travel with the error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from core.domain.errors import MalformedFrame, Misconfigured, Reject, Retry, UnknownSchema
from core.domain.trust import CLOSED, GAP, UNPARSEABLE, because
from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime import topics
from core.runtime.flow import ALL_PARTITIONS, Input, Output, Tables, TaskContext
from normalize import kalshi, polymarket
from normalize.ports import AFTER_FRAME, Counter, Describer, FrameContext, Normaliser, distrust
from schemas import market, raw
from schemas.record import Record

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A chunked frame above this is rejected; ingest ends such a feed."""
UNFINISHED_NS_MAX = 60_000_000_000
"""A frame whose next chunk does not come for so long never ends: its feed was killed and could not say that it closed."""
FEEDS_MAX = 256
"""Feeds whose instrument list is kept at hand; the table has them all."""

NORMALISERS: dict[str, Callable[[Tables, Counter], Normaliser]] = {
    "kalshi": kalshi.KalshiNormaliser,
    "polymarket": polymarket.PolymarketNormaliser,
}
DESCRIBERS: dict[str, Describer] = {"kalshi": kalshi.describe, "polymarket": polymarket.describe}


class _Parts:
    """The chunks of one unfinished frame."""

    __slots__ = ("chunks", "first", "offset", "size")

    def __init__(self, first: raw.Frame, offset: int) -> None:
        self.first = first
        self.offset = offset
        self.chunks = [first.payload]
        self.size = len(first.payload)


class FrameTask:
    """One partition of `raw.frame` to `market.event`. Implements `core.runtime.flow.Task`.

    Attributes:
        counters: what was ignored and what went wrong, by name; the runtime exports them.
    """

    def __init__(self, context: TaskContext) -> None:
        if context.tables is None:
            raise Misconfigured("FrameTask needs the reference tables: pass TaskContext(tables=...)")
        self._tables = context.tables
        self._count = Counter()
        self.counters = self._count.counts
        self._normalisers = {venue: make(context.tables, self._count) for venue, make in NORMALISERS.items()}
        self._listed: OrderedDict[int, frozenset[str]] = OrderedDict()
        self._parts: dict[int, _Parts] = {}

    @property
    def hold_offset(self) -> int | None:
        """The oldest offset that a restart must see again, None if there is none."""
        return min((parts.offset for parts in self._parts.values()), default=None)

    # hot
    def handle(self, item: Input) -> Iterable[Output]:
        """Return the market events of one raw record.

        Raises:
            Retry: `raw.feed` or `market.instrument` is not read far enough.
            Reject: the frame cannot be handled; its `outputs` are to be published first.
        """
        record = item.record
        if type(record) is raw.Frame:
            if record.chunks != 1 or self._parts:
                return self._chunk(record, item.offset)
            return self._frame(record, record.payload)
        if type(record) is raw.FeedTick:
            if self._parts:
                self._forget_unfinished(record.recv_ts_ns)
            return [_broadcast(record.feed, _tick(record))]
        if type(record) is raw.Gap:
            return self._reset(record, record.instruments, because(GAP, record.reason))
        if type(record) is raw.Closed:
            if self._parts.pop(record.epoch, None) is not None:
                self._count("chunk.lost")
            return self._reset(record, [], because(CLOSED, record.reason), closed=True)
        if type(record) is raw.RestBook:
            return self._rest(record)
        raise UnknownSchema(f"raw.frame holds no {type(record).__name__}")

    # hot
    def _frame(self, record: raw.Frame, payload: bytes) -> list[Output]:
        normaliser = self._normalisers.get(record.venue)
        try:
            if normaliser is None:
                raise UnknownSchema(f"no normaliser for venue {record.venue!r}")
            frame = self._context(record)
        except Reject as e:
            e.outputs = tuple(self._reset(record, [], distrust(e, "frame")))
            raise
        normalized = normaliser.normalize_frame(payload, frame)
        records = _without_books(normalized.records) if record.overtaken else normalized.records
        outputs = [_output(record.feed, one) for one in records]
        if normalized.error is not None:
            self._count(f"rejected.{type(normalized.error).__name__}")
            normalized.error.outputs = tuple(outputs)
            raise normalized.error
        return outputs

    def _rest(self, record: raw.RestBook) -> list[Output]:
        """Return a REST book as evidence, or as the polled book; evidence that cannot be read costs no book its trust."""
        normaliser = self._normalisers.get(record.venue)
        try:
            if normaliser is None:
                raise UnknownSchema(f"no normaliser for venue {record.venue!r}")
            return [_output(record.feed, normaliser.normalize_rest(record, self._context(record)))]
        except Reject as e:
            self._count(f"rejected.{type(e).__name__}")
            if record.purpose == "POLL":
                e.outputs = tuple(self._reset(record, [record.instrument], distrust(e, "REST book")))
            raise

    # hot
    def _context(self, record: raw.Frame | raw.RestBook) -> FrameContext:
        return FrameContext(
            record.feed,
            record.venue,
            record.epoch,
            record.frame_no,
            record.recv_ts_ns,
            record.trail,
            self._listed.get(record.epoch) or self._list(record.epoch),
        )

    def _list(self, epoch: int) -> frozenset[str]:
        listed = self._listed[epoch] = frozenset(self._tables.opened(epoch).instruments)
        if len(self._listed) > FEEDS_MAX:
            self._listed.popitem(last=False)
        return listed

    def _chunk(self, record: raw.Frame, offset: int) -> list[Output]:
        """Collect the chunks of a frame; a whole frame of a feed with an unfinished one shows that its rest is lost."""
        parts = self._parts.get(record.epoch)
        if parts is not None and (record.frame_no != parts.first.frame_no or record.chunk != len(parts.chunks)):
            if record.frame_no < parts.first.frame_no or (
                record.frame_no == parts.first.frame_no and record.chunk < len(parts.chunks)
            ):
                self._count("chunk.repeated")
                return []
            del self._parts[record.epoch]
            raise self._lost(record, f"expected chunk {len(parts.chunks)} of frame {parts.first.frame_no}")
        if record.chunks == 1:
            return self._frame(record, record.payload)
        if parts is None:
            if record.chunk != 0:
                raise self._lost(record, "expected chunk 0 first")
            parts = self._parts[record.epoch] = _Parts(record, offset)
        else:
            parts.chunks.append(record.payload)
            parts.size += len(record.payload)
        if parts.size > FRAME_BYTES_MAX:
            del self._parts[record.epoch]
            raise self._lost(record, f"expected a frame of at most {FRAME_BYTES_MAX} bytes")
        if len(parts.chunks) < record.chunks:
            return []
        try:
            outputs = self._frame(parts.first, b"".join(parts.chunks))
        except Reject:
            del self._parts[record.epoch]
            raise
        except Retry:
            # Asked again with this last chunk: it must find the state it found now.
            parts.chunks.pop()
            parts.size -= len(record.payload)
            raise
        del self._parts[record.epoch]
        return outputs

    def _forget_unfinished(self, now_ns: int) -> None:
        """Drop frames that will never end, or the commit would wait for them for ever."""
        for epoch, parts in list(self._parts.items()):
            if now_ns - parts.first.recv_ts_ns > UNFINISHED_NS_MAX:
                del self._parts[epoch]
                self._count("chunk.lost")

    def _lost(self, record: raw.Frame, reason: str) -> MalformedFrame:
        self._count("chunk.lost")
        error = MalformedFrame(
            f"{record.feed} epoch {record.epoch}: {reason}, found chunk {record.chunk} of {record.chunks} of "
            f"frame {record.frame_no}"
        )
        error.outputs = tuple(self._reset(record, [], because(UNPARSEABLE, str(error))))
        return error

    def _reset(
        self,
        record: raw.Gap | raw.Closed | raw.Frame | raw.RestBook,
        instruments: list[str],
        reason: str,
        *,
        closed: bool = False,
    ) -> list[Output]:
        self._count("feed.reset")
        made = market.FeedReset(
            feed=record.feed,
            venue=record.venue,
            epoch=record.epoch,
            frame_no=record.frame_no,
            index=AFTER_FRAME,
            instruments=instruments,
            closed=closed,
            reason=reason,
            recv_ts_ns=record.recv_ts_ns,
            trail=getattr(record, "trail", []),
        )
        return [_broadcast(record.feed, made)]


def _without_books(records: Sequence[Record]) -> list[Record]:
    """Leave out what an overtaken frame says of books: it is older than what a reader has, or has taken over from."""
    return [record for record in records if not isinstance(record, market.BookSnapshot | market.BookDelta)]


def _tick(record: raw.FeedTick) -> market.Tick:
    return market.Tick(
        feed=record.feed,
        venue=record.venue,
        epoch=record.epoch,
        frame_no=record.frame_no,
        recv_ts_ns=record.recv_ts_ns,
        trail=record.trail,
    )


# hot
def _output(feed: str, record: Record) -> Output:
    if type(record) is market.FeedReset:
        # The reset of one book must stand in order with that book's other records: its partition is enough.
        if len(record.instruments) == 1:
            return Output(topics.MARKET_EVENT, record.instruments[0], record)
        return _broadcast(feed, record)
    if type(record) is market.Notice:
        return Output(topics.MARKET_NOTICE, record.instrument or record.event_group, record)
    return Output(topics.MARKET_EVENT, record.instrument, record)  # type: ignore[attr-defined]


def _broadcast(feed: str, record: Record) -> Output:
    return Output(topics.MARKET_EVENT, feed, record, ALL_PARTITIONS)


class InstrumentTask:
    """One partition of `raw.instrument-<venue>` to `market.instrument`. Implements `core.runtime.flow.Task`.

    What cannot be described is rejected, but an instrument of that name is written all the same, with no tick table, no
    fee model and status UNKNOWN: frames of a listed instrument wait for its description, and must not wait for ever.
    """

    def __init__(self, context: TaskContext) -> None:
        self._count = Counter()
        self.counters = self._count.counts

    def handle(self, item: Input) -> Iterable[Output]:
        """Return the instrument of one description.

        Raises:
            Reject: it cannot be described; its `outputs` are to be published first.
        """
        description = item.record
        if not isinstance(description, raw.Description):
            raise UnknownSchema(f"{item.noun} holds no {type(description).__name__}")
        describe = DESCRIBERS.get(description.venue)
        if describe is None:
            raise UnknownSchema(f"no describer for venue {description.venue!r}")
        try:
            described = describe(description)
        except Reject as e:
            self._count(f"rejected.{type(e).__name__}")
            e.outputs = (Output(topics.MARKET_INSTRUMENT, description.instrument, _undescribed(description)),)
            raise
        return [Output(topics.MARKET_INSTRUMENT, described.instrument, described)]


def _undescribed(description: raw.Description) -> market.Instrument:
    return market.Instrument(
        instrument=description.instrument,
        venue=description.venue,
        kind="UNKNOWN",
        status="UNKNOWN",
        title="",
        event_group="",
        price_exp=PREDICTION_PRICE_EXP,
        size_exp=PREDICTION_SIZE_EXP,
        tick_from=[],
        tick_to=[],
        tick_step=[],
        size_min=0,
        size_step=0,
        fee_model="UNKNOWN",
        taker_fee_e6=0,
        recv_ts_ns=description.recv_ts_ns,
        trail=description.trail,
    )

"""Kalshi's frames and descriptions to ours.

Books come on the YES scale (`venues.kalshi.wire` mirrors the NO side where the subscription did not), so a `no` level is
an ask as it stands. Deltas are signed. Trades and deltas of one match are not linked by the venue. The life-cycle channel
speaks of every market of the exchange, on one feed only.

A finer price grid is told on that channel too, so mostly not on the feed of the market's book: prices are taken on the
finest grid the venue has, whatever the table of the moment says, and the book's order is protected by the sequence.

The venue answers the subscription of an unknown or settled ticker with an empty snapshot that has no `market_id`. That
is no empty book: it becomes a reset, so the book never turns LIVE by it, and a Status that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec

from core.domain.errors import MalformedFrame, Reject, Retry, UnknownInstrument, UnknownSchema
from core.domain.trust import CLOSED, UNPARSEABLE, because
from core.domain.units import MICRO, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime.flow import Tables
from normalize.ports import Counter, FrameContext, Normalized, distrust, stated_int, stated_ns
from normalize.rest_books import stated
from schemas import market, raw
from schemas.decision import FeeTerm
from schemas.enums import FeeModel, InstrumentStatus
from schemas.record import Record
from venues.kalshi import rest, rules, wire
from venues.kalshi.fee_changes import FeeChange, decode_fee_change
from venues.text import NS_PER_MS, decode

_BOOK_TYPES = frozenset({"orderbook_snapshot", "orderbook_delta"})
_SILENT_TYPES = frozenset({"subscribed", "unsubscribed", "ok", "error", "ticker", "event_lifecycle"})
"""Known, and nothing follows from them here."""

_NOTICED = frozenset({"close_date_updated", "metadata_updated"})
"""What these say of a market the catalogue has to say whole: until then its links rest."""
_LIFECYCLE_STATUS: dict[str, InstrumentStatus] = {
    "activated": "OPEN",
    "deactivated": "PAUSED",
    "determined": "DETERMINED",
    "settled": "SETTLED",
    "close_date_updated": "UNKNOWN",
    "price_level_structure_updated": "UNKNOWN",
}
_STATUS: dict[str, InstrumentStatus] = {
    "initialized": "PENDING",
    "inactive": "PAUSED",
    "active": "OPEN",
    "closed": "CLOSED",
    "determined": "DETERMINED",
    "disputed": "DETERMINED",
    "amended": "DETERMINED",
    "finalized": "SETTLED",
}

_DECIDED: frozenset[InstrumentStatus] = frozenset({"DETERMINED", "SETTLED"})
_STATED = frozenset({"determined", "amended", "finalized"})
"""A disputed market shows its first result still."""

NO_SUCH_MARKET = "the venue has no open market of this name"


class _Named(msgspec.Struct):
    """The least a message must say for its book to be known."""

    market_ticker: str = ""


_NAMED = msgspec.json.Decoder(_Named)


class KalshiNormaliser:
    """Implements `normalize.ports.Normaliser`."""

    def __init__(self, tables: Tables, count: Counter) -> None:
        self._tables = tables
        self._count = count
        self._known: dict[str, str] = {}
        """Instrument by ticker."""
        self._handlers: dict[str, Callable[[wire.Envelope, FrameContext], list[Record]]] = {
            "orderbook_delta": self._delta,
            "orderbook_snapshot": self._snapshot,
            "trade": self._trade,
            "market_lifecycle_v2": self._lifecycle,
            "event_fee_update": self._event_fees,
        }

    # hot
    def normalize_frame(self, payload: bytes, frame: FrameContext) -> Normalized:
        try:
            envelope = wire.peek(payload)
        except Reject as e:
            return Normalized([frame.reset(because(UNPARSEABLE, str(e)))], e)
        handler = self._handlers.get(envelope.type)
        if handler is None:
            known = envelope.type in _SILENT_TYPES
            self._count(f"kalshi.{'ignored' if known else 'unknown'}.{envelope.type[:40]}")
            return Normalized([])
        try:
            return Normalized(handler(envelope, frame))
        except Reject as e:
            return Normalized(self._resets(envelope, frame, e), e)

    def normalize_rest(self, answer: raw.RestBook, frame: FrameContext) -> market.AuditSnapshot | market.BookSnapshot:
        ticker = answer.instrument.partition(":")[2]
        self._instrument(ticker, frame)
        book = rest.decode_rest_book(answer.payload, ticker)
        return stated(answer, frame, book.yes, book.no)

    # hot
    def _delta(self, envelope: wire.Envelope, frame: FrameContext) -> list[Record]:
        delta = wire.decode_delta(envelope)
        instrument = self._instrument(delta.ticker, frame)
        return [
            market.BookDelta(
                instrument=instrument,
                epoch=frame.epoch,
                frame_no=frame.frame_no,
                index=0,
                price_exp=PREDICTION_PRICE_EXP,
                size_exp=PREDICTION_SIZE_EXP,
                side="BUY" if delta.side == "yes" else "SELL",
                kind="SIGNED",
                price=delta.price,
                size=delta.size_delta,
                venue_ts_ns=stated_ns(delta.time_ns),
                recv_ts_ns=frame.recv_ts_ns,
                trail=frame.trail,
            )
        ]

    def _snapshot(self, envelope: wire.Envelope, frame: FrameContext) -> list[Record]:
        book = wire.decode_snapshot(envelope)
        instrument = self._instrument(book.ticker, frame)
        venue_ts_ns = stated_ns(envelope.sending_ts_ms * NS_PER_MS)
        if not (book.market_id or book.yes or book.no):
            self._count("kalshi.snapshot.no_such_market")
            return [
                _status(instrument, frame, "UNKNOWN", venue_ts_ns=venue_ts_ns, reason=NO_SUCH_MARKET),
                frame.reset(because(CLOSED, NO_SUCH_MARKET), instrument),
            ]
        return [
            market.BookSnapshot(
                instrument=instrument,
                epoch=frame.epoch,
                frame_no=frame.frame_no,
                index=0,
                price_exp=PREDICTION_PRICE_EXP,
                size_exp=PREDICTION_SIZE_EXP,
                bid_prices=[price for price, _ in book.yes],
                bid_sizes=[size for _, size in book.yes],
                ask_prices=[price for price, _ in book.no],
                ask_sizes=[size for _, size in book.no],
                venue_ts_ns=venue_ts_ns,
                recv_ts_ns=frame.recv_ts_ns,
                trail=frame.trail,
            )
        ]

    def _trade(self, envelope: wire.Envelope, frame: FrameContext) -> list[Record]:
        trade = wire.decode_trade(envelope)
        return [
            market.Trade(
                instrument=self._instrument(trade.ticker, frame),
                epoch=frame.epoch,
                frame_no=frame.frame_no,
                index=0,
                price_exp=PREDICTION_PRICE_EXP,
                size_exp=PREDICTION_SIZE_EXP,
                price=trade.price,
                size=trade.size,
                aggressor="BUY" if trade.taker == "bid" else "SELL",
                trade_id=trade.trade_id,
                venue_ts_ns=stated_ns(trade.time_ns),
                recv_ts_ns=frame.recv_ts_ns,
                trail=frame.trail,
            )
        ]

    def _lifecycle(self, envelope: wire.Envelope, frame: FrameContext) -> list[Record]:
        life = wire.decode_lifecycle(envelope)
        instrument = f"{frame.venue}:{life.ticker}"
        noticed = life.event_type in _NOTICED
        notices: list[Record] = [_notice(envelope, frame, life.event_type, instrument=instrument)] if noticed else []
        status = _LIFECYCLE_STATUS.get(life.event_type)
        if status is None:
            # A new market: the catalogue brings it.
            self._count(f"kalshi.lifecycle.{life.event_type[:40]}")
            return notices
        bands = [(band.start, band.end, band.step) for band in life.price_ranges]
        reason = life.event_type
        # `settled` mostly repeats neither: what was determined stands.
        payout_e6 = rules.payout_e6(life.result, life.settlement_value) if status in _DECIDED else -1
        if life.settlement_value is not None:
            reason += f" at {life.settlement_value}e-4"
        return [
            *notices,
            _status(
                instrument,
                frame,
                status,
                venue_ts_ns=stated_ns(envelope.sending_ts_ms * NS_PER_MS or life.settled_ns or life.determined_ns),
                reason=reason,
                result=life.result,
                bands=bands,
                payout_e6=payout_e6,
            ),
        ]

    def _event_fees(self, envelope: wire.Envelope, frame: FrameContext) -> list[Record]:
        update = wire.decode_event_fee_update(envelope)
        return [_notice(envelope, frame, envelope.type, event_group=f"{frame.venue}:{update.event_ticker}")]

    # hot
    def _instrument(self, ticker: str, frame: FrameContext) -> str:
        instrument = self._known.get(ticker)
        if instrument is not None and instrument in frame.listed:
            return instrument
        instrument = f"{frame.venue}:{ticker}"
        if instrument not in frame.listed:
            raise UnknownInstrument(f"{instrument} is not among the {len(frame.listed)} instruments of {frame.feed}")
        if self._tables.instrument(instrument) is None:
            raise Retry(f"{instrument} is listed by {frame.feed} but market.instrument does not describe it yet")
        self._known[ticker] = instrument
        return instrument

    def _resets(self, envelope: wire.Envelope, frame: FrameContext, error: Reject) -> list[Record]:
        if envelope.type not in _BOOK_TYPES:
            return []
        reason = distrust(error, envelope.type)
        try:
            ticker = decode(_NAMED, envelope.msg, "kalshi message").market_ticker
        except MalformedFrame:
            ticker = ""
        return [frame.reset(reason, f"{frame.venue}:{ticker}") if ticker else frame.reset(reason)]


def _notice(
    envelope: wire.Envelope, frame: FrameContext, reason: str, *, instrument: str = "", event_group: str = ""
) -> market.Notice:
    return market.Notice(
        venue=frame.venue,
        event_group=event_group,
        instrument=instrument,
        reason=reason,
        feed=frame.feed,
        epoch=frame.epoch,
        frame_no=frame.frame_no,
        index=0,
        venue_ts_ns=stated_ns(envelope.sending_ts_ms * NS_PER_MS),
        recv_ts_ns=frame.recv_ts_ns,
        trail=frame.trail,
    )


def _status(
    instrument: str,
    frame: FrameContext,
    status: InstrumentStatus,
    *,
    venue_ts_ns: int,
    reason: str,
    result: str = "",
    bands: list[tuple[int, int, int]] | None = None,
    payout_e6: int = -1,
) -> market.Status:
    return market.Status(
        instrument=instrument,
        epoch=frame.epoch,
        frame_no=frame.frame_no,
        index=0,
        status=status,
        price_exp=PREDICTION_PRICE_EXP,
        tick_from=[start for start, _, _ in bands or []],
        tick_to=[end for _, end, _ in bands or []],
        tick_step=[step for _, _, step in bands or []],
        result=result,
        payout_e6=payout_e6,
        reason=reason,
        venue_ts_ns=venue_ts_ns,
        recv_ts_ns=frame.recv_ts_ns,
        trail=frame.trail,
    )


# --- descriptions


def describe(description: raw.Description) -> market.Instrument:
    """Return the instrument of a Kalshi market; `context` holds its series and event. Implements `normalize.ports.Describer`."""
    ours = rest.decode_market(description.payload)
    expected = f"kalshi:{ours.ticker}"
    if description.instrument != expected:
        raise MalformedFrame(f"expected the description of {description.instrument}, found that of {expected}")
    series, event = _context_of(description.context)
    changes = _changes_of(description.context)
    model, taker_fee_e6, maker_fee_e6 = _fees(series, event)
    fees = _scheduled(series, event, changes)
    if fees is None:
        # No bound is known for what is to come: nothing may be traded that could fill then.
        model, fees = "UNKNOWN", []
    # Who decides is part of the rules, though the venue says it elsewhere.
    rules_text = "\n".join([ours.rules_primary, ours.rules_secondary, *rest.decode_deciders(description.context)])
    return market.Instrument(
        instrument=expected,
        venue="kalshi",
        kind="BINARY" if ours.market_type == "binary" and ours.notional_e6 == MICRO else "UNKNOWN",
        status=_STATUS.get(ours.status, "UNKNOWN"),
        title=ours.title or ours.yes_sub_title,
        event_group=f"kalshi:{ours.event_ticker}",
        category=series.category if series else "",
        price_exp=PREDICTION_PRICE_EXP,
        size_exp=PREDICTION_SIZE_EXP,
        tick_from=[band.start for band in ours.price_ranges],
        tick_to=[band.end for band in ours.price_ranges],
        tick_step=[band.step for band in ours.price_ranges],
        size_min=rules.SIZE_MIN,
        size_step=rules.SIZE_STEP,
        fee_model=model,
        taker_fee_e6=taker_fee_e6,
        maker_fee_e6=maker_fee_e6,
        exchange_index=stated_int(ours.exchange_index, "exchange_index"),
        open_ts_ns=stated_ns(ours.open_ns),
        close_ts_ns=stated_ns(ours.close_ns),
        rules_hash=sha256(rules_text.encode()).hexdigest(),
        payout_e6=rules.payout_e6(ours.result, ours.settlement_value) if ours.status in _STATED else -1,
        exclusive=event is not None and event.mutually_exclusive,
        fees=fees,
        recv_ts_ns=description.recv_ts_ns,
        trail=description.trail,
    )


class _Context(msgspec.Struct):
    """What the catalogue says beside a market: its series, and its event, which can override the series' fees."""

    series: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()
    fee_changes: list[msgspec.Raw] = []


_CONTEXT = msgspec.json.Decoder(_Context)


def _context_of(context: bytes) -> tuple[rest.Series | None, rest.Event | None]:
    """Return series and event, as far as they are stated; a bare series object is one too."""
    if not context:
        return None, None
    stated = decode(_CONTEXT, context, "kalshi context")
    series = bytes(stated.series) or context
    event = bytes(stated.event)
    return (
        rest.decode_series(b'{"series":' + series + b"}"),
        rest.decode_events(b'{"events":[' + event + b"]}")[0][0] if event else None,
    )


def _changes_of(context: bytes) -> list[FeeChange]:
    """Return the changes of fees that are scheduled, soonest first."""
    if not context:
        return []
    stated = decode(_CONTEXT, context, "kalshi context").fee_changes
    return sorted((decode_fee_change(bytes(one)) for one in stated), key=lambda change: change.at_ns)


def _scheduled(series: rest.Series | None, event: rest.Event | None, changes: list[FeeChange]) -> list[FeeTerm] | None:
    """Return what takers pay from each change on, None where no bound of it is known."""
    terms: list[FeeTerm] = []
    for change in changes:
        if change.of == "series":
            factor_e6 = change.multiplier_e6 or 0
            series = series and msgspec.structs.replace(series, fee_type=change.fee_type, multiplier_e6=factor_e6)
        else:
            event = event and msgspec.structs.replace(
                event, fee_type=change.fee_type, multiplier_e6=change.multiplier_e6
            )
        model, taker_fee_e6, _ = _fees(series, event)
        if model == "UNKNOWN":
            return None
        source = f"kalshi: scheduled for {change.of} {change.ticker}"
        terms.append(FeeTerm(from_ts_ns=change.at_ns, taker_fee_e6=taker_fee_e6, source=source))
    return terms


def _fees(series: rest.Series | None, event: rest.Event | None) -> tuple[FeeModel, int, int]:
    """Return model and coefficients of taker and maker; UNKNOWN (nothing may be traded) where no bound is known."""
    if series is None:
        return "UNKNOWN", 0, 0
    fee_type, multiplier_e6 = series.fee_type, series.multiplier_e6
    if event is not None:
        fee_type = event.fee_type or fee_type
        multiplier_e6 = multiplier_e6 if event.multiplier_e6 is None else event.multiplier_e6
    try:
        taker, maker = (
            rules.coefficient_e6(fee_type=fee_type, multiplier_e6=multiplier_e6, is_taker=is_taker)
            for is_taker in (True, False)
        )
    except UnknownSchema:
        return "UNKNOWN", 0, 0
    return "QUADRATIC", taker, maker

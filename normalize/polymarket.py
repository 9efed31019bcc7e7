"""Polymarket's frames and descriptions to ours.

A market has two tokens whose books mirror each other exactly. The instrument is the first (Yes, Up): of every message
only what speaks of that token is taken, the second's repeats it and is dropped, never summed. Sizes are absolute, and
the venue sends the same change again at will. There is no sequence and no trade id.

A new tick is an era of its own: the book is reset until a fresh snapshot. Near 0 and 1 the venue refines a market's tick
by ten and back, and orders rest on through both, so a level may stand on a tenth of the tick.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from core.domain.errors import MalformedFrame, Reject, Retry, UnknownInstrument
from core.domain.trust import TICK_SIZE, UNPARSEABLE, because
from core.domain.units import MICRO, ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime.flow import Tables
from normalize.ports import Counter, FrameContext, Normalized, distrust, stated_int, stated_ns
from normalize.rest_books import stated
from schemas import market, raw
from schemas.enums import FeeModel, InstrumentStatus
from schemas.record import Record
from venues.polymarket import events, rest, rules, wire
from venues.text import decode

_OPPOSITE: dict[events.Side, events.Side] = {"BUY": "SELL", "SELL": "BUY"}


class _Named(msgspec.Struct):
    """The least a message must say for its book to be known."""

    market: str = ""
    event_type: str = ""


_NAMED = msgspec.json.Decoder(_Named)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_NO_BOOK = frozenset({"last_trade_price", "best_bid_ask", "new_market", "market_resolved"})
"""A message of these types changes no book, however broken it is."""


class _Market:
    """One market: our id, its first and second token, what its hash covers."""

    __slots__ = ("instrument", "neg_risk", "no", "size_min", "yes")

    def __init__(self, described: market.Instrument) -> None:
        self.instrument = described.instrument
        self.yes, self.no = described.tokens if len(described.tokens) == 2 else ("", "")
        self.size_min, self.neg_risk = described.size_min, described.neg_risk


class PolymarketNormaliser:
    """Implements `normalize.ports.Normaliser`."""

    def __init__(self, tables: Tables, count: Counter) -> None:
        self._tables = tables
        self._count = count
        self._markets: dict[str, _Market] = {}

    # hot
    def normalize_frame(self, payload: bytes, frame: FrameContext) -> Normalized:
        records: list[Record] = []
        try:
            for event in wire.decode_frame(payload):
                self._event(event, frame, records)
        except Reject as e:
            return self._piecewise(payload, frame, e)
        return Normalized(records)

    def _piecewise(self, payload: bytes, frame: FrameContext, error: Reject) -> Normalized:
        """Return what follows from a frame that is wrong somewhere: one bad message does not cost the others."""
        try:
            whole = payload.lstrip()[:1] != b"["
            items = [msgspec.Raw(payload)] if whole else decode(_ITEMS, payload, "polymarket frame")
        except MalformedFrame:
            return Normalized([frame.reset(because(UNPARSEABLE, str(error)))], error)
        records: list[Record] = []
        for item in items:
            mark = len(records)
            try:
                for event in wire.decode_frame(bytes(item)):
                    self._event(event, frame, records)
            except Reject as e:
                del records[mark:]
                records += self._resets(bytes(item), frame, e, place=mark)
        return Normalized(records, error)

    def _resets(self, item: bytes, frame: FrameContext, error: Reject, *, place: int) -> list[Record]:
        try:
            named = decode(_NAMED, item, "polymarket message")
        except MalformedFrame:
            return [frame.reset(distrust(error, "message"))]
        if named.event_type in _NO_BOOK:
            return []
        instrument = f"{frame.venue}:{named.market}"
        reason = distrust(error, named.event_type or "message")
        if not named.market:
            return [frame.reset(reason)]
        return [frame.reset(reason, instrument, place=place)] if instrument in frame.listed else []

    # hot
    def _event(self, event: events.Event, frame: FrameContext, records: list[Record]) -> None:
        match event:
            case events.PriceChange():
                self._changes(event, frame, records)
            case events.Book():
                self._book(event, frame, records)
            case events.LastTrade():
                self._trade(event, frame, records)
            case events.TickSizeChange():
                self._tick(event, frame, records)
            case events.MarketResolved():
                self._resolved(event, frame, records)
            case events.Unknown():
                self._count(f"polymarket.unknown.{event.event_type[:40]}")
            case _:
                self._count(f"polymarket.ignored.{type(event).__name__}")

    # hot
    def _changes(self, event: events.PriceChange, frame: FrameContext, records: list[Record]) -> None:
        place = self._market(event.market, frame)
        if place is None:
            return
        ours = [change for change in event.changes if self._is_ours(change.asset_id, place)]
        last = len(ours) - 1
        for n, change in enumerate(ours):
            records.append(
                market.BookDelta(
                    instrument=place.instrument,
                    epoch=frame.epoch,
                    frame_no=frame.frame_no,
                    index=len(records),
                    price_exp=PREDICTION_PRICE_EXP,
                    size_exp=PREDICTION_SIZE_EXP,
                    side=change.side,
                    kind="ABSOLUTE",
                    price=change.price,
                    size=change.size,
                    hash=change.hash,
                    venue_ts_ns=stated_ns(event.time_ns),
                    recv_ts_ns=frame.recv_ts_ns,
                    trail=frame.trail,
                    # Whether the hash of a change in between is its own or the last one's is not known.
                    more=n < last,
                )
            )

    def _book(self, book: events.Book, frame: FrameContext, records: list[Record]) -> None:
        place = self._market(book.market, frame)
        if place is None or not self._is_ours(book.asset_id, place):
            return
        records.append(
            market.BookSnapshot(
                instrument=place.instrument,
                epoch=frame.epoch,
                frame_no=frame.frame_no,
                index=len(records),
                price_exp=PREDICTION_PRICE_EXP,
                size_exp=PREDICTION_SIZE_EXP,
                bid_prices=[price for price, _ in book.bids],
                bid_sizes=[size for _, size in book.bids],
                ask_prices=[price for price, _ in book.asks],
                ask_sizes=[size for _, size in book.asks],
                hash=book.hash,
                venue_ts_ns=stated_ns(book.time_ns),
                recv_ts_ns=frame.recv_ts_ns,
                trail=frame.trail,
                token=book.asset_id,
                tick=book.tick,
                size_min=place.size_min,
                neg_risk=place.neg_risk,
                last_price="" if book.last_trade_price is None else book.last_trade_price or "none",
            )
        )

    def normalize_rest(self, answer: raw.RestBook, frame: FrameContext) -> market.AuditSnapshot | market.BookSnapshot:
        place = self._market(answer.instrument.partition(":")[2], frame)
        if place is None:
            raise UnknownInstrument(f"{answer.instrument} is not among the {len(frame.listed)} of {frame.feed}")
        books = rest.decode_books(answer.payload)
        if len(books) != 1 or books[0].asset_id != place.yes:
            found = ", ".join(book.asset_id for book in books[:3]) or "none"
            raise MalformedFrame(f"{answer.instrument}: expected the book of token {place.yes}, found {found}")
        (book,) = books
        return stated(answer, frame, book.bids, book.asks, venue_ts_ns=stated_ns(book.time_ns), venue_hash=book.hash)

    def _trade(self, trade: events.LastTrade, frame: FrameContext, records: list[Record]) -> None:
        place = self._market(trade.market, frame)
        if place is None:
            return
        price, aggressor = trade.price, trade.side
        if trade.asset_id == place.no:
            # To buy NO at q is to sell YES at 1 - q.
            price, aggressor = ONE_DOLLAR_E4 - price, _OPPOSITE[aggressor]
        elif not self._is_ours(trade.asset_id, place):
            return
        records.append(
            market.Trade(
                instrument=place.instrument,
                epoch=frame.epoch,
                frame_no=frame.frame_no,
                index=len(records),
                price_exp=PREDICTION_PRICE_EXP,
                size_exp=PREDICTION_SIZE_EXP,
                price=price,
                size=trade.size,
                aggressor=aggressor,
                venue_ts_ns=stated_ns(trade.time_ns),
                recv_ts_ns=frame.recv_ts_ns,
                trail=frame.trail,
            )
        )

    def _tick(self, change: events.TickSizeChange, frame: FrameContext, records: list[Record]) -> None:
        place = self._market(change.market, frame)
        if place is None or not self._is_ours(change.asset_id, place):
            return
        reason = f"{TICK_SIZE} {change.old_tick}e-4 became {change.new_tick}e-4"
        records.append(self._status(place, frame, len(records), change.time_ns, reason=reason, tick=change.new_tick))
        records.append(frame.reset(reason, place.instrument, place=len(records)))

    def _resolved(self, event: events.MarketResolved, frame: FrameContext, records: list[Record]) -> None:
        place = self._market(event.condition_id, frame)
        if place is None:
            return
        result = {place.yes: "yes", place.no: "no"}.get(event.winning_asset_id, event.winning_outcome)
        records.append(
            self._status(
                place,
                frame,
                len(records),
                event.time_ns,
                reason="market_resolved",
                status="SETTLED",
                result=result,
                payout_e6={place.yes: MICRO, place.no: 0}.get(event.winning_asset_id, -1),
            )
        )

    @staticmethod
    def _status(
        place: _Market,
        frame: FrameContext,
        index: int,
        venue_ts_ns: int,
        *,
        reason: str,
        status: InstrumentStatus = "UNKNOWN",
        result: str = "",
        tick: int = 0,
        payout_e6: int = -1,
    ) -> market.Status:
        return market.Status(
            instrument=place.instrument,
            epoch=frame.epoch,
            frame_no=frame.frame_no,
            index=index,
            status=status,
            price_exp=PREDICTION_PRICE_EXP,
            tick_from=[tick] if tick else [],
            tick_to=[ONE_DOLLAR_E4 - tick] if tick else [],
            tick_step=[tick] if tick else [],
            result=result,
            payout_e6=payout_e6,
            reason=reason,
            venue_ts_ns=stated_ns(venue_ts_ns),
            recv_ts_ns=frame.recv_ts_ns,
            trail=frame.trail,
        )

    # hot
    def _market(self, condition_id: str, frame: FrameContext) -> _Market | None:
        """Return a market of this feed, None for another: the venue speaks of markets nobody asked for."""
        known = self._markets.get(condition_id)
        if known is not None and known.instrument in frame.listed:
            return known
        instrument = f"{frame.venue}:{condition_id}"
        if instrument not in frame.listed:
            self._count("polymarket.ignored.unlisted")
            return None
        described = self._tables.instrument(instrument)
        if described is None:
            raise Retry(f"{instrument} is listed by {frame.feed} but market.instrument does not describe it yet")
        known = _Market(described)
        if known.yes:
            # One without tokens may be described better later.
            self._markets[condition_id] = known
        return known

    # hot
    def _is_ours(self, token: str, place: _Market) -> bool:
        if token == place.yes:
            return True
        self._count("polymarket.ignored.second_token" if token == place.no else "polymarket.ignored.foreign_token")
        return False


# --- descriptions


def describe(description: raw.Description) -> market.Instrument:
    """Return the instrument of a Gamma market. Implements `normalize.ports.Describer`."""
    ours = rest.decode_gamma_market(description.payload)
    expected = f"polymarket:{ours.condition_id}"
    if description.instrument != expected:
        raise MalformedFrame(f"expected the description of {description.instrument}, found that of {expected}")
    if not ours.is_binary:
        raise MalformedFrame(f"{expected}: expected two tokens with an outcome each, found {ours.outcomes!r}")
    group = ours.neg_risk_market_id or ours.event_id or ours.condition_id
    rules_text = f"{ours.description}\n{ours.resolution_source}"
    return market.Instrument(
        instrument=expected,
        venue="polymarket",
        kind="BINARY",
        status=_status_of(ours),
        title=ours.question,
        event_group=f"polymarket:{group}",
        category=ours.category,
        price_exp=PREDICTION_PRICE_EXP,
        size_exp=PREDICTION_SIZE_EXP,
        tick_from=[ours.tick] if ours.tick else [],
        tick_to=[ONE_DOLLAR_E4 - ours.tick] if ours.tick else [],
        tick_step=[ours.tick] if ours.tick else [],
        size_min=ours.size_min,
        size_step=rules.SHARE_STEP,
        notional_min_e6=rules.MARKETABLE_NOTIONAL_MIN,
        fee_model=_fee_model(ours.fee_rate_e6),
        taker_fee_e6=ours.fee_rate_e6 or 0,
        fee_exponent=ours.fee_exponent,
        tokens=ours.token_ids,
        neg_risk=ours.neg_risk,
        taker_delay_ms=stated_int(ours.taker_delay_s * 1_000, "secondsDelay"),
        open_ts_ns=stated_ns(ours.open_ns),
        close_ts_ns=stated_ns(ours.end_ns),
        rules_hash=sha256(rules_text.encode()).hexdigest(),
        payout_e6=ours.payout_e6,
        exclusive=ours.neg_risk,
        grows=ours.event_neg_risk_augmented,
        recv_ts_ns=description.recv_ts_ns,
        trail=description.trail,
    )


def _status_of(ours: rest.GammaMarket) -> InstrumentStatus:
    if ours.payout_e6 >= 0:
        return "SETTLED"
    if ours.closed or ours.archived:
        return "CLOSED"
    if not (ours.active and ours.enable_order_book):
        return "PENDING"
    return "OPEN" if ours.accepting_orders else "PAUSED"


def _fee_model(rate_e6: int | None) -> FeeModel:
    """Return UNKNOWN (nothing may be traded) where the market charges fees it does not state."""
    if rate_e6 is None:
        return "UNKNOWN"
    return "CURVE" if rate_e6 else "NONE"

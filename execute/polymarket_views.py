"""What Polymarket says of orders and trades, in our views. It does not state a taker's fee: it is computed by its rule."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.errors import UnknownInstrument
from core.domain.units import ONE_DOLLAR_E4
from execute.views import FillView, OrderView, SettledView, View
from schemas.enums import OrderStatus
from schemas.market import Instrument
from venues.polymarket import account, rules

PUSD = "pUSD"

_STATUSES: dict[str, OrderStatus] = {
    "LIVE": "ACCEPTED",
    "DELAYED": "ACCEPTED",
    "MATCHED": "FILLED",
    "CANCELED": "CANCELLED",
    "INVALID": "CANCELLED",
}
_EXPIRED = "EXPIRED_ORDER"


def order_views(state: account.OrderUpdate) -> list[View]:
    """Return the state of an order; nothing where it is in words that settle nothing."""
    status = _STATUSES.get(state.status)
    if status is None and state.kind == "CANCELLATION":
        status = "CANCELLED"
    if status is None:
        # UNMATCHED above all: whether a delayed order rests after it the pages contradict each other. It is asked for.
        return []
    # The size of a market BUY is stated as its budget in dollars: only shares can be compared.
    comparable = state.side == "SELL" or state.order_type in {"GTC", "GTD", ""}
    if status == "FILLED" and comparable and state.matched < state.original:
        status = "ACCEPTED" if state.order_type in {"GTC", "GTD", ""} else "CANCELLED"
    if status == "CANCELLED" and state.reason == _EXPIRED:
        status = "EXPIRED"
    return [
        OrderView(
            venue_order=state.order_id,
            status=status,
            filled=state.matched,
            reason=state.reason,
            venue_ts_ns=state.time_ns,
        )
    ]


def trade_views(trade: account.UserTrade, *, instruments: Mapping[str, Instrument], owner: str) -> list[View]:
    """Return our fills of a trade and, at its end, their settlement; `owner` is the API key whose fills are ours.

    Raises:
        UnknownInstrument: nobody described what was traded.
    """
    name = f"polymarket:{trade.market}"
    instrument = instruments.get(name)
    if instrument is None or len(instrument.tokens) != 2:
        raise UnknownInstrument(f"{name}: a trade of ours in an instrument nobody described")
    views: list[View] = []
    # Of a taker the fee is that of all it took at one price; each fill has the part it adds.
    taken: dict[int, int] = {}
    for fill in account.trade_fills(trade, owner=owner):
        before = taken.get(fill.price, 0) if fill.is_taker else 0
        taken[fill.price] = before + fill.size
        after = before + fill.size
        fee = 0
        if fill.is_taker and instrument.fee_model not in {"NONE", "UNKNOWN"}:
            fee = _fee(instrument, fill.price, after) - _fee(instrument, fill.price, before)
        if fill.asset_id not in instrument.tokens:
            raise UnknownInstrument(f"{name}: {fill.asset_id[:20]}… is none of its tokens")
        views.append(
            FillView(
                venue_order=fill.order_id,
                fill=fill.fill_id,
                instrument=name,
                outcome="YES" if fill.asset_id == instrument.tokens[0] else "NO",
                token_side=fill.side,
                size=fill.size,
                price_e6=fill.price * 100,
                notional_e6=fill.price * after // ONE_DOLLAR_E4 - fill.price * before // ONE_DOLLAR_E4,
                fee_e6=fee,
                asset=PUSD,
                liquidity="TAKER" if fill.is_taker else "MAKER",
                settlement="MATCHED",
                venue_ts_ns=trade.match_ns,
            )
        )
        if trade.status in account.TRADE_TERMINAL:
            views.append(
                SettledView(
                    venue_order=fill.order_id,
                    fill=fill.fill_id,
                    instrument=name,
                    settlement="CONFIRMED" if trade.status == "CONFIRMED" else "FAILED",
                    reference=trade.transaction_hash,
                    venue_ts_ns=trade.time_ns,
                )
            )
    return views


def _fee(instrument: Instrument, price: int, size: int) -> int:
    return rules.taker_fee(price=price, size=size, rate_e6=instrument.taker_fee_e6, exponent=instrument.fee_exponent)

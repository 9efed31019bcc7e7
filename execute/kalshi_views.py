"""What Kalshi says of orders and fills, in our views and names."""

from __future__ import annotations

from core.domain.errors import InvariantBroken
from core.domain.units import ONE_DOLLAR_E4
from execute.views import FillView, OrderView, PayoutView, Subject, View
from schemas.enums import OrderStatus
from venues.kalshi import account, rules

USD = "USD"


def order_views(state: account.OrderState) -> list[View]:
    """Return the state of an order; nothing where it is in words we do not know."""
    status: OrderStatus
    if state.status == "resting":
        status = "ACCEPTED"
    elif state.status == "executed":
        status = "FILLED" if state.filled >= state.initial else "CANCELLED"
    elif state.status == "canceled":
        status = "EXPIRED" if state.reason == "ExpiryCancel" else "CANCELLED"
    else:
        # A word we do not know says nothing; the order is asked for again.
        return []
    return [
        OrderView(
            venue_order=state.order_id,
            client_id=state.client_order_id,
            status=status,
            filled=state.filled,
            reason=state.reason,
            price=state.price,
            size=state.initial,
            venue_ts_ns=state.time_ns,
        )
    ]


def fill_view(fill: account.Fill) -> FillView:
    """Return one execution: a trade of YES, whichever side it was on."""
    return FillView(
        venue_order=fill.order_id,
        client_id=fill.client_order_id,
        fill=fill.trade_id,
        instrument=instrument_of(fill.ticker),
        outcome="YES",
        token_side="BUY" if fill.side == "bid" else "SELL",
        size=fill.size,
        price_e6=fill.price * 100,
        # Exact: contracts come in hundredths.
        notional_e6=fill.size * fill.price // ONE_DOLLAR_E4,
        fee_e6=fill.fee,
        asset=USD,
        liquidity="TAKER" if fill.is_taker else "MAKER",
        settlement="CONFIRMED",
        venue_ts_ns=fill.time_ns,
    )


def payout_view(paid: account.Settlement) -> PayoutView:
    """Return what a market paid. Its fee is the sum of what the fills were charged, not taken from the revenue again."""
    return PayoutView(
        instrument=instrument_of(paid.ticker),
        result=paid.result,
        yes_size=paid.yes_size,
        no_size=paid.no_size,
        revenue_e6=paid.revenue,
        fee_e6=paid.fee,
        payout_e6=rules.payout_e6(paid.result, paid.value),
        venue_ts_ns=paid.time_ns,
    )


def is_of(subject: Subject, state: account.OrderState) -> bool:
    """Say whether a listed order has the id of ours."""
    return bool(subject.client_id) and subject.client_id == state.client_order_id


def check_same(subject: Subject, state: account.OrderState) -> None:
    """Raise `InvariantBroken` if the venue has another order under the id of ours."""
    wanted = ("bid" if subject.side == "BUY" else "ask", subject.price, subject.size)
    found = (state.side, state.price, state.initial)
    if subject.venue_order == state.order_id:
        # The venue's own id says which it is; price and size may have been amended since.
        found = (state.side, subject.price, subject.size)
    if subject.size and (found != wanted or state.ticker != ticker_of(subject.instrument)):
        raise InvariantBroken(
            f"kalshi has another order under {subject.client_id}: expected {wanted} in {subject.instrument}, found"
            f" {found} in {state.ticker}; stop every gateway of this account and look at it"
        )


def ticker_of(instrument: str) -> str:
    """Return the venue's name of an instrument."""
    return instrument.removeprefix("kalshi:")


def instrument_of(ticker: str) -> str:
    """Return our name of a market."""
    return f"kalshi:{ticker}"

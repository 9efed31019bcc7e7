"""What we send Kalshi about orders (V2 bodies), and how it refuses.

Source: docs.kalshi.com api-reference (3.32.0, `/portfolio/events/orders*`); fixtures: `orders__*`, `auth__*`,
`cleanup__*`, `markets__limit_over_max` of the `kalshi` captures. The V1 paths answer 410.
"""

from typing import Literal

import msgspec

from core.domain.errors import OffGrid
from core.domain.units import ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, from_fixed
from venues.kalshi.rules import SIZE_STEP
from venues.kalshi.wire import BookSide
from venues.refusal import Outcome, VenueError
from venues.text import excerpt

TimeInForce = Literal["fill_or_kill", "good_till_canceled", "immediate_or_cancel"]
SelfTrade = Literal["taker_at_cross", "maker"]


class CreateOrder(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of a create, as it stands on the wire; numbers are text, a JSON number is answered 400."""

    ticker: str
    client_order_id: str
    side: BookSide
    count: str
    price: str
    time_in_force: TimeInForce
    self_trade_prevention_type: SelfTrade
    post_only: bool = False
    reduce_only: bool = False
    expiration_time: int | None = None
    cancel_order_on_pause: bool = False
    order_group_id: str | None = None
    subaccount: int | None = None
    exchange_index: int | None = None


_encode = msgspec.json.Encoder().encode


def price_text(price: int) -> str:
    """Return a YES price as the venue wants it, four decimals."""
    if not 0 < price < ONE_DOLLAR_E4:
        raise OffGrid(f"kalshi: expected a price between 0 and one dollar, found {price}e-4")
    return from_fixed(price, PREDICTION_PRICE_EXP, places_min=4)


def count_text(size: int) -> str:
    """Return a number of contracts as the venue wants it, two decimals."""
    if size <= 0 or size % SIZE_STEP:
        raise OffGrid(f"kalshi: expected a size in hundredths of a contract, found {size}e-6")
    return from_fixed(size, PREDICTION_SIZE_EXP, places_min=2)


def create_order_body(
    *,
    ticker: str,
    client_order_id: str,
    side: BookSide,
    price: int,
    size: int,
    time_in_force: TimeInForce,
    self_trade: SelfTrade = "taker_at_cross",
    post_only: bool = False,
    reduce_only: bool = False,
    expiration_s: int | None = None,
    cancel_on_pause: bool = False,
    order_group: str | None = None,
    subaccount: int | None = None,
    exchange_index: int | None = None,
) -> bytes:
    """Return the body of `POST /portfolio/events/orders`: bid buys YES at `price`, ask sells it (or buys NO at 1 - price).

    The shard (`exchange_index`) should be stated: without it every shard's write budget is billed.
    """
    return _encode(
        CreateOrder(
            ticker=ticker,
            client_order_id=client_order_id,
            side=side,
            count=count_text(size),
            price=price_text(price),
            time_in_force=time_in_force,
            self_trade_prevention_type=self_trade,
            post_only=post_only,
            reduce_only=reduce_only,
            expiration_time=expiration_s,
            cancel_order_on_pause=cancel_on_pause,
            order_group_id=order_group,
            subaccount=subaccount,
            exchange_index=exchange_index,
        )
    )


def amend_order_body(
    *,
    ticker: str,
    side: BookSide,
    price: int,
    total: int,
    expiration_s: int | None = None,
    client_order_id: str = "",
    exchange_index: int | None = None,
) -> bytes:
    """Return the body of an amend; `total` is what is filled already plus what is to remain, expiry 0 clears it.

    The shard (`exchange_index`) should be stated as in a create: else it is looked for, and every shard's budget is billed.
    """
    body: dict[str, object] = {
        "ticker": ticker,
        "side": side,
        "price": price_text(price),
        "count": count_text(total),
    }
    if client_order_id:
        body["client_order_id"] = client_order_id
    if expiration_s is not None:
        body["expiration_time"] = expiration_s
    if exchange_index is not None:
        body["exchange_index"] = exchange_index
    return _encode(body)


def cancel_query(*, ticker: str, exchange_index: int | None = None) -> str:
    """Return the query of a cancel. An order id does not tell its shard: without it the cancel goes to shard 0."""
    shard = "" if exchange_index is None else f"&exchange_index={exchange_index}"
    return f"?market_ticker={ticker}{shard}"


# --- refusals


class _Body(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw()
    code: str = ""
    message: str = ""
    details: str = ""
    msg: str = ""


_BODY = msgspec.json.Decoder(_Body)
_TEXT = msgspec.json.Decoder(str)

_OUTCOMES = {
    "order_already_exists": Outcome.DUPLICATE,
    "not_found": Outcome.NOT_FOUND,
    "trading_is_paused": Outcome.PAUSED,
    "exchange_is_paused": Outcome.PAUSED,
    "market_inactive": Outcome.PAUSED,
    "exchange_unavailable": Outcome.UNKNOWN,
}
_STATUS_OUTCOMES = {
    401: Outcome.UNAUTHORIZED,
    403: Outcome.UNAUTHORIZED,
    404: Outcome.NOT_FOUND,
    408: Outcome.UNKNOWN,
    429: Outcome.THROTTLED,
}


def decode_refusal(status: int, body: bytes) -> VenueError:
    """Return any error answer as one value; never raises, since an answer that cannot be read is one too.

    Three shapes are on the wire (`{"error": {…}}`, `{"code", "message", "details"}`, `{"msg"}`), and `{"error": "…"}` of
    a 429. A 5xx says nothing about whether an order was placed: look it up by its client order id.
    """
    try:
        fields = _BODY.decode(body)
        nested = bytes(fields.error)
        if nested[:1] == b"{":
            fields = _BODY.decode(nested)
        elif nested[:1] == b'"':
            fields.message = _TEXT.decode(nested)
        code, message, details = fields.code, fields.message or fields.msg, fields.details
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        code, message, details = "", excerpt(body), ""
    outcome = _OUTCOMES.get(code.lower()) or _STATUS_OUTCOMES.get(status)
    if outcome is None:
        outcome = Outcome.REJECTED if 400 <= status < 500 else Outcome.UNKNOWN
    return VenueError(status=status, code=code or f"http_{status}", message=message, details=details, outcome=outcome)

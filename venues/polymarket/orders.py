"""What we send Polymarket about orders, what it answers, and how it refuses.

Source: docs.polymarket.com/trading/orders/*, /resources/error-codes; the bodies equal the official clients' byte for
byte. Fixtures: `clob_post_order__*`, `clob_cancel_*` of the `polymarket` captures.
"""

import msgspec

from core.domain.errors import MalformedFrame
from venues.polymarket.auth import BUY, SALT_MAX, SELL, Order, SignedOrder
from venues.polymarket.rules import OrderType
from venues.polymarket.wire import money
from venues.refusal import Outcome, VenueError
from venues.text import decode, excerpt


class OrderBody(msgspec.Struct, frozen=True):
    """The `order` of a request as it stands on the wire, in its order of fields. The salt alone is a number."""

    salt: int
    maker: str
    signer: str
    tokenId: str  # noqa: N815  the venue's name
    makerAmount: str  # noqa: N815
    takerAmount: str  # noqa: N815
    side: str
    expiration: str
    signatureType: int  # noqa: N815
    timestamp: str
    metadata: str
    builder: str
    signature: str


class OrderRequest(msgspec.Struct, frozen=True):
    """The body of `POST /order`; `POST /orders` takes an array of them."""

    order: OrderBody
    owner: str
    orderType: OrderType  # noqa: N815
    deferExec: bool = False  # noqa: N815
    postOnly: bool = False  # noqa: N815


_encode = msgspec.json.Encoder().encode
_REQUEST = msgspec.json.Decoder(OrderRequest)
_REQUESTS = msgspec.json.Decoder(list[OrderRequest])
_BODY = msgspec.json.Decoder(OrderBody)


def order_request(signed: SignedOrder, *, owner: str, order_type: OrderType, post_only: bool = False) -> OrderRequest:
    """Return the request for a signed order; `owner` is the API key.

    Raises:
        MalformedFrame: `post_only` with an order that trades at once, or an expiration without GTD.
    """
    order = signed.order
    if post_only and order_type not in {"GTC", "GTD"}:
        raise MalformedFrame(f"polymarket: a {order_type} order cannot be post-only")
    if bool(order.expiration) != (order_type == "GTD"):
        raise MalformedFrame(f"polymarket: a {order_type} order cannot have expiration {order.expiration}")
    body = OrderBody(
        salt=order.salt,
        maker=order.maker,
        signer=order.signer,
        tokenId=str(order.token_id),
        makerAmount=str(order.maker_amount),
        takerAmount=str(order.taker_amount),
        side="SELL" if order.side == SELL else "BUY",
        expiration=str(order.expiration),
        signatureType=order.signature_type,
        timestamp=str(order.timestamp_ms),
        metadata=order.metadata,
        builder=order.builder,
        signature=signed.signature,
    )
    return OrderRequest(body, owner, order_type, False, post_only)


def order_body(signed: SignedOrder, *, owner: str, order_type: OrderType, post_only: bool = False) -> bytes:
    """Return the exact bytes of `POST /order`: the HMAC is over them, so they are made once and sent as they are."""
    return _encode(order_request(signed, owner=owner, order_type=order_type, post_only=post_only))


def orders_body(requests: list[OrderRequest]) -> bytes:
    """Return the exact bytes of `POST /orders`."""
    return _encode(requests)


def cancel_body(order_id: str) -> bytes:
    """Return the body of `DELETE /order`."""
    return _encode({"orderID": order_id})


def cancels_body(order_ids: list[str]) -> bytes:
    """Return the body of `DELETE /orders`."""
    return _encode(order_ids)


def cancel_market_body(*, market: str, asset_id: str) -> bytes:
    """Return the body of `DELETE /cancel-market-orders`; either may be empty, not both."""
    return _encode({"market": market, "asset_id": asset_id})


def heartbeat_body(heartbeat_id: str) -> bytes:
    """Return the body of a heartbeat: `""` first, then the id last returned.

    Once started, a pause of 10 s cancels every order of the API key.
    """
    return _encode({"heartbeat_id": heartbeat_id})


def decode_order_request(body: bytes) -> OrderRequest:
    """Return the request of `POST /order`; for the simulated venue."""
    return decode(_REQUEST, body, "polymarket order request")


def decode_order_requests(body: bytes) -> list[OrderRequest]:
    """Return the requests of `POST /orders`; for the simulated venue."""
    return decode(_REQUESTS, body, "polymarket order requests")


def decode_order_body(body: bytes) -> OrderBody:
    """Return a bare signed order."""
    return decode(_BODY, body, "polymarket signed order")


def signed_fields(body: OrderBody) -> Order:
    """Return what `body` signs, so that its digest and signer can be computed.

    Raises:
        MalformedFrame: an amount, id or time that is no whole number, or an unknown side.
    """
    if body.side not in {"BUY", "SELL"}:
        raise MalformedFrame(f"polymarket order: expected side BUY or SELL, found {body.side!r}")
    if not 0 <= body.salt <= SALT_MAX:
        raise MalformedFrame(f"polymarket order: expected a salt below 2**53, found {body.salt}")
    return Order(
        salt=body.salt,
        maker=body.maker,
        signer=body.signer,
        token_id=_uint(body.tokenId, "tokenId"),
        maker_amount=_uint(body.makerAmount, "makerAmount"),
        taker_amount=_uint(body.takerAmount, "takerAmount"),
        side=BUY if body.side == "BUY" else SELL,
        timestamp_ms=_uint(body.timestamp, "timestamp"),
        signature_type=body.signatureType,
        expiration=_uint(body.expiration, "expiration"),
        metadata=body.metadata,
        builder=body.builder,
    )


def _uint(text: str, field: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 78) or int(text) >= 2**256:
        raise MalformedFrame(f"polymarket order: expected {field} as a whole number, found {text[:90]!r}")
    return int(text)


# --- answers


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one order. HTTP 200 and `success` are not acceptance: see `accepted`.

    `status`: live, matched, delayed (held by the taker delay), unmatched, or empty. Amounts at 1e-6, of shares and
    dollars by side; the transactions are not stated any more, `trade_ids` are.
    """

    order_id: str
    status: str
    error: str
    success: bool
    making: int
    taking: int
    trade_ids: list[str]

    @property
    def accepted(self) -> bool:
        """Say whether the venue has the order."""
        return self.success and not self.error and bool(self.order_id) and self.status in {"live", "matched", "delayed"}


class CancelAnswer(msgspec.Struct, frozen=True):
    """Which orders were cancelled, and why others were not; HTTP 200 either way."""

    canceled: list[str]
    not_canceled: dict[str, str]


class _Answer(msgspec.Struct):
    success: bool = False
    orderID: str | None = None  # noqa: N815
    errorMsg: str | None = None  # noqa: N815
    status: str | None = None
    makingAmount: str | None = None  # noqa: N815
    takingAmount: str | None = None  # noqa: N815
    tradeIDs: list[str] | None = None  # noqa: N815


class _Heartbeat(msgspec.Struct):
    heartbeat_id: str


_ANSWER, _ANSWERS = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(list[_Answer])
_CANCEL, _HEARTBEAT = msgspec.json.Decoder(CancelAnswer), msgspec.json.Decoder(_Heartbeat)


def decode_order_answer(body: bytes) -> OrderAnswer:
    """Return the answer to `POST /order`."""
    return _answer(decode(_ANSWER, body, "polymarket order answer"))


def decode_order_answers(body: bytes) -> list[OrderAnswer]:
    """Return the answers to `POST /orders`, in the order of the requests."""
    return [_answer(raw) for raw in decode(_ANSWERS, body, "polymarket order answers")]


def decode_cancel_answer(body: bytes) -> CancelAnswer:
    """Return the answer to any cancel."""
    return decode(_CANCEL, body, "polymarket cancel answer")


def decode_heartbeat(body: bytes) -> str:
    """Return the id to send next; the body of a 400 (wrong id) names the right one in the same field."""
    return decode(_HEARTBEAT, body, "polymarket heartbeat").heartbeat_id


def _answer(raw: _Answer) -> OrderAnswer:
    return OrderAnswer(
        order_id=raw.orderID or "",
        status=raw.status or "",
        error=raw.errorMsg or "",
        success=raw.success,
        making=money(raw.makingAmount, "order answer") if raw.makingAmount else 0,
        taking=money(raw.takingAmount, "order answer") if raw.takingAmount else 0,
        trade_ids=raw.tradeIDs or [],
    )


# --- refusals


class _Refusal(msgspec.Struct):
    error: str | None = None
    errorMsg: str | None = None  # noqa: N815
    error_msg: str | None = None
    code: str | None = None
    retry_after_seconds: int | None = None


_REFUSAL = msgspec.json.Decoder(_Refusal)
_STATUS_OUTCOMES = {
    401: Outcome.UNAUTHORIZED,
    403: Outcome.UNAUTHORIZED,
    404: Outcome.NOT_FOUND,
    408: Outcome.UNKNOWN,
    425: Outcome.PAUSED,
    429: Outcome.THROTTLED,
}
# The text is the contract: these say that nothing was done although the status is 500, or name a state of the venue.
_TEXT_OUTCOMES = (
    ("Duplicated", Outcome.DUPLICATE),
    ("order match delayed", Outcome.UNKNOWN),
    ("Trading is currently", Outcome.PAUSED),
    ("post-only mode", Outcome.PAUSED),
    ("not yet ready to process new orders", Outcome.PAUSED),
    ("there are no matching orders", Outcome.REJECTED),
    ("FOK orders are f", Outcome.REJECTED),
    ("rounding issues", Outcome.REJECTED),
    ("has a discrepancy greater than allowed", Outcome.REJECTED),
)


def decode_refusal(status: int, body: bytes) -> VenueError:
    """Return any error answer as one value; never raises. A 403 can be HTML from the venue's front, not JSON."""
    code, message, wait_s = "", "", 0
    try:
        raw = _REFUSAL.decode(body)
        code, message = raw.code or "", raw.error or raw.errorMsg or raw.error_msg or ""
        wait_s = raw.retry_after_seconds or 0
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = excerpt(body)
    outcome = outcome_of(status, message)
    return VenueError(
        status=status, code=code or f"http_{status}", message=message, outcome=outcome, retry_after_s=wait_s
    )


def outcome_of(status: int, message: str) -> Outcome:
    """Return what an error text says about the order; a batch's refused legs come with it under HTTP 200."""
    for text, outcome in _TEXT_OUTCOMES:
        if text in message:
            return outcome
    known = _STATUS_OUTCOMES.get(status)
    if known is not None:
        return known
    return Outcome.REJECTED if status < 500 and message else Outcome.UNKNOWN

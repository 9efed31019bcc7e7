"""The body of a V2 create request."""

import time

import orjson

from core.domain.errors import NotExact
from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, to_fixed
from simulate.kalshi.exchange import NewOrder, OrderRefused
from simulate.matching import FOREVER_NS, Side, TimeInForce

_TIME_IN_FORCE = {
    "good_till_canceled": TimeInForce.GTC,
    "immediate_or_cancel": TimeInForce.IOC,
    "fill_or_kill": TimeInForce.FOK,
}


class BadRequest(Exception):
    """A request of the wrong shape: the flat 400 body."""

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.body = {"code": "bad_request", "message": "bad request", "details": details}


def parse_create(raw: bytes) -> NewOrder:
    """Return the order of a V2 create body.

    Raises:
        BadRequest: the flat 400.
        OrderRefused: a value the exchange names itself.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(str(error)) from error
    if not isinstance(body, dict):
        raise BadRequest("json: cannot unmarshal into Go value of type CreateOrderV2Request")
    for name in ("ticker", "side", "count", "price", "time_in_force", "self_trade_prevention_type"):
        value = body.get(name)
        if isinstance(value, int | float):
            raise BadRequest(
                f"json: cannot unmarshal number into Go struct field CreateOrderV2Request.{name} of type string"
            )
        if not isinstance(value, str) or not value:
            raise BadRequest(f"{name} is required")
    time_in_force = _TIME_IN_FORCE.get(body["time_in_force"])
    if body["side"] not in {"bid", "ask"} or time_in_force is None:
        raise BadRequest("side or time_in_force has no known value")
    if body["self_trade_prevention_type"] not in {"taker_at_cross", "maker"}:
        raise BadRequest("self_trade_prevention_type has no known value")
    try:
        price = to_fixed(body["price"], PREDICTION_PRICE_EXP)
    except NotExact as error:
        raise OrderRefused(400, "invalid_price") from error
    try:
        size = to_fixed(body["count"], PREDICTION_SIZE_EXP)
    except NotExact as error:
        raise OrderRefused(400, "invalid_order_size") from error
    if body.get("reduce_only"):
        # The venue takes it on IOC orders; what it then does with the excess is not established.
        raise OrderRefused(400, "invalid_order", "reduce_only is not simulated")
    expires = body.get("expiration_time") or 0
    if not isinstance(expires, int):
        raise BadRequest(
            "json: cannot unmarshal into Go struct field CreateOrderV2Request.expiration_time of type int64"
        )
    if expires and (time_in_force is not TimeInForce.GTC or expires <= time.time()):
        raise BadRequest("expiration_time must be in the future and needs good_till_canceled")
    return NewOrder(
        ticker=body["ticker"],
        client_order_id=str(body.get("client_order_id") or ""),
        side=Side(body["side"]),
        price_e4=price,
        size_e6=size,
        time_in_force=TimeInForce.GTD if expires else time_in_force,
        post_only=bool(body.get("post_only", False)),
        expires_ns=int(expires) * 1_000_000_000 if expires else FOREVER_NS,
        body=body,
    )

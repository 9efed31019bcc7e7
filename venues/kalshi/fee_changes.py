"""Kalshi's scheduled changes of fees: of a series, or of an event's override.

Source: docs.kalshi.com get-series-fee-changes, get-event-fee-changes (3.32.0). Both list what is upcoming.
"""

from typing import Literal

import msgspec

from core.domain.errors import MalformedFrame
from venues.kalshi.wire import multiplier
from venues.text import decode, instant_ns


class FeeChange(msgspec.Struct, frozen=True):
    """Fees that hold from a time on; an event's without type or multiplier gives the series' own back.

    `text` is the change as the venue wrote it.
    """

    of: Literal["series", "event"]
    ticker: str
    at_ns: int
    fee_type: str
    multiplier_e6: int | None
    text: bytes


class _Change(msgspec.Struct):
    scheduled_ts: str
    series_ticker: str = ""
    event_ticker: str = ""
    fee_type: str | None = None
    fee_multiplier: msgspec.Raw = msgspec.Raw()
    fee_type_override: str | None = None
    fee_multiplier_override: msgspec.Raw = msgspec.Raw()


class _Changes(msgspec.Struct):
    series_fee_change_arr: list[msgspec.Raw] | None = None
    event_fee_changes: list[msgspec.Raw] | None = None
    cursor: str = ""


_CHANGE, _CHANGES = msgspec.json.Decoder(_Change), msgspec.json.Decoder(_Changes)


def decode_fee_changes(body: bytes) -> tuple[list[FeeChange], str]:
    """Return the changes of `GET /series/fee_changes` or `/events/fee_changes`, and the cursor of the next page.

    Raises:
        MalformedFrame: a change that names no series and no event, or no time.
    """
    page = decode(_CHANGES, body, "kalshi fee changes")
    rows = [*(page.series_fee_change_arr or ()), *(page.event_fee_changes or ())]
    return [decode_fee_change(bytes(row)) for row in rows], page.cursor


def decode_fee_change(text: bytes) -> FeeChange:
    """Return one change.

    Raises:
        MalformedFrame: it names no series and no event, or no time.
    """
    raw = decode(_CHANGE, text, "kalshi fee change")
    ticker = raw.event_ticker or raw.series_ticker
    where = f"fee change of {ticker}"
    at_ns = instant_ns(raw.scheduled_ts, where)
    if not ticker or not at_ns:
        raise MalformedFrame(f"kalshi {where}: expected a series or an event and a time, found {text[:120]!r}")
    if raw.event_ticker:
        fee_type, factor = raw.fee_type_override, raw.fee_multiplier_override
        return FeeChange("event", ticker, at_ns, fee_type or "", multiplier(factor, where), text)
    factor_e6 = multiplier(raw.fee_multiplier, where)
    if not raw.fee_type or factor_e6 is None:
        raise MalformedFrame(f"kalshi {where}: expected a fee_type and a fee_multiplier, found {text[:120]!r}")
    return FeeChange("series", ticker, at_ns, raw.fee_type, factor_e6, text)

"""Kalshi's scheduled changes of fees: of a series, or of an event's override.

Source: docs.kalshi.com get-series-fee-changes, get-event-fee-changes (3.32.0). Both list what is upcoming.

A row that cannot be read must not hide the others, nor be passed over: where it says what it is of, a change to fees that
nobody knows stands in its place, written as the venue writes one, with the row beside it.
"""

from typing import Literal, NamedTuple

import msgspec

from core.domain.errors import MalformedFrame, Reject
from venues.kalshi.wire import multiplier
from venues.text import decode, instant_ns, scalar_text

UNREADABLE = "unreadable"
"""The fee type, one without a formula, of a change that cannot be read."""
UNREADABLE_MULTIPLIER = 1_000_000
"""Of a series, where an event overrides the type alone: so dear that nothing is traded."""
NEVER = "2200-01-01T00:00:00Z"
"""The time of a change that says none: to come for as long as it is listed."""


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


class _Named(msgspec.Struct):
    series_ticker: msgspec.Raw = msgspec.Raw()
    event_ticker: msgspec.Raw = msgspec.Raw()
    scheduled_ts: msgspec.Raw = msgspec.Raw()


class FeeChanges(NamedTuple):
    """One page of changes, of so many rows; `unreadable` of them could not be read, stood in for or not."""

    changes: list[FeeChange]
    cursor: str
    rows: int
    unreadable: int


_CHANGE, _CHANGES = msgspec.json.Decoder(_Change), msgspec.json.Decoder(_Changes)
_NAMED = msgspec.json.Decoder(_Named)


def decode_fee_changes(body: bytes) -> FeeChanges:
    """Return the changes of `GET /series/fee_changes` or `/events/fee_changes`.

    Raises:
        MalformedFrame: not a page of changes.
    """
    page = decode(_CHANGES, body, "kalshi fee changes")
    rows = [*(page.series_fee_change_arr or ()), *(page.event_fee_changes or ())]
    found, unreadable = [], 0
    for row in rows:
        try:
            found.append(decode_fee_change(bytes(row)))
        except Reject:
            unreadable += 1
            found += _in_place_of(row)
    return FeeChanges(found, page.cursor, len(rows), unreadable)


def _in_place_of(row: msgspec.Raw) -> list[FeeChange]:
    """Return the change that stands for a row that cannot be read; none if it says nothing of what it is of."""
    try:
        named = _NAMED.decode(row)
    except msgspec.MsgspecError:
        return []
    event, series, at = _stated(named.event_ticker), _stated(named.series_ticker), _stated(named.scheduled_ts)
    fields: dict[str, object] = {"scheduled_ts": at if _is_time(at) else NEVER, "found": row}
    if event:
        fields |= {"event_ticker": event, "fee_type_override": UNREADABLE}
    elif series:
        fields |= {"series_ticker": series, "fee_type": UNREADABLE, "fee_multiplier": UNREADABLE_MULTIPLIER}
    else:
        return []
    return [decode_fee_change(msgspec.json.encode(fields))]


def _stated(raw: msgspec.Raw) -> str:
    try:
        return scalar_text(raw)
    except MalformedFrame:
        return ""


def _is_time(text: str) -> bool:
    try:
        return instant_ns(text, "fee change") > 0
    except MalformedFrame:
        return False


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

"""Where Polymarket lets trade: its geoblock answer, its closed-only answer, and what a refused order says of it.

Source: docs.polymarket.com/api-reference/geoblock, /resources/error-codes. The list of places changes: it is asked for,
never kept here.
"""

import msgspec

from venues.text import decode


class Geoblock(msgspec.Struct, frozen=True):
    """What the venue says of the address that asked; `blocked` does not tell a full block from close-only."""

    blocked: bool
    country: str = ""
    region: str = ""


class _ClosedOnly(msgspec.Struct):
    closed_only: bool


_GEOBLOCK, _CLOSED_ONLY = msgspec.json.Decoder(Geoblock), msgspec.json.Decoder(_ClosedOnly)
BANNED = "address banned"
CLOSED_ONLY = "address in closed only mode"


def decode_geoblock(body: bytes) -> Geoblock:
    """Return the answer of `GET /api/geoblock`."""
    return decode(_GEOBLOCK, body, "polymarket geoblock")


def decode_closed_only(body: bytes) -> bool:
    """Return the answer of `GET /auth/ban-status/closed-only`."""
    return decode(_CLOSED_ONLY, body, "polymarket closed-only").closed_only

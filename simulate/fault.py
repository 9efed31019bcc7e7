"""What one kind of fault is; the kinds stand in `simulate/faults.py` (market data) and `simulate/order_faults.py` (orders)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

BOTH = ("kalshi", "polymarket")


class Fault(NamedTuple):
    """One kind of fault.

    `known`: how a client can know. `seen`: where it is documented or was reported, else that it is general to networks.
    `seconds`: how long it lasts unless asked otherwise (0: it is over at once). `parameters`: name to default.
    """

    does: str
    known: str
    seen: str
    seconds: float = 0.0
    parameters: Mapping[str, Any] = {}
    venues: tuple[str, ...] = BOTH

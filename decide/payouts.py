"""What one market is to pay an account, and what it paid: as the ledger remembers it."""

from typing import NamedTuple

from core.domain.units import MICRO
from schemas.order import Payout


class Provisional(NamedTuple):
    """What a determined market is to pay for a holding: in no cash, and taken back when the market's word changes."""

    entry: str
    held: int
    payout_e6: int
    expected_e6: int


class Paid(NamedTuple):
    """What a market paid by the venue's own statement, and what that moved, so that a correction can take it back.

    Attributes:
        payout: the statement that counts.
        seen: every statement of this market, each of which counts once.
        entry: the Entry that booked it; empty: nothing is booked of it.
        cash_e6: moved by it.
        cost_e6: what the holding that went had cost.
        yes_e6: what one YES paid, at which positions were closed.
        closed: strategy -> (size, cost) of the position that was closed.
        in_opening: it was paid before the account's first report, whose figures hold it.
    """

    payout: Payout
    seen: tuple[str, ...] = ()
    entry: str = ""
    cash_e6: int = 0
    cost_e6: int = 0
    yes_e6: int = 0
    closed: dict[str, tuple[int, int]] = {}  # noqa: RUF012 - never changed: replaced
    in_opening: bool = False

    @property
    def size(self) -> int:
        """The signed YES that was paid for."""
        return self.payout.yes_size - self.payout.no_size

    @property
    def yes_cash_e6(self) -> int:
        """The signed cash at the price of YES: without the dollars that lay in contracts short."""
        return self.payout.revenue_e6 - max(-self.size, 0)


def order_of(payout: Payout) -> tuple[int, int]:
    """Return which of two statements about a market is the later one."""
    return payout.venue_ts_ns, payout.ts_ns


def paid_yes_e6(payout: Payout) -> int:
    """Return what one YES was paid: as stated, else as the cash says."""
    if payout.payout_e6 >= 0:
        return payout.payout_e6
    size = payout.yes_size - payout.no_size
    if not size:
        return 0
    each_e6 = payout.revenue_e6 * MICRO // abs(size)
    return each_e6 if size > 0 else MICRO - each_e6

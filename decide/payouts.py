"""What one market is to pay an account, and what it paid: as the ledger remembers it."""

from typing import NamedTuple

from core.domain.units import MICRO
from schemas.enums import InstrumentStatus
from schemas.market import Instrument
from schemas.order import Payout

DECIDED: frozenset[InstrumentStatus] = frozenset({"DETERMINED", "SETTLED"})
"""Of a market that is known to pay something, or to have paid."""
_ENDED = DECIDED | {"CLOSED"}

Closed = tuple[int, int, int]
"""Size and cost of a position that was closed, and the signed cash at YES prices that it was closed for."""


class Rate(NamedTuple):
    """What YES is paid, exactly: so much signed cash for so much of it."""

    cash_e6: int
    size: int


def has_closed(described: Instrument | None, now_ns: int) -> bool:
    """Say whether a market is known to trade no more: by its status, or by its close."""
    return described is not None and (described.status in _ENDED or 0 < described.close_ts_ns <= now_ns)


def rate_of(payout_e6: int) -> Rate:
    """Return the rate at which one YES pays so much."""
    return Rate(payout_e6, MICRO)


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
        closed: strategy -> (size, cost, cash) of the position that was closed.
        in_opening: it was paid before the account's first report, whose figures hold it.
    """

    payout: Payout
    seen: tuple[str, ...] = ()
    entry: str = ""
    cash_e6: int = 0
    cost_e6: int = 0
    closed: dict[str, Closed] = {}  # noqa: RUF012 - never changed: replaced
    in_opening: bool = False

    @property
    def size(self) -> int:
        """The signed YES that was paid for."""
        return self.payout.yes_size - self.payout.no_size

    @property
    def yes_cash_e6(self) -> int:
        """The signed cash at the price of YES: without the dollars that lay in contracts short."""
        return self.payout.revenue_e6 - max(-self.size, 0)

    @property
    def left(self) -> tuple[int, int]:
        """What of the payout no strategy's position was closed for: YES, and signed cash at its price."""
        closed = self.closed.values()
        return self.size - sum(size for size, _, _ in closed), self.yes_cash_e6 - sum(cash for _, _, cash in closed)

    @property
    def rate(self) -> Rate:
        """What YES was paid: by the cash that is left, else by all of it, else as stated."""
        size, cash_e6 = self.left
        if size:
            return Rate(cash_e6, size)
        return Rate(self.yes_cash_e6, self.size) if self.size else rate_of(paid_yes_e6(self.payout))


def order_of(payout: Payout) -> tuple[int, int]:
    """Return which of two statements about a market is the later one: the one that was read later.

    A correction may stand under its old time, or an older one. Of what one answer said, the venue's time decides.
    """
    return payout.recv_ts_ns, payout.venue_ts_ns


def says_the_same(one: Payout, other: Payout) -> bool:
    """Say whether two statements about a market state the same, whenever they were read."""
    return _content(one) == _content(other)


def _content(payout: Payout) -> tuple[str, int, int, int, int, int, int]:
    sizes = (payout.yes_size, payout.no_size)
    return (payout.result, *sizes, payout.revenue_e6, payout.fee_e6, payout.payout_e6, payout.venue_ts_ns)


def paid_yes_e6(payout: Payout) -> int:
    """Return what one YES was paid: as stated, else as the cash says."""
    if payout.payout_e6 >= 0:
        return payout.payout_e6
    size = payout.yes_size - payout.no_size
    if not size:
        return 0
    each_e6 = payout.revenue_e6 * MICRO // abs(size)
    return each_e6 if size > 0 else MICRO - each_e6

"""What each strategy holds and has made, in YES terms: the one measure that venues with netting and with tokens share.

A position is a signed quantity of YES. Buying NO at q is selling YES at 1 - q, so a position needs no outcome, and

    profit = signed cash at YES prices - fees + quantity x mark

is exact for both. What a strategy's fills brought is kept as a sum; only what is open is kept by instrument. Fills of
orders that are not ours belong to the strategy "".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from core.domain.portions import portions
from decide.ledger import yes_terms
from decide.payouts import Closed, Rate
from schemas.order import Fill

PositionKey = tuple[str, str]
"""Venue account and instrument."""


class Moved(NamedTuple):
    """Signed YES that came or went, and what that did to a strategy's flow."""

    size: int
    flow_e6: int


@dataclass
class Position:
    """What is open: `size` of YES at 1e-6, negative when sold; `cost_e6` is what opening it tied up, fees aside."""

    size: int = 0
    cost_e6: int = 0


@dataclass
class Book:
    """One strategy: its open positions, and what all its fills brought.

    Attributes:
        flow_e6: signed cash at YES prices, fees aside.
        fees_e6: paid.
    """

    flow_e6: int = 0
    fees_e6: int = 0
    open: dict[PositionKey, Position] = field(default_factory=dict)

    def trade(self, key: PositionKey, size: int, notional_e6: int) -> None:
        """Move a position by a signed size whose notional at the YES price is `notional_e6`, at average cost."""
        self.flow_e6 += -notional_e6 if size > 0 else notional_e6
        position = self.open.setdefault(key, Position())
        before, amount = position.size, abs(size)
        closing = min(amount, abs(before)) if (before > 0) != (size > 0) else 0
        released = position.cost_e6 * closing // abs(before) if closing else 0
        opening_e6 = notional_e6 if size > 0 else amount - notional_e6
        position.size += size
        position.cost_e6 += opening_e6 * (amount - closing) // amount - released
        if not position.size:
            del self.open[key]

    def quantities(self) -> dict[str, int]:
        """Return what is open of each instrument, all accounts together."""
        found: dict[str, int] = {}
        for (_, instrument), position in self.open.items():
            found[instrument] = found.get(instrument, 0) + position.size
        return {instrument: size for instrument, size in found.items() if size}


@dataclass
class Positions:
    """Those of one account set."""

    books: dict[str, Book] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """strategies whose books are not written down as they are"""

    def book(self, strategy: str, fill: Fill) -> None:
        """Count a fill that was booked."""
        self._count(strategy, fill, 1)

    def reverse(self, strategy: str, fill: Fill) -> None:
        """Take back a fill whose settlement failed."""
        self._count(strategy, fill, -1)

    def settle(self, account: str, instrument: str, rate: Rate, *, whole: int | None = None) -> dict[str, Closed]:
        """Close every position of an instrument at a rate; return what was closed.

        Shares of what is paid add up to the unit (`portions`), by the strategies' names. `whole` is the signed YES that
        is paid for: what of it no strategy holds has its share, too.
        """
        key = (account, instrument)
        names = sorted(name for name, book in self.books.items() if key in book.open)
        sizes = [self.books[name].open[key].size for name in names]
        rest = 0 if whole is None else whole - sum(sizes)
        closed: dict[str, Closed] = {}
        for name, cash_e6 in zip(
            names, portions([size * rate.cash_e6 for size in (*sizes, rest)], rate.size), strict=False
        ):
            book = self.books[name]
            position = book.open.pop(key)
            book.flow_e6 += cash_e6
            closed[name] = (position.size, position.cost_e6, cash_e6)
            self.changed.add(name)
        return closed

    def unsettle(self, account: str, instrument: str, closed: Mapping[str, Closed]) -> None:
        """Open again what was closed at a payout."""
        for name, (size, cost_e6, cash_e6) in closed.items():
            book = self.books.setdefault(name, Book())
            book.flow_e6 -= cash_e6
            position = book.open.setdefault((account, instrument), Position())
            position.size += size
            position.cost_e6 += cost_e6
            if not position.size:
                del book.open[account, instrument]
            self.changed.add(name)

    def adjust(self, account: str, instrument: str, size: int) -> dict[str, Moved]:
        """Move the holding of an instrument as the venue says, for nothing: what is gone is lost, what came belongs to "".

        What is gone is taken from the strategies that hold it, in the order of their names. Returns what each was moved.
        """
        key = (account, instrument)
        moved: dict[str, Moved] = {}
        for name in sorted(self.books):
            book = self.books[name]
            position = book.open.get(key)
            if size and position is not None and (position.size > 0) != (size > 0):
                part = min(abs(size), abs(position.size)) * (1 if size > 0 else -1)
                # A short that is gone was paid its dollar; its collateral is counted in its price.
                book.trade(key, part, 0 if part < 0 else part)
                moved[name] = Moved(part, -max(part, 0))
                self.changed.add(name)
                size -= part
        if size:
            self.books.setdefault("", Book()).trade(key, size, 0 if size > 0 else -size)
            before = moved.get("", Moved(0, 0))
            moved[""] = Moved(before.size + size, before.flow_e6 + max(-size, 0))
            self.changed.add("")
        return moved

    def _count(self, strategy: str, fill: Fill, sign: int) -> None:
        buys, notional_e6 = yes_terms(fill)
        book = self.books.setdefault(strategy, Book())
        book.trade((fill.account, fill.instrument), sign * (fill.size if buys else -fill.size), notional_e6)
        book.fees_e6 += sign * fill.fee_e6
        self.changed.add(strategy)

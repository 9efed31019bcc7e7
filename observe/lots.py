"""Lots: which fill closed which, first in first out, in YES terms. Pure; each cent of cash and fee goes to one lot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from observe.performance import closing_e6


class Trade(NamedTuple):
    """A fill in YES terms, or a payout: it closes everything for its cash, or, if it names no size, at its price."""

    account: str
    instrument: str
    fill: str
    at: datetime
    size_e6: int
    cash_e6: int
    fee_e6: int = 0
    payout_e6: int | None = None


class Lot(NamedTuple):
    """A part of a fill that one other fill closed, or that is open still."""

    account: str
    instrument: str
    side: str
    """LONG or SHORT, in YES"""
    size_e6: int
    opened_at: datetime
    open_fill: str
    open_cash_e6: int
    """signed"""
    closed_at: datetime | None
    close_fill: str
    close_cash_e6: int
    fees_e6: int

    @property
    def realised_e6(self) -> int:
        """What it made before fees, 0 while it is open."""
        return self.open_cash_e6 + self.close_cash_e6 if self.closed_at is not None else 0


@dataclass
class _Open:
    fill: str
    at: datetime
    size_e6: int
    cash_e6: int
    fee_e6: int

    def take(self, size_e6: int) -> tuple[int, int]:
        """Cut a part off; return its cash and fee."""
        cash = _part(self.cash_e6, size_e6, abs(self.size_e6))
        fee = _part(self.fee_e6, size_e6, abs(self.size_e6))
        self.size_e6 -= size_e6 if self.size_e6 > 0 else -size_e6
        self.cash_e6 -= cash
        self.fee_e6 -= fee
        return cash, fee


def lots(trades: Iterable[Trade]) -> list[Lot]:
    """Return the lots of all trades, which come in their order: the closed ones as they were closed, then the open ones."""
    closed: list[Lot] = []
    waiting: dict[tuple[str, str], deque[_Open]] = {}
    for trade in trades:
        queue = waiting.setdefault((trade.account, trade.instrument), deque())
        if trade.payout_e6 is not None:
            size = sum(lot.size_e6 for lot in queue)
            (cash,) = closing_e6([size], trade.size_e6, trade.cash_e6, trade.payout_e6)
            trade = trade._replace(size_e6=-size, cash_e6=cash)
        rest = _Open(trade.fill, trade.at, trade.size_e6, trade.cash_e6, trade.fee_e6)
        while rest.size_e6 and queue and queue[0].size_e6 * rest.size_e6 < 0:
            closed.append(_close(trade, queue[0], rest))
            if not queue[0].size_e6:
                queue.popleft()
        if rest.size_e6:
            queue.append(rest)
    still_open = [
        Lot(*key, _side(lot.size_e6), abs(lot.size_e6), lot.at, lot.fill, lot.cash_e6, None, "", 0, lot.fee_e6)
        for key, queue in sorted(waiting.items())
        for lot in queue
    ]
    return closed + still_open


def _close(trade: Trade, opened: _Open, rest: _Open) -> Lot:
    size, side = min(abs(opened.size_e6), abs(rest.size_e6)), _side(opened.size_e6)
    open_cash, open_fee = opened.take(size)
    close_cash, close_fee = rest.take(size)
    return Lot(
        *(trade.account, trade.instrument, side, size, opened.at, opened.fill, open_cash),
        *(trade.at, trade.fill, close_cash, open_fee + close_fee),
    )


def _side(size_e6: int) -> str:
    return "LONG" if size_e6 > 0 else "SHORT"


def _part(amount: int, numerator: int, denominator: int) -> int:
    share = abs(amount) * numerator // denominator
    return share if amount >= 0 else -share

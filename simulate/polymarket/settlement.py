"""A trade's way on the chain: MATCHED, MINED, CONFIRMED, or what a fault makes of it."""

import asyncio
import time

from simulate.mishaps import Mishaps
from simulate.polymarket.ledger import Trade
from simulate.polymarket.stream import PolymarketStream
from simulate.settings import SimulateSettings
from simulate.truth import TruthLog

Steps = tuple[tuple[int, str], ...]


class Settlement:
    """Of all trades of the venue."""

    mishaps: Mishaps

    def __init__(self, settings: SimulateSettings, stream: PolymarketStream, truth: TruthLog) -> None:
        self._settings = settings
        self._stream = stream
        self._truth = truth

    def begin(self, trade: Trade) -> None:
        """Let a matched trade go its way."""
        loop = asyncio.get_running_loop()
        for delay_ms, status in self._steps(trade):
            loop.call_later(delay_ms / 1_000, self._advance, trade, status)

    def _steps(self, trade: Trade) -> Steps:
        mined_ms, confirmed_ms = self._settings.mined_after_ms, self._settings.confirmed_after_ms
        for account in trade.accounts():
            struck = self.mishaps.strike("settlement_failed", account.name, trade.market.condition_id)
            if struck is None:
                continue
            if struck["how"] == "retrying":
                return (mined_ms, "MINED"), (confirmed_ms, "RETRYING"), (2 * confirmed_ms, "CONFIRMED")
            trade.is_ghost = struck["how"] == "ghost"
            return (mined_ms, "RETRYING"), (confirmed_ms, "FAILED")
        return (mined_ms, "MINED"), (confirmed_ms, "CONFIRMED")

    def _advance(self, trade: Trade, status: str) -> None:
        trade.status = status
        trade.updated_ns = time.time_ns()
        for own, token, size, fee in trade.parties():
            if status == "MINED" and own.buys:
                own.account.settle(token, size)
            elif status == "FAILED":
                own.account.reverse_fill(own, trade.yes_price_e4, size, fee)
                self._truth.note(
                    "orders",
                    venue="polymarket",
                    event="reversed",
                    account=own.account.name,
                    order_id=own.order_id,
                    trade_id=trade.trade_id,
                    size_e6=size,
                )
        if not trade.is_ghost:
            self._stream.trade(trade)

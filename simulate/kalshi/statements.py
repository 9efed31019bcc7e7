"""What simulated Kalshi states of its series and events and can change while it runs: fees, their schedule, who decides.

Source: kalshi.md sections 2.9 and 4.3. An override of an event is told on the life-cycle channel; a scheduled change is
listed until its time has come and is told nowhere; settlement sources are in the event object only. What is charged
follows what is stated.
"""

import time
import uuid
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.text import Stamp
from simulate.universe import KALSHI_SERIES

NS_PER_S = 1_000_000_000
_STAMP = Stamp()


class Fees(NamedTuple):
    """A fee type and its multiplier (decimal text); None in an event: the series' counts."""

    fee_type: str | None = None
    multiplier: str | None = None


class Scheduled(NamedTuple):
    """A change that takes effect at a time; of a series, or of an event's override."""

    id: str
    ticker: str
    fees: Fees
    at_ns: int


class Statements:
    """Fees and settlement sources, now and as scheduled."""

    def __init__(self, markets: list[KalshiMarket]) -> None:
        """`markets`: of the exchange, which adds to them."""
        self._markets = markets
        self._series: dict[str, Fees] = {}
        self._overrides: dict[str, Fees] = {}
        self.sources: dict[str, list[dict[str, str]]] = {}
        """Settlement sources by event."""
        self.series_changes: list[Scheduled] = []
        self.event_changes: list[Scheduled] = []

    def series(self, series: str) -> Fees:
        """Return the fees of a series as they stand."""
        fee_type, multiplier, _ = KALSHI_SERIES[series]
        return self._series.get(series, Fees(fee_type, multiplier))

    def override(self, event: str) -> Fees:
        """Return the override of an event."""
        return self._overrides.get(event, Fees())

    def set_override(self, event: str, fees: Fees) -> dict[str, Any]:
        """Change an event's override; return what is told of it."""
        self._overrides[event] = fees
        self._charge(market for market in self._markets if market.linked.kalshi_event == event)
        return {"event_ticker": event, **override_row(fees)}

    def schedule(self, ticker: str, fees: Fees, at_ns: int, *, of_event: bool = False) -> None:
        """List a change of a series' fees, or of an event's override."""
        changes = self.event_changes if of_event else self.series_changes
        changes.append(Scheduled(str(uuid.uuid4()), ticker, fees, at_ns))

    def settle(self) -> None:
        """Let what was scheduled until now take effect; it is upcoming no longer."""
        now_ns = time.time_ns()
        for changes in (self.series_changes, self.event_changes):
            for change in sorted((one for one in changes if one.at_ns <= now_ns), key=lambda one: one.at_ns):
                changes.remove(change)
                if changes is self.event_changes:
                    self.set_override(change.ticker, change.fees)
                else:
                    self._series[change.ticker] = change.fees
                    self._charge(market for market in self._markets if market.linked.kalshi_series == change.ticker)

    def _charge(self, markets: Iterable[KalshiMarket]) -> None:
        for market in markets:
            series, override = self.series(market.linked.kalshi_series), self.override(market.linked.kalshi_event)
            market.fee_type = override.fee_type or series.fee_type or "quadratic"
            market.multiplier = Fraction(override.multiplier or series.multiplier or "1")


def number(text: str | None) -> float | int | None:
    """Return a multiplier as the venue writes it: a JSON number, whole where it is whole."""
    if text is None:
        return None
    return float(text) if "." in text else int(text)


def override_row(fees: Fees) -> dict[str, Any]:
    """Return an override as events and their messages state it."""
    return {"fee_type_override": fees.fee_type, "fee_multiplier_override": number(fees.multiplier)}


def series_change_row(change: Scheduled) -> dict[str, Any]:
    """Return a change as `GET /series/fee_changes` lists it."""
    return {
        "id": change.id,
        "series_ticker": change.ticker,
        "fee_type": change.fees.fee_type,
        "fee_multiplier": number(change.fees.multiplier),
        "scheduled_ts": _STAMP.text(change.at_ns),
    }


def event_change_row(change: Scheduled) -> dict[str, Any]:
    """Return a change as `GET /events/fee_changes` lists it."""
    return {
        "id": change.id,
        "event_ticker": change.ticker,
        **override_row(change.fees),
        "scheduled_ts": _STAMP.text(change.at_ns),
    }

"""How a simulated Kalshi market ends: determined, disputed, amended, settled, and corrected after that.

Determination closes the market (what rests is cancelled) and moves no money; settlement pays each net position, in whole
cents as the venue does, and lists it; a correction takes the difference and lists the market anew.
"""

import time
from typing import Any

from core.domain.units import ONE_DOLLAR_E4
from simulate.kalshi.exchange import KalshiExchange
from simulate.kalshi.ledger import KalshiAccount, Payment
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.text import Stamp, count_text, money_text, price_text
from simulate.matching import CancelReason

_STAMP = Stamp()
_CENT_E6 = 10_000
_PLAIN = {"yes": ONE_DOLLAR_E4, "no": 0}
_ENDED = frozenset({"determined", "disputed", "amended", "finalized"})


class NotNow(Exception):
    """A step that the market's state does not allow."""


def resolve(exchange: KalshiExchange, ticker: str, step: str, result: str = "", value_e4: int | None = None) -> None:
    """Take a market a step towards its end: determine, dispute, amend, reopen, settle or correct.

    Args:
        result: yes, no, scalar, or another word of the venue (void).
        value_e4: what one YES pays; of yes and no it follows.

    Raises:
        NotNow: the market stands elsewhere, or no value is known.
    """
    market = exchange.by_ticker[ticker]
    value_e4 = _PLAIN.get(result, value_e4)
    match step:
        case "determine" if market.status not in _ENDED and value_e4 is not None:
            _close(exchange, market)
            _decide(market, "determined", result, value_e4)
            exchange.tell_lifecycle(
                market,
                {
                    "event_type": "determined",
                    "result": result,
                    "determination_ts": int(time.time()),
                    "settlement_value": price_text(value_e4),
                },
            )
        case "dispute" if market.status in {"determined", "amended"}:
            # No life-cycle message is documented for it: only the catalogue says so.
            market.status = "disputed"
        case "amend" if market.status in {"determined", "disputed", "amended"} and value_e4 is not None:
            _decide(market, "amended", result, value_e4)
        case "reopen" if market.status in {"determined", "disputed", "amended"}:
            market.result, market.value_e4 = "", None
            exchange.set_status(ticker, "active")
        case "settle" if market.status in {"determined", "amended"}:
            market.status = "finalized"
            _pay(exchange, market)
            exchange.tell_lifecycle(market, {"event_type": "settled", "settled_ts": int(time.time())})
        case "correct" if market.status == "finalized" and value_e4 is not None:
            _decide(market, "finalized", result, value_e4)
            _pay(exchange, market)
        case _:
            raise NotNow(f"{ticker} is {market.status}: it cannot {step} at {value_e4} now")


def settlement_row(account: KalshiAccount, ticker: str, event_ticker: str) -> dict[str, Any]:
    """Return what a market paid as `GET /portfolio/settlements` lists it: revenue and value in whole cents."""
    paid = account.settlements[ticker]
    yes, no = max(paid.size_e6, 0), max(-paid.size_e6, 0)
    return {
        "ticker": ticker,
        "event_ticker": event_ticker,
        "exchange_index": account.exchange_index,
        "market_result": paid.result,
        "yes_count_fp": count_text(yes),
        "yes_total_cost_dollars": money_text(paid.cost_e6 if yes else 0),
        "no_count_fp": count_text(no),
        "no_total_cost_dollars": money_text(paid.cost_e6 if no else 0),
        "revenue": paid.revenue_cents,
        "settled_time": _STAMP.text(paid.at_ns),
        # What its fills were charged: there is no fee for being paid.
        "fee_cost": money_text(paid.fees_e6),
        "value": paid.value_e4 // 100,
    }


def _close(exchange: KalshiExchange, market: KalshiMarket) -> None:
    market.status = "closed"
    for account in exchange.accounts.values():
        for own in [own for own in account.resting.values() if own.market is market]:
            exchange.apply(market, market.matcher.cancel(own.engine, CancelReason.CLOSED))
            exchange.withdraw(own, CancelReason.CLOSED)


def _decide(market: KalshiMarket, status: str, result: str, value_e4: int) -> None:
    market.status, market.result, market.value_e4 = status, result, value_e4


def _pay(exchange: KalshiExchange, market: KalshiMarket) -> None:
    """Pay what every account holds; of one that was paid before only the difference moves."""
    value_e4 = market.value_e4
    assert value_e4 is not None
    now_ns = time.time_ns()
    for account in exchange.accounts.values():
        position = account.positions.get(market.ticker)
        before = account.settlements.get(market.ticker)
        if position is None or not (position.size_e6 or before):
            continue
        size = before.size_e6 if before else position.size_e6
        each_e4 = value_e4 if size > 0 else ONE_DOLLAR_E4 - value_e4
        cents = abs(size) * each_e4 // ONE_DOLLAR_E4 // _CENT_E6
        account.cash_e6 += (cents - (before.revenue_cents if before else 0)) * _CENT_E6
        cost_e6 = before.cost_e6 if before else position.cost_e6
        position.realized_e6 += (cents - (before.revenue_cents if before else 0)) * _CENT_E6
        position.realized_e6 -= 0 if before else cost_e6
        position.size_e6 = position.cost_e6 = 0
        position.updated_ns = now_ns
        account.settlements[market.ticker] = Payment(
            market.result, size, cents, cost_e6, position.fees_e6, value_e4, now_ns
        )
        exchange.tell_position(account, market)

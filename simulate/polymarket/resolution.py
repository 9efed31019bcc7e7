"""How a simulated Polymarket market ends: closed with a proposal, resolved at what a YES token pays, redeemed.

A resolution moves nothing: tokens stay tokens until they are redeemed, which their holder does on the chain. A market
that resolves to one token is told on the market channel; one that pays both is only in the catalogue.
"""

from core.domain.units import ONE_DOLLAR_E4
from simulate.matching import CancelReason
from simulate.polymarket.exchange import PolymarketExchange
from simulate.polymarket.market import PolymarketMarket


class NotNow(Exception):
    """A step that the market's state does not allow."""


def resolve(exchange: PolymarketExchange, condition_id: str, step: str, yes_e4: int | None = None) -> None:
    """Take a market a step towards its end: propose, reopen, resolve (at what one YES pays) or redeem.

    Raises:
        NotNow: the market stands elsewhere, or no payout is given.
    """
    market = exchange.by_condition[condition_id]
    match step:
        case "propose" if not market.closed:
            _close(exchange, market)
            market.resolution = "proposed"
        case "reopen" if market.closed and market.paid_e4 is None:
            market.closed, market.accepting, market.resolution = False, True, ""
        case "resolve" if market.paid_e4 is None and yes_e4 is not None:
            _close(exchange, market)
            market.resolution, market.paid_e4 = "resolved", yes_e4
            if yes_e4 in {0, ONE_DOLLAR_E4}:
                exchange.tell_resolved(market)
        case "redeem" if market.paid_e4 is not None:
            _redeem(exchange, market, market.paid_e4)
        case _:
            raise NotNow(f"{condition_id} is {market.resolution or 'open'}: it cannot {step} at {yes_e4} now")


def _close(exchange: PolymarketExchange, market: PolymarketMarket) -> None:
    market.accepting, market.closed = False, True
    for account in exchange.accounts.values():
        for own in [own for own in account.open.values() if own.market is market]:
            exchange.apply(market, market.matcher.cancel(own.engine, CancelReason.CLOSED))
            exchange.withdraw(own, "CANCELED_MARKET_RESOLVED")


def _redeem(exchange: PolymarketExchange, market: PolymarketMarket, yes_e4: int) -> None:
    """Turn the settled tokens of every account into collateral."""
    for account in exchange.accounts.values():
        for token, each_e4 in zip(market.tokens, (yes_e4, ONE_DOLLAR_E4 - yes_e4), strict=True):
            size = account.tokens.get(token, 0) - account.unsettled.get(token, 0)
            account.tokens[token] = account.tokens.get(token, 0) - size
            account.collateral_e6 += size * each_e4 // ONE_DOLLAR_E4

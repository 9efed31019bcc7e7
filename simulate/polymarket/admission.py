"""Whether an order may enter: who signed it, whether it can be paid, how long it lives."""

import time
from typing import Any

from core.domain.units import ONE_DOLLAR_E4
from simulate.matching import FOREVER_NS
from simulate.polymarket.amounts import GTD_EARLY_S, GTD_LEAD_S, Amounts, OrderRefused, OrderType, fee_e6
from simulate.polymarket.auth import order_digest, recover
from simulate.polymarket.ledger import PolymarketAccount
from simulate.polymarket.market import PolymarketMarket


def checked_digest(account: PolymarketAccount, order: dict[str, Any], market: PolymarketMarket, chain_id: int) -> str:
    """Return the order's digest in hex after recovering its signer.

    Raises:
        OrderRefused: it is no order, or not signed by the account.
    """
    try:
        digest = order_digest(order, chain_id=chain_id, neg_risk=market.neg_risk)
        kind = int(order["signatureType"])
        expected_maker = account.wallet.address if kind == 0 else account.wallet.funder
        maker_fits = str(order["maker"]).lower() == expected_maker.lower() and kind == account.wallet.signature_type
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise OrderRefused("Invalid order payload") from error
    if not maker_fits or recover(digest, str(order.get("signature", ""))) != account.wallet.address:
        raise OrderRefused("invalid signature")
    return digest.hex()


def check_funds(
    account: PolymarketAccount, token: str, amounts: Amounts, market: PolymarketMarket, *, is_taker: bool
) -> None:
    """Refuse what the account cannot pay or does not hold; open orders hold what they may cost.

    Raises:
        OrderRefused: with both amounts.
    """
    if amounts.buys:
        cost = amounts.budget_e6
        shares = amounts.size_e6
        if cost is None:
            cost = amounts.price_e4 * shares // ONE_DOLLAR_E4
        else:
            shares = cost * ONE_DOLLAR_E4 // amounts.price_e4
        need = cost + (fee_e6(shares, amounts.price_e4, market.fee_rate) if is_taker else 0)
        have = account.free_e6()
    else:
        need, have = amounts.size_e6, account.free_shares(token)
    if need > have:
        raise OrderRefused(
            f"not enough balance / allowance: the balance is not enough -> balance: {have}, order amount: {need}"
        )


def expiry(order: dict[str, Any], order_type: OrderType) -> int:
    """Return when an order ends (ns), a minute before the time it states.

    Raises:
        OrderRefused: a time where there must be none, or one too near.
    """
    text = str(order.get("expiration", "0"))
    if not text.isdecimal():
        raise OrderRefused("invalid expiration")
    if order_type is not OrderType.GTD:
        if text != "0":
            raise OrderRefused("invalid expiration")
        return FOREVER_NS
    if int(text) < time.time() + GTD_LEAD_S - 1:
        raise OrderRefused("invalid expiration")
    return (int(text) - GTD_EARLY_S) * 1_000_000_000

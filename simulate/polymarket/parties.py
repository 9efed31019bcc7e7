"""The two sides of a trade, ours or a stranger's."""

import hashlib
import uuid

from core.domain.units import ONE_DOLLAR_E4
from simulate.matching import Order, Side
from simulate.polymarket.ledger import MakerFill, OwnOrder
from simulate.polymarket.market import PolymarketMarket


def party_of(market: PolymarketMarket, order: Order, price: int, size: int) -> MakerFill:
    """Return one side of a trade; strangers (the flow's orders) get a token and an address made of their order's id.

    A stranger trades YES or, one time in four, NO, so that all three kinds of match occur: normal, mint and merge.
    """
    if order.tag is not None:
        own = own_of(order)
        wallet = own.account.wallet
        return MakerFill(
            own, own.order_id, wallet.api_key, wallet.funder, own.token, own.side, own.token_price(price), size
        )
    digest = hashlib.sha256(order.order_id.encode() + market.condition_id.encode()).hexdigest()
    is_yes = int(digest[0], 16) >= 4
    buys = (order.side is Side.BID) is is_yes
    return MakerFill(
        own=None,
        order_id="0x" + digest,
        owner=str(uuid.UUID(digest[:32])),
        address="0x" + digest[:40],
        token=market.tokens[0] if is_yes else market.tokens[1],
        side="BUY" if buys else "SELL",
        price_e4=price if is_yes else ONE_DOLLAR_E4 - price,
        size_e6=size,
    )


def own_of(order: Order) -> OwnOrder:
    """Return the client's order that stands behind an engine's."""
    own = order.tag
    assert isinstance(own, OwnOrder)
    return own

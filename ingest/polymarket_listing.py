"""Polymarket's list of markets over Gamma, by keyset cursor.

Source: docs.polymarket.com api-spec/gamma-openapi.yaml; fixtures: `gamma_market__*` of the captures. Listed are markets
with two tokens and an order book; a market can stand in Gamma minutes before the CLOB knows it.
"""

from collections.abc import AsyncIterator, Collection

from core.domain.errors import Reject
from core.runtime import log, metrics
from ingest.listing import Listed
from ingest.rest import RestClient
from venues.polymarket.hosts import GAMMA_MARKETS_PATH
from venues.polymarket.rest import PAGE_MAX, GammaMarket, decode_gamma_market, split_markets

LOOK_UP_CONDITIONS = 50


class PolymarketListing:
    """Polymarket's open markets."""

    changing = frozenset(
        {
            "outcomePrices",
            "bestBid",
            "bestAsk",
            "lastTradePrice",
            "spread",
            "updatedAt",
            "volume",
            "volumeNum",
            "volumeClob",
            "volumeAmm",
            "volume24hr",
            "volume1wk",
            "volume1mo",
            "volume1yr",
            "volume24hrClob",
            "volume1wkClob",
            "volume1moClob",
            "volume1yrClob",
            "liquidity",
            "liquidityNum",
            "liquidityClob",
            "liquidityAmm",
            "oneHourPriceChange",
            "oneDayPriceChange",
            "oneWeekPriceChange",
            "oneMonthPriceChange",
            "oneYearPriceChange",
            "competitive",
            "commentCount",
            "events",
        }
    )
    """`events` repeats volumes and comments of the whole event; its id and flags never change alone.

    `outcomePrices` are what a market pays once `umaResolutionStatus` says it is resolved, which is news by itself.
    """

    def __init__(self, rest: RestClient, *, page: int) -> None:
        """`page`: markets a request."""
        self._rest = rest
        self._page = min(page, PAGE_MAX)
        self._said: set[str] = set()

    async def open_markets(self) -> AsyncIterator[list[Listed]]:
        """Yield the open markets, page by page."""
        cursor = ""
        while True:
            query = {"limit": str(self._page), "closed": "false"} | ({"after_cursor": cursor} if cursor else {})
            body = await self._rest.get(GAMMA_MARKETS_PATH, query)
            markets, cursor = split_markets(body or b'{"markets":[]}')
            yield self._usable(markets)
            if not cursor or not markets:
                return

    async def look_up(self, instruments: Collection[str]) -> list[Listed]:
        """Return those of `instruments` the venue still describes, open or not."""
        conditions = [instrument.partition(":")[2] for instrument in instruments]
        found = []
        for first in range(0, len(conditions), LOOK_UP_CONDITIONS):
            some = conditions[first : first + LOOK_UP_CONDITIONS]
            for closed in ("false", "true"):
                query = {"condition_ids": some, "closed": closed, "limit": str(LOOK_UP_CONDITIONS)}
                body = await self._rest.get(GAMMA_MARKETS_PATH, query)
                found += self._usable(split_markets(body or b'{"markets":[]}')[0])
        return found

    def forget(self, event: str) -> None:
        """Nothing is kept: each description is whole."""

    def _usable(self, markets: list[bytes]) -> list[Listed]:
        listed = []
        for market in markets:
            try:
                ours = decode_gamma_market(market)
            except Reject as e:
                metrics.EVENTS.labels("ingest", "listing_unreadable").inc()
                if str(e)[:80] not in self._said and len(self._said) < PAGE_MAX:
                    self._said.add(str(e)[:80])
                    log.get().warning("market.unreadable", venue="polymarket", reason=str(e))
                continue
            if _has_book(ours):
                listed.append(Listed(f"polymarket:{ours.condition_id}", market, b"", ours.payout_e6 >= 0))
        return listed


def _has_book(market: GammaMarket) -> bool:
    return market.is_binary and market.enable_order_book

"""Kalshi's list of markets over REST: open markets by cursor, with their series (fees) and event (group) beside them.

Source: docs.kalshi.com api-reference; fixtures: `markets__*` of the captures. A market names its event, the event its
series; relations are never read out of tickers. What stands beside a market is kept and read again by `KalshiContext`.
"""

from collections.abc import AsyncIterator, Collection

import msgspec

from core.domain.errors import Reject, Unavailable
from core.runtime.clock import Clock
from ingest.kalshi_context import Beside, KalshiContext
from ingest.listing import Listed
from ingest.rest import RestClient
from venues.kalshi.hosts import API_ROOT
from venues.kalshi.rest import split_markets
from venues.text import decode

LOOK_UP_TICKERS = 100

_FINAL = frozenset({"finalized", "settled"})


class _Head(msgspec.Struct):
    ticker: str
    event_ticker: str
    status: str


_HEAD = msgspec.json.Decoder(_Head)


class KalshiListing:
    """Kalshi's open markets."""

    changing = frozenset(
        {
            "yes_bid_dollars",
            "yes_bid_size_fp",
            "yes_ask_dollars",
            "yes_ask_size_fp",
            "no_bid_dollars",
            "no_ask_dollars",
            "last_price_dollars",
            "previous_yes_bid_dollars",
            "previous_yes_ask_dollars",
            "previous_price_dollars",
            "volume_fp",
            "volume_24h_fp",
            "open_interest_fp",
            "liquidity_dollars",
            "updated_time",
        }
    )

    def __init__(
        self,
        rest: RestClient,
        clock: Clock,
        *,
        page: int,
        series: Collection[str] = (),
        context_kept_s: float = 60.0,
        context_requests_max: int = 100,
    ) -> None:
        """`series`: only these, all if empty. `page`: markets a request. `context_*`: of `KalshiContext`."""
        self._rest = rest
        self._clock = clock
        self._page = page
        self._only = tuple(series)
        self._context = KalshiContext(rest, clock, kept_s=context_kept_s, requests_max=context_requests_max)

    def forget(self, event: str) -> None:
        """Read an event of markets (`kalshi:<ticker>`) again before any of them is described the next time."""
        self._context.forget(event.partition(":")[2])

    async def open_markets(self) -> AsyncIterator[list[Listed]]:
        """Yield the open markets, page by page; the first is empty, once what stands beside them was read again."""
        await self._context.refresh()
        yield []
        for series in self._only or ("",):
            cursor = ""
            while True:
                query = {"status": "open", "limit": str(self._page)}
                query |= {"cursor": cursor} if cursor else {}
                query |= {"series_ticker": series} if series else {}
                asked_ns = self._clock.now_ns()
                try:
                    body = await self._rest.get(f"{API_ROOT}/markets", query)
                    markets, cursor = split_markets(body or b'{"markets":[]}')
                    page = await self._described(markets, asked_ns)
                except (Unavailable, Reject):
                    self._context.broke_off()
                    raise
                yield page
                if not cursor or not markets:
                    break

    async def look_up(self, instruments: Collection[str]) -> list[Listed]:
        """Return those of `instruments` the venue still describes, open or not."""
        tickers = [instrument.partition(":")[2] for instrument in instruments]
        found = []
        for first in range(0, len(tickers), LOOK_UP_TICKERS):
            query = {"tickers": ",".join(tickers[first : first + LOOK_UP_TICKERS]), "limit": str(LOOK_UP_TICKERS)}
            asked_ns = self._clock.now_ns()
            body = await self._rest.get(f"{API_ROOT}/markets", query)
            markets, _ = split_markets(body or b'{"markets":[]}')
            found += await self._described(markets, asked_ns)
        return found

    async def _described(self, markets: list[bytes], asked_ns: int) -> list[Listed]:
        heads = [decode(_HEAD, market, "kalshi market") for market in markets]
        events = {head.event_ticker for head in heads}
        await self._context.learn(events)
        beside = await self._context.beside(events)
        return [
            _listed(head, market, beside[head.event_ticker], asked_ns)
            for head, market in zip(heads, markets, strict=True)
        ]


def _listed(head: _Head, market: bytes, context: Beside | None, asked_ns: int) -> Listed:
    return Listed(
        f"kalshi:{head.ticker}",
        market,
        context.text if context else b"",
        is_final=head.status in _FINAL,
        event=f"kalshi:{head.event_ticker}",
        asked_ns=asked_ns,
        context_ns=context.asked_ns if context else 0,
        is_whole=context is not None,
    )

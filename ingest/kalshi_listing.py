"""Kalshi's list of markets over REST: open markets by cursor, with their series (fees) and event (group) beside them.

Source: docs.kalshi.com api-reference; fixtures: `markets__*` of the captures. A market names its event, the event its
series; relations are never read out of tickers.
"""

from collections.abc import AsyncIterator, Collection

import msgspec

from core.runtime.clock import Clock
from core.runtime.queues import NewestDict
from ingest.listing import Listed
from ingest.rest import RestClient
from venues.kalshi.hosts import API_ROOT
from venues.kalshi.rest import split_markets
from venues.text import decode

LOOK_UP_TICKERS = 100
EVENTS_PAGE = 200
EVENTS_ONE_BY_ONE = 10
"""More unknown events than these are fetched by page."""
EVENTS_MAX = 50_000
"""Events, and series, remembered; what was learnt longest ago is asked for again."""
SERIES_KEPT_S = 600.0
"""Fees of a series are looked up again after this long."""

_FINAL = frozenset({"finalized", "settled"})


class _Head(msgspec.Struct):
    ticker: str
    event_ticker: str
    status: str


class _EventHead(msgspec.Struct):
    event_ticker: str
    series_ticker: str


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]
    cursor: str = ""


class _Event(msgspec.Struct):
    event: msgspec.Raw


class _Series(msgspec.Struct):
    series: msgspec.Raw


_HEAD, _EVENT_HEAD = msgspec.json.Decoder(_Head), msgspec.json.Decoder(_EventHead)
_EVENTS, _EVENT, _SERIES = msgspec.json.Decoder(_Events), msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Series)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


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

    def __init__(self, rest: RestClient, clock: Clock, *, page: int, series: Collection[str] = ()) -> None:
        """`series`: only these, all if empty. `page`: markets a request."""
        self._rest = rest
        self._clock = clock
        self._page = page
        self._only = tuple(series)
        self._events: NewestDict[str, tuple[str, bytes]] = NewestDict("kalshi events", EVENTS_MAX)
        self._series: NewestDict[str, tuple[float, bytes]] = NewestDict("kalshi series", EVENTS_MAX)

    async def open_markets(self) -> AsyncIterator[list[Listed]]:
        """Yield the open markets, page by page."""
        for series in self._only or ("",):
            cursor = ""
            while True:
                query = {"status": "open", "limit": str(self._page)}
                query |= {"cursor": cursor} if cursor else {}
                query |= {"series_ticker": series} if series else {}
                body = await self._rest.get(f"{API_ROOT}/markets", query)
                markets, cursor = split_markets(body or b'{"markets":[]}')
                yield await self._described(markets)
                if not cursor or not markets:
                    break

    async def look_up(self, instruments: Collection[str]) -> list[Listed]:
        """Return those of `instruments` the venue still describes, open or not."""
        tickers = [instrument.partition(":")[2] for instrument in instruments]
        found = []
        for first in range(0, len(tickers), LOOK_UP_TICKERS):
            query = {"tickers": ",".join(tickers[first : first + LOOK_UP_TICKERS]), "limit": str(LOOK_UP_TICKERS)}
            body = await self._rest.get(f"{API_ROOT}/markets", query)
            markets, _ = split_markets(body or b'{"markets":[]}')
            found += await self._described(markets)
        return found

    async def _described(self, markets: list[bytes]) -> list[Listed]:
        heads = [decode(_HEAD, market, "kalshi market") for market in markets]
        await self._learn_events({head.event_ticker for head in heads} - set(self._events))
        listed = []
        for head, market in zip(heads, markets, strict=True):
            context = await self._context(head.event_ticker)
            listed.append(Listed(f"kalshi:{head.ticker}", market, context, head.status in _FINAL))
        return listed

    async def _context(self, event_ticker: str) -> bytes:
        known = self._events.get(event_ticker)
        if known is None:
            return b""
        series_ticker, event = known
        series = await self._series_of(series_ticker)
        if not series:
            return b""
        return b'{"series":' + series + b',"event":' + event + b"}"

    async def _series_of(self, ticker: str) -> bytes:
        now_s = self._clock.monotonic_s()
        known = self._series.get(ticker)
        if known is not None and now_s - known[0] < SERIES_KEPT_S:
            return known[1]
        body = await self._rest.get(f"{API_ROOT}/series/{ticker}")
        text = bytes(decode(_SERIES, body, "kalshi series").series) if body is not None else b""
        self._series[ticker] = (now_s, _without(text, "last_updated_ts", "volume_fp") if text else b"")
        return self._series[ticker][1]

    async def _learn_events(self, unknown: set[str]) -> None:
        cursor = ""
        while len(unknown) > EVENTS_ONE_BY_ONE:
            query = {"status": "open", "limit": str(EVENTS_PAGE)} | ({"cursor": cursor} if cursor else {})
            body = await self._rest.get(f"{API_ROOT}/events", query)
            page = decode(_EVENTS, body or b'{"events":[]}', "kalshi events")
            for event in page.events:
                self._learn(bytes(event))
            unknown = unknown - set(self._events)
            cursor = page.cursor
            if not cursor or not page.events:
                break
        for ticker in sorted(unknown):
            body = await self._rest.get(f"{API_ROOT}/events/{ticker}")
            if body is not None:
                self._learn(bytes(decode(_EVENT, body, "kalshi event").event))

    def _learn(self, event: bytes) -> None:
        head = decode(_EVENT_HEAD, event, "kalshi event")
        self._events[head.event_ticker] = (head.series_ticker, _without(event, "markets", "last_updated_ts"))


def _without(text: bytes, *fields: str) -> bytes:
    kept = {key: value for key, value in _FIELDS.decode(text).items() if key not in fields}
    return msgspec.json.encode(kept)

"""Kalshi's public REST bodies: the catalogue, books, trades.

Source: docs.kalshi.com api-reference (3.32.0); fixtures: `markets__*`, `trades__*`, `orderbook__*` of the
`kalshi` captures.
"""

import msgspec

from core.domain.errors import MalformedFrame
from venues.kalshi.wire import (
    BookSide,
    OutcomeSide,
    PriceRange,
    Trade,
    decode_levels,
    money,
    multiplier,
    positive_size,
    price,
    price_ranges,
    size,
    taker_side,
    yes_price,
)
from venues.kalshi.wire import OrderbookSnapshot as RestBook
from venues.text import decode, instant_ns, scalar_text

PAGE_MARKETS_MAX = 1_000
PAGE_DEFAULT = 100
ORDERBOOKS_MAX = 100
"""Tickers of one `GET /markets/orderbooks`."""


# --- catalogue


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """A market's description. A status or type we do not know is passed on as it came.

    `yes_bid` 0 and `yes_ask` 10,000 mean no quote. Relations are never read out of tickers.
    """

    ticker: str
    event_ticker: str
    market_type: str
    title: str
    yes_sub_title: str
    no_sub_title: str
    status: str
    result: str
    price_ranges: list[PriceRange]
    yes_bid: int
    yes_ask: int
    last_price: int
    volume: int
    open_interest: int
    notional_e6: int
    open_ns: int
    close_ns: int
    expected_expiration_ns: int
    fee_waiver_until_ns: int
    updated_ns: int
    settlement_value: int | None
    strike_type: str
    floor_strike: str
    cap_strike: str
    rules_primary: str
    rules_secondary: str
    is_combo: bool
    exchange_index: int


class Series(msgspec.Struct, frozen=True):
    """A series with its fees; an event can override them."""

    ticker: str
    title: str
    category: str
    fee_type: str
    multiplier_e6: int
    exchange_index: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event: the group whose markets exclude each other if it says so."""

    event_ticker: str
    series_ticker: str
    title: str
    mutually_exclusive: bool
    collateral_return: str
    fee_type: str
    multiplier_e6: int | None
    exchange_index: int
    markets: list[Market]


class ExchangeStatus(msgspec.Struct, frozen=True):
    """Whether the exchange is up and trades; the body of a 500, 503 and 504 of this path is one too."""

    exchange_active: bool
    trading_active: bool
    resume_ns: int
    shards_paused: tuple[int, ...] = ()
    """Shards (`exchange_index`) that do not trade; what stands above is shard 0's."""


class _Range(msgspec.Struct):
    start: str
    end: str
    step: str


class _Market(msgspec.Struct):
    ticker: str
    event_ticker: str
    status: str
    market_type: str = "binary"
    title: str = ""
    yes_sub_title: str = ""
    no_sub_title: str = ""
    result: str = ""
    price_ranges: list[_Range] | None = None
    yes_bid_dollars: str = "0"
    yes_ask_dollars: str = "1"
    last_price_dollars: str = "0"
    volume_fp: str = "0"
    open_interest_fp: str = "0"
    notional_value_dollars: str = "1"
    open_time: str = ""
    close_time: str = ""
    expected_expiration_time: str | None = None
    fee_waiver_expiration_time: str | None = None
    updated_time: str | None = None
    settlement_value_dollars: str | None = None
    strike_type: str | None = None
    floor_strike: msgspec.Raw = msgspec.Raw()
    cap_strike: msgspec.Raw = msgspec.Raw()
    rules_primary: str = ""
    rules_secondary: str = ""
    mve_collection_ticker: str | None = None
    exchange_index: int = 0


class _Series(msgspec.Struct):
    ticker: str
    fee_type: str
    fee_multiplier: msgspec.Raw
    title: str = ""
    category: str = ""
    exchange_index: int = 0


class _Event(msgspec.Struct):
    event_ticker: str
    series_ticker: str
    title: str = ""
    mutually_exclusive: bool = False
    collateral_return_type: str | None = None
    fee_type_override: str | None = None
    fee_multiplier_override: msgspec.Raw = msgspec.Raw()
    exchange_index: int = 0
    markets: list[_Market] | None = None


class _Markets(msgspec.Struct):
    markets: list[msgspec.Raw]
    cursor: str = ""


class _OneMarket(msgspec.Struct):
    market: msgspec.Raw


class _OneSeries(msgspec.Struct):
    series: _Series


class _Events(msgspec.Struct):
    events: list[_Event]
    cursor: str = ""


class _ShardStatus(msgspec.Struct):
    exchange_index: int
    exchange_active: bool = True
    trading_active: bool = True


class _Status(msgspec.Struct):
    exchange_active: bool
    trading_active: bool
    exchange_estimated_resume_time: str | None = None
    exchange_index_statuses: list[_ShardStatus] | None = None


class _Source(msgspec.Struct):
    name: str = ""
    url: str = ""


class _Decided(msgspec.Struct):
    settlement_sources: list[_Source] | None = None
    contract_terms_url: str | None = None


class _Deciders(msgspec.Struct):
    event: _Decided | None = None
    series: _Decided | None = None


_MARKET, _MARKETS = msgspec.json.Decoder(_Market), msgspec.json.Decoder(_Markets)
_ONE_MARKET, _SERIES = msgspec.json.Decoder(_OneMarket), msgspec.json.Decoder(_OneSeries)
_EVENTS, _STATUS = msgspec.json.Decoder(_Events), msgspec.json.Decoder(_Status)


_DECIDERS = msgspec.json.Decoder(_Deciders)


def decode_deciders(context: bytes) -> list[str]:
    """Return who decides a market and by which contract, as its event and series (`{"event":…,"series":…}`) say it."""
    if not context:
        return []
    stated = decode(_DECIDERS, context, "kalshi context")
    found: list[str] = []
    for part in (stated.event, stated.series):
        if part is not None:
            found += [f"{source.name} {source.url}".strip() for source in part.settlement_sources or ()]
            found += [part.contract_terms_url] if part.contract_terms_url else []
    return found


def split_markets(body: bytes) -> tuple[list[bytes], str]:
    """Return the markets of a page, each as the venue wrote it, and the cursor of the next page (`""`: none)."""
    page = decode(_MARKETS, body, "kalshi markets")
    return [bytes(raw) for raw in page.markets], page.cursor


def split_market(body: bytes) -> bytes:
    """Return the market of `GET /markets/{ticker}`, as the venue wrote it."""
    return bytes(decode(_ONE_MARKET, body, "kalshi market").market)


def decode_market(description: bytes) -> Market:
    """Return one market's description."""
    return _market(decode(_MARKET, description, "kalshi market"))


def decode_series(body: bytes) -> Series:
    """Return the series of `GET /series/{ticker}`."""
    raw = decode(_SERIES, body, "kalshi series").series
    factor = multiplier(raw.fee_multiplier, f"series {raw.ticker}")
    if factor is None:
        raise MalformedFrame(f"kalshi series {raw.ticker}: expected a fee_multiplier, found null")
    return Series(raw.ticker, raw.title, raw.category, raw.fee_type, factor, raw.exchange_index)


def decode_events(body: bytes) -> tuple[list[Event], str]:
    """Return a page of events (with their markets, where they were asked for) and the cursor of the next."""
    page = decode(_EVENTS, body, "kalshi events")
    return [_event(raw) for raw in page.events], page.cursor


def decode_exchange_status(body: bytes) -> ExchangeStatus:
    """Return the exchange's state; `resume_ns` is 0 where it states no time."""
    raw = decode(_STATUS, body, "kalshi exchange status")
    resume = instant_ns(raw.exchange_estimated_resume_time or "", "exchange status")
    paused = tuple(
        shard.exchange_index
        for shard in raw.exchange_index_statuses or ()
        if not (shard.exchange_active and shard.trading_active)
    )
    return ExchangeStatus(raw.exchange_active, raw.trading_active, resume, paused)


def _event(raw: _Event) -> Event:
    return Event(
        event_ticker=raw.event_ticker,
        series_ticker=raw.series_ticker,
        title=raw.title,
        mutually_exclusive=raw.mutually_exclusive,
        collateral_return=raw.collateral_return_type or "",
        fee_type=raw.fee_type_override or "",
        multiplier_e6=multiplier(raw.fee_multiplier_override, f"event {raw.event_ticker}"),
        exchange_index=raw.exchange_index,
        markets=[_market(one) for one in raw.markets or []],
    )


def _market(raw: _Market) -> Market:
    where = f"market {raw.ticker}"
    settled = raw.settlement_value_dollars
    return Market(
        ticker=raw.ticker,
        event_ticker=raw.event_ticker,
        market_type=raw.market_type,
        title=raw.title,
        yes_sub_title=raw.yes_sub_title,
        no_sub_title=raw.no_sub_title,
        status=raw.status,
        result=raw.result,
        price_ranges=price_ranges([(b.start, b.end, b.step) for b in raw.price_ranges or []], where),
        yes_bid=price(raw.yes_bid_dollars, where),
        yes_ask=price(raw.yes_ask_dollars, where),
        last_price=price(raw.last_price_dollars, where),
        volume=size(raw.volume_fp, where),
        open_interest=size(raw.open_interest_fp, where),
        notional_e6=money(raw.notional_value_dollars, where),
        open_ns=instant_ns(raw.open_time, where),
        close_ns=instant_ns(raw.close_time, where),
        expected_expiration_ns=instant_ns(raw.expected_expiration_time or "", where),
        fee_waiver_until_ns=instant_ns(raw.fee_waiver_expiration_time or "", where),
        updated_ns=instant_ns(raw.updated_time or "", where),
        settlement_value=price(settled, where) if settled else None,
        strike_type=raw.strike_type or "",
        floor_strike=scalar_text(raw.floor_strike),
        cap_strike=scalar_text(raw.cap_strike),
        rules_primary=raw.rules_primary,
        rules_secondary=raw.rules_secondary,
        is_combo=bool(raw.mve_collection_ticker),
        exchange_index=raw.exchange_index,
    )


# --- books and trades


class _Sides(msgspec.Struct):
    yes_dollars: list[tuple[str, str]] | None = None
    no_dollars: list[tuple[str, str]] | None = None


class _Book(msgspec.Struct):
    orderbook_fp: _Sides


class _NamedBook(msgspec.Struct):
    ticker: str
    orderbook_fp: msgspec.Raw


class _Books(msgspec.Struct):
    orderbooks: list[_NamedBook]


class _RestTrade(msgspec.Struct):
    trade_id: str
    ticker: str
    count_fp: str
    yes_price_dollars: str
    created_time: str
    no_price_dollars: str = ""
    taker_book_side: BookSide | None = None
    taker_outcome_side: OutcomeSide | None = None
    taker_side: OutcomeSide | None = None
    is_block_trade: bool = False


class _Trades(msgspec.Struct):
    trades: list[_RestTrade]
    cursor: str = ""


_BOOK, _BOOKS, _TRADES = msgspec.json.Decoder(_Book), msgspec.json.Decoder(_Books), msgspec.json.Decoder(_Trades)


def split_orderbooks(body: bytes) -> dict[str, bytes]:
    """Return the books of `GET /markets/orderbooks` by ticker, each as the venue answers for it alone."""
    books = decode(_BOOKS, body, "kalshi orderbooks").orderbooks
    return {book.ticker: b'{"orderbook_fp":' + bytes(book.orderbook_fp) + b"}" for book in books}


def decode_rest_book(body: bytes, ticker: str) -> RestBook:
    """Return the book of `GET /markets/{ticker}/orderbook` on the YES scale.

    REST prices a NO bid as NO always, whatever the WebSocket's flag. There is no sequence number and no time: this book
    audits, it never heals.
    """
    sides = decode(_BOOK, body, "kalshi orderbook").orderbook_fp
    where = f"orderbook of {ticker}"
    return RestBook(
        ticker,
        "",
        decode_levels(sides.yes_dollars or [], where, mirrored=False, ascending=False),
        decode_levels(sides.no_dollars or [], where, mirrored=True, ascending=True),
    )


def decode_trades(body: bytes) -> tuple[list[Trade], str]:
    """Return a page of public trades, newest first, and the cursor of the next."""
    page = decode(_TRADES, body, "kalshi trades")
    return [_trade(raw) for raw in page.trades], page.cursor


def _trade(raw: _RestTrade) -> Trade:
    where = f"trade {raw.trade_id}"
    return Trade(
        raw.trade_id,
        raw.ticker,
        yes_price(raw.yes_price_dollars, raw.no_price_dollars, where),
        positive_size(raw.count_fp, where),
        taker_side(raw.taker_book_side, raw.taker_outcome_side or raw.taker_side, where),
        raw.is_block_trade,
        instant_ns(raw.created_time, where),
    )

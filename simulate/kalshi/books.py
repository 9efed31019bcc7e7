"""Books, deltas, trades and tickers as Kalshi's WebSocket writes them."""

from core.domain.units import ONE_DOLLAR_E4
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.text import Stamp, count_text, price_text
from simulate.matching import Matcher, Order, Side

_STAMP = Stamp()


# hot: each change of each book
def delta_text(market: KalshiMarket, order: Order, change_e6: int, now_ns: int, *, use_yes_price: bool) -> str:
    """Return the `msg` of an `orderbook_delta`: a signed change of one level."""
    if order.side is Side.BID:
        side, price = "yes", order.price
    else:
        side, price = "no", order.price if use_yes_price else ONE_DOLLAR_E4 - order.price
    return (
        f'{{"market_ticker":"{market.ticker}","market_id":"{market.market_id}",'
        f'"price_dollars":"{price_text(price)}","delta_fp":"{count_text(change_e6)}","side":"{side}",'
        f'"ts":"{_STAMP.text(now_ns)}","ts_ms":{now_ns // 1_000_000}}}'
    )


def trade_text(market: KalshiMarket, trade_id: str, price_e4: int, size_e6: int, taker: Side, now_ns: int) -> str:
    """Return the `msg` of a public `trade`."""
    side = "yes" if taker is Side.BID else "no"
    return (
        f'{{"trade_id":"{trade_id}","market_ticker":"{market.ticker}","yes_price_dollars":"{price_text(price_e4)}",'
        f'"no_price_dollars":"{price_text(ONE_DOLLAR_E4 - price_e4)}","count_fp":"{count_text(size_e6)}",'
        f'"taker_side":"{side}","taker_outcome_side":"{side}","taker_book_side":"{taker.value}",'
        f'"is_block_trade":false,"ts":{now_ns // 1_000_000_000},"ts_ms":{now_ns // 1_000_000}}}'
    )


def top_of(book: Matcher) -> tuple[int, int, int, int]:
    """Return best bid, its size, best ask, its size; 0 and 10,000 where there is none."""
    bid, ask = book.best_bid(), book.best_ask()
    return (
        bid or 0,
        book.level_size(Side.BID, bid) if bid else 0,
        ask or ONE_DOLLAR_E4,
        book.level_size(Side.ASK, ask) if ask else 0,
    )


def book_sides(book: Matcher, *, use_yes_price: bool) -> str:
    """Return the sides of a snapshot, ascending prices; an empty side has no key."""
    text = ""
    bids = book.levels(Side.BID)[::-1]
    if bids:
        text += ',"yes_dollars_fp":[' + _level_texts(bids) + "]"
    asks = book.levels(Side.ASK)
    if asks:
        levels = asks if use_yes_price else [(ONE_DOLLAR_E4 - price, size) for price, size in reversed(asks)]
        text += ',"no_dollars_fp":[' + _level_texts(levels) + "]"
    return text


def _level_texts(levels: list[tuple[int, int]]) -> str:
    return ",".join(f'["{price_text(price)}","{count_text(size)}"]' for price, size in levels)


def ticker_text(market: KalshiMarket, now_ns: int) -> str:
    """Return the `msg` of a `ticker`."""
    bid, bid_size, ask, ask_size = top_of(market.matcher)
    return (
        f'{{"market_id":"{market.market_id}","market_ticker":"{market.ticker}",'
        f'"price_dollars":"{price_text(market.last_price_e4)}","yes_bid_dollars":"{price_text(bid)}",'
        f'"yes_ask_dollars":"{price_text(ask)}","volume_fp":"{count_text(market.volume_e6)}",'
        f'"open_interest_fp":"{count_text(market.volume_e6)}","yes_bid_size_fp":"{count_text(bid_size)}",'
        f'"yes_ask_size_fp":"{count_text(ask_size)}","last_trade_size_fp":"{count_text(market.last_size_e6)}",'
        f'"ts":{now_ns // 1_000_000_000},"ts_ms":{now_ns // 1_000_000}}}'
    )

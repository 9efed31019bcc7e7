"""Markets, events, series and the REST book as Kalshi describes them."""

from typing import Any

from core.domain.units import ONE_DOLLAR_E4
from simulate.kalshi.books import top_of
from simulate.kalshi.market import KalshiMarket
from simulate.kalshi.statements import NS_PER_S, Fees, number, override_row
from simulate.kalshi.text import Stamp, count_text, price_ranges, price_text
from simulate.matching import Side
from simulate.universe import question_of

OPEN_TIME = "2026-01-01T00:00:00Z"
_STAMP = Stamp()


def market_row(market: KalshiMarket) -> dict[str, Any]:
    """Return a market object."""
    bid, bid_size, ask, ask_size = top_of(market.matcher)
    question = question_of(market.linked.key)
    close_time = _STAMP.text(market.close_s * NS_PER_S)
    return {
        "ticker": market.ticker,
        "event_ticker": market.linked.kalshi_event,
        "market_type": "binary",
        "title": question,
        "subtitle": "",
        "yes_sub_title": "Yes",
        "no_sub_title": "No",
        "created_time": OPEN_TIME,
        "updated_time": OPEN_TIME,
        "open_time": OPEN_TIME,
        "close_time": close_time,
        "expected_expiration_time": close_time,
        "expiration_time": close_time,
        "latest_expiration_time": close_time,
        "settlement_timer_seconds": 60,
        "status": market.status,
        "yes_bid_dollars": price_text(bid),
        "yes_bid_size_fp": count_text(bid_size),
        "yes_ask_dollars": price_text(ask),
        "yes_ask_size_fp": count_text(ask_size),
        "no_bid_dollars": price_text(ONE_DOLLAR_E4 - ask),
        "no_ask_dollars": price_text(ONE_DOLLAR_E4 - bid),
        "last_price_dollars": price_text(market.last_price_e4),
        "volume_fp": count_text(market.volume_e6),
        "volume_24h_fp": count_text(market.volume_e6),
        "open_interest_fp": count_text(market.volume_e6),
        "notional_value_dollars": "1.0000",
        "previous_yes_bid_dollars": "0.0000",
        "previous_yes_ask_dollars": "0.0000",
        "previous_price_dollars": "0.0000",
        "result": market.result,
        **({} if market.value_e4 is None else {"settlement_value_dollars": price_text(market.value_e4)}),
        "can_close_early": True,
        "expiration_value": "",
        "strike_type": "custom",
        "rules_primary": f"If {question} resolves to yes, the market resolves to Yes.",
        "rules_secondary": "",
        "price_level_structure": market.structure,
        "price_ranges": price_ranges(market.grid),
        "exchange_index": market.exchange_index,
        "settlement_bounds_type": "default",
    }


def event_row(
    markets: list[KalshiMarket], name: str, nested: bool, override: Fees, sources: list[dict[str, str]]
) -> dict[str, Any]:
    """Return an event object, with its markets when `nested`."""
    inside = [market for market in markets if market.linked.kalshi_event == name]
    series = inside[0].linked.kalshi_series
    row: dict[str, Any] = {
        "event_ticker": name,
        "series_ticker": series,
        "title": f"Simulated event {name}",
        "sub_title": "",
        "collateral_return_type": "",
        "mutually_exclusive": False,
        **override_row(override),
        "settlement_sources": sources,
        "exchange_index": 0,
        "last_updated_ts": OPEN_TIME,
    }
    if nested:
        row["markets"] = [market_row(market) for market in inside]
    return row


def series_row(series: str, fees: Fees) -> dict[str, Any]:
    """Return a series object with its fee rule."""
    return {
        "ticker": series,
        "frequency": "daily",
        "title": f"Simulated series {series}",
        "category": "Simulation",
        "categories": ["Simulation"],
        "tags": [],
        "settlement_sources": [],
        "contract_url": "",
        "contract_terms_url": "",
        "fee_type": fees.fee_type,
        "fee_multiplier": number(fees.multiplier),
        "additional_prohibitions": [],
        "last_updated_ts": OPEN_TIME,
        "exchange_index": 0,
    }


def orderbook(market: KalshiMarket, depth: int) -> dict[str, Any]:
    """Return the REST book: NO-leg prices always, ascending, best last."""
    yes = market.matcher.levels(Side.BID)
    no = [(ONE_DOLLAR_E4 - price, size) for price, size in market.matcher.levels(Side.ASK)]
    cut = depth or None
    return {
        "orderbook_fp": {
            "yes_dollars": [[price_text(price), count_text(size)] for price, size in yes[:cut][::-1]],
            "no_dollars": [[price_text(price), count_text(size)] for price, size in no[:cut][::-1]],
        }
    }

"""The linked markets both venues list: the same question under each venue's own names.

Everything follows from the seed and the market's place, so two runs of one seed have the same instruments.
"""

import hashlib
import random
from typing import Any, NamedTuple

KALSHI_SERIES: dict[str, tuple[str, str, str]] = {
    # series: (fee_type, fee_multiplier, structure); kinds and multipliers as kalshi.md section 5 counts them.
    "KXSIMTEMP": ("quadratic", "1", "linear_cent"),
    "KXSIMGAME": ("quadratic_with_maker_fees", "1", "linear_cent"),
    "KXSIMINX": ("quadratic", "0.5", "tapered_deci_cent"),
    "KXSIMRATE": ("quadratic", "1", "deci_cent"),
}
POLYMARKET_FEES: tuple[tuple[str, str], ...] = (
    # (feeType, rate) in the order in which the markets take them.
    ("politics_fees", "0.04"),
    ("weather_fees", "0.05"),
    ("crypto_fees_v2", "0.07"),
    ("finance_prices_fees", "0.04"),
)
MARKETS_PER_EVENT = 5
EXCLUSIVE_SERIES = "KXSIMINX"
_SERIES = tuple(KALSHI_SERIES)


class LinkedMarket(NamedTuple):
    """One question on both venues. `inverted`: Polymarket's YES is Kalshi's NO."""

    key: str
    place: int
    kalshi_series: str
    kalshi_event: str
    kalshi_ticker: str
    kalshi_market_id: str
    condition_id: str
    question_id: str
    yes_token: str
    no_token: str
    inverted: bool
    neg_risk: bool
    tick_e4: int
    fee_type: str
    fee_rate: str
    delayed: bool

    @property
    def polarity(self) -> str:
        """Return how the Polymarket market's YES relates to Kalshi's YES."""
        return "OPPOSITE" if self.inverted else "SAME"


def make_universe(
    seed: int, count: int, *, inverted_share: float, neg_risk_share: float, delayed_share: float
) -> list[LinkedMarket]:
    """Return `count` linked markets."""
    rng = random.Random(f"universe/{seed}")
    inverted = set(rng.sample(range(count), round(count * inverted_share)))
    neg_risk = set(rng.sample(range(count), round(count * neg_risk_share)))
    delayed = set(rng.sample(range(count), round(count * delayed_share)))
    return [
        _market(seed, index, inverted=index in inverted, neg_risk=index in neg_risk, delayed=index in delayed)
        for index in range(count)
    ]


def question_of(key: str) -> str:
    """Return the question of a linked market, the same words on both venues."""
    return f"Will simulated outcome {key} happen?"


def events(universe: list[LinkedMarket], count: int) -> list[list[LinkedMarket]]:
    """Return the markets of the first `count` Kalshi events of which one outcome must win: those with half the fee."""
    found: dict[str, list[LinkedMarket]] = {}
    for market in universe:
        if market.kalshi_series == EXCLUSIVE_SERIES:
            found.setdefault(market.kalshi_event, []).append(market)
    return [markets for markets in found.values() if len(markets) > 1][:count]


def links(universe: list[LinkedMarket], exclusive: int = 0) -> dict[str, Any]:
    """Return the pairs and exclusive events as `links.json` lists them."""
    return {
        "events": [
            {"key": markets[0].kalshi_event, "tickers": [market.kalshi_ticker for market in markets]}
            for markets in events(universe, exclusive)
        ],
        "links": [
            {
                "key": market.key,
                "kalshi": {"ticker": market.kalshi_ticker, "event_ticker": market.kalshi_event},
                "polymarket": {
                    "condition_id": market.condition_id,
                    "yes_token_id": market.yes_token,
                    "no_token_id": market.no_token,
                },
                "polarity": market.polarity,
            }
            for market in universe
        ],
    }


def _market(seed: int, index: int, *, inverted: bool, neg_risk: bool, delayed: bool) -> LinkedMarket:
    key = f"s{seed}m{index:04d}"
    series = _SERIES[index % len(_SERIES)]
    event = f"{series}-26DEC{1 + index // (len(_SERIES) * MARKETS_PER_EVENT) % 28:02d}"
    fee_type, fee_rate = POLYMARKET_FEES[index % len(POLYMARKET_FEES)]
    return LinkedMarket(
        key=key,
        place=index,
        kalshi_series=series,
        kalshi_event=event,
        # The dot is on purpose: real tickers contain one although the specification's pattern forbids it.
        kalshi_ticker=f"{event}-T{index}.5",
        kalshi_market_id=_uuid_text(_digest(key, "kalshi")),
        condition_id="0x" + _digest(key, "condition").hex(),
        question_id="0x" + _digest(key, "question").hex(),
        yes_token=str(int.from_bytes(_digest(key, "yes"), "big")),
        no_token=str(int.from_bytes(_digest(key, "no"), "big")),
        inverted=inverted,
        neg_risk=neg_risk,
        tick_e4=10 if index % 4 == 3 else 100,
        fee_type=fee_type,
        fee_rate=fee_rate,
        delayed=delayed,
    )


def _digest(key: str, part: str) -> bytes:
    return hashlib.sha256(f"crossbook-sim/{key}/{part}".encode()).digest()


def _uuid_text(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

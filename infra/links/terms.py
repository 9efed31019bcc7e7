"""What a venue's description of a market says, in terms that can be compared: words, names, dates, strikes, source.

Nothing here is sure: titles are prose. Each finding is a reason for a human to look at, never a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from core.domain.errors import Reject
from infra.links import prose
from infra.links.prose import Day, Strike
from schemas.market import Instrument
from schemas.raw import Description
from venues.kalshi import rest as kalshi
from venues.polymarket import rest as polymarket


@dataclass(frozen=True)
class Terms:
    """One instrument, read."""

    instrument: str
    venue: str
    event_group: str
    title: str
    """with the outcome, where the venue states it beside the title"""
    rules: str
    text: str = ""
    """the title in comparable words"""
    names: frozenset[str] = frozenset()
    days: frozenset[Day] = frozenset()
    times: frozenset[str] = frozenset()
    """of day"""
    strikes: frozenset[Strike] = frozenset()
    negated: bool = False
    """it pays when something does not happen"""
    cutoffs_ns: tuple[int, ...] = ()
    """when it closes, and when the venue expects it decided"""
    sources: frozenset[str] = frozenset()
    """who decides it, as words and hosts in the rules"""
    keys: frozenset[str] = field(default_factory=frozenset)
    """words by which candidates are found"""


# --- reading


def read(description: Description, instrument: Instrument) -> Terms:
    """Return the terms of one market; what cannot be read leaves its field empty.

    Raises:
        Reject: the description is not what its venue writes.
    """
    if description.venue == "kalshi":
        return _kalshi(description, instrument)
    if description.venue == "polymarket":
        return _polymarket(description, instrument)
    raise Reject(f"{description.instrument}: no reader of the descriptions of {description.venue!r}")


def _kalshi(description: Description, instrument: Instrument) -> Terms:
    market = kalshi.decode_market(description.payload)
    title = market.title.replace("*", "")
    outcome = market.yes_sub_title
    if outcome.casefold() not in {"", "yes", "no"} and outcome.casefold() not in title.casefold():
        title = f"{title} {outcome}"
    stated = _stated_strikes(market)
    return _terms(
        instrument,
        title=title,
        rules=f"{market.rules_primary}\n{market.rules_secondary}".strip(),
        cutoffs_ns=(market.close_ns, market.expected_expiration_ns),
        strikes=frozenset(stated) | (frozenset(prose.strikes_in(outcome)) if stated else frozenset()),
        source="\n".join(kalshi.decode_deciders(description.context)),
    )


def _polymarket(description: Description, instrument: Instrument) -> Terms:
    market = polymarket.decode_gamma_market(description.payload)
    return _terms(
        instrument,
        title=market.question,
        rules=market.description.strip(),
        cutoffs_ns=(market.end_ns, market.game_start_ns),
        strikes=frozenset(),
        source=market.resolution_source,
    )


def _terms(
    instrument: Instrument,
    *,
    title: str,
    rules: str,
    cutoffs_ns: tuple[int, ...],
    strikes: frozenset[Strike],
    source: str,
) -> Terms:
    plain = prose.plain(title)
    days = frozenset(prose.days_in(plain))
    names = frozenset(prose.names_in(title))
    text = " ".join(prose.words_in(plain))
    return Terms(
        instrument=instrument.instrument,
        venue=instrument.venue,
        event_group=instrument.event_group,
        title=title,
        rules=rules,
        text=text,
        names=names,
        days=days or frozenset(prose.days_in(prose.plain(rules.partition("\n")[0]))),
        times=frozenset(prose.times_in(plain)),
        strikes=strikes or frozenset(prose.strikes_in(plain)),
        negated=prose.is_negated(plain),
        cutoffs_ns=tuple(moment for moment in cutoffs_ns if moment),
        sources=frozenset(prose.sources_in(f"{rules}\n{source}")),
        keys=names | {word for word in text.split() if len(word) > 3 and word not in prose.STOP},
    )


def _stated_strikes(market: kalshi.Market) -> list[Strike]:
    """Return the strikes the venue states as fields."""
    floor, cap = _number(market.floor_strike), _number(market.cap_strike)
    found: list[Strike] = []
    match market.strike_type:
        case "greater" | "greater_or_equal" if floor is not None:
            found = [Strike("UP", floor, market.strike_type == "greater_or_equal")]
        case "less" | "less_or_equal" if cap is not None:
            found = [Strike("DOWN", cap, market.strike_type == "less_or_equal")]
        case "between" if floor is not None and cap is not None:
            found = [Strike("IN", floor, True), Strike("IN", cap, True)]
        case _:
            pass
    return found


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return None

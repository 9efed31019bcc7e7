"""An event of three outcomes: two markets of Kalshi's and one of Polymarket's, at most one of which wins."""

from schemas import decision
from schemas.market import Instrument

ONE = 1_000_000
A, B, C = "polymarket:0xe1", "kalshi:KX-E2", "kalshi:KX-E3"
NAMES = (A, B, C)
KALSHIS = ("kalshi:KX-K1", "kalshi:KX-K2", "kalshi:KX-K3")
"""Of another event, all of whose markets are Kalshi's: an order there answers at once, and its fill stays."""


def event(make, names=NAMES, *, exhaustive: bool = True, void_e6: int | None = None, **changes) -> decision.Link:
    """Return the approved link of an event: one state for each outcome, one for a void if it pays something."""
    rows = [[ONE if column == row else 0 for column in range(len(names))] for row in range(len(names))]
    states = [f"{name} wins" for name in names]
    if void_e6 is not None:
        rows.append([void_e6] * len(names))
        states.append("void")
    fields = dict(
        id="E1",
        kind="EVENT",
        instrument_a="",
        instrument_b="",
        polarity="UNKNOWN",
        states=states,
        payout_a_e6=[],
        payout_b_e6=[],
        instruments=list(names),
        payouts_e6=[paid for row in rows for paid in row],
        exhaustive=exhaustive,
    )
    return make.link(**{**fields, **changes})


def markets(make, names=NAMES, **changes) -> list[Instrument]:
    return [make.instrument(name, event_group="E", **changes) for name in names]


def buy_all(make, prices=(3_000, 3_000, 3_000), size: int = 10 * ONE, *, names=NAMES, **changes) -> decision.Intent:
    """Return the intent to buy `size` of each outcome at its price."""
    legs = [make.leg(name, "BUY", [(price, size)]) for name, price in zip(names, prices, strict=True)]
    return make.intent(**{**dict(id="event-1", strategy="ex-1", link="E1", legs=legs, profit_e6=0), **changes})


def started(make, names=NAMES, **start):
    """Return the accounts' log with the event known and both venues ready."""
    log = make.accounts()
    for record in (*markets(make, names), event(make, names)):
        log.feed(record)
    return log.start(**start)

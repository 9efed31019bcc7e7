"""Whether the legs of an intent leave together or one by one, and why: asked by the strategy, granted where it is right.

Legs that leave together take as long as one answer, and risk that one finds what another does not. That is right only
where a fill is known at once and stays: a venue that may delay a taker, or whose settlement may fail, makes the leg
uncertain for seconds, and everything that was entered beside it would have to be taken back.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from decide.conduct import CONDUCTS, Conduct
from schemas.decision import Intent
from schemas.enums import LegOrder
from schemas.market import Instrument

Reason = Literal["AS_ASKED", "ONE_LEG", "NOT_AN_ENTRY", "MAY_FAIL", "MAY_WAIT", "MAY_REST", "TOO_MANY"]
"""For the operator, why legs that were to leave together do not: there is one only; it reduces or rests; a settlement
may fail; a taker may be delayed; an order may rest; the venue's least rate budget would hold some of them up."""


class Chosen(NamedTuple):
    """How the legs leave."""

    order: LegOrder
    reason: Reason


def choose(intent: Intent, instruments: Sequence[Instrument]) -> Chosen:
    """Return how the legs of an intent leave; `instruments` are those of its legs."""
    if intent.leg_order != "TOGETHER":
        return Chosen("ONE_BY_ONE", "AS_ASKED")
    reason = _why_not(intent, Counter(instrument.venue for instrument in instruments))
    return Chosen("ONE_BY_ONE", reason) if reason is not None else Chosen("TOGETHER", "AS_ASKED")


def _why_not(intent: Intent, counts: Counter[str]) -> Reason | None:
    if len(intent.legs) == 1:
        return "ONE_LEG"
    if any(leg.reduces or leg.rests for leg in intent.legs):
        return "NOT_AN_ENTRY"
    reasons = (doubt(CONDUCTS[venue], count) for venue, count in counts.items())
    return next((reason for reason in reasons if reason is not None), None)


def doubt(conduct: Conduct, orders: int) -> Reason | None:
    """Return why so many orders at a venue may not leave at once, None if they may."""
    if conduct.settles_later:
        return "MAY_FAIL"
    if conduct.delays_takers:
        return "MAY_WAIT"
    if conduct.time_in_force not in {"IOC", "FOK"}:
        return "MAY_REST"
    return "TOO_MANY" if orders > conduct.together_max else None

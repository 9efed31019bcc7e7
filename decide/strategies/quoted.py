"""What passive quoting remembers of an instrument: its quotes, what stands of each, and the places they left lately."""

from dataclasses import dataclass, field
from typing import NamedTuple

from core.runtime.clock import NS_PER_S
from decide.strategies.fair_value import Ours
from schemas.enums import Side

SIDES: tuple[Side, Side] = ("BUY", "SELL")
SIGN = {"BUY": 1, "SELL": -1}
SAGAS_MAX = 64
"""Sagas of one instrument whose outcome is still heard: a settlement may fail long after its saga ended."""
LINGER_NS = 5 * NS_PER_S
"""For so long after a quote left a price what stands there counts as ours: books and words lag."""
GHOSTS_MAX = 16
"""Such places kept for one instrument; the oldest is forgotten."""


class Target(NamedTuple):
    """Where a quote should be; `left` is what should remain to be filled."""

    price: int
    left: int
    reduces: bool


@dataclass
class Offer:
    """One quote, from its intent to its end.

    Attributes:
        price: as it was asked for last; `stands` as accounts said it rests, 0 before.
        total: as it was asked for last, what is filled included; `reach` is the largest ever.
        stood: what accounts say stands of it.
        pulled: it was taken back, and its end is awaited.
    """

    intent: str
    price: int
    total: int
    reach: int
    expires_s: int
    asked_ns: int
    reduces: bool
    stands: int = 0
    stood: int = 0
    pulled: bool = False

    @property
    def left(self) -> int:
        """What may still be filled of it, at the most."""
        return max(self.reach - self.stood, 0)


class Ghost(NamedTuple):
    """A place that one of our quotes left lately."""

    side: Side
    price: int
    size: int
    until_ns: int


@dataclass
class Watch:
    """What is remembered of one instrument.

    Attributes:
        sagas: saga -> its YES side, +1 or -1, and what of it stands.
        position: sum of them, and of those forgotten.
        not_held_until_ns: until then nothing that is held is offered as such.
        vain: how often in a row the quotes of a side ended before they stood on the book.
    """

    offers: dict[Side, Offer] = field(default_factory=dict)
    sagas: dict[str, tuple[int, int]] = field(default_factory=dict)
    position: int = 0
    rests_until_ns: dict[Side, int] = field(default_factory=dict)
    ghosts: list[Ghost] = field(default_factory=list)
    not_held_until_ns: int = 0
    vain: dict[Side, int] = field(default_factory=dict)

    def listen(self, saga: str, side: Side) -> None:
        """Hear of a saga from now on; the oldest that ended is forgotten."""
        self.sagas[saga] = (SIGN[side], 0)
        live = {offer.intent for offer in self.offers.values()}
        for name in list(self.sagas)[: max(len(self.sagas) - SAGAS_MAX, 0)]:
            if name not in live:
                del self.sagas[name]

    def count(self, saga: str, stands: int) -> int:
        """Take what stands of a saga; return its YES side, +1 or -1."""
        sign, stood = self.sagas[saga]
        self.sagas[saga] = (sign, stands)
        self.position += sign * (stands - stood)
        return sign

    def places(self, side: Side) -> set[int]:
        """Return the prices at which a quote of ours may stand."""
        offer = self.offers.get(side)
        return {offer.price, offer.stands} - {0} if offer is not None else set()

    def ours(self, side: Side, now_ns: int) -> Ours:
        """Return what may be ours at each price of a side of the book."""
        found: dict[int, int] = {}
        for ghost in self.ghosts:
            if ghost.side == side and ghost.until_ns > now_ns:
                found[ghost.price] = max(found.get(ghost.price, 0), ghost.size)
        offer = self.offers.get(side)
        if offer is not None:
            for price in sorted(self.places(side)):
                found[price] = max(found.get(price, 0), offer.left)
        return found

    def leave(self, side: Side, offer: Offer, now_ns: int) -> None:
        """Remember where an offer was."""
        self.ghosts = [ghost for ghost in self.ghosts if ghost.until_ns > now_ns]
        for price in sorted({offer.price, offer.stands} - {0}):
            self.ghosts.append(Ghost(side, price, offer.left, now_ns + LINGER_NS))
        del self.ghosts[:-GHOSTS_MAX]

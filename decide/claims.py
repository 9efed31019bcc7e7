"""Quantity we have taken from price levels, so that no two intents count on the same contracts.

A level is free again only when its order is terminal and an intent names a book record received after that: until then
the book the intent saw may still show what we took.
"""

from dataclasses import dataclass, field

from schemas.decision import Leg
from schemas.enums import Side

Place = tuple[str, Side, int]
"""Instrument, the side that takes, price."""


@dataclass
class Claim:
    """What one leg took from one level; `freed_ns` is 0 while its orders are not terminal."""

    size: int
    freed_ns: int = 0
    name: str = ""
    """leg that took it"""


@dataclass
class Claims:
    """All claims of one account set."""

    _places: dict[Place, list[Claim]] = field(default_factory=dict)
    _of_leg: dict[str, list[tuple[Place, Claim]]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """instruments whose claims are not written down as they are"""

    def left(self, leg: Leg) -> list[int]:
        """Return what of each named level is not claimed; claims that this leg's book record outlived are dropped."""
        remaining = []
        for price, size in zip(leg.level_prices, leg.level_sizes, strict=True):
            place = (leg.instrument, leg.side, price)
            claims = self._places.get(place, [])
            standing = [claim for claim in claims if not 0 < claim.freed_ns < leg.recv_ts_ns]
            if len(standing) != len(claims):
                self.changed.add(leg.instrument)
                if standing:
                    self._places[place] = standing
                else:
                    del self._places[place]
            remaining.append(max(size - sum(claim.size for claim in standing), 0))
        return remaining

    def take(self, name: str, leg: Leg) -> None:
        """Claim the leg's levels under `name`."""
        for price, size in zip(leg.level_prices, leg.level_sizes, strict=True):
            self._add((leg.instrument, leg.side, price), Claim(size, 0, name))
        self.changed.add(leg.instrument)

    def free(self, name: str, ended_ns: int) -> None:
        """Let a leg's claims end for book records received after `ended_ns`."""
        for place, claim in self._of_leg.pop(name, ()):
            claim.freed_ns = max(ended_ns, 1)
            self.changed.add(place[0])

    def on(self, instrument: str) -> list[tuple[Place, Claim]]:
        """Return all claims on an instrument."""
        return [(place, claim) for place, claims in self._places.items() if place[0] == instrument for claim in claims]

    def restore(self, held: list[tuple[Place, Claim]]) -> None:
        """Know claims again."""
        for place, claim in held:
            self._add(place, claim)

    def _add(self, place: Place, claim: Claim) -> None:
        self._places.setdefault(place, []).append(claim)
        if not claim.freed_ns:
            self._of_leg.setdefault(claim.name, []).append((place, claim))

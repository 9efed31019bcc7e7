"""What holdings can be sold for: the newest quotes of held instruments, and whether they can be believed. Pure.

A mark is young while its book was LIVE when last heard of and the ticks of its partition come: if anything before the
reader dies or lags, ticks age. A fill is a price too: until the first quote of an instrument comes (quotes are repeated
every ten seconds), the last fill stands for it, for a while.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple

from core.domain.units import E4_TO_E6, MICRO
from core.runtime.clock import NS_PER_S
from schemas.derived import Quote, Tick
from schemas.market import Instrument, Status

_SHOWN = frozenset({"LIVE", "DEGRADED"})
"""States whose quotes have prices."""
TICK_AGE_NS_MAX = 5 * NS_PER_S
"""Ticks reach the accounts' log once a second."""
FILL_AGE_NS_MAX = 15 * NS_PER_S
WORDS_MAX = 100_000
"""Markets whose words are remembered; beyond it the oldest tenth of those that nobody holds is forgotten."""


@dataclass
class Mark:
    """Best bid and offer (YES, 1e-4 dollar; 0: none); `partition` is -1 while only a fill is known."""

    bid: int = 0
    ask: int = 0
    live: bool = False
    partition: int = -1
    version: tuple[int, int] = (-1, -1)
    seen_ns: int = 0


class PayoutWord(NamedTuple):
    """What a determined market pays, by its own word so far: one YES at 1e-6, -1 when it took the word back."""

    payout_e6: int
    said_ns: int
    is_settled: bool


@dataclass
class PayoutWords:
    """The words of markets: of all that are held, and of the newest ones, `WORDS_MAX` together."""

    by_instrument: dict[str, PayoutWord] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """instruments whose words are not written down as they are, or no more"""

    def hear(self, said: Instrument | Status) -> bool:
        """Take what a description or a life-cycle message says of a payout; return whether that is news.

        So is that it is settled at what it said before: nothing is to come of it any more.

        Determined without a value (a dispute) or traded again takes a word back. A market that is settled says no more
        of it by being closed, or settled without a value: it keeps what it said.
        """
        known = self.by_instrument.get(said.instrument)
        if said.status == "UNKNOWN" or (known is not None and said.recv_ts_ns < known.said_ns):
            return False
        is_settled = said.status == "SETTLED"
        payout_e6 = said.payout_e6 if is_settled or said.status == "DETERMINED" else -1
        if payout_e6 < 0 and (
            known is None or is_settled or (known.is_settled and known.payout_e6 >= 0 and said.status == "CLOSED")
        ):
            return False
        self.by_instrument[said.instrument] = PayoutWord(payout_e6, said.recv_ts_ns, is_settled)
        self.changed.add(said.instrument)
        return known is None or known.payout_e6 != payout_e6 or known.is_settled != is_settled

    @property
    def is_full(self) -> bool:
        """Say whether there are more than are to be remembered."""
        return len(self.by_instrument) > WORDS_MAX

    def forget(self, held: Set[str]) -> int:
        """Forget the oldest words, by their time and name, but of what is held; return how many.

        One that is said again later is heard as if it were the first: nobody holds what it is about.
        """
        free = sorted((word.said_ns, name) for name, word in self.by_instrument.items() if name not in held)
        surplus = free[: len(self.by_instrument) - WORDS_MAX * 9 // 10]
        for _, name in surplus:
            del self.by_instrument[name]
            self.changed.add(name)
        return len(surplus)

    def payout_e6(self, instrument: str) -> int:
        """Return what one YES is to pay, -1 if that is not known."""
        word = self.by_instrument.get(instrument)
        return -1 if word is None else word.payout_e6


@dataclass
class Marks:
    """All marks of one log."""

    by_instrument: dict[str, Mark] = field(default_factory=dict)
    words: PayoutWords = field(default_factory=PayoutWords)
    ticks: dict[int, int] = field(default_factory=dict)
    """partition of `derived.book` -> time of its last tick"""
    changed: set[str] = field(default_factory=set)
    """instruments whose marks are not written down as they are"""

    def quote(self, quote: Quote, partition: int, now_ns: int) -> None:
        """Take a quote, unless a newer one is known."""
        version = (quote.version_offset, quote.version_index)
        known = self.by_instrument.get(quote.instrument)
        if known is not None and known.version > version:
            return
        if quote.state in _SHOWN:
            bid = quote.bid_price if quote.bid_size > 0 else 0
            ask = quote.ask_price if quote.ask_size > 0 else 0
        else:
            # It shows no price: the last one stands, and is not to be believed.
            bid, ask = (known.bid, known.ask) if known is not None else (0, 0)
        self.by_instrument[quote.instrument] = Mark(bid, ask, quote.state == "LIVE", partition, version, now_ns)
        self.changed.add(quote.instrument)

    def tick(self, tick: Tick) -> None:
        """Take a partition's tick."""
        self.ticks[tick.partition] = max(self.ticks.get(tick.partition, 0), tick.ts_ns)

    def fill(self, instrument: str, price: int, now_ns: int) -> None:
        """Let a fill's YES price stand for an instrument no quote of which was seen."""
        known = self.by_instrument.get(instrument)
        if known is None or known.partition < 0:
            self.by_instrument[instrument] = Mark(price, price, live=True, seen_ns=now_ns)
            self.changed.add(instrument)

    def is_young(self, instrument: str, now_ns: int) -> bool:
        """Say whether the instrument's mark can be believed."""
        mark = self.by_instrument.get(instrument)
        if mark is None or not mark.live:
            return False
        if mark.partition < 0:
            return now_ns - mark.seen_ns < FILL_AGE_NS_MAX
        return now_ns - self.ticks.get(mark.partition, 0) < TICK_AGE_NS_MAX

    def value_e6(self, instrument: str, size: int) -> int:
        """Return what a signed quantity of YES is worth: at the bid, or, sold, what buying it back costs, at the ask.

        The last mark counts however old it is; without any, or without that side, the worst price does. What a
        determined market is to pay counts where it is less, as it is not paid yet, and where nobody bids any more.
        """
        mark = self.by_instrument.get(instrument, Mark())
        price_e6 = (mark.bid if size > 0 else mark.ask) * E4_TO_E6
        payout_e6 = self.words.payout_e6(instrument)
        if not price_e6:
            price_e6 = payout_e6 if payout_e6 >= 0 else 0 if size > 0 else MICRO
        elif payout_e6 >= 0:
            price_e6 = min(price_e6, payout_e6) if size > 0 else max(price_e6, payout_e6)
        return size * price_e6 // MICRO

"""What a strategy is and what it sees.

A strategy sees the books and trades of all approved links, and those its configuration names (`instruments`). An intent
names a link and its legs; or, of one leg that no link backs, the leg's instrument as its link. Such a leg may reduce:
close what is held instead of opening. `strategies/momentum.py` is the template.

A leg that `rests` is a quote: post-only, until a second. Both sides of a book may rest at once, and the strategy says
with a Requote what it wants of them: that they go, that they move, or that they are wanted still.

A strategy remembers what it likes but is a pure function of the calls it gets: time is `view.now_ns`, ids are
`view.new_id()`. It returns records: edges to publish, intents to execute. Third parties add a kind through the entry
point group `crossbook.strategies`: the entry point's name is the kind, its object a `StrategyKind`.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from schemas import decision
from schemas.decision import Edge, Intent, Link, Requote, Saga
from schemas.derived import Depth, Quote
from schemas.market import Instrument, Trade

Decision = Edge | Intent | Requote


class View(Protocol):
    """What stands in the strategy's log up to the record in hand."""

    strategy: decision.Strategy
    now_ns: int
    """Log time."""
    partition: int
    offset: int
    """Place of the record in hand."""

    def links(self) -> Sequence[Link]:
        """Return the approved links without a fault (`links.fault`), in the order of their ids."""
        ...

    def links_of(self, instrument: str) -> Sequence[Link]:
        """Return those of one instrument."""
        ...

    def link(self, link: str) -> Link | None:
        """Return one of them."""
        ...

    def instrument(self, instrument: str) -> Instrument | None:
        """Return what is known of an instrument, with the newest ticks and status, and the fee the account pays now."""
        ...

    def depth(self, instrument: str) -> Depth | None:
        """Return the depth the newest quote names, None unless that quote is usable now."""
        ...

    def account(self, venue: str) -> str | None:
        """Return the venue account of the strategy's account set."""
        ...

    def is_busy(self, link: str) -> bool:
        """Say whether an intent of this strategy on this link, or on this instrument where no link backs it, has not come to its end.

        Intents that rest are not counted: a strategy looks after those itself.
        """
        ...

    def may_trade(self) -> bool:
        """Say whether the strategy is RUNNING: intents that open anything are published of no other."""
        ...

    def may_exit(self) -> bool:
        """Say whether the strategy is RUNNING or DRAINING: then it may close what it holds."""
        ...

    def new_id(self) -> str:
        """Return the next id of this record's decisions."""
        ...


class Strategy(Protocol):
    """One running strategy."""

    def on_quote(self, quote: Quote, view: View) -> Iterable[Decision]:
        """Decide on a quote that is not a repeat; it may not be usable."""
        ...

    def on_depth(self, depth: Depth, view: View) -> Iterable[Decision]:
        """Decide on a depth; its quote follows."""
        ...

    def on_trade(self, trade: Trade, view: View) -> Iterable[Decision]:
        """Decide on a public trade."""
        ...

    def on_outcome(self, saga: Saga, view: View) -> Iterable[Decision]:
        """Decide on what became of one of its intents; also told while it is STOPPED, when all it returns is dropped."""
        ...

    def on_timer(self, view: View) -> Iterable[Decision]:
        """Decide on time alone; called on every time record of the log, and at once when a link went away.

        What was begun on a link that `view.link` no longer returns is to be ended here.
        """
        ...

    def on_stop(self, view: View) -> Iterable[Decision]:
        """End what was begun: it is stopped, or its parameters change.

        What it remembers goes on: to the instance with the new parameters, or to itself when it is started again.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """What a `Strategy` offers beside, if its memory can be written down: else its shard is rebuilt from its log."""

    def remember(self) -> bytes:
        """Return all that it remembers."""
        ...

    def recall(self, memory: bytes) -> None:
        """Remember that; called before anything else.

        Raises:
            StateUnreadable: another version of the strategy wrote it.
        """
        ...


class StrategyKind(Protocol):
    """Makes a strategy of one kind."""

    def __call__(self, config: decision.Strategy) -> Strategy:
        """Return a strategy that remembers nothing yet.

        Raises:
            Reject: its parameters do not parse.
        """
        ...

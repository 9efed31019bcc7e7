"""Kinds of strategies: built in, and added by installed packages through the entry point group `crossbook.strategies`."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from core.domain.errors import Misconfigured
from decide.ports import StrategyKind
from decide.strategies.cross_venue import CrossVenue
from decide.strategies.exhaustive_event import ExhaustiveEvent
from decide.strategies.momentum import Momentum
from decide.strategies.passive_quoting import PassiveQuoting
from schemas.enums import LinkKind

GROUP = "crossbook.strategies"

BUILT_IN: Mapping[str, StrategyKind] = {
    "cross_venue": CrossVenue.from_config,
    "exhaustive_event": ExhaustiveEvent.from_config,
    "momentum": Momentum.from_config,
    "passive_quoting": PassiveQuoting.from_config,
}

BLIND_TO: Mapping[str, Sequence[LinkKind]] = {
    "cross_venue": ("EVENT",),
    "exhaustive_event": ("PAIR",),
    "momentum": ("PAIR", "EVENT"),
    "passive_quoting": ("EVENT",),
}
"""Kinds of links whose books a kind of strategy never looks at: its shard need not bring them."""


def load_kinds() -> dict[str, StrategyKind]:
    """Return all kinds by name; read once at start, never in a handler.

    Raises:
        Misconfigured: an entry point does not load, or takes a name that is taken.
    """
    kinds = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in kinds:
            raise Misconfigured(
                f"strategy kind {point.name!r} of {point.value} is already taken; rename the entry point"
            )
        try:
            kinds[point.name] = point.load()
        except (ImportError, AttributeError) as e:
            raise Misconfigured(f"strategy kind {point.name!r}: {point.value} does not load: {e}") from e
    return kinds

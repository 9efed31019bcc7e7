"""What of an account's cash lies on which exchange shard, where its venue has several: only that pays for orders there.

The venue's own statement, and what our fills and payouts moved since. Cash goes from one shard to another without a word
of ours (a human's transfer, the venue's rebalancing), so each report that knows of all our movements is taken as it
stands; the account's sum is counted and reconciled apart from this (`decide/ledger.py`). Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.runtime.clock import NS_PER_S
from schemas.market import Instrument
from schemas.order import VenueReport

KNOWN_AFTER_NS = 2 * NS_PER_S
"""A report whose as-of time is so much later than an order has that order's collateral out: its time is in seconds."""


@dataclass
class Shards:
    """One account's cash by shard at 1e-6.

    Attributes:
        stated: by the newest report that was taken; empty: the venue states no shards, and nothing is asked of any.
        moved: instrument -> signed cash its fills and payouts moved since.
        taken_ns: as-of time of that report.
        resting: instruments of the orders whose money is counted in `stated` though that report did not have it.
    """

    stated: dict[int, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    taken_ns: int = 0
    resting: dict[str, bool] = field(default_factory=dict)

    def take(self, report: VenueReport, bound_e6: Mapping[int, int], resting: Iterable[str]) -> None:
        """Take a report that knows of all movements; `bound_e6` is what it lacks for resting orders' money, reserved here."""
        self.moved.clear()
        self.taken_ns = report.as_of_ns
        self.resting = dict.fromkeys(resting, True)
        stated = dict(zip(report.cash_shards, report.shard_cash_e6, strict=True))
        self.stated = {
            shard: stated.get(shard, 0) + bound_e6.get(shard, 0)
            for shard in sorted({*stated, *bound_e6} if stated else ())
        }

    def move(self, instrument: str, cash_e6: int, ts_ns: int, *, bound_e6: int = 0) -> None:
        """Note cash that an instrument of this account moved at a time of the venue.

        What moved before the report was taken is in its figures, though it is heard of later. Only of an order that was
        counted as resting then, `bound_e6` was counted as there and is there no more.
        """
        if ts_ns < self.taken_ns:
            cash_e6 = -bound_e6 if instrument in self.resting else 0
        if self.stated and cash_e6:
            self.moved[instrument] = self.moved.get(instrument, 0) + cash_e6

    def cash_e6(self, shard: int, instruments: Mapping[str, Instrument]) -> int | None:
        """Return what lies on a shard, reservations aside; None where the venue states no shards."""
        if not self.stated:
            return None
        moved_e6 = sum(
            cash_e6
            for name, cash_e6 in self.moved.items()
            if (described := instruments.get(name)) is not None and described.exchange_index == shard
        )
        return self.stated.get(shard, 0) + moved_e6

"""What stopped by itself: limits that tripped and differences that were healed, told from the records alone.

In a run against simulated venues every limit is wide enough that nothing right ever comes to it, so each of these says that
something was wrong: a loss that was none, a gateway that was not silent, a ledger that was not its venue's.
"""

from dataclasses import dataclass, field

from schemas.decision import Entry, Standing
from schemas.record import Record


@dataclass
class Stops:
    """Each part that stood other than RUNNING, and each difference a ledger took over from its venue."""

    standings: dict[tuple[str, str], Standing] = field(default_factory=dict)
    """(part, state) -> the first that was said of it"""
    healed: dict[str, Entry] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case Standing(state="REDUCING" | "HALTED"):
                self.standings.setdefault((record.id, record.state), record)
            case Entry(kind="EXTERNAL"):
                self.healed.setdefault(record.id, record)
            case _:
                pass

    def found(self) -> list[str]:
        """Return each of them in words."""
        return [
            *(f"{one.id} was {one.state}: {one.cause or 'no cause said'}" for one in self.standings.values()),
            *(
                f"{one.account} {one.instrument or 'cash'} was healed by {one.size} (1e-6) and {one.cash_e6} (1e-6 dollars): "
                f"{one.reason or 'no reason said'}"
                for one in self.healed.values()
            ),
        ]

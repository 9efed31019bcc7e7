"""What a fault needs of a venue: its own words, its own numbering."""

from typing import Any, Protocol

from simulate.clock import VenueClock
from simulate.journal import Injected
from simulate.mishaps import Mishaps
from simulate.outage import Outage
from simulate.sockets import Connection


class Oddities(Protocol):
    """One venue's answers to what all faults ask for; markets go by the venue's own names."""

    venue: str
    place: int
    clock: VenueClock
    outage: Outage
    mishaps: Mishaps

    def market_data(self) -> list[Connection]:
        """Return the open connections that follow books and carry nothing private."""
        ...

    def sockets(self) -> list[Connection]:
        """Return all open connections."""
        ...

    def markets_of(self, connection: Connection) -> list[str]:
        """Return the markets whose books a connection follows, as far as they exist."""
        ...

    def markets(self) -> list[str]:
        """Return all markets."""
        ...

    def book(self, connection: Connection, market: str, padding: int = 0) -> None:
        """Send a market's whole book, unasked."""
        ...

    def unknown(self, connection: Connection, market: str) -> None:
        """Send a message of an unknown type."""
        ...

    def freeze(self, injected: Injected, connection: Connection) -> None:
        """Make a connection quiet until `thaw`."""
        ...

    def thaw(self, injected: Injected, connection: Connection) -> None:
        """End `freeze` as the venue would."""
        ...

    def silence(self, injected: Injected, connection: Connection, market: str) -> None:
        """Make one market of a connection quiet until `speak`."""
        ...

    def speak(self, injected: Injected, connection: Connection, market: str) -> None:
        """End `silence` as the venue would."""
        ...

    def owe(self, injected: Injected, deltas: int) -> None:
        """Let the next subscription's first snapshots come only after so many changes."""
        ...

    def forgive(self, injected: Injected) -> None:
        """End `owe` if no subscription came."""
        ...

    def change_tick(self, market: str) -> dict[str, Any]:
        """Change a market's grid and tell it; return the old and the new one.

        Raises:
            BadFault: it cannot change any more.
        """
        ...

    def flood(self, market: str, levels: int) -> dict[str, Any]:
        """Fill a market's book and send it whole to its followers; return how many levels it has."""
        ...

    def drain(self, market: str) -> None:
        """End `flood`."""
        ...

    def stop_trading(self, injected: Injected) -> None:
        """Begin maintenance in what the venue says of itself."""
        ...

    def resume_trading(self, injected: Injected) -> None:
        """End it."""
        ...

    def stale_rest(self, market: str, *, on: bool) -> None:
        """Answer requests for a market's book with the book as it is now, or truly again."""
        ...

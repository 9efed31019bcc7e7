"""Who feeds what, as `raw.feed` tells it: open feeds of all workers with their instruments, and which are ready."""

from collections.abc import Iterable

from core.runtime.flow import Input
from schemas.raw import Closed, Opened, Ready

FEEDS_MAX = 2_000
"""Open feeds remembered; the oldest is forgotten. A feed that was killed never says that it closed."""


class Roster:
    """Read from the end of `raw.feed`, so it knows what happened since this worker started."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._open: dict[int, frozenset[str]] = {}
        self._ready: set[int] = set()

    def take(self, item: Input) -> Opened | None:
        """Note one record; return it if a feed of this venue opened."""
        match item.record:
            case Opened(venue=venue) as opened if venue == self._venue:
                self._open[item.offset] = frozenset(opened.instruments)
                while len(self._open) > FEEDS_MAX:
                    self._forget(next(iter(self._open)))
                return opened
            case Ready(epoch=epoch) if epoch in self._open:
                self._ready.add(epoch)
            case Closed(epoch=epoch):
                self._forget(epoch)
            case _:
                pass
        return None

    def is_covered(self, instruments: Iterable[str], epoch: int) -> bool:
        """Say whether ready feeds of higher epochs have all of `instruments`."""
        left = set(instruments)
        for other in self._ready:
            if other > epoch:
                left -= self._open[other]
        return not left

    def _forget(self, epoch: int) -> None:
        self._open.pop(epoch, None)
        self._ready.discard(epoch)

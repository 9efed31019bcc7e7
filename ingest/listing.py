"""What a venue lists, in the venue's own words: the part of a catalogue that differs from venue to venue."""

from collections.abc import AsyncIterator, Collection
from typing import NamedTuple, Protocol

import msgspec


class Listed(NamedTuple):
    """One instrument as the venue describes it.

    Attributes:
        payload: the market object.
        context: what else the venue says of it (series, event), empty if nothing.
        is_final: nothing will happen to it any more.
        event: what the venue may speak of in its place, as `Notice.event_group` has it; empty if nothing.
        asked_ns: when it was asked for, 0 where that is not known.
        context_ns: when the oldest part of the context was asked for, 0 where it came with the instrument.
        is_whole: all of it could be read; if not, what stands is left as it stands.
    """

    instrument: str
    payload: bytes
    context: bytes
    is_final: bool = False
    event: str = ""
    asked_ns: int = 0
    context_ns: int = 0
    is_whole: bool = True


class Listing(Protocol):
    """One venue's list of markets."""

    changing: frozenset[str]
    """Fields of a market object that change with every trade: no news of what the instrument is."""

    def open_markets(self) -> AsyncIterator[list[Listed]]:
        """Yield the open markets, page by page; a page may be empty, and between two of them `look_up` may be asked.

        Raises:
            Unavailable: the venue does not answer; the list is not complete.
        """
        ...

    async def look_up(self, instruments: Collection[str]) -> list[Listed]:
        """Return those of `instruments` the venue still describes, open or not."""
        ...

    def forget(self, event: str) -> None:
        """Read what is kept of an event again before any of its instruments is described the next time."""
        ...


def essence(listed: Listed, changing: frozenset[str]) -> bytes:
    """Return what is compared with what stands: the description without its changing fields, keys sorted."""
    fields: dict[str, msgspec.Raw] = msgspec.json.decode(listed.payload, type=dict[str, msgspec.Raw])
    kept = {key: value for key, value in sorted(fields.items()) if key not in changing}
    return msgspec.json.encode(kept) + listed.context

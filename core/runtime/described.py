"""What is known of an instrument: its newest description, and what was said of it in band since. Pure.

A `Status` may speak of the state, of the grid or of both; each keeps the times of the word that spoke of it, so that what
says nothing of one of them makes it no newer. Of two words the venue's own time decides where both state it, else when
they were received; between a word and a description, when they were received.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.market import Instrument, Status


class Words(NamedTuple):
    """The newest word in band on the state of an instrument, and the newest on its grid; None where none was said."""

    state: Status | None = None
    grid: Status | None = None

    def hear(self, word: Status) -> Words:
        """Return what stands after a word."""
        word = msgspec.structs.replace(word, trail=[])
        return Words(
            word if word.status != "UNKNOWN" and not _is_older(word, self.state) else self.state,
            word if word.tick_step and not _is_older(word, self.grid) else self.grid,
        )

    def applied(self, instrument: Instrument) -> Instrument:
        """Return an instrument with the state and the grid that hold: those of the words that are not older than it."""
        state, grid = self
        if state is not None and state.recv_ts_ns >= instrument.recv_ts_ns:
            instrument = msgspec.structs.replace(instrument, status=state.status)
        if (
            grid is not None
            and grid.recv_ts_ns >= instrument.recv_ts_ns
            and grid.price_exp == instrument.price_exp  # another kind of price than is traded here
        ):
            instrument = msgspec.structs.replace(
                instrument, tick_from=grid.tick_from, tick_to=grid.tick_to, tick_step=grid.tick_step
            )
        return instrument


SILENCE = Words()
"""Nothing was said in band."""


def _is_older(word: Status, known: Status | None) -> bool:
    if known is None:
        return False
    if word.venue_ts_ns and known.venue_ts_ns:
        return word.venue_ts_ns < known.venue_ts_ns
    return word.recv_ts_ns < known.recv_ts_ns

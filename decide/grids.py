"""The price grid of an instrument as it is now: by its description or by its market's word, whichever was received last.

A word changes the grid alone; what else a description says is held against links and its status as it was read. Pure.
"""

import msgspec

from schemas.market import Instrument, Status


def heard(known: Instrument, word: Status) -> Instrument:
    """Return an instrument with the grid its market states, itself where that is older or says nothing of one."""
    if not word.tick_step or word.price_exp != known.price_exp or word.recv_ts_ns < known.recv_ts_ns:
        return known
    return msgspec.structs.replace(
        known,
        tick_from=word.tick_from,
        tick_to=word.tick_to,
        tick_step=word.tick_step,
        recv_ts_ns=word.recv_ts_ns,
    )


def described(known: Instrument | None, anew: Instrument) -> Instrument:
    """Return a description with the grid that is known already, where that was received after it."""
    if known is None or known.recv_ts_ns <= anew.recv_ts_ns or known.price_exp != anew.price_exp:
        return anew
    return msgspec.structs.replace(
        anew,
        tick_from=known.tick_from,
        tick_to=known.tick_to,
        tick_step=known.tick_step,
        recv_ts_ns=known.recv_ts_ns,
    )

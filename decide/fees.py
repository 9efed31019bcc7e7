"""What an account pays for an instrument at a time: what its venue states for then, or the term of its profile that is valid.

A venue states a fee and the changes it has scheduled (`Instrument.fees`); a profile has what a human wrote down.

One idea in one place: strategies see instruments, and accounts admit and hedge them, as `in_force` says, and so does a
replay or backtest, because profiles stand in the log. An order may fill a little after it was decided, so a term that
begins or ends within that time counts already where it costs more.
"""

import msgspec

from core.domain.units import MICRO, ceil_div
from schemas.decision import FeeTerm, Profile
from schemas.market import Instrument

FILL_WAIT_NS = 60_000_000_000
"""How long after it was decided an order is taken to fill: taker delays, an outage, a second attempt."""


def in_force(instrument: Instrument, profile: Profile | None, now_ns: int) -> Instrument:
    """Return the instrument with the taker coefficient this account pays at `now_ns` or soon, whichever is more."""
    own = profile.fees if profile is not None else ()
    if not own and not instrument.fees:
        return instrument
    fitting = [term for term in own if _fits(term, instrument)]
    moments = {now_ns, now_ns + FILL_WAIT_NS}
    moments |= {
        ts_ns
        for term in (*fitting, *instrument.fees)
        for ts_ns in (term.from_ts_ns, term.until_ts_ns)
        if now_ns < ts_ns <= now_ns + FILL_WAIT_NS
    }
    fee_e6 = max(_coefficient_e6(instrument, fitting, ts_ns) for ts_ns in moments)
    return instrument if fee_e6 == instrument.taker_fee_e6 else msgspec.structs.replace(instrument, taker_fee_e6=fee_e6)


def _fits(term: FeeTerm, instrument: Instrument) -> bool:
    return instrument.instrument.startswith(term.instruments) and term.category in {"", instrument.category}


def _coefficient_e6(instrument: Instrument, terms: list[FeeTerm], ts_ns: int) -> int:
    scheduled = _valid(instrument.fees, ts_ns)
    stated = instrument.taker_fee_e6 if scheduled is None else scheduled.taker_fee_e6
    term = _valid(terms, ts_ns)
    if term is None:
        return stated
    return ceil_div((stated if term.taker_fee_e6 < 0 else term.taker_fee_e6) * term.share_e6, MICRO)


def _valid(terms: list[FeeTerm], ts_ns: int) -> FeeTerm | None:
    """Return the last term that is valid then."""
    valid = [term for term in terms if term.from_ts_ns <= ts_ns and (term.until_ts_ns == 0 or ts_ns < term.until_ts_ns)]
    return valid[-1] if valid else None

"""What a quoting strategy says: the intent of a new quote, and what it wants of those that are out."""

from decide.conduct import resting_fee_e6
from decide.ports import View
from decide.strategies.intents import Cause, intent_of
from decide.strategies.quoted import Target
from schemas.decision import Intent, Leg, Requote
from schemas.derived import Depth
from schemas.enums import RequoteAction, Side
from schemas.market import Instrument


def quote_of(
    instrument: Instrument,
    side: Side,
    target: Target,
    *,
    account: str,
    expires_s: int,
    silence_ms: int,
    of: Depth,
    cause: Cause,
    view: View,
) -> Intent:
    """Return the intent of a quote that rests at its target; `of` is the book it is based on."""
    leg = Leg(
        instrument=instrument.instrument,
        account=account,
        side=side,
        price=target.price,
        size=target.left,
        price_exp=instrument.price_exp,
        size_exp=instrument.size_exp,
        fee_max_e6=resting_fee_e6(instrument, target.price, target.left),
        version_offset=of.version_offset,
        version_index=of.version_index,
        recv_ts_ns=of.recv_ts_ns,
        level_prices=[target.price],
        level_sizes=[target.left],
        reduces=target.reduces,
        rests=True,
        expires_s=expires_s,
        silence_ms=silence_ms,
    )
    return intent_of(view, instrument.instrument, [leg], cause)


def word(
    view: View,
    action: RequoteAction,
    intents: list[str],
    cause: Cause,
    reason: str = "",
    *,
    price: int = 0,
    size: int = 0,
    expires_s: int = 0,
    of: Depth | None = None,
) -> Requote:
    """Return what is wanted of quotes; price, size, end and book are those of a REPLACE."""
    return Requote(
        id=view.new_id(),
        strategy=view.strategy.id,
        account_set=view.strategy.account_set,
        action=action,
        intents=intents,
        price=price,
        size=size,
        expires_s=expires_s,
        reason=reason,
        version_offset=of.version_offset if of is not None else 0,
        version_index=of.version_index if of is not None else 0,
        now_ns=view.now_ns,
        input_partition=view.partition,
        input_offset=view.offset,
        recv_ts_ns=cause.recv_ts_ns,
        trail=cause.trail,
    )

"""What is written down of a saga, and of an intent that was refused."""

from decide.saga import Figures, Saga
from decide.turn import Turn
from schemas import decision
from schemas.decision import Intent


def refused(intent: Intent, reason: str, turn: Turn) -> decision.Saga:
    """Return the record of an intent that does not start."""
    return decision.Saga(
        id=intent.id,
        strategy=intent.strategy,
        link=intent.link,
        account_set=intent.account_set,
        state="REFUSED",
        reason=reason,
        sides=[leg.side for leg in intent.legs],
        now_ns=turn.now_ns,
        log_partition=turn.item.partition,
        log_offset=turn.item.offset,
        recv_ts_ns=intent.recv_ts_ns,
        trail=turn.trail,
    )


def record_of(saga: Saga, figures: Figures, turn: Turn) -> decision.Saga:
    """Return the record of where a saga is."""
    intent = saga.intent
    price, size = figures.offer
    return decision.Saga(
        id=intent.id,
        strategy=intent.strategy,
        link=intent.link,
        account_set=intent.account_set,
        state=figures.state,
        reason=figures.reason,
        filled_first=figures.filled[0],
        filled_second=figures.filled[1] if len(figures.filled) > 1 else 0,
        unwound=sum(figures.filled) - sum(figures.standing),
        filled_e6=list(figures.filled),
        standing_e6=list(figures.standing),
        cash_e6=figures.cash_e6,
        fees_e6=figures.fees_e6,
        price=price,
        size=size,
        leg_order=saga.leg_order,
        leg_order_reason=saga.leg_order_reason,
        sides=[leg.side for leg in intent.legs],
        now_ns=turn.now_ns,
        log_partition=turn.item.partition,
        log_offset=turn.item.offset,
        recv_ts_ns=intent.recv_ts_ns,
        trail=turn.trail,
    )

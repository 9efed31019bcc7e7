"""Intents that rest and words on them, for the accounts' log; what becomes of an intent, for the strategies'."""

from schemas import decision

ONE = 1_000_000
SECOND = 1_000_000_000
BID, SIZE = 4_500, 10 * ONE


def quote_intent(make, log, *, name="q1", instrument=None, side="BUY", price=BID, size=SIZE, **changes):
    """Return an intent that rests; what is not of an intent changes its leg."""
    instrument = instrument or make.KALSHI
    own = {key: changes.pop(key) for key in ("strategy", "now_ns", "recv_ts_ns") if key in changes}
    leg = dict(rests=True, expires_s=log.now_ns // SECOND + 60, silence_ms=0, recv_ts_ns=log.now_ns)
    return make.intent(
        id=name,
        link=instrument,
        legs=[make.leg(instrument, side, [(price, size)], **{**leg, **changes})],
        profit_e6=0,
        **{"strategy": "mm-1", "now_ns": log.now_ns, "recv_ts_ns": log.now_ns, **own},
    )


def word(log, action, *names, price=0, size=0, life_s=60, **changes):
    """Return a Requote of what the log holds so far."""
    fields = dict(
        id=f"w{len(log.items)}",
        strategy="mm-1",
        account_set="main",
        action=action,
        intents=list(names) or ["q1"],
        price=price,
        size=size,
        expires_s=log.now_ns // SECOND + life_s if action == "REPLACE" else 0,
        now_ns=log.now_ns,
        input_partition=0,
        input_offset=1_000 + len(log.items),
        recv_ts_ns=log.now_ns,
    )
    return decision.Requote(**{**fields, **changes})


def of(kind, records):
    return [record for record in records if type(record) is kind]


def outcome(log, intent, state, stands=0, reason="", **changes):
    """Let a strategy's log hear what became of an intent."""
    return log.feed(
        decision.Saga(
            id=intent.id,
            strategy=intent.strategy,
            link=intent.link,
            account_set="main",
            state=state,
            reason=reason,
            standing_e6=[stands],
            now_ns=log.now_ns,
            log_partition=0,
            log_offset=0,
            recv_ts_ns=log.now_ns,
            **changes,
        )
    )

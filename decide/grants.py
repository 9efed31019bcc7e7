"""Grants: executable orders in which every signed input is fixed, so that no gateway invents anything.

And what changes them: cancels and amendments.
"""

import hashlib

import msgspec

from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime.clock import NS_PER_MS
from decide.admission import ENTRY_LIFE_NS
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, choose_token, fee_max_e6, resting_fee_e6
from decide.orders import Order
from decide.rest import Rest
from decide.saga import Place, Saga
from decide.turn import Turn
from schemas.decision import Amend, Cancel, Grant

HEDGE_LIFE_NS = 500 * NS_PER_MS
_SALT_BITS = 53
"""Salts cross JSON as numbers: below 2**53 every reader keeps them exact."""


def make_grant(saga: Saga, place: Place, *, grant_id: str, now_ns: int, recv_ts_ns: int, trail: list[int]) -> Grant:
    """Return the order a saga wants next; every field follows from the log.

    `recv_ts_ns` and `trail` are those of the record that caused it: the quote behind an entry, the fill behind a hedge.
    """
    leg = saga.legs[place.leg]
    wanted, instrument = leg.leg, leg.instrument
    closing = place.purpose == "UNWIND"
    token = choose_token(instrument, place.side, closing=closing)
    best = place.price if closing else wanted.level_prices[0]
    fills = FILLS_PER_LEVEL * len(wanted.level_prices)
    # An exit, too, is as old as the book it was decided on.
    entry = place.purpose == "ENTRY" or leg.reduces
    return Grant(
        id=grant_id,
        intent=saga.intent.id,
        account=wanted.account,
        account_set=saga.intent.account_set,
        instrument=wanted.instrument,
        leg=place.leg,
        attempt=len(leg.orders) + 1,
        purpose=place.purpose,
        side=place.side,
        outcome=token.outcome,
        token_side=token.side,
        token=token.token,
        price=place.price,
        size=place.size,
        price_exp=PREDICTION_PRICE_EXP,
        size_exp=PREDICTION_SIZE_EXP,
        time_in_force=CONDUCTS[instrument.venue].time_in_force,
        client_id=client_id(grant_id),
        salt=salt(grant_id),
        timestamp_ms=now_ns // NS_PER_MS,
        neg_risk=instrument.neg_risk,
        fee_max_e6=fee_max_e6(instrument, place.price, best, place.size, fills),
        version_offset=wanted.version_offset,
        version_index=wanted.version_index,
        now_ns=now_ns,
        send_by_ns=saga.intent.recv_ts_ns + ENTRY_LIFE_NS if entry else now_ns + HEDGE_LIFE_NS,
        recv_ts_ns=recv_ts_ns,
        trail=trail,
    )


def make_resting(grant: Grant, rest: Rest, saga: Saga, *, send_by_ns: int) -> Grant:
    """Return a grant as one that rests: post-only, until a second."""
    conduct = CONDUCTS[saga.legs[0].instrument.venue]
    return msgspec.structs.replace(
        grant,
        time_in_force="GTD",
        post_only=True,
        expires_s=conduct.expires_s(grant.now_ns, rest.expires_s),
        fee_max_e6=resting_fee_e6(saga.legs[0].instrument, grant.price, grant.size),
        version_offset=rest.version_offset,
        version_index=rest.version_index,
        send_by_ns=send_by_ns,
        recv_ts_ns=rest.recv_ts_ns,
    )


def make_cancel(order: Order, reason: str, turn: Turn) -> Cancel:
    """Return the word that takes an order back."""
    grant = order.grant
    return Cancel(
        id=turn.new_id(grant.leg, grant.attempt),
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        reason=reason,
        now_ns=turn.now_ns,
        recv_ts_ns=turn.recv_ts_ns,
        trail=turn.trail,
    )


def make_amend(order: Order, rest: Rest, total: int, turn: Turn) -> Amend:
    """Return the word that changes an order that rests to what is wanted of it; `total` counts its own fills."""
    grant = order.grant
    return Amend(
        id=turn.new_id(grant.leg, grant.attempt),
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        price=rest.price,
        size=total,
        price_exp=grant.price_exp,
        size_exp=grant.size_exp,
        expires_s=rest.expires_s,
        reason="REPLACED",
        now_ns=turn.now_ns,
        send_by_ns=rest.recv_ts_ns + ENTRY_LIFE_NS,
        recv_ts_ns=rest.recv_ts_ns,
        trail=turn.trail,
    )


def client_id(grant_id: str) -> str:
    """Return a UUID-shaped text that stands for the grant at venues whose ids look like that."""
    text = _digest(grant_id, "client").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def salt(grant_id: str) -> int:
    """Return the number that makes a signed order unique."""
    return int.from_bytes(_digest(grant_id, "salt"), "big") >> (128 - _SALT_BITS)


def _digest(grant_id: str, use: str) -> bytes:
    return hashlib.blake2b(f"{grant_id}/{use}".encode(), digest_size=16).digest()

"""Whether an intent may start, decided by one mind: limits, capital, caps, what is taken already, our own orders.

A refusal is a word of a closed set, said in a Saga record; it is never an error.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from math import lcm
from typing import NamedTuple

import msgspec

from core.runtime.clock import NS_PER_MS, NS_PER_S
from decide import budgets
from decide.account_set import AccountSet, reservation_name
from decide.budgets import Need
from decide.conduct import is_open, is_tradable, open_cost_e6, resting_fee_e6
from decide.edges import Level, OpenLeg, SizedLeg, Walk, floor_of, size_walk
from decide.fees import in_force
from decide.links import Instruments, fault, instruments_of
from decide.rest import REST_S_MAX
from decide.risk import Place as RiskPlace
from decide.saga import Saga
from schemas.decision import Intent, Leg, Link
from schemas.enums import Side
from schemas.market import Instrument

INTENT_AGE_NS_MAX = 1_000 * NS_PER_MS
ENTRY_LIFE_NS = 500 * NS_PER_MS
"""An entry may be sent this long after the input that triggered it was received."""


class Refusal(StrEnum):
    """Why an intent is not done. For the operator: what has to change."""

    NO_LIMIT = "NO_LIMIT"
    """no limit record of the account set: that means HALTED"""
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    """only hedges are allowed"""
    STOPPED = "STOPPED"
    """its strategy, a venue or an instrument is, by command, by limit or for a difference from the venue's report"""
    FLATTENING = "FLATTENING"
    """a quote that reduces would hold back what a command asks to be sold"""
    STALE_MARK = "STALE_MARK"
    """losses are limited, and what is held cannot be valued now"""
    OFF_TIME = "OFF_TIME"
    """decided more than a second away from log time"""
    LATE = "LATE"
    """its orders could not leave within 500 ms of the input that triggered it"""
    MALFORMED = "MALFORMED"
    """not legs of its link, each instrument once; or sizes that do not add up"""
    UNKNOWN_LINK = "UNKNOWN_LINK"
    LINK_NOT_APPROVED = "LINK_NOT_APPROVED"
    """or expired"""
    LINK_SUSPENDED = "LINK_SUSPENDED"
    """something is not as it was approved (`links.fault`)"""
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    """not described, or its costs cannot be bounded"""
    NOT_OPEN = "NOT_OPEN"
    """the instrument does not trade"""
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    """no profile of that venue account in this account set"""
    NOT_READY = "NOT_READY"
    """its gateway did not say within 2 s that it can trade"""
    NO_REPORT = "NO_REPORT"
    """cash and holdings of the account are not known yet"""
    OPEN_SAGA = "OPEN_SAGA"
    """this strategy has a saga on this link"""
    SAGAS = "SAGAS"
    """as many sagas as the limit allows are open"""
    OFF_GRID = "OFF_GRID"
    """a price is off the tick table, or a size below the minimum or off the step"""
    TAKEN = "TAKEN"
    """what it counted on has been taken by ourselves"""
    NO_PROFIT = "NO_PROFIT"
    """the worst state of the link loses, fees included"""
    ORDER_NOTIONAL = "ORDER_NOTIONAL"
    MARKET_NOTIONAL = "MARKET_NOTIONAL"
    LINK_CAP = "LINK_CAP"
    """more capital than its link may bind"""
    NOT_HELD = "NOT_HELD"
    """it reduces more than is held, confirmed and in no other order"""
    NETTED = "NETTED"
    """so it does, for another strategy holds the opposite in the same account: the opposite may be entered instead"""
    CAPITAL = "CAPITAL"
    """not enough free cash for all legs at once"""
    SHARD_CAPITAL = "SHARD_CAPITAL"
    """enough in sum, but not on the venue's exchange shard that a leg's market is on"""
    BUDGET_STRATEGY = "BUDGET_STRATEGY"
    """with this intent the budget of its strategy would be exceeded; the others likewise"""
    BUDGET_EVENT = "BUDGET_EVENT"
    BUDGET_CATEGORY = "BUDGET_CATEGORY"
    BUDGET_VENUE = "BUDGET_VENUE"
    BUDGET_SHARD = "BUDGET_SHARD"
    BUDGET_INSTRUMENT = "BUDGET_INSTRUMENT"
    BUDGET_WORST_LOSS = "BUDGET_WORST_LOSS"
    """the worst outcome of its event would cost more than is allowed"""
    BUDGET_RATE = "BUDGET_RATE"
    """as many orders a minute as the venue's budget allows"""
    SELF_CROSS = "SELF_CROSS"
    """it would cross an order of our own"""


class Known(NamedTuple):
    """Reference data of the log: links and instruments by id."""

    links: dict[str, Link]
    instruments: Instruments


class Admitted(NamedTuple):
    """An intent that may start, at `walk.size` contracts of each leg."""

    walk: Walk
    floor_e6: int
    instruments: tuple[Instrument, ...]


Check = Callable[[Intent, AccountSet, Known, int], Refusal | None]


def admit(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Admitted | Refusal:
    """Decide on one intent at log time `now_ns`; the first reason found is given."""
    for check in _CHECKS:
        refusal = check(intent, accounts, known, now_ns)
        if refusal is not None:
            return refusal
    sized = _size(intent, accounts, known, now_ns)
    if isinstance(sized, Refusal):
        return sized
    return _afford(intent, sized, accounts, known) or _within_budgets(intent, sized, accounts, known, now_ns) or sized


def trim(leg: Leg, walked: SizedLeg) -> Leg:
    """Return the leg as it was admitted: what was taken by ourselves is not asked for."""
    return msgspec.structs.replace(
        leg,
        price=walked.limit,
        size=walked.size,
        fee_max_e6=walked.fee_max_e6,
        level_prices=[level.price for level in walked.taken],
        level_sizes=[level.size for level in walked.taken],
    )


# --- what must hold before sizes are looked at


def _state(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    limit = accounts.limit
    if limit is None:
        return Refusal.NO_LIMIT
    barred = stopped(intent, accounts)
    if barred is not None:
        return barred
    if any(_is_the_same(intent, saga.intent) for saga in accounts.open_sagas()):
        return Refusal.OPEN_SAGA
    return Refusal.SAGAS if len(accounts.open_sagas()) >= limit.open_sagas_max else None


def _is_the_same(intent: Intent, other: Intent) -> bool:
    """Say whether two intents of a strategy are about the same: what rests may stand on both sides of a book."""
    if (intent.strategy, intent.link) != (other.strategy, other.link):
        return False
    return _resting_side(intent) == _resting_side(other)


def _resting_side(intent: Intent) -> Side | None:
    return next((leg.side for leg in intent.legs if leg.rests), None)


def stopped(intent: Intent, accounts: AccountSet) -> Refusal | None:
    """Say whether the set, or the part of it that the intent is about, may take new risk; an exit takes none."""
    whole = accounts.risk.whole(accounts.limit).state
    if whole not in {"RUNNING", "REDUCING"}:
        return Refusal.HALTED
    parts: list[RiskPlace] = [("STRATEGY", intent.strategy)]
    parts += [("VENUE", leg.account.partition(":")[0]) for leg in intent.legs]
    parts += [("INSTRUMENT", leg.instrument) for leg in intent.legs]
    part = accounts.risk.stands(accounts.limit, parts).state
    if part not in {"RUNNING", "REDUCING"}:
        return Refusal.STOPPED
    if is_exit(intent):
        (leg,) = intent.legs
        is_sold = accounts.risk.flatten_slip_e4(intent.strategy, leg.account, leg.instrument) >= 0
        return Refusal.FLATTENING if leg.rests and is_sold else None
    if whole == "REDUCING":
        return Refusal.REDUCING
    if part == "REDUCING":
        return Refusal.STOPPED
    return Refusal.STALE_MARK if accounts.risk.needs_marks_of(accounts.limit, intent.strategy) else None


def _time(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    if abs(now_ns - intent.now_ns) > INTENT_AGE_NS_MAX:
        return Refusal.OFF_TIME
    return Refusal.LATE if now_ns > intent.recv_ts_ns + ENTRY_LIFE_NS else None


def _link(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    """Hold the intent against its link. One leg alone may name its instrument instead: then no link backs it."""
    if is_directional(intent):
        return None
    link = known.links.get(intent.link)
    if link is None:
        return Refusal.UNKNOWN_LINK
    if link.status == "SUSPENDED":
        return Refusal.LINK_SUSPENDED
    if link.status != "APPROVED" or 0 < link.expires_ts_ns <= now_ns:
        return Refusal.LINK_NOT_APPROVED
    names, joined = {leg.instrument for leg in intent.legs}, set(instruments_of(link))
    # A pair is traded whole; of an event's outcomes any may be left out, its payout table says what that is worth.
    is_of_link = names <= joined if link.kind == "EVENT" else names == joined
    return None if is_of_link and not any(leg.reduces for leg in intent.legs) else Refusal.MALFORMED


def _sound(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    """Hold the link against its instruments; what a leg itself lacks is said before, by name."""
    link = known.links.get(intent.link)
    return Refusal.LINK_SUSPENDED if link is not None and fault(link, known.instruments) else None


def is_directional(intent: Intent) -> bool:
    """Say whether no link backs an intent: one leg, named by its instrument."""
    return len(intent.legs) == 1 and intent.link == intent.legs[0].instrument


def is_exit(intent: Intent) -> bool:
    """Say whether an intent only closes what is held."""
    return is_directional(intent) and intent.legs[0].reduces


def _legs(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    if not intent.legs or len({leg.instrument for leg in intent.legs}) != len(intent.legs):
        return Refusal.MALFORMED
    for leg in intent.legs:
        instrument = known.instruments.get(leg.instrument)
        if instrument is None or not is_tradable(instrument):
            return Refusal.UNKNOWN_INSTRUMENT
        if not is_open(instrument, now_ns):
            return Refusal.NOT_OPEN
        if not _is_whole(leg, instrument) or (leg.rests and not _may_rest(intent, leg, now_ns)):
            return Refusal.MALFORMED
    return None


def _may_rest(intent: Intent, leg: Leg, now_ns: int) -> bool:
    """Say whether a leg that rests is alone, has one price, and an end that is neither past nor far."""
    left_ns = leg.expires_s * NS_PER_S - now_ns
    return is_directional(intent) and len(leg.level_prices) == 1 and 0 < left_ns <= REST_S_MAX * NS_PER_S


def _is_whole(leg: Leg, instrument: Instrument) -> bool:
    """Say whether a leg's levels are sorted, positive, end at its limit and add up to its size."""
    ordered = sorted(leg.level_prices, reverse=leg.side == "SELL")
    return (
        leg.side in {"BUY", "SELL"}
        and (leg.price_exp, leg.size_exp) == (instrument.price_exp, instrument.size_exp)
        and len(leg.level_prices) == len(leg.level_sizes) > 0
        and leg.level_prices == ordered
        and min(leg.level_sizes) > 0
        and leg.level_prices[-1] == leg.price
        and sum(leg.level_sizes) == leg.size
    )


def _accounts(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    for leg in intent.legs:
        profile = accounts.profiles.get(leg.account)
        if profile is None or profile.venue != known.instruments[leg.instrument].venue:
            return Refusal.UNKNOWN_ACCOUNT
        if not accounts.is_ready(leg.account, now_ns):
            return Refusal.NOT_READY
        if not accounts.ledgers[leg.account].known:
            return Refusal.NO_REPORT
    return None


_CHECKS: tuple[Check, ...] = (_state, _time, _link, _legs, _sound, _accounts)


# --- sizes and money


def _size(intent: Intent, accounts: AccountSet, known: Known, now_ns: int) -> Admitted | Refusal:
    """Size the intent by what of its levels is not taken already, and see what the worst state brings."""
    directional = is_directional(intent)
    sides = {leg.instrument: leg.side for leg in intent.legs}
    floor_e6 = 0 if directional else floor_of(known.links[intent.link], sides)
    instruments = tuple(
        in_force(known.instruments[leg.instrument], accounts.profiles[leg.account], now_ns) for leg in intent.legs
    )
    # What rests takes nothing from a book.
    left = [leg.level_sizes if leg.rests else accounts.claims.left(leg) for leg in intent.legs]
    step = lcm(*(instrument.size_step for instrument in instruments))
    size = min(*(leg.size for leg in intent.legs), *(sum(remaining) for remaining in left)) // step * step
    is_whole = all(leg.size == size for leg in intent.legs)
    if not is_whole and any(leg.rests for leg in intent.legs):
        return Refusal.OFF_GRID
    if not is_whole and size == 0:
        return Refusal.TAKEN
    legs = [_open_leg(leg, one, rest) for leg, one, rest in zip(intent.legs, instruments, left, strict=True)]
    walk = size_walk(legs, size, floor_e6=floor_e6)
    if walk is None:
        return Refusal.OFF_GRID if is_whole else Refusal.TAKEN
    if walk.profit_e6 <= 0 and not directional:
        return Refusal.NO_PROFIT if is_whole else Refusal.TAKEN
    leg = intent.legs[0]
    if is_exit(intent) and accounts.closable(leg.account, leg.instrument, leg.side) < size:
        return Refusal.NETTED if _is_netted(intent.strategy, leg, size, accounts) else Refusal.NOT_HELD
    if leg.rests:
        (one,) = walk.legs
        fee_e6 = resting_fee_e6(instruments[0], one.limit, size)
        walk = walk._replace(legs=(one._replace(fee_e6=fee_e6, fee_max_e6=fee_e6),))
    link = None if directional else known.links[intent.link]
    if link is not None and 0 < link.cap_e6 < walk.cost_e6 + walk.fees_e6 + _bound_e6(link, accounts):
        return Refusal.LINK_CAP
    return Admitted(walk, floor_e6, instruments)


def _is_netted(strategy: str, leg: Leg, size: int, accounts: AccountSet) -> bool:
    """Say whether a strategy holds by its own fills what the account, where holdings net, does not."""
    book = accounts.positions.books.get(strategy)
    position = book.open.get((leg.account, leg.instrument)) if book is not None else None
    held = 0 if position is None else position.size if leg.side == "SELL" else -position.size
    return accounts.ledgers[leg.account].nets and held >= size


def _bound_e6(link: Link, accounts: AccountSet) -> int:
    """Return what the link's instruments bind already."""
    return sum(accounts.exposure_e6(account, name) for account in accounts.ledgers for name in instruments_of(link))


def _open_leg(leg: Leg, instrument: Instrument, left: list[int]) -> OpenLeg:
    levels = [Level(price, size) for price, size in zip(leg.level_prices, left, strict=True)]
    # Venues ask their least size of what rests, whatever it is for.
    return OpenLeg(instrument, leg.side, levels, leg.reduces and not leg.rests)


def readmit(saga: Saga, accounts: AccountSet, known: Known, now_ns: int) -> Refusal | None:
    """Decide whether what rests may stand at the price and total that are wanted of it now.

    All is asked that is asked of a new intent for what would remain; what the saga has reserved counts for it.
    """
    intent, leg, rest = saga.intent, saga.legs[0].leg, saga.rest
    if rest is None:
        return Refusal.MALFORMED
    left = rest.size - sum(order.filled for order in saga.orders)
    moved = msgspec.structs.replace(
        leg, price=rest.price, size=left, expires_s=rest.expires_s, level_prices=[rest.price], level_sizes=[left]
    )
    wanted = msgspec.structs.replace(intent, legs=[moved])
    barred = stopped(intent, accounts)
    if barred is not None:
        return barred
    if left <= 0:
        return Refusal.MALFORMED
    for check in (_legs, _accounts):
        refusal = check(wanted, accounts, known, now_ns)
        if refusal is not None:
            return refusal
    own_unfilled = sum(order.unfilled for order in saga.orders if not order.complete)
    instrument = in_force(known.instruments[leg.instrument], accounts.profiles[leg.account], now_ns)
    walk = size_walk([_open_leg(moved, instrument, [left])], left, floor_e6=0)
    if walk is None:
        return Refusal.OFF_GRID
    if leg.reduces and accounts.closable(leg.account, leg.instrument, leg.side) + own_unfilled < left:
        return Refusal.NOT_HELD
    (one,) = walk.legs
    sized = Admitted(
        walk._replace(legs=(one._replace(fee_max_e6=resting_fee_e6(instrument, rest.price, left)),)), 0, (instrument,)
    )
    own_e6 = accounts.ledgers[leg.account].reserved.get(reservation_name(saga, 0), 0)
    # While nobody knows whether it was amended more may be needed than either offer does.
    alone_e6 = open_cost_e6(leg.side, rest.price, left) + sized.walk.legs[0].fee_max_e6
    own_e6 -= max(accounts.amended_need_e6(saga, rest.price, rest.size - saga.filled_before) - alone_e6, 0)
    return _afford(wanted, sized, accounts, known, saga.intent.id, own_e6) or _within_budgets(
        wanted, sized, accounts, known, now_ns, own_e6
    )


def _afford(
    intent: Intent, sized: Admitted, accounts: AccountSet, known: Known, own: str = "", own_e6: int = 0
) -> Refusal | None:
    """Say whether the money is there; `own` is the saga that asks again, `own_e6` what it has reserved."""
    limit = accounts.limit
    needs: dict[tuple[str, int], int] = {}
    for leg, walked, instrument in zip(intent.legs, sized.walk.legs, sized.instruments, strict=True):
        cost_e6 = open_cost_e6(leg.side, walked.limit, sized.walk.size)
        if leg.reduces:
            # It takes risk away and is paid with what is held; what opening its side would cost says nothing of it.
            return Refusal.SELF_CROSS if accounts.crosses_own(leg.instrument, leg.side, walked.limit, but=own) else None
        if limit is None or cost_e6 > limit.order_notional_max_e6:
            return Refusal.ORDER_NOTIONAL
        if accounts.exposure_e6(leg.account, leg.instrument) - own_e6 + cost_e6 > limit.market_notional_max_e6:
            return Refusal.MARKET_NOTIONAL
        if accounts.crosses_own(leg.instrument, leg.side, walked.limit, but=own):
            return Refusal.SELF_CROSS
        place = (leg.account, instrument.exchange_index)
        needs[place] = needs.get(place, 0) + cost_e6 + walked.fee_max_e6 - own_e6
    return _is_there(needs, accounts, known)


def _is_there(needs: Mapping[tuple[str, int], int], accounts: AccountSet, known: Known) -> Refusal | None:
    """Say whether what is needed, by account and exchange shard, may be reserved: in sum, and on each shard."""
    for account in {account: None for account, _ in needs}:
        need = sum(one for (name, _), one in needs.items() if name == account)
        if need > accounts.ledgers[account].usable_e6(accounts.profiles[account].capital_e6):
            return Refusal.CAPITAL
    for (account, shard), need in needs.items():
        usable_e6 = accounts.usable_on(account, shard, known.instruments)
        if usable_e6 is not None and need > usable_e6:
            return Refusal.SHARD_CAPITAL
    return None


def _within_budgets(
    intent: Intent, sized: Admitted, accounts: AccountSet, known: Known, now_ns: int, own_e6: int = 0
) -> Refusal | None:
    if is_exit(intent):
        # It binds nothing, so it is let through however much is used. What rests can wait for the order rate.
        (leg,), (instrument,) = intent.legs, sized.instruments
        is_slow = leg.rests and not budgets.rate_allows(accounts.risk, instrument.venue, 1, now_ns)
        return Refusal.BUDGET_RATE if is_slow else None
    needs = [
        Need(leg.account, instrument, _cost_e6(leg, one, own_e6))
        for leg, instrument, one in zip(intent.legs, sized.instruments, sized.walk.legs, strict=True)
    ]
    over = budgets.refuse(intent, needs, accounts, known, now_ns)
    return Refusal(f"BUDGET_{over}") if over is not None else None


def _cost_e6(leg: Leg, one: SizedLeg, own_e6: int) -> int:
    return open_cost_e6(leg.side, one.limit, one.size) + one.fee_max_e6 - own_e6

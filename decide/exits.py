"""Selling what an account set holds, or a part of it: a command that reduces may ask for that. Pure.

While such a command stands, each open position in its scope is an exit: an intent of one leg that reduces, at the best
opposite price of a book that is LIVE less the slip, one at a time for each strategy and instrument. It goes through
admission, grants and gateways like any other. What is part of a saga that is open waits for its end; what is HOLDING
needs a human's word (`crossbook sagas unwind`). The strategy's own quotes are taken back for it, and no new one is let
in (`admission`). A position that stays is tried again ever more seldom.
"""

from collections.abc import Iterator

from core.domain.units import ONE_DOLLAR_E4
from core.runtime.clock import NS_PER_S
from decide.account_set import AccountSet
from decide.admission import Known
from decide.conduct import OPPOSITE, on_grid, worse_price
from decide.marks import Mark, Marks
from decide.positions import PositionKey
from decide.risk import Exit, is_flattening
from decide.turn import Turn
from schemas.decision import Intent, Leg, Saga
from schemas.enums import Side
from schemas.market import Instrument

PREFIX = "flatten/"
"""of the ids of these intents"""
RETRY_NS = NS_PER_S
DOUBLINGS_MAX = 6
"""A position of which nothing could be sold is tried again after 1, 2, 4 s and so on, after 64 s at the most."""


def side_of(saga: Saga) -> Side | None:
    """Return the YES side of an exit that a command asked for, None for a strategy's own saga.

    Strategies count what they hold by the sagas they know: they take up these.
    """
    if not saga.id.startswith(PREFIX) or not saga.sides:
        return None
    return "BUY" if saga.sides[0] == "BUY" else "SELL"


def due(accounts: AccountSet, known: Known, marks: Marks, turn: Turn) -> Iterator[Intent]:
    """Yield the exits to try now; each is counted as a try."""
    tried = accounts.risk.exits
    if not any(is_flattening(command) for command in accounts.risk.commands.values()):
        tried.clear()
        return
    busy = {*_busy(accounts)}
    held: set[str] = set()
    for strategy, book in sorted(accounts.positions.books.items()):
        for (account, instrument), position in sorted(book.open.items()):
            slip_e4 = accounts.risk.flatten_slip_e4(strategy, account, instrument)
            if slip_e4 < 0:
                continue
            name = f"{strategy}|{account}|{instrument}"
            held.add(name)
            last = tried.get(name, Exit())
            tries = last.tries if last.size == position.size else 0
            if busy & {("", instrument), (strategy, instrument)} or (tries and turn.now_ns < last.next_ns):
                continue
            intent = _exit(accounts, known, marks, (account, instrument), strategy, position.size, slip_e4, turn)
            tried[name] = Exit(position.size, tries + 1, turn.now_ns + (RETRY_NS << min(tries, DOUBLINGS_MAX)))
            if intent is not None:
                yield intent
    for name in tried.keys() - held:
        del tried[name]


def _busy(accounts: AccountSet) -> Iterator[tuple[str, str]]:
    """Yield what is no exit's yet: where sagas are under way, for each strategy (""); where one's own rest or hold.

    Quotes of others stand, or go out of the way when an exit would trade with them.
    """
    for saga in accounts.open_sagas():
        for leg in saga.legs:
            yield ("" if saga.rest is None else saga.intent.strategy, leg.leg.instrument)
    for saga in accounts.holding():
        for leg in saga.legs:
            if leg.exposure > 0:
                yield (saga.intent.strategy, leg.leg.instrument)


def _exit(
    accounts: AccountSet,
    known: Known,
    marks: Marks,
    key: PositionKey,
    strategy: str,
    position: int,
    slip_e4: int,
    turn: Turn,
) -> Intent | None:
    """Return the exit of one position, None where it cannot be sold now."""
    account, name = key
    instrument, mark = known.instruments.get(name), marks.by_instrument.get(name)
    # Our own fill is a mark for a while, but no book: nobody bids there.
    is_quoted = mark is not None and mark.partition >= 0 and marks.is_young(name, turn.now_ns)
    if instrument is None or mark is None or not is_quoted:
        return None
    side: Side = "SELL" if position > 0 else "BUY"
    price = _limit(instrument, mark, side, slip_e4)
    size = min(abs(position), accounts.closable(account, name, side)) // instrument.size_step * instrument.size_step
    if price is None or size == 0:
        return None
    leg = Leg(
        instrument=name,
        account=account,
        side=side,
        price=price,
        size=size,
        price_exp=instrument.price_exp,
        size_exp=instrument.size_exp,
        fee_max_e6=0,  # admission reckons it
        version_offset=mark.version[0],
        version_index=mark.version[1],
        recv_ts_ns=turn.now_ns,  # the ticks of its partition say that the book holds still
        level_prices=[price],
        level_sizes=[size],
        reduces=True,
    )
    return Intent(
        id=f"{PREFIX}{turn.new_id()}",
        strategy=strategy,
        link=name,
        account_set=accounts.name,
        now_ns=turn.now_ns,
        legs=[leg],
        profit_e6=0,
        input_partition=turn.item.partition,
        input_offset=turn.item.offset,
        recv_ts_ns=turn.now_ns,
        trail=turn.trail,
    )


def _limit(instrument: Instrument, mark: Mark, side: Side, slip_e4: int) -> int | None:
    best = mark.bid if side == "SELL" else mark.ask
    if not best:
        return None
    step = slip_e4 if side == "BUY" else -slip_e4
    wanted = best + step
    if on_grid(instrument, wanted):
        return wanted
    # Off the grid, or beyond its end: the nearest price that is not further away than was allowed.
    found = worse_price(instrument, OPPOSITE[side], max(min(wanted, ONE_DOLLAR_E4), 0), 1)
    return found if found is not None else best

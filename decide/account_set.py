"""What one mind decides over: the venue accounts that may be combined, their orders, sagas, claims and limit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.runtime.clock import NS_PER_S
from decide.claims import Claims
from decide.conduct import CONDUCTS, FILLS_PER_LEVEL, OPPOSITE, fee_max_e6, open_cost_e6, resting_fee_e6
from decide.ledger import Account
from decide.orders import NONE, Order, Orders
from decide.positions import Position, PositionKey, Positions
from decide.risk import Place, Risk
from decide.saga import LegState, Saga
from decide.shards import KNOWN_AFTER_NS
from schemas.decision import Leg, Limit, Posting, Profile
from schemas.enums import Outcome, Side
from schemas.market import Instrument
from schemas.order import Alive, VenueReport

ALIVE_AGE_NS_MAX = 2 * NS_PER_S
Opened = tuple[str, PositionKey, Side]
"""Strategy, account and instrument, and whether sagas bought or sold YES there."""


@dataclass
class AccountSet:
    """One account set."""

    name: str
    limit: Limit | None = None
    profiles: dict[str, Profile] = field(default_factory=dict)
    ledgers: dict[str, Account] = field(default_factory=dict)
    alive: dict[str, Alive] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)
    claims: Claims = field(default_factory=Claims)
    sagas: dict[str, Saga] = field(default_factory=dict)
    saga_of_order: dict[str, str] = field(default_factory=dict)
    positions: Positions = field(default_factory=Positions)
    risk: Risk = field(default_factory=Risk)
    postings: dict[str, Posting] = field(default_factory=dict)
    """what humans entered of accounts that are not known yet, by id"""
    waiting: dict[str, str] = field(default_factory=dict)
    """saga -> what it waits for before its next order may be granted"""
    _open: dict[str, Saga] = field(default_factory=dict)
    _holding: dict[str, Saga] = field(default_factory=dict)
    _counted: dict[str, dict[Opened, int]] = field(default_factory=dict)
    """saga -> what stands on its legs, as it is in the sums"""
    _opened: dict[Opened, int] = field(default_factory=dict)
    """what stands on the legs of all sagas"""
    changed_sagas: set[str] = field(default_factory=set)
    """sagas (with their orders) that are not written down as they are"""

    def add_profile(self, profile: Profile) -> None:
        """Take a venue account in, or change its profile; what was counted stays."""
        self.profiles[profile.id] = profile
        if profile.id not in self.ledgers:
            conduct = CONDUCTS[profile.venue]
            self.ledgers[profile.id] = Account(
                profile.id,
                nets=conduct.nets,
                settles_later=conduct.settles_later,
                states_payouts=conduct.states_payouts,
            )

    def is_ready(self, account: str, now_ns: int) -> bool:
        """Say whether the account's gateway said lately that it can trade."""
        alive = self.alive.get(account)
        return alive is not None and alive.ready and now_ns - alive.ts_ns < ALIVE_AGE_NS_MAX

    def is_halted(self) -> bool:
        """Say whether not even hedges may be granted."""
        return self.risk.whole(self.limit).state not in {"RUNNING", "REDUCING"}

    def bars(self, account: str, instrument: str) -> bool:
        """Say whether an order may not be granted there even to take risk away: the set, venue or instrument is HALTED."""
        places: list[Place] = [("VENUE", self.profiles[account].venue), ("INSTRUMENT", instrument)]
        return self.risk.stands(self.limit, places).state not in {"RUNNING", "REDUCING"}

    def strategy_of(self, order: str) -> str:
        """Return the strategy an order was granted to, empty if the order is not ours."""
        name = self.saga_of_order.get(order)
        return self.sagas[name].intent.strategy if name is not None else ""

    # Sagas

    def add_saga(self, saga: Saga) -> None:
        """Begin a saga."""
        self.sagas[saga.intent.id] = saga
        self._open[saga.intent.id] = saga
        self.changed_sagas.add(saga.intent.id)

    def restore_saga(self, saga: Saga) -> None:
        """Know a saga and its orders again."""
        self.sagas[saga.intent.id] = saga
        for order in saga.orders:
            self.orders.restore(order)
            self.saga_of_order[order.grant.id] = saga.intent.id
        self.note_state(saga)
        self._sum(saga)

    def saga_of(self, order: str) -> Saga | None:
        """Return the saga of an order about which something was heard, None if the order is not ours."""
        name = self.saga_of_order.get(order)
        if name is None:
            return None
        self.changed_sagas.add(name)
        return self.sagas[name]

    def open_sagas(self) -> Collection[Saga]:
        """Return the sagas that are not at their end, oldest first."""
        return self._open.values()

    def holding(self) -> Collection[Saga]:
        """Return the sagas that wait for a human."""
        return self._holding.values()

    def note_state(self, saga: Saga) -> None:
        """Keep the lists of sagas right after a state changed."""
        if saga.is_open:
            self._open[saga.intent.id] = saga
        else:
            self._open.pop(saga.intent.id, None)
            self.waiting.pop(saga.intent.id, None)
        if saga.state == "HOLDING":
            self._holding[saga.intent.id] = saga
        else:
            self._holding.pop(saga.intent.id, None)

    def count(self, saga: Saga) -> None:
        """Sum what stands on a saga's legs, and see what of it its strategy still holds.

        What sagas of a strategy opened is gone where an exit sold it, its market paid, or a human moved it.
        """
        self._sum(saga)
        for leg in saga.legs:
            leg.gone = 0 if leg.reduces else max(leg.exposure - self._left(saga, leg.leg), 0)

    def is_leaving(self, saga: Saga, leg: Leg, size: int) -> bool:
        """Say whether other orders of a saga's strategy may sell so much of what it holds that less than `size` is left."""
        out = sum(
            order.unfilled
            for order in self.orders.open_on(leg.instrument)
            if order.grant.account == leg.account
            and order.grant.purpose == "UNWIND"
            and order.grant.side == OPPOSITE[leg.side]
            and self.strategy_of(order.grant.id) == saga.intent.strategy
        )
        return self._left(saga, leg) - out < size

    def _left(self, saga: Saga, leg: Leg) -> int:
        """Return what a strategy holds of what its sagas opened by a leg's side, beside what they opened by the other."""
        key = (leg.account, leg.instrument)
        book = self.positions.books.get(saga.intent.strategy)
        size = book.open.get(key, Position()).size if book is not None else 0
        other = self._opened.get((saga.intent.strategy, key, OPPOSITE[leg.side]), 0)
        return max((size if leg.side == "BUY" else -size) + other, 0)

    def _sum(self, saga: Saga) -> None:
        stands: dict[Opened, int] = {}
        for leg in saga.legs:
            if leg.exposure and not leg.reduces:
                # More sold than bought is a sale.
                side = leg.leg.side if leg.exposure > 0 else OPPOSITE[leg.leg.side]
                stands[saga.intent.strategy, (leg.leg.account, leg.leg.instrument), side] = abs(leg.exposure)
        before = self._counted.pop(saga.intent.id, {})
        if stands:
            self._counted[saga.intent.id] = stands
        for opened in {**before, **stands}:
            self._opened[opened] = self._opened.get(opened, 0) + stands.get(opened, 0) - before.get(opened, 0)
            if not self._opened[opened]:
                del self._opened[opened]

    # Money

    def exposure_e6(self, account: str, instrument: str) -> int:
        """Return what an instrument's holdings cost and its sagas have reserved."""
        reserved = sum(
            self.ledgers[account].reserved.get(reservation_name(saga, index), 0)
            for saga in self._open.values()
            for index, leg in enumerate(saga.legs)
            if leg.leg.account == account and leg.leg.instrument == instrument
        )
        return self.ledgers[account].cost_of(instrument) + reserved

    def state_shards(self, report: VenueReport) -> None:
        """Take where an account's cash lies, from a report that knows of all that moved it.

        What rests is out of the venue's figure and reserved here: it is counted as there, once the report must know of it.
        """
        ledger = self.ledgers[report.account]
        if ledger.known and report.as_of_ns <= ledger.moved_ns:
            return
        bound_e6: dict[int, int] = {}
        resting: dict[str, bool] = {}
        for saga in self.resting():
            leg, known_ns = saga.legs[0], report.as_of_ns - KNOWN_AFTER_NS
            if leg.leg.account == report.account and leg.orders and _has_rested(leg.orders, known_ns):
                shard = leg.instrument.exchange_index
                held_e6 = ledger.reserved.get(reservation_name(saga, 0), 0)
                bound_e6[shard] = bound_e6.get(shard, 0) + held_e6
                resting[leg.leg.instrument] = True
        ledger.shards.take(report, bound_e6, resting)

    def usable_on(self, account: str, shard: int, instruments: Mapping[str, Instrument]) -> int | None:
        """Return what of an account's cash may be reserved for markets of a shard, None where its venue states none."""
        ledger = self.ledgers[account]
        cash_e6 = ledger.shards.cash_e6(shard, instruments)
        if cash_e6 is None:
            return None
        for name, money_e6 in ledger.reserved.items():
            intent, _, index = name.rpartition("/")
            if self.sagas[intent].legs[int(index)].instrument.exchange_index == shard:
                cash_e6 -= money_e6
        return cash_e6

    def reserve(self, saga: Saga) -> None:
        """Set the reservations of a saga to what its next and open orders may still cost."""
        for index, leg in enumerate(saga.legs):
            self.ledgers[leg.leg.account].reserve(reservation_name(saga, index), self._need_e6(saga, index, leg))

    def _need_e6(self, saga: Saga, index: int, leg: LegState) -> int:
        """Return what one leg may still cost: the rest of its open orders, else the leg that is planned.

        A surprise may leave an order incomplete in a saga that had ended: its rest is reserved all the same.
        """
        needs = [self._order_need_e6(order, leg) for order in leg.orders if not order.complete]
        return sum(needs) if needs else self._plan_need_e6(leg, saga.planned(index))

    def _plan_need_e6(self, leg: LegState, size: int) -> int:
        if size <= 0:
            return 0
        wanted = leg.leg
        fills = FILLS_PER_LEVEL * len(wanted.level_prices)
        fee = fee_max_e6(leg.instrument, wanted.price, wanted.level_prices[0], size, fills)
        return open_cost_e6(wanted.side, wanted.price, size) + fee

    def _order_need_e6(self, order: Order, leg: LegState) -> int:
        """Return it at the dearest price and the largest total: part may fill at one before the other holds."""
        total = max(size for _, size in order.offers)
        return max(self._offer_need_e6(order, leg, price, total) for price, _ in order.offers)

    def amended_need_e6(self, saga: Saga, price: int, total: int) -> int:
        """Return what a saga's open order may cost while it is not known whether it was amended; 0 without one."""
        leg = saga.legs[0]
        return max(
            (
                self._order_need_e6(replace(order, asked=(price, total)), leg)
                for order in leg.orders
                if not order.complete and CONDUCTS[leg.instrument.venue].amends
            ),
            default=0,
        )

    def _offer_need_e6(self, order: Order, leg: LegState, price: int, size: int) -> int:
        """Return what an order may still cost if it stands at a price and total."""
        grant = order.grant
        rest = max(size - order.filled, 0)
        fee_max = resting_fee_e6(leg.instrument, price, size) if grant.post_only else grant.fee_max_e6
        fee = max(fee_max - order.fees_e6, 0)
        if grant.purpose != "UNWIND":
            owed_e6 = sum(
                max(open_cost_e6(grant.side, at, left) - open_cost_e6(grant.side, price, left), 0)
                for at, left in order.owed
            )
            return open_cost_e6(grant.side, price, rest) + owed_e6 + fee
        ledger = self.ledgers[grant.account]
        if not ledger.nets:
            # Sold from what is held; its fee comes out of what it brings.
            return 0
        position = ledger.holding(grant.instrument, "YES").size
        closing = max(position if grant.side == "SELL" else -position, 0)
        return open_cost_e6(grant.side, price, max(rest - closing, 0)) + fee

    # Our own orders

    def crosses_own(self, instrument: str, side: Side, price: int, *, but: str = "") -> bool:
        """Say whether an order would trade with an open or planned one of ours; `but` names its own saga."""
        return any(
            self._is_crossed(saga, instrument, side, price) for saga in self._open.values() if saga.intent.id != but
        )

    def crossing(self, instrument: str, side: Side, price: int, *, but: str = "") -> list[Saga]:
        """Return the sagas whose orders, open or planned, an order would trade with, in the order of their ids."""
        others = (saga for name, saga in sorted(self._open.items()) if name != but)
        return [saga for saga in others if self._is_crossed(saga, instrument, side, price)]

    @staticmethod
    def _is_crossed(saga: Saga, instrument: str, side: Side, price: int) -> bool:
        return any(
            other_side == OPPOSITE[side] and (price >= other if side == "BUY" else other >= price)
            for other_side, other in _prices(saga, instrument)
        )

    def resting(self) -> list[Saga]:
        """Return the sagas that rest, in the order of their ids: one that took up a checkpoint knows no other."""
        return [saga for _, saga in sorted(self._open.items()) if saga.rest is not None]

    def sellable(self, order_size: int, account: str, instrument: str, side: Side) -> bool:
        """Say whether enough is confirmed, and in no other sale, to take back `order_size` by a YES `side`."""
        return self.ledgers[account].nets or self.closable(account, instrument, side) >= order_size

    def closable(self, account: str, instrument: str, side: Side) -> int:
        """Return what a YES `side` can close: held, confirmed, and in no order that closes already."""
        return max(self._uncommitted(account, instrument, side), 0)

    def is_overcommitted(self, account: str, instrument: str, side: Side) -> bool:
        """Say whether orders would close more by a YES `side` than is held: what they count on went meanwhile."""
        return self._uncommitted(account, instrument, side) < 0

    def _uncommitted(self, account: str, instrument: str, side: Side) -> int:
        ledger = self.ledgers[account]
        outcome: Outcome = "YES" if side == "SELL" or ledger.nets else "NO"
        holding = ledger.holding(instrument, outcome)
        held = holding.sellable
        if ledger.nets:
            sign = 1 if side == "SELL" else -1
            # What a human entered and no report shows yet may never come: sold, it would be a short.
            coming = sum(max(sign * one.size, 0) for one in ledger.coming if one.key == (instrument, outcome))
            held = max(sign * holding.size - coming, 0)
        return held - sum(
            order.unfilled
            for order in self.orders.open_on(instrument)
            if order.grant.account == account and order.grant.purpose == "UNWIND" and order.grant.side == side
        )


def _has_rested(orders: Sequence[Order], since_ns: int) -> bool:
    """Say whether the last of a saga's orders is on the book as it is since then, and no other may fill any more."""
    *ended, last = orders
    return (
        all(order.complete for order in ended)
        and last.status == "ACCEPTED"
        and last.asked == NONE
        and max(last.grant.now_ns, last.stands_ns) < since_ns
    )


def reservation_name(saga: Saga, index: int) -> str:
    """Return the name of a leg's reservation and claims."""
    return f"{saga.intent.id}/{index}"


def _prices(saga: Saga, instrument: str) -> list[tuple[Side, int]]:
    """Return side and limit of what a saga has open on an instrument or will send there."""
    found: list[tuple[Side, int]] = []
    for index, leg in enumerate(saga.legs):
        if leg.leg.instrument != instrument:
            continue
        found += [(order.grant.side, price) for order in leg.orders if not order.complete for price, _ in order.offers]
        if index > 0 and not leg.orders and saga.state in {"FIRST_LEG", "SECOND_LEG"}:
            found.append((leg.leg.side, leg.leg.price))
    return found

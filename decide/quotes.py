"""Sagas that rest: one order on the book, followed, moved and taken back as its strategy says, and where it must not stand.

    RESTING: granted -> rests -> filled | taken back | expired | refused -> DONE
                          ^ amended, where the venue offers it
             taken back -> final fill -> granted anew, where it does not

At most one order of a saga is out. What it may cost stays reserved at its worst until a terminal event: an amendment
without a word reserves for both. One amendment is out at a time; what else is wanted meanwhile waits, the newest word
only. Whatever cannot be done as it is wanted (too late, refused, no answer) ends with the order being taken back: a
price that nobody wants any more is worse than none. Nothing is granted again but what a strategy asked for, so every
order and amendment here answers one word of a strategy; `CHANGES_MAX` and `ORDERS_MAX` bound a saga, the venue's order
rate all of them.
"""

from core.runtime.clock import NS_PER_S
from decide.account_set import AccountSet
from decide.admission import ENTRY_LIFE_NS, Known, Refusal, readmit, stopped
from decide.budgets import charge, rate_allows
from decide.conduct import CONDUCTS, is_open
from decide.grants import make_amend, make_cancel, make_grant, make_resting
from decide.orders import NONE, NOT_AMENDED, Order
from decide.rest import CHANGES_MAX, ORDERS_MAX, REST_S_MAX, Rest
from decide.saga import Place, Saga
from decide.turn import Turn
from schemas.decision import Requote
from schemas.enums import Side
from schemas.order import OrderUpdate

ANSWER_NS = 2 * NS_PER_S
"""Where nothing was heard of an order or an amendment for so long after it may last have left, the order is taken back."""
AGAIN_NS = 2 * NS_PER_S
"""An order that replaces another is granted within this time of what the wanted price is based on."""
_WAITS = frozenset({Refusal.SELF_CROSS, Refusal.NOT_READY})
"""What may pass by itself: asked again until it is too late."""


def cancel(order: Order, reason: str, turn: Turn) -> None:
    """Take an order back; said once, the gateway repeats it until a terminal event."""
    if not order.cancel_sent:
        order.cancel_sent = True
        turn.order(order.grant.account, make_cancel(order, reason, turn))


class Quotes:
    """What the accounts' task does about sagas that rest."""

    def __init__(self, known: Known) -> None:
        """`known` is that of the task: it fills it."""
        self._known = known

    # Who has a word

    def asked(self, accounts: AccountSet, word: Requote, turn: Turn) -> list[Saga]:
        """Take a strategy's word on its sagas that rest; return those it changes.

        A REPLACE that is older than the newest taken is a repeat: a predecessor that thawed says again what it said.
        """
        found = [accounts.sagas[name] for name in word.intents if name in accounts.sagas]
        changed = []
        for saga in found:
            rest = saga.rest
            if rest is None or not saga.is_open or saga.intent.strategy != word.strategy:
                continue
            rest.heard_ns = max(rest.heard_ns, word.now_ns)
            accounts.changed_sagas.add(saga.intent.id)
            if word.action == "CANCEL":
                # Whenever it was said: what was to go once does not come back.
                _pull(rest, word.reason or "WITHDRAWN")
                changed.append(saga)
            elif word.action == "REPLACE" and word.input_offset > rest.asked_at and not rest.pulled:
                rest.asked_at = word.input_offset
                self._replace(rest, word, turn.now_ns)
                changed.append(saga)
        return changed

    def _replace(self, rest: Rest, word: Requote, now_ns: int) -> None:
        left_ns = word.expires_s * NS_PER_S - now_ns
        if len(word.intents) != 1 or word.price <= 0 or word.size <= 0 or not 0 < left_ns <= REST_S_MAX * NS_PER_S:
            _pull(rest, Refusal.MALFORMED)
        else:
            rest.take(word)

    def heard(self, saga: Saga, update: OrderUpdate) -> None:
        """Take a gateway's word on the order of a saga that rests."""
        order = _last(saga)
        if saga.rest is None or order is None or order.terminal or order.grant.id != update.order:
            return
        if update.status == "OUTCOME_UNKNOWN":
            # Whether it rests nobody knows now; nothing may be built on it.
            _pull(saga.rest, "OUTCOME_UNKNOWN")
        elif update.reason.startswith(NOT_AMENDED):
            # It stands at a price that is not wanted any more. Or at the new one: a successor cannot know.
            _pull(saga.rest, "NOT_AMENDED")

    def fallen(self, accounts: AccountSet, now_ns: int) -> list[Saga]:
        """Return the sagas that may stand no longer, marked so."""
        found = []
        for saga in accounts.resting():
            reason = self._why_not(accounts, saga, now_ns)
            if reason and saga.rest is not None and not saga.rest.pulled:
                saga.rest.pulled = str(reason)
                found.append(saga)
        return found

    def _why_not(self, accounts: AccountSet, saga: Saga, now_ns: int) -> str:
        """Return why a saga may not rest any longer, empty if it may."""
        rest, leg, order = saga.rest, saga.legs[0].leg, _last(saga)
        if rest is None or order is None or order.terminal:
            return ""
        barred = stopped(saga.intent, accounts)
        if barred is not None:
            return barred
        described = self._known.instruments.get(leg.instrument)
        if described is None or not is_open(described, now_ns):
            return Refusal.NOT_OPEN
        if not accounts.is_ready(leg.account, now_ns):
            return Refusal.NOT_READY
        if leg.reduces and accounts.is_overcommitted(leg.account, leg.instrument, leg.side):
            return Refusal.NOT_HELD
        if now_ns >= rest.expires_s * NS_PER_S:
            return "EXPIRED"
        if rest.is_silent(now_ns):
            return "SILENT"
        if order.status == "UNKNOWN" and now_ns > order.grant.send_by_ns + ANSWER_NS:
            return "NO_ANSWER"
        is_asked = order.asked != NONE
        return "NO_ANSWER" if is_asked and now_ns > order.asked_until_ns + ANSWER_NS else ""

    def clear_way(self, accounts: AccountSet, own: str, instrument: str, side: Side, price: int) -> list[Saga]:
        """Return the sagas that rest where an order of the saga `own` would trade with them, marked to be taken back."""
        found = []
        for other in accounts.crossing(instrument, side, price, but=own):
            if other.rest is not None and not other.rest.pulled:
                other.rest.pulled = "IN_THE_WAY"
                found.append(other)
        return found

    # What is next

    def step(self, accounts: AccountSet, saga: Saga, turn: Turn) -> None:
        """Take the saga's next step."""
        rest, order = saga.rest, _last(saga)
        if rest is None:
            return
        accounts.waiting.pop(saga.intent.id, None)
        if order is None:
            saga.state = "RESTING"
            self._grant(accounts, saga, turn, send_by_ns=saga.intent.recv_ts_ns + ENTRY_LIFE_NS)
        elif not order.terminal:
            waits_for = self._steer(accounts, saga, rest, order, turn)
            if waits_for:
                accounts.waiting[saga.intent.id] = waits_for
        elif not saga.is_waiting_for_orders:
            self._end(accounts, saga, rest, turn)

    def _steer(self, accounts: AccountSet, saga: Saga, rest: Rest, order: Order, turn: Turn) -> str:
        """Bring an order to where it is wanted; return what may let it wait beyond the next word, empty if nothing."""
        if order.cancel_sent:
            return ""
        if not rest.pulled:
            waits_for = self._move(accounts, saga, rest, order, turn)
            if not rest.pulled:
                return waits_for
        cancel(order, rest.pulled, turn)
        return ""

    def _move(self, accounts: AccountSet, saga: Saga, rest: Rest, order: Order, turn: Turn) -> str:
        # The total is the saga's; of an order that took another's place it is what was not filled before.
        wanted = (rest.price, rest.size - saga.filled_before)
        if order.asked != NONE:
            return ""
        if wanted == order.offer:
            self._prolong(accounts, saga, rest, order, turn)
            return ""
        if wanted[1] <= order.filled:
            _pull(rest, "REDUCED")
            return ""
        if turn.now_ns > rest.recv_ts_ns + ENTRY_LIFE_NS:
            _pull(rest, Refusal.LATE)
            return ""
        if order.status != "ACCEPTED":
            return ""
        refusal = readmit(saga, accounts, self._known, turn.now_ns)
        if refusal in _WAITS:
            return str(refusal)
        if refusal is not None or rest.changes >= CHANGES_MAX:
            _pull(rest, refusal or "WORN")
            return ""
        if not CONDUCTS[saga.legs[0].instrument.venue].amends:
            rest.again = True
            cancel(order, "REPLACED", turn)
        elif rate_allows(accounts.risk, saga.legs[0].instrument.venue, 1, turn.now_ns):
            self._amend(accounts, saga, rest, order, turn)
            order.asked = wanted
            order.asked_until_ns = rest.recv_ts_ns + ENTRY_LIFE_NS
        else:
            _pull(rest, Refusal.BUDGET_RATE)
        return ""

    def _prolong(self, accounts: AccountSet, saga: Saga, rest: Rest, order: Order, turn: Turn) -> None:
        """Let an order that stays as it is live longer, where that can be asked; else it ends, and another may begin.

        No word says whether it was done, and nothing hangs on it: its end is the venue's word, or our own cancel.
        """
        venue = saga.legs[0].instrument.venue
        ends_s = order.expires_s or order.grant.expires_s
        is_due = CONDUCTS[venue].amends and rest.expires_s > ends_s and order.status == "ACCEPTED"
        is_late = turn.now_ns > rest.recv_ts_ns + ENTRY_LIFE_NS or rest.changes >= CHANGES_MAX
        if is_due and not is_late and rate_allows(accounts.risk, venue, 1, turn.now_ns):
            self._amend(accounts, saga, rest, order, turn)

    def _amend(self, accounts: AccountSet, saga: Saga, rest: Rest, order: Order, turn: Turn) -> None:
        charge(accounts.risk, saga.legs[0].instrument.venue, 1, turn.now_ns)
        rest.changes += 1
        order.expires_s = rest.expires_s
        turn.order(order.grant.account, make_amend(order, rest, rest.size - saga.filled_before, turn))

    def _grant(self, accounts: AccountSet, saga: Saga, turn: Turn, *, send_by_ns: int) -> None:
        rest, leg = saga.rest, saga.legs[0]
        if rest is None:
            return
        left = rest.size - sum(order.filled for order in leg.orders)
        place = Place(0, "UNWIND" if leg.reduces else "ENTRY", leg.leg.side, rest.price, left, "RESTING", 0)
        grant = make_grant(
            saga,
            place,
            grant_id=turn.new_id(0, len(leg.orders) + 1),
            now_ns=turn.now_ns,
            recv_ts_ns=turn.recv_ts_ns,
            trail=turn.trail,
        )
        grant = make_resting(grant, rest, saga, send_by_ns=send_by_ns)
        leg.orders.append(accounts.orders.add(grant))
        accounts.saga_of_order[grant.id] = saga.intent.id
        turn.order(grant.account, grant)

    # How it ends

    def _end(self, accounts: AccountSet, saga: Saga, rest: Rest, turn: Turn) -> None:
        """Grant the order that replaces the one that ended, or end the saga."""
        if saga.state == "RESTING" and rest.again and not rest.pulled:
            rest.again = False
            refusal = self._why_not_again(accounts, saga, rest, turn.now_ns)
            if not refusal:
                charge(accounts.risk, saga.legs[0].instrument.venue, 1, turn.now_ns)
                send_by_ns = min(turn.now_ns + ENTRY_LIFE_NS, rest.recv_ts_ns + AGAIN_NS)
                self._grant(accounts, saga, turn, send_by_ns=send_by_ns)
                return
            rest.pulled = str(refusal)
        saga.state, saga.reason = "DONE", _reason(saga, rest)

    def _why_not_again(self, accounts: AccountSet, saga: Saga, rest: Rest, now_ns: int) -> str:
        venue = saga.legs[0].instrument.venue
        if rest.size <= sum(order.filled for order in saga.orders):
            return "FILLED"
        if now_ns > rest.recv_ts_ns + AGAIN_NS:
            return Refusal.LATE
        if len(saga.orders) >= ORDERS_MAX:
            return "WORN"
        if not rate_allows(accounts.risk, venue, 1, now_ns):
            return Refusal.BUDGET_RATE
        return readmit(saga, accounts, self._known, now_ns) or ""


def _pull(rest: Rest, reason: str) -> None:
    rest.pulled = rest.pulled or str(reason)


def _last(saga: Saga) -> Order | None:
    orders = saga.legs[0].orders
    return orders[-1] if orders else None


def _reason(saga: Saga, rest: Rest) -> str:
    """Return why a saga that rested is at its end."""
    order = saga.legs[0].orders[-1]
    if saga.failed:
        return "SETTLEMENT_FAILED"
    if order.status == "FILLED" or sum(one.filled for one in saga.orders) >= rest.size:
        return "FILLED"
    if rest.pulled:
        return rest.pulled
    return order.status

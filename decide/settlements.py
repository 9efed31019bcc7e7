"""What settled markets pay, in two steps: provisional by the market's own word, final by what the venue says it paid.

    determined ──▶ PROVISIONAL entry ──(disputed, amended, open again)──▶ its reversal ──▶ PROVISIONAL at the new value
    paid       ──▶ reversal of the provisional one, FINAL entry ──(corrected)──▶ reversal of it, FINAL as corrected

A provisional entry moves neither cash nor holding: an account stays what the venue says it has. A final one is booked
once per statement (`order.Payout`), cash by the statement's own figure, where the venue lists what it paid; elsewhere the
difference of cash that its reports show is the statement (`reconciliation`). A later statement about the same market is
a correction. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from core.runtime import log as logs
from decide.account_set import AccountSet
from decide.ledger import Account, HoldingKey
from decide.marks import PayoutWords
from decide.payouts import Closed, Paid, Provisional, order_of, paid_yes_e6, rate_of, says_the_same
from decide.risk import DIFFERS
from decide.turn import Turn, write_ledger
from decide.waits import NOT_ENDED, booked
from schemas.decision import Entry
from schemas.enums import EntryKind, Outcome, SettlementPhase
from schemas.order import Fill, Payout

log = logs.get()


class Said(NamedTuple):
    """What an Entry says beside where and when it was written."""

    kind: EntryKind
    instrument: str
    outcome: Outcome
    reason: str
    as_of_ns: int
    size: int = 0
    cash_e6: int = 0
    phase: SettlementPhase = "UNKNOWN"
    reverses: str = ""
    payout: str = ""
    payout_e6: int = -1
    held: int = 0
    expected_e6: int = 0
    yes_cash_e6: int = 0
    fee_e6: int = 0


def write_entry(ledger: Account, said: Said, turn: Turn) -> str:
    """Write an Entry; return its id."""
    entry = turn.new_id()
    turn.ledger(
        Entry(
            id=entry,
            account=ledger.name,
            now_ns=turn.now_ns,
            log_partition=turn.item.partition,
            log_offset=turn.item.offset,
            trail=turn.trail,
            **said._asdict(),
        )
    )
    return entry


class Settlements:
    """Keeps what is provisional equal to the markets' words, and books what the venue says it paid."""

    def __init__(self, words: PayoutWords) -> None:
        """`words` are those of the task's state: `accounts` fills them."""
        self._words = words

    # Provisional

    def spoken(self, sets: Mapping[str, AccountSet], instrument: str, turn: Turn) -> None:
        """Follow a market whose word changed, in every account that holds it."""
        for _, accounts in sorted(sets.items()):
            for _, ledger in sorted(accounts.ledgers.items()):
                self.follow(ledger, [instrument], turn)
                self._end_netted(accounts, ledger, instrument, turn)

    def _end_netted(self, accounts: AccountSet, ledger: Account, instrument: str, turn: Turn) -> None:
        """End, at what a settled market said, positions that cancel out: the venue pays nothing for them and states nothing."""
        word = self._words.by_instrument.get(instrument)
        if word is None or not word.is_settled or word.payout_e6 < 0 or not ledger.nets or not ledger.known:
            return
        if ledger.holding(instrument, "YES").size or ledger.has_paid(instrument):
            return
        if accounts.positions.settle(ledger.name, instrument, rate_of(word.payout_e6)):
            reason = "the market is settled, and what strategies hold of it cancels out"
            said = Said("SETTLEMENT", instrument, "YES", reason, word.said_ns, phase="FINAL", payout_e6=word.payout_e6)
            write_entry(ledger, said, turn)

    def follow(self, ledger: Account, instruments: Iterable[str], turn: Turn) -> None:
        """Book what is expected for what is held of instruments now, and take back what was expected before."""
        moved: list[HoldingKey] = []
        for instrument in instruments:
            payout_e6 = self._words.payout_e6(instrument)
            for key in dict.fromkeys((ledger.key_of(instrument, "YES"), ledger.key_of(instrument, "NO"))):
                if self._follow_one(ledger, key, payout_e6, turn):
                    moved.append(key)
        if moved:
            write_ledger(ledger, moved, turn)

    def _follow_one(self, ledger: Account, key: HoldingKey, payout_e6: int, turn: Turn) -> bool:
        before, held = ledger.provisional.get(key), ledger.holding(*key).size
        is_due = payout_e6 >= 0 and held != 0 and not ledger.has_paid(key[0])
        if before is None and not is_due:
            return False
        if before is not None:
            if is_due and (before.held, before.payout_e6) == (held, payout_e6):
                return False
            why = "paid, or held no more" if not held else "the market's word changed" if not is_due else "made anew"
            self._provisional(ledger, key, before, why, turn, reverses=before.entry)
            del ledger.provisional[key]
        if is_due:
            now = Provisional("", held, payout_e6, ledger.expected_e6(key, payout_e6))
            entry = self._provisional(ledger, key, now, "the market is determined", turn)
            ledger.provisional[key] = now._replace(entry=entry)
        return True

    def _provisional(
        self, ledger: Account, key: HoldingKey, what: Provisional, reason: str, turn: Turn, *, reverses: str = ""
    ) -> str:
        sign = -1 if reverses else 1
        word = self._words.by_instrument.get(key[0])
        said = Said(
            "SETTLEMENT",
            *key,
            reason=reason,
            as_of_ns=word.said_ns if word is not None else 0,
            phase="PROVISIONAL",
            reverses=reverses,
            payout_e6=what.payout_e6,
            held=sign * what.held,
            expected_e6=sign * what.expected_e6,
        )
        return write_entry(ledger, said, turn)

    # Final

    def stated(self, accounts: AccountSet, payout: Payout, turn: Turn) -> None:
        """Take a statement of what a market paid: once, and as a correction if it is not the first about its market.

        What was paid before the account's first report is in that report's figures, and is only remembered.
        """
        ledger = accounts.ledgers[payout.account]
        if not ledger.nets:
            # Tokens are redeemed, not paid: no venue of tokens states payouts.
            log.warning("payout.unexpected", account=ledger.name, instrument=payout.instrument)
            return
        known = ledger.paid(payout.instrument)
        if known is None:
            # Or in the figures of a report that a human took meanwhile.
            since_ns = max(ledger.opened_ns, ledger.taken.get(payout.instrument, -1))
            in_opening = ledger.known and payout.venue_ts_ns <= since_ns
            ledger.note_paid(Paid(payout, (payout.event_id,), in_opening=in_opening))
            self._book(accounts, ledger, payout.instrument, turn)
            return
        if payout.event_id in known.seen:
            return
        seen = (*known.seen, payout.event_id)
        if order_of(payout) < order_of(known.payout):
            ledger.note_paid(known._replace(seen=seen))
            return
        if says_the_same(payout, known.payout):
            # Read once more since: what is older than that is no correction.
            read_again = replace(known.payout, recv_ts_ns=payout.recv_ts_ns)
            ledger.note_paid(known._replace(seen=seen, payout=read_again))
            return
        log.warning("payout.corrected", account=ledger.name, instrument=payout.instrument, was=known.payout.revenue_e6)
        # Both are in the opening figures where neither the venue's time nor ours says that it was corrected since.
        in_opening = known.in_opening and max(payout.venue_ts_ns, known.payout.ts_ns) <= ledger.opened_ns
        if known.entry or (known.in_opening and not in_opening):
            self._take_back(accounts, ledger, known, payout.venue_ts_ns, turn)
        ledger.note_paid(Paid(payout, seen, in_opening=in_opening))
        self._book(accounts, ledger, payout.instrument, turn)

    def opened(self, accounts: AccountSet, ledger: Account, turn: Turn) -> None:
        """Book what was paid after the first report, though it was heard of before it; follow what the report holds."""
        for paid in ledger.all_paid():
            ledger.note_paid(paid._replace(in_opening=paid.payout.venue_ts_ns <= ledger.opened_ns))
            self._book(accounts, ledger, paid.payout.instrument, turn)
        self.follow(ledger, sorted({instrument for instrument, _ in ledger.holdings}), turn)

    def filled(self, accounts: AccountSet, fill: Fill, turn: Turn) -> None:
        """Follow a fill; one of a market that has paid since was paid with the rest."""
        ledger = accounts.ledgers[fill.account]
        paid = ledger.paid(fill.instrument)
        if paid is not None and paid.entry and (fill.venue_ts_ns or fill.ts_ns) <= paid.payout.venue_ts_ns:
            whole, _ = paid.left
            closed = accounts.positions.settle(ledger.name, fill.instrument, paid.rate, whole=whole)
            if closed:
                ledger.note_paid(paid._replace(closed=_joined(paid.closed, closed)))
        self.follow(ledger, [fill.instrument], turn)

    def _book(self, accounts: AccountSet, ledger: Account, instrument: str, turn: Turn) -> None:
        paid = ledger.paid(instrument)
        if paid is None or paid.entry or paid.in_opening or not ledger.known:
            return
        payout = paid.payout
        cash_e6, cost_e6 = ledger.pay(instrument, paid.size, payout.revenue_e6, payout.venue_ts_ns)
        closed = accounts.positions.settle(ledger.name, instrument, paid.rate, whole=paid.size)
        entry = self._final(ledger, paid, -paid.size, cash_e6, "the venue states that it paid", turn)
        ledger.note_paid(paid._replace(entry=entry, cash_e6=cash_e6, cost_e6=cost_e6, closed=closed))
        booked(ledger, instrument, cash_e6, turn.now_ns)
        # Gone before its market said that it ended: that was this.
        accounts.risk.explained(("INSTRUMENT", instrument), f"{DIFFERS}: {NOT_ENDED}")
        self.follow(ledger, [instrument], turn)
        write_ledger(ledger, [(instrument, "YES")], turn)

    def _take_back(self, accounts: AccountSet, ledger: Account, paid: Paid, corrected_ns: int, turn: Turn) -> None:
        cash_e6 = ledger.unpay(paid, corrected_ns)
        instrument = paid.payout.instrument
        booked(ledger, instrument, cash_e6, turn.now_ns)
        accounts.positions.unsettle(ledger.name, instrument, paid.closed)
        # What was in the figures of a report has no entry of its own: the statement itself is what is taken back.
        why = "the venue corrects what it paid" + (
            "" if paid.entry else ", which a report's figures held: no entry did"
        )
        reverses = paid.entry or paid.payout.event_id
        self._final(ledger, paid, paid.size, cash_e6, why, turn, reverses=reverses)

    @staticmethod
    def _final(
        ledger: Account, paid: Paid, size: int, cash_e6: int, reason: str, turn: Turn, *, reverses: str | None = None
    ) -> str:
        payout = paid.payout
        said = Said(
            "SETTLEMENT",
            payout.instrument,
            "YES",
            reason=reason,
            as_of_ns=payout.venue_ts_ns,
            size=size,
            cash_e6=cash_e6,
            phase="FINAL",
            reverses=reverses or "",
            payout=payout.event_id,
            payout_e6=paid_yes_e6(payout),
            yes_cash_e6=paid.yes_cash_e6 if reverses is None else -paid.yes_cash_e6,
            fee_e6=payout.fee_e6 if reverses is None else -payout.fee_e6,
        )
        return write_entry(ledger, said, turn)


def _joined(before: Mapping[str, Closed], more: Mapping[str, Closed]) -> dict[str, Closed]:
    joined = dict(before)
    for name, (size, cost_e6, cash_e6) in more.items():
        old_size, old_cost_e6, old_cash_e6 = joined.get(name, (0, 0, 0))
        joined[name] = (old_size + size, old_cost_e6 + cost_e6, old_cash_e6 + cash_e6)
    return joined

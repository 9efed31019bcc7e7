"""What becomes of a difference between our ledger and a venue's report: healed, frozen, or only said. Pure.

Fills win: what a fill moved is never undone by a report. A difference counts only while nothing is in flight (no order
open, no fill whose settlement is to come) and only in reports whose as-of time is later than our last event; it is
lasting when two such reports in a row state the same. Then, by the limit record's `heal_max_e6`: up to it (a contract
counts a dollar) the ledger takes the venue's figure, with an Entry that says so; a larger one freezes its instrument
(cash: the whole set) to REDUCING until a human resumes it, which also accepts the venue's figure. Without that limit a
difference is only said, as it was before.

What a settled market paid is no difference of that kind. A venue that states its payouts is waited for, market by
market and for a while (`waits`): what is gone, or is shown still, is left alone, and of the cash only what lies outside
of what is waited for is compared; then they freeze. Of any other venue the holding that is gone and the cash that came
are booked whatever their size: at what the markets themselves say they pay, as far as they said so, and the rest by the
one way of winning and losing that explains the cash. What does not add up freezes.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from decide.account_set import AccountSet
from decide.beside import Compared, is_gone_for_good
from decide.ledger import Account, Difference, HoldingKey
from decide.marks import PayoutWords
from decide.payouts import Rate, rate_of
from decide.risk import DIFFERS, WHOLE
from decide.waits import NOT_ENDED, STILL_SHOWN, Doubt, agreed, look, outside_e6
from schemas.enums import EntryKind, Outcome, SettlementPhase
from schemas.market import Instrument
from schemas.order import VenueReport

SETTLED_TOGETHER_MAX = 12
"""Holdings whose payouts are looked for in one difference of cash: 2 to that power ways are tried."""


class Healed(NamedTuple):
    """One change of the ledger; `instrument` is empty for cash alone."""

    kind: EntryKind
    instrument: str
    outcome: Outcome
    size: int
    cash_e6: int
    reason: str
    phase: SettlementPhase = "UNKNOWN"
    payout_e6: int = -1


class Frozen(NamedTuple):
    """A lasting difference that is too large to be healed."""

    instrument: str
    reason: str


Verdict = Healed | Frozen


def reconcile(
    accounts: AccountSet, compared: Compared, instruments: Mapping[str, Instrument], words: PayoutWords, now_ns: int
) -> list[Verdict]:
    """Hold what can be compared of a report against the ledger, move the ledger where that is due, and return what was done.

    The caller sees to it that the report is later than our last event and no order is open; `now_ns` is the log's time.
    """
    report = compared.report
    ledger = accounts.ledgers[report.account]
    limit = accounts.limit
    if limit is None or limit.heal_max_e6 < 0 or ledger.has_unsettled:
        ledger.seen_difference = None
        ledger.waits.clear()
        return []
    found = ledger.difference(report)
    if not found.cash_e6 and not found.sizes:
        ledger.seen_difference = None
        agreed(ledger, report.as_of_ns, compared.unsure, is_exact=compared.is_exact)
        accounts.risk.agreed(ledger.name, (instrument for instrument, _ in ledger.holdings))
        return []
    if not ledger.is_newer(report):
        return []
    if ledger.states_payouts:
        doubts = look(ledger, found, instruments, words, report.as_of_ns, now_ns)
        verdicts = _judge_beside(accounts, limit.heal_max_e6, report, found, doubts, words)
    else:
        verdicts = _judge_tokens(accounts, limit.heal_max_e6, report, found, instruments, words)
    for verdict in verdicts:
        if isinstance(verdict, Healed):
            is_gone = (
                bool(verdict.instrument) and ledger.holding(verdict.instrument, verdict.outcome).size == -verdict.size
            )
            if is_gone and ledger.states_payouts:
                # A statement that comes after all finds its payout in the figures.
                ledger.taken[verdict.instrument] = report.as_of_ns
                accounts.risk.explained(("INSTRUMENT", verdict.instrument), f"{DIFFERS}: {NOT_ENDED}")
            _apply(accounts, ledger, verdict)
        elif verdict.instrument:
            accounts.risk.stop(("INSTRUMENT", verdict.instrument), "REDUCING", verdict.reason)
        else:
            accounts.risk.stop(WHOLE, "REDUCING", verdict.reason)
            accounts.risk.differing[ledger.name] = True
    if any(isinstance(verdict, Healed) for verdict in verdicts):
        ledger.seen_difference = None
    return verdicts


def _judge_beside(
    accounts: AccountSet,
    heal_max_e6: int,
    report: VenueReport,
    found: Difference,
    doubts: Mapping[str, Doubt],
    words: PayoutWords,
) -> list[Verdict]:
    """Judge what no market explains that is waited for, and the markets that were waited for too long."""
    ledger, accepted = accounts.ledgers[report.account], accounts.risk.accepted
    waiting = {doubt.key for doubt in doubts.values() if doubt.waits}
    left = Difference(
        outside_e6(found.cash_e6, doubts), {key: size for key, size in found.sizes.items() if key not in waiting}
    )
    is_lasting = ledger.lasts(left, report) and (left.cash_e6 != 0 or bool(left.sizes))
    verdicts: list[Verdict] = []
    for key, size in sorted(left.sizes.items()):
        doubt, is_accepted = doubts.get(key[0]), accepted.get(key[0], False)
        if doubt is not None and not is_accepted and not _may_heal(doubt, size, heal_max_e6):
            # That it is over was seen often enough.
            verdicts += [Frozen(key[0], f"{DIFFERS}: {doubt.why}")] if is_lasting or doubt.is_over else []
        elif is_lasting and doubt is not None and doubt.is_over and is_accepted and doubt.why != STILL_SHOWN:
            verdicts.append(_take_settled(accounts, key, size, words))
        elif is_lasting:
            verdicts.append(_judge(accounts, heal_max_e6, key, size))
    # What a human accepted is taken when it is known how much it is: when nothing is waited for any more.
    if is_lasting and left.cash_e6 and not (waiting and accepted.get(ledger.name, False)):
        # What a market may have paid is no small difference, however small it is.
        is_payout = any(one.is_over and one.key and not accepted.get(name, False) for name, one in doubts.items())
        verdicts.append(_judge_cash(accounts, -1 if is_payout else heal_max_e6, ledger, left.cash_e6))
    return verdicts


def _may_heal(doubt: Doubt, size: int, heal_max_e6: int) -> bool:
    """Say whether a small holding that is gone was waited for long enough, and nothing speaks for a payout."""
    return doubt.why == NOT_ENDED and doubt.is_over and not doubt.speaks and abs(size) <= heal_max_e6


def _judge_tokens(
    accounts: AccountSet,
    heal_max_e6: int,
    report: VenueReport,
    found: Difference,
    instruments: Mapping[str, Instrument],
    words: PayoutWords,
) -> list[Verdict]:
    """Judge a lasting difference where payouts are stated nowhere: the cash says what was redeemed."""
    ledger = accounts.ledgers[report.account]
    if not ledger.lasts(found, report):
        return []
    settled = _settled(ledger, found, instruments, words)
    # What did not add up is not healed, however small: it would be a payout of nothing.
    gone = _gone_for_good(ledger, found, instruments) if not settled else []
    verdicts: list[Verdict] = list(settled)
    cash_e6 = found.cash_e6 - sum(one.cash_e6 for one in settled)
    done = {(one.instrument, one.outcome) for one in settled}
    for key, size in sorted(found.sizes.items()):
        if key in gone and accounts.risk.accepted.get(key[0], False):
            verdicts.append(_take_settled(accounts, key, size, words))
        elif key in gone:
            why = "settled, and the cash is not what its payout explains"
            verdicts.append(Frozen(key[0], f"{DIFFERS}: {why}"))
        elif key not in done:
            verdicts.append(_judge(accounts, heal_max_e6, key, size))
    if cash_e6:
        is_payout = any(isinstance(verdict, Frozen) and verdict.instrument for verdict in verdicts) and bool(gone)
        verdicts.append(_judge_cash(accounts, -1 if is_payout else heal_max_e6, ledger, cash_e6))
    return verdicts


def _judge(accounts: AccountSet, heal_max_e6: int, key: HoldingKey, size: int) -> Verdict:
    instrument, outcome = key
    if abs(size) > heal_max_e6 and not accounts.risk.accepted.pop(instrument, False):
        return Frozen(instrument, f"{DIFFERS}: the venue states {size}e-6 {outcome} more than we count")
    return Healed("EXTERNAL", instrument, outcome, size, 0, "stated by two reports with nothing in flight")


def _take_settled(accounts: AccountSet, key: HoldingKey, size: int, words: PayoutWords) -> Healed:
    """Take what is gone of a settled market as a human accepted it."""
    accounts.risk.accepted.pop(key[0], None)
    why, paid_e6 = "settled, and taken as the venue has it by a human", words.payout_e6(key[0])
    return Healed("EXTERNAL", *key, size, 0, why, payout_e6=paid_e6)


def _judge_cash(accounts: AccountSet, heal_max_e6: int, ledger: Account, cash_e6: int) -> Verdict:
    if abs(cash_e6) > heal_max_e6 and not accounts.risk.accepted.pop(ledger.name, False):
        return Frozen("", f"{DIFFERS}: {ledger.name} states {cash_e6}e-6 more cash than we count")
    return Healed("EXTERNAL", "", "NONE", 0, cash_e6, "stated by two reports with nothing in flight")


def _apply(accounts: AccountSet, ledger: Account, healed: Healed) -> None:
    ledger.heal((healed.instrument, healed.outcome), healed.size, healed.cash_e6)
    if not healed.instrument:
        return
    gone_yes = healed.size if healed.outcome == "YES" else -healed.size
    if healed.kind == "SETTLEMENT":
        # The cash is the truth; of a short, or of NO, the dollars that lay in it came with it.
        paid = Rate(healed.cash_e6 - max(gone_yes, 0), -gone_yes)
        accounts.positions.settle(ledger.name, healed.instrument, paid, whole=-gone_yes)
    elif healed.payout_e6 >= 0:
        accounts.positions.settle(ledger.name, healed.instrument, rate_of(healed.payout_e6))
    else:
        accounts.positions.adjust(ledger.name, healed.instrument, gone_yes)


def _gone_for_good(ledger: Account, found: Difference, instruments: Mapping[str, Instrument]) -> list[HoldingKey]:
    """Return the holdings that are gone of markets that are determined, by their descriptions or by their words."""
    return [
        key for key, size in sorted(found.sizes.items()) if is_gone_for_good(ledger, key, size, instruments.get(key[0]))
    ]


def _settled(
    ledger: Account, found: Difference, instruments: Mapping[str, Instrument], words: PayoutWords
) -> Sequence[Healed]:
    """Return the settlements that explain what is gone of settled markets, none if nothing does so alone."""
    gone = {*_gone_for_good(ledger, found, instruments)}
    stated = {key: words.payout_e6(key[0]) for key in sorted(gone) if words.payout_e6(key[0]) >= 0}
    known = [_settlement(key, found.sizes[key], ledger.expected_e6(key, yes), yes) for key, yes in stated.items()]
    left_e6 = found.cash_e6 - sum(one.cash_e6 for one in known)
    open_keys = sorted(gone - stated.keys())
    if not open_keys:
        return known if not left_e6 else []
    if len(open_keys) > SETTLED_TOGETHER_MAX:
        return []
    sizes = [(key, found.sizes[key]) for key in open_keys]
    if len(sizes) == 1:
        ((key, size),) = sizes
        return [*known, _settlement(key, size, left_e6)] if 0 <= left_e6 <= abs(size) else []
    ways = [
        way
        for way in product((0, 1), repeat=len(sizes))
        if sum(abs(size) for won, (_, size) in zip(way, sizes, strict=True) if won) == left_e6
    ]
    if len(ways) != 1:
        return []
    paid = [_settlement(key, size, abs(size) if won else 0) for won, (key, size) in zip(ways[0], sizes, strict=True)]
    return [*known, *paid]


def _settlement(key: HoldingKey, size: int, cash_e6: int, payout_e6: int = -1) -> Healed:
    return Healed("SETTLEMENT", *key, size, cash_e6, "the market is settled and its holding gone", "FINAL", payout_e6)

"""What becomes of a difference between our ledger and a venue's report: healed, frozen, or only said. Pure.

Fills win: what a fill moved is never undone by a report. A difference counts only while nothing is in flight (no order
open, no fill whose settlement is to come) and only in reports whose as-of time is later than our last event; it is
lasting when two such reports in a row state the same. Then, by the limit record's `heal_max_e6`: up to it (a contract
counts a dollar) the ledger takes the venue's figure, with an Entry that says so; a larger one freezes its instrument
(cash: the whole set) to REDUCING until a human resumes it, which also accepts the venue's figure. Without that limit a
difference is only said, as it was before.

What a settled market paid is no difference of that kind. A venue that states its payouts is waited for: what is gone of
a market that has closed, and the cash, are left alone for `PAYOUT_REPORTS_MAX` reports; then they freeze. Of any other
venue the holding that is gone and the cash that came are booked whatever their size: at what the markets themselves say
they pay, as far as they said so, and the rest by the one way of winning and losing that explains the cash. What does not
add up freezes.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from core.domain.units import MICRO
from decide.account_set import AccountSet
from decide.ledger import Account, Difference, HoldingKey
from decide.marks import Words
from decide.risk import DIFFERS, WHOLE
from schemas.enums import EntryKind, Outcome, SettlementPhase
from schemas.market import Instrument
from schemas.order import VenueReport

SETTLED_TOGETHER_MAX = 12
"""Holdings whose payouts are looked for in one difference of cash: 2 to that power ways are tried."""
PAYOUT_REPORTS_MAX = 30
"""Reports that may show a settled market before its payout is stated: a minute, several looks at the venue's list."""
_SETTLES = frozenset({"DETERMINED", "SETTLED"})
_ENDS = _SETTLES | {"CLOSED"}
NOT_STATED = "settled, but the venue states no payout"


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
    accounts: AccountSet, report: VenueReport, instruments: Mapping[str, Instrument], words: Words
) -> list[Verdict]:
    """Hold a report against the ledger, move the ledger where that is due, and return what was done.

    The caller sees to it that the report is later than our last event and no order is open.
    """
    ledger = accounts.ledgers[report.account]
    limit = accounts.limit
    if limit is None or limit.heal_max_e6 < 0 or ledger.has_unsettled:
        ledger.seen_difference = None
        return []
    found = ledger.lasting_difference(report)
    if found is None:
        if ledger.seen_difference is None:
            ledger.waited = 0
            accounts.risk.agreed(ledger.name, (instrument for instrument, _ in ledger.holdings))
        return []
    if ledger.states_payouts:
        settled: Sequence[Healed] = []
        awaited = _awaited(ledger, found, instruments, report.as_of_ns)
        ledger.waited = ledger.waited + 1 if awaited else 0
        waits = 0 < ledger.waited < PAYOUT_REPORTS_MAX
    else:
        settled = _settled(ledger, found, instruments, words)
        # What did not add up is not healed, however small: it would be a payout of nothing.
        awaited, waits = _gone_for_good(ledger, found, instruments) if not settled else [], False
    verdicts: list[Verdict] = list(settled)
    cash_e6 = found.cash_e6 - sum(one.cash_e6 for one in settled)
    done = {(one.instrument, one.outcome) for one in settled}
    for key, size in sorted(found.sizes.items()):
        if key in awaited:
            verdicts += [] if waits else [_judge_settled(accounts, ledger, key, size, words)]
        elif key not in done:
            verdicts.append(_judge(accounts, limit.heal_max_e6, key, size))
    if cash_e6 and not waits:
        # What a market may have paid is no small difference, however small it is.
        is_payout = any(isinstance(verdict, Frozen) and verdict.instrument for verdict in verdicts) and bool(awaited)
        verdicts.append(_judge_cash(accounts, -1 if is_payout else limit.heal_max_e6, ledger, cash_e6))
    for verdict in verdicts:
        if isinstance(verdict, Healed):
            _apply(accounts, ledger, verdict)
        elif verdict.instrument:
            accounts.risk.stop(("INSTRUMENT", verdict.instrument), "REDUCING", verdict.reason)
        else:
            accounts.risk.stop(WHOLE, "REDUCING", verdict.reason)
            accounts.risk.differing[ledger.name] = True
        if isinstance(verdict, Healed) and (verdict.instrument, verdict.outcome) in awaited:
            ledger.taken[verdict.instrument] = report.as_of_ns
    if any(isinstance(verdict, Healed) for verdict in verdicts):
        ledger.seen_difference = None
    return verdicts


def _judge(accounts: AccountSet, heal_max_e6: int, key: HoldingKey, size: int) -> Verdict:
    instrument, outcome = key
    if abs(size) > heal_max_e6 and not accounts.risk.accepted.pop(instrument, False):
        return Frozen(instrument, f"{DIFFERS}: the venue states {size}e-6 {outcome} more than we count")
    return Healed("EXTERNAL", instrument, outcome, size, 0, "stated by two reports with nothing in flight")


def _judge_settled(accounts: AccountSet, ledger: Account, key: HoldingKey, size: int, words: Words) -> Verdict:
    instrument, outcome = key
    if accounts.risk.accepted.pop(instrument, False):
        why, paid_e6 = "settled, and taken as the venue has it by a human", words.payout_e6(instrument)
        return Healed("EXTERNAL", instrument, outcome, size, 0, why, payout_e6=paid_e6)
    why = NOT_STATED if ledger.states_payouts else "settled, and the cash is not what its payout explains"
    return Frozen(instrument, f"{DIFFERS}: {why}")


def _judge_cash(accounts: AccountSet, heal_max_e6: int, ledger: Account, cash_e6: int) -> Verdict:
    if abs(cash_e6) > heal_max_e6 and not accounts.risk.accepted.pop(ledger.name, False):
        return Frozen("", f"{DIFFERS}: {ledger.name} states {cash_e6}e-6 more cash than we count")
    return Healed("EXTERNAL", "", "NONE", 0, cash_e6, "stated by two reports with nothing in flight")


def _apply(accounts: AccountSet, ledger: Account, healed: Healed) -> None:
    ledger.heal((healed.instrument, healed.outcome), healed.size, healed.cash_e6)
    if not healed.instrument:
        return
    gone_yes = healed.size if healed.outcome == "YES" else -healed.size
    if healed.payout_e6 >= 0:
        accounts.positions.settle(ledger.name, healed.instrument, healed.payout_e6)
    elif healed.kind == "SETTLEMENT":
        # Of what was held, -size, the cash says what one of that outcome paid.
        if healed.size < 0:
            paid_e6 = healed.cash_e6 * MICRO // -healed.size
            yes_e6 = paid_e6 if healed.outcome == "YES" else MICRO - paid_e6
        else:
            # A short of a venue that nets: its dollar came back less what YES paid.
            yes_e6 = MICRO - healed.cash_e6 * MICRO // healed.size
        accounts.positions.settle(ledger.name, healed.instrument, yes_e6)
    else:
        accounts.positions.adjust(ledger.name, healed.instrument, gone_yes)


def _gone(
    ledger: Account, found: Difference, instruments: Mapping[str, Instrument], statuses: frozenset[str]
) -> list[HoldingKey]:
    """Return the holdings that are gone altogether, of markets that stand so."""
    return [
        key
        for key, size in sorted(found.sizes.items())
        if ledger.holding(*key).size == -size
        and (described := instruments.get(key[0])) is not None
        and described.status in statuses
    ]


def _gone_for_good(ledger: Account, found: Difference, instruments: Mapping[str, Instrument]) -> list[HoldingKey]:
    """Return the holdings that are gone of markets that are determined, by their descriptions or by their words."""
    gone = {*_gone(ledger, found, instruments, _SETTLES)}
    gone |= {key for key in ledger.provisional if found.sizes.get(key) == -ledger.holding(*key).size}
    return sorted(gone)


def _awaited(
    ledger: Account, found: Difference, instruments: Mapping[str, Instrument], as_of_ns: int
) -> list[HoldingKey]:
    """Return the holdings whose payouts the venue has yet to state: gone, of markets that may have settled."""
    gone = {*_gone(ledger, found, instruments, _ENDS)}
    for key, size in found.sizes.items():
        described = instruments.get(key[0])
        has_closed = described is not None and 0 < described.close_ts_ns <= as_of_ns
        # A word says that it is determined even where its description does not say so yet.
        if ledger.holding(*key).size == -size and (has_closed or key in ledger.provisional):
            gone.add(key)
    # What has paid already and is still held by us is a difference like any other.
    return sorted(key for key in gone if not ledger.has_paid(key[0]))


def _settled(
    ledger: Account, found: Difference, instruments: Mapping[str, Instrument], words: Words
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

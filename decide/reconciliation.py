"""What becomes of a difference between our ledger and a venue's report: healed, frozen, or only said. Pure.

Fills win: what a fill moved is never undone by a report. A difference counts only while nothing is in flight (no order
open, no fill whose settlement is to come) and only in reports whose as-of time is later than our last event; it is
lasting when two such reports in a row state the same. Then, by the limit record's `heal_max_e6`: up to it (a contract
counts a dollar) the ledger takes the venue's figure, with an Entry that says so; a larger one freezes its instrument
(cash: the whole set) to REDUCING until a human resumes it, which also accepts the venue's figure. Without that limit a
difference is only said, as it was before.

What a settled market paid is no difference of that kind: its holding is gone, cash came, and both are booked whatever
their size. With several settled at once the payouts are found only where one way of winning and losing explains the
cash; else they freeze.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from core.domain.units import MICRO
from decide.account_set import AccountSet
from decide.ledger import Account, Difference, HoldingKey
from decide.risk import DIFFERS, WHOLE
from schemas.enums import EntryKind, Outcome
from schemas.market import Instrument
from schemas.order import VenueReport

SETTLED_TOGETHER_MAX = 12
"""Holdings whose payouts are looked for in one difference of cash: 2 to that power ways are tried."""
_SETTLES = frozenset({"DETERMINED", "SETTLED"})


class Healed(NamedTuple):
    """One change of the ledger; `instrument` is empty for cash alone."""

    kind: EntryKind
    instrument: str
    outcome: Outcome
    size: int
    cash_e6: int
    reason: str


class Frozen(NamedTuple):
    """A lasting difference that is too large to be healed."""

    instrument: str
    reason: str


Verdict = Healed | Frozen


def reconcile(accounts: AccountSet, report: VenueReport, instruments: Mapping[str, Instrument]) -> list[Verdict]:
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
        return []
    settled = _settled(ledger, found, instruments)
    verdicts: list[Verdict] = list(settled)
    cash_e6 = found.cash_e6 - sum(one.cash_e6 for one in settled)
    done = {(one.instrument, one.outcome) for one in settled}
    for key, size in sorted(found.sizes.items()):
        if key not in done:
            verdicts.append(_judge(accounts, limit.heal_max_e6, key, size))
    if cash_e6:
        verdicts.append(_judge_cash(accounts, limit.heal_max_e6, ledger, cash_e6))
    for verdict in verdicts:
        if isinstance(verdict, Healed):
            _apply(accounts, ledger, verdict)
        elif verdict.instrument:
            accounts.risk.stop(("INSTRUMENT", verdict.instrument), "REDUCING", verdict.reason)
        else:
            accounts.risk.stop(WHOLE, "REDUCING", verdict.reason)
    if any(isinstance(verdict, Healed) for verdict in verdicts):
        ledger.seen_difference = None
    return verdicts


def _judge(accounts: AccountSet, heal_max_e6: int, key: HoldingKey, size: int) -> Verdict:
    instrument, outcome = key
    if abs(size) > heal_max_e6 and not accounts.risk.accepted.pop(instrument, False):
        return Frozen(instrument, f"{DIFFERS}: the venue states {size}e-6 {outcome} more than we count")
    return Healed("EXTERNAL", instrument, outcome, size, 0, "stated by two reports with nothing in flight")


def _judge_cash(accounts: AccountSet, heal_max_e6: int, ledger: Account, cash_e6: int) -> Verdict:
    if abs(cash_e6) > heal_max_e6 and not accounts.risk.accepted.pop("", False):
        return Frozen("", f"{DIFFERS}: {ledger.name} states {cash_e6}e-6 more cash than we count")
    return Healed("EXTERNAL", "", "NONE", 0, cash_e6, "stated by two reports with nothing in flight")


def _apply(accounts: AccountSet, ledger: Account, healed: Healed) -> None:
    ledger.heal((healed.instrument, healed.outcome), healed.size, healed.cash_e6)
    if not healed.instrument:
        return
    gone_yes = healed.size if healed.outcome == "YES" else -healed.size
    if healed.kind == "SETTLEMENT":
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


def _settled(ledger: Account, found: Difference, instruments: Mapping[str, Instrument]) -> Sequence[Healed]:
    """Return the settlements that explain what is gone of settled markets, none if nothing does so alone."""
    gone: list[tuple[HoldingKey, int]] = []
    for key, size in sorted(found.sizes.items()):
        described = instruments.get(key[0])
        is_gone = ledger.holding(*key).size == -size
        if described is not None and described.status in _SETTLES and is_gone:
            gone.append((key, size))
    if not gone or len(gone) > SETTLED_TOGETHER_MAX:
        return []
    if len(gone) == 1:
        (key, size), cash_e6 = gone[0], found.cash_e6
        return [_settlement(key, size, cash_e6)] if 0 <= cash_e6 <= abs(size) else []
    ways = [
        way
        for way in product((0, 1), repeat=len(gone))
        if sum(abs(size) for won, (_, size) in zip(way, gone, strict=True) if won) == found.cash_e6
    ]
    if len(ways) != 1:
        return []
    return [_settlement(key, size, abs(size) if won else 0) for won, (key, size) in zip(ways[0], gone, strict=True)]


def _settlement(key: HoldingKey, size: int, cash_e6: int) -> Healed:
    return Healed("SETTLEMENT", *key, size, cash_e6, "the market is settled and its holding gone")

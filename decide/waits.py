"""What is waited for of a venue that states its payouts, market by market, and what its reports may show meanwhile. Pure.

Three lists of such a venue need not be as new as each other: cash, positions, and what it paid. So a market may be

    NOT_STATED   gone from the positions though nothing is stated yet: its cash is between nothing and what it is to pay
    NOT_ENDED    the same of a market that nobody said to have ended, while what came in cash may be its payout
    STILL_SHOWN  stated and booked, and its position or its cash as it was before in the reports

or cash came that markets may have paid which ended and are listed as held still (`CASH`, whichever they are). Each of it
is left alone for `PAYOUT_WAIT_NS_MAX` of log time, counted for each market from when it was first seen so. What is
waited for takes an interval of cash out of the comparison, and nothing else: any other difference is judged as ever.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_S
from decide.beside import Span
from decide.ledger import Account, Difference, HoldingKey, Wait
from decide.marks import PayoutWords
from decide.payouts import has_closed
from schemas.market import Instrument

PAYOUT_WAIT_NS_MAX = 60 * NS_PER_S
"""Log time in which a venue's list of payouts, its positions and its cash have to come to say the same: several looks."""
REPORT_STEP_NS_MAX = 20 * NS_PER_S
"""Between two reports no more than that counts: a gateway that reported nothing did not read what was paid either."""
CENT_E6 = MICRO // 100
"""Payouts are stated in whole cents."""
NOT_STATED = "settled, but the venue states no payout"
NOT_ENDED = "gone, though nobody said that its market ended, and the venue states no payout"
STILL_SHOWN = "paid by the venue's statement, but its reports still show it"


CASH = ""
"""Name of what is waited for of the cash alone, whichever market paid it."""


class Doubt(NamedTuple):
    """One market whose figures need not be right yet.

    Attributes:
        key: the holding; None: its cash alone.
        why: it freezes when it was waited for too long.
        low_e6, high_e6: what reports may show beyond our cash because of it.
        waits: it is left alone; else it is over, or nothing speaks for a payout.
        is_over: it was waited for too long.
        speaks: cash came that may be its payout, or it is known to have ended.
    """

    key: HoldingKey | None
    why: str
    low_e6: int
    high_e6: int
    waits: bool = True
    is_over: bool = False
    speaks: bool = True


def pass_time(ledger: Account, now_ns: int) -> None:
    """Let time pass for what is waited for, at a report of the account, whatever becomes of that report."""
    for name, wait in ledger.waits.items():
        step_ns = min(max(now_ns - wait.seen_ns, 0), REPORT_STEP_NS_MAX)
        ledger.waits[name] = wait._replace(seen_ns=max(now_ns, wait.seen_ns), waited_ns=wait.waited_ns + step_ns)


def booked(ledger: Account, instrument: str, cash_e6: int, now_ns: int) -> None:
    """Note that a statement moved cash by so much: reports are to show it, and may show what was before for a while."""
    wait = ledger.waits.get(instrument, Wait(now_ns))
    ledger.waits[instrument] = Wait(now_ns, 0, min(wait.low_e6 - cash_e6, 0), max(wait.high_e6 - cash_e6, 0))


def agreed(ledger: Account, as_of_ns: int, unsure: Container[str], *, is_exact: bool) -> None:
    """End the waits at a report that states what we count, as far as it can be compared (`beside`).

    Where orders may hide that reports do not show yet what was booked, they are still to show it.
    """
    left = {name: wait for name, wait in ledger.waits.items() if (not is_exact or name in unsure) and _is_to_show(wait)}
    if len(left) < len(ledger.waits):
        ledger.shown(as_of_ns)
    ledger.waits = left


def look(
    ledger: Account,
    found: Difference,
    instruments: Mapping[str, Instrument],
    words: PayoutWords,
    as_of_ns: int,
    now_ns: int,
) -> dict[str, Doubt]:
    """Return the markets in doubt by a report that differs, by name; begin to wait for new ones and end other waits."""
    doubts: dict[str, Doubt] = {}
    for key, size in sorted(found.sizes.items()):
        name, ours = key[0], ledger.holding(*key).size
        paid = ledger.paid(name)
        if paid is not None and paid.entry:
            # What is gone by the report and still held by us is a difference like any other.
            if ours + size:
                before = ledger.waits.get(name) or Wait(now_ns, 0, min(-paid.cash_e6, 0), max(-paid.cash_e6, 0))
                doubts[name] = Doubt(key, STILL_SHOWN, before.low_e6, before.high_e6)
                ledger.waits.setdefault(name, before)
        elif ours == -size and not ledger.has_paid(name):
            has_ended = _has_ended(ledger, key, instruments.get(name), as_of_ns)
            high_e6 = _highest_e6(ledger, key, words) if has_ended else abs(size)
            doubts[name] = Doubt(key, NOT_STATED if has_ended else NOT_ENDED, 0, high_e6)
            ledger.waits.setdefault(name, Wait(now_ns))
    # What would only have taken cash away explained none that came.
    longest_ns = max((one.waited_ns for one in ledger.waits.values() if one.high_e6 or not one.low_e6), default=0)
    for name, wait in list(ledger.waits.items()):
        if name not in doubts and _is_to_show(wait):
            doubts[name] = Doubt(None, STILL_SHOWN, wait.low_e6, wait.high_e6)
        elif name not in doubts and name != CASH:
            del ledger.waits[name]
    early_e6 = _early_e6(ledger, found, instruments, words, as_of_ns, doubts)
    if early_e6:
        doubts[CASH] = Doubt(None, NOT_STATED, 0, early_e6)
        # Cash that another market explained until that was over is not explained anew.
        is_over = longest_ns >= PAYOUT_WAIT_NS_MAX
        ledger.waits.setdefault(CASH, Wait(now_ns, longest_ns if is_over else 0))
    elif found.cash_e6 <= sum(doubt.high_e6 for doubt in doubts.values()):
        ledger.waits.pop(CASH, None)
    speaks = _speaks_for_payouts(found.cash_e6, doubts)
    return {name: _aged(doubt, ledger.waits[name], speaks=speaks) for name, doubt in sorted(doubts.items())}


def outside_e6(cash_e6: int, doubts: Mapping[str, Doubt]) -> int:
    """Return what of a difference of cash nothing that is waited for can explain."""
    low_e6 = sum(one.low_e6 for one in doubts.values() if one.waits)
    high_e6 = sum(one.high_e6 for one in doubts.values() if one.waits)
    return Span(low_e6, high_e6).outside_e6(cash_e6)


def _is_to_show(wait: Wait) -> bool:
    """Say whether reports have time left to show what was booked."""
    return (wait.low_e6 != 0 or wait.high_e6 != 0) and wait.waited_ns < PAYOUT_WAIT_NS_MAX


def _aged(doubt: Doubt, wait: Wait, *, speaks: bool) -> Doubt:
    is_over = wait.waited_ns >= PAYOUT_WAIT_NS_MAX
    speaks = speaks or doubt.why != NOT_ENDED
    return doubt._replace(waits=not is_over and speaks, is_over=is_over, speaks=speaks)


def _speaks_for_payouts(cash_e6: int, doubts: Mapping[str, Doubt]) -> bool:
    """Say whether cash came that payouts explain: then a market may have ended before it said so."""
    highest_e6 = sum(doubt.high_e6 for doubt in doubts.values())
    return 0 < cash_e6 <= highest_e6 and not cash_e6 % CENT_E6


def _early_e6(
    ledger: Account,
    found: Difference,
    instruments: Mapping[str, Instrument],
    words: PayoutWords,
    as_of_ns: int,
    doubts: Mapping[str, Doubt],
) -> int:
    """Return the most that markets may have paid that are listed as held still; 0: that is not what came in cash."""
    held = {
        key: _highest_e6(ledger, key, words)
        for key, holding in ledger.holdings.items()
        if holding.size
        and key[0] not in doubts
        and not ledger.has_paid(key[0])
        and _has_ended(ledger, key, instruments.get(key[0]), as_of_ns)
    }
    early_e6 = sum(held.values())
    known_e6 = sum(doubt.high_e6 for doubt in doubts.values())
    is_payout = known_e6 < found.cash_e6 <= known_e6 + early_e6 and not found.cash_e6 % CENT_E6
    return early_e6 if is_payout else 0


def _has_ended(ledger: Account, key: HoldingKey, described: Instrument | None, as_of_ns: int) -> bool:
    """Say whether a market is known to have ended: by its description, its close or its word."""
    return key in ledger.provisional or has_closed(described, as_of_ns)


def _highest_e6(ledger: Account, key: HoldingKey, words: PayoutWords) -> int:
    """Return the most that a holding may be paid: what its market says, in whole cents, else a dollar a contract."""
    payout_e6 = words.payout_e6(key[0])
    if payout_e6 < 0:
        return abs(ledger.holding(*key).size)
    return -(-ledger.expected_e6(key, payout_e6) // CENT_E6) * CENT_E6

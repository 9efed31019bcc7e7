"""Entries that no venue states: what an account opens with, and what a human says moved it otherwise than by trading.

A posting (`crossbook ledger enter`) moves cash or a holding once, by its id, and writes an Entry of its kind with who and
why. It may be entered before the venue shows it: until a report does (`beside`), or for a day, the old figures and the new
ones are both right, and what came in is neither spent nor sold. What is dated before an account's first report is in the
figures of that report. Pure.
"""

from __future__ import annotations

from core.runtime import log as logs
from decide import beside
from decide.account_set import AccountSet
from decide.ledger import Account, Coming, HoldingKey
from decide.risk import is_signed
from decide.settlements import Said, write_entry
from decide.turn import Turn, write_ledger
from schemas.decision import Posting
from schemas.enums import EntryKind
from schemas.order import VenueReport

log = logs.get()

COMING_NS_MAX = beside.COMING_NS_MAX
OWNERS: frozenset[EntryKind] = frozenset({"DEPOSIT", "WITHDRAWAL", "TRANSFER"})
"""Money that its owner put in or took out: how much of an account may be used (`capital_e6`) is not changed by it."""
ENTERED: frozenset[EntryKind] = OWNERS | {"REBATE", "REWARD", "INTEREST", "FEE", "ROUNDING", "GAS", "CONVERSION"}
"""Kinds a human may enter; the others are the ledger's own."""


def open_account(accounts: AccountSet, ledger: Account, report: VenueReport, turn: Turn) -> None:
    """Open an account by its first report: an entry for its cash and each holding, then what was entered since."""
    keys = ledger.open(report)
    write_ledger(ledger, keys, turn)
    why = "as the first report has it"
    write_entry(ledger, Said("OPENING", "", "NONE", why, report.as_of_ns, cash_e6=ledger.cash_e6), turn)
    for key in keys:
        size = ledger.holding(*key).size
        if size:
            write_entry(ledger, Said("OPENING", *key, reason=why, as_of_ns=report.as_of_ns, size=size), turn)
    for name in sorted(accounts.postings):
        if accounts.postings[name].account == ledger.name:
            _book(accounts, ledger, accounts.postings.pop(name), turn)


def enter(accounts: AccountSet, posting: Posting, turn: Turn) -> list[str]:
    """Take what a human entered; return the instruments that moved."""
    ledger = accounts.ledgers.get(posting.account)
    needs_two = accounts.limit is not None and accounts.limit.two_people
    wrong = _wrong(posting, needs_two=needs_two)
    if wrong:
        log.warning("posting.ignored", id=posting.id, set_by=posting.set_by, why=wrong)
        return []
    if ledger is None or not ledger.known:
        # Its account may be configured, or heard of, later.
        accounts.postings.setdefault(posting.id, posting)
        return []
    return _book(accounts, ledger, posting, turn)


def _wrong(posting: Posting, *, needs_two: bool) -> str:
    """Return what is wrong with a posting, empty if nothing is."""
    if posting.kind not in ENTERED:
        return f"{posting.kind} is no kind that is entered"
    if not posting.cash_e6 and not posting.size:
        return "it moves nothing"
    if bool(posting.size) != bool(posting.instrument) or (posting.size and posting.outcome not in {"YES", "NO"}):
        return "a size needs its instrument and outcome, and an instrument a size"
    if needs_two and not is_signed(posting):
        return "it needs a second person"
    return ""


def _book(accounts: AccountSet, ledger: Account, posting: Posting, turn: Turn) -> list[str]:
    if posting.id in ledger.posted:
        return []
    ledger.posted[posting.id] = True
    if posting.at_ns <= ledger.opened_ns:
        log.warning("posting.in_opening", id=posting.id, account=ledger.name)
        return []
    keys: list[HoldingKey] = []
    if posting.cash_e6:
        ledger.cash_e6 += posting.cash_e6
        if posting.kind in OWNERS:
            ledger.opening_cash_e6 += posting.cash_e6
        ledger.coming.append(Coming(("", "NONE"), 0, posting.cash_e6, turn.now_ns))
        ledger.moved_since[""] = True
    if posting.size:
        keys.append(_hold(accounts, ledger, posting, turn))
    key = keys[0] if keys else ("", "NONE")
    size = -posting.size if keys and ledger.nets and posting.outcome == "NO" else posting.size
    said = Said(posting.kind, *key, reason=_words(posting), as_of_ns=posting.at_ns, size=size, cash_e6=posting.cash_e6)
    write_entry(ledger, said, turn)
    write_ledger(ledger, keys, turn)
    return [instrument for instrument, _ in keys]


def _hold(accounts: AccountSet, ledger: Account, posting: Posting, turn: Turn) -> HoldingKey:
    """Move a holding; what came is sold only when a report shows it."""
    key = ledger.key_of(posting.instrument, posting.outcome)
    yes = posting.size if posting.outcome == "YES" else -posting.size
    size = yes if ledger.nets else posting.size
    ledger.heal(key, size, 0)
    if size > 0 and not ledger.nets:
        ledger.holdings[key].sellable -= size
    accounts.risk.enter(posting.instrument, accounts.positions.adjust(ledger.name, posting.instrument, yes))
    ledger.coming.append(Coming(key, size, 0, turn.now_ns))
    ledger.moved_since[posting.instrument] = True
    return key


def _words(posting: Posting) -> str:
    """Return who entered it, as what, and why."""
    second = f" and {posting.approved_by}" if posting.approved_by else ""
    reference = posting.id.rpartition("|")[2]
    return f"entered by {posting.set_by}{second} as {reference}: {posting.reason}"

"""Records of what moved an account otherwise than by trading, from what a human types. Pure; who and why are said with each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from core.domain.errors import Misconfigured, NotExact, Reject
from core.domain.units import MONEY_EXP, PREDICTION_SIZE_EXP, to_fixed
from decide.postings import ENTERED
from decide.risk import is_signed
from infra.cli.limits_desk import Signed
from schemas.decision import Entry, Limit, Posting, Profile
from schemas.enums import EntryKind, Outcome

SIGNS: Mapping[EntryKind, int] = {
    "DEPOSIT": 1,
    "REBATE": 1,
    "REWARD": 1,
    "INTEREST": 1,
    "WITHDRAWAL": -1,
    "FEE": -1,
    "GAS": -1,
}
"""Of those the kind itself says whether it comes or goes; of the others the amount does."""
HOLDINGS: frozenset[EntryKind] = frozenset({"DEPOSIT", "WITHDRAWAL", "TRANSFER", "CONVERSION"})
"""Kinds that may move what is held."""


@dataclass(frozen=True)
class Typed:
    """What a human typed about one entry; text as it stood."""

    kind: str
    account: str
    amount: str = ""
    instrument: str = ""
    outcome: str = ""
    size: str = ""
    reference: str = ""


def posting_of(typed: Typed, signed: Signed, account_set: str, *, at_ns: int, now_ns: int) -> Posting:
    """Return the record of an entry.

    Raises:
        Misconfigured: a kind that is not entered, an amount that is none, no reason, a time to come.
    """
    if not signed.by.strip() or not signed.why.strip():
        raise Misconfigured("who and why must be said: --by, --why")
    kind = _kind(typed.kind)
    if at_ns > now_ns:
        raise Misconfigured("--at is a time to come; what is on its way may be entered now")
    if "|" in typed.reference:
        raise Misconfigured(f"--reference {typed.reference!r}: | is not possible")
    cash_e6 = _signed(kind, "--amount", typed.amount, MONEY_EXP)
    size = _signed(kind, "--size", typed.size, PREDICTION_SIZE_EXP)
    if size and kind not in HOLDINGS:
        raise Misconfigured(f"{kind} moves cash alone; --size is for {', '.join(sorted(HOLDINGS))}")
    if bool(size) != bool(typed.instrument) or bool(size) != bool(typed.outcome):
        raise Misconfigured("--size, --instrument and --outcome belong together")
    if not cash_e6 and not size:
        raise Misconfigured("name what moved: --amount, or --size with --instrument and --outcome")
    venue = typed.account.partition(":")[0]
    if typed.instrument and typed.instrument.partition(":")[0] != venue:
        raise Misconfigured(f"{typed.instrument} is no instrument of {venue}")
    return Posting(
        id=f"posting|{typed.account}|{typed.reference or now_ns}",
        account_set=account_set,
        account=typed.account,
        kind=kind,
        instrument=typed.instrument,
        outcome=_outcome(typed.outcome),
        size=size,
        cash_e6=cash_e6,
        set_by=signed.by,
        approved_by=signed.approved_by,
        reason=signed.why,
        at_ns=at_ns,
        ts_ns=now_ns,
    )


def check(posting: Posting, limit: Limit | None, profiles: Mapping[str, Profile], known: Mapping[str, Posting]) -> None:
    """Refuse what the accounts' task would not take.

    Raises:
        Misconfigured: the account is none of the set, one person where two are asked for, a reference that is taken.
    """
    own = sorted(name for name, profile in profiles.items() if profile.account_set == posting.account_set)
    if posting.account not in own:
        raise Misconfigured(
            f"{posting.account} is no account of {posting.account_set}: {', '.join(own) or 'it has none'}"
        )
    if limit is not None and limit.two_people and not is_signed(posting):
        raise Misconfigured(f"name a second person with --approved-by, another than {posting.set_by}")
    before = known.get(posting.id)
    if before is not None:
        reference = posting.id.rpartition("|")[2]
        raise Misconfigured(
            f"{before.kind} {reference} of {before.account} was entered by {before.set_by} already ({before.reason}): "
            "it moves once; another movement needs another --reference"
        )


def sums(entries: Iterable[Entry]) -> dict[tuple[str, EntryKind], int]:
    """Return what entries of each account and kind moved of its cash, without what is only provisional."""
    found: dict[tuple[str, EntryKind], int] = {}
    for entry in entries:
        if entry.phase != "PROVISIONAL":
            key = (entry.account, entry.kind)
            found[key] = found.get(key, 0) + entry.cash_e6
    return dict(sorted(found.items()))


def _kind(text: str) -> EntryKind:
    word = text.upper()
    if word not in ENTERED:
        raise Misconfigured(f"{text!r} is not entered by hand: use {', '.join(sorted(ENTERED)).lower()}")
    return word


def _outcome(text: str) -> Outcome:
    if not text:
        return "NONE"
    if text.upper() not in {"YES", "NO"}:
        raise Misconfigured(f"--outcome {text!r}: use yes or no")
    return cast("Outcome", text.upper())


def _signed(kind: EntryKind, name: str, text: str, exponent: int) -> int:
    """Return an amount with the sign that its kind gives it, or that was typed where the kind leaves that open."""
    if not text:
        return 0
    has_sign = text[0] in "+-"
    if has_sign and kind in SIGNS:
        raise Misconfigured(f"{name} {text}: without a sign; {kind} says which way it goes")
    if not has_sign and kind not in SIGNS:
        raise Misconfigured(f"{name} {text}: say with + or - whether {kind} brings or takes it")
    try:
        amount = to_fixed(text.lstrip("+-") if has_sign else text, exponent)
    except (NotExact, Reject) as e:
        raise Misconfigured(f"{name} {text}: {e}") from e
    return amount * SIGNS.get(kind, -1 if text[0] == "-" else 1)

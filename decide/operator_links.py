"""The links of the operator's file: one entry to one record."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from decide.links import default_payouts, event_payouts, rules_of, table_fault
from schemas import decision
from venues import VENUES


class _Payout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    state: str
    a_e6: int
    b_e6: int


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    state: str
    pays_e6: list[int]


class _Kalshi(msgspec.Struct, frozen=True):
    ticker: str


class _Polymarket(msgspec.Struct, frozen=True):
    condition_id: str


class LinkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One link, as it stands in the file."""

    polarity: Literal["SAME", "OPPOSITE", "UNKNOWN"] = "UNKNOWN"
    """of a pair; an event has none"""
    kind: Literal["PAIR", "EVENT"] = "PAIR"
    key: str = ""
    a: str = ""
    b: str = ""
    kalshi: _Kalshi | None = None
    polymarket: _Polymarket | None = None
    payouts: list[_Payout] = []
    version: int = 1
    status: Literal["PROPOSED", "APPROVED", "SUSPENDED", "EXPIRED"] = "APPROVED"
    approved_by: str = ""
    expires_ts_ns: int = 0
    rules_hash_a: str = ""
    rules_hash_b: str = ""
    instruments: list[str] = []
    table: list[_Row] = []
    """of an event what `payouts` is of a pair"""
    rules_hashes: list[str] = []
    exhaustive: bool = False
    event_group: str = ""
    sources: list[str] = []
    cutoffs_ns: list[int] = []
    weak_states: list[str] = []
    haircut_e6: int = 0
    cap_e6: int = 0
    reason: str = ""


def link_record(link: LinkEntry, approver: str, now_ns: int) -> decision.Link:
    """Return the link's record.

    Raises:
        Misconfigured: nobody approves it, an instrument of no venue, a table that contradicts it.
    """
    made = _event(link) if link.kind == "EVENT" else _pair(link)
    approved_by = link.approved_by or approver
    if link.status == "APPROVED" and not approved_by.strip():
        raise Misconfigured(f"link {made.id}: approved_by is empty; a human approves a link, name who did")
    made = msgspec.structs.replace(
        made,
        approved_by=approved_by,
        approved_ts_ns=now_ns if link.status == "APPROVED" else 0,
        sources=link.sources,
        cutoffs_ns=link.cutoffs_ns,
        weak_states=link.weak_states,
        haircut_e6=link.haircut_e6,
        cap_e6=link.cap_e6,
        reason=link.reason,
        set_by=approved_by,
        set_ts_ns=now_ns,
    )
    reason = table_fault(made)
    if reason:
        raise Misconfigured(f"link {made.id}: {reason}")
    return made


def check_rules(links: Iterable[decision.Link]) -> None:
    """Refuse approvals that do not say of which rule texts: a change of them would not be seen."""
    for link in links:
        if link.status == "APPROVED" and not all(rules_of(link)):
            raise Misconfigured(
                f"link {link.id}: the approved rule texts are not recorded: approve it with `crossbook links approve`; "
                'only a file that says "simulated": true may leave them out'
            )


def _pair(link: LinkEntry) -> decision.Link:
    a, b = _instruments(link)
    name = link.key or f"{a}|{b}"
    if a == b:
        raise Misconfigured(f"link {name}: both instruments are {a!r}; a link joins two")
    if link.polarity == "UNKNOWN":
        raise Misconfigured(f"link {name}: polarity is missing: SAME if YES of a is YES of b, else OPPOSITE")
    table = [(row.state, row.a_e6, row.b_e6) for row in link.payouts] or default_payouts(link.polarity)
    _check_payouts(name, link.polarity, table)
    return decision.Link(
        id=name,
        version=link.version,
        status=link.status,
        instrument_a=a,
        instrument_b=b,
        polarity=link.polarity,
        states=[state for state, _, _ in table],
        payout_a_e6=[paid for _, paid, _ in table],
        payout_b_e6=[paid for _, _, paid in table],
        rules_hash_a=link.rules_hash_a,
        rules_hash_b=link.rules_hash_b,
        approved_by="",
        approved_ts_ns=0,
        expires_ts_ns=link.expires_ts_ns,
    )


def _event(link: LinkEntry) -> decision.Link:
    name = link.key or link.event_group
    for instrument in link.instruments:
        _check_instrument(name or "?", "of an event", instrument)
    table = [(row.state, row.pays_e6) for row in link.table] or event_payouts(
        link.instruments, exhaustive=link.exhaustive
    )
    return decision.Link(
        id=name,
        version=link.version,
        status=link.status,
        instrument_a="",
        instrument_b="",
        polarity="UNKNOWN",
        states=[state for state, _ in table],
        payout_a_e6=[],
        payout_b_e6=[],
        kind="EVENT",
        instruments=link.instruments,
        payouts_e6=[paid for _, row in table for paid in row],
        rules_hashes=link.rules_hashes,
        exhaustive=link.exhaustive,
        event_group=link.event_group,
        approved_by="",
        approved_ts_ns=0,
        expires_ts_ns=link.expires_ts_ns,
    )


def _instruments(link: LinkEntry) -> tuple[str, str]:
    a = link.a or (f"kalshi:{link.kalshi.ticker}" if link.kalshi else "")
    b = link.b or (f"polymarket:{link.polymarket.condition_id}" if link.polymarket else "")
    for side, name in (("a", a), ("b", b)):
        _check_instrument(link.key or a or b or "?", side, name)
    return a, b


def _check_instrument(link: str, side: str, name: str) -> None:
    venue, _, rest = name.partition(":")
    if venue not in VENUES or not rest:
        raise Misconfigured(
            f"link {link}: instrument {side}: expected <venue>:<id> with a venue of {', '.join(VENUES)}, found {name!r}"
        )


def _check_payouts(name: str, polarity: str, table: list[tuple[str, int, int]]) -> None:
    """Hold the table against the polarity: every state pays within a dollar, yes and no are there, nothing contradicts."""
    states = [state for state, _, _ in table]
    if len(set(states)) != len(states):
        raise Misconfigured(f"link {name}: a payout state stands twice in {states}")
    for state, a, b in table:
        if not (0 <= a <= MICRO and 0 <= b <= MICRO):
            raise Misconfigured(f"link {name}: state {state!r} pays {a} and {b}; expected 0 to {MICRO}")
    decided = {(MICRO, MICRO), (0, 0)} if polarity == "SAME" else {(MICRO, 0), (0, MICRO)}
    contrary = {(MICRO, 0), (0, MICRO)} if polarity == "SAME" else {(MICRO, MICRO), (0, 0)}
    rows = {(a, b) for _, a, b in table}
    if not decided <= rows:
        raise Misconfigured(f"link {name}: polarity {polarity} needs the states that pay {sorted(decided)}")
    if contrary <= rows:
        raise Misconfigured(f"link {name}: polarity {polarity} is contradicted by states that pay {sorted(contrary)}")

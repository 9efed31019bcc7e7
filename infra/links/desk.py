"""What a human decides about a link, as the next version of its record. Pure; who publishes it gives the time.

Nothing is approved that was not read: an approval names the beginning of the hash of each rule text, and records texts,
cut-offs and sources as they are now. What it then contradicts is refused here, with the same words that would suspend it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.domain.errors import Misconfigured, NotExact
from core.domain.units import MICRO, to_fixed
from decide.edges import floor_of, worst_of
from decide.links import (
    Fault,
    Instruments,
    State,
    default_payouts,
    event_payouts,
    fault,
    instruments_of,
    states_of,
    table_fault,
)
from infra.links.match import Outcomes, Pair
from infra.links.terms import Terms
from schemas.decision import Link
from schemas.enums import LinkStatus, Polarity, Side
from schemas.market import Instrument

RULES_SHOWN = 12
"""Characters of a rule text's hash that are shown."""
RULES_MIN = 8
"""Of them an approval has to name."""
MONEY_EXP = -6


@dataclass(frozen=True)
class Approval:
    """What is approved, and by whom. What is left empty stays as it was proposed."""

    by: str
    why: str
    now_ns: int
    rules: tuple[str, ...]
    """beginning of the hash of each rule text that was read, in the order of the instruments"""
    sources: tuple[str, ...] = ()
    """who decides each, as the rule texts say"""
    polarity: Polarity = "UNKNOWN"
    states: tuple[str, ...] = ()
    """`name=1,0.5`: in dollars, what one YES of each instrument pays; replaces a state of that name, or adds it"""
    drop: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    haircut_e6: int = 0
    cap_e6: int = 0
    exhaustive: bool | None = None
    expires_ts_ns: int | None = None
    """0: with its instruments"""


# --- proposals


def propose(found: Pair | Outcomes, instruments: Instruments, *, by: str, now_ns: int) -> Link:
    """Return a candidate as a link that waits for a human."""
    names = [one.instrument for one in ((found.a, found.b) if isinstance(found, Pair) else found.outcomes)]
    sources = [source_of(one) for one in ((found.a, found.b) if isinstance(found, Pair) else found.outcomes)]
    link = Link(
        id=found.link,
        version=1,
        status="PROPOSED",
        instrument_a="",
        instrument_b="",
        polarity="UNKNOWN",
        states=[],
        payout_a_e6=[],
        payout_b_e6=[],
        approved_by="",
        approved_ts_ns=0,
        sources=sources,
        evidence=[f"score {found.score} of 100", *found.evidence],
        reason="proposed",
        set_by=by,
        set_ts_ns=now_ns,
    )
    if isinstance(found, Pair):
        link = msgspec.structs.replace(link, instrument_a=names[0], instrument_b=names[1], polarity=found.polarity)
        table = [State(name, (a, b)) for name, a, b in found.table]
    else:
        link = msgspec.structs.replace(link, kind="EVENT", instruments=names, event_group=found.event_group)
        table = [State(name, tuple(row)) for name, row in event_payouts(names, exhaustive=False)]
    return _as_known(_with_table(link, table), instruments)


def source_of(terms: Terms) -> str:
    """Return who decides an instrument, as its rules say."""
    return ", ".join(sorted(terms.sources))


def _with_table(link: Link, table: list[State]) -> Link:
    states = [state.name for state in table]
    if link.kind == "EVENT":
        return msgspec.structs.replace(
            link, states=states, payouts_e6=[paid for state in table for paid in state.pays_e6]
        )
    return msgspec.structs.replace(
        link,
        states=states,
        payout_a_e6=[state.pays_e6[0] for state in table],
        payout_b_e6=[state.pays_e6[1] for state in table],
    )


def _as_known(link: Link, instruments: Instruments) -> Link:
    """Return the link with the rule texts and cut-offs of now."""
    known = [instruments[name] for name in instruments_of(link)]
    rules = [instrument.rules_hash for instrument in known]
    cutoffs = [instrument.close_ts_ns for instrument in known]
    if link.kind == "EVENT":
        return msgspec.structs.replace(link, rules_hashes=rules, cutoffs_ns=cutoffs)
    return msgspec.structs.replace(link, rules_hash_a=rules[0], rules_hash_b=rules[1], cutoffs_ns=cutoffs)


# --- what a human says


def approve(link: Link, instruments: Instruments, approval: Approval) -> Link:
    """Return the link as approved.

    Raises:
        Misconfigured: an instrument is not described, a rule text is not the one that was read, or what would be
            approved contradicts itself or the venues.
    """
    if not approval.by.strip():
        raise Misconfigured(f"link {link.id}: name who approves it (--by)")
    known = [_described(link, name, instruments) for name in instruments_of(link)]
    _check_read(link, known, approval.rules)
    made = _as_known(_on_terms(link, approval), instruments)
    made = msgspec.structs.replace(
        made,
        version=link.version + 1,
        status="APPROVED",
        approved_by=approval.by,
        approved_ts_ns=approval.now_ns,
        reason=approval.why,
        set_by=approval.by,
        set_ts_ns=approval.now_ns,
    )
    _check_dead(made, approval.now_ns)
    reason = table_fault(made) or fault(made, instruments)
    if reason and not reason.startswith(Fault.STATUS):
        raise Misconfigured(f"link {link.id}: it would be suspended at once: {reason}")
    _check_floor(made)
    return made


def close(link: Link, status: LinkStatus, *, by: str, why: str, now_ns: int) -> Link:
    """Return the link as REJECTED or EXPIRED.

    Raises:
        Misconfigured: nobody or nothing is named, or a link that is traded is to be rejected.
    """
    if not by.strip() or not why.strip():
        raise Misconfigured(f"link {link.id}: say who (--by) and why (--why)")
    if status == "REJECTED" and link.status == "APPROVED":
        raise Misconfigured(f"link {link.id} is approved: `crossbook links expire` ends it")
    return msgspec.structs.replace(
        link, version=link.version + 1, status=status, reason=why, set_by=by, set_ts_ns=now_ns
    )


def expire_later(link: Link, expires_ts_ns: int, *, by: str, why: str, now_ns: int) -> Link:
    """Return an approved link that ends by itself at a time.

    Raises:
        Misconfigured: nobody or nothing is named, it is not approved, or the time has passed.
    """
    if link.status != "APPROVED":
        raise Misconfigured(f"link {link.id} is {link.status}: only an approved link can end later")
    if expires_ts_ns <= now_ns:
        raise Misconfigured(f"link {link.id}: that time has passed; without --at it ends now")
    ended = close(link, "EXPIRED", by=by, why=why, now_ns=now_ns)
    return msgspec.structs.replace(ended, status="APPROVED", expires_ts_ns=expires_ts_ns)


def money_e6(text: str, what: str) -> int:
    """Return dollars as typed, at 1e-6.

    Raises:
        Misconfigured: not a plain decimal number.
    """
    try:
        return to_fixed(text.strip(), MONEY_EXP)
    except NotExact as e:
        raise Misconfigured(f"{what}: {e}") from e


def directions(link: Link) -> list[tuple[str, dict[str, Side], int, int]]:
    """Return how a link can be traded: words, sides, what counts as guaranteed for a contract of each, what can be lost to."""
    names = instruments_of(link)
    if link.kind == "EVENT":
        ways: list[tuple[str, dict[str, Side]]] = [
            ("buy all", dict.fromkeys(names, "BUY")),
            ("sell all", dict.fromkeys(names, "SELL")),
        ]
    elif link.polarity == "OPPOSITE":
        ways = [("buy both", dict.fromkeys(names, "BUY")), ("sell both", dict.fromkeys(names, "SELL"))]
    else:
        ways = [
            ("buy a, sell b", {names[0]: "BUY", names[1]: "SELL"}),
            ("sell a, buy b", {names[0]: "SELL", names[1]: "BUY"}),
        ]
    return [(words, sides, floor_of(link, sides), worst_of(link, sides)) for words, sides in ways]


# --- checks


def _described(link: Link, name: str, instruments: Instruments) -> Instrument:
    instrument = instruments.get(name)
    if instrument is None or not instrument.rules_hash:
        raise Misconfigured(f"link {link.id}: {name} is not described in this run: its rules cannot be approved")
    return instrument


def _check_read(link: Link, known: list[Instrument], rules: tuple[str, ...]) -> None:
    hashes = [instrument.rules_hash for instrument in known]
    shown = ",".join(text[:RULES_SHOWN] for text in hashes)
    if len(rules) != len(hashes):
        raise Misconfigured(
            f"link {link.id}: name the rule texts you read: --rules {shown} (`crossbook links show` prints them)"
        )
    for instrument, text in zip(known, rules, strict=True):
        if len(text) < RULES_MIN or not instrument.rules_hash.startswith(text):
            raise Misconfigured(
                f"link {link.id}: {instrument.instrument}: you read {text or 'nothing'}, its rules are now "
                f"{instrument.rules_hash[:RULES_SHOWN]}: read them again"
            )


def _on_terms(link: Link, approval: Approval) -> Link:
    """Return the link on the terms of the approval."""
    changes: dict[str, object] = {
        "sources": list(approval.sources) or link.sources,
        "weak_states": list(approval.weak) or link.weak_states,
        "haircut_e6": approval.haircut_e6 or link.haircut_e6,
        "cap_e6": approval.cap_e6 or link.cap_e6,
        "expires_ts_ns": link.expires_ts_ns if approval.expires_ts_ns is None else approval.expires_ts_ns,
    }
    table = states_of(link)
    if link.kind == "EVENT":
        if approval.polarity != "UNKNOWN":
            raise Misconfigured(f"link {link.id}: an event has no polarity")
        exhaustive = link.exhaustive if approval.exhaustive is None else approval.exhaustive
        changes["exhaustive"] = exhaustive
        if exhaustive:
            table = [state for state in table if any(state.pays_e6)]
        elif all(any(state.pays_e6) for state in table):
            table.append(State("none", (0,) * len(link.instruments)))
    else:
        if approval.exhaustive is not None:
            raise Misconfigured(f"link {link.id}: only an event can be exhaustive")
        if approval.polarity not in {"UNKNOWN", link.polarity}:
            changes["polarity"] = approval.polarity
            table = [State(name, (a, b)) for name, a, b in default_payouts(approval.polarity)]
    for name in approval.drop:
        if name not in {state.name for state in table}:
            raise Misconfigured(f"link {link.id}: --drop {name}: it has no such state")
    table = [state for state in table if state.name not in approval.drop]
    for text in approval.states:
        added = _state(link, text)
        table = [added if state.name == added.name else state for state in table]
        if added not in table:
            table.append(added)
    return _with_table(msgspec.structs.replace(link, **changes), table)


def _state(link: Link, text: str) -> State:
    name, _, amounts = text.partition("=")
    width = len(instruments_of(link))
    pays_e6 = tuple(money_e6(amount, f"--state {name}") for amount in amounts.split(",")) if amounts else ()
    if not name.strip() or len(pays_e6) != width:
        raise Misconfigured(f"link {link.id}: --state {text!r}: expected name={','.join(['dollars'] * width)}")
    return State(name.strip(), pays_e6)


def _check_dead(link: Link, now_ns: int) -> None:
    if 0 < link.expires_ts_ns <= now_ns:
        raise Misconfigured(
            f"link {link.id}: it has expired: give it another end with --expires, or none with --expires never"
        )


def _check_floor(link: Link) -> None:
    """Refuse what no direction can guarantee a dollar for, unless the weak states were named and priced."""
    if link.weak_states or (link.kind == "EVENT" and not link.exhaustive):
        return
    # A void state shares a dollar among the outcomes, each rounded down.
    rounding = len(instruments_of(link)) if link.kind == "EVENT" else 0
    ways = directions(link)[: 1 if link.kind == "EVENT" else 2]
    if max(worst for _, _, _, worst in ways) < MICRO - rounding:
        raise Misconfigured(
            f"link {link.id}: a state pays less than a dollar whichever way it is traded; name such states with "
            "--weak, and what they are worth with --haircut and --cap"
        )

"""What a link pays, and whether it still is what a human approved. Pure; both tasks ask, each of what its log says.

A link is a payout table: a row for each joint state of the world, a column for each instrument, what one YES of it pays
there. A PAIR keeps its two columns in fields of their own, an EVENT keeps its columns side by side (`payouts_e6`,
state-major); here both are rows. What legs are worth together is the minimum over the rows. States that a human named
weak do not count in it, in return for a haircut and a cap (`edges.floor_of`).

`fault` says why a link may not be traded now. Its first word is one of `Fault`. A link with a fault is suspended there
and then; what cannot heal by itself (`LASTING`) is written down as SUSPENDED too, so that only a human ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from core.domain.units import MICRO
from decide.payouts import DECIDED
from schemas.decision import Link
from schemas.market import Instrument, Notice

SUSPENDED_BY = "decide"
HALF = MICRO // 2


class Fault(StrEnum):
    """Why a link may not be traded; the first word of `fault`."""

    TABLE = "TABLE"
    """the payout table contradicts the link, or pays too little without a haircut and a cap"""
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    """an instrument is not described (any more)"""
    STATUS = "STATUS"
    """an instrument cannot be traded at its venue now"""
    DECIDED = "DECIDED"
    """an instrument's outcome is determined or settled"""
    STALE = "STALE"
    """its venue said that what it states of an instrument changed, and nobody has read what it is now"""
    RULES = "RULES"
    """a rule text is not the one that was approved"""
    CUTOFF = "CUTOFF"
    """an instrument closes at another time than was approved"""
    NOT_EXHAUSTIVE = "NOT_EXHAUSTIVE"
    """the venue may add, or has added, outcomes to an event that is held to be exhausted"""


LASTING = frozenset({Fault.DECIDED, Fault.RULES, Fault.CUTOFF, Fault.NOT_EXHAUSTIVE})
"""What a human has to look at, even if it goes away."""


class State(NamedTuple):
    """One row: a joint state of the world, and what one YES of each instrument pays in it, at 1e-6."""

    name: str
    pays_e6: tuple[int, ...]


class Instruments(dict[str, Instrument]):
    """Instruments by id that also know which of them share an event. Set by `[…] =` only; nothing is ever removed.

    Attributes:
        noticed_ns: when a venue last said that what it states of an instrument, or an event, is no longer what it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_event: dict[str, set[str]] = {}
        self.noticed_ns: dict[str, int] = {}

    def __setitem__(self, name: str, instrument: Instrument) -> None:
        known = self.get(name)
        if known is None or known.event_group != instrument.event_group:
            if known is not None:
                self._of_event[known.event_group].discard(name)
            self._of_event.setdefault(instrument.event_group, set()).add(name)
        super().__setitem__(name, instrument)

    def notice(self, notice: Notice) -> frozenset[str]:
        """Take a venue's word that its catalogue says something new; return the instruments it is about."""
        name = notice.instrument or notice.event_group
        self.noticed_ns[name] = max(notice.recv_ts_ns, self.noticed_ns.get(name, 0))
        return frozenset({notice.instrument}) & self.keys() if notice.instrument else self.of_event(name)

    def is_stale(self, instrument: Instrument) -> bool:
        """Say whether its description is older than the last word that it changed."""
        names = (instrument.instrument, instrument.event_group)
        return instrument.recv_ts_ns < max(self.noticed_ns.get(name, 0) for name in names)

    def of_event(self, event_group: str) -> frozenset[str]:
        """Return the instruments of one event."""
        return frozenset(self._of_event.get(event_group, ()))


# --- what it is about, and what it pays


def instruments_of(link: Link) -> Sequence[str]:
    """Return the instruments of a link, in the order of the table's columns."""
    return link.instruments if link.kind == "EVENT" else (link.instrument_a, link.instrument_b)


def rules_of(link: Link) -> Sequence[str]:
    """Return the hash of each instrument's rule text as approved, empty where it is not recorded."""
    if link.kind == "EVENT":
        return link.rules_hashes or [""] * len(link.instruments)
    return (link.rules_hash_a, link.rules_hash_b)


def states_of(link: Link) -> list[State]:
    """Return the rows of the payout table.

    Raises:
        ValueError: the columns are not of the length of the states.
    """
    if link.kind != "EVENT":
        rows = zip(link.states, link.payout_a_e6, link.payout_b_e6, strict=True)
        return [State(name, (a, b)) for name, a, b in rows]
    width = len(link.instruments)
    if len(link.payouts_e6) != width * len(link.states):
        raise ValueError(f"expected {len(link.states)} states of {width} payouts, found {len(link.payouts_e6)} payouts")
    return [
        State(name, tuple(link.payouts_e6[row * width : (row + 1) * width])) for row, name in enumerate(link.states)
    ]


def default_payouts(polarity: str) -> list[tuple[str, int, int]]:
    """Return (state, payout of YES of a, of b) of a plain binary pair: yes, no, and both void at one half."""
    yes_b, no_b = (MICRO, 0) if polarity == "SAME" else (0, MICRO)
    return [("yes", MICRO, yes_b), ("no", 0, no_b), ("void", HALF, HALF)]


def event_payouts(instruments: Sequence[str], *, exhaustive: bool) -> list[tuple[str, list[int]]]:
    """Return (state, payout of YES of each) of an event: each outcome wins, none does unless exhaustive, all are void.

    A void event pays each outcome its even share of a dollar, rounded down.
    """
    width = len(instruments)
    table = [
        (name.partition(":")[2], [MICRO if column == row else 0 for column in range(width)])
        for row, name in enumerate(instruments)
    ]
    if not exhaustive:
        table.append(("none", [0] * width))
    return [*table, ("void", [MICRO // max(width, 1)] * width)]


# --- whether it may be traded


def fault(link: Link, instruments: Instruments) -> str:
    """Return why the link may not be traded, by its own table and by what is known of its instruments; empty: sound.

    Its status and expiry are not looked at: who asks has the time. Rule texts and cut-offs the link does not record are
    not compared, which only links of simulated markets may leave out.
    """
    reason = table_fault(link)
    if reason:
        return f"{Fault.TABLE}: {reason}"
    described: list[Instrument] = []
    for name in instruments_of(link):
        instrument = instruments.get(name)
        # A description that cannot be read stands as UNKNOWN, without rules: that is no other rule text.
        if instrument is None or (instrument.status == "UNKNOWN" and not instrument.rules_hash):
            return f"{Fault.UNKNOWN_INSTRUMENT}: {name} is not described"
        described.append(instrument)
    return (
        _changed(link, described)
        or _not_exhaustive(link, described, instruments)
        or _not_open(described)
        or _stale(described, instruments)
    )


def is_lasting(reason: str) -> bool:
    """Say whether a fault stays until a human looked at it."""
    return reason.partition(":")[0] in LASTING


def suspended(link: Link, reason: str, now_ns: int) -> Link:
    """Return the link as it is written down when a lasting fault struck it: the same version, so a later approval wins."""
    return msgspec.structs.replace(link, status="SUSPENDED", reason=reason, set_by=SUSPENDED_BY, set_ts_ns=now_ns)


def suspension_key(link: str) -> str:
    """Return the record key of a suspension: not the link's, or it could push a newer approval out of the topic."""
    return f"{link}|suspended"


def table_fault(link: Link) -> str:
    """Return what is wrong with the table whatever the instruments are, empty if nothing."""
    names = instruments_of(link)
    if len(set(names)) != len(names) or len(names) < 2 or not all(names):
        return f"expected two or more different instruments, found {', '.join(names) or 'none'}"
    for what, values in (("rules_hashes", link.rules_hashes), ("cutoffs_ns", link.cutoffs_ns)):
        if values and len(values) != len(names):
            return f"expected {len(names)} {what}, found {len(values)}"
    try:
        states = states_of(link)
    except ValueError as e:
        return str(e)
    if not states or len(set(link.states)) != len(states):
        return f"expected states that stand once, found {link.states}"
    for name, pays_e6 in states:
        if not all(0 <= paid <= MICRO for paid in pays_e6):
            return f"state {name!r} pays {list(pays_e6)}; expected 0 to {MICRO} each"
    return _weak_fault(link, states) or (_event_fault(link, states) if link.kind == "EVENT" else "")


def _weak_fault(link: Link, states: list[State]) -> str:
    if link.haircut_e6 < 0 or link.cap_e6 < 0:
        return f"haircut_e6 {link.haircut_e6} and cap_e6 {link.cap_e6}: expected 0 or more"
    weak = set(link.weak_states)
    if not weak:
        return ""
    if not weak < {state.name for state in states}:
        return f"weak states {sorted(weak)}: expected some, but not all, of {link.states}"
    if not link.haircut_e6 or not link.cap_e6:
        return f"weak states {sorted(weak)} need a haircut and a cap, found {link.haircut_e6} and {link.cap_e6}"
    return ""


def _event_fault(link: Link, states: list[State]) -> str:
    none_wins = [state.name for state in states if not any(state.pays_e6)]
    if link.exhaustive and none_wins:
        return f"it is held to be exhaustive, but nothing pays in state {none_wins[0]!r}"
    for column, name in enumerate(link.instruments):
        if not any(state.pays_e6[column] == MICRO for state in states):
            return f"{name} pays a dollar in no state"
    return ""


def _changed(link: Link, instruments: list[Instrument]) -> str:
    cutoffs = link.cutoffs_ns or [0] * len(instruments)
    for instrument, rules, cutoff_ns in zip(instruments, rules_of(link), cutoffs, strict=True):
        name = instrument.instrument
        if instrument.status in DECIDED:
            return f"{Fault.DECIDED}: {name} is {instrument.status}"
        if rules and instrument.rules_hash != rules:
            return f"{Fault.RULES}: {name}: approved {rules[:12]}, is now {instrument.rules_hash[:12] or 'not stated'}"
        if cutoff_ns and instrument.close_ts_ns != cutoff_ns:
            return f"{Fault.CUTOFF}: {name}: approved {cutoff_ns}, closes now at {instrument.close_ts_ns}"
    return ""


def _not_exhaustive(link: Link, described: list[Instrument], instruments: Instruments) -> str:
    if link.kind != "EVENT" or not link.exhaustive:
        return ""
    names = set(link.instruments)
    for instrument in described:
        if instrument.grows:
            return f"{Fault.NOT_EXHAUSTIVE}: {instrument.instrument}: its venue may add outcomes to the event"
        if link.event_group and instrument.event_group != link.event_group:
            return f"{Fault.NOT_EXHAUSTIVE}: {instrument.instrument} belongs to {instrument.event_group} now"
    others = instruments.of_event(link.event_group) - names if link.event_group else frozenset()
    if others:
        return f"{Fault.NOT_EXHAUSTIVE}: {min(others)} is an outcome of {link.event_group} too"
    return ""


def _stale(described: list[Instrument], instruments: Instruments) -> str:
    for instrument in described:
        if instruments.is_stale(instrument):
            return f"{Fault.STALE}: {instrument.instrument}: its venue changed what it states of it; not read again yet"
    return ""


def _not_open(instruments: list[Instrument]) -> str:
    for instrument in instruments:
        if instrument.status != "OPEN":
            return f"{Fault.STATUS}: {instrument.instrument} is {instrument.status}"
    return ""

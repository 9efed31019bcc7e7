"""What the gateway knows beside books and orders that may forbid one: the venue's state, the law, the money.

Pure: time and what was heard are arguments. Each of the three refuses on its own, in one sentence, whatever decide said.
What is not known yet holds back entries; what takes risk away is only held back by the law.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from core.domain.units import MICRO
from core.runtime.clock import NS_PER_S
from execute.orders import Orders, Tracked, notional_e6
from execute.views import Mode, Purse, Standing
from schemas.decision import Grant, Profile
from schemas.decision import Jurisdiction as SignOff
from schemas.enums import Verdict
from schemas.market import Instrument
from schemas.record import Record

ANY = "*"
RISK_LESS = frozenset({"HEDGE", "UNWIND"})
HOUR_NS = 3_600 * NS_PER_S


# --- the venue's state


class VenueState:
    """Maintenance, restarts, post-only phases: as the venue's answers and its status page say, each for as long as it holds."""

    PROBE_MIN_S = 1.0
    PROBE_MAX_S = 30.0
    POLL_HOLDS_NS = 60 * NS_PER_S

    def __init__(self) -> None:
        self._heard: tuple[Mode, str, int] = (Mode.OPEN, "", 0)
        self._polled: tuple[Mode, str, int] = (Mode.OPEN, "", 0)
        self._shards: frozenset[int] = frozenset()
        self._probe_s = self.PROBE_MIN_S

    def heard(self, mode: Mode, why: str, now_ns: int, *, wait_s: float = 0.0) -> None:
        """Take what an answer to an order said; believed for `wait_s`, else a little longer each time."""
        if mode is Mode.OPEN:
            self._probe_s = self.PROBE_MIN_S
            self._heard = (Mode.OPEN, "", 0)
            return
        self._heard = (mode, why, now_ns + int((wait_s or self._probe_s) * NS_PER_S))
        self._probe_s = min(self._probe_s * 2, self.PROBE_MAX_S)

    def polled(self, mode: Mode, why: str, now_ns: int, *, shards_paused: frozenset[int] = frozenset()) -> None:
        """Take what the venue's status says, believed until the next time it is asked."""
        self._polled = (mode, why, now_ns + self.POLL_HOLDS_NS)
        self._shards = shards_paused

    def mode(self, now_ns: int) -> Mode:
        """Return what the venue takes now, as far as is known."""
        return max((mode for mode, _, until_ns in (self._heard, self._polled) if now_ns < until_ns), default=Mode.OPEN)

    def why_not(self, grant: Grant, instrument: Instrument, now_ns: int) -> str:
        """Return why the venue takes no such order now, empty if nothing is known against it."""
        if grant.purpose in RISK_LESS:
            return ""  # the venue knows best, and a refusal costs nothing
        for mode, why, until_ns in (self._heard, self._polled):
            if now_ns >= until_ns or mode is Mode.OPEN:
                continue
            if mode is Mode.POST_ONLY and grant.post_only:
                continue
            return f"the venue is {mode.name}: {why}"
        if instrument.exchange_index in self._shards and now_ns < self._polled[2]:
            return f"shard {instrument.exchange_index} of the venue does not trade"
        return ""


# --- the law


class Jurisdiction:
    """Whether this account may trade a category: what a human signed off, and what the venue says of itself."""

    ANSWER_AGE_MAX_NS = 3 * HOUR_NS
    """The venue is asked every hour; after so long without an answer entries wait for one."""

    def __init__(self, *, account: str, required: bool, asked: bool = False, region: str = "") -> None:
        """`required`: without a sign-off nothing is sent; `asked`: the venue has an answer of its own, to be waited for.

        `region` is where this gateway stands, as a human told it.
        """
        self._account = account
        self._region = region
        self._venue = account.partition(":")[0]
        self._required = required
        self._asked = asked
        self._entity = ""
        self._signed: dict[tuple[str, str], SignOff] = {}
        self._standing: Standing | None = None
        self._standing_ns = 0

    def apply(self, record: Record) -> None:
        """Take a record of decision.jurisdiction or decision.profile."""
        if isinstance(record, Profile):
            if record.id == self._account:
                self._entity = record.entity
        elif isinstance(record, SignOff) and record.venue == self._venue:
            self._signed[record.entity, record.category.casefold()] = record

    def hear(self, standing: Standing, now_ns: int) -> None:
        """Take what the venue says of this address and account."""
        self._standing, self._standing_ns = standing, now_ns

    def signed_off(self, category: str, now_ns: int) -> tuple[Verdict, str]:
        """Return what stands for a category of this venue, and who says so."""
        for name in (category.casefold(), ANY):
            record = self._signed.get((self._entity, name))
            if record is not None and not self._is_there(record):
                # Also of one that ended: what may be closed then is still closed from where it may stand.
                return "FORBIDDEN", self._elsewhere(record.regions)
            if record is not None and _is_in_force(record, now_ns):
                return record.verdict, f"{record.reason} ({record.signed_by})"
        return "UNKNOWN", ""

    def misplaced(self) -> str:
        """Return why no gateway of this account may stand here at all, empty if one may.

        Nothing is to leave from here then, not even a question with its keys: whoever starts it asks before.
        """
        lets = [
            record
            for (entity, _), record in self._signed.items()
            if entity == self._entity and record.verdict != "FORBIDDEN"
        ]
        if not lets or any(self._is_there(record) for record in lets):
            return ""
        return f"{self._entity} on {self._venue}: {self._elsewhere({one for record in lets for one in record.regions})}"

    def _is_there(self, record: SignOff) -> bool:
        return not record.regions or self._region.casefold() in {region.casefold() for region in record.regions}

    def _elsewhere(self, regions: Iterable[str]) -> str:
        here = f"this host is in {self._region}" if self._region else "nobody said where this host is"
        return f"orders leave from {' or '.join(sorted(regions))} alone, {here} (CROSSBOOK_REGION)"

    def start_reason(self, now_ns: int) -> str:
        """Return why no entry of any category can be sent, empty if one can: looked at from the start on."""
        misplaced = self.misplaced()
        if misplaced:
            return misplaced
        if self._required:
            if not self._entity:
                return f"no profile names the legal entity of {self._account}"
            verdicts = {self.signed_off(name, now_ns)[0] for entity, name in self._signed if entity == self._entity}
            if "ALLOWED" not in verdicts:
                return f"nobody signed off that {self._entity} may trade {self._venue} (crossbook jurisdiction sign)"
        if self._standing is None:
            return "the venue has not said yet where this address may trade" if self._asked else ""
        if self._standing.verdict in {"CLOSE_ONLY", "FORBIDDEN"}:
            return f"the venue says {self._standing.verdict}: {self._standing.reason}"
        if self._asked and now_ns - self._standing_ns > self.ANSWER_AGE_MAX_NS:
            return "the venue was asked last where this address may trade over three hours ago"
        return ""

    def why_not(self, grant: Grant, instrument: Instrument, now_ns: int) -> str:
        """Return why the law forbids this order, empty if it does not."""
        closes = grant.purpose == "UNWIND" or _sells_token(grant)
        verdict, words = self.signed_off(instrument.category, now_ns)
        who = f"{self._entity or '(no entity)'} on {self._venue}, category {instrument.category or '(none)'!r}"
        if verdict == "FORBIDDEN":
            return f"jurisdiction: {who} is FORBIDDEN: {words}"
        if verdict == "CLOSE_ONLY" and not closes:
            return f"jurisdiction: {who} is CLOSE_ONLY: {words}"
        if verdict == "UNKNOWN" and self._required and not closes:
            return f"jurisdiction: nobody signed off {who}"
        said = self._standing
        if said is not None and said.verdict == "FORBIDDEN":
            return f"jurisdiction: the venue says FORBIDDEN: {said.reason}"
        if said is not None and said.verdict == "CLOSE_ONLY" and not closes:
            return f"jurisdiction: the venue says CLOSE_ONLY: {said.reason}"
        if grant.purpose == "ENTRY" and not closes and self._asked:
            if said is None:
                return "jurisdiction: the venue has not said yet where this address may trade"
            if now_ns - self._standing_ns > self.ANSWER_AGE_MAX_NS:
                return "jurisdiction: the venue's own answer is more than three hours old"
        return ""


def _is_in_force(record: SignOff, now_ns: int) -> bool:
    return not (record.expires_ts_ns and now_ns >= record.expires_ts_ns)


# --- the money


@dataclass
class Funds:
    """Cash, allowances and tokens before sending: what the venue last said, less what was sent since."""

    purse: Purse | None = None
    _sent: dict[str, tuple[int, Grant, int]] = field(default_factory=dict)
    """Orders the last figures may not know of: when they were decided on, and their shard."""

    MARGIN_NS = 2 * NS_PER_S
    """The venue's time is in seconds, and its reads lag its answers."""

    def report(self, purse: Purse) -> None:
        """Take new figures; an older read never replaces a newer one."""
        if self.purse is not None and purse.as_of_ns < self.purse.as_of_ns:
            return
        self.purse = purse
        known_ns = purse.as_of_ns - self.MARGIN_NS
        self._sent = {order: entry for order, entry in self._sent.items() if entry[0] > known_ns}

    def sent(self, grant: Grant, instrument: Instrument, now_ns: int) -> None:
        """Count what an order may take until figures come that know of it."""
        self._sent[grant.id] = (now_ns, grant, instrument.exchange_index)

    def why_not(self, grant: Grant, instrument: Instrument, orders: Orders) -> str:
        """Return why the account cannot pay for an entry or deliver it, empty if it can or it is not known to lack anything."""
        if grant.purpose in RISK_LESS:
            return ""  # a figure that lags must not keep risk on; the venue refuses what cannot be paid
        purse = self.purse
        if purse is None:
            return "the account's cash was not read yet"
        if _sells_token(grant):
            return self._why_not_sell(grant, purse, orders)
        shard = instrument.exchange_index
        has = purse.cash_e6.get(shard, 0)
        bound = sum(
            cost_e6(other)
            for other, at in self._bound(purse, orders)
            if not _sells_token(other) and at in {None, shard}
        )
        costs = cost_e6(grant)
        where = f" on shard {shard}" if len(purse.cash_e6) > 1 or shard else ""
        if has - bound < costs:
            return f"cash{where} is {has}e-6, {bound}e-6 of it bound: {costs}e-6 are needed"
        if purse.allowance_e6 is not None and purse.allowance_e6 - bound < costs:
            return f"the allowance is {purse.allowance_e6}e-6, {bound}e-6 of it bound: {costs}e-6 are needed"
        return ""

    def _why_not_sell(self, grant: Grant, purse: Purse, orders: Orders) -> str:
        if purse.tokens is None:
            return ""
        has = purse.tokens.get(grant.token, 0)
        bound = sum(
            size_e6(other)
            for other, _ in self._bound(purse, orders)
            if other.token == grant.token and _sells_token(other)
        )
        needs = size_e6(grant)
        if has - bound < needs:
            return f"{has}e-6 of token {grant.token[:12]}… are confirmed, {bound}e-6 of them bound: {needs}e-6 are to be sold"
        return ""

    def _bound(self, purse: Purse, orders: Orders) -> list[tuple[Grant, int | None]]:
        """Return the orders whose cost the figures do not know of, with their shards (None: any)."""
        found: dict[str, tuple[Grant, int | None]] = {
            order: (grant, shard) for order, (_, grant, shard) in self._sent.items()
        }
        if not purse.resting_is_out:
            for tracked in orders.out():
                if tracked.grant is not None and tracked.id not in found:
                    found[tracked.id] = (_rest_of(tracked, tracked.grant), None)
        return list(found.values())


def cost_e6(grant: Grant) -> int:
    """Return what an order may take out of the account at most, its largest fee included."""
    return notional_e6(grant) + grant.fee_max_e6


def size_e6(grant: Grant) -> int:
    """Return the size of an order at 1e-6."""
    return grant.size * MICRO // int(10**-grant.size_exp)


def _sells_token(grant: Grant) -> bool:
    # Without tokens (Kalshi) selling YES is buying NO: it costs, unless it closes.
    return grant.token_side == "SELL" and bool(grant.token)  # noqa: S105  a side, no secret


def _rest_of(tracked: Tracked, grant: Grant) -> Grant:
    filled = max(tracked.filled, tracked.filled_known)
    return msgspec.structs.replace(grant, size=max(grant.size - filled, 0)) if filled else grant


@dataclass
class Guards:
    """The three of one account."""

    venue_state: VenueState
    jurisdiction: Jurisdiction
    funds: Funds

    def why_not(self, grant: Grant, instrument: Instrument, orders: Orders, now_ns: int) -> str:
        """Return the first reason against an order, empty if there is none."""
        return (
            self.jurisdiction.why_not(grant, instrument, now_ns)
            or self.venue_state.why_not(grant, instrument, now_ns)
            or self.funds.why_not(grant, instrument, orders)
        )

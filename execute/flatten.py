"""Selling what an account holds with keys alone: `crossbook flatten`, after `crossbook halt --direct`.

Round by round: what is held (as the venue says, no earlier than the last order could settle in its reads), the book as
the venue shows it now, one immediate-or-cancel order for each holding at the best opposite price less `slip`. Never more
than is held: an order without an outcome is waited out before the next read, and nothing is sent on an old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from core.domain.errors import Reject, Retry, Unavailable, Unknown
from core.domain.units import ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from core.runtime.clock import NS_PER_MS, NS_PER_S, Clock
from execute.ports import Caller, Lane, Venue
from execute.views import FillView, OrderView
from schemas.decision import Grant
from schemas.enums import Outcome, Side
from schemas.market import Instrument

ROUNDS_MAX = 5
SEND_WITHIN_NS = 2 * NS_PER_S
READ_PAUSE_S = 0.5
READ_WAIT_S = 30.0
SALT_BITS = 52


class Lot(NamedTuple):
    """What is held of one outcome, at 1e-6; `token` is empty where the venue nets."""

    instrument: str
    outcome: Outcome
    token: str
    size: int


class Place(NamedTuple):
    """Where a lot can be sold: the instrument, and the best prices of its book in YES terms (0: none)."""

    instrument: Instrument
    bid: int
    ask: int


class Closing(Protocol):
    """What flatten asks of a venue beside its orders."""

    async def lots(self, caller: Caller) -> tuple[int, list[Lot]]:
        """Return the venue's time of its figures, and everything that is held."""
        ...

    async def place(self, caller: Caller, lot: Lot) -> Place:
        """Return the instrument of a lot and its book now."""
        ...


@dataclass
class Flattened:
    """What became of one account.

    Attributes:
        sold: executed size by instrument and outcome, at 1e-6, as the answers told; what they did not tell shows in `left`.
        left: what is held still; of it `stuck` says why.
    """

    account: str
    sold: dict[tuple[str, str], int] = field(default_factory=dict)
    left: tuple[Lot, ...] = ()
    stuck: dict[tuple[str, str], str] = field(default_factory=dict)
    error: str = ""

    @property
    def flat(self) -> bool:
        """Say whether the venue states no holding."""
        return not self.left and not self.error


class Flattener:
    """Of one account."""

    def __init__(
        self, *, account: str, venue: Venue, closing: Closing, caller: Caller, clock: Clock, slip_e4: int
    ) -> None:
        """`slip_e4` is how far below the best opposite price a sale may go."""
        self._account = account
        self._venue = venue
        self._closing = closing
        self._caller = caller
        self._clock = clock
        self._slip_e4 = slip_e4
        self._sent_ns = 0
        self._first: dict[tuple[str, str], int] = {}
        """What was held when it was first read: no more than that is sold, whatever figures lag behind our sales."""

    async def plan(self) -> list[tuple[Lot, Grant | str]]:
        """Return what would be sent now, or why a lot cannot be sold; sends nothing."""
        _, lots = await self._closing.lots(self._caller)
        found: list[tuple[Lot, Grant | str]] = []
        for lot in lots:
            order = await self._order(lot)
            found.append((lot, order if isinstance(order, str) else order[0]))
        return found

    async def run(self) -> Flattened:
        """Sell until nothing is held, nothing more can be sold, or the rounds are over."""
        found = Flattened(self._account)
        try:
            for _ in range(ROUNDS_MAX):
                lots = await self._lots()
                found.left = tuple(lots)
                if not lots or not await self._round(lots, found):
                    break
            found.left = tuple(await self._lots())
        except (Retry, Unknown, Reject) as e:
            found.error = str(e)
        return found

    async def _round(self, lots: Sequence[Lot], found: Flattened) -> bool:
        """Send one order for each lot; say whether any was sent."""
        sent = False
        for lot in lots:
            key = (lot.instrument, lot.outcome)
            known = self._first.setdefault(key, lot.size) - found.sold.get(key, 0)
            order = await self._order(lot._replace(size=min(lot.size, known)))
            if isinstance(order, str):
                found.stuck[key] = order
                continue
            found.stuck.pop(key, None)
            sold, words = await self._send(*order)
            sent = True
            found.sold[key] = found.sold.get(key, 0) + sold
            if words:
                found.stuck[key] = words
        return sent

    async def _lots(self) -> list[Lot]:
        """Return what is held by figures that know of everything sent so far.

        Raises:
            Unavailable: the venue's reads stay older than that.
        """
        window_ns = int(self._venue.acceptance_window_s * NS_PER_S)
        until_s = self._clock.monotonic_s() + READ_WAIT_S + self._venue.acceptance_window_s
        while True:
            as_of_ns, lots = await self._closing.lots(self._caller)
            if not self._sent_ns or as_of_ns > self._sent_ns + window_ns:
                return lots
            if self._clock.monotonic_s() > until_s:
                raise Unavailable(f"{self._account}: the venue's figures do not get newer than {as_of_ns}")
            await asyncio.sleep(READ_PAUSE_S)

    async def _order(self, lot: Lot) -> tuple[Grant, Instrument] | str:
        place = await self._closing.place(self._caller, lot)
        instrument = place.instrument
        step = max(instrument.size_step, 1)
        size = lot.size // step * step
        if not size:
            return f"{lot.size}e-6 is dust: the smallest step is {step}e-6"
        side: Side = "SELL" if lot.outcome == "YES" else "BUY"
        best = place.bid if side == "SELL" else place.ask
        if not best:
            return "nobody bids"
        limit = best - self._slip_e4 if side == "SELL" else best + self._slip_e4
        price = on_grid(limit, instrument, down=side == "SELL")
        now = self._clock.now_ns()
        name = f"flat{self._clock.random_bits(64):016x}"
        grant = Grant(
            id=name,
            intent="flatten",
            account=self._account,
            account_set="",
            instrument=lot.instrument,
            leg=0,
            attempt=1,
            purpose="UNWIND",
            side=side,
            outcome=lot.outcome if lot.token else "NONE",
            token_side="SELL" if lot.token else side,
            token=lot.token,
            price=price,
            size=size,
            price_exp=PREDICTION_PRICE_EXP,
            size_exp=PREDICTION_SIZE_EXP,
            time_in_force="IOC",
            client_id=name,
            salt=self._clock.random_bits(SALT_BITS),
            timestamp_ms=now // NS_PER_MS,
            neg_risk=instrument.neg_risk,
            fee_max_e6=0,
            version_offset=0,
            version_index=0,
            now_ns=now,
            send_by_ns=now + SEND_WITHIN_NS,
            recv_ts_ns=now,
        )
        return grant, instrument

    async def _send(self, grant: Grant, instrument: Instrument) -> tuple[int, str]:
        """Send one order once; returns what its answer says was sold, and why not all."""
        request = self._venue.build(grant, instrument)
        self._sent_ns = self._clock.now_ns()
        try:
            reply = await self._caller.call(request, lane=Lane.HEDGE, order=grant.id, send_by_ns=grant.send_by_ns)
        except Unknown as e:
            return 0, f"no answer: {e}"  # the next figures tell, once they are young enough
        self._sent_ns = self._clock.now_ns()
        answer = self._venue.read_answer(grant, request, reply)
        if answer.error is not None:
            return 0, f"the venue refused: {answer.error.message} {answer.error.details}".strip()
        sold = sum(view.filled for view in answer.views if isinstance(view, OrderView))
        sold = sold or sum(view.size for view in answer.views if isinstance(view, FillView))
        return sold, "" if sold >= grant.size else "not all was bid for within the limit"


def on_grid(limit: int, instrument: Instrument, *, down: bool) -> int:
    """Return the nearest price of the grid on the far side of `limit`, within the open interval of a dollar."""
    limit = min(max(limit, 1), ONE_DOLLAR_E4 - 1)
    bands = list(zip(instrument.tick_from, instrument.tick_to, instrument.tick_step, strict=True))
    prices = []
    for low, high, step in bands:
        inside = min(max(limit, low), high)
        steps = (inside - low) // step if down else -((low - inside) // step)
        prices.append(min(low + steps * step, high))
    inner = [price for price in prices if 0 < price < ONE_DOLLAR_E4]
    far = [price for price in inner if (price <= limit if down else price >= limit)]
    if far:
        return max(far) if down else min(far)
    # Beyond the grid: its own end.
    ends = (
        [low or step for low, _, step in bands]
        if down
        else [high - (step if high >= ONE_DOLLAR_E4 else 0) for _, high, step in bands]
    )
    return min(ends) if down else max(ends)

"""What befalls the orders of one venue: the faults of `simulate/order_faults.py` while they last.

The venue's servers ask here at four places: around a request that places or cancels (`around`), before a new order
meets the book (`thin`, `strike`), before a private message leaves (`tell`), and before an account is read (`as_read`).
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from aiohttp import web

from simulate.journal import Injected, Journal
from simulate.matching import CancelReason, Event, Matcher, Order, Side
from simulate.outage import Outage

FILL_KINDS = frozenset({"fill", "trade", "market_position"})
"""Private messages about executions."""
SNAPSHOT_S = 0.05
"""How often what a lagging read shows is taken down."""
SNAPSHOTS_MAX = 200
AFTER_S = 60.0
"""An answer that is swallowed is given up after this, whatever the client does."""


class Readable(Protocol):
    """An account that can be taken down as it is now."""

    name: str

    def as_of(self) -> Any: ...


A = TypeVar("A", bound=Readable)


class Mishaps:
    """Of one venue. `order_answer_delay_ms` and `order_swallow_answer_rate` last until they are set again."""

    def __init__(self, outage: Outage, journal: Journal, rng: random.Random) -> None:
        self.order_answer_delay_ms = 0
        self.order_swallow_answer_rate = 0.0
        self.accounts: Callable[[], list[Readable]] = list
        self._outage = outage
        self._journal = journal
        self._rng = rng
        self._active: list[Injected] = []
        self._left: dict[int, int] = {}
        self._gathered: list[Callable[[], None]] = []
        self._snapshots: list[tuple[int, dict[str, Any]]] = []

    # ------------------------------------------------------------------ what is on
    def begin(self, injected: Injected) -> None:
        """Let a fault act from now on."""
        self._active.append(injected)
        if "count" in injected.wanted.parameters:
            self._left[injected.number] = injected.wanted.parameters["count"]
        if injected.wanted.fault == "lagging_reads" and not self._snapshots:
            self._take_down()

    def end(self, injected: Injected) -> None:
        """Let it act no more; what it holds back leaves at its own time."""
        if injected in self._active:
            self._active.remove(injected)
        self._left.pop(injected.number, None)
        self._journal.end(injected)

    def find(self, fault: str, account: str, market: str | None = None) -> Injected | None:
        """Return the newest fault of that name that is on for an account and market."""
        for injected in reversed(self._active):
            wanted = injected.wanted
            if wanted.fault != fault or wanted.parameters["account"] not in {"", account}:
                continue
            if wanted.market is None or market is None or wanted.market == market:
                return injected
        return None

    def strike(self, fault: str, account: str, market: str | None = None, **where: str) -> dict[str, Any] | None:
        """Return a fault's parameters if it is on, and count the stroke; `where`: parameters it must have."""
        if not self._active:
            return None
        injected = self.find(fault, account, market)
        if injected is None or any(injected.wanted.parameters[key] != value for key, value in where.items()):
            return None
        injected.frames += 1
        left = self._left.get(injected.number)
        if left is not None:
            self._left[injected.number] = left - 1
            if left <= 1:
                self.end(injected)
        return injected.wanted.parameters

    # ------------------------------------------------------------------ requests
    async def around(
        self,
        request: web.Request,
        what: str,
        account: str,
        market: str | None,
        act: Callable[[], web.Response],
        *,
        is_post_only: bool = False,
    ) -> web.StreamResponse:
        """Let a request that places or cancels (`what`: create or cancel) meet what is on; `act` does it.

        What `act` raises (a refusal of the venue) is the answer.
        """
        if not self._active and not self.order_answer_delay_ms and not self.order_swallow_answer_rate:
            return act()
        refused = self._refusal(what, account, market, is_post_only=is_post_only)
        if refused is not None:
            return refused
        answer = act()
        broken = self.find("order_5xx", account, market)
        if broken is not None and broken.wanted.parameters["takes_effect"] and self._is_struck(broken):
            return self._outage.broken(self._rng.choice(broken.wanted.parameters["statuses"]))
        lost = self.strike("accept_then_timeout", account, market, what=what)
        if lost is not None:
            return await self._lose(request, lost["how"])
        late = self.strike("fill_before_acknowledgement", account, market)
        if late is not None:
            await asyncio.sleep(late["delay_ms"] / 1_000)
        if self.order_swallow_answer_rate and self._rng.random() < self.order_swallow_answer_rate:
            await asyncio.Event().wait()
        if self.order_answer_delay_ms:
            await asyncio.sleep(self.order_answer_delay_ms / 1_000)
        return answer

    def _refusal(self, what: str, account: str, market: str | None, *, is_post_only: bool) -> web.Response | None:
        throttled = self.find("order_429", account, market)
        if throttled is not None and self._is_struck(throttled):
            return self._outage.too_many(1)
        broken = self.find("order_5xx", account, market)
        if broken is not None and not broken.wanted.parameters["takes_effect"] and self._is_struck(broken):
            return self._outage.broken(self._rng.choice(broken.wanted.parameters["statuses"]))
        if what != "create":
            return None
        restart = self.find("order_425", account, market)
        if restart is not None:
            left_s = (restart.until_ns - time.time_ns()) / 1e9
            restart.frames += 1
            if left_s > 0:
                return web.json_response({"error": "Too Early"}, status=425)
            if not is_post_only:
                return web.json_response(_post_only(restart.wanted.parameters["post_only_s"] + left_s), status=503)
        if self.strike("trading_paused", account, market) is not None:
            code = "trading_is_paused"
            return web.json_response({"error": {"code": code, "message": code.replace("_", " ")}}, status=409)
        return None

    def _is_struck(self, injected: Injected) -> bool:
        if self._rng.random() >= injected.wanted.parameters["share"]:
            return False
        injected.frames += 1
        return True

    async def _lose(self, request: web.Request, how: str) -> web.StreamResponse:
        if how in {"504", "500"}:
            return self._outage.broken(int(how))
        if how == "reset" and request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(AFTER_S)
        return self._outage.broken(504)

    # ------------------------------------------------------------------ orders
    def thin(self, matcher: Matcher, order: Order, account: str, market: str) -> list[Event]:
        """Take away what others are faster to take, if `partial_fill` is on and the order would trade."""
        if not self._active or not matcher.crosses(order.side, order.price):
            return []
        struck = self.strike("partial_fill", account, market)
        return [] if struck is None else _thin(matcher, order, struck["share"])

    # ------------------------------------------------------------------ private streams
    def tell(self, account: str, kind: str, market: str, send: Callable[[], None]) -> None:
        """Let a private message leave, or not, or later, or twice, or behind a later one."""
        if not self._active:
            send()
            return
        loop = asyncio.get_running_loop()
        if self.strike("private_silent", account, market) is not None:
            return
        if kind in FILL_KINDS and (late := self.strike("late_fills", account, market)) is not None:
            loop.call_later(late["delay_ms"] / 1_000, send)
            return
        if (shuffled := self.strike("private_reordered", account, market)) is not None:
            if not self._gathered:
                loop.call_later(shuffled["window_ms"] / 1_000, self._scatter)
            self._gathered.append(send)
            return
        send()
        if (twice := self.strike("double_fills", account, market)) is not None:
            loop.call_later(twice["delay_ms"] / 1_000, send)

    def _scatter(self) -> None:
        gathered, self._gathered = self._gathered, []
        for send in reversed(gathered):
            send()

    # ------------------------------------------------------------------ reads
    def as_read(self, account: A) -> A:
        """Return the account as its reads show it: as it is, or as it was."""
        found = self._seen(account.name)
        return account if found is None else found[1].get(account.name, account)

    def as_of_ns(self) -> int:
        """Return what the venue says of the age of its reads."""
        injected = self.find("lagging_reads", "")
        if injected is None or not injected.wanted.parameters["admits"]:
            return time.time_ns()
        found = self._seen("")
        return time.time_ns() if found is None else found[0]

    def fills_until_ns(self, account: str) -> int:
        """Return from when on fills are not to be read yet."""
        injected = self.find("late_fills", account)
        if injected is None:
            return 2**63
        return time.time_ns() - int(injected.wanted.parameters["delay_ms"]) * 1_000_000

    def _seen(self, account: str) -> tuple[int, dict[str, Any]] | None:
        injected = self.find("lagging_reads", account) if self._active else None
        if injected is None or not self._snapshots:
            return None
        injected.frames += 1
        until_ns = time.time_ns() - int(injected.wanted.parameters["lag_ms"]) * 1_000_000
        seen = [snapshot for snapshot in self._snapshots if snapshot[0] <= until_ns]
        return seen[-1] if seen else self._snapshots[0]

    def _take_down(self) -> None:
        if not any(injected.wanted.fault == "lagging_reads" for injected in self._active):
            self._snapshots.clear()
            return
        self._snapshots.append((time.time_ns(), {account.name: account.as_of() for account in self.accounts()}))
        del self._snapshots[:-SNAPSHOTS_MAX]
        asyncio.get_running_loop().call_later(SNAPSHOT_S, self._take_down)


def _post_only(left_s: float) -> dict[str, Any]:
    return {
        "error": "post-only mode: only post-only orders and cancels are allowed",
        "code": "post_only_mode",
        "retry_after_seconds": max(int(left_s) + 1, 1),
    }


def _thin(matcher: Matcher, order: Order, share: float) -> list[Event]:
    """Leave an order `share` of what strangers offer it (in hundredths of a contract); own orders stay."""
    offered = [
        maker
        for price, _ in matcher.levels(order.side.opposite)
        if (price <= order.price if order.side is Side.BID else price >= order.price)
        for maker in matcher.orders_at(order.side.opposite, price)
    ]
    wanted = min(order.remaining, sum(maker.remaining for maker in offered))
    keep = int(wanted * share) // 10_000 * 10_000
    events: list[Event] = []
    for maker in offered:
        stays = min(keep, maker.remaining)
        keep -= stays
        if maker.tag is None and stays < maker.remaining:
            events += matcher.reduce(maker, maker.remaining - stays, CancelReason.VENUE)
    return events

"""Kalshi's order protocol: V2 orders, signed requests, the `fill` and `user_orders` channels, portfolio reads.

Kalshi keeps one signed position a market, so a fill is a trade of YES: bid bought YES at the YES price, ask sold it
(which is buying NO at 1 - price). Fills say so: outcome YES, token_side BUY or SELL, the YES price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from core.domain.errors import MalformedFrame, OffGrid, Unavailable
from core.runtime.clock import NS_PER_MS, NS_PER_S
from execute.kalshi_views import USD, check_same, fill_view, instrument_of, is_of, order_views, payout_view, ticker_of
from execute.pages import PAGES_MAX, CutOff
from execute.ports import Budget, Caller, Lane, Reply, Request
from execute.views import (
    Answer,
    Held,
    Lookup,
    Mode,
    OrderView,
    PayoutView,
    Purse,
    Report,
    Resting,
    Standing,
    Status,
    Stream,
    Subject,
    View,
    unreadable,
)
from schemas.decision import Amend, Grant
from schemas.enums import OrderStatus
from schemas.market import Instrument
from schemas.order import Holding
from venues.environment import Endpoints
from venues.kalshi import account, control, hosts, orders, rest, rules, wire
from venues.kalshi.auth import Signer
from venues.refusal import VenueError
from venues.text import decode, instant_ns

RowT = TypeVar("RowT")
PAGE = 200
SUBACCOUNT = 0
"""The primary one: where orders go that name none."""
LOOK_BACK_S = 5
"""A list is asked from so long before the order was submitted: the venue's clock is not ours."""
DATA_AGE_PATH = f"{hosts.API_ROOT}/exchange/user_data_timestamp"
BALANCE_PATH = f"{hosts.API_ROOT}/portfolio/balance"
STATUS_PATH = f"{hosts.API_ROOT}/exchange/status"
NETTING_PATH = f"{hosts.API_ROOT}/portfolio/subaccounts/netting"
LIMITS_PATH = f"{hosts.API_ROOT}/account/limits"


class _DataAge(msgspec.Struct):
    as_of_time: str


class _Bucket(msgspec.Struct):
    refill_rate: int
    bucket_capacity: int


class _Limits(msgspec.Struct):
    read: _Bucket
    write: _Bucket


_LIMITS = msgspec.json.Decoder(_Limits)
_DATA_AGE = msgspec.json.Decoder(_DataAge)
_PAUSED = frozenset({"trading_is_paused", "exchange_is_paused", "trading_paused", "exchange_paused"})
_TIME_IN_FORCE: dict[str, orders.TimeInForce] = {
    "GTC": "good_till_canceled",
    "GTD": "good_till_canceled",
    "IOC": "immediate_or_cancel",
    "FOK": "fill_or_kill",
}


class KalshiVenue:
    """The `Venue` of one Kalshi account."""

    name = "kalshi"
    currency = USD
    # An acknowledgement was never seen later than some hundred milliseconds; reads lag by about as much.
    acceptance_window_s = 3.0
    settles = False
    states_payouts = True
    # It has no answer of its own: who may trade it checks when the account is made, and refuses orders with 403.
    asks_standing = False
    clock_remedy = (
        "check CROSSBOOK_*_CREDENTIALS_FILE (key id, key of the same environment) and this machine's clock "
        "(chrony: the venue accepts some 5 s of difference)"
    )

    def __init__(
        self,
        *,
        signer: Signer,
        endpoints: Endpoints,
        tier: str = "basic",
        expiry_s: int = 0,
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:
        """`tier` is the account's usage tier; the lowest is assumed until told.

        `instruments` is read for the shard of what is amended or cancelled; of one it does not know the venue looks itself.

        `expiry_s`: an order that would rest for ever ends so long after it was last renewed, which is the dead-man switch
        of a venue that has none; 0: it rests for ever.
        """
        self._signer = signer
        self.signs_slowly = signer.is_slow
        self._expiry_s = expiry_s
        self._instruments = instruments if instruments is not None else {}
        self._ws = f"{endpoints.private_ws}{hosts.WS_PATH}"
        limits = rules.TIERS[tier]
        self.budgets: Mapping[str, Budget] = {
            "read": Budget(limits.read.refill_per_s, limits.read.capacity),
            "write": Budget(limits.write.refill_per_s, limits.write.capacity),
        }

    # --- requests

    def build(self, grant: Grant, instrument: Instrument) -> Request:
        """Return the create request of a Grant."""
        time_in_force = _TIME_IN_FORCE.get(grant.time_in_force)
        if time_in_force is None or grant.side not in {"BUY", "SELL"}:
            raise OffGrid(f"kalshi: {grant.side} {grant.time_in_force} is no order")
        body = orders.create_order_body(
            ticker=ticker_of(grant.instrument),
            client_order_id=grant.client_id,
            side="bid" if grant.side == "BUY" else "ask",
            price=grant.price,
            size=grant.size,
            time_in_force=time_in_force,
            post_only=grant.post_only,
            expiration_s=self._expires_s(grant),
            exchange_index=instrument.exchange_index,
        )
        return self._request("POST", hosts.ORDERS_PATH, body)

    def _expires_s(self, grant: Grant) -> int | None:
        if grant.time_in_force == "GTD":
            return grant.expires_s
        if grant.time_in_force == "GTC" and self._expiry_s:
            return grant.timestamp_ms // 1_000 + self._expiry_s
        return None

    def renew(self, subject: Subject, now_ns: int) -> Request | None:
        """Return an amendment of nothing but the expiry, which keeps the order's place in the line."""
        if not self._expiry_s:
            return None
        body = orders.amend_order_body(
            ticker=ticker_of(subject.instrument),
            side="bid" if subject.side == "BUY" else "ask",
            price=subject.price,
            total=subject.size,
            expiration_s=now_ns // NS_PER_S + self._expiry_s,
            exchange_index=self._shard(subject),
        )
        return self._request("POST", f"{hosts.ORDERS_PATH}/{subject.venue_order}/amend", body)

    def headers(self, request: Request, now_ns: int) -> dict[str, str]:
        """Return the signed headers."""
        return self._signer.headers(request.method, request.path, now_ns // NS_PER_MS)

    def cancel(self, subject: Subject) -> Request:
        """Return the cancel request; without the ticker it would go to shard 0."""
        query = orders.cancel_query(ticker=ticker_of(subject.instrument), exchange_index=self._shard(subject))
        return self._request("DELETE", f"{hosts.ORDERS_PATH}/{subject.venue_order}{query}")

    def amend(self, subject: Subject, amend: Amend) -> Request | None:
        """Return the amend request; only a smaller size or another expiry keep the place in the line."""
        body = orders.amend_order_body(
            ticker=ticker_of(subject.instrument),
            side="bid" if subject.side == "BUY" else "ask",
            price=amend.price,
            total=amend.size,
            expiration_s=amend.expires_s or None,
            exchange_index=self._shard(subject),
        )
        return self._request("POST", f"{hosts.ORDERS_PATH}/{subject.venue_order}/amend", body)

    def _shard(self, subject: Subject) -> int | None:
        # It never changes; where it is not stated every shard's write budget is billed.
        known = self._instruments.get(subject.instrument)
        return None if known is None else known.exchange_index

    def cancel_all(self) -> Request:
        """Return the cancel of all orders on all shards; it may also take what is placed within the next minute."""
        return self._request("DELETE", hosts.ORDERS_PATH)

    def heartbeat(self, previous: str) -> Request | None:
        """Return None: this venue has no dead-man switch."""
        return None

    def read_heartbeat(self, reply: Reply) -> str:
        """Return nothing; never asked."""
        return ""

    def _request(self, method: str, path: str, body: bytes = b"") -> Request:
        bucket = "write" if rules.is_write(method) else "read"
        return Request(method, path, body, "", bucket, rules.request_cost(method, path.partition("?")[0]))

    # --- answers

    def refusal(self, reply: Reply) -> VenueError:
        """Return any error answer as one value."""
        return orders.decode_refusal(reply.status, reply.body)

    def read_answer(self, grant: Grant, request: Request, reply: Reply) -> Answer:
        """Return what the answer to a create means: accepted does not mean that it rests."""
        if reply.status not in {200, 201}:
            error = self.refusal(reply)
            return Answer(refusal=error.outcome, error=error)
        try:
            created = account.decode_created(reply.body)
        except MalformedFrame as e:
            return unreadable(reply.status, e)
        status: OrderStatus = "ACCEPTED"
        if created.filled >= grant.size:
            status = "FILLED"
        elif not created.remaining or grant.time_in_force in {"IOC", "FOK"}:
            status = "CANCELLED"
        view = OrderView(
            venue_order=created.order_id,
            client_id=created.client_order_id,
            status=status,
            filled=created.filled,
            venue_ts_ns=created.time_ns,
        )
        return Answer(views=(view,))

    def read_cancel(self, subject: Subject, reply: Reply) -> Answer:
        """Return what the answer to a cancel means; `reduced_by` is what was left of it."""
        if reply.status != 200:
            error = self.refusal(reply)
            return Answer(refusal=error.outcome, error=error)
        try:
            cancelled = account.decode_cancelled(reply.body)
        except MalformedFrame as e:
            return unreadable(reply.status, e)
        if not subject.size or subject.amended:
            # How much it was of is not known for sure: what was filled is looked up.
            return Answer()
        view = OrderView(
            venue_order=subject.venue_order,
            status="CANCELLED",
            filled=subject.size - cancelled.reduced_by,
            reason="cancelled on request",
            venue_ts_ns=cancelled.time_ns,
        )
        return Answer(views=(view,))

    # --- reads

    async def live_budgets(self, caller: Caller) -> Mapping[str, Budget]:
        """Ask for the account's own rate limits."""
        limits = decode(_LIMITS, await self._get(caller, LIMITS_PATH), "kalshi account limits")
        return {
            name: Budget(bucket.refill_rate, bucket.bucket_capacity)
            for name, bucket in (("read", limits.read), ("write", limits.write))
        }

    def mode(self, error: VenueError) -> Mode | None:
        """Return what a refusal says of the whole exchange."""
        return Mode.CANCEL_ONLY if error.code.lower() in _PAUSED else None

    async def status(self, caller: Caller) -> Status | None:
        """Ask the exchange; a pause for maintenance stands in the body of a 5xx, too."""
        reply = await caller.call(self._request("GET", STATUS_PATH)._replace(is_public=True), lane=Lane.REPORT)
        if reply.status not in {200, 500, 503, 504}:
            raise self._unavailable(reply)
        found = rest.decode_exchange_status(reply.body)
        if found.exchange_active and found.trading_active:
            return Status(Mode.OPEN, shards_paused=frozenset(found.shards_paused))
        what = "trading" if found.exchange_active else "the exchange"
        return Status(Mode.CANCEL_ONLY, f"{what} is paused", frozenset(found.shards_paused))

    def standing(self, error: VenueError) -> Standing | None:
        """Return nothing: no refusal of this venue speaks of the account's right to trade at all."""
        return None

    async def ask_standing(self, caller: Caller) -> Standing:
        """Return that the venue offers no such answer."""
        return Standing("UNKNOWN", "kalshi offers no such answer")

    async def account_fault(self, caller: Caller) -> str:
        """Ask whether collateral is returned across events: cash then moves by a formula that is not published."""
        # Not every account may ask: a refusal says nothing of the key.
        reply = await caller.call(self._request("GET", NETTING_PATH)._replace(is_public=True), lane=Lane.REPORT)
        if reply.status in {403, 404}:
            return ""
        if reply.status != 200:
            raise self._unavailable(reply)
        if SUBACCOUNT not in account.decode_netting(reply.body):
            return ""
        return (
            "collateral return across events (MECNET, DIRECNET) is on: cash would differ at every fill of such an event;"
            f" switch it off: PUT {NETTING_PATH} subaccount_number {SUBACCOUNT}, enabled false"
        )

    async def look_up(self, caller: Caller, subject: Subject) -> Lookup:
        """Find the order in the list of its market by our id (no filter for it exists), and its fills."""
        as_of_ns = await self._data_age(caller, Lane.HEDGE)
        since_s = max(subject.submitted_ns // NS_PER_S - LOOK_BACK_S, 0)
        base = f"{hosts.API_ROOT}/portfolio/orders?ticker={ticker_of(subject.instrument)}&min_ts={since_s}&limit={PAGE}"
        views: list[View] = []
        venue_order = subject.venue_order
        cursor = ""
        for _ in range(PAGES_MAX):
            page, cursor = account.decode_orders(await self._get(caller, _paged(base, cursor), subject.order))
            own = [state for state in page if subject.venue_order == state.order_id or is_of(subject, state)]
            if own:
                check_same(subject, own[0])
                venue_order = own[0].order_id
                views += order_views(own[0])
                break
            if not cursor:
                break
        else:
            raise CutOff("kalshi", f"orders of {ticker_of(subject.instrument)} without {subject.order}")
        if venue_order:
            views += await self._fills(caller, f"order_id={venue_order}", subject.order)
        return Lookup(found=bool(views), as_of_ns=as_of_ns, views=tuple(views))

    async def reconcile(self, caller: Caller, since_ns: int) -> tuple[View, ...]:
        """Return orders and fills since a time; the private channels have no sequence to find a loss by."""
        since = f"min_ts={max(since_ns // NS_PER_S, 0)}"
        base = f"{hosts.API_ROOT}/portfolio/orders?{since}&limit={PAGE}"
        states = await self._whole(caller, base, account.decode_orders, "orders")
        views = [view for state in states for view in order_views(state)]
        return (*views, *await self._fills(caller, since))

    def touch(self) -> Request:
        """Return the request for the age of the account's figures: signed, and small."""
        return self._request("GET", DATA_AGE_PATH)

    def refresh(self, held: Held) -> Request | None:
        """Return None: its positions are its own."""
        return None

    async def report(self, caller: Caller, held: Sequence[Held]) -> Report:
        """Ask for cash, positions and resting orders; their time is the venue's own of its read model."""
        as_of_ns = await self._data_age(caller)
        balance = account.decode_balance(await self._get(caller, BALANCE_PATH))
        base = f"{hosts.API_ROOT}/portfolio/positions?limit={PAGE}&count_filter=position"
        positions = await self._whole(caller, base, account.decode_positions, "positions")
        holdings = [
            Holding(
                instrument=instrument_of(one.ticker),
                outcome="YES" if one.position > 0 else "NO",
                size=abs(one.position),
            )
            for one in positions
            if one.position
        ]
        resting = await self.open_orders(caller)
        return Report(
            as_of_ns=as_of_ns,
            cash_e6=balance.total,
            cash_by_shard=balance.by_shard,
            holdings=tuple(holdings),
            open_orders=tuple(one.venue_order for one in resting),
            # `balance` is what orders may use: the collateral of resting ones is out of it.
            purse=Purse(
                as_of_ns=as_of_ns, cash_e6=balance.by_shard or {0: balance.total}, tokens=None, resting_is_out=True
            ),
        )

    async def payouts(self, caller: Caller, since_ns: int) -> tuple[PayoutView, ...]:
        """Ask what markets paid since a time: of subaccount 0, as the positions of `report` are."""
        base = f"{hosts.API_ROOT}/portfolio/settlements?subaccount={SUBACCOUNT}&min_ts={max(since_ns // NS_PER_S, 0)}&limit={PAGE}"
        return tuple(payout_view(one) for one in await self._whole(caller, base, account.decode_settlements, "payouts"))

    async def open_orders(self, caller: Caller) -> tuple[Resting, ...]:
        """Ask for every resting order, of all subaccounts and shards."""
        base = f"{hosts.API_ROOT}/portfolio/orders?status=resting&limit={PAGE}"
        states = await self._whole(caller, base, account.decode_orders, "resting orders")
        return tuple(Resting(state.order_id, instrument_of(state.ticker), state.client_order_id) for state in states)

    async def _fills(self, caller: Caller, query: str, order: str = "") -> list[View]:
        base = f"{hosts.API_ROOT}/portfolio/fills?{query}&limit={PAGE}"
        return [fill_view(fill) for fill in await self._whole(caller, base, account.decode_fills, "fills", order)]

    async def _whole(
        self,
        caller: Caller,
        base: str,
        decode_page: Callable[[bytes], tuple[list[RowT], str]],
        what: str,
        order: str = "",
    ) -> list[RowT]:
        """Read a list to its end.

        Raises:
            CutOff: it is longer than is read.
        """
        rows: list[RowT] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            page, cursor = decode_page(await self._get(caller, _paged(base, cursor), order))
            rows += page
            if not cursor:
                return rows
        raise CutOff("kalshi", what)

    async def _data_age(self, caller: Caller, lane: Lane = Lane.REPORT) -> int:
        """Return how current the venue's reads are; the answer's own date where it does not say."""
        reply = await caller.call(self._request("GET", DATA_AGE_PATH)._replace(is_public=True), lane=lane)
        if reply.status == 200:
            return instant_ns(decode(_DATA_AGE, reply.body, "kalshi user_data_timestamp").as_of_time, "as_of_time")
        if reply.status == 404 and reply.date_ns:
            return reply.date_ns
        raise self._unavailable(reply)

    async def _get(self, caller: Caller, path: str, order: str = "") -> bytes:
        # What is asked about one order goes before what is asked about the account.
        lane = Lane.HEDGE if order else Lane.REPORT
        reply = await caller.call(self._request("GET", path), lane=lane, order=order)
        if reply.status != 200:
            raise self._unavailable(reply)
        return reply.body

    def _unavailable(self, reply: Reply) -> Unavailable:
        error = self.refusal(reply)
        return Unavailable(f"kalshi answered {error.status} {error.code}: {error.message} {error.details}".strip())

    # --- private stream

    def stream(self, now_ns: int) -> Stream:
        """Return how to open the private channels; every connection is signed anew."""
        return Stream(
            url=self._ws,
            headers=self._signer.headers("GET", hosts.WS_PATH, now_ns // NS_PER_MS),
            hello=(control.subscribe_command(1, ["fill", "user_orders"]).decode(),),
            silence_s=3.0 * control.PING_S,
        )

    def parse(self, payload: bytes) -> Sequence[View]:
        """Return what one private frame says."""
        frame = wire.peek(payload)
        if frame.type == "fill":
            return [fill_view(account.decode_fill(frame))]
        if frame.type == "user_order":
            return order_views(account.decode_user_order(frame))
        if frame.type == "error":
            error = control.decode_error(frame)
            raise MalformedFrame(f"kalshi refused a command: {error.code} {error.message}")
        return ()


def _paged(path: str, cursor: str) -> str:
    return f"{path}&cursor={cursor}" if cursor else path

"""Polymarket's order protocol: signed V2 orders, L2 headers, the user channel, `/data/*` reads.

The order's id is the digest that is signed, so it is known before anything is sent. A fill is MATCHED first and final
only when CONFIRMED on chain; FAILED takes it back. The venue does not state a taker's fee: it is computed by its rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from core.domain.errors import CrossbookError, MalformedFrame, OffGrid, Reject, Unavailable
from core.domain.units import MICRO, ONE_DOLLAR_E4
from core.runtime.clock import NS_PER_S
from execute.pages import PAGES_MAX, CutOff
from execute.polymarket_holdings import Holdings
from execute.polymarket_views import PUSD, order_views, trade_views
from execute.ports import Budget, Caller, Lane, Reply, Request
from execute.views import (
    Answer,
    FillView,
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
from venues.environment import Endpoints, Environment
from venues.polymarket import account, auth, control, hosts, orders, regions, rules
from venues.polymarket.events import Side
from venues.refusal import Outcome, VenueError

SEND_WITHIN_S = 0.5
"""Longest time between a Submitting and its bytes."""
LOOK_BACK_S = 5
CURSOR_START = "MA=="
TIME_PATH = "/time"

_ORDER_TYPES: dict[str, rules.OrderType] = {"GTC": "GTC", "GTD": "GTD", "IOC": "FAK", "FOK": "FOK"}


class PolymarketVenue:
    """The `Venue` of one Polymarket wallet."""

    name = "polymarket"
    currency = PUSD
    # A taker's delay holds an order up to a second; then it is listed.
    acceptance_window_s = 5.0
    settles = True
    # Tokens are redeemed on the chain: what they brought shows in the cash of its reports.
    states_payouts = False
    # secp256k1 and HMAC: less than a switch of threads.
    signs_slowly = False
    asks_standing = True
    clock_remedy = "check CROSSBOOK_*_CREDENTIALS_FILE (private key, and the API key made for its address) and this machine's clock"

    def __init__(
        self,
        *,
        wallet: auth.Wallet,
        credentials: auth.Credentials,
        funder: str,
        signature_type: int,
        chain_id: int,
        endpoints: Endpoints,
        instruments: Mapping[str, Instrument],
        tier: str = "standard",
    ) -> None:
        """`instruments` is read whenever something is parsed: tokens, fee rate."""
        self._wallet = wallet
        self._credentials = credentials
        self._funder = funder
        self._signature_type = signature_type
        self._chain_id = chain_id
        self._is_simulated = endpoints.environment is Environment.SIMULATED
        self._geoblock = f"{endpoints.order_rest}{hosts.GEOBLOCK_PATH}" if self._is_simulated else hosts.GEOBLOCK_URL
        self._ws = f"{endpoints.private_ws}{hosts.USER_WS_PATH}"
        self._instruments = instruments
        self._holdings = Holdings()
        limits = rules.SIGNER_TIERS[tier]
        self.budgets: Mapping[str, Budget] = {
            "order": Budget(limits.orders_per_s, limits.orders_burst),
            "cancel": Budget(limits.cancels_per_s, limits.cancels_burst),
            # The ledger group allows 900 in 10 s; field reports throttle far below, near 10/s while trading.
            "read": Budget(20, 120),
        }

    # --- requests

    def build(self, grant: Grant, instrument: Instrument) -> Request:
        """Return the signed order of a Grant; every signed input stands in the Grant."""
        order_type = _ORDER_TYPES.get(grant.time_in_force)
        if order_type is None or grant.token_side not in {"BUY", "SELL"} or grant.outcome not in {"YES", "NO"}:
            raise OffGrid(f"polymarket: {grant.token_side} {grant.outcome} {grant.time_in_force} is no order")
        if not grant.token.isdecimal() or grant.token not in instrument.tokens:
            raise OffGrid(f"polymarket: {grant.token[:20]}… is no token of {instrument.instrument}")
        if instrument.tokens.index(grant.token) != (0 if grant.outcome == "YES" else 1):
            raise OffGrid(f"polymarket: the token is not the {grant.outcome} of {instrument.instrument}")
        side: Side = "BUY" if grant.token_side == "BUY" else "SELL"  # noqa: S105  a side, no secret
        price = grant.price if grant.outcome == "YES" else ONE_DOLLAR_E4 - grant.price
        amounts_of = rules.taker_order_amounts if order_type in {"FAK", "FOK"} else rules.limit_order_amounts
        amounts = amounts_of(side=side, price=price, size=grant.size, tick=instrument.tick_step[0])
        order = auth.Order(
            salt=grant.salt,
            maker=self._funder,
            signer=self._wallet.address,
            token_id=int(grant.token),
            maker_amount=amounts.maker,
            taker_amount=amounts.taker,
            side=auth.BUY if side == "BUY" else auth.SELL,
            timestamp_ms=grant.timestamp_ms,
            signature_type=self._signature_type,
            expiration=grant.expires_s if order_type == "GTD" else 0,
        )
        try:
            signed = self._wallet.sign_order(order, neg_risk=grant.neg_risk, chain_id=self._chain_id)
        except CrossbookError as e:
            raise OffGrid(f"polymarket: not signed: {e}") from e
        body = orders.order_body(
            signed, owner=self._credentials.api_key, order_type=order_type, post_only=grant.post_only
        )
        return Request("POST", hosts.ORDER_PATH, body, signed.order_id, "order", 1)

    def headers(self, request: Request, now_ns: int) -> dict[str, str]:
        """Return the L2 headers, over the exact body."""
        return self._credentials.headers(
            address=self._wallet.address,
            method=request.method,
            path=request.path,
            body=request.body,
            timestamp_s=now_ns // NS_PER_S,
        )

    def cancel(self, subject: Subject) -> Request:
        """Return the cancel request."""
        return Request("DELETE", hosts.ORDER_PATH, orders.cancel_body(subject.venue_order), "", "cancel", 1)

    def amend(self, subject: Subject, amend: Amend) -> Request | None:
        """Return None: the venue has no amendment; what is to change is cancelled and granted anew."""
        return None

    def renew(self, subject: Subject, now_ns: int) -> Request | None:
        """Return None: the heartbeat is this venue's dead-man switch."""
        return None

    def cancel_all(self) -> Request:
        """Return the cancel of all open orders of the API key's address."""
        return Request("DELETE", hosts.CANCEL_ALL_PATH, b"", "", "cancel", 1)

    def heartbeat(self, previous: str) -> Request | None:
        """Return the next heartbeat; once one was sent, 10 s without another cancel every order of the key."""
        return Request("POST", hosts.HEARTBEAT_PATH, orders.heartbeat_body(previous), "", "read", 1)

    def read_heartbeat(self, reply: Reply) -> str:
        """Return the id to name next; the refusal of a wrong one names the right one."""
        if reply.status not in {200, 400}:
            raise self._unavailable(reply)
        try:
            return orders.decode_heartbeat(reply.body)
        except Reject as e:
            raise self._unavailable(reply) from e

    # --- answers

    def refusal(self, reply: Reply) -> VenueError:
        """Return any error answer as one value."""
        return orders.decode_refusal(reply.status, reply.body)

    def read_answer(self, grant: Grant, request: Request, reply: Reply) -> Answer:
        """Return what the answer to an order means; HTTP 200 and `success` are not acceptance."""
        if reply.status != 200:
            error = self.refusal(reply)
            return Answer(refusal=error.outcome, error=error)
        try:
            answer = orders.decode_order_answer(reply.body)
        except Reject as e:
            return unreadable(reply.status, e)
        if not answer.accepted:
            outcome = orders.outcome_of(reply.status, answer.error)
            if answer.status == "unmatched":
                # The delay ended without a match: whether it rests now, the pages contradict each other.
                outcome = Outcome.UNKNOWN
            words = answer.error or f"status {answer.status!r}"
            return Answer(
                refusal=outcome,
                error=VenueError(status=reply.status, code="not_accepted", message=words, outcome=outcome),
            )
        filled = answer.taking if grant.token_side == "BUY" else answer.making  # noqa: S105
        if answer.status == "matched" and not filled:
            # Matched, and the amounts are left out (they are best effort): looked up.
            return Answer()
        status: OrderStatus = "ACCEPTED"
        if filled >= _ordered(grant):
            status = "FILLED"
        elif answer.status == "matched" and grant.time_in_force in {"IOC", "FOK"}:
            status = "CANCELLED"
        view = OrderView(
            venue_order=answer.order_id,
            status=status,
            filled=filled,
            reason="delayed" if answer.status == "delayed" else "",
        )
        return Answer(views=(view,))

    def read_cancel(self, subject: Subject, reply: Reply) -> Answer:
        """Return what the answer to a cancel means: it never states how much was matched, so that is looked up."""
        if reply.status != 200:
            error = self.refusal(reply)
            return Answer(refusal=error.outcome, error=error)
        try:
            answer = orders.decode_cancel_answer(reply.body)
        except Reject as e:
            return unreadable(reply.status, e)
        reason = answer.not_canceled.get(subject.venue_order)
        if reason is None:
            return Answer()
        error = VenueError(status=200, code="not_canceled", message=reason, outcome=Outcome.NOT_FOUND)
        return Answer(refusal=Outcome.NOT_FOUND, error=error)

    # --- reads

    async def live_budgets(self, caller: Caller) -> Mapping[str, Budget]:
        """Return nothing: the tier stands in headers of throttled answers only."""
        return {}

    def mode(self, error: VenueError) -> Mode | None:
        """Return what a refusal says of the whole venue: the matching engine restarts, then takes post-only orders first."""
        if error.code == "post_only_mode" or "post-only mode" in error.message:
            return Mode.POST_ONLY
        if error.status == 425 or error.message.startswith("Trading is currently"):
            return Mode.CANCEL_ONLY
        return None

    async def status(self, caller: Caller) -> Status | None:
        """Return None: the venue has no such page for programs."""
        return None

    def standing(self, error: VenueError) -> Standing | None:
        """Return what a refused order says of this address."""
        if regions.BANNED in error.message:
            return Standing("FORBIDDEN", error.message)
        return Standing("CLOSE_ONLY", error.message) if regions.CLOSED_ONLY in error.message else None

    async def ask_standing(self, caller: Caller) -> Standing:
        """Ask by which address we come (geoblock), then whether the account may only close."""
        reply = await caller.call(Request("GET", self._geoblock, b"", "", "read", 1, is_public=True), lane=Lane.REPORT)
        if reply.status == 404 and self._is_simulated:
            return Standing("UNKNOWN", "this simulated venue has no such answer")
        if reply.status != 200:
            raise self._unavailable(reply)
        where = regions.decode_geoblock(reply.body)
        if where.blocked:
            return Standing("CLOSE_ONLY", f"the address is in {where.country} {where.region}".strip())
        if regions.decode_closed_only(await self._get(caller, hosts.CLOSED_ONLY_PATH)):
            return Standing("CLOSE_ONLY", "the account is in closed only mode")
        return Standing("ALLOWED", f"the address is in {where.country} {where.region}".strip())

    async def account_fault(self, caller: Caller) -> str:
        """Return nothing: no setting of a wallet changes what its figures mean."""
        return ""

    async def look_up(self, caller: Caller, subject: Subject) -> Lookup:
        """Ask for the order by its digest, and for its trades."""
        as_of_ns = await self._venue_time(caller, subject.order)
        path = f"/data/order/{subject.venue_order}"
        reply = await caller.call(_read(path), lane=Lane.HEDGE, order=subject.order)
        if reply.status not in {200, 404}:
            raise self._unavailable(reply)
        since_s = max(subject.submitted_ns // NS_PER_S - LOOK_BACK_S, 0)
        market = subject.instrument.removeprefix("polymarket:")
        trades = await self._trades(caller, f"market={market}&after={since_s}", subject.order)
        views = [view for trade in trades for view in self._views_of(trade) if view.venue_order == subject.venue_order]
        state = None
        if reply.status == 200 and reply.body.strip() not in {b"", b"null", b"{}"}:
            state = account.decode_order(reply.body)
            views += order_views(state)
        filled = sum(view.size for view in views if isinstance(view, FillView))
        full = bool(subject.size) and filled >= subject.size
        # An order the venue holds back (a taker delay) is not listed yet either: only past the window is not listed final.
        past_window = as_of_ns > subject.submitted_ns + int((self.acceptance_window_s + SEND_WITHIN_S) * NS_PER_S)
        if state is None and (full or (past_window and (views or subject.answered))):
            # It is listed no more, and the venue did know it: what was matched is all there will be.
            status: OrderStatus = "FILLED" if full else "CANCELLED"
            views.append(
                OrderView(venue_order=subject.venue_order, status=status, filled=filled, reason="not listed any more")
            )
        return Lookup(found=bool(views), as_of_ns=as_of_ns, views=tuple(views))

    async def reconcile(self, caller: Caller, since_ns: int) -> tuple[View, ...]:
        """Return the trades since a time; orders that rest are asked for one by one."""
        trades = await self._trades(caller, f"after={max(since_ns // NS_PER_S, 0)}", "")
        views: list[View] = []
        for trade in trades:
            views += self._views_of(trade)
        for state in await self._open(caller):
            views += order_views(state)
        return tuple(views)

    def touch(self) -> Request:
        """Return the request for the venue's clock; its answer says nothing of the key."""
        return _read(TIME_PATH)

    def refresh(self, held: Held) -> Request | None:
        """Return the request to look at the chain again: its cached balance decides whether a token may be sold."""
        query = f"asset_type=CONDITIONAL&token_id={held.token}&signature_type={self._signature_type}"
        return _read(f"{hosts.BALANCE_PATH}/update?{query}")

    async def report(self, caller: Caller, held: Sequence[Held]) -> Report:
        """Ask for collateral, tokens and open orders; the venue's times are in seconds.

        An account of more tokens than one turn reads says what it holds once all of them were read (`unread` is 0 then).
        """
        as_of_ns = await self._venue_time(caller)
        kind = f"signature_type={self._signature_type}"
        cash = account.decode_balance_allowance(
            await self._get(caller, f"{hosts.BALANCE_PATH}?asset_type=COLLATERAL&{kind}")
        )
        for one in self._holdings.choose(held):
            path = f"{hosts.BALANCE_PATH}?asset_type=CONDITIONAL&token_id={one.token}&{kind}"
            balance = account.decode_balance_allowance(await self._get(caller, path)).balance
            self._holdings.take(one, balance, as_of_ns)
        resting = tuple(state.order_id for state in await self._open(caller))
        purse = Purse(
            as_of_ns=as_of_ns,
            cash_e6={0: cash.balance},
            allowance_e6=cash.allowance,
            tokens=self._holdings.sellable(held),
            resting_is_out=False,
        )
        unread = self._holdings.unread(held)
        stated = self._holdings.state(held, as_of_ns)
        oldest_ns, holdings = stated if stated is not None else (as_of_ns, ())
        return Report(
            as_of_ns=oldest_ns,
            cash_e6=cash.balance,
            holdings=holdings,
            open_orders=resting,
            purse=purse,
            unread=unread,
        )

    async def payouts(self, caller: Caller, since_ns: int) -> tuple[PayoutView, ...]:
        """Return nothing: it lists no payouts."""
        return ()

    async def open_orders(self, caller: Caller) -> tuple[Resting, ...]:
        """Ask for every open order."""
        return tuple(Resting(state.order_id, f"polymarket:{state.market}") for state in await self._open(caller))

    async def traded(self, caller: Caller) -> list[str]:
        """Return every market the account ever traded.

        Raises:
            Unavailable: the venue lists more trades than are read.
        """
        trades = await self._trades(caller, "after=0", "")
        return list(dict.fromkeys(f"polymarket:{trade.market}" for trade in trades))

    async def balances(self, caller: Caller, held: Sequence[Held]) -> tuple[int, dict[str, int]]:
        """Ask for the balance of each token; returns the venue's time before the first, and the balances."""
        as_of_ns = await self._venue_time(caller)
        found = {}
        for one in held:
            query = f"asset_type=CONDITIONAL&token_id={one.token}&signature_type={self._signature_type}"
            body = await self._get(caller, f"{hosts.BALANCE_PATH}?{query}")
            found[one.token] = account.decode_balance_allowance(body).balance
        return as_of_ns, found

    async def _open(self, caller: Caller) -> list[account.OrderUpdate]:
        found: list[account.OrderUpdate] = []
        cursor = CURSOR_START
        for _ in range(PAGES_MAX):
            page, cursor = account.decode_orders(
                await self._get(caller, f"{hosts.OPEN_ORDERS_PATH}?next_cursor={cursor}")
            )
            found += page
            if cursor in {"", account.END_CURSOR}:
                return found
        raise CutOff("polymarket", "open orders", begins=False)

    async def _trades(self, caller: Caller, query: str, order: str) -> list[account.UserTrade]:
        found: list[account.UserTrade] = []
        cursor = CURSOR_START
        for _ in range(PAGES_MAX):
            path = f"{hosts.TRADES_PATH}?{query}&next_cursor={cursor}"
            page, cursor = account.decode_trades(await self._get(caller, path, order))
            found += page
            if cursor in {"", account.END_CURSOR}:
                return found
        raise CutOff("polymarket", "trades")

    async def _venue_time(self, caller: Caller, order: str = "") -> int:
        try:
            return msgspec.json.decode(await self._get(caller, TIME_PATH, order), type=int) * NS_PER_S
        except msgspec.MsgspecError as e:
            raise MalformedFrame(f"polymarket {TIME_PATH}: {e}") from e

    async def _get(self, caller: Caller, path: str, order: str = "") -> bytes:
        # What is asked about one order goes before what is asked about the account.
        reply = await caller.call(_read(path), lane=Lane.HEDGE if order else Lane.REPORT, order=order)
        if reply.status != 200:
            raise self._unavailable(reply)
        return reply.body

    def _unavailable(self, reply: Reply) -> Unavailable:
        error = self.refusal(reply)
        return Unavailable(f"polymarket answered {error.status} {error.code}: {error.message}")

    # --- private stream

    def stream(self, now_ns: int) -> Stream:
        """Return how to open the user channel; its first message carries the secret."""
        return Stream(
            url=self._ws,
            hello=(control.subscribe_user(self._credentials).decode(),),
            ping=control.PING,
            pong="PONG",
            ping_s=float(control.PING_EVERY_S),
            silence_s=float(control.STALE_AFTER_S),
        )

    def _views_of(self, trade: account.UserTrade) -> list[View]:
        return trade_views(trade, instruments=self._instruments, owner=self._credentials.api_key)

    def parse(self, payload: bytes) -> Sequence[View]:
        """Return what one private frame says."""
        views: list[View] = []
        for event in account.decode_user_frame(payload):
            if isinstance(event, account.UserTrade):
                views += self._views_of(event)
            elif isinstance(event, account.OrderUpdate):
                views += order_views(event)
        return views


def _ordered(grant: Grant) -> int:
    """Return the shares that were signed: cut down to hundredths."""
    return grant.size * MICRO // int(10**-grant.size_exp) // rules.SHARE_STEP * rules.SHARE_STEP


def _read(path: str) -> Request:
    return Request("GET", path, b"", "", "read", 1, is_public=path == TIME_PATH)

"""HTTP of one account over warm connections: budget, signature, deadline, and every exchange on order.frame."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from core.domain.errors import InvariantBroken, OutcomeUnknown, Reject, Unavailable
from core.runtime.clock import NS_PER_S, Clock
from execute.limiter import Limiter
from execute.ports import Frames, Lane, Reply, Request, Venue
from execute.signing import Signatures
from schemas.order import VenueCall
from venues.refusal import Outcome, VenueError

CONNECTIONS_MAX = 32
"""Open connections of one account to one venue."""
KEEPALIVE_S = 75
"""How long we keep an idle connection, and take the venue to keep one until it says otherwise (`Keep-Alive: timeout=`)."""
BUDGET_WAIT_S = 5.0
"""How long a request without a deadline waits for its rate budget."""
PROOF_AGE_MAX_S = 1.0
"""A request that waited longer for its turn is signed anew: venues refuse old signatures as they refuse wrong keys."""
RESPONSE_BYTES_KEPT = 256 * 1024
"""Of an answer on order.frame; longer ones are cut there, not in what the gateway reads."""


class TooLate(Reject):
    """The moment after which not a byte may leave has passed, or something else speaks against it; none has left."""


class _Leaving:
    """Of one request: when bytes may leave at the latest, who is asked then, and whether they did."""

    __slots__ = ("clock", "left", "send_by_ns", "sent_ts_ns", "watch", "why_not")

    def __init__(
        self, watch: Callable[[Any], None], clock: Clock, send_by_ns: int, why_not: Callable[[], str] | None
    ) -> None:
        self.watch = watch
        self.clock = clock
        self.send_by_ns = send_by_ns
        self.why_not = why_not
        self.left = False
        self.sent_ts_ns = 0


_leaving: contextvars.ContextVar[_Leaving | None] = contextvars.ContextVar("leaving", default=None)


class _TimedRequest(aiohttp.ClientRequest):
    """Asks the clock, and who sends, between having a connection and writing to it: waiting for one may take long."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        leaving = _leaving.get()
        if leaving is not None:
            leaving.watch(conn)
            now = leaving.clock.now_ns()
            if leaving.send_by_ns and now > leaving.send_by_ns:
                raise TooLate(f"send_by passed {(now - leaving.send_by_ns) / NS_PER_S:.3f} s ago")
            reason = leaving.why_not() if leaving.why_not is not None else ""
            if reason:
                raise TooLate(reason)
            leaving.sent_ts_ns = now
            leaving.left = True
        return await super().send(conn)


class Http:
    """The `Caller` of one account."""

    def __init__(
        self,
        *,
        base: str,
        venue: Venue,
        journal: Frames,
        limiter: Limiter,
        clock: Clock,
        timeout_s: float,
        on_refusal: Callable[[VenueError | None], None],
    ) -> None:
        """`on_refusal` hears of refused keys and clocks, and None after each answer that shows them good."""
        self._base = base
        self._venue = venue
        self._journal = journal
        self._limiter = limiter
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_refusal = on_refusal
        self._signatures = Signatures(venue, clock)
        self._line = asyncio.Lock()
        """Held while a request that has its tokens waits for its signature: those behind it wait too, in their order."""
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()
        self.opened = 0
        """Connections that were opened for requests."""
        self.patience_s = float(KEEPALIVE_S)
        """How long the venue keeps a connection that is idle, as far as it is known."""
        self.thinned = asyncio.Event()
        """Set when a connection was closed."""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=_TimedRequest,
            # Its own limit loses a cancellation that comes in the turn of the loop in which it strikes (aio-libs/aiohttp:
            # two nested timers take back one each): a gateway that is told to stop would go on. `_exchange` has ours.
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signatures.close()
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, for the private stream."""
        assert self._session is not None, "used outside `async with`"
        return self._session

    @property
    def signatures(self) -> Signatures:
        """What signs for this account."""
        return self._signatures

    async def call(
        self,
        request: Request,
        *,
        lane: Lane,
        order: str = "",
        send_by_ns: int = 0,
        headers: Mapping[str, str] | None = None,
        why_not: Callable[[], str] | None = None,
    ) -> Reply:
        """Send one request; see `ports.Caller`."""
        session = self.session
        asked_s = self._clock.monotonic_s()
        wait_s = BUDGET_WAIT_S
        if send_by_ns:
            wait_s = max((send_by_ns - self._clock.now_ns()) / NS_PER_S, 0.0)
        await self._limiter.take(request.bucket, request.cost, lane, wait_s=wait_s)
        leaving = _Leaving(self._watch, self._clock, send_by_ns, why_not)
        token = _leaving.set(leaving)
        try:
            proof = await self._proof(request, headers, asked_s)
            reply = await self._exchange(session, request, leaving, proof)
        except (TooLate, Unavailable):
            raise
        except asyncio.CancelledError:
            if leaving.left:
                self._keep(request, order, Reply(0, b"given up", leaving.sent_ts_ns, self._clock.now_ns()))
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as e:
            self._keep(
                request, order, Reply(0, f"{type(e).__name__}: {e}".encode(), leaving.sent_ts_ns, self._clock.now_ns())
            )
            if not leaving.left:
                raise Unavailable(f"{self._base}: {type(e).__name__}: {e}") from e
            raise OutcomeUnknown(f"{request.method} {request.path}: {type(e).__name__}: {e}") from e
        finally:
            _leaving.reset(token)
        self._keep(request, order, reply)
        self._learn(request, reply)
        return reply

    async def _proof(self, request: Request, signed: Mapping[str, str] | None, asked_s: float) -> Mapping[str, str]:
        """Return the headers to send, once those of every request before are there: none overtakes another."""
        if request.is_elsewhere and not request.is_public:
            raise InvariantBroken(f"{request.path}: a signature of this account goes to no other host")
        async with self._line:
            if request.is_elsewhere:
                return {}
            if signed and self._clock.monotonic_s() - asked_s <= PROOF_AGE_MAX_S:
                return signed
            return await self._signatures.sign(request)

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, leaving: _Leaving, proof: Mapping[str, str]
    ) -> Reply:
        headers = {**proof, "User-Agent": "crossbook"}
        if request.body:
            headers["Content-Type"] = "application/json"
        async with (
            asyncio.timeout(self._timeout_s),
            session.request(
                request.method,
                # As it was signed: not a character of it is encoded again.
                URL(request.path if request.is_elsewhere else f"{self._base}{request.path}", encoded=True),
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            body = await response.read()
        if not request.is_elsewhere:
            self._hear_patience(response.headers.get("Keep-Alive", ""))
        date_ns = _date_ns(response.headers.get("Date", ""))
        return Reply(response.status, body, leaving.sent_ts_ns, self._clock.now_ns(), date_ns)

    def _watch(self, connection: Any) -> None:
        """Note the connection a request is about to be written to: new ones are counted, and heard of when they close."""
        protocol = connection.protocol
        if protocol in self._watched:
            return
        self._watched.add(protocol)
        self.opened += 1
        closed: asyncio.Future[None] | None = protocol.closed
        if closed is not None:
            closed.add_done_callback(self._on_closed)

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # looked at: that a connection was cut is no error of its own
        self.thinned.set()

    def _hear_patience(self, text: str) -> None:
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == "timeout" and value.isdecimal() and int(value):
                self.patience_s = min(float(value), float(KEEPALIVE_S))

    def _keep(self, request: Request, order: str, reply: Reply) -> None:
        # Headers carry the secrets and are not kept.
        self._journal.frame(
            VenueCall(
                account=self._journal.account,
                order=order,
                method=request.method,
                path=request.path,
                request=request.body,
                status=reply.status,
                response=reply.body[:RESPONSE_BYTES_KEPT],
                sent_ts_ns=reply.sent_ts_ns,
                recv_ts_ns=reply.recv_ts_ns,
            )
        )

    def _learn(self, request: Request, reply: Reply) -> None:
        if reply.status < 400:
            if not request.is_public:
                self._on_refusal(None)
            return
        error = self._venue.refusal(reply)
        if error.outcome is Outcome.THROTTLED:
            self._limiter.drain(request.bucket, float(error.retry_after_s or 1))
        elif error.outcome is Outcome.UNAUTHORIZED:
            self._on_refusal(error)


def _date_ns(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * NS_PER_S
    except ValueError:
        return 0

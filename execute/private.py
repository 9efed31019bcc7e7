"""The private stream of one account: opened, kept, read, opened again with backoff, reconciled by REST each time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from core.domain.errors import Reject, Retry, Unknown
from core.runtime import log, metrics
from core.runtime.clock import Clock
from execute.health import Health
from execute.journal import Journal
from execute.ports import Venue
from execute.signing import Signatures
from execute.views import Stream, View
from schemas.order import PrivateFrame

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
OPEN_TIMEOUT_S = 10.0
BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 30.0
BACKOFF_REFUSED_S = 30.0
"""After a refused key or clock: nothing changes within a second, and the venue counts."""
FAULT = "stream"


class PrivateStream:
    """Reads one account's private stream until cancelled."""

    def __init__(
        self,
        *,
        venue: Venue,
        journal: Journal,
        health: Health,
        clock: Clock,
        session: aiohttp.ClientSession,
        signatures: Signatures,
        reconcile: Callable[[], Awaitable[None]],
    ) -> None:
        """`reconcile` asks over REST for what was missed; called after each opening."""
        self._venue = venue
        self._journal = journal
        self._health = health
        self._clock = clock
        self._session = session
        self._signatures = signatures
        self._reconcile = reconcile
        self.malformed = 0

    async def run(self) -> None:
        """Keep the stream open."""
        backoff_s = BACKOFF_MIN_S
        while True:
            opened_s = self._clock.monotonic_s()
            reason, refused = await self._session_of_stream()
            self._health.fault(FAULT, reason)
            if self._clock.monotonic_s() - opened_s > BACKOFF_MAX_S:
                backoff_s = BACKOFF_MIN_S
            # Jitter: gateways that lost the venue together do not come back together.
            share = 0.5 + self._clock.random_bits(16) / 2**17
            await asyncio.sleep(max(backoff_s * share, BACKOFF_REFUSED_S if refused else 0.0))
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _session_of_stream(self) -> tuple[str, bool]:
        """Read one connection to its end; returns why it ended, and whether the venue refused the key."""
        plan = await self._signatures.stream()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                socket = await self._session.ws_connect(
                    plan.url, headers=plan.headers, autoping=False, max_msg_size=MESSAGE_BYTES_MAX
                )
        except aiohttp.WSServerHandshakeError as e:
            refused = e.status in {401, 403}
            remedy = f": {self._venue.clock_remedy}" if refused else ""
            return f"the venue refused the private stream with {e.status}{remedy}", refused
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            return f"not connected: {type(e).__name__}", False
        async with socket:
            beside: list[asyncio.Task[None]] = []
            try:
                for hello in plan.hello:
                    await socket.send_str(hello)
                self._health.fault(FAULT, "")
                beside.append(asyncio.create_task(self._catch_up()))
                if plan.ping:
                    beside.append(asyncio.create_task(_keep_alive(socket, plan)))
                return await self._read(socket, plan), False
            except (aiohttp.ClientError, OSError) as e:
                return f"connection lost: {type(e).__name__}", False
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, plan: Stream) -> str:
        while True:
            try:
                message = await socket.receive(timeout=plan.silence_s)
            except TimeoutError:
                return f"silent for {plan.silence_s:.0f} s"
            if message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                text = message.data.encode() if isinstance(message.data, str) else message.data
                self._take(text, plan)
            elif message.type is not aiohttp.WSMsgType.PONG:
                return f"closed by the venue: {socket.close_code}"

    def _take(self, payload: bytes, plan: Stream) -> None:
        if plan.pong and payload == plan.pong.encode():
            return
        now = self._clock.now_ns()
        self._journal.frame(PrivateFrame(account=self._journal.account, payload=payload, recv_ts_ns=now))
        views: Sequence[View]
        try:
            views = self._venue.parse(payload)
        except Reject as e:
            # What it said is asked for over REST: the frame itself stands on order.frame.
            self.malformed += 1
            metrics.EVENTS.labels("execute", "frame_malformed").inc()
            log.get().error("private.malformed", reason=str(e))
            return
        self._journal.views(views, now)

    async def _catch_up(self) -> None:
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                await self._reconcile()
                return
            except (Retry, Unknown, Reject) as e:
                log.get().warning("private.not_reconciled", reason=str(e))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)


async def _keep_alive(socket: aiohttp.ClientWebSocketResponse, plan: Stream) -> None:
    # A connection that is lost under it ends the reader, which says so.
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while not socket.closed:
            await socket.send_str(plan.ping)
            await asyncio.sleep(plan.ping_s)

"""A Grant that cannot be read is a dead letter, and an order nobody will send: its reservation must not wait for ever.

Its id is taken from the bytes where that can be done: it is the first field of a Grant, so it stands right behind the
schema id whatever is torn further on. With it the gateway refuses the order, as the first record for its id, and
accounts free the capital. Without it the letter alone tells, and an operator looks (docs/dead-letters.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from core.domain.errors import Retry
from core.runtime import log, metrics, queues
from core.runtime.clock import Clock
from core.runtime.codec import PREFIX_BYTES
from core.runtime.edge import Unreadable
from core.runtime.topics import DEAD
from execute.orders import Orders, Tracked
from execute.ports import LogWriter
from schemas.dead import Dead
from schemas.decision import Grant

WAITING_MAX = 1_000
_ID = re.compile(rb"[0-9A-Za-z]{18}")
_QUEUE = "unreadable decisions"


def order_of(found: Unreadable) -> str:
    """Return the id of a Grant that cannot be read, empty if it cannot be known.

    Of an unknown record type it may be the id of something else: nobody waits for an order of that name.
    """
    body = found.value[PREFIX_BYTES:]
    if found.kind not in (Grant.schema_name, "") or not body:
        return ""
    # An Avro string is its length (zigzag: twice the number) and its bytes; an id has 18 characters.
    id_bytes = body[1:19]
    return id_bytes.decode() if body[0] == 36 and _ID.fullmatch(id_bytes) else ""


class Undertaker:
    """Buries what cannot be read of one account's decisions."""

    def __init__(
        self,
        *,
        account: str,
        orders: Orders,
        out: LogWriter,
        clock: Clock,
        refuse: Callable[[Tracked, str], Awaitable[None]],
    ) -> None:
        """`refuse` says that an order is not sent, unless somebody speaks of it first."""
        self._account = account
        self._orders = orders
        self._out = out
        self._clock = clock
        self._refuse = refuse
        self._waiting: asyncio.Queue[Unreadable] = asyncio.Queue(WAITING_MAX)
        queues.watch(_QUEUE, self._waiting, asyncio.Queue.qsize, WAITING_MAX)

    def take(self, found: Unreadable) -> None:
        """Take in a record of `decision.order`; what is of another account is left to its own gateway."""
        if found.key.decode(errors="replace") != self._account:
            return
        try:
            self._waiting.put_nowait(found)
        except asyncio.QueueFull:
            queues.at_bound(_QUEUE, "dropped")

    async def run(self) -> None:
        """Bury until cancelled. Started once the account's order events are read: what was said of is done with."""
        while True:
            found = await self._waiting.get()
            order = order_of(found)
            tracked = self._orders[order] if order else None
            if tracked is not None and (tracked.first is not None or tracked.taken):
                continue
            await self._bury(found)
            if tracked is not None:
                tracked.taken = True
                await self._refuse(tracked, f"its Grant cannot be read: {found.error}: {found.reason}")

    async def _bury(self, found: Unreadable) -> None:
        metrics.DEAD.labels("execute", found.error).inc()
        log.get().error("decision.unreadable", offset=found.offset, reason=found.reason)
        letter = Dead(
            stage="execute",
            source_topic=found.topic,
            source_partition=found.partition,
            source_offset=found.offset,
            error_class="REJECT",
            error=found.error,
            reason=found.reason,
            key=found.key,
            value=found.value,
            ts_ns=self._clock.now_ns(),
            kafka_ts_ns=found.kafka_ts_ns,
        )
        try:
            await self._out.send_acked(DEAD["execute"], self._account, letter)
        except Retry as e:
            # The refusal counts more than the letter; the next start writes it.
            log.get().error("letter.not_written", reason=str(e))

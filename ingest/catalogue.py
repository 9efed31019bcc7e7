"""The catalogue of one venue: what it lists, written to `raw.instrument-<venue>` when it is news.

Several catalogues share the partitions of the topic as feed workers do, so each key has one writer at a time. What stands
is read first; a description is written only if something of it changed that is not a price or a volume. An instrument
that is missing from `MISSES_MAX` complete lists is looked up by name, until it is final: that is how it becomes known
what a market that closed pays. It leaves the topic (a tombstone) when the venue does not know it any more or calls it
final.

What a venue says on its stream that only its catalogue says whole comes back as `market.notice`: those instruments are
looked up at once (within a list after the page under way), and written down even if nothing of them changed, because who heard the notice waits for a description
that was asked for after it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from core.domain.errors import Reject, Retry, Unavailable
from core.domain.partition import partition_of
from core.runtime import log, metrics
from core.runtime.clock import Clock
from core.runtime.flow import Input
from core.runtime.queues import NewestDict
from core.runtime.topics import RAW_INSTRUMENT
from ingest.listing import Listed, Listing, essence
from ingest.ports import Producer, Reader, Share, Table
from schemas.market import Notice
from schemas.raw import Description
from schemas.record import Record

MISSES_MAX = 3
"""A cursor over a list that changes can pass a market over."""
LOOKS_MAX = 200_000
"""A market that is closed and whose end the venue never states is forgotten after so many looks (some two months)."""
ROOM_S = 0.05
NOTICES_MAX = 50_000
"""Notices remembered, by instrument or event; of one that is forgotten the description is not written anew unless it changed."""
LOOK_UP_MAX = 1_000
"""Instruments looked up at once; the others come with the next list."""
NOTICED_EVERY_S = 0.2
"""Notices that come together are answered together."""


class Catalogue:
    """Keeps `raw.instrument-<venue>` equal to what the venue lists."""

    def __init__(
        self,
        venue: str,
        listing: Listing,
        producer: Producer,
        table: Table,
        clock: Clock,
        *,
        partitions: int,
        poll_s: float,
        markets_max: int,
        notices: Reader | None = None,
    ) -> None:
        """`partitions`: of the topic. `markets_max`: more are left out, and said so. `notices`: `market.notice`."""
        self._venue = venue
        self._topic = RAW_INSTRUMENT[venue]
        self._listing = listing
        self._producer = producer
        self._table = table
        self._clock = clock
        self._partitions = partitions
        self._poll_s = poll_s
        self._markets_max = markets_max
        self._owned: frozenset[int] = frozenset()
        self._notices = notices
        self._noticed_ns: NewestDict[str, int] = NewestDict("catalogue notices", NOTICES_MAX)
        self._told = asyncio.Event()
        self._standing: dict[str, bytes] = {}
        self._read_ns: dict[str, int] = {}
        """When what stands was asked for, by its oldest part: a context may have been read for another instrument."""
        self._event_of: dict[str, str] = {}
        self._misses: dict[str, int] = {}
        self._shared = asyncio.Event()
        self._stopping = asyncio.Event()
        self.polls = 0
        """Complete lists seen."""

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    def health(self) -> dict[str, object]:
        """Return the facts of /health."""
        return {"ok": True, "venue": self._venue, "polls": self.polls, "instruments": len(self._standing)}

    async def run(self) -> None:
        """List until `stop`; look up in between what the venue says changed."""
        followers = [asyncio.create_task(self._follow_shares())]
        if self._notices is not None:
            followers.append(asyncio.create_task(self._follow_notices(self._notices)))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(
                {stopping, asyncio.create_task(self._shared.wait()), *followers}, return_when=asyncio.FIRST_COMPLETED
            )
            while not self._stopping.is_set() and not any(follower.done() for follower in followers):
                await self._try(self.look)
                await self._rest_until_poll({stopping, *followers})
        finally:
            stopping.cancel()
            for follower in followers:
                if follower.done():
                    follower.result()
                follower.cancel()

    async def _rest_until_poll(self, ends: set[asyncio.Task[Any]]) -> None:
        """Wait for the next poll, or an end; answer notices meanwhile."""
        due_s = self._clock.monotonic_s() + self._poll_s
        while (left_s := due_s - self._clock.monotonic_s()) > 0 and not any(task.done() for task in ends):
            told = asyncio.create_task(self._told.wait())
            await asyncio.wait({told, *ends}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if self._told.is_set():
                await asyncio.sleep(NOTICED_EVERY_S)
                await self._answer_notices()

    async def _answer_notices(self) -> int:
        if not self._told.is_set():
            return 0
        self._told.clear()
        return await self._try(self.look_at_noticed)

    async def _try(self, look: Callable[[], Awaitable[int]]) -> int:
        try:
            return await look()
        except (Unavailable, Reject) as e:
            # An incomplete list says nothing about what is missing from it.
            metrics.EVENTS.labels("ingest", "listing_failed").inc()
            log.get().warning("catalogue.failed", venue=self._venue, reason=str(e), again_s=self._poll_s)
            return 0

    async def look(self) -> int:
        """Go through the venue's list once and write what is news; return how many records were written.

        Raises:
            Unavailable: the venue does not answer.
            Reject: it answers what it should not.
        """
        listed: set[str] = set()
        written = 0
        async for page in self._listing.open_markets():
            for one in page[: self._markets_max - len(listed)]:
                listed.add(one.instrument)
                written += await self._write_news(one)
            written += await self._answer_notices()
            if len(listed) >= self._markets_max:
                log.get().warning("catalogue.full", venue=self._venue, markets_max=self._markets_max)
                break
        else:
            written += await self._check_missing(listed)
        self.polls += 1
        if written:
            log.get().info("catalogue.written", venue=self._venue, records=written, listed=len(listed))
        return written

    async def look_at_noticed(self) -> int:
        """Look up what the venue said changed since it was asked for; return how many records were written.

        Raises:
            Unavailable: the venue does not answer.
            Reject: it answers what it should not.
        """
        due = [name for name in self._standing if self._read_ns.get(name, 0) < self._due_ns(name)]
        if not due:
            return 0
        metrics.EVENTS.labels("ingest", "catalogue_noticed").inc(len(due))
        found = await self._listing.look_up(sorted(due)[:LOOK_UP_MAX])
        return sum([await self._write_news(one) for one in found])

    def _due_ns(self, instrument: str) -> int:
        """Return when the venue last said that what it states of an instrument changed."""
        names = (instrument, self._event_of.get(instrument, ""))
        return max(self._noticed_ns.get(name) or 0 for name in names)

    async def _follow_notices(self, reader: Reader) -> None:
        async for batch in reader.batches():
            for item in batch:
                self.take_notice(item)

    def take_notice(self, item: Input) -> None:
        """Note one record of `market.notice`."""
        notice = item.record
        if not isinstance(notice, Notice) or notice.venue != self._venue:
            return
        name = notice.instrument or notice.event_group
        if notice.recv_ts_ns <= (self._noticed_ns.get(name) or 0):
            return
        self._noticed_ns[name] = notice.recv_ts_ns
        event = notice.event_group or self._event_of.get(notice.instrument, "")
        if event:
            self._listing.forget(event)
        self._told.set()

    async def _follow_shares(self) -> None:
        async for share in self._table.shares():
            self.take_share(share)

    def take_share(self, share: Share) -> None:
        """Note what stands in partitions that are ours now; our own later writes are remembered without reading."""
        gained = share.partitions - self._owned
        self._owned = share.partitions
        self._standing = {key: digest for key, digest in self._standing.items() if self._is_ours(key)}
        self._read_ns = {key: read_ns for key, read_ns in self._read_ns.items() if self._is_ours(key)}
        for key, record in share.items.items():
            if partition_of(key, self._partitions) in gained:
                self._standing[key] = self._digest_of(key, record)
                self._read_ns[key] = record.recv_ts_ns if isinstance(record, Description) else 0
        self._shared.set()

    def _is_ours(self, instrument: str) -> bool:
        return partition_of(instrument, self._partitions) in self._owned

    def _digest_of(self, key: str, record: Record) -> bytes:
        if not isinstance(record, Description):
            return b""
        return self._digest(Listed(key, record.payload, record.context))

    def _digest(self, listed: Listed) -> bytes:
        return hashlib.blake2b(essence(listed, self._listing.changing), digest_size=16).digest()

    async def _write_news(self, listed: Listed) -> int:
        self._misses.pop(listed.instrument, None)
        if not self._is_ours(listed.instrument):
            return 0
        if not listed.is_whole:
            metrics.EVENTS.labels("ingest", "market_unread").inc()
            return 0
        digest = self._digest(listed)
        self._event_of[listed.instrument] = listed.event
        asked_ns, due_ns = listed.asked_ns or self._clock.now_ns(), self._due_ns(listed.instrument)
        read_ns = min(asked_ns, listed.context_ns or asked_ns)
        if read_ns < due_ns:
            # A notice of an instrument whose event was not known then.
            self._listing.forget(listed.event)
        answers = self._read_ns.get(listed.instrument, 0) < due_ns <= read_ns
        if self._standing.get(listed.instrument) == digest and not answers:
            return 0
        record = Description(
            venue=self._venue,
            instrument=listed.instrument,
            payload=listed.payload,
            context=listed.context,
            recv_ts_ns=asked_ns,
        )
        await self._send(listed.instrument, record)
        self._standing[listed.instrument], self._read_ns[listed.instrument] = digest, read_ns
        return 1

    async def _check_missing(self, listed: set[str]) -> int:
        overdue = []
        for instrument in self._standing.keys() - listed:
            self._misses[instrument] = self._misses.get(instrument, 0) + 1
            if self._misses[instrument] >= MISSES_MAX:
                overdue.append(instrument)
        if not overdue:
            return 0
        found = {one.instrument: one for one in await self._listing.look_up(sorted(overdue))}
        written = 0
        for instrument in overdue:
            misses = self._misses[instrument]
            one = found.get(instrument)
            if one is not None:
                written += await self._write_news(one)
                self._misses[instrument] = misses
            if one is None or (one.is_final and one.is_whole) or misses >= LOOKS_MAX:
                await self._send(instrument, None)
                del self._standing[instrument], self._misses[instrument]
                self._read_ns.pop(instrument, None)
                self._event_of.pop(instrument, None)
                written += 1
        return written

    async def _send(self, instrument: str, record: Record | None) -> None:
        while True:
            try:
                self._producer.send(self._topic, instrument, record)
                return
            except Retry:
                await asyncio.sleep(ROOM_S)

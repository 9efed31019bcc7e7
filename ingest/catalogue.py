"""The catalogue of one venue: what it lists, written to `raw.instrument-<venue>` when it is news.

Several catalogues share the partitions of the topic as feed workers do, so each key has one writer at a time. What stands
is read first; a description is written only if something of it changed that is not a price or a volume. An instrument
that is missing from `MISSES_MAX` complete lists is looked up by name, until it is final: that is how it becomes known
what a market that closed pays. It leaves the topic (a tombstone) when the venue does not know it any more or calls it
final.
"""

import asyncio
import hashlib

from core.domain.errors import Reject, Retry, Unavailable
from core.domain.partition import partition_of
from core.runtime import log, metrics
from core.runtime.clock import Clock
from core.runtime.topics import RAW_INSTRUMENT
from ingest.listing import Listed, Listing, essence
from ingest.ports import Producer, Share, Table
from schemas.raw import Description
from schemas.record import Record

MISSES_MAX = 3
"""A cursor over a list that changes can pass a market over."""
LOOKS_MAX = 200_000
"""A market that is closed and whose end the venue never states is forgotten after so many looks (some two months)."""
ROOM_S = 0.05


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
    ) -> None:
        """`partitions`: of the topic. `markets_max`: more are left out, and said so."""
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
        self._standing: dict[str, bytes] = {}
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
        """List until `stop`."""
        follower = asyncio.create_task(self._follow_shares())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(
                {stopping, asyncio.create_task(self._shared.wait()), follower}, return_when=asyncio.FIRST_COMPLETED
            )
            while not self._stopping.is_set() and not follower.done():
                await self._poll_once()
                await asyncio.wait({stopping, follower}, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if follower.done():
                follower.result()
            follower.cancel()

    async def _poll_once(self) -> None:
        try:
            await self.look()
        except (Unavailable, Reject) as e:
            # An incomplete list says nothing about what is missing from it.
            metrics.EVENTS.labels("ingest", "listing_failed").inc()
            log.get().warning("catalogue.failed", venue=self._venue, reason=str(e), again_s=self._poll_s)

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
            if len(listed) >= self._markets_max:
                log.get().warning("catalogue.full", venue=self._venue, markets_max=self._markets_max)
                break
        else:
            written += await self._check_missing(listed)
        self.polls += 1
        if written:
            log.get().info("catalogue.written", venue=self._venue, records=written, listed=len(listed))
        return written

    async def _follow_shares(self) -> None:
        async for share in self._table.shares():
            self.take_share(share)

    def take_share(self, share: Share) -> None:
        """Note what stands in partitions that are ours now; our own later writes are remembered without reading."""
        gained = share.partitions - self._owned
        self._owned = share.partitions
        self._standing = {key: digest for key, digest in self._standing.items() if self._is_ours(key)}
        for key, record in share.items.items():
            if partition_of(key, self._partitions) in gained:
                self._standing[key] = self._digest_of(key, record)
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
        digest = self._digest(listed)
        if self._standing.get(listed.instrument) == digest:
            return 0
        record = Description(
            venue=self._venue,
            instrument=listed.instrument,
            payload=listed.payload,
            context=listed.context,
            recv_ts_ns=self._clock.now_ns(),
        )
        await self._send(listed.instrument, record)
        self._standing[listed.instrument] = digest
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
            if one is None or one.is_final or misses >= LOOKS_MAX:
                await self._send(instrument, None)
                del self._standing[instrument], self._misses[instrument]
                written += 1
        return written

    async def _send(self, instrument: str, record: Record | None) -> None:
        while True:
            try:
                self._producer.send(self._topic, instrument, record)
                return
            except Retry:
                await asyncio.sleep(ROOM_S)

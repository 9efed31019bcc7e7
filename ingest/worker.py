"""The feed worker of one venue: its share of the instruments, the lines that feed it, and their succession.

The partitions of `raw.instrument-<venue>` this worker is assigned are its share. New instruments come on a new feed; a
feed that moves to another worker, or to a feed of our own, runs on until its successor is ready.
"""

import asyncio
from collections import defaultdict
from urllib.parse import urlsplit

from core.domain.errors import Reject
from core.domain.partition import partition_of
from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.backoff import Breaker, BreakerLimits
from ingest.feed import FeedSpec
from ingest.line import Line, Surroundings
from ingest.plan import Plan, Standing, Wanted, plan_feeds
from ingest.ports import Producer, Reader, Share, Table
from ingest.resync import Resyncs
from ingest.roster import Roster
from ingest.settings import IngestSettings
from ingest.venue import Venue
from schemas.raw import Description, Opened

LOOK_S = 0.1
"""How often the worker looks at what is due."""
OWN_OVERLAP_S_MAX = 60.0
"""How long a feed waits for a successor of this same worker."""
FOREIGN_S = 1.0
"""How long a foreign feed with our instruments is looked at before we open again: our share may be about to move."""
RENEW_PAUSE_S = 10.0
"""Between two renewals of feeds of one partition; doubled up to `RENEW_PAUSE_S_MAX` while they follow each other."""
RENEW_PAUSE_S_MAX = 300.0


class Worker:
    """Runs lines; everything that decides is in `plan`, `roster`, `resync` and `feed`."""

    def __init__(
        self,
        *,
        name: str,
        venue: Venue,
        producer: Producer,
        table: Table,
        feed_log: Reader,
        resync_log: Reader,
        clock: Clock,
        settings: IngestSettings,
        partitions: int,
    ) -> None:
        """`partitions`: of `raw.instrument-<venue>` and `raw.frame`."""
        self.name = name
        self.lines: dict[int, Line] = {}
        self._venue = venue
        self._table = table
        self._feed_log = feed_log
        self._resync_log = resync_log
        self._clock = clock
        self._settings = settings
        self._partitions = partitions
        self._per_feed_max = venue.per_feed_max
        self._subjects: dict[str, str] = {}
        self._described: dict[str, Description] = {}
        self._unusable: set[str] = set()
        self._wanted: dict[int, list[str]] = {}
        self._share_partitions: frozenset[int] = frozenset()
        self._plan_at_s: float | None = None
        self._roster = Roster(venue.name)
        self._resyncs = Resyncs(venue.name, clock, settings.feed_resyncs_per_s)
        self._renewed: dict[int, tuple[float, float]] = {}
        self._foreign: dict[int, tuple[float, int, str]] = {}
        self._said_refused = ""
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        limits = BreakerLimits(settings.feed_breaker_failures_max, settings.feed_breaker_pause_s)
        host = urlsplit(venue.url).hostname or venue.url
        breaker = Breaker(host, clock, limits, settings.feed_connecting_max)
        self._around = Surroundings(venue, producer, clock, settings, breaker, self._say_refused)

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    def health(self) -> dict[str, object]:
        """Return the facts of /health."""
        ready = sum(line.is_ready for line in self.lines.values())
        return {"ok": True, "venue": self._venue.name, "feeds": len(self.lines), "feeds_ready": ready}

    async def run(self) -> None:
        """Feed until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            followers = [
                tasks.create_task(self._follow_shares()),
                tasks.create_task(self._follow_feeds()),
                tasks.create_task(self._follow_resyncs()),
                tasks.create_task(self._look_around()),
            ]
            await self._stopping.wait()
            followers[0].cancel()
            await self._table.close()
            await self._hand_over()
            for follower in followers:
                follower.cancel()
            for line in list(self.lines.values()):
                line.stop("the worker stops")

    async def _hand_over(self) -> None:
        """Give other workers the time to take over."""
        for line in self.lines.values():
            line.retire(line.instruments, self._settings.feed_stop_overlap_s_max)
        ends_s = self._clock.monotonic_s() + self._settings.feed_stop_overlap_s_max
        while self.lines and self._clock.monotonic_s() < ends_s:  # noqa: ASYNC110 - a deadline bounds it
            await asyncio.sleep(LOOK_S)

    # --- what it follows

    async def _follow_shares(self) -> None:
        async for share in self._table.shares():
            self._take_share(share)

    async def _follow_feeds(self) -> None:
        async for batch in self._feed_log.batches():
            for item in batch:
                opened = self._roster.take(item)
                if opened is not None and opened.worker != self.name:
                    self._note_foreign(opened, item.offset)

    async def _follow_resyncs(self) -> None:
        async for batch in self._resync_log.batches():
            for item in batch:
                self._resyncs.take(item)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._plan_at_s is not None and self._clock.monotonic_s() >= self._plan_at_s:
                self._plan_at_s = None
                self._replan()
            self._end_covered()
            self._answer_foreign()
            self._renew()
            self._answer_resyncs()
            metrics.LEVELS.labels("ingest", "feeds").set(len(self.lines))
            metrics.LEVELS.labels("ingest", "feeds_ready").set(sum(line.is_ready for line in self.lines.values()))

    # --- shares and plans

    def _take_share(self, share: Share) -> None:
        self._learn_subjects(share)
        wanted: dict[int, list[str]] = {partition: [] for partition in share.partitions}
        for instrument in self._subjects:
            partition = partition_of(instrument, self._partitions)
            if partition in wanted:
                wanted[partition].append(instrument)
        moved = share.partitions != self._share_partitions
        changed = moved or {p: set(i) for p, i in wanted.items()} != {p: set(i) for p, i in self._wanted.items()}
        self._share_partitions, self._wanted = share.partitions, wanted
        if moved:
            log.get().info("share.taken", partitions=sorted(share.partitions), instruments=len(self._subjects))
        if changed:
            pause_s = 0.0 if moved else self._settings.feed_settle_s
            due_s = self._clock.monotonic_s() + pause_s
            self._plan_at_s = due_s if self._plan_at_s is None else min(self._plan_at_s, due_s)

    def _learn_subjects(self, share: Share) -> None:
        """Note what the venue calls each instrument; a description that stands as before is not read again."""
        subjects: dict[str, str] = {}
        described: dict[str, Description] = {}
        for instrument, record in share.items.items():
            if not isinstance(record, Description):
                continue
            known = self._subjects.get(instrument)
            if known is not None and self._described.get(instrument) is record:
                subjects[instrument], described[instrument] = known, record
                continue
            try:
                subjects[instrument] = self._venue.subject_of(record)
                described[instrument] = record
                self._unusable.discard(instrument)
            except Reject as e:
                if instrument not in self._unusable:
                    self._unusable.add(instrument)
                    log.get().warning("instrument.unusable", instrument=instrument, reason=str(e))
        self._subjects, self._described = subjects, described
        self._unusable &= share.items.keys()
        metrics.LEVELS.labels("ingest", "instruments_unusable").set(len(self._unusable))

    def _replan(self) -> None:
        standing = [
            Standing(slot, line.spec.partition, line.instruments)
            for slot, line in self.lines.items()
            if line.retiring_since_s is None
        ]
        plan = plan_feeds(
            self._wanted,
            standing,
            self.lines,
            partitions=self._partitions,
            per_feed_max=self._per_feed_max,
            feeds_max=self._settings.feed_connections_max,
        )
        self._carry_out(plan)

    def _carry_out(self, plan: Plan) -> None:
        replaced = {slot for wanted in plan.opens for slot in wanted.replaces}
        for slot in (*plan.drops, *replaced):
            line = self.lines[slot]
            ours = line.spec.partition in self._wanted
            desired = set(self._wanted.get(line.spec.partition, ()))
            needed = line.instruments & desired if ours else line.instruments
            line.retire(frozenset(needed), OWN_OVERLAP_S_MAX if ours else self._settings.feed_overlap_s_max)
        for wanted in plan.opens:
            self._open_line(wanted)
        metrics.LEVELS.labels("ingest", "instruments_unfed").set(plan.unfed)
        if plan.unfed:
            log.get().error(
                "share.too_large",
                unfed=plan.unfed,
                connections_max=self._settings.feed_connections_max,
                remedy="add workers (crossbook scale ingest N) or raise CROSSBOOK_FEED_CONNECTIONS_MAX",
            )

    def _open_line(self, wanted: Wanted) -> None:
        if self._tasks is None or self._stopping.is_set():
            return
        first_of_venue = wanted.partition == 0 and not any(
            line.spec.venue_wide and line.retiring_since_s is None for line in self.lines.values()
        )
        spec = FeedSpec(
            venue=self._venue.name,
            slot=wanted.slot,
            partition=wanted.slot % self._partitions,
            worker=self.name,
            instruments=wanted.instruments,
            silence_s_max=self._settings.feed_silence_s_max,
            venue_wide=first_of_venue,
        )
        subjects = {self._subjects[instrument]: instrument for instrument in wanted.instruments}
        line = Line(spec, subjects, self._around)
        self.lines[wanted.slot] = line
        self._tasks.create_task(self._run_line(line))

    async def _run_line(self, line: Line) -> None:
        try:
            await line.run()
        finally:
            del self.lines[line.spec.slot]
        if line.too_many and len(line.instruments) > 1:
            self._per_feed_max = max(1, min(self._per_feed_max, len(line.instruments)) // 2)
            log.get().warning("feed.smaller", venue=self._venue.name, per_feed_max=self._per_feed_max)
        if line.retiring_since_s is None and not self._stopping.is_set():
            self._plan_at_s = self._clock.monotonic_s()

    # --- succession

    def _end_covered(self) -> None:
        now_s = self._clock.monotonic_s()
        for line in list(self.lines.values()):
            since_s = line.retiring_since_s
            if since_s is None:
                continue
            if line.epoch < 0 or not line.needed or self._roster.is_covered(line.needed, line.epoch):
                line.stop("another feed took over")
            elif now_s - since_s > line.overlap_s_max:
                line.stop(f"no other feed took over within {line.overlap_s_max:g} s")

    def _note_foreign(self, opened: Opened, epoch: int) -> None:
        """Note that somebody else opened what is our share: he was thawed, or the share is about to move."""
        theirs = set(opened.instruments)
        for slot, line in self.lines.items():
            if line.retiring_since_s is None and 0 <= line.epoch < epoch and not theirs.isdisjoint(line.instruments):
                due_s = self._clock.monotonic_s() + FOREIGN_S
                self._foreign[slot] = (due_s, epoch, opened.worker)

    def _answer_foreign(self) -> None:
        """Open again what is still ours although another worker's feed has the higher epoch."""
        now_s = self._clock.monotonic_s()
        for slot, (due_s, epoch, worker) in list(self._foreign.items()):
            if now_s < due_s:
                continue
            del self._foreign[slot]
            line = self.lines.get(slot)
            if line is None or line.feed is None or line.retiring_since_s is not None or line.epoch > epoch:
                continue
            log.get().warning("feed.taken", feed=line.spec.name, epoch=line.epoch, by=worker, foreign=epoch)
            line.feed.end(f"{worker} opened epoch {epoch} for the same instruments")

    def _renew(self) -> None:
        for line in list(self.lines.values()):
            if line.feed is None or not line.feed.renewal.is_set() or line.retiring_since_s is not None:
                continue
            line.feed.renewal.clear()
            if self._may_renew(line.spec.partition):
                slot = self._free_slot(line.spec.partition)
                line.retire(line.instruments, OWN_OVERLAP_S_MAX)
                self._open_line(Wanted(slot, line.spec.partition, line.spec.instruments, (line.spec.slot,)))

    def _may_renew(self, partition: int) -> bool:
        now_s = self._clock.monotonic_s()
        last_s, pause_s = self._renewed.get(partition, (float("-inf"), RENEW_PAUSE_S / 2))
        if now_s - last_s < pause_s:
            metrics.EVENTS.labels("ingest", "renewal_put_off").inc()
            return False
        follows = now_s - last_s < 4 * pause_s
        self._renewed[partition] = (now_s, min(RENEW_PAUSE_S_MAX, pause_s * 2) if follows else RENEW_PAUSE_S)
        return True

    def _free_slot(self, partition: int) -> int:
        slot = partition
        while slot in self.lines:
            slot += self._partitions
        return slot

    def _answer_resyncs(self) -> None:
        due = self._resyncs.due()
        if not due:
            return
        by_line: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for slot, line in self.lines.items():
            if line.retiring_since_s is None:
                for instrument in due.keys() & line.instruments:
                    by_line[slot][instrument] = due[instrument]
        for slot, requests in by_line.items():
            feed = self.lines[slot].feed
            if feed is not None:
                feed.resync(requests)

    def _say_refused(self, said: str) -> None:
        if said != self._said_refused:
            self._said_refused = said
            log.get().error("venue.refused", venue=self._venue.name, said=said, remedy=self._venue.remedy)

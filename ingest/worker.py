"""The feed worker of one venue: its share of the instruments, the lines that feed it, and their succession.

The partitions of `raw.instrument-<venue>` this worker is assigned are its share. New instruments come on a new feed; a
feed that moves to another worker, or to a feed of our own, runs on until its successor is ready.
"""

import asyncio

from core.domain.errors import Reject
from core.domain.partition import partition_of
from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.audit import Auditor
from ingest.degraded import Degraded
from ingest.feed import Feed, FeedSpec
from ingest.host import HostGate, host_of
from ingest.line import Line, Surroundings
from ingest.plan import Plan, Standing, Wanted, plan_feeds
from ingest.ports import Producer, Reader, Share, Table
from ingest.rest import RestClient
from ingest.resync import Resyncs
from ingest.roster import Roster
from ingest.settings import IngestSettings
from ingest.succession import OWN_OVERLAP_S_MAX, Succession
from ingest.venue import Venue
from ingest.venues import breaker_limits
from schemas.raw import Description

LOOK_S = 0.1
"""How often the worker looks at what is due."""
BOOKS_ASKING_MAX = 2
"""Requests for order books under way at a time."""


class Worker:
    """Runs lines; what decides is in `plan`, `succession`, `degraded`, `resync` and `feed`."""

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
        self._resyncs.allot(0.0, self._is_ours)
        self._degraded: Degraded | None = None
        self._auditor: Auditor | None = None
        self._rest: RestClient | None = None
        self._said_refused = ""
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        gate = HostGate(host_of(venue.url), clock, breaker_limits(settings), settings.feed_connecting_max)
        self._around = Surroundings(venue, producer, clock, settings, gate, self._say_refused)
        self._succession = Succession(
            name,
            self.lines,
            self._roster,
            clock=clock,
            settings=settings,
            quiet_s_max=venue.quiet_s_max,
            open_line=self._open_line,
            free_slot=self._free_slot,
        )

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    def health(self) -> dict[str, object]:
        """Return the facts of /health."""
        ready = sum(line.is_ready for line in self.lines.values())
        polled = self._degraded.instruments if self._degraded is not None else 0
        return {
            "ok": True,
            "venue": self._venue.name,
            "feeds": len(self.lines),
            "feeds_ready": ready,
            "degraded": polled > 0,
            "instruments_polled": polled,
            "host_paused": self._around.gate.is_open,
        }

    async def run(self) -> None:
        """Feed until `stop`."""
        async with self._new_rest() as rest, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._begin_books(rest, tasks)
            followers = [
                tasks.create_task(self._follow_shares()),
                tasks.create_task(self._follow_feeds()),
                tasks.create_task(self._follow_resyncs()),
                tasks.create_task(self._look_around()),
            ]
            if self._auditor is not None:
                followers.append(tasks.create_task(self._auditor.run()))
            await self._stopping.wait()
            followers[0].cancel()
            await self._table.close()
            await self._hand_over()
            for follower in followers:
                follower.cancel()
            if self._degraded is not None:
                self._degraded.stop()
            for line in list(self.lines.values()):
                line.stop("the worker stops")

    def _new_rest(self) -> RestClient:
        settings, venue = self._settings, self._venue
        gate = HostGate(host_of(venue.rest_url), self._clock, breaker_limits(settings), BOOKS_ASKING_MAX)
        return RestClient(
            venue.rest_url,
            self._clock,
            gate,
            request_s_max=settings.books_request_s_max,
            per_s=settings.books_requests_per_s,
        )

    def _begin_books(self, rest: RestClient, tasks: asyncio.TaskGroup) -> None:
        self._rest = rest
        self._auditor = Auditor(self._carrier, self._streamed, self._venue.books, rest, self._clock)
        self._degraded = Degraded(
            self.lines,
            self._roster,
            books=self._venue.books,
            rest=rest,
            producer=self._around.producer,
            clock=self._clock,
            settings=self._settings,
            tasks=tasks,
            free_slot=self._free_slot,
        )

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
                self._succession.note(item)

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
            self._succession.look()
            self._answer_resyncs()
            if self._degraded is not None and not self._stopping.is_set():
                self._degraded.look()
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
            self._allot(len(share.partitions) / self._partitions)
            log.get().info("share.taken", partitions=sorted(share.partitions), instruments=len(self._subjects))
        if changed:
            pause_s = 0.0 if moved else self._settings.feed_settle_s
            due_s = self._clock.monotonic_s() + pause_s
            self._plan_at_s = due_s if self._plan_at_s is None else min(self._plan_at_s, due_s)

    def _allot(self, part: float) -> None:
        """Take our part of what the venue is asked in all: as large as our part of its instruments."""
        self._resyncs.allot(part, self._is_ours)
        per_s = self._settings.books_requests_per_s * max(part, 1 / self._partitions)
        if self._rest is not None:
            self._rest.pace(per_s)
        if self._degraded is not None:
            self._degraded.per_s = per_s
        if self._auditor is not None:
            self._auditor.pace(self._settings.audit_requests_per_s * part)

    def _is_ours(self, instrument: str) -> bool:
        return partition_of(instrument, self._partitions) in self._share_partitions

    def _answer_resyncs(self) -> None:
        due = self._resyncs.due()
        if due:
            self._succession.resync(due)
            if self._auditor is not None:
                self._auditor.hurry(due)

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
            self.lines.keys() | (self._degraded.slots if self._degraded is not None else set()),
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

    def _open_line(self, wanted: Wanted, is_patch: bool = False) -> None:
        if self._tasks is None or self._stopping.is_set():
            return
        first_of_venue = (
            wanted.partition == 0
            and not is_patch
            and not any(line.spec.venue_wide and line.retiring_since_s is None for line in self.lines.values())
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
        line = Line(spec, subjects, self._around, is_patch=is_patch)
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

    def _free_slot(self, partition: int) -> int:
        taken = self.lines.keys() | (self._degraded.slots if self._degraded is not None else set())
        slot = partition
        while slot in taken:
            slot += self._partitions
        return slot

    def _carrier(self, instrument: str) -> tuple[Feed, str] | None:
        line = self._succession.carrier(instrument)
        subject = self._subjects.get(instrument)
        return None if line is None or line.feed is None or subject is None else (line.feed, subject)

    def _streamed(self) -> list[str]:
        return sorted({one for line in self.lines.values() if line.is_ready for one in line.instruments})

    def _say_refused(self, said: str) -> None:
        if said != self._said_refused:
            self._said_refused = said
            log.get().error("venue.refused", venue=self._venue.name, said=said, remedy=self._venue.remedy)

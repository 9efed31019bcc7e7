"""Which instruments are polled by REST, and for how long: those of lines that have had no socket for too long."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from core.runtime import log, metrics
from core.runtime.clock import Clock
from ingest.feed import FeedSpec
from ingest.line import WELL_S, Line
from ingest.polling import Polling
from ingest.ports import Producer
from ingest.rest import RestClient
from ingest.roster import Roster
from ingest.settings import IngestSettings
from ingest.venue import Books


class Degraded:
    """The degraded feeds of one worker, at most one beside each line."""

    def __init__(
        self,
        lines: dict[int, Line],
        roster: Roster,
        *,
        books: Books,
        rest: RestClient,
        producer: Producer,
        clock: Clock,
        settings: IngestSettings,
        tasks: asyncio.TaskGroup,
        free_slot: Callable[[int], int],
    ) -> None:
        """Take `lines` by slot, which others change, and `tasks`, in which polls run."""
        self._lines = lines
        self._roster = roster
        self._books = books
        self._rest = rest
        self._producer = producer
        self._clock = clock
        self._settings = settings
        self._tasks = tasks
        self._free_slot = free_slot
        self._polls: dict[int, Polling] = {}
        self.per_s = settings.books_requests_per_s

    @property
    def slots(self) -> set[int]:
        """Slots that polls have."""
        return {poll.spec.slot for poll in self._polls.values()}

    @property
    def instruments(self) -> int:
        """Return how many instruments are polled."""
        return sum(len(poll.spec.instruments) for poll in self._polls.values())

    def look(self) -> None:
        """End polls that are not needed any more, begin those that are."""
        after_s = self._settings.feed_degraded_after_s
        for slot, poll in list(self._polls.items()):
            reason = self._reason_to_end(self._lines.get(slot), poll)
            if reason:
                poll.stop(reason)
        if after_s and self._producer.ack_age_s() <= WELL_S:
            for slot, line in self._lines.items():
                if slot not in self._polls and line.retiring_since_s is None and line.down_s > after_s:
                    self._begin(slot, line)
        metrics.LEVELS.labels("ingest", "feeds_degraded").set(len(self._polls))
        metrics.LEVELS.labels("ingest", "instruments_polled").set(self.instruments)

    def stop(self) -> None:
        """End all."""
        for poll in self._polls.values():
            poll.stop("the worker stops")

    def _reason_to_end(self, line: Line | None, poll: Polling) -> str:
        if line is None or line.retiring_since_s is not None:
            return "nobody wants its instruments from here any more"
        if poll.epoch >= 0 and self._roster.is_covered(poll.spec.instruments, poll.epoch):
            return "a socket feed took over"
        if line.is_ready and line.epoch < poll.epoch:
            # They were opened side by side. Its books do not come anew by themselves: those the poll took are asked
            # for again when this one ends.
            return f"the socket feed of epoch {line.epoch} is there"
        if line.feed is None and line.last_epoch > poll.epoch >= 0:
            return f"the socket feed of epoch {line.last_epoch} may have taken books over before it ended"
        if poll.epoch < 0 and line.feed is not None:
            return "there is a socket again"
        return ""

    def _begin(self, slot: int, line: Line) -> None:
        room = self._settings.feed_degraded_instruments_max - self.instruments
        some = line.spec.instruments[: max(0, room)]
        if not some:
            return
        place = self._free_slot(line.spec.partition)
        spec: FeedSpec = replace(line.spec, slot=place, instruments=some, venue_wide=False, degraded=True)
        wanted = set(some)
        subjects = {subject: one for subject, one in line.subjects.items() if one in wanted}
        poll = Polling(
            spec,
            subjects,
            books=self._books,
            rest=self._rest,
            producer=self._producer,
            clock=self._clock,
            per_s=self.per_s,
        )
        self._polls[slot] = poll
        left = len(line.spec.instruments) - len(some)
        log.get().error("venue.polled", feed=line.spec.name, down_s=round(line.down_s, 1), polled=len(some), left=left)
        self._tasks.create_task(self._run(slot, poll))

    async def _run(self, slot: int, poll: Polling) -> None:
        try:
            await poll.run()
        finally:
            del self._polls[slot]

"""Which line follows which: covered lines end, foreign epochs are answered, and what is suspect, quiet or old is renewed.

A successor is ready before its predecessor ends, so each instrument has a current epoch all the while.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from core.runtime import log, metrics
from core.runtime.clock import Clock
from core.runtime.flow import Input
from ingest.conversation import Renew
from ingest.line import Line
from ingest.plan import Wanted
from ingest.renewal import Renewals
from ingest.roster import Roster
from ingest.settings import IngestSettings
from schemas.raw import Opened

OWN_OVERLAP_S_MAX = 60.0
"""How long a feed waits for a successor of this same worker."""
FOREIGN_S = 1.0
"""How long a foreign feed with our instruments is looked at before we open again: our share may be about to move."""
PATCH_PART_MAX = 4
"""A fourth of a feed's books, or fewer, come on a small feed; more are worth a whole one."""

OpenLine = Callable[[Wanted, bool], None]
"""Opens a line; the flag says that it is a patch."""


class Succession:
    """Looks after the lines of one worker. Decides by what stands on `raw.feed`, never by what was meant to happen."""

    def __init__(
        self,
        name: str,
        lines: dict[int, Line],
        roster: Roster,
        *,
        clock: Clock,
        settings: IngestSettings,
        quiet_s_max: float,
        open_line: OpenLine,
        free_slot: Callable[[int], int],
    ) -> None:
        """Take the worker's `name` and its `lines` by slot, which others change."""
        self._name = name
        self._lines = lines
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._quiet_s_max = quiet_s_max
        self._open_line = open_line
        self._free_slot = free_slot
        self._renewals = Renewals(clock)
        self._foreign: dict[int, tuple[float, int, str]] = {}
        self._age_limits_s: dict[int, float] = {}

    def note(self, item: Input) -> None:
        """Take one record of `raw.feed`."""
        opened = self._roster.take(item)
        if opened is not None and opened.worker != self._name:
            self._note_foreign(opened, item.offset)

    def look(self) -> None:
        """Do what is due."""
        self._end_covered()
        self._answer_foreign()
        self._schedule()
        self._renew()

    def resync(self, due: Mapping[str, int]) -> None:
        """Hand requests to the feeds that answer them: of several with one instrument, the newest."""
        by_slot: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for instrument, slot in self._carriers(due).items():
            by_slot[slot][instrument] = due[instrument]
        for slot, requests in by_slot.items():
            feed = self._lines[slot].feed
            if feed is not None:
                feed.resync(requests)

    def carrier(self, instrument: str) -> Line | None:
        """Return the line whose ready feed has the newest epoch of an instrument."""
        ready = [line for line in self._lines.values() if line.is_ready and instrument in line.instruments]
        return max(ready, key=lambda line: line.epoch, default=None)

    def _carriers(self, instruments: Iterable[str]) -> dict[str, int]:
        carriers: dict[str, int] = {}
        newest: dict[str, float] = {}
        wanted = set(instruments)
        for slot, line in self._lines.items():
            if line.retiring_since_s is not None:
                continue
            # A line between two feeds, or before its first, brings new snapshots anyway.
            epoch = line.epoch if line.epoch >= 0 else float("inf")
            for instrument in wanted & line.instruments:
                if epoch >= newest.get(instrument, -1.0):
                    carriers[instrument], newest[instrument] = slot, epoch
        return carriers

    def _end_covered(self) -> None:
        now_s = self._clock.monotonic_s()
        for line in list(self._lines.values()):
            since_s = line.retiring_since_s
            if since_s is None:
                if line.is_patch and line.epoch >= 0 and self._roster.is_covered(line.instruments, line.epoch):
                    line.stop("a newer feed has its instruments")
            elif line.epoch < 0 or not line.needed or self._roster.is_covered(line.needed, line.epoch):
                line.stop("another feed took over")
            elif now_s - since_s > line.overlap_s_max:
                line.stop(f"no other feed took over within {line.overlap_s_max:g} s")

    def _note_foreign(self, opened: Opened, epoch: int) -> None:
        """Note that somebody else opened what is our share: he was thawed, or the share is about to move."""
        theirs = set(opened.instruments)
        for slot, line in self._lines.items():
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
            line = self._lines.get(slot)
            if line is None or line.feed is None or line.retiring_since_s is not None or line.epoch > epoch:
                continue
            log.get().warning("feed.taken", feed=line.spec.name, epoch=line.epoch, by=worker, foreign=epoch)
            line.feed.end(f"{worker} opened epoch {epoch} for the same instruments")

    def _schedule(self) -> None:
        """Let feeds that went quiet or grew old have a successor, one after the other."""
        age_s_max = self._settings.feed_age_s_max
        for line in self._lines.values():
            feed = line.feed
            if feed is None or line.retiring_since_s is not None or feed.renewal is not None:
                continue
            if not feed.is_ready and feed.age_s < OWN_OVERLAP_S_MAX:
                continue
            if self._quiet_s_max and feed.quiet_s > self._quiet_s_max:
                reason = f"nothing but pongs for {feed.quiet_s:.0f} s"
            elif age_s_max and feed.age_s > self._age_limit_s(line, age_s_max):
                reason = f"it is {feed.age_s:.0f} s old"
            else:
                continue
            if self._renewals.may_scheduled(f"slot {line.spec.partition}"):
                metrics.EVENTS.labels("ingest", "renewal_scheduled").inc()
                self._replace(line, reason)
                return

    def _age_limit_s(self, line: Line, age_s_max: float) -> float:
        limit_s = self._age_limits_s.get(line.epoch)
        if limit_s is None:
            standing = {one.epoch for one in self._lines.values()}
            self._age_limits_s = {e: limit for e, limit in self._age_limits_s.items() if e in standing}
            limit_s = self._age_limits_s[line.epoch] = self._renewals.age_limit_s(age_s_max)
        return limit_s

    def _renew(self) -> None:
        for line in list(self._lines.values()):
            feed = line.feed
            if feed is None or feed.renewal is None or line.retiring_since_s is not None:
                continue
            renew, feed.renewal = feed.renewal, None
            wanted = [one for one in renew.instruments if one in line.instruments]
            if wanted and self._may_patch(line, len(wanted)):
                self._patch(line, wanted, renew)
                continue
            # A patch has the pauses of its instruments, so that one bad book does not hold up the others.
            keys = wanted if line.is_patch else [f"partition {line.spec.partition}"]
            if [key for key in keys if self._renewals.may(key)]:
                self._replace(line, renew.reason)

    def _may_patch(self, line: Line, count: int) -> bool:
        beside = sum(
            other.is_patch and other.retiring_since_s is None and not line.instruments.isdisjoint(other.instruments)
            for other in self._lines.values()
        )
        room = len(self._lines) < self._settings.feed_connections_max
        few = count * PATCH_PART_MAX <= len(line.instruments)
        return room and few and not line.is_patch and beside < self._settings.feed_patches_max

    def _patch(self, line: Line, wanted: list[str], renew: Renew) -> None:
        some = tuple(one for one in wanted if self._renewals.may(one))
        if some:
            log.get().warning("feed.patched", feed=line.spec.name, epoch=line.epoch, reason=renew.reason)
            metrics.EVENTS.labels("ingest", "feed_patched").inc()
            slot = self._free_slot(line.spec.partition)
            self._open_line(Wanted(slot, line.spec.partition, some), True)

    def _replace(self, line: Line, reason: str) -> None:
        log.get().warning("feed.renewed", feed=line.spec.name, epoch=line.epoch, reason=reason)
        slot = self._free_slot(line.spec.partition)
        line.retire(line.instruments, OWN_OVERLAP_S_MAX)
        self._open_line(Wanted(slot, line.spec.partition, line.spec.instruments, (line.spec.slot,)), line.is_patch)

"""What is known of each injected fault, as it becomes known: the writer of `faults.jsonl`."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulate.faults import Wanted
from simulate.truth import Mark, TruthLog

if TYPE_CHECKING:
    from simulate.sockets import Connection


@dataclass(eq=False)
class Injected:
    """One fault that was begun."""

    number: int
    wanted: Wanted
    connection: int | None
    market: str | None
    until_ns: int
    frames: int = 0
    ended: bool = False
    missed: set[tuple[str, int, str]] = field(default_factory=set)
    """(venue, connection, market): a client there misses something and was not contradicted yet."""

    def mark(self, did: str) -> Mark:
        """Return the mark of a frame it has to do with."""
        self.frames += 1
        return (self.number, did)


class Journal:
    """All faults of a run."""

    def __init__(self, truth: TruthLog) -> None:
        self._truth = truth
        self.all: list[Injected] = []
        self.counts: dict[str, int] = {}
        self.unexplained = 0
        self._contradicted: set[tuple[int, str, int, str]] = set()

    def begin(self, wanted: Wanted, *, connection: int | None, market: str | None, detail: dict[str, Any]) -> Injected:
        """Note a fault that begins now."""
        until_ns = time.time_ns() + int(wanted.seconds * 1e9) if wanted.seconds else 0
        injected = Injected(len(self.all) + 1, wanted, connection, market, until_ns)
        self.all.append(injected)
        self.counts[wanted.fault] = self.counts.get(wanted.fault, 0) + 1
        self._note(
            injected,
            "begin",
            fault=wanted.fault,
            venue=wanted.venue,
            connection=connection,
            market=market,
            detail={**wanted.parameters, **detail},
            until_ns=until_ns,
        )
        return injected

    def end(self, injected: Injected) -> None:
        """Note that a fault does nothing more."""
        if not injected.ended:
            injected.ended = True
            self._note(injected, "end", frames=injected.frames)

    def strike(self, injected: Injected, connection: "Connection") -> None:
        """Note whom a fault struck that waited for somebody."""
        injected.connection = connection.number
        injected.frames += 1
        self._note(injected, "strikes", connection=connection.number)

    def skip(self, wanted: Wanted, why: str) -> None:
        """Note a scripted fault that found nothing to act on."""
        self._truth.note("faults", id=0, event="skipped", fault=wanted.fault, venue=wanted.venue, why=why)

    def missing(self, injected: Injected, connection: "Connection", market: str) -> None:
        """Note that a client now lacks something of a market, or has it in the wrong order."""
        injected.missed.add((connection.venue, connection.number, market))

    def reveal(self, injected: Injected, connection: "Connection", ordinal: int, market: str, by: str) -> None:
        """Note the first frame that contradicts a client."""
        self._note(injected, "reveals", connection=connection.number, ordinal=ordinal, market=market, by=by)

    def contradicted(self, connection: "Connection", ordinal: int, market: str, by: str, mark: Mark | None) -> None:
        """Find the fault behind a contradiction; a numbered connection (`by` seq) is contradicted as a whole."""
        by_number = by == "seq"
        place = (connection.venue, connection.number)
        behind = {
            injected: misses
            for injected in self.all
            if (misses := {miss for miss in injected.missed if miss[:2] == place and (by_number or miss[2] == market)})
        }
        known = {fact[0] for fact in self._contradicted if fact[1:3] == place and (by_number or fact[3] == market)}
        if (
            mark is not None
            and mark[0] not in known
            and (by == "timestamp" or not (behind or (known and not by_number)))
        ):
            # What the fault sent is itself what contradicts.
            behind.setdefault(self.all[mark[0] - 1], set())
        for injected, misses in behind.items():
            injected.missed -= misses
            self._contradicted.add((injected.number, *place, market))
            self.reveal(injected, connection, ordinal, market, by)
        if not behind and not known:
            # The venue itself sent what no fault explains: a bug of the simulator.
            self.unexplained += 1
            self._truth.note(
                "faults", id=0, event="unexplained", venue=place[0], connection=place[1], ordinal=ordinal, by=by
            )

    def healed(self, connection: "Connection", ordinal: int, market: str, by: str, mark: Mark | None) -> None:
        """Note that a client's book of a market is right again without his doing."""
        place = (connection.venue, connection.number, market)
        for injected in self.all:
            if (injected.number, *place) in self._contradicted or place in injected.missed:
                self._contradicted.discard((injected.number, *place))
                injected.missed.discard(place)
                self._note(injected, "healed", connection=place[1], ordinal=ordinal, market=market, by=by)

    def stats(self) -> dict[str, Any]:
        """Return counts for the control port."""
        return {
            "injected": dict(self.counts),
            "active": [injected.number for injected in self.all if not injected.ended],
            "frames": sum(injected.frames for injected in self.all),
            "unexplained": self.unexplained,
        }

    def _note(self, injected: Injected, event: str, **fact: Any) -> None:
        self._truth.note("faults", id=injected.number, event=event, **fact)

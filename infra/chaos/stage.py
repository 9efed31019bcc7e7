"""Chaos from the first server to the verdict."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from core.domain.errors import CrossbookError, Unavailable
from core.runtime import topics
from infra.chaos import conservation, matching, plan, recovery, report
from infra.chaos.blind import blind_spans
from infra.chaos.hands import Done, Hands
from infra.chaos.options import ChaosOptions
from infra.chaos.plan import Act
from infra.chaos.replicas import Replicas
from infra.chaos.trust import Trust
from infra.chaos.truth import Truth, Venue
from infra.chaos.watch import Watch
from infra.cli.reach import Reach
from infra.demo import cast, desk
from infra.demo.play import Interrupted, Play, interruptible, quiet
from infra.demo.scan import Found
from infra.demo.verdict import Seen, Window, gather, judge
from infra.demo.view import View
from infra.stack.processes import Processes, last_words
from infra.stack.settings import PROJECT, StackSettings
from infra.stack.stack import Stack
from infra.stack.temporary import free_ports
from schemas.control import Run
from schemas.order import OrderUpdate
from schemas.raw import Closed
from schemas.record import Record
from venues import VENUES

FOLDER = PROJECT / "build" / "chaos"
TURN_S = 0.05
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def own_stack(brokers: int) -> StackSettings:
    """Return settings of a stack of chaos's own, on free ports: killing its servers disturbs nobody else."""
    names = [name for name in StackSettings.model_fields if name.endswith("_port")]
    chosen = dict(zip(names, free_ports(len(names)), strict=True))
    return StackSettings(data=FOLDER / "stack", brokers=brokers, **chosen)  # type: ignore[arg-type] # only ports vary


class _Witness:
    """Sees every record of the pass."""

    def __init__(self) -> None:
        self.truth = Truth()
        self.trust = Trust()
        self.closed_ns: dict[int, int] = {}
        self.updates: list[OrderUpdate] = []
        self.statuses: Counter[str] = Counter()

    def add(self, found: Found) -> None:
        """Take in one record of a sunk topic."""
        record = found.record
        self.trust.add(found)
        if found.noun == topics.DERIVED_BOOK.noun:
            self.truth.add(record, found.partition, found.offset)
        elif found.noun == topics.ORDER_EVENT.noun and isinstance(record, OrderUpdate):
            self.updates.append(record)
            self.statuses[record.status] += 1
        elif isinstance(record, Closed) and found.noun == topics.RAW_FEED.noun:
            self.closed_ns[record.epoch] = record.recv_ts_ns

    def add_event(self, record: Record) -> None:
        """Take in one market event as the pure normaliser makes it of the raw frames."""
        self.truth.add_event(record)


class Chaos(Play):
    """One run of it."""

    def __init__(self, reach: Reach, options: ChaosOptions, console: Console, *, own: bool) -> None:
        """Prepare; `own`: the stack is wiped before and stopped afterwards."""
        super().__init__(reach, options, console, cast.parts(options.counts))
        self._chaos = options
        self._own = own
        self._plan = plan.draw_all(options.seeds, options.seconds, reach.stack.broker_names, options.pace)
        self._seconds = options.seconds * len(options.seeds)
        self._watch = Watch(reach, cast.worker_dir(reach))
        self._hands = Hands(self._processes, Processes(reach.stack.data), self._world)
        self._problems: list[str] = []
        self._stopped_ns = 0
        self._heavy_s = float("-inf")
        self._replicas = Replicas(reach.stack)

    def run(self) -> int:
        """Run all of it; return 0 when both oracles are content.

        Raises:
            CrossbookError: something does not start; its message names the remedy.
        """
        stack = Stack(self._reach.stack)
        if self._own:
            stack.reset()
        stack.claim()
        with interruptible(), quiet(self._reach.stack.logs / f"{self._reach.run}.chaos.log"):
            try:
                with View(self._reach, self._console) as view:
                    run = self._start(view)
                    self._watch.start()
                    window = self._perform(view)
                    self._recover(view)
                    watched_s = time.time()
                    self._end(view)
                    view.say("judging: what was shown against the venues' books, what was sent against QuestDB")
                    story = self._story(run, window, watched_s)
            except Interrupted:
                self._console.print("stopped; nothing was judged")
                return EXIT_INTERRUPTED
            finally:
                self._hands.close()
                self._watch.stop()
                self._tap.stop()
                self._processes.stop_all()
                if self._own:
                    stack.down()
        self._tell(story)
        return 0 if story.is_good else EXIT_FAILED

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "CROSSBOOK_HASH_SAMPLE": str(self._chaos.hash_every)}

    # While it runs

    def _perform(self, view: View) -> Window:
        options = self._options
        warm = time.monotonic() + options.warmup_s
        while time.monotonic() < warm:
            self._look(view, f"warming up, {max(warm - time.monotonic(), 0):.0f} s")
            time.sleep(TURN_S)
        counts = Counter(act.kind for act in self._plan)
        view.say(
            f"{plan.named(self._chaos.seeds)}: {counts['fault']} faults, {counts['kill']} kills, "
            f"{counts['freeze']} freezes in {self._seconds:.0f} s"
        )
        begin_ns = self._clock.now_ns()
        began = turn = time.monotonic()
        waiting = list(self._plan)
        while True:
            before, turn = turn, time.monotonic()
            is_due = bool(waiting) and waiting[0].at_s <= turn - began
            if is_due and self._is_held(waiting[0], turn):
                began += turn - before  # the plan's time stands still
            elif is_due and plan.is_heavy(waiting[0]) and not self._replicas.are_whole():
                act = waiting.pop(0)
                self._problems.append(f"{act.label} ({act.target}) was left out: not all replicas were in sync again")
            elif is_due:
                self._begin(view, waiting.pop(0), turn - began)
                self._heavy_s = turn if plan.is_heavy(self._hands.done[-1].act) else self._heavy_s
            if turn - began >= self._seconds:
                break
            self._look(view, self._phase(turn - began))
            time.sleep(TURN_S)
        self._hands.wait()
        return Window(begin_ns, self._clock.now_ns())

    def _begin(self, view: View, act: Act, now_s: float) -> None:
        self._hands.begin(act)
        where = f" {act.target}" if act.kind == "fault" else ""
        lasts = f" for {act.seconds:g} s" if act.seconds else ""
        view.say(f"{now_s:6.1f} s  {act.label}{where if act.kind == 'fault' else ' (' + act.target + ')'}{lasts}")

    def _is_held(self, act: Act, now_s: float) -> bool:
        """Say whether what everything feels is still felt: a fault that finds no connection would do nothing.

        Of several brokers one is struck at a time, as the promise says: not before all partitions have all replicas.
        """
        if now_s - self._heavy_s >= self._chaos.recover_s:
            return False
        look = self._watch.looks[-1] if self._watch.looks else None
        return (look is not None and look.usable < look.known) or (
            plan.is_heavy(act) and not self._replicas.are_whole()
        )

    def _phase(self, now_s: float) -> str:
        counts = Counter(one.act.kind for one in self._hands.done)
        looks = self._watch.looks
        usable = f", books usable {looks[-1].usable} of {looks[-1].known}" if looks else ""
        return (
            f"chaos {now_s:.0f} of {self._seconds:.0f} s, {counts['fault']} faults, {counts['kill']} kills, "
            f"{counts['freeze']} freezes{usable}"
        )

    def _count(self, now_s: float) -> None:
        # Brokers die here: nothing may wait for one. What the watch saw is shown.
        self._counted_s = now_s
        if self._watch.looks:
            look = self._watch.looks[-1]
            self._picture.lag = {name: int(count) for name, count in look.lag.items()}
            self._picture.lag_s = dict(look.lag_s)

    def _recover(self, view: View) -> None:
        """Wait until every book is usable and every worker answers."""
        self._revive()
        deadline = time.monotonic() + self._chaos.recover_s
        wanted = self._options.markets * len(VENUES)
        while True:
            self._look(view, "recovering")
            look = self._watch.looks[-1] if self._watch.looks else None
            silent = self._silent()
            if look is not None and look.usable >= wanted and not silent:
                return
            if time.monotonic() > deadline:
                usable = look.usable if look else 0
                books = self._watch.books
                dark = sorted(name for name, state in books.state.items() if state != "LIVE")
                self._problems.append(
                    f"{usable} of {wanted} books are usable {self._chaos.recover_s:.0f} s after the last act "
                    f"({', '.join(f'{name} {books.state[name]}' for name in dark[:5])}); not answering: {silent}"
                )
                return
            time.sleep(TURN_S)

    def _revive(self) -> None:
        """Start what the supervisor has given up, so that the rest can be judged; that it had to be is a failure."""
        for part in self._parts:
            if not self._processes.is_active(part.name):
                words = last_words(self._processes.log(part.name))
                self._problems.append(f"{part.name} was given up by its supervisor: {words}")
                self._processes.start(part.name)

    def _silent(self) -> list[str]:
        """Return the workers of which fewer answer than there should be."""
        if not self._watch.looks:
            return []
        answering = self._watch.looks[-1].answering
        return [part.name for part in self._parts if len(answering.get(part.name, ())) < part.n]

    def _end(self, view: View) -> None:
        self._stopped_ns = self._clock.now_ns()
        self._drain(view)

    def _wait_until(self, view: View, what: str, done: Callable[[], bool]) -> None:
        try:
            super()._wait_until(view, what, done)
        except Unavailable as e:
            # The rest is drained and judged all the same.
            self._problems.append(str(e))

    # Judging

    def _story(self, run: Run, window: Window, watched_s: float) -> report.Story:
        witness = _Witness()
        seen = gather(self._reach, window, witness)
        verdict = judge(self._reach, run, self._world, window, seen)
        verdict["unknown_outcomes"] = witness.statuses["OUTCOME_UNKNOWN"]
        venues, frames = self._venues(seen, witness)
        errors = conservation.errors(verdict, frames, seen.feeds.holes(), seen.feeds.repeated)
        if self._reach.stack.postgres:
            errors |= self._desk(run, verdict)
        spans = self._watch.books.spans(watched_s)
        counts = {part.name: part.n for part in self._parts}
        looks = [look for look in self._watch.looks if look.at_s <= watched_s]
        for done in self._hands.done:
            done.struck = _struck(done, venues, seen)
            done.felt_s = recovery.felt_s(done, spans, looks, counts) if not done.problem else None
        begin_s, end_s = window.begin_ns / 1e9, watched_s
        return report.Story(
            run=self._reach.run,
            seeds=self._chaos.seeds,
            brokers=len(self._reach.stack.broker_names),
            plan=self._plan,
            done=self._hands.done,
            begin_s=begin_s,
            end_s=end_s,
            looks=looks,
            recovery_s=recovery.by_class(self._hands.done),
            causes=self._watch.books.causes,
            usable_share=_usable_share(spans, begin_s, end_s),
            truth=witness.truth.compare(venues),
            trust=witness.trust.compare(),
            frames=frames,
            errors=errors,
            verdict=verdict,
            resumes_s=self._resumes(witness.updates, seen),
            problems=self._problems + [f"{one.act.label}: {one.problem}" for one in self._hands.done if one.problem],
            dead={noun: count for noun, count in verdict["topics"].items() if noun.startswith("dead.")},
            hash_every=self._chaos.hash_every,
        )

    def _desk(self, run: Run, verdict: dict[str, Any]) -> dict[str, int]:
        """Hold PostgreSQL against the venues' own books; return the errors by name."""
        try:
            found = desk.verdict(self._reach, run.incarnation, self._world)
        except CrossbookError as e:
            self._problems.append(str(e))
            return {"postgres_differs": 1}
        verdict["detail"]["desk"] = found["desk"]
        return {} if found["pnl_matches"] else {"postgres_differs": max(len(found["desk"]["differences"]), 1)}

    def _venues(self, seen: Seen, witness: _Witness) -> tuple[dict[str, Venue], dict[str, conservation.FrameCount]]:
        """Lay each venue's feeds beside what it sent."""
        faults = self._world.truth("faults.jsonl")
        lived = {epoch for epoch, ts_ns in witness.closed_ns.items() if ts_ns >= self._stopped_ns}
        venues, frames = {}, {}
        for name in VENUES:
            sent = matching.read_sent(self._world.truth(f"frames-{name}.jsonl"))
            feeds = {
                epoch: seen.feeds.digests.get(epoch, {}) for epoch, one in seen.opened.items() if one.venue == name
            }
            matches = matching.match(sent, feeds)
            blind = blind_spans(name, sent, faults, self._chaos.hash_every)
            venues[name] = Venue(name, sent, matches, self._world.truth(f"books-{name}.jsonl"), blind)
            frames[name] = conservation.count_frames(sent, matches, seen.opened, lived)
        return venues, frames

    def _resumes(self, updates: Sequence[OrderUpdate], seen: Seen) -> list[float]:
        """Return for each kill of a broker of several how long it was until trading went on.

        That is: until every book was usable again, and the first order that was granted after the kill was acknowledged
        by its venue.
        """
        if len(self._reach.stack.broker_names) == 1:
            return []
        granted = {order: grant.now_ns for order, grant in seen.ours.grants.items()}
        found = []
        for one in self._hands.done:
            if one.problem or one.act.kind != "kill" or plan.stage_of(one.act.target) != "kafka":
                continue
            answers = [
                update.ts_ns
                for update in updates
                if update.status in {"ACCEPTED", "FILLED", "CANCELLED"} and granted.get(update.order, 0) > one.ts_ns
            ]
            if answers:
                found.append(max((min(answers) - one.ts_ns) / 1e9, one.felt_s or 0.0))
            else:
                self._problems.append(f"no order granted after {one.act.target} was killed reached its venue")
        return found

    # Telling

    def _tell(self, story: report.Story) -> None:
        told = report.write(story, self._options.report, self._chaos.page)
        say = self._console.print
        say(
            f"\n{plan.named(story.seeds)}: {told['faults']} faults, {told['kills']} kills, {told['freezes']} freezes "
            f"in {told['seconds']} s; books usable {story.usable_share:.1%} of the time",
            highlight=False,
        )
        for label, found in story.recovery_s.items():
            times = f"p50 {found['p50']} s, p99 {found['p99']} s" if found["n"] else "not felt"
            say(f"  {label}: {times} ({found['n']} felt, {found['unnoticed']} not)", highlight=False)
        unknowable = f"{sum(story.truth.unknowable.values())} unknowable {dict(story.truth.unknowable) or ''}".rstrip()
        say(
            f"truth: {story.truth.checked:,} checked, {story.truth.differences} differences, {unknowable} "
            f"({story.unknowable_share:.3%} of at most {story.unknowable_share_max:.3%})\n"
            f"conservation: {sum(story.errors.values())} errors {dict(story.errors) or ''}\n"
            f"trust: {story.trust.orders} orders, {story.trust.errors} on a book that was not usable",
            highlight=False,
        )
        lost = [f"lost {row}" for row in told["detail"]["verdict"]["lost_rows"][:5]]
        lost += [line for count in story.frames.values() for line in count.examples[:5]]
        for line in (*story.problems, *story.truth.examples[:5], *story.trust.examples[:5], *lost):
            say(f"  {line}", highlight=False, soft_wrap=True)
        say(f"report {self._options.report}, page {self._chaos.page}", highlight=False, soft_wrap=True)


def _struck(done: Done, venues: Mapping[str, Venue], seen: Seen) -> frozenset[str] | None:
    """Return the instruments of the market or connection a fault struck, None where it struck more."""
    market, connection = done.answer.get("market"), done.answer.get("connection")
    if market is not None:
        return frozenset({f"{done.act.target}:{market}"})
    if connection is None:
        return None
    epochs = venues[done.act.target].epochs(connection)
    return frozenset(name for epoch in epochs for name in seen.opened[epoch].instruments) or None


def _usable_share(spans: Mapping[str, Sequence[tuple[float, float]]], begin_s: float, end_s: float) -> float:
    """Return which part of all books' time they were usable."""
    total = len(spans) * (end_s - begin_s)
    dark = sum(max(min(last, end_s) - max(first, begin_s), 0.0) for own in spans.values() for first, last in own)
    return 1 - dark / total if total > 0 else 0.0


def run_chaos(run: str, options: ChaosOptions, brokers: int, console: Console) -> int:
    """Run chaos and return the exit code.

    Args:
        brokers: of a stack of its own; 0: on the servers of `crossbook up`.

    Raises:
        CrossbookError: something does not start.
    """
    reach = Reach.load(run)
    if brokers:
        stack = own_stack(brokers)
        reach = replace(
            reach,
            bootstrap=stack.bootstrap,
            registry_url=stack.registry_url,
            questdb_http=stack.questdb_http,
            questdb_pg=stack.questdb_pg,
            postgres_url=stack.postgres_url,
            stack=stack,
        )
    folder = reach.stack.data / "simulate" / run
    return Chaos(reach, replace(options, folder=folder), console, own=bool(brokers)).run()

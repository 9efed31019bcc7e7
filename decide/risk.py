"""Who of an account set may trade: commands, limits and silence as one state machine, and the day's profit behind it.

    RUNNING -> REDUCING (hedges, unwinds and exits only) -> HALTED (nothing)

A set, and within it each strategy, venue and instrument, stands at the strictest of what its limit record says, what a
human commanded, and what was stopped by a limit, by silence or by reconciliation. What was stopped stays so until a
human resumes it (a new day does not), but for REDUCING by silence, which ends when all gateways are heard again, and by
a holding that was gone, which ends when its payout is stated. Pure: time is the log's, and silence is counted in steps
no longer than `SILENT_STEP_NS_MAX`, so that a log that was not written for a while is not taken for gateways that were
silent.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from core.runtime.clock import NS_PER_MS, NS_PER_S
from decide.marks import Marks
from decide.payouts import has_closed
from decide.positions import Book, Moved, Positions
from decide.worth import is_in_force, worth
from schemas.decision import Budget, Command, Limit, Link, Posting
from schemas.enums import Scope, TradingState
from schemas.market import Instrument

NS_PER_DAY = 86_400 * NS_PER_S
SILENT_STEP_NS_MAX = NS_PER_S
JUDGED_EVERY_NS = NS_PER_S
DIFFERS = "DIFFERS"
"""How the cause of what reconciliation stopped begins: resuming that, a human takes the venue's word."""
EACH = "*"
"""Name of a Budget for each that has none of its own."""

Place = tuple[Scope, str]
"""Scope and name; of the whole set ("SET", "")."""
WHOLE: Place = ("SET", "")
_STRICTNESS: Mapping[TradingState, int] = {"RUNNING": 0, "REDUCING": 1, "HALTED": 2, "UNKNOWN": 2}


class Stop(NamedTuple):
    """A state, and why it is not RUNNING."""

    state: TradingState
    cause: str


RUNNING = Stop("RUNNING", "")


def strictest(*stops: Stop) -> Stop:
    """Return the one that allows least, the first of equals."""
    return max(stops, key=lambda stop: _STRICTNESS[stop.state])


class Day(NamedTuple):
    """Profit of one strategy since the UTC day began, and how many of its holdings have no mark to be believed."""

    pnl_e6: int
    stale: int


_Profit = Callable[[Book, Mapping[str, Moved]], tuple[int, list[str]]]
"""Profit of a book as if something had not been moved, and its holdings without a mark to be believed."""


class Exit(NamedTuple):
    """Tries to sell a position of a size that did not change by them, and when it may be tried again."""

    size: int = 0
    tries: int = 0
    next_ns: int = 0


@dataclass
class Risk:
    """What one account set remembers for its limits.

    Attributes:
        commands: the last one of each place.
        stopped: by a limit, by silence for too long, by reconciliation.
        accepted: instruments, and accounts for their cash, whose lasting difference is healed whatever its size, as a
            human resumed them; until their reports agree.
        differing: accounts whose cash stopped the whole set.
        silent_ns: venue account -> for how long nothing was heard of its gateway.
        day: days since the epoch, of the last judgement.
        begun: profit of each strategy when the day began; 0 for one that had not traded.
        pending: strategies whose profit at the beginning of the day could not be told yet, for want of marks.
        entered: strategy -> instrument -> what a human moved of it, until it can be told what that is worth.
        exits: <strategy>|<account>|<instrument> -> how often its position was to be sold (`decide/exits.py`).
        due_ns: venue -> when its order rate would be used up no more (`budgets.Rate`).
        said: id of a Standing -> its figures as they were last written.
    """

    budgets: dict[Place, Budget] = field(default_factory=dict)
    commands: dict[Place, Command] = field(default_factory=dict)
    stopped: dict[Place, Stop] = field(default_factory=dict)
    accepted: dict[str, bool] = field(default_factory=dict)
    differing: dict[str, bool] = field(default_factory=dict)
    silent_ns: dict[str, int] = field(default_factory=dict)
    clock_ns: int = 0
    judged_ns: int = 0
    day: int = 0
    begun: dict[str, int] = field(default_factory=dict)
    pending: dict[str, bool] = field(default_factory=dict)
    entered: dict[str, dict[str, Moved]] = field(default_factory=dict)
    days: dict[str, Day] = field(default_factory=dict)
    due_ns: dict[str, int] = field(default_factory=dict)
    exits: dict[str, Exit] = field(default_factory=dict)
    said: dict[str, tuple[str, str, int, int, int, int, int, int, int]] = field(default_factory=dict)

    # What humans say

    def command(self, record: Command) -> None:
        """Take a command; RUNNING also ends what was stopped there, and accepts what the venue's reports say."""
        place = (record.scope, record.name)
        last = self.commands.get(place)
        if last is not None and last.ts_ns > record.ts_ns:
            return
        self.commands[place] = record
        if record.state == "RUNNING":
            stopped = self.stopped.pop(place, RUNNING)
            if stopped.cause.startswith(DIFFERS):
                self.accepted |= self.differing if place == WHOLE else {record.name: True}
            if place == WHOLE:
                self.differing.clear()
            if place == WHOLE:
                self.silent_ns = dict.fromkeys(self.silent_ns, 0)

    def agreed(self, account: str, instruments: Iterable[str]) -> None:
        """Note that an account is as its venue says: what was accepted of it is over, and no word for what comes."""
        self.differing.pop(account, None)
        for name in (account, *instruments):
            self.accepted.pop(name, None)

    def budget(self, record: Budget) -> None:
        """Take a budget."""
        self.budgets[record.scope, record.name] = record

    def stop(self, place: Place, state: TradingState, cause: str) -> None:
        """Stop a place until a human resumes it; never loosens."""
        self.stopped[place] = strictest(self.stopped.get(place, RUNNING), Stop(state, cause))

    def explained(self, place: Place, cause: str) -> None:
        """End what was stopped for a cause that turned out to be nothing."""
        if self.stopped.get(place, RUNNING).cause == cause:
            del self.stopped[place]

    # How it stands

    def standing(self, place: Place) -> Stop:
        """Return how a part of the set stands by itself."""
        command = self.commands.get(place)
        commanded = RUNNING
        if command is not None and command.state != "RUNNING":
            commanded = Stop(command.state, f"COMMAND of {command.set_by}: {command.reason}")
        return strictest(commanded, self.stopped.get(place, RUNNING))

    def whole(self, limit: Limit | None) -> Stop:
        """Return how the set as a whole stands; no limit record means HALTED."""
        if limit is None:
            return Stop("HALTED", "NO_LIMIT")
        by_limit = (
            RUNNING if limit.state == "RUNNING" else Stop(limit.state, f"LIMIT of {limit.set_by}: {limit.reason}")
        )
        return strictest(by_limit, self.standing(WHOLE), self._silence(limit))

    def stands(self, limit: Limit | None, places: Collection[Place]) -> Stop:
        """Return the strictest of the set and some of its parts."""
        return strictest(self.whole(limit), *(self.standing(place) for place in places))

    def places(self) -> list[Place]:
        """Return the parts that a human or a limit ever stopped, or that have a budget of their own."""
        found = {*self.commands, *self.stopped, *self.budgets}
        return sorted(place for place in found if place != WHOLE and place[1] != EACH)

    def flatten_slip_e4(self, strategy: str, account: str, instrument: str) -> int:
        """Return how far from the best price what a strategy holds is to be sold, -1 while no command asks for that."""
        places = {
            WHOLE,
            ("STRATEGY", strategy),
            ("VENUE", account.partition(":")[0]),
            ("INSTRUMENT", instrument),
        }
        commands = (command for place, command in self.commands.items() if place in places)
        return max((command.flatten_slip_e4 for command in commands if is_flattening(command)), default=-1)

    # Silence

    def heard(self, account: str) -> None:
        """Note that a gateway spoke."""
        self.silent_ns[account] = 0

    def tick(self, now_ns: int, accounts: Collection[str], limit: Limit | None) -> None:
        """Let time pass for all venue accounts; one that was never heard counts from when it was first known."""
        step_ns = min(max(now_ns - self.clock_ns, 0), SILENT_STEP_NS_MAX) if self.clock_ns else 0
        self.clock_ns = max(now_ns, self.clock_ns)
        for account in accounts:
            self.silent_ns[account] = self.silent_ns.get(account, 0) + step_ns
        if limit is not None and 0 <= limit.silence_halt_ms * NS_PER_MS <= self._silent_ns():
            self.stop(WHOLE, "HALTED", f"SILENCE of {self._most_silent()}")

    def _silence(self, limit: Limit) -> Stop:
        if 0 <= limit.silence_reduce_ms * NS_PER_MS <= self._silent_ns():
            return Stop("REDUCING", f"SILENCE of {self._most_silent()}")
        return RUNNING

    def _silent_ns(self) -> int:
        return max(self.silent_ns.values(), default=0)

    def _most_silent(self) -> str:
        return max(sorted(self.silent_ns), key=self.silent_ns.__getitem__, default="")

    # The day's profit

    def is_loss_limited(self, limit: Limit | None) -> bool:
        """Say whether any loss limit is set, so that holdings need marks."""
        by_set = limit is not None and (limit.day_loss_reduce_e6 >= 0 or limit.day_loss_halt_e6 >= 0)
        return by_set or any(budget.day_loss_max_e6 >= 0 for budget in self.budgets.values())

    def needs_marks_of(self, limit: Limit | None, strategy: str) -> bool:
        """Say whether a stale mark is in the way of new risk of a strategy."""
        if limit is not None and (limit.day_loss_reduce_e6 >= 0 or limit.day_loss_halt_e6 >= 0):
            return any(day.stale for day in self.days.values())
        budget = self._budget_of(strategy)
        is_limited = budget is not None and budget.day_loss_max_e6 >= 0
        return is_limited and strategy in self.days and self.days[strategy].stale > 0

    def judge(
        self,
        now_ns: int,
        limit: Limit | None,
        positions: Positions,
        marks: Marks,
        links: Mapping[str, Link],
        instruments: Mapping[str, Instrument],
    ) -> None:
        """Mark all positions, begin a day where one begins, and stop what lost too much."""
        self.judged_ns = now_ns
        in_force = [links[name] for name in sorted(links) if is_in_force(links[name], now_ns)]

        def profit(book: Book, without: Mapping[str, Moved]) -> tuple[int, list[str]]:
            return _profit(book, without, in_force, marks, instruments, now_ns)

        books = dict(sorted(positions.books.items()))
        if now_ns // NS_PER_DAY != self.day:
            self.day = now_ns // NS_PER_DAY
            self.begun = {}
            self.pending = dict.fromkeys(books, True)
        self.days = {strategy: self._judge_day(strategy, book, profit) for strategy, book in books.items()}
        self._stop_losers(limit)

    def _judge_day(self, strategy: str, book: Book, profit: _Profit) -> Day:
        """Return a strategy's day; what a human moved is no part of it, at the first mark that can be believed."""
        pnl_e6, stale = profit(book, {})
        entered = self.entered.pop(strategy, {})
        if strategy in self.pending:
            if stale:
                return Day(0, len(stale))
            self.begun[strategy] = pnl_e6
            del self.pending[strategy]
        elif entered:
            left = {name: moved for name, moved in entered.items() if name in stale}
            pnl_e6 = profit(book, left)[0]
            self.begun[strategy] = self.begun.get(strategy, 0) + pnl_e6 - profit(book, entered)[0]
            if left:
                self.entered[strategy] = left
        return Day(pnl_e6 - self.begun.get(strategy, 0), len(stale))

    def enter(self, instrument: str, moved: Mapping[str, Moved]) -> None:
        """Note what a human moved of an instrument, by strategy: that is no profit."""
        for strategy, one in moved.items():
            entered = self.entered.setdefault(strategy, {})
            before = entered.get(instrument, Moved(0, 0))
            entered[instrument] = Moved(before.size + one.size, before.flow_e6 + one.flow_e6)

    def _stop_losers(self, limit: Limit | None) -> None:
        loss_e6 = -self.day_pnl_e6()
        if limit is not None and _is_beyond(loss_e6, limit.day_loss_halt_e6):
            self.stop(WHOLE, "HALTED", f"DAY_LOSS {loss_e6}e-6")
        elif limit is not None and _is_beyond(loss_e6, limit.day_loss_reduce_e6):
            self.stop(WHOLE, "REDUCING", f"DAY_LOSS {loss_e6}e-6")
        for strategy, day in self.days.items():
            budget = self._budget_of(strategy)
            if budget is not None and _is_beyond(-day.pnl_e6, budget.day_loss_max_e6):
                self.stop(("STRATEGY", strategy), "HALTED", f"DAY_LOSS {-day.pnl_e6}e-6")

    def day_pnl_e6(self) -> int:
        """Return the whole set's profit of the day."""
        return sum(day.pnl_e6 for day in self.days.values())

    def _budget_of(self, strategy: str) -> Budget | None:
        return budget_of(self.budgets, "STRATEGY", [strategy])


def is_flattening(command: Command) -> bool:
    """Say whether a command asks for what is held to be sold."""
    return command.state == "REDUCING" and command.flatten_slip_e4 >= 0


def budget_of(budgets: Mapping[Place, Budget], scope: Scope, names: Sequence[str]) -> Budget | None:
    """Return the budget that holds for names that count as one: the first that one of them has of its own, else that of each."""
    own = (budgets.get((scope, name)) for name in names)
    return next((budget for budget in own if budget is not None), budgets.get((scope, EACH)))


def budget_before(budgets: Mapping[Place, Budget], place: Place, joined: Sequence[str] = ()) -> Budget | None:
    """Return the budget that a new one for a place is held against: its own, else the one in force for it until now.

    `joined` are the names of the events that count as one with the place's.
    """
    scope, name = place
    return budgets.get(place) or budget_of(budgets, scope, joined or [name])


def _is_beyond(loss_e6: int, max_e6: int) -> bool:
    """Say whether there is a loss that has reached its limit; with a limit of 0 any loss has."""
    return max_e6 >= 0 and loss_e6 > 0 and loss_e6 >= max_e6


def _profit(
    book: Book,
    without: Mapping[str, Moved],
    links: Sequence[Link],
    marks: Marks,
    instruments: Mapping[str, Instrument],
    now_ns: int,
) -> tuple[int, list[str]]:
    """Return what a strategy has made up to now, as if something had not been moved, and whose marks are stale.

    A market that closed is quoted no more: its holdings keep their last mark until it settles. That it is determined may
    be known long before its description is read again.
    """
    quantities, flow_e6 = book.quantities(), book.flow_e6
    for name, moved in without.items():
        quantities[name] = quantities.get(name, 0) - moved.size
        flow_e6 -= moved.flow_e6
    found = worth(quantities, links, marks, now_ns)
    open_still = (name for name in found.stale if marks.words.payout_e6(name) < 0)
    stale = [name for name in open_still if not has_closed(instruments.get(name), now_ns)]
    return flow_e6 - book.fees_e6 + found.value_e6, stale


def allows_more(before: Limit | Budget, after: Limit | Budget) -> list[str]:
    """Return the names of what a record would allow more of than the one before it."""
    return [
        name
        for name in before.__struct_fields__
        if _allowance(name, getattr(after, name)) > _allowance(name, getattr(before, name))
    ]


def _allowance(name: str, value: object) -> float:
    """Return how much a figure allows, so that two can be compared; text allows nothing."""
    if name == "state":
        return -_STRICTNESS[value]  # type: ignore[index]  # a TradingState by its name
    if name == "two_people":
        return 0 if value else 1
    if not isinstance(value, int):
        return 0
    is_unlimited = value < 0 or (name == "orders_burst" and value == 0)
    # Healing nothing is the strictest, so there -1 allows least.
    return inf if is_unlimited and name != "heal_max_e6" else value


def is_signed(record: Limit | Budget | Posting) -> bool:
    """Say whether two people stand behind a record."""
    first, second = record.set_by.strip(), record.approved_by.strip()
    return bool(first and second) and first != second
